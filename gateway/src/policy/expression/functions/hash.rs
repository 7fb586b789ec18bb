//! Checksums and digests.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crc::{CRC_32_ISO_HDLC, CRC_64_GO_ISO, Crc};
use md5::{Digest, Md5};
use ring::digest;
use xxhash_rust::xxh64::xxh64;

use super::super::evaluate::{Evaluation, Fault};
use super::super::value::Value;
use super::{Function, argument, text_argument};

pub(super) const TABLE: &[Function] = &[
    Function::global("hash.crc32", 1..=2, crc32),
    Function::method("crc32", 1..=2, crc32),
    Function::global("hash.crc64", 1..=2, crc64),
    Function::method("crc64", 1..=2, crc64),
    Function::global("hash.md5", 1..=2, md5),
    Function::method("md5", 1..=2, md5),
    Function::global("hash.sha1", 1..=2, sha1),
    Function::method("sha1", 1..=2, sha1),
    Function::global("hash.sha256", 1..=2, sha256),
    Function::method("sha256", 1..=2, sha256),
    Function::global("hash.sha512", 1..=2, sha512),
    Function::method("sha512", 1..=2, sha512),
    Function::global("hash.xxhash64", 1..=2, xxhash64),
    Function::method("xxhash64", 1..=2, xxhash64),
];

fn crc32(arguments: &[Value], evaluation: &mut Evaluation<'_, '_>) -> Result<Value, Fault> {
    hashed(arguments, evaluation, |text| CRC_32.checksum(text).to_be_bytes().to_vec())
}

fn crc64(arguments: &[Value], evaluation: &mut Evaluation<'_, '_>) -> Result<Value, Fault> {
    hashed(arguments, evaluation, |text| CRC_64.checksum(text).to_be_bytes().to_vec())
}

fn md5(arguments: &[Value], evaluation: &mut Evaluation<'_, '_>) -> Result<Value, Fault> {
    hashed(arguments, evaluation, |text| Md5::digest(text).to_vec())
}

fn sha1(arguments: &[Value], evaluation: &mut Evaluation<'_, '_>) -> Result<Value, Fault> {
    hashed(arguments, evaluation, |text| digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text).as_ref().to_vec())
}

fn sha256(arguments: &[Value], evaluation: &mut Evaluation<'_, '_>) -> Result<Value, Fault> {
    hashed(arguments, evaluation, |text| digest::digest(&digest::SHA256, text).as_ref().to_vec())
}

fn sha512(arguments: &[Value], evaluation: &mut Evaluation<'_, '_>) -> Result<Value, Fault> {
    hashed(arguments, evaluation, |text| digest::digest(&digest::SHA512, text).as_ref().to_vec())
}

fn xxhash64(arguments: &[Value], evaluation: &mut Evaluation<'_, '_>) -> Result<Value, Fault> {
    hashed(arguments, evaluation, |text| xxh64(text, 0).to_be_bytes().to_vec())
}

fn hashed(
    arguments: &[Value],
    evaluation: &mut Evaluation<'_, '_>,
    hash: fn(&[u8]) -> Vec<u8>,
) -> Result<Value, Fault> {
    // Once more than for having looked at it: a digest is many steps for each byte.
    evaluation.budget.spend(argument(arguments, 0).weight())?;
    let is_base64 = match arguments.get(1) {
        None => false,
        Some(Value::Text(format)) if **format == *"hex" => false,
        Some(Value::Text(format)) if **format == *"base64" => true,
        Some(_) => return Err(Fault::Invalid("the format of a digest is 'hex' or 'base64'".into())),
    };
    let bytes = hash(text_argument(arguments, 0)?.as_bytes());
    Ok(Value::text(&if is_base64 { STANDARD.encode(bytes) } else { hex(&bytes) }))
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

/// The polynomial of IEEE 802.3.
const CRC_32: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);
/// The polynomial of ISO 3309, as Go's `hash/crc64` has it.
const CRC_64: Crc<u64> = Crc::<u64>::new(&CRC_64_GO_ISO);
