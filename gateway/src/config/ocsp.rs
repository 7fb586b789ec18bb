//! What a certificate authority has said about a certificate (RFC 6960), to be shown with it: read from a file that
//! somebody keeps up to date, and looked at only as far as it decides whether to show it.

use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;

/// Until when a response may be shown with this certificate, in seconds since 1970. Its signature is for clients to check.
///
/// # Errors
///
/// Why it must not be shown at all, in words that continue the name of its file.
pub(super) fn shown_until(response: &[u8], certificate: &[u8]) -> Result<i64, String> {
    let (_, certificate) = X509Certificate::from_der(certificate).map_err(|error| error.to_string())?;
    let answers = answers(response)?;
    let answer = answers.iter().find(|answer| answer.serial == certificate.raw_serial());
    let answer = answer.ok_or("is about another certificate")?;
    if !answer.is_good {
        return Err("does not say that the certificate is good".to_owned());
    }
    answer.next_update.ok_or_else(|| "does not say until when it may be shown".to_owned())
}

/// What is said about one certificate.
struct Answer<'a> {
    serial: &'a [u8],
    is_good: bool,
    next_update: Option<i64>,
}

fn answers(response: &[u8]) -> Result<Vec<Answer<'_>>, String> {
    let malformed = "is no OCSP response in DER, as `openssl ocsp -respout` writes it";
    let response = parts_of(Some(response), SEQUENCE).ok_or(malformed)?;
    match response.first() {
        Some((ENUMERATED, [0])) => {}
        Some((ENUMERATED, _)) => return Err("says that the authority had no answer".to_owned()),
        _ => return Err(malformed.to_owned()),
    }
    basic(&response).ok_or_else(|| malformed.to_owned())
}

/// Goes down to the answers: `[0]` with a SEQUENCE of a type and an OCTET STRING, in which the signed data come first.
fn basic<'a>(response: &[Part<'a>]) -> Option<Vec<Answer<'a>>> {
    let bytes = parts_of(content(response, 1, EXPLICIT_0), SEQUENCE)?;
    let signed = parts_of(content(&bytes, 1, OCTET_STRING), SEQUENCE)?;
    let data = parts(content(&signed, 0, SEQUENCE)?)?;
    // A version and the responder come before, with tags of their own, and a time.
    let (_, list) = data.into_iter().find(|(tag, _)| *tag == SEQUENCE)?;
    parts(list)?.into_iter().map(|(_, single)| answer(single)).collect()
}

fn answer(single: &[u8]) -> Option<Answer<'_>> {
    let single = parts(single)?;
    let id = parts(content(&single, 0, SEQUENCE)?)?;
    let serial = content(&id, 3, INTEGER)?;
    let is_good = single.get(1)?.0 == GOOD;
    let next_update = single.iter().skip(3).find(|(tag, _)| *tag == EXPLICIT_0);
    let next_update = next_update.and_then(|(_, time)| Some(ASN1Time::from_der(time).ok()?.1.timestamp()));
    Some(Answer { serial, is_good, next_update })
}

/// A tag, and what it holds.
type Part<'a> = (u8, &'a [u8]);

fn content<'a>(parts: &[Part<'a>], index: usize, tag: u8) -> Option<&'a [u8]> {
    parts.get(index).filter(|(found, _)| *found == tag).map(|(_, content)| *content)
}

/// The parts of the one part in some bytes.
fn parts_of(bytes: Option<&[u8]>, tag: u8) -> Option<Vec<Part<'_>>> {
    parts(content(&parts(bytes?)?, 0, tag)?)
}

fn parts(mut bytes: &[u8]) -> Option<Vec<Part<'_>>> {
    let mut parts = Vec::new();
    while let Some((tag, rest)) = bytes.split_first() {
        let (length, rest) = rest.split_first()?;
        let (length, rest) = match *length {
            0..=0x7f => (usize::from(*length), rest),
            // So long no response is that fits into a message of a handshake.
            0x81..=0x83 => {
                let (octets, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
                (octets.iter().fold(0, |length, octet| (length << 8) | usize::from(*octet)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        parts.push((*tag, content));
        bytes = rest;
    }
    Some(parts)
}

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const ENUMERATED: u8 = 0x0a;
const SEQUENCE: u8 = 0x30;
/// `[0]` around something.
const EXPLICIT_0: u8 = 0xa0;
/// `[0]` in place of NULL.
const GOOD: u8 = 0x80;

#[cfg(test)]
mod tests {
    use super::*;

    fn part(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[tag, 0x82], &length[..], content].concat()
    }

    /// A response about a serial number.
    fn response(serial: &[u8], status: u8, next_update: &[u8]) -> Vec<u8> {
        let time = part(0x18, b"20261101000000Z");
        let id = [part(SEQUENCE, b""), part(4, b"name"), part(4, b"key"), part(INTEGER, serial)].concat();
        let single = [part(SEQUENCE, &id), part(status, b""), time.clone(), next_update.to_vec()].concat();
        let list = part(SEQUENCE, &part(SEQUENCE, &single));
        let data = part(SEQUENCE, &[part(0xa2, &part(4, b"responder")), time, list].concat());
        let basic = part(SEQUENCE, &[data, part(SEQUENCE, b""), part(3, b"\0signature")].concat());
        let bytes = part(SEQUENCE, &[part(6, b"type"), part(OCTET_STRING, &basic)].concat());
        part(SEQUENCE, &[part(ENUMERATED, &[0]), part(EXPLICIT_0, &bytes)].concat())
    }

    #[test]
    fn response_is_shown_until_its_next_update_and_only_if_it_is_good() {
        let made = rcgen::generate_simple_self_signed(vec!["a.example.com".to_owned()]).unwrap();
        let der = made.cert.der();
        let (_, parsed) = X509Certificate::from_der(der).unwrap();
        let serial = parsed.raw_serial();
        let until = part(EXPLICIT_0, &part(0x18, b"20261201000000Z"));
        let good = response(serial, GOOD, &until);
        assert_eq!(shown_until(&good, der), Ok(1_796_083_200));
        for (response, reason) in [
            (response(&[7], GOOD, &until), "another certificate"),
            (response(serial, 0xa1, &until), "not say that the certificate is good"),
            (response(serial, GOOD, b""), "until when"),
            (part(SEQUENCE, &part(ENUMERATED, &[6])), "no answer"),
            (b"-----BEGIN".to_vec(), "no OCSP response"),
        ] {
            let error = shown_until(&response, der).unwrap_err();
            assert!(error.contains(reason), "{reason}: {error}");
        }
        for len in 0..good.len() {
            assert!(shown_until(&good[..len], der).is_err());
        }
    }
}
