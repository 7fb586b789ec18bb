//! The embedded default, as a process: what it prints, that it serves, and that nothing is left of it.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod dev_process;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use bytes::Bytes;
use dev_process::{Dev, ask};
use http::Request;
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

fn post(host: &str, body: &'static str) -> Request<Full<Bytes>> {
    Request::post("/path?x=1").header("host", host).header("x-colour", "green").body(Full::from(body)).unwrap()
}

#[tokio::test]
async fn built_in_service_answers_over_https_and_http_and_leaves_nothing_behind() {
    let mut dev = Dev::start(&[]);
    let urls: Vec<_> = dev.endpoints().into_iter().map(|(url, _)| url).collect();
    assert_eq!(urls, ["https://web.localhost", "http://web.localhost"]);

    let plain = TcpStream::connect(dev.address("http")).await.unwrap();
    for response in [
        dev.ask("web.localhost", post("web.localhost", "a body")).await,
        ask(plain, post("web.localhost", "a body")).await,
    ] {
        let text = String::from_utf8(response.body().to_vec()).unwrap();
        assert_eq!(response.status(), 200, "{text}");
        for says in ["POST /path?x=1", "x-colour: green", "x-forwarded-for: 127.0.0.1", "6 bytes in the body:\na body"]
        {
            assert!(text.contains(says), "{says} is not in {text}");
        }
    }

    let directory = dev.ca_file().parent().unwrap().to_owned();
    assert!(directory.starts_with(dev.temporary.path()));
    assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(dev.end("TERM").code(), Some(0));
    assert_eq!(fs::read_dir(dev.temporary.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn tcp_and_tls_upstreams_get_the_visitors_bytes() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = upstream.local_addr().unwrap().port();
    let mut dev = Dev::start(&["--upstream", &format!("tcp://127.0.0.1:{port}")]);
    let [(url, forwards_to)] = &dev.endpoints()[..] else { panic!("{}", dev.ready) };
    assert_eq!(*forwards_to, format!("tcp://127.0.0.1:{port}"));

    let mut visitor = TcpStream::connect(url.strip_prefix("tcp://").unwrap()).await.unwrap();
    visitor.write_all(b"question").await.unwrap();
    visitor.shutdown().await.unwrap();
    let (mut service, _) = upstream.accept().await.unwrap();
    let mut question = Vec::new();
    service.read_to_end(&mut question).await.unwrap();
    assert_eq!(question, b"question");
    service.write_all(b"answer").await.unwrap();
    drop(service);
    let mut answer = Vec::new();
    visitor.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"answer");

    assert_eq!(dev.end("INT").code(), Some(0));
    assert_eq!(fs::read_dir(dev.temporary.path()).unwrap().count(), 0);
}

#[test]
fn mistake_in_an_upstream_is_one_of_the_command_line() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_adit-gateway"))
        .args(["dev", "--upstream", "ftp://localhost:21"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let says = String::from_utf8(output.stderr).unwrap();
    assert!(says.contains("--upstream ftp://localhost:21: the scheme must be http, https, tcp or tls"), "{says}");
    assert!(output.stdout.is_empty());
}
