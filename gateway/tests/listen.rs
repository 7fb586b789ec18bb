//! The listeners with real sockets: who answers, and what the limits and the drain do. No agent is online here.

#![allow(clippy::unwrap_used)]

mod site;

use std::fs;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use adit::proxy_protocol::ProxyProtocol;
use adit_gateway::access_log::Place;
use adit_gateway::certificates::Certificates;
use adit_gateway::config::Config;
use adit_gateway::gateway::Gateway;
use adit_gateway::identity_key::IdentityKey;
use adit_gateway::ledger::{AccessLogConfig, LedgerConfig};
use adit_gateway::listen::{Inherited, Listeners, Serving};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CipherSuite, ClientConfig, RootCertStore};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use site::Site;

/// A gateway that is being served.
struct Running {
    site: Site,
    gateway: Arc<Gateway>,
    serving: Serving,
    shared: SocketAddr,
    http: SocketAddr,
    tcp: Vec<SocketAddr>,
}

impl Running {
    fn start(more: &str) -> Self {
        Self::start_behind("", more)
    }

    /// `proxies` is what the file says of proxies.
    fn start_behind(proxies: &str, more: &str) -> Self {
        let site = Site::new();
        let config = parse_behind(&site, proxies, more);
        let key = IdentityKey::load_or_create(&config.key_file).unwrap();
        let listeners = Listeners::bind(&config, Inherited::default()).unwrap();
        let certificates = Certificates::new(&config.certificates);
        let gateway = Gateway::new(config, &key).unwrap();
        let (shared, http, tcp) = (listeners.agents()[0], listeners.http()[0], listeners.tcp());
        assert_eq!((listeners.https()[0], listeners.tls()[0]), (shared, shared));
        let serving = listeners.serve(Arc::clone(&gateway), certificates).unwrap();
        Self { site, gateway, serving, shared, http, tcp }
    }

    async fn tls(&self, name: &str, protocols: &[&[u8]]) -> Result<TlsStream<TcpStream>, std::io::Error> {
        self.tls_behind(b"", name, protocols).await
    }

    /// TLS after a PROXY header.
    async fn tls_behind(
        &self,
        header: &[u8],
        name: &str,
        protocols: &[&[u8]],
    ) -> Result<TlsStream<TcpStream>, std::io::Error> {
        let mut roots = RootCertStore::empty();
        let pem = fs::read(self.site.path("certificate.pem")).unwrap();
        roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let mut tcp = TcpStream::connect(self.shared).await?;
        tcp.write_all(header).await?;
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(name.to_owned()).unwrap(), tcp).await
    }
}

fn parse(site: &Site, more: &str) -> Config {
    parse_behind(site, "", more)
}

fn parse_behind(site: &Site, proxies: &str, more: &str) -> Config {
    let text = format!(
        "
connect: {{names: [connect.example.com]}}
listeners: {{agents: '127.0.0.1:0', https: '127.0.0.1:0', tls: '127.0.0.1:0', http: '127.0.0.1:0', tcp: {{addresses: '127.0.0.1'}}{proxies}}}
certificates: [{{certificate_file: certificate.pem, private_key_file: private-key.pem}}]
{more}
"
    );
    Config::parse(&site.path("gateway.yml"), &text).unwrap().0
}

/// A port that nothing listens on just now.
fn free_port() -> u16 {
    StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Everything that comes until the end of the connection, or how it broke.
async fn rest(io: &mut (impl AsyncReadExt + Unpin)) -> Result<Vec<u8>, std::io::Error> {
    let mut bytes = Vec::new();
    timeout(PATIENCE, io.read_to_end(&mut bytes)).await.unwrap()?;
    Ok(bytes)
}

fn tcp_endpoint(port: u16) -> String {
    format!(
        "cloud_endpoints: [{{url: 'tcp://connect.example.com:{port}', traffic_policy: {{on_tcp_connect: [{{actions: \
         [{{type: forward-internal, config: {{url: 'tcp://db.internal:5432'}}}}]}}]}}}}]"
    )
}

const TLS_ENDPOINT: &str = "cloud_endpoints: [{url: 'tls://db.example.com', traffic_policy: {on_tcp_connect: [{actions: \
                            [{type: forward-internal, config: {url: 'tls://db.internal'}}]}]}}]";

/// Who connects here is trusted.
const TRUSTED: &str = ", trusted_proxies: {networks: [127.0.0.1]}";
/// Endpoints that say whom they see.
const WHO: &str = "
cloud_endpoints:
  - {url: 'http://who.example.com', traffic_policy: &who {on_http_request: [{actions: [{type: custom-response, config: \
                   {body: '${conn.client_ip}:${conn.client_port} at ${conn.server_ip}'}}]}]}}
  - {url: 'https://who.example.com', traffic_policy: *who}
";

/// The body of the one answer on a connection.
async fn body(io: &mut (impl AsyncReadExt + Unpin)) -> String {
    let answer = String::from_utf8(rest(io).await.unwrap()).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
    body.to_owned()
}

#[tokio::test]
async fn web_name_gets_http_by_alpn_and_an_answer() {
    let running = Running::start("");
    let stream = running.tls("www.example.com", &[b"h2", b"http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut stream = running.tls("www.example.com", &[b"http/1.1"]).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: www.example.com\r\nConnection: close\r\n\r\n").await.unwrap();
    let answer = String::from_utf8(rest(&mut stream).await.unwrap()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("3200"), "{answer}");
}

/// An agent on a CPU without AES instructions must not be made to do without them.
#[tokio::test]
async fn gateway_takes_the_cipher_that_the_agent_offers_first() {
    let running = Running::start("");
    for (ciphers, expected) in
        [("aes", CipherSuite::TLS13_AES_128_GCM_SHA256), ("chacha20", CipherSuite::TLS13_CHACHA20_POLY1305_SHA256)]
    {
        let agent = serde_json::json!({
            "authtoken": "tok_1",
            "connect_url": running.shared.to_string(),
            "connect_cas": running.site.path("certificate.pem"),
            "tls_ciphers": ciphers,
        });
        let file = serde_json::json!({"version": 3, "agent": agent}).to_string();
        let file = running.site.write("adit.json", &file);
        let (config, _) = adit::config::Config::load(&file, &|_| None).unwrap();
        let connector = TlsConnector::from(adit::tls::connect_config(&config.agent).unwrap());
        let tcp = TcpStream::connect(running.shared).await.unwrap();
        let name = adit::tls::server_name("connect.example.com").unwrap();
        let stream = connector.connect(name, tcp).await.unwrap();
        assert_eq!(stream.get_ref().1.negotiated_cipher_suite().map(|suite| suite.suite()), Some(expected));
    }
}

#[tokio::test]
async fn plain_http_is_answered_on_its_own_socket() {
    let running = Running::start("");
    let mut stream = TcpStream::connect(running.http).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: www.example.com\r\nConnection: close\r\n\r\n").await.unwrap();
    let answer = String::from_utf8(rest(&mut stream).await.unwrap()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
}

/// Everything in a log, once it has so many lines.
async fn lines(file: &Path, count: usize) -> Vec<Value> {
    let read = async {
        loop {
            let text = std::fs::read_to_string(file).unwrap();
            if text.lines().count() >= count && text.ends_with('\n') {
                return text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, read).await.unwrap()
}

#[tokio::test]
async fn access_log_has_a_line_for_each_request_and_connection_without_queries() {
    let running = Running::start(&format!(
        "{WHO}  - {}",
        tcp_endpoint(free_port()).split_once('[').unwrap().1.trim_end_matches(']')
    ));
    let file = running.site.path("access.log");
    let access = AccessLogConfig { place: Place::File(file.clone()), has_query: false };
    running.gateway.ledger().start_logs(&LedgerConfig { access: Some(access), audit: None }).unwrap();
    let mut stream = TcpStream::connect(running.http).await.unwrap();
    let both = "GET /a?secret HTTP/1.1\r\nHost: who.example.com\r\n\r\n\
                GET /b HTTP/1.1\r\nHost: nobody.example.com\r\nConnection: close\r\n\r\n";
    stream.write_all(both.as_bytes()).await.unwrap();
    let answers = String::from_utf8(rest(&mut stream).await.unwrap()).unwrap();
    let mut stream = TcpStream::connect(running.tcp[0]).await.unwrap();
    rest(&mut stream).await.unwrap_err();
    let lines = lines(&file, 3).await;
    let [first, second, third] = &lines[..] else { panic!("{lines:?}") };
    for (line, expected) in [
        (
            first,
            json!({"kind": "request", "scheme": "http", "method": "GET", "host": "who.example.com", "path": "/a",
            "version": "1.1", "account": "main", "endpoint": "http://who.example.com", "verdict": "respond",
            "rule": {"endpoint": "http://who.example.com", "phase": "on_http_request", "rule": "0"}, "status": 200,
            "received": 0, "end": "done"}),
        ),
        (
            second,
            json!({"kind": "request", "path": "/b", "verdict": "continue", "status": 503, "error": "ERR_NGROK_3200",
            "end": "done"}),
        ),
        (
            third,
            json!({"kind": "connection", "scheme": "tcp", "verdict": "forward", "error": "ERR_NGROK_3200",
            "received": 0, "sent": 0, "end": "done"}),
        ),
    ] {
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(&line[key], value, "{key} in {line}");
        }
        assert!(line["ms"]["total"].as_f64().unwrap() >= line["ms"]["policy"].as_f64().unwrap(), "{line}");
        assert!(OffsetDateTime::parse(line["time"].as_str().unwrap(), &Rfc3339).is_ok(), "{line}");
    }
    assert!(!lines.iter().any(|line| line.to_string().contains("secret")));
    assert_eq!(first["id"], second["id"]);
    assert!(third["id"].as_u64() > first["id"].as_u64());
    let bodies = answers.split("\r\n\r\n").skip(1).map(|body| body.split("HTTP/1.1 ").next().unwrap().len());
    assert_eq!(bodies.sum::<usize>() as u64, first["sent"].as_u64().unwrap() + second["sent"].as_u64().unwrap());
    let text = running.gateway.metrics_text();
    for sample in [
        "adit_http_requests_total{status=\"2xx\"} 1",
        "adit_http_requests_total{status=\"5xx\"} 1",
        "adit_failures_total{code=\"3200\"} 2",
        "adit_visitor_connections_total{scheme=\"tcp\"} 1",
        &format!("adit_visitor_received_bytes_total{{scheme=\"http\"}} {}", both.len()),
        &format!("adit_visitor_sent_bytes_total{{scheme=\"http\"}} {}", answers.len()),
        "adit_policy_verdicts_total{endpoint=\"http://who.example.com\",phase=\"on_http_request\",rule=\"0\",\
         verdict=\"respond\"} 1",
        "adit_http_request_seconds_count 2",
    ] {
        assert!(text.contains(&format!("\n{sample}\n")), "{sample}: {text}");
    }
}

#[tokio::test]
async fn connect_name_goes_to_agents_without_a_protocol() {
    let running = Running::start("");
    // An agent that is not heard of by HTTP: the session waits for a log-in and says nothing to a request.
    let mut stream = running.tls("connect.example.com", &[]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), None);
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let answer = rest(&mut stream).await.unwrap_or_default();
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}

#[tokio::test]
async fn name_of_a_tls_endpoint_is_not_answered_by_the_gateway() {
    let running = Running::start(TLS_ENDPOINT);
    // Nobody has the internal endpoint, so the connection is cut; the gateway's own certificate would have fitted.
    running.tls("db.example.com", &[b"h2"]).await.unwrap_err();
    running.tls("other.example.com", &[b"h2"]).await.unwrap();
}

#[tokio::test]
async fn acme_tls_is_refused_with_an_alert() {
    let running = Running::start("");
    let error = running.tls("www.example.com", &[b"acme-tls/1"]).await.unwrap_err();
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
}

#[tokio::test]
async fn name_that_is_being_proved_shows_the_proof_to_authorities_and_to_nobody_else() {
    let running = Running::start(TLS_ENDPOINT);
    for name in ["www.example.com", "connect.example.com", "db.example.com"] {
        let pending = running.gateway.challenges().answer_tls(name, &[7; 32]).unwrap();
        // Nobody whom a client trusts has signed the proof.
        let error = running.tls(name, &[b"acme-tls/1"]).await.unwrap_err().to_string();
        assert!(error.contains("invalid peer certificate"), "{name}: {error}");
        running.tls(name, &[b"h2", b"acme-tls/1"]).await.unwrap_err();
        drop(pending);
        let error = running.tls(name, &[b"acme-tls/1"]).await.unwrap_err().to_string();
        assert!(!error.contains("invalid peer certificate"), "{name}: {error}");
    }
    let _pending = running.gateway.challenges().answer_tls("www.example.com", &[7; 32]).unwrap();
    running.tls("www.example.com", &[b"h2"]).await.unwrap();
    running.tls("connect.example.com", &[]).await.unwrap();
}

#[tokio::test]
async fn authority_is_answered_over_http_before_any_policy() {
    let running = Running::start(
        "cloud_endpoints: [{url: 'http://www.example.com', traffic_policy: {on_http_request: [{actions: [{type: deny, \
         config: {status_code: 404}}]}]}}]",
    );
    let _pending = running.gateway.challenges().answer_http("www.example.com", "tok", "tok.print").unwrap();
    let ask = async |method: &str, host: &str, token: &str| {
        let mut stream = TcpStream::connect(running.http).await.unwrap();
        let path = format!("/.well-known/acme-challenge/{token}");
        let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        String::from_utf8(rest(&mut stream).await.unwrap()).unwrap()
    };
    let answer = ask("GET", "www.example.com", "tok").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\ntok.print"), "{answer}");
    assert!(ask("GET", "WWW.example.com:80", "tok").await.ends_with("tok.print"));
    for (method, host, token) in
        [("GET", "www.example.com", "other"), ("GET", "www.example.com", ""), ("POST", "www.example.com", "tok")]
    {
        let answer = ask(method, host, token).await;
        assert!(answer.starts_with("HTTP/1.1 404") && !answer.contains("tok.print"), "{method} {token}: {answer}");
    }
    assert!(ask("GET", "other.example.com", "tok").await.starts_with("HTTP/1.1 503"));
}

#[tokio::test]
async fn silent_client_is_cut_after_the_time_for_its_hello() {
    let running = Running::start("limits: {client_hello_timeout: 1s}");
    let mut stream = TcpStream::connect(running.shared).await.unwrap();
    assert_eq!(rest(&mut stream).await.unwrap(), b"");
}

#[tokio::test]
async fn tcp_endpoint_without_an_agent_resets() {
    let running = Running::start(&tcp_endpoint(free_port()));
    let mut stream = TcpStream::connect(running.tcp[0]).await.unwrap();
    assert_eq!(rest(&mut stream).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn visitors_beyond_the_limit_are_reset_until_one_has_left() {
    let running = Running::start("limits: {connections_max: 1}");
    let request = b"GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n";
    let mut first = TcpStream::connect(running.http).await.unwrap();
    first.write_all(request).await.unwrap();
    // It is inside as soon as it is answered.
    first.read_u8().await.unwrap();
    let mut second = TcpStream::connect(running.http).await.unwrap();
    assert_eq!(rest(&mut second).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    drop(first);
    timeout(PATIENCE, running.serving.finished()).await.unwrap();
    let mut third = TcpStream::connect(running.http).await.unwrap();
    third.write_all(request).await.unwrap();
    third.read_u8().await.unwrap();
}

#[tokio::test]
async fn visitor_behind_a_trusted_proxy_is_who_the_header_says() {
    let running = Running::start_behind(TRUSTED, WHO);
    let request = b"GET / HTTP/1.1\r\nHost: who.example.com\r\nConnection: close\r\n\r\n";
    for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
        for (source, destination, who) in [
            ("203.0.113.9:4000", "198.51.100.1:443", "203.0.113.9:4000 at 198.51.100.1"),
            ("[2001:db8::9]:4000", "[2001:db8::1]:443", "2001:db8::9:4000 at 2001:db8::1"),
        ] {
            let header = version.encode(source.parse().unwrap(), destination.parse().unwrap());
            let mut stream = TcpStream::connect(running.http).await.unwrap();
            stream.set_nodelay(true).unwrap();
            for byte in [&header[..], request].concat() {
                stream.write_all(&[byte]).await.unwrap();
            }
            assert_eq!(body(&mut stream).await, who, "{version:?}");
            let mut stream = running.tls_behind(&header, "who.example.com", &[b"http/1.1"]).await.unwrap();
            stream.write_all(request).await.unwrap();
            assert_eq!(body(&mut stream).await, who, "{version:?}");
        }
    }
    // What the proxy asks for itself.
    for header in [&b"PROXY UNKNOWN\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"] {
        let mut stream = TcpStream::connect(running.http).await.unwrap();
        stream.write_all(&[header, request].concat()).await.unwrap();
        let own = format!("{} at 127.0.0.1", stream.local_addr().unwrap());
        assert_eq!(body(&mut stream).await, own);
    }
}

#[tokio::test]
async fn trusted_proxy_without_a_usable_header_is_reset_at_every_listener() {
    let port = free_port();
    let running = Running::start_behind(TRUSTED, &tcp_endpoint(port));
    for address in [running.http, running.shared, running.tcp[0]] {
        for bytes in
            [&b"GET / HTTP/1.1\r\nHost: who.example.com\r\n\r\n"[..], b"PROXY TCP4 1.2.3.4\r\n", b"\x16\x03\x01"]
        {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(bytes).await.unwrap();
            assert_eq!(rest(&mut stream).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset, "{address}");
        }
    }
    running.tls("who.example.com", &[b"http/1.1"]).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn silent_trusted_proxy_is_reset_after_a_while() {
    let running = Running::start_behind(TRUSTED, "");
    let mut stream = TcpStream::connect(running.http).await.unwrap();
    stream.write_all(b"PROXY TCP4 ").await.unwrap();
    let mut bytes = Vec::new();
    assert_eq!(stream.read_to_end(&mut bytes).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn header_of_a_stranger_is_no_header() {
    let header = ProxyProtocol::V1.encode("203.0.113.9:4000".parse().unwrap(), "198.51.100.1:443".parse().unwrap());
    let request = b"GET / HTTP/1.1\r\nHost: who.example.com\r\nConnection: close\r\n\r\n";
    for proxies in
        ["", ", trusted_proxies: {networks: [192.0.2.0/24]}", ", trusted_proxies: {networks: [127.0.0.1], ports: 1}"]
    {
        let running = Running::start_behind(proxies, WHO);
        let mut stream = TcpStream::connect(running.http).await.unwrap();
        stream.write_all(&[&header[..], request].concat()).await.unwrap();
        let answer = String::from_utf8(rest(&mut stream).await.unwrap()).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400") && !answer.contains("203.0.113.9"), "{answer}");
        running.tls_behind(&header, "who.example.com", &[b"http/1.1"]).await.unwrap_err();
        let mut stream = TcpStream::connect(running.http).await.unwrap();
        stream.write_all(request).await.unwrap();
        assert!(body(&mut stream).await.starts_with("127.0.0.1:"));
        // A reload says who is trusted from now on.
        running.gateway.reload(parse_behind(&running.site, TRUSTED, WHO));
        let mut stream = TcpStream::connect(running.http).await.unwrap();
        stream.write_all(&[&header[..], request].concat()).await.unwrap();
        assert!(body(&mut stream).await.starts_with("203.0.113.9:"));
    }
}

#[tokio::test]
async fn reload_opens_and_closes_the_ports_of_tcp_endpoints() {
    let running = Running::start("");
    let port = free_port();
    running.gateway.reload(parse(&running.site, &tcp_endpoint(port)));
    running.serving.reload(&running.gateway.config());
    TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    running.gateway.reload(parse(&running.site, ""));
    running.serving.reload(&running.gateway.config());
    refused(([127, 0, 0, 1], port).into()).await;
}

#[tokio::test]
async fn stop_closes_the_sockets_and_leaves_connections_alone() {
    let running = Running::start("");
    let mut stream = TcpStream::connect(running.http).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    running.tls("www.example.com", &[]).await.unwrap();
    running.serving.stop();
    refused(running.shared).await;
    refused(running.http).await;
    stream.write_all(b"Host: www.example.com\r\nConnection: close\r\n\r\n").await.unwrap();
    assert!(rest(&mut stream).await.unwrap().starts_with(b"HTTP/1.1 503"));
}

#[tokio::test]
async fn occupied_address_is_named_with_its_key() {
    let site = Site::new();
    let holder = StdListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap();
    let text = site::SMALLEST.replace("127.0.0.1:0", &address.to_string());
    let config = Config::parse(&site.path("gateway.yml"), &text).unwrap().0;
    let error = Listeners::bind(&config, Inherited::default()).unwrap_err().to_string();
    assert!(error.starts_with(&format!("listeners.agents: {address} cannot be opened")), "{error}");
    // The same socket, handed over, is used.
    let inherited = Inherited::default();
    inherited.add(holder).unwrap();
    assert_eq!(Listeners::bind(&config, inherited).unwrap().agents(), [address]);
}

/// Waits until nobody listens at an address.
async fn refused(address: SocketAddr) {
    let refused = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, refused).await.unwrap();
}

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);
