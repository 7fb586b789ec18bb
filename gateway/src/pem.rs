//! Certificates and private keys as PEM text, and the files that they are in.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The certificates of a text, at least one.
///
/// # Errors
///
/// What is wrong with it, in words that continue its name.
pub(crate) fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let chain = chain.map_err(|error| format!("is not a PEM file: {error:?}"))?;
    if chain.is_empty() {
        return Err("has no certificate in it: it must be a PEM file, the server's own certificate first".into());
    }
    Ok(chain)
}

/// The private key of a text.
///
/// # Errors
///
/// What is wrong with it, in words that continue its name and show nothing of it.
pub(crate) fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    // The parser's own words are left out: they may quote the key.
    PrivateKeyDer::from_pem_slice(text)
        .map_err(|_| "has no private key that can be read: it must be a PEM file, without a passphrase".into())
}

/// Reads a file of at most [`FILE_LEN_MAX`] bytes.
///
/// # Errors
///
/// What is wrong with it, in words that continue its name.
pub(crate) fn read(file: &Path) -> Result<Vec<u8>, String> {
    let cannot = |error: io::Error| format!("cannot be read: {error}");
    let mut text = Vec::new();
    File::open(file).map_err(cannot)?.take(FILE_LEN_MAX + 1).read_to_end(&mut text).map_err(cannot)?;
    if text.len() as u64 > FILE_LEN_MAX {
        return Err(format!("is longer than {FILE_LEN_MAX} bytes"));
    }
    Ok(text)
}

/// A chain of ten certificates has some 20 KiB.
pub(crate) const FILE_LEN_MAX: u64 = 1 << 20;
