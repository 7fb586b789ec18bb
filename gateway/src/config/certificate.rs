//! Certificates with their keys: read, matched with each other, and asked for their names and their end.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use adit::config::reader::{Object, Reader};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;

use super::{Base, ocsp};
use crate::pem;

/// One certificate chain with its key, ready for use. A renewed file is noticed within seconds.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// Where the chain came from.
    pub certificate_file: PathBuf,
    /// Where the key came from.
    pub private_key_file: PathBuf,
    /// The DNS names that it is for, in lower case; a leading `*.` stands for exactly one label. Addresses are not
    /// among them: clients that connect to an address send no name to choose by.
    pub names: Vec<String>,
    /// Where the authority's word on its validity is, if somebody keeps it up to date there.
    pub ocsp_file: Option<PathBuf>,
    /// Until when that may be shown, in seconds since 1970; `None` when there is nothing to show.
    pub ocsp_until_unix: Option<i64>,
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
        let ocsp_file = entry.string("ocsp_file").map(|text| base.resolve(&text));
        let ocsp_path = entry.path_of("ocsp_file");
        let (reader, certificate_path) = (entry.reader(), entry.path_of("certificate_file"));
        entry.finish();

        let (certificate_file, private_key_file) = (certificate_file?, private_key_file?);
        warn_of_exposure(reader, &key_path, &private_key_file);
        let (chain, key, facts) = (chain?, key?, facts?);
        let certified = match CertifiedKey::from_der(chain, key, &default_provider()) {
            Ok(certified) => certified,
            Err(error) => {
                let shown = Some(private_key_file.display().to_string());
                let expected = format!("is not the key of {}: {error}", certificate_file.display());
                reader.problem(&key_path, shown, expected);
                return None;
            }
        };
        facts.warn_of_time(reader, &certificate_path);
        let Facts { names, ends_at_unix, .. } = facts;
        let read = Self {
            certificate_file,
            private_key_file,
            names,
            ocsp_file,
            ocsp_until_unix: None,
            ends_at_unix,
            certified: Arc::new(certified),
        };
        let (read, problem) = read.with_ocsp();
        if let Some(problem) = problem {
            reader.warn(&ocsp_path, problem);
        }
        Some(read)
    }

    /// Reads its files once more.
    ///
    /// # Errors
    ///
    /// What is wrong with which file.
    pub fn read_again(&self) -> Result<(Self, Option<String>), String> {
        let Self { certificate_file, private_key_file, ocsp_file, .. } = self;
        let of = |file: &Path, error: String| format!("{}: {error}", file.display());
        let chain = read_chain(certificate_file).map_err(|error| of(certificate_file, error))?;
        let key = read_key(private_key_file).map_err(|error| of(private_key_file, error))?;
        let Facts { names, ends_at_unix, .. } = Facts::of(&chain).map_err(|error| of(certificate_file, error))?;
        let certified = CertifiedKey::from_der(chain, key, &default_provider()).map_err(|error| {
            of(private_key_file, format!("is not the key of {}: {error}", certificate_file.display()))
        })?;
        let read = Self {
            certificate_file: certificate_file.clone(),
            private_key_file: private_key_file.clone(),
            names,
            ocsp_file: ocsp_file.clone(),
            ocsp_until_unix: None,
            ends_at_unix,
            certified: Arc::new(certified),
        };
        Ok(read.with_ocsp())
    }

    /// Lets the authority's word be shown with it; what is wrong with that comes along. Without a usable one the certificate
    /// works all the same: it is renewed before the word on it is there.
    fn with_ocsp(mut self) -> (Self, Option<String>) {
        let (Some(file), Some(leaf)) = (&self.ocsp_file, self.certified.cert.first()) else { return (self, None) };
        let read = pem::read(file).and_then(|response| Ok((ocsp::shown_until(&response, leaf)?, response)));
        let problem = match read {
            Ok((until, response)) if until > ASN1Time::now().timestamp() => {
                let mut certified = CertifiedKey::clone(&self.certified);
                certified.ocsp = Some(response);
                (self.certified, self.ocsp_until_unix) = (Arc::new(certified), Some(until));
                return (self, None);
            }
            Ok(_) => "is out of date".to_owned(),
            Err(problem) => problem,
        };
        let problem = format!("{}: {problem}; it is not shown to clients", file.display());
        (self, Some(problem))
    }

    /// Tells whether it shows a word of its authority that is out of date.
    #[must_use]
    pub fn has_stale_ocsp(&self) -> bool {
        self.ocsp_until_unix.is_some_and(|until| until <= ASN1Time::now().timestamp())
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
    pem::certificates(&pem::read(file)?)
}

fn read_key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    pem::private_key(&pem::read(file)?)
}

pub(super) fn warn_of_exposure(reader: &Reader, path: &str, file: &Path) {
    let Ok(metadata) = fs::metadata(file) else { return };
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o007 != 0 {
        let text = format!("{} has mode {mode:04o}: everybody can read the key; chmod it to 0600", file.display());
        reader.warn(path, text);
    }
}

/// Two weeks: renewal by ACME begins a month before the end, so something has failed by then.
const END_NEAR_SECONDS: i64 = 14 * 24 * 3600;
