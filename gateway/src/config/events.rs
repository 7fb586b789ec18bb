//! What operators are told of, and how.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use adit::config::reader::Object;
use http::Uri;
use http::uri::Scheme;
use rustls::{ClientConfig, RootCertStore};

use super::certificate::warn_of_exposure;
use super::{Base, bounded_text};
use crate::events::Kind;
use crate::events::webhook::Webhook;
use crate::events::webhook::sign::SigningKeys;
use crate::pem;
use crate::policy::{public_trust, trusting};

/// What operators are told of, and how.
#[derive(Clone, Debug)]
pub struct EventsConfig {
    /// How long a site or an endpoint has to be online or offline before it is told.
    pub settle: Duration,
    /// Where events are sent.
    pub webhook: Option<Arc<Webhook>>,
}

impl EventsConfig {
    pub(super) fn read(section: Option<Object<'_>>, base: &Base) -> Self {
        let Some(mut section) = section else { return Self::default() };
        let settle = section.duration("settle", SETTLE_LEAST..=SETTLE_MOST).unwrap_or(SETTLE_DEFAULT);
        let webhook = section.object("webhook").and_then(|webhook| read_webhook(webhook, base));
        section.finish();
        Self { settle, webhook: webhook.map(Arc::new) }
    }
}

impl Default for EventsConfig {
    fn default() -> Self {
        Self { settle: SETTLE_DEFAULT, webhook: None }
    }
}

fn read_webhook(mut section: Object<'_>, base: &Base) -> Option<Webhook> {
    section.refuse("secret", "a secret does not stand in this file: name a file that has it, with secret_file");
    let url = read_url(&mut section);
    let keys = section.required_string("secret_file").and_then(|file| {
        let file = base.resolve(&file);
        warn_of_exposure(section.reader(), &section.path_of("secret_file"), &file);
        let keys = bounded_text(&file, SECRET_FILE_LEN_MAX);
        let keys = keys.and_then(|text| SigningKeys::parse(&text).map_err(str::to_owned));
        keys.map_err(|expected| section.problem("secret_file", expected)).ok()
    });
    let timeout = section.duration("timeout", TIMEOUT_LEAST..=TIMEOUT_MOST).unwrap_or(TIMEOUT_DEFAULT);
    let trust = match section.string("ca_file") {
        None => Some(public_trust()),
        Some(file) => read_trust(&base.resolve(&file)).map_err(|expected| section.problem("ca_file", expected)).ok(),
    };
    let parse_kind = |text: &str| {
        let found = Kind::WORDS.iter().find(|(word, _)| *word == text);
        found.map(|(_, kind)| *kind).ok_or_else(|| {
            let words: Vec<_> = Kind::WORDS.iter().map(|(word, _)| *word).collect();
            format!("must be one of {}", words.join(", "))
        })
    };
    let has_kinds = section.has("kinds");
    let kinds = section.parsed_list("kinds", Kind::WORDS.len(), parse_kind);
    section.finish();
    let kinds = has_kinds.then(|| kinds.into_iter().collect());
    Some(Webhook { url: url?, keys: keys?, timeout, trust: trust?, kinds })
}

/// It may have a secret in its path or query, so that it is never shown.
fn read_url(section: &mut Object<'_>) -> Option<Uri> {
    const EXPECTED: &str =
        "must be a URL such as https://hooks.example.com/adit; http:// is for a server on this machine";
    if !section.has("url") {
        section.missing("url", "where events are sent");
        return None;
    }
    let url = section.secret("url")?.parse::<Uri>().ok().filter(|url| {
        let is_here = matches!(url.host(), Some("localhost" | "127.0.0.1" | "[::1]"));
        let is_plain = url.authority().is_some_and(|authority| !authority.as_str().contains('@'));
        is_plain && (url.scheme() == Some(&Scheme::HTTPS) || (url.scheme() == Some(&Scheme::HTTP) && is_here))
    });
    if url.is_none() {
        section.secret_problem("url", EXPECTED);
    }
    url
}

fn read_trust(file: &Path) -> Result<Arc<ClientConfig>, String> {
    const EXPECTED: &str = "must be a PEM file with the certificates of authorities";
    let mut store = RootCertStore::empty();
    for authority in pem::certificates(&pem::read(file)?).map_err(|_| EXPECTED.to_owned())? {
        store.add(authority).map_err(|_| EXPECTED.to_owned())?;
    }
    Ok(trusting(store))
}

/// An agent whose line broke is back within seconds; one whose box restarts takes half a minute.
const SETTLE_DEFAULT: Duration = Duration::from_secs(30);
/// For trials.
const SETTLE_LEAST: Duration = Duration::from_millis(100);
const SETTLE_MOST: Duration = Duration::from_secs(3600);
/// Receivers take an event and answer; what they do with it comes later.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
const TIMEOUT_LEAST: Duration = Duration::from_millis(100);
const TIMEOUT_MOST: Duration = Duration::from_secs(60);
/// Three keys of 64 bytes.
const SECRET_FILE_LEN_MAX: usize = 1024;
