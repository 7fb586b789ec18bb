//! `terminate-tls`: ends the visitor's TLS at the gateway, as the endpoint asks for it.

use std::path::Path;
use std::sync::Arc;

use adit::endpoint_url::Scheme;
use http::StatusCode;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;

use super::super::error::{ACTION_PROTOCOL, CONFIG, CONFIG_VALUE, TLS_UNFIT};
use super::super::fields::Fields;
use super::super::phase::Phase;
use super::super::place::Place;
use super::super::run::Run;
use super::super::{Refused, Tls, Verdict};
use super::{Action, Kind, Outcome};
use crate::pem;
use crate::tls::{ClientCheck, ClientCheckError, Strategy, Termination, Version, Versions};

pub(super) const KIND: Kind = Kind { name: "terminate-tls", phases: &[Phase::TcpConnect], compile };

#[derive(Debug)]
struct TerminateTls {
    termination: Arc<Termination>,
}

impl Action for TerminateTls {
    fn protects(&self) -> bool {
        true
    }

    fn terminates_tls(&self) -> bool {
        true
    }

    fn run<'r>(&'r self, run: &'r mut Run<'_, '_, '_>) -> Outcome<'r> {
        match run.connection().tls {
            Tls::Ended(session) if self.termination.is_met_by(session) => Outcome::NEXT,
            // The connection was made for another endpoint, or before this one asked for more.
            Tls::Ended(_) => Outcome::refuse(Refused::new(StatusCode::MISDIRECTED_REQUEST, TLS_UNFIT, MESSAGE)),
            Tls::Begun(_) | Tls::Unknown => {
                let termination = Arc::clone(&self.termination);
                Outcome::end(Verdict::TerminateTls { termination, then: run.behind })
            }
        }
    }
}

fn compile(fields: &mut Fields<'_>, _phase: Phase, place: Place) -> Option<Box<dyn Action>> {
    if place.scheme() == Scheme::Http {
        fields.wrong_action(ACTION_PROTOCOL, "terminate-tls is for https, tls and tcp endpoints: http has no TLS");
    }
    let versions = versions(fields);
    let own = own_certificate(fields);
    let clients = clients(fields);
    Some(Box::new(TerminateTls { termination: Arc::new(Termination::new(versions, own, clients)) }))
}

fn versions(fields: &mut Fields<'_>) -> Versions {
    let default = Versions::default();
    let min = version(fields, "min_version").unwrap_or(default.min);
    let max = version(fields, "max_version").unwrap_or(default.max);
    if min > max {
        fields.wrong("min_version", CONFIG_VALUE, "must not be above max_version");
        return default;
    }
    Versions { min, max }
}

fn version(fields: &mut Fields<'_>, name: &'static str) -> Option<Version> {
    // YAML reads 1.3 without quotes as a number.
    let text = match fields.value(name)? {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match text.as_str() {
        "1.2" => Some(Version::V12),
        "1.3" => Some(Version::V13),
        _ => {
            fields.wrong(name, CONFIG_VALUE, "must be \"1.2\" or \"1.3\"");
            None
        }
    }
}

fn own_certificate(fields: &mut Fields<'_>) -> Option<Arc<CertifiedKey>> {
    let certificate = fields.secret_text("server_certificate");
    let key = fields.secret_text("server_private_key");
    let (certificate, key) = match (certificate, key) {
        (Some(certificate), Some(key)) => (certificate, key),
        (None, None) => return None,
        _ => {
            let message = "needs server_certificate and server_private_key, or none of them";
            fields.wrong_action(CONFIG, message);
            return None;
        }
    };
    let chain = content(certificate, fields.files()).and_then(|text| pem::certificates(&text));
    let chain = chain.map_err(|error| fields.wrong("server_certificate", CONFIG_VALUE, error)).ok();
    let key = content(key, fields.files()).and_then(|text| pem::private_key(&text));
    let key = key.map_err(|error| fields.wrong("server_private_key", CONFIG_VALUE, error)).ok();
    let certified = CertifiedKey::from_der(chain?, key?, &default_provider()).map_err(|error| {
        let message = format!("is not the key of server_certificate: {error}");
        fields.wrong("server_private_key", CONFIG_VALUE, message);
    });
    certified.ok().map(Arc::new)
}

fn clients(fields: &mut Fields<'_>) -> Option<ClientCheck> {
    let strategy = fields.choice("mutual_tls_verification_strategy", &[REQUIRE_AND_VERIFY, REQUIRE_ANY, REQUEST]);
    let has_authorities = fields.has_items(AUTHORITIES);
    let mut authorities: Vec<(usize, CertificateDer<'static>)> = Vec::new();
    for (index, text) in fields.list(AUTHORITIES, 0..=AUTHORITIES_MAX, CONFIG) {
        match content(text, fields.files()).and_then(|text| pem::certificates(&text)) {
            Ok(read) => authorities.extend(read.into_iter().map(|certificate| (index, certificate))),
            Err(error) => fields.wrong_item(AUTHORITIES, index, CONFIG_VALUE, error),
        }
    }
    if authorities.len() > AUTHORITIES_MAX {
        let message = format!("holds {} certificates: at most {AUTHORITIES_MAX} are possible", authorities.len());
        fields.wrong(AUTHORITIES, CONFIG, message);
        return None;
    }
    let strategy = match strategy {
        None if !has_authorities => return None,
        None | Some(REQUIRE_AND_VERIFY) => Strategy::RequireAndVerify,
        Some(REQUIRE_ANY) => Strategy::RequireAny,
        Some(_) => Strategy::Request,
    };
    if has_authorities && authorities.is_empty() {
        // What is wrong with them has been said.
        return None;
    }
    let (places, authorities): (Vec<usize>, Vec<_>) = authorities.into_iter().unzip();
    match ClientCheck::new(&authorities, strategy) {
        Ok(check) => Some(check),
        Err(ClientCheckError::Authority(index, error)) => {
            let place = places.get(index).copied().unwrap_or_default();
            fields.wrong_item(AUTHORITIES, place, CONFIG_VALUE, format!("cannot be an authority: {error}"));
            None
        }
        Err(error @ ClientCheckError::NoAuthorities) => {
            fields.wrong_action(CONFIG, format!("{error}: write them into {AUTHORITIES}"));
            None
        }
        Err(error @ ClientCheckError::Unusable(_)) => {
            fields.wrong(AUTHORITIES, CONFIG_VALUE, error.to_string());
            None
        }
    }
}

/// The PEM text of a field, or of the file that it names.
pub(super) fn content(text: &str, directory: Option<&Path>) -> Result<Vec<u8>, String> {
    if text.contains(PEM_BEGIN) {
        return Ok(text.as_bytes().to_vec());
    }
    match directory {
        Some(directory) => pem::read(&directory.join(text)),
        None => Err(format!("must be PEM text, which begins with {PEM_BEGIN}")),
    }
}

const MESSAGE: &str = "The endpoint asks for TLS that this connection was not made with, for instance for a certificate of \
                       the client. Connect to it by its own name (SNI), on a connection of its own.";
const AUTHORITIES: &str = "mutual_tls_certificate_authorities";
const REQUIRE_AND_VERIFY: &str = "require-and-verify";
const REQUIRE_ANY: &str = "require-any";
const REQUEST: &str = "request";
const PEM_BEGIN: &str = "-----BEGIN";
/// Their names are sent to every client: these stay far below the 64 KiB that a message of a handshake may have.
const AUTHORITIES_MAX: usize = 100;
