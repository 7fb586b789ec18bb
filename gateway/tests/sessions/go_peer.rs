//! The Go SDK's ways, as a script: it is not to be had here as a program.
//!
//! Its spellings (`Authtoken`, `LocalURLScheme`), a newline behind every JSON text, header and body of a frame written
//! apart, the order of its streams, its habits at the end of a session, and what it cannot bear.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::peer::{AUTH, BIND, FIN, HEARTBEAT, PATCH, Peer, SRV_INFO, UNBIND, code};
use crate::world::World;

fn auth(world: &World, earlier: Option<&Value>, leg: u32) -> Value {
    let text = |pointer: &str| earlier.and_then(|reply| reply.pointer(pointer)).cloned().unwrap_or(json!(""));
    json!({
        "Version": ["3", "2"], "ClientId": text("/ClientId"), "Extra": {
            "OS": "linux", "Arch": "amd64", "Authtoken": world.site1.expose(), "Version": "2.1.1", "Hostname": "",
            "UserAgent": "ngrok-go/2.1.1", "Metadata": "", "Cookie": text("/Extra/Cookie"),
            "HeartbeatInterval": 10_000_000_000_i64, "HeartbeatTolerance": 15_000_000_000_i64, "Fingerprint": null,
            "UpdateUnsupportedError": null, "StopUnsupportedError": "", "RestartUnsupportedError": "no",
            "ProxyType": "", "MutualTLS": false, "ServiceRun": false, "ConfigVersion": "", "CustomInterface": false,
            "CustomCAs": false, "ClientType": "ngrok-go", "LegNumber": leg
        }
    })
}

fn bind(proto: &str, url: &str) -> Value {
    let opts = match proto {
        "tcp" => {
            json!({"URL": url, "Addr": "", "ProxyProto": 0, "IPRestriction": null, "Policy": null, "TrafficPolicy": ""})
        }
        _ => json!({
            "URL": url, "Domain": "", "Hostname": "", "Auth": "", "Subdomain": "", "HostHeaderRewrite": false,
            "LocalURLScheme": "", "ProxyProto": 0, "Compression": null, "CircuitBreaker": null, "IPRestriction": null,
            "BasicAuth": null, "OAuth": null, "OIDC": null, "WebhookVerification": null, "MutualTLSCA": null,
            "RequestHeaders": null, "ResponseHeaders": null, "WebsocketTCPConverter": null, "UserAgentFilter": null,
            "Policy": null, "TrafficPolicy": ""
        }),
    };
    json!({
        "Id": "", "Proto": proto, "ForwardsTo": "http://localhost:8080", "ForwardsProto": "", "Opts": opts,
        "Extra": {"Name": "", "Token": "", "IPPolicyRef": "", "Metadata": "", "Description": "", "Bindings": ["internal"],
            "PoolingEnabled": false}
    })
}

/// What this agent cannot do without in a reply to a Bind.
fn assert_readable(reply: &Value) {
    assert!(["http", "https", "tcp", "tls"].contains(&reply["Proto"].as_str().unwrap()));
    assert!(reply["URL"].as_str().unwrap().contains("://"));
    assert!(matches!(reply["Opts"]["TrafficPolicy"], Value::String(_) | Value::Null));
}

fn connect(world: &World) -> Peer {
    let mut peer = world.connect();
    peer.splits = true;
    peer.ending = "\n";
    peer
}

async fn bound(peer: &mut Peer, request: &Value) -> Value {
    let reply = peer.call(BIND, request).await;
    assert_eq!(code(&reply), None, "{reply}");
    assert_readable(&reply);
    peer.beat().await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    reply
}

#[tokio::test(start_paused = true)]
async fn whole_session_goes_its_way() {
    let world = World::new();
    let mut peer = connect(&world);
    // The TLS handshake comes with the first write, which may be late.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let log_in = peer.call(AUTH, &auth(&world, None, 0)).await;
    assert_eq!(code(&log_in), None, "{log_in}");
    assert!(log_in["Extra"]["AgentSessionID"].is_string());
    // Its first beat comes one interval after the start.
    let heart = peer.open(HEARTBEAT).await;
    peer.idle(Duration::from_secs(10)).await;
    peer.data(heart, 0, b"\x1a\x2b\x3c\x4d").await;
    assert_eq!(peer.take(heart, 4).await, b"\x1a\x2b\x3c\x4d");

    let app = bound(&mut peer, &bind("https", "https://app.internal")).await;
    let db = bound(&mut peer, &bind("tcp", "tcp://db.internal:5432")).await;
    assert_eq!(
        (app["URL"].as_str(), db["URL"].as_str()),
        (Some("https://app.internal"), Some("tcp://db.internal:5432"))
    );
    assert_eq!(app["Opts"]["LocalURLScheme"], "");
    assert!(app["Extra"]["TunnelID"].is_string());

    let mut stream = world.visit("main", "https://app.internal").await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: app.internal\r\n\r\n").await.unwrap();
    let visit = peer.visit().await;
    assert_eq!(visit.header["Id"], app["Id"]);
    peer.take(visit.id, 38).await;
    peer.data(visit.id, 0, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await;
    peer.data(visit.id, FIN, b"").await;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("ok"));
    stream.shutdown().await.unwrap();
    peer.until_fin(visit.id).await;

    let reply = peer.call(PATCH, &json!({"TunnelId": app["Extra"]["TunnelID"], "Description": "new"})).await;
    assert_eq!(reply, json!({"Error": ""}));
    let reply = peer.call(UNBIND, &json!({"Id": db["Id"], "Extra": null})).await;
    assert_eq!(code(&reply), None);
    assert!(world.internal("main", "tcp://db.internal:5432").is_err());

    // Its end of a session: GOAWAY 0, the last id of the gateway's, "no error", and TCP is closed.
    let body = [&2_u32.to_be_bytes()[..], &0_u32.to_be_bytes(), b"no error"].concat();
    peer.frame(3, 0, 0, &body).await;
    assert_eq!(peer.until_closed().await, None);
    world.until_sessions(0).await;
}

#[tokio::test(start_paused = true)]
async fn heartbeat_may_come_before_the_log_in() {
    let world = World::new();
    let mut peer = connect(&world);
    let heart = peer.open(HEARTBEAT).await;
    let log_in = peer.ask(AUTH, &auth(&world, None, 0).to_string()).await;
    peer.data(heart, 0, b"beat").await;
    assert_eq!(code(&peer.answer(log_in).await), None);
    assert_eq!(peer.take(heart, 4).await, b"beat");
}

#[tokio::test(start_paused = true)]
async fn diagnosis_asks_without_a_token_and_leaves() {
    let world = World::new();
    let (mut peer, task) = world.connect_from("192.0.2.1:1");
    peer.ending = "\n";
    let reply = peer.call(SRV_INFO, &json!({})).await;
    assert!(reply["Region"].is_string() && code(&reply).is_none());
    drop(peer);
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn close_of_a_stream_it_has_forgotten_is_answered_by_resets_that_harm_nothing() {
    let world = World::new();
    let mut peer = connect(&world);
    peer.call(AUTH, &auth(&world, None, 0)).await;
    bound(&mut peer, &bind("tcp", "tcp://db.internal:5432")).await;
    let mut stream = world.visit("main", "tcp://db.internal:5432").await;
    let visit = peer.visit().await;
    // Close: its end, and every byte that still comes is answered by RST 4.
    peer.data(visit.id, FIN, b"bye").await;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "bye");
    stream.write_all(b"too late").await.unwrap();
    peer.take(visit.id, 8).await;
    peer.reset(visit.id, 4).await;
    peer.beat().await;
    assert!(stream.write_all(b"more").await.is_err());
    drop(stream);
    peer.beat().await;
    assert!(world.internal("main", "tcp://db.internal:5432").is_ok());
}

#[tokio::test(start_paused = true)]
async fn reconnect_replays_the_options_of_the_last_reply() {
    let world = World::new();
    let mut peer = connect(&world);
    let log_in = peer.call(AUTH, &auth(&world, None, 0)).await;
    let request = bind("https", "https://app.internal");
    let app = bound(&mut peer, &request).await;
    drop(peer);
    let mut peer = connect(&world);
    let again = peer.call(AUTH, &auth(&world, Some(&log_in), 0)).await;
    assert_eq!(again["ClientId"], log_in["ClientId"]);
    let again = bound(&mut peer, &crate::peer::bind_again(&request, &app)).await;
    assert_eq!((&again["Id"], &again["Opts"]), (&app["Id"], &app["Opts"]));
    let _stream = world.visit("main", "https://app.internal").await;
    assert_eq!(peer.visit().await.header["Id"], app["Id"]);
}

#[tokio::test(start_paused = true)]
async fn endpoint_it_does_not_know_yet_gets_its_visitor_at_the_second_try() {
    let world = World::new();
    let mut peer = connect(&world);
    peer.call(AUTH, &auth(&world, None, 0)).await;
    let reply = peer.call(BIND, &bind("https", "https://app.internal")).await;
    assert_readable(&reply);
    peer.beat().await;
    tokio::time::sleep(Duration::from_millis(6)).await;
    let target = world.internal("main", "https://app.internal").unwrap();
    let (stream, ()) = tokio::join!(world.open(&target), async {
        let early = peer.visit().await;
        peer.data(early.id, FIN, b"").await;
        peer.visit().await;
    });
    assert!(stream.is_ok());
}

#[tokio::test(start_paused = true)]
async fn multi_leg_agent_without_a_second_address_stays_on_one_leg() {
    let world = World::new();
    let log_in = connect(&world).call(AUTH, &auth(&world, None, 0)).await;
    assert!(log_in["Extra"].get("ConnectAddresses").is_none());
}
