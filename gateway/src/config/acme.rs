//! The section `acme`: which authority issues certificates, for which names, and how these are proved.

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use adit::config::reader::Object;
use adit::endpoint_url::Scheme;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::listeners::Listeners;
use super::{Base, bounded_text, public_names};
use crate::acme::check_url;

/// Certificates from an ACME authority.
#[derive(Clone, PartialEq, Eq)]
pub struct AcmeConfig {
    /// Where the authority's directory is; `https://` always.
    pub directory_url: String,
    /// Whom the authority tells about trouble: `mailto:` URLs.
    pub contact: Vec<String>,
    /// The names that get a certificate each, in lower case; the first one is for clients that name nothing, where no
    /// file is.
    pub names: Vec<String>,
    /// The names are those of the file, and not what is to be derived from other sections.
    is_listed: bool,
    /// How a name is proved.
    pub challenge: ChallengeKind,
    /// The directory for account and certificates.
    pub state: PathBuf,
    /// Whom the connection to the authority trusts; none: the public authorities.
    pub directory_ca: Vec<CertificateDer<'static>>,
    /// How long before its end a certificate is renewed; `None`: a third of its life.
    pub renew_before: Option<Duration>,
}

/// How a name is proved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChallengeKind {
    /// TLS-ALPN-01: the authority connects to port 443 (RFC 8737).
    #[default]
    TlsAlpn,
    /// HTTP-01: the authority asks at port 80 (RFC 8555, 8.3).
    Http,
}

impl ChallengeKind {
    /// The kinds as the configuration names them.
    pub const WORDS: [(&'static str, Self); 2] = [("tls-alpn-01", Self::TlsAlpn), ("http-01", Self::Http)];
}

impl AcmeConfig {
    /// Reads the section; `None`: there is none, or it has mistakes.
    pub(super) fn read(section: Option<Object<'_>>, base: &Base, listeners: Option<&Listeners>) -> Option<Self> {
        let mut section = section?;
        let directory_url = section.required_parsed("directory_url", parse_directory);
        let contact = section.parsed_list("contact", CONTACTS_MAX, parse_contact);
        let is_listed = section.has("names");
        let names = section.parsed_list("names", NAMES_MAX, parse_name);
        let challenge = section.word("challenge", &ChallengeKind::WORDS).unwrap_or_default();
        let state = base.resolve(&section.string("state").unwrap_or_else(|| STATE_DEFAULT.to_owned()));
        let directory_ca = read_authorities(&mut section, base);
        let renew_before = section.duration("renew_before", RENEW_BEFORE_LEAST..=RENEW_BEFORE_MOST);
        read_consent(&mut section);
        check_twice(&section, &names);
        if let Some(listeners) = listeners {
            check_listeners(&section, challenge, listeners);
        }
        section.finish();
        let directory_url = directory_url?;
        Some(Self { directory_url, contact, names, is_listed, challenge, state, directory_ca, renew_before })
    }

    /// Tells whether the name of an `https` endpoint will have a certificate.
    pub(super) fn will_cover(&self, host: &str) -> bool {
        match self.is_listed {
            true => self.names.iter().any(|name| name == host),
            false => public_names::parse_name(host).is_ok(),
        }
    }

    /// Takes the names that other sections want, unless the file lists some.
    pub(super) fn settle<'a>(&mut self, wanted: impl Iterator<Item = &'a str>) {
        if self.is_listed {
            return;
        }
        for name in wanted.filter(|name| public_names::parse_name(name).is_ok()) {
            if !self.names.iter().any(|other| other == name) {
                self.names.push(name.to_owned());
            }
        }
    }

    /// Tells whether nothing but the names differs.
    #[must_use]
    pub fn is_same_authority(&self, other: &Self) -> bool {
        let of = |config: &Self| Self { names: Vec::new(), is_listed: false, ..config.clone() };
        of(self) == of(other)
    }
}

fn parse_directory(text: &str) -> Result<String, &'static str> {
    const EXPECTED: &str = "must be a URL such as https://acme-v02.api.letsencrypt.org/directory";
    let url = text.parse().map_err(|_| EXPECTED)?;
    check_url(&url)?;
    Ok(text.to_owned())
}

fn parse_contact(text: &str) -> Result<String, &'static str> {
    const EXPECTED: &str = "must be an email address such as ops@example.com";
    let address = text.strip_prefix("mailto:").unwrap_or(text);
    let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, ',' | '?' | '<' | '>' | '"' | '%' | '&');
    let (user, host) = address.split_once('@').ok_or(EXPECTED)?;
    let is_address = !user.is_empty() && !host.is_empty() && !host.contains('@') && address.chars().all(is_plain);
    if is_address { Ok(format!("mailto:{address}")) } else { Err(EXPECTED) }
}

fn parse_name(text: &str) -> Result<String, String> {
    if text.starts_with("*.") {
        let expected = "a wildcard can be proved by DNS-01 only, which the gateway does not do: list each name, or use a \
                        certificate file";
        return Err(expected.to_owned());
    }
    public_names::parse_name(text)
}

fn read_authorities(section: &mut Object<'_>, base: &Base) -> Vec<CertificateDer<'static>> {
    let Some(file) = section.string("directory_ca_file") else { return Vec::new() };
    let text = match bounded_text(&base.resolve(&file), CA_FILE_LEN_MAX) {
        Ok(text) => text,
        Err(expected) => {
            section.problem("directory_ca_file", expected);
            return Vec::new();
        }
    };
    let authorities: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let authorities = authorities.unwrap_or_default();
    let mut store = RootCertStore::empty();
    let is_fine = authorities.iter().all(|authority| store.add(authority.clone()).is_ok());
    if authorities.is_empty() || !is_fine {
        section.problem("directory_ca_file", "must be a PEM file with the certificates of authorities");
        return Vec::new();
    }
    authorities
}

fn read_consent(section: &mut Object<'_>) {
    const EXPECTED: &str =
        "read the authority's terms of service, and write true to accept them: it gives no account without";
    if !section.has("accept_terms") {
        section.missing("accept_terms", EXPECTED);
    } else if section.boolean("accept_terms") == Some(false) {
        section.problem("accept_terms", EXPECTED);
    }
}

fn check_twice(section: &Object<'_>, names: &[String]) {
    let mut seen = HashSet::new();
    if let Some(name) = names.iter().find(|name| !seen.insert(*name)) {
        section.problem("names", format_args!("{name} is there twice: keep one of them"));
    }
}

/// Authorities connect to the ports that the protocol names. In front of the gateway there may be what forwards them.
fn check_listeners(section: &Object<'_>, challenge: ChallengeKind, listeners: &Listeners) {
    match challenge {
        ChallengeKind::Http if !listeners.has(Scheme::Http) => {
            section.problem("challenge", "needs listeners.http: the authority asks there");
        }
        ChallengeKind::Http => {
            if listeners.http.iter().all(|address| address.port() != 80) {
                section.warn(
                    "challenge",
                    "http-01 comes to port 80, which listeners.http does not have: forward it there",
                );
            }
        }
        ChallengeKind::TlsAlpn => {
            let mut tls = listeners.agents.iter().chain(&listeners.https).chain(&listeners.tls);
            if tls.all(|address| address.port() != 443) {
                section.warn("challenge", "tls-alpn-01 comes to port 443, which no listener has: forward it there");
            }
        }
    }
}

impl fmt::Debug for AcmeConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcmeConfig")
            .field("directory_url", &self.directory_url)
            .field("names", &self.names)
            .field("challenge", &self.challenge)
            .field("state", &self.state)
            .field("directory_ca", &self.directory_ca.len())
            .field("renew_before", &self.renew_before)
            .finish_non_exhaustive()
    }
}

/// Beside the configuration unless it says otherwise.
const STATE_DEFAULT: &str = "acme";
/// As many as there may be cloud endpoints.
const NAMES_MAX: usize = 10_000;
/// Authorities take few.
const CONTACTS_MAX: usize = 10;
/// The bundle of all public authorities has 200 KiB.
const CA_FILE_LEN_MAX: usize = 1 << 20;
/// For trials with certificates of some minutes.
const RENEW_BEFORE_LEAST: Duration = Duration::from_secs(1);
/// Certificates last 13 months at most.
const RENEW_BEFORE_MOST: Duration = Duration::from_secs(400 * 24 * 3600);
