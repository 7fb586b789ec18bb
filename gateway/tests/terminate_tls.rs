//! `terminate-tls` with real sockets: who gets in by a certificate and who is told what, over TLS 1.2 and 1.3, over
//! reloads, and with sessions that clients want to resume. No agent is online here.

#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "not every test needs all of it")]
mod site;

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use adit_gateway::certificates::Certificates;
use adit_gateway::config::Config;
use adit_gateway::gateway::Gateway;
use adit_gateway::identity_key::IdentityKey;
use adit_gateway::listen::{Inherited, Listeners, Serving};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, date_time_ymd,
};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, HandshakeKind, SignatureScheme, SupportedProtocolVersion, version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tracing::subscriber::DefaultGuard;

use site::Site;

/// A gateway that is being served.
struct Running {
    site: Site,
    gateway: Arc<Gateway>,
    serving: Serving,
    shared: SocketAddr,
    tcp: Vec<SocketAddr>,
}

impl Running {
    fn start(endpoints: &str) -> Self {
        Self::at(Site::new(), endpoints)
    }

    fn at(site: Site, endpoints: &str) -> Self {
        let config = parse(&site, endpoints);
        let key = IdentityKey::load_or_create(&config.key_file).unwrap();
        let listeners = Listeners::bind(&config, Inherited::default()).unwrap();
        let certificates = Certificates::new(&config.certificates);
        let gateway = Gateway::new(config, &key).unwrap();
        let (shared, tcp) = (listeners.agents()[0], listeners.tcp());
        let serving = listeners.serve(Arc::clone(&gateway), certificates).unwrap();
        Self { site, gateway, serving, shared, tcp }
    }

    fn reload(&self, endpoints: &str) {
        self.gateway.reload(parse(&self.site, endpoints));
        self.serving.reload(&self.gateway.config());
    }

    async fn connect(&self, config: &Arc<ClientConfig>, name: &str) -> io::Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(self.shared).await?;
        TlsConnector::from(Arc::clone(config)).connect(ServerName::try_from(name.to_owned()).unwrap(), tcp).await
    }

    /// Asks over a connection of its own; the body of the answer, or why there is none.
    async fn ask(&self, config: &Arc<ClientConfig>, name: &str) -> Result<String, String> {
        let mut stream = self.connect(config, name).await.map_err(|error| error.to_string())?;
        ask_on(&mut stream, name).await
    }
}

/// Asks on a connection, which stays open; status and body in one line.
async fn ask_on(stream: &mut TlsStream<TcpStream>, host: &str) -> Result<String, String> {
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    let read = async {
        loop {
            let mut buffer = [0; 4096];
            let len = stream.read(&mut buffer).await.map_err(|error| error.to_string())?;
            answer.extend_from_slice(&buffer[..len]);
            let text = String::from_utf8_lossy(&answer).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                if len == 0 {
                    return Err(format!("closed after {text:?}"));
                }
                continue;
            };
            let length = head.to_ascii_lowercase().split("content-length: ").nth(1).unwrap().to_owned();
            if body.len() == length.split("\r\n").next().unwrap().parse::<usize>().unwrap() {
                return Ok(format!("{} {body}", &head[9..12]));
            }
        }
    };
    timeout(PATIENCE, read).await.unwrap()
}

fn parse(site: &Site, endpoints: &str) -> Config {
    let text = format!(
        "
connect: {{names: [connect.example.com]}}
listeners: {{agents: '127.0.0.1:0', https: '127.0.0.1:0', tls: '127.0.0.1:0', tcp: {{addresses: '127.0.0.1'}}}}
certificates: [{{certificate_file: certificate.pem, private_key_file: private-key.pem}}]
cloud_endpoints: [{endpoints}]
"
    );
    Config::parse(&site.path("gateway.yml"), &text).unwrap_or_else(|errors| panic!("{errors}")).0
}

/// An `https` endpoint that answers what it knows of the client.
fn web(name: &str, terminate: &str) -> String {
    let shown = ["version", "sni", "session_resumed", "client.verified", "client.subject", "client.verification_error"];
    let shown: Vec<String> = shown.iter().map(|name| format!("${{conn.tls.{name}}}")).collect();
    let connect = match terminate {
        "" => String::new(),
        config => format!("on_tcp_connect: [{{actions: [{{type: terminate-tls, config: {{{config}}}}}]}}], "),
    };
    format!(
        "{{url: 'https://{name}', traffic_policy: {{{connect}on_http_request: [{{actions: [{{type: custom-response, \
         config: {{body: '{}'}}}}]}}]}}}}",
        shown.join("|")
    )
}

fn authorities(file: &str) -> String {
    format!("mutual_tls_certificate_authorities: ['{file}']")
}

/// A certificate authority for clients.
struct Authority {
    name: &'static str,
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &'static str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { name, issuer: Issuer::new(params, key), pem }
    }

    /// Writes its certificate where the gateway finds it.
    fn write(&self, site: &Site) -> String {
        let file = format!("{}.pem", self.name);
        site.write(&file, &self.pem);
        file
    }

    fn client(&self, adjust: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = CertificateParams::new(vec!["ann.example.com".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "ann");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2200, 1, 1));
        adjust(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        (vec![certificate], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);
type Versions = &'static [&'static SupportedProtocolVersion];

const V12: Versions = &[&version::TLS12];
const V13: Versions = &[&version::TLS13];
const ANY: Versions = &[&version::TLS13, &version::TLS12];

/// A client that trusts everybody: what the gateway shows is not what is tested here.
fn client(identity: Option<&Identity>, versions: Versions) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting));
    let config = match identity {
        Some((chain, key)) => builder.with_client_auth_cert(chain.clone(), key.clone_key()).unwrap(),
        None => builder.with_no_client_auth(),
    };
    Arc::new(config)
}

#[derive(Debug)]
struct Trusting;

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Collects the log of this thread, on which the tests' runtimes run everything.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn start() -> (Self, DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    /// The lines that were written since it was asked last.
    fn take(&self) -> Vec<String> {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap());
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn client_without_the_right_certificate_is_told_why_and_so_is_the_log() {
    let (log, _guard) = Log::start();
    let (ours, others, site) = (Authority::new("ours"), Authority::new("others"), Site::new());
    let endpoint = web("a.example.com", &authorities(&ours.write(&site)));
    let running = Running::at(site, &endpoint);
    let good = ours.client(|_| ());
    let cases = [
        (None, "CertificateRequired", "it has none"),
        (Some(others.client(|_| ())), "UnknownCA", "from none of the endpoint's authorities"),
        (Some(ours.client(|p| p.not_after = date_time_ymd(2021, 1, 1))), "CertificateExpired", "it has expired"),
        (Some(ours.client(|p| p.not_before = date_time_ymd(2199, 1, 1))), "CertificateExpired", "not valid yet"),
        (
            Some(ours.client(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth])),
            "UnsupportedCertificate",
            "lacks client authentication",
        ),
    ];
    for round in ["at first", "after a reload"] {
        for versions in [V12, V13] {
            for (identity, alert, reason) in &cases {
                log.take();
                let error = running.ask(&client(identity.as_ref(), versions), "a.example.com").await.unwrap_err();
                assert!(error.contains(alert), "{round}, {versions:?}, {reason}: {error}");
                let lines = log.take();
                assert_eq!(lines.len(), 1, "{round}, {versions:?}, {reason}: {lines:#?}");
                assert!(lines[0].contains(reason) && lines[0].contains("a.example.com"), "{lines:?}");
                assert_eq!(lines[0].contains("subject=\"CN=ann\""), identity.is_some(), "{lines:?}");
            }
            let answer = running.ask(&client(Some(&good), versions), "a.example.com").await.unwrap();
            assert!(answer.ends_with("|a.example.com|false|true|CN=ann|"), "{round}: {answer}");
        }
        running.reload(&endpoint);
    }
}

#[tokio::test]
async fn unverified_certificate_gets_in_where_it_may_and_the_policy_sees_it() {
    let (ours, others, site) = (Authority::new("ours"), Authority::new("others"), Site::new());
    let terms = |strategy| format!("{}, mutual_tls_verification_strategy: {strategy}", authorities("ours.pem"));
    ours.write(&site);
    let endpoints = [
        web("any.example.com", &terms("require-any")),
        web("asked.example.com", &terms("request")),
        web("unchecked.example.com", "mutual_tls_verification_strategy: request"),
    ];
    let running = Running::at(site, &endpoints.join(", "));
    let (good, bad) = (ours.client(|_| ()), others.client(|_| ()));
    let doubt = "it is from none of the endpoint's authorities";
    for versions in [V12, V13] {
        let ask = async |identity, name: &str| {
            let answer = running.ask(&client(identity, versions), name).await;
            answer.map(|answer| answer.split_once("false|").unwrap().1.to_owned())
        };
        assert!(ask(None, "any.example.com").await.is_err());
        assert_eq!(ask(Some(&bad), "any.example.com").await.unwrap(), format!("false|CN=ann|{doubt}"));
        assert_eq!(ask(Some(&good), "any.example.com").await.unwrap(), "true|CN=ann|");
        assert_eq!(ask(None, "asked.example.com").await.unwrap(), "false||");
        assert_eq!(ask(Some(&bad), "asked.example.com").await.unwrap(), format!("false|CN=ann|{doubt}"));
        assert_eq!(ask(Some(&good), "asked.example.com").await.unwrap(), "true|CN=ann|");
        assert_eq!(ask(Some(&good), "unchecked.example.com").await.unwrap(), format!("false|CN=ann|{doubt}"));
    }
}

#[tokio::test]
async fn connection_to_another_name_opens_no_endpoint_that_asks_for_more() {
    let (ours, others, site) = (Authority::new("ours"), Authority::new("others"), Site::new());
    let (ours_file, others_file) = (ours.write(&site), others.write(&site));
    let endpoints = [
        web("open.example.com", ""),
        web("a.example.com", &authorities(&ours_file)),
        web("b.example.com", &authorities(&others_file)),
        web("new.example.com", "min_version: '1.3'"),
    ];
    let running = Running::at(site, &endpoints.join(", "));
    let good = ours.client(|_| ());
    let with_old = client(Some(&good), V12);
    for (sni, host, expected) in [
        ("open.example.com", "a.example.com", "421"),
        ("a.example.com", "b.example.com", "421"),
        ("open.example.com", "new.example.com", "421"),
        ("a.example.com", "open.example.com", "200"),
        ("a.example.com", "a.example.com", "200"),
    ] {
        let mut stream = running.connect(&with_old, sni).await.unwrap();
        let answer = ask_on(&mut stream, host).await.unwrap();
        assert!(answer.starts_with(expected), "{sni} {host}: {answer}");
        // What is refused is one request.
        assert!(ask_on(&mut stream, sni).await.unwrap().starts_with("200"), "{sni} {host}");
    }
}

#[tokio::test]
async fn terms_that_hang_on_the_name_are_those_of_the_name_that_the_request_is_for() {
    let (ours, site) = (Authority::new("ours"), Site::new());
    let file = ours.write(&site);
    let always = web("*.example.com", &authorities(&file));
    let sometimes = always.replace(
        "[{actions: [{type: terminate-tls",
        "[{expressions: [\"conn.tls.sni == 'admin.example.com'\"], actions: [{type: terminate-tls",
    );
    assert_ne!(sometimes, always);
    let running = Running::at(site, &sometimes);
    let anonymous = client(None, V12);
    let mut stream = running.connect(&anonymous, "x.example.com").await.unwrap();
    assert!(ask_on(&mut stream, "x.example.com").await.unwrap().starts_with("200"));
    let answer = ask_on(&mut stream, "admin.example.com").await.unwrap();
    assert!(answer.starts_with("421"), "{answer}");
}

#[tokio::test]
async fn reload_takes_effect_on_open_connections_where_it_changes_who_gets_in() {
    let (ours, others, site) = (Authority::new("ours"), Authority::new("others"), Site::new());
    let (ours_file, others_file) = (ours.write(&site), others.write(&site));
    let endpoint = web("a.example.com", &authorities(&ours_file));
    let running = Running::at(site, &endpoint);
    let config = client(Some(&ours.client(|_| ())), ANY);
    let mut stream = running.connect(&config, "a.example.com").await.unwrap();
    assert!(ask_on(&mut stream, "a.example.com").await.unwrap().starts_with("200"));
    running.reload(&endpoint);
    assert!(ask_on(&mut stream, "a.example.com").await.unwrap().starts_with("200"));
    running.reload(&web("a.example.com", &authorities(&others_file)));
    assert!(ask_on(&mut stream, "a.example.com").await.unwrap().starts_with("421"));
    assert!(running.ask(&config, "a.example.com").await.is_err());
}

/// Each client keeps the tickets that it gets, and offers them again under the same name.
#[tokio::test]
async fn no_ticket_gets_past_a_certificate_that_is_asked_for() {
    let (ours, others, site) = (Authority::new("ours"), Authority::new("others"), Site::new());
    let (ours_file, others_file) = (ours.write(&site), others.write(&site));
    for versions in [V12, V13] {
        let site = Site::new();
        ours.write(&site);
        others.write(&site);
        let name = "a.example.com";
        let open = web(name, "min_version: '1.2'");
        let running = Running::at(site, &open);
        let kind = async |config: &Arc<ClientConfig>| {
            let mut stream = running.connect(config, name).await.map_err(|error| error.to_string())?;
            ask_on(&mut stream, name).await?;
            Ok::<_, String>(stream.get_ref().1.handshake_kind().unwrap())
        };
        // Tickets do work, so that what follows means something.
        let anonymous = client(None, versions);
        assert_eq!(kind(&anonymous).await.unwrap(), HandshakeKind::Full);
        assert_eq!(kind(&anonymous).await.unwrap(), HandshakeKind::Resumed, "{versions:?}");
        // One of before, from the default and from an endpoint that asked for nothing.
        for before in [&open, &web(name, "")] {
            running.reload(before);
            let anonymous = client(None, versions);
            kind(&anonymous).await.unwrap();
            running.reload(&web(name, &authorities(&ours_file)));
            assert!(kind(&anonymous).await.is_err(), "{versions:?}");
        }
        // Of the endpoint itself, and from before its authorities were changed.
        let known = client(Some(&ours.client(|_| ())), versions);
        for _ in 0..2 {
            assert_eq!(kind(&known).await.unwrap(), HandshakeKind::Full, "{versions:?}");
        }
        running.reload(&web(name, &authorities(&others_file)));
        assert!(kind(&known).await.is_err(), "{versions:?}");
        // A client without a store is no different: it is the gateway that decides.
        let mut config = ClientConfig::clone(&known);
        config.resumption = Resumption::disabled();
        assert!(kind(&Arc::new(config)).await.is_err(), "{versions:?}");
    }
    drop(site);
}

#[tokio::test]
async fn endpoint_has_its_own_versions_and_certificate() {
    let site = Site::new();
    site.write_certificate("own-", &["own.example.com"], |_| ());
    let own = "server_certificate: own-certificate.pem, server_private_key: own-private-key.pem";
    let endpoints = [
        web("own.example.com", own),
        web("new.example.com", "min_version: 1.3"),
        web("old.example.com", "max_version: '1.2'"),
    ];
    let running = Running::at(site, &endpoints.join(", "));
    let shown = async |name: &str| {
        let stream = running.connect(&client(None, ANY), name).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone()
    };
    let gateways = shown("new.example.com").await;
    assert_ne!(shown("own.example.com").await, gateways);
    assert_eq!(shown("other.example.com").await, gateways);
    for (name, versions, expected) in [
        ("new.example.com", V13, Ok("1.3")),
        ("new.example.com", V12, Err("ProtocolVersion")),
        ("old.example.com", V12, Ok("1.2")),
        ("old.example.com", V13, Err("ProtocolVersion")),
        ("old.example.com", ANY, Ok("1.2")),
        ("own.example.com", ANY, Ok("1.3")),
    ] {
        match (running.ask(&client(None, versions), name).await, expected) {
            (Ok(answer), Ok(version)) => assert!(answer.starts_with(&format!("200 {version}|")), "{name}: {answer}"),
            (Err(error), Err(alert)) => assert!(error.contains(alert), "{name}: {error}"),
            (answer, expected) => panic!("{name}, {versions:?}: {answer:?} instead of {expected:?}"),
        }
    }
}

fn raw(url: &str, terminate: &str) -> String {
    let scheme = url.split(':').next().unwrap();
    format!(
        "{{url: '{url}', traffic_policy: {{on_tcp_connect: [{{actions: [{{type: terminate-tls, config: {{{terminate}}}}}]}}, \
         {{expressions: ['conn.tls.client.verified'], actions: [{{type: forward-internal, config: {{url: \
         '{scheme}://x.internal:7000'}}}}]}}, {{actions: [{{type: deny}}]}}]}}}}"
    )
}

#[tokio::test]
async fn tls_and_tcp_endpoints_end_tls_before_they_decide() {
    let (log, _guard) = Log::start();
    let (ours, others, site) = (Authority::new("ours"), Authority::new("others"), Site::new());
    let terms = authorities(&ours.write(&site));
    let port = StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let endpoints = [raw("tls://db.example.com", &terms), raw(&format!("tcp://connect.example.com:{port}"), &terms)];
    let running = Running::at(site, &endpoints.join(", "));
    let (good, bad) = (ours.client(|_| ()), others.client(|_| ()));
    for address in [running.shared, running.tcp[0]] {
        for versions in [V12, V13] {
            let attempt = async |identity| {
                let config = client(identity, versions);
                let tcp = TcpStream::connect(address).await.unwrap();
                let name = ServerName::try_from("db.example.com").unwrap();
                let mut stream =
                    TlsConnector::from(config).connect(name, tcp).await.map_err(|error| error.to_string())?;
                let mut rest = Vec::new();
                let read = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap();
                read.map_err(|error| error.to_string())
            };
            log.take();
            assert!(attempt(Some(&bad)).await.unwrap_err().contains("UnknownCA"));
            let lines = log.take();
            assert_eq!(lines.len(), 1, "{lines:#?}");
            assert!(lines[0].contains("from none of the endpoint's authorities"), "{lines:?}");
            // Nobody has the internal endpoint: an end that is not clean.
            let error = attempt(Some(&good)).await.unwrap_err();
            assert!(error.contains("reset"), "{address} {versions:?}: {error}");
            assert_eq!(log.take(), Vec::<String>::new());
        }
    }
}

#[tokio::test]
async fn only_protocol_that_a_client_offers_is_taken_where_the_upstream_has_to_know_it() {
    let running = Running::start(&raw("tls://db.example.com", "min_version: '1.2'"));
    for (offered, taken) in [
        (vec![b"postgresql".to_vec()], Some(&b"postgresql"[..])),
        (vec![b"h2".to_vec(), b"http/1.1".to_vec()], None),
        (Vec::new(), None),
    ] {
        let mut config = ClientConfig::clone(&client(None, ANY));
        config.alpn_protocols = offered;
        let stream = running.connect(&Arc::new(config), "db.example.com").await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), taken);
    }
}

/// So long nothing takes.
const PATIENCE: Duration = Duration::from_secs(20);
