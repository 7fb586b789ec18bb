//! Certificate authorities: those compiled in, those of the system, those of a file.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::TlsError;

/// The public authorities that Mozilla trusts, compiled in: a router may have no bundle.
/// Nothing in a build without them.
pub(super) fn bundled() -> Option<RootCertStore> {
    #[cfg(feature = "bundled-roots")]
    return Some(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() });
    #[cfg(not(feature = "bundled-roots"))]
    None
}

/// The system's bundle: `ssl_cert_file` if given, else the first of the usual places that exists. Authorities in it
/// that cannot be used are left out, as other programs do.
pub(super) fn system(ssl_cert_file: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let usual = || SYSTEM_BUNDLES.iter().map(Path::new).find(|path| path.is_file());
    let path = ssl_cert_file.or_else(usual).ok_or(TlsError::NoSystemBundle)?;
    let certificates = read_certificates(path)?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates);
    if roots.is_empty() {
        return Err(TlsError::Empty(path.to_owned()));
    }
    Ok(roots)
}

/// Every certificate of a file that the operator named; one that cannot be used is an error.
pub(super) fn from_file(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for (index, certificate) in read_certificates(path)?.into_iter().enumerate() {
        roots
            .add(certificate)
            .map_err(|error| TlsError::Certificate(path.to_owned(), index.saturating_add(1), error.to_string()))?;
    }
    Ok(roots)
}

/// The certificates of a PEM file, at least one; other sections are passed over.
fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read_bounded(path).map_err(|error| TlsError::Read(path.to_owned(), error.to_string()))?;
    let mut certificates = Vec::new();
    for section in CertificateDer::pem_slice_iter(&pem) {
        let number = certificates.len().saturating_add(1);
        let certificate = section.map_err(|error| TlsError::Certificate(path.to_owned(), number, error.to_string()))?;
        certificates.push(certificate);
    }
    if certificates.is_empty() {
        return Err(TlsError::Empty(PathBuf::from(path)));
    }
    Ok(certificates)
}

pub(super) fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut pem = Vec::new();
    File::open(path)?.take(BUNDLE_BYTES_MAX.saturating_add(1)).read_to_end(&mut pem)?;
    if u64::try_from(pem.len()).unwrap_or(u64::MAX) > BUNDLE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is longer than {BUNDLE_BYTES_MAX} bytes")));
    }
    Ok(pem)
}

/// Where Debian, OpenWrt and Alpine, then Red Hat (new and old), then openSUSE, then Alpine and the BSDs have it.
pub(super) const SYSTEM_BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The bundles of distributions have 200 to 500 KiB.
const BUNDLE_BYTES_MAX: u64 = 4 * 1024 * 1024;
