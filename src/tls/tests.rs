//! Tests of the TLS set-up.

use std::io::{self, Read, Write};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConnection, ServerConfig, ServerConnection};

use super::*;

mod time;

/// As [`super::connect_config`], without the rest of a configuration.
fn connect_config(cas: &ConnectCas, ssl_cert_file: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    client_config(connect_roots(cas, ssl_cert_file)?, Vec::new(), TlsCiphers::Auto, Clock::REAL)
}

/// As [`super::upstream_config`], without the rest of a configuration.
fn upstream_config(ssl_cert_file: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    client_config(upstream_roots(ssl_cert_file)?, Vec::new(), TlsCiphers::Auto, Clock::REAL)
}

/// A private authority and a server that has its certificate for some names.
struct Site {
    ca_pem: String,
    server: Arc<ServerConfig>,
}

impl Site {
    fn new(names: &[SanType]) -> Self {
        Self::with_versions(names, rustls::ALL_VERSIONS)
    }

    fn with_versions(names: &[SanType], versions: &[&'static rustls::SupportedProtocolVersion]) -> Self {
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = names.to_vec();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let server = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        Self { ca_pem: issuer.pem(), server: Arc::new(server) }
    }

    fn handshake(&self, config: Arc<ClientConfig>, host: &str) -> Result<Handshake, rustls::Error> {
        let (_, server) = joined(config, host, &self.server)?;
        Ok(Handshake {
            sni: server.server_name().map(ToOwned::to_owned),
            alpn: server.alpn_protocol().map(<[u8]>::to_vec),
        })
    }
}

/// Joins both ends through memory until the handshake is over.
fn joined(
    config: Arc<ClientConfig>,
    host: &str,
    server: &Arc<ServerConfig>,
) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
    let mut client = ClientConnection::new(config, server_name(host).unwrap()).unwrap();
    let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        carry(|out| client.write_tls(out), |bytes| server.read_tls(bytes));
        // The client's error is the one of interest; the server's follows from the alert.
        let _ = server.process_new_packets();
        carry(|out| server.write_tls(out), |bytes| client.read_tls(bytes));
        client.process_new_packets()?;
    }
    Ok((client, server))
}

#[derive(Debug, PartialEq, Eq)]
struct Handshake {
    sni: Option<String>,
    alpn: Option<Vec<u8>>,
}

fn carry(
    mut write: impl FnMut(&mut dyn Write) -> io::Result<usize>,
    mut read: impl FnMut(&mut dyn Read) -> io::Result<usize>,
) {
    let mut bytes = Vec::new();
    while write(&mut bytes).unwrap() > 0 {}
    let mut rest: &[u8] = &bytes;
    while !rest.is_empty() {
        read(&mut rest).unwrap();
    }
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

fn written(dir: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn gateway_of_a_private_authority_is_accepted_only_with_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, other) = (Site::new(&[dns("connect.example.com")]), Site::new(&[dns("connect.example.com")]));
    let path = written(&dir, "ca.pem", &ours.ca_pem);
    let private = connect_config(&ConnectCas::File(path), None).unwrap();
    let handshake = ours.handshake(Arc::clone(&private), "connect.example.com").unwrap();
    assert_eq!(handshake, Handshake { sni: Some("connect.example.com".into()), alpn: None });
    assert!(other.handshake(Arc::clone(&private), "connect.example.com").is_err());
    assert!(ours.handshake(private, "elsewhere.example.com").is_err());
}

#[cfg(feature = "bundled-roots")]
#[test]
fn public_authorities_do_not_vouch_for_a_private_one() {
    let public = connect_config(&ConnectCas::Trusted, None).unwrap();
    assert!(Site::new(&[dns("connect.example.com")]).handshake(public, "connect.example.com").is_err());
}

#[cfg(not(feature = "bundled-roots"))]
#[test]
fn authorities_that_are_not_there_are_an_error() {
    let error = connect_config(&ConnectCas::Trusted, None).unwrap_err();
    assert!(matches!(error, TlsError::NotBundled), "{error}");
}

#[test]
fn certificate_for_an_address_is_accepted_for_that_address_and_without_sni() {
    let dir = tempfile::tempdir().unwrap();
    let site =
        Site::new(&[SanType::IpAddress("192.0.2.1".parse().unwrap()), SanType::IpAddress("fe80::1".parse().unwrap())]);
    let config = connect_config(&ConnectCas::File(written(&dir, "ca.pem", &site.ca_pem)), None).unwrap();
    assert_eq!(site.handshake(Arc::clone(&config), "192.0.2.1").unwrap().sni, None);
    assert!(site.handshake(Arc::clone(&config), "fe80::1%eth0").is_ok());
    assert!(site.handshake(config, "192.0.2.2").is_err());
}

#[test]
fn upstream_is_verified_against_the_systems_bundle_too() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(&[dns("db.lan")]);
    let bundle = written(&dir, "bundle.pem", &site.ca_pem);
    let config = upstream_config(Some(&bundle)).unwrap();
    assert!(site.handshake(config, "db.lan").is_ok());
    let stranger = Site::new(&[dns("db.lan")]);
    assert!(stranger.handshake(upstream_config(Some(&bundle)).unwrap(), "db.lan").is_err());
}

#[test]
fn host_bundle_named_by_the_environment_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(&[dns("connect.example.com")]);
    let bundle = written(&dir, "bundle.pem", &site.ca_pem);
    let config = connect_config(&ConnectCas::Host, Some(&bundle)).unwrap();
    assert!(site.handshake(config, "connect.example.com").is_ok());
}

#[test]
fn unusable_certificate_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let gone = dir.path().join("gone.pem");
    let error = connect_config(&ConnectCas::File(gone), None).unwrap_err();
    assert!(matches!(error, TlsError::Read(..)), "{error}");
    let empty = written(&dir, "empty.pem", "no certificate here\n");
    let error = connect_config(&ConnectCas::File(empty), None).unwrap_err();
    assert!(matches!(error, TlsError::Empty(_)), "{error}");
    let broken = written(&dir, "broken.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let error = connect_config(&ConnectCas::File(broken), None).unwrap_err();
    assert!(matches!(error, TlsError::Certificate(_, 1, _)), "{error}");
    assert!(error.to_string().contains("broken.pem"));
}

#[test]
fn every_version_is_spoken_and_keys_are_not_logged() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(rustls::ALL_VERSIONS.len(), if cfg!(feature = "tls12") { 2 } else { 1 });
    for version in rustls::ALL_VERSIONS {
        let site = Site::with_versions(&[dns("connect.example.com")], &[version]);
        let path = written(&dir, "ca.pem", &site.ca_pem);
        let config = connect_config(&ConnectCas::File(path), None).unwrap();
        assert!(!config.key_log.will_log("CLIENT_RANDOM"));
        assert!(!config.enable_early_data);
        assert!(site.handshake(config, "connect.example.com").is_ok(), "{version:?}");
    }
}

#[test]
fn host_that_no_certificate_can_name_is_refused() {
    assert!(matches!(server_name("not a name"), Err(TlsError::Name(_))));
    assert!(matches!(server_name("a_b"), Ok(ServerName::DnsName(_))));
}

#[test]
fn hash_is_sha256() {
    let hex: String = sha256(b"abc").unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}
