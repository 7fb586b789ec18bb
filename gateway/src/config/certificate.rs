//! Certificates with their keys: read, matched with each other, and asked for their names and their end.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use adit::config::reader::{Object, Reader};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;

use super::Base;

/// One certificate chain with its key, ready for use. A renewed file takes effect at the next reload.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// Where the chain came from.
    pub certificate_file: PathBuf,
    /// Where the key came from.
    pub private_key_file: PathBuf,
    /// The DNS names that it is for, in lower case; a leading `*.` stands for exactly one label. Addresses are not
    /// among them: clients that connect to an address send no name to choose by.
    pub names: Vec<String>,
    /// When it ends, in seconds since 1970.
    pub ends_at_unix: i64,
    /// Chain and key as rustls takes them.
    pub certified: Arc<CertifiedKey>,
}

impl Certificate {
    pub(super) fn read(mut entry: Object<'_>, base: &Base) -> Option<Self> {
        let certificate_file = entry.required_string("certificate_file").map(|text| base.resolve(&text));
        let private_key_file = entry.required_string("private_key_file").map(|text| base.resolve(&text));
        let chain = certificate_file.as_ref().and_then(|file| noted(&entry, "certificate_file", read_chain(file)));
        let key = private_key_file.as_ref().and_then(|file| noted(&entry, "private_key_file", read_key(file)));
        let facts = chain.as_ref().and_then(|chain| noted(&entry, "certificate_file", Facts::of(chain)));
        let key_path = entry.path_of("private_key_file");
        let (reader, certificate_path) = (entry.reader(), entry.path_of("certificate_file"));
        entry.finish();

        let (certificate_file, private_key_file) = (certificate_file?, private_key_file?);
        warn_of_exposure(reader, &key_path, &private_key_file);
        let (chain, key, facts) = (chain?, key?, facts?);
        let certified = match CertifiedKey::from_der(chain, key, &default_provider()) {
            Ok(certified) => Arc::new(certified),
            Err(error) => {
                let shown = Some(private_key_file.display().to_string());
                let expected = format!("is not the key of {}: {error}", certificate_file.display());
                reader.problem(&key_path, shown, expected);
                return None;
            }
        };
        facts.warn_of_time(reader, &certificate_path);
        let Facts { names, ends_at_unix, .. } = facts;
        Some(Self { certificate_file, private_key_file, names, ends_at_unix, certified })
    }

    /// Tells whether it is valid for this DNS name, or for every name that this wildcard stands for. A wildcard
    /// certificate covers one label only.
    #[must_use]
    pub fn covers(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let parent = host.split_once('.').map(|(_, parent)| parent);
        self.names
            .iter()
            .any(|name| *name == host || name.strip_prefix("*.").is_some_and(|below| parent == Some(below)))
    }
}

/// What the first certificate of a chain says about itself.
struct Facts {
    names: Vec<String>,
    begins_at_unix: i64,
    ends_at_unix: i64,
}

impl Facts {
    fn of(chain: &[CertificateDer<'_>]) -> Result<Self, String> {
        let leaf = chain.first().ok_or("has no certificate in it")?;
        let (_, parsed) = X509Certificate::from_der(leaf)
            .map_err(|error| format!("its first certificate cannot be read: {error}"))?;
        let names = parsed
            .subject_alternative_name()
            .map_err(|error| format!("the names of its first certificate cannot be read: {error}"))?
            .map(|extension| dns_names(&extension.value.general_names))
            .unwrap_or_default();
        let validity = parsed.validity();
        let (begins_at_unix, ends_at_unix) = (validity.not_before.timestamp(), validity.not_after.timestamp());
        Ok(Self { names, begins_at_unix, ends_at_unix })
    }

    /// A certificate out of its time is no error: after a power cut the clock may be the one that is wrong, and a
    /// gateway that does not start helps nobody.
    fn warn_of_time(&self, reader: &Reader, path: &str) {
        let now = ASN1Time::now().timestamp();
        let date =
            |unix: i64| ASN1Time::from_timestamp(unix).map_or_else(|_| unix.to_string(), |time| time.to_string());
        if now < self.begins_at_unix {
            reader.warn(path, format_args!("is not valid before {}; check the clock", date(self.begins_at_unix)));
        } else if now > self.ends_at_unix {
            reader.warn(path, format_args!("has ended on {}: renew it", date(self.ends_at_unix)));
        } else if self.ends_at_unix.saturating_sub(now) < END_NEAR_SECONDS {
            reader.warn(path, format_args!("ends on {}: renew it", date(self.ends_at_unix)));
        }
    }
}

fn noted<T>(entry: &Object<'_>, key: &str, result: Result<T, String>) -> Option<T> {
    result.map_err(|expected| entry.problem(key, expected)).ok()
}

fn dns_names(names: &[GeneralName<'_>]) -> Vec<String> {
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    };
    names.iter().filter_map(name).collect()
}

fn read_chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read_bounded(file)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let chain = chain.map_err(|error| format!("is not a PEM file: {error:?}"))?;
    if chain.is_empty() {
        return Err("has no certificate in it: it must be a PEM file, the server's own certificate first".into());
    }
    Ok(chain)
}

fn read_key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let text = read_bounded(file)?;
    // The parser's own words are left out: they may quote the key.
    PrivateKeyDer::from_pem_slice(&text)
        .map_err(|_| "has no private key that can be read: it must be a PEM file, without a passphrase".into())
}

fn read_bounded(file: &Path) -> Result<Vec<u8>, String> {
    let cannot = |error: io::Error| format!("cannot be read: {error}");
    let mut text = Vec::new();
    File::open(file).map_err(cannot)?.take(FILE_LEN_MAX + 1).read_to_end(&mut text).map_err(cannot)?;
    if text.len() as u64 > FILE_LEN_MAX {
        return Err(format!("is longer than {FILE_LEN_MAX} bytes"));
    }
    Ok(text)
}

fn warn_of_exposure(reader: &Reader, path: &str, file: &Path) {
    let Ok(metadata) = fs::metadata(file) else { return };
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o007 != 0 {
        let text = format!("{} has mode {mode:04o}: everybody can read the key; chmod it to 0600", file.display());
        reader.warn(path, text);
    }
}

/// A chain of ten certificates has some 20 KiB.
const FILE_LEN_MAX: u64 = 1 << 20;
/// Two weeks: renewal by ACME begins a month before the end, so something has failed by then.
const END_NEAR_SECONDS: i64 = 14 * 24 * 3600;
