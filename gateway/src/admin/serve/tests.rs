//! Who gets a place at the admin listener's address.

use arc_swap::ArcSwap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

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
    let serving = tokio::spawn(tcp(listener, Some(Arc::new(ArcSwap::new(tls.server))), admin));
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
