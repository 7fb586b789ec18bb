//! `adit-gateway dev` as a process, for tests.

#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A running `dev`. Dropping it kills it.
pub(crate) struct Dev {
    child: Child,
    /// The line that it printed.
    pub(crate) ready: Value,
    /// Where it has its temporary directory.
    pub(crate) temporary: TempDir,
}

impl Dev {
    /// Starts it and waits until it says that traffic flows.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_adit-gateway"))
            .args(["dev", "--ready-json"])
            .args(arguments)
            .env("TMPDIR", temporary.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let (send, line) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            out.read_line(&mut line).unwrap();
            // The pipe stays open as long as somebody may want to write to it.
            send.send(line).unwrap();
            std::io::copy(&mut out, &mut std::io::sink())
        });
        let line = line.recv_timeout(PATIENCE).expect("dev is ready in time");
        Self { child, ready: serde_json::from_str(&line).expect("one line of JSON"), temporary }
    }

    pub(crate) fn text(&self, key: &str) -> &str {
        self.ready[key].as_str().unwrap_or_else(|| panic!("{key} is a string in {}", self.ready))
    }

    pub(crate) fn address(&self, key: &str) -> SocketAddr {
        self.text(key).parse().unwrap()
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        PathBuf::from(self.text("ca_file"))
    }

    /// What `--ready-json` says a service is reached at, in its order.
    pub(crate) fn endpoints(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let list = self.ready["endpoints"].as_array().unwrap();
        list.iter().map(|entry| (text(&entry["url"]), text(&entry["forwards_to"]))).collect()
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn end(&mut self, signal: &str) -> ExitStatus {
        let sent = Command::new("kill").args(["-s", signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "dev ends after SIG{signal}");
            std::thread::sleep(STEP);
        }
    }

    pub(crate) async fn tls(&self, listener: &str, host: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(self.address(listener)).await?;
        connector(&self.ca_file()).connect(ServerName::try_from(host.to_owned()).unwrap(), tcp).await
    }

    /// Makes one request over TLS and HTTP/1.1.
    pub(crate) async fn ask(&self, host: &str, request: Request<Full<Bytes>>) -> Response<Bytes> {
        ask(self.tls("https", host).await.unwrap(), request).await
    }

    /// Asks with GET for `/` until the answer has this status.
    pub(crate) async fn ask_until(&self, host: &str, status: u16) -> Response<Bytes> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let request = Request::get("/").header("host", host).body(Full::default()).unwrap();
            let response = self.ask(host, request).await;
            if response.status() == status {
                return response;
            }
            assert!(Instant::now() < deadline, "{host} answers {status} and not {response:?}");
            tokio::time::sleep(STEP).await;
        }
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes one request over HTTP/1.1.
pub(crate) async fn ask<IO>(io: IO, request: Request<Full<Bytes>>) -> Response<Bytes>
where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.unwrap();
    let connection = tokio::spawn(connection);
    let (head, body) = sender.send_request(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    drop(sender);
    connection.abort();
    Response::from_parts(head, body)
}

/// Trusts one authority and nothing else.
pub(crate) fn connector(ca_file: &Path) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca_file).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

/// Only a failing test waits as long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at something that has no way to call.
const STEP: Duration = Duration::from_millis(10);
