//! The official SDK for Rust, unmodified, as an agent of `adit-gateway dev`.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod dev_process;

use std::time::Instant;

use bytes::Bytes;
use dev_process::{Dev, PATIENCE, connector};
use futures::TryStreamExt;
use http::Request;
use http_body_util::Full;
use ngrok::config::{ForwarderBuilder, TunnelBuilder};
use ngrok::prelude::{EndpointInfo, Error, TunnelCloser};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use url::Url;

async fn session(dev: &Dev, token: &str) -> Result<ngrok::Session, ngrok::session::ConnectError> {
    // The SDK takes what the process has; without a choice, it finds two providers in this test and takes none.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = ngrok::Session::builder();
    builder.server_addr(dev.text("connect_url")).unwrap();
    builder.root_cas(dev.text("ca_file")).unwrap().authtoken(token);
    timeout(PATIENCE, builder.connect()).await.expect("the SDK connects or gives up")
}

async fn connected(dev: &Dev) -> ngrok::Session {
    session(dev, dev.text("authtoken")).await.unwrap()
}

/// Where dev's own service listens: the upstream of the SDK's endpoints.
fn service(dev: &Dev) -> Url {
    dev.endpoints()[0].1.parse().unwrap()
}

fn post(host: &str, body: Bytes) -> Request<Full<Bytes>> {
    Request::post("/").header("host", host).body(Full::new(body)).unwrap()
}

/// Sends back what comes, in upper case, until the visitor ends.
async fn shout<IO: AsyncRead + AsyncWrite + Unpin>(mut io: IO) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let len = io.read(&mut buffer).await?;
        if len == 0 {
            return io.shutdown().await;
        }
        io.write_all(&buffer[..len].to_ascii_uppercase()).await?;
    }
}

async fn hear<IO: AsyncRead + AsyncWrite + Unpin>(visitor: &mut IO, said: &[u8]) -> std::io::Result<Vec<u8>> {
    visitor.write_all(said).await?;
    let mut heard = vec![0; said.len()];
    timeout(PATIENCE, visitor.read_exact(&mut heard)).await.expect("an answer in time")?;
    Ok(heard)
}

/// Visits until the first answer: the SDK returns from its bind a moment before the gateway has heard that it did, and
/// who comes within that moment finds nobody.
async fn expect_shout<IO, F>(visit: impl Fn() -> F)
where
    IO: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = std::io::Result<IO>>,
{
    let deadline = Instant::now() + PATIENCE;
    let mut visitor = loop {
        let attempt = async {
            let mut visitor = visit().await?;
            hear(&mut visitor, b"hello").await.map(|heard| (visitor, heard))
        };
        match attempt.await {
            Ok((visitor, heard)) => {
                assert_eq!(heard, b"HELLO");
                break visitor;
            }
            Err(error) => assert!(Instant::now() < deadline, "the endpoint is reached: {error}"),
        }
    };
    assert_eq!(hear(&mut visitor, b"again").await.unwrap(), b"AGAIN");
    visitor.shutdown().await.unwrap();
    let mut rest = Vec::new();
    timeout(PATIENCE, visitor.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!(rest.is_empty());
}

#[tokio::test]
async fn https_endpoint_carries_both_ways_and_its_unbind_is_seen() {
    let dev = Dev::start(&[]);
    let session = connected(&dev).await;
    let mut first = session.http_endpoint().domain("a.localhost").listen_and_forward(service(&dev)).await.unwrap();
    let second = session.http_endpoint().domain("b.localhost").listen_and_forward(service(&dev)).await.unwrap();
    assert_eq!((first.url(), second.url()), ("https://a.localhost", "https://b.localhost"));
    for host in ["a.localhost", "b.localhost"] {
        dev.ask_until(host, 200).await;
        let response = dev.ask(host, post(host, Bytes::from(vec![b'x'; 300_000]))).await;
        let text = String::from_utf8(response.body().to_vec()).unwrap();
        assert!(text.contains("300000 bytes in the body") && text.contains(&format!("host: {host}")), "{text}");
    }

    first.close().await.unwrap();
    let response = dev.ask("a.localhost", post("a.localhost", Bytes::new())).await;
    assert!([502, 503].contains(&response.status().as_u16()), "{response:?}");
    assert_eq!(response.headers()["ngrok-error-code"], "ERR_NGROK_3200");
    dev.ask_until("b.localhost", 200).await;
}

#[tokio::test]
async fn upstream_that_is_down_gives_an_error_and_not_silence() {
    let dev = Dev::start(&[]);
    let session = connected(&dev).await;
    // Its port was free a moment ago, and nobody listens there now.
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let upstream = Url::parse(&format!("http://{closed}")).unwrap();
    let _down = session.http_endpoint().domain("down.localhost").listen_and_forward(upstream).await.unwrap();
    let response = timeout(PATIENCE, dev.ask_until("down.localhost", 502)).await.unwrap();
    assert!(response.headers().contains_key("ngrok-error-code"), "{response:?}");
}

#[tokio::test]
async fn tcp_endpoint_gets_a_free_port_and_carries_both_ways() {
    let dev = Dev::start(&[]);
    let session = connected(&dev).await;
    let mut endpoint = session.tcp_endpoint().listen().await.unwrap();
    let url = Url::parse(endpoint.url()).unwrap();
    assert_eq!(url.scheme(), "tcp");
    let service = tokio::spawn(async move {
        let conn = endpoint.try_next().await.unwrap().unwrap();
        shout(conn).await.unwrap();
        endpoint
    });
    let port = url.port().unwrap();
    expect_shout(|| TcpStream::connect(("127.0.0.1", port))).await;
    service.await.unwrap();
}

#[tokio::test]
async fn tls_endpoint_passes_through_to_the_certificate_of_the_agent() {
    let dev = Dev::start(&[]);
    let session = connected(&dev).await;
    let own = rcgen::generate_simple_self_signed(vec!["own.localhost".to_owned()]).unwrap();
    let ca_file = dev.temporary.path().join("own.crt");
    std::fs::write(&ca_file, own.cert.pem()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(server));
    let mut endpoint = session.tls_endpoint().domain("own.localhost").listen().await.unwrap();
    assert_eq!(endpoint.url(), "tls://own.localhost");
    let service = tokio::spawn(async move {
        let conn = endpoint.try_next().await.unwrap().unwrap();
        shout(acceptor.accept(conn).await.unwrap()).await.unwrap();
        endpoint
    });
    let connector = connector(&ca_file);
    expect_shout(|| async {
        let tcp = TcpStream::connect(dev.address("tls")).await?;
        let name = ServerName::try_from("own.localhost").unwrap();
        timeout(PATIENCE, connector.connect(name, tcp)).await.expect("a handshake in time")
    })
    .await;
    service.await.unwrap();
}

#[tokio::test]
async fn bad_token_is_refused_with_its_code() {
    let dev = Dev::start(&[]);
    // Of the right form, with another secret.
    let good = dev.text("authtoken");
    let (id, secret) = good.rsplit_once('_').unwrap();
    let bad = format!("{id}_{}", "a".repeat(secret.len()));
    let error = session(&dev, &bad).await.err().expect("the token is refused");
    assert_eq!(error.error_code(), Some("ERR_NGROK_107"), "{error:?}");
}
