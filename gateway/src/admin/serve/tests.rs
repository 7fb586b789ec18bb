//! Who gets a place at the admin listener's address.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

use super::super::renewal::tests::{Files, authority};
use super::*;
use crate::gateway::Gateway;
use crate::identity_key::IdentityKey;

#[tokio::test]
async fn strangers_who_only_connect_keep_nobody_out() {
    let clients = authority();
    let (files, config) = Files::new(&clients);
    let tls = config.admin.listen.clone().unwrap().tls.unwrap();
    let admin = Admin::new(Gateway::new(config, &IdentityKey::generate().unwrap()).unwrap()).0;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_renewed, current) = watch::channel(Arc::new(tls));
    let serving = tokio::spawn(tcp(listener, Some(current), admin));
    let mut strangers = Vec::new();
    for _ in 0..HANDSHAKES_MAX {
        strangers.push(TcpStream::connect(address).await.unwrap());
    }
    let client = files.client(&clients);
    let mut stream = client.connect(Files::name(), TcpStream::connect(address).await.unwrap()).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let gone = timeout(HANDSHAKE_TIME / 2, async { strangers[0].read(&mut [0]).await.unwrap() }).await;
    assert_eq!(gone, Ok(0), "the one that came first has made room");
    serving.abort();
}

#[tokio::test]
async fn connection_ends_when_the_authority_of_its_certificate_is_taken_out_and_others_go_on() {
    let (stays, goes) = (authority(), authority());
    let (files, config) = Files::new(&stays);
    files.put("clients.pem", &(stays.pem() + &goes.pem()));
    let tls = config.admin.listen.clone().unwrap().tls.unwrap().read_again().unwrap().0;
    let admin = Admin::new(Gateway::new(config, &IdentityKey::generate().unwrap()).unwrap()).0;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (renewed, current) = watch::channel(Arc::new(tls.clone()));
    let serving = tokio::spawn(tcp(listener, Some(current), admin));
    let mut streams = Vec::new();
    for clients in [&stays, &goes] {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut stream = files.client(clients).connect(Files::name(), stream).await.unwrap();
        be_served(&mut stream).await;
        streams.push(stream);
    }
    files.put("clients.pem", &stays.pem());
    renewed.send_replace(Arc::new(tls.read_again().unwrap().0));
    // Where nothing was said of the end, TLS has an error.
    let end = timeout(HANDSHAKE_TIME, streams[1].read(&mut [0; 1024])).await.expect("it ends");
    assert!(!matches!(end, Ok(1..)), "{end:?}");
    be_served(&mut streams[0]).await;
    serving.abort();
}

/// Asks, and reads the whole answer.
async fn be_served(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nok\n") {
        assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "it is served");
    }
}
