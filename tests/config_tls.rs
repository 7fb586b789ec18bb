//! TLS of endpoints in the agent's file: what is read, and how each mistake is named.

#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps; clippy.toml covers only #[test] functions")]

use std::fs;

use adit::config::{Config, ConfigErrors, PemSource, UpstreamTlsConfig};
use serde_json::{Value, json};

const KEY: &str = "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n";

/// A file with one endpoint that has these members, too.
fn load(url: &str, upstream: Value, termination: Value) -> Result<Config, ConfigErrors> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adit.json");
    let document = json!({
        "version": 3,
        "agent": { "authtoken": "t", "connect_url": "gateway.example" },
        "endpoints": [{ "name": "db", "url": url, "upstream": upstream, "agent_tls_termination": termination }],
    });
    fs::write(&path, document.to_string()).unwrap();
    Config::load(&path, &|_| None).map(|(config, _)| config)
}

fn problems(url: &str, upstream: Value, termination: Value) -> Vec<String> {
    let errors = load(url, upstream, termination).unwrap_err();
    let shown = |problem: &adit::config::Problem| {
        format!(
            "{}: {}{}",
            problem.path,
            problem.value.as_deref().map_or(String::new(), |v| format!("{v}: ")),
            problem.expected
        )
    };
    errors.problems().iter().map(shown).collect()
}

#[test]
fn everything_is_read_and_absent_means_verified_and_not_ended_here() {
    let termination = json!({
        "server_certificate": "/etc/db.pem",
        "server_private_key": KEY,
        "mutual_tls_certificate_authorities": "/etc/ca.pem",
        "alpn_protocols": ["postgresql"],
    });
    let upstream = json!({
        "url": "tls://db:5432",
        "tls": { "ca_file": "/etc/db-ca.pem", "server_name": "db.lan", "client_certificate": "/c", "client_key": "/k" },
    });
    let config = load("tls://db.internal", upstream, termination).unwrap();
    let endpoint = &config.endpoints[0];
    let ending = endpoint.termination.as_ref().unwrap();
    assert_eq!(ending.certificate, PemSource::File("/etc/db.pem".into()));
    assert_eq!(ending.client_cas, [PemSource::File("/etc/ca.pem".into())]);
    assert_eq!(ending.alpn, ["postgresql"]);
    let tls = &endpoint.upstream.tls;
    assert!(tls.verify && tls.client.is_some());
    assert_eq!(tls.server_name.as_deref(), Some("db.lan"));
    assert!(!format!("{config:?}").contains("hunter2"));

    let config = load("tls://db.internal", json!({ "url": "tls://db:5432" }), Value::Null).unwrap();
    assert_eq!(config.endpoints[0].termination, None);
    assert_eq!(config.endpoints[0].upstream.tls, UpstreamTlsConfig::default());
    assert!(config.endpoints[0].upstream.tls.verify);
}

#[test]
fn each_mistake_is_named_and_no_key_is_shown() {
    let plain = json!({ "url": "5432" });
    let good = json!({ "server_certificate": "/c", "server_private_key": "/k" });
    let table = [
        (
            "https://db.internal",
            plain.clone(),
            good.clone(),
            "endpoints[0].agent_tls_termination: an object: is only for tls:// endpoints: change the url, or remove it",
        ),
        (
            "tls://db.internal",
            plain.clone(),
            json!({ "server_certificate": "/c" }),
            "endpoints[0].agent_tls_termination.server_private_key: is missing: the path of a PEM file, or the PEM text itself, is needed",
        ),
        (
            "tls://db.internal",
            plain.clone(),
            json!({ "server_certificate": "/c", "server_private_key": "hunter2\nhunter2" }),
            "endpoints[0].agent_tls_termination.server_private_key: [secret]: must be the path of a PEM file, or the PEM text itself (-----BEGIN …)",
        ),
        (
            "tls://db.internal",
            plain.clone(),
            json!({ "server_certificate": "/c", "server_private_key": "/k", "mutual_tls_certificate_authorities": [] }),
            "endpoints[0].agent_tls_termination.mutual_tls_certificate_authorities: a list: must name an authority; leave it out to ask for none",
        ),
        (
            "tls://db.internal",
            json!({ "url": "5432", "tls": { "verify": true } }),
            Value::Null,
            "endpoints[0].upstream.tls: an object: is only for tls:// and https:// upstreams: change the url, or remove it",
        ),
        (
            "tls://db.internal",
            json!({ "url": "tls://db:1", "tls": { "verify": false, "ca_file": "/c" } }),
            Value::Null,
            "endpoints[0].upstream.tls.ca_file: \"/c\": has no effect while verify is false: remove one of them",
        ),
        (
            "tls://db.internal",
            json!({ "url": "tls://db:1", "tls": { "client_certificate": "/c" } }),
            Value::Null,
            "endpoints[0].upstream.tls.client_key: is missing: client_certificate needs its private key",
        ),
        (
            "tls://db.internal",
            json!({ "url": "tls://db:1", "tls": { "server_name": "a b" } }),
            Value::Null,
            "endpoints[0].upstream.tls.server_name: \"a b\": must be a DNS name or an IP address",
        ),
    ];
    for (url, upstream, termination, expected) in table {
        assert_eq!(problems(url, upstream, termination), [expected]);
    }
}

#[test]
fn tls_ends_at_the_agent_or_at_the_gateway_and_not_at_both() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adit.json");
    for policy in [
        json!({ "on_tcp_connect": [{ "actions": [{ "type": "terminate-tls" }] }] }),
        json!("on_tcp_connect: [{actions: [{type: terminate-tls}]}]"),
    ] {
        let document = json!({
            "version": 3,
            "agent": { "authtoken": "t", "connect_url": "gateway.example" },
            "endpoints": [{
                "name": "db",
                "url": "tls://db.internal",
                "upstream": { "url": "5432" },
                "agent_tls_termination": { "server_certificate": "/c", "server_private_key": KEY },
                "traffic_policy": policy,
            }],
        });
        fs::write(&path, document.to_string()).unwrap();
        let errors = Config::load(&path, &|_| None).unwrap_err();
        let [problem] = errors.problems() else { panic!("{errors}") };
        assert_eq!(problem.path, "endpoints[0].agent_tls_termination");
        assert!(problem.expected.starts_with("excludes terminate-tls"), "{problem}");
        assert!(!errors.to_string().contains("hunter2"), "{errors}");
    }
}
