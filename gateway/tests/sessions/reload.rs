//! A new configuration, and the end of the gateway.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::peer::{AUTH, BIND, FIN, auth, bind, code};
use crate::world::{Change, World};

const APP: &str = "https://app.internal";

/// Reloads and expects the sessions of `site1`, and only those, to end at once.
async fn assert_ends_site1(first: &Change, second: &Change, code_afterwards: Option<u32>) {
    let world = World::with(first);
    let (mut peer, _) = world.connect_from("192.0.2.1:1");
    peer.log_in(world.site1.expose()).await;
    peer.bind(APP).await;
    let mut bystander = world.agent(&world.other1).await;
    bystander.bind(APP).await;
    let mut stream = world.visit("main", APP).await;
    peer.visit().await;
    let mut other_stream = world.visit("other", APP).await;
    let other_visit = bystander.visit().await;

    world.reload(second);
    assert_eq!(world.gateway.sessions(), 1);
    assert!(world.internal("main", APP).is_err());
    let error = stream.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(stream.write(b"x").await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let (goodbye, text) = peer.until_closed().await.unwrap();
    assert_eq!(goodbye, 0);
    assert!(text.contains("ERR_NGROK_300"), "{text}");

    bystander.data(other_visit.id, FIN, b"still here").await;
    let mut answer = String::new();
    other_stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "still here");
    let reply = world.connect_from("192.0.2.1:1").0.call(AUTH, &auth(world.site1.expose())).await;
    assert_eq!(code(&reply), code_afterwards, "{reply}");
}

#[tokio::test(start_paused = true)]
async fn removed_credential_ends_its_sessions_and_streams_at_once() {
    let removed = Change { site1: "remove", ..Change::default() };
    assert_ends_site1(&Change::default(), &removed, Some(107)).await;
}

#[tokio::test(start_paused = true)]
async fn narrowed_rules_end_the_sessions_at_once() {
    let narrow = Change { site1: "acl: ['bind:other.internal']", ..Change::default() };
    assert_ends_site1(&Change::default(), &narrow, None).await;
}

#[tokio::test(start_paused = true)]
async fn narrowed_networks_end_the_sessions_from_outside_of_them() {
    let narrow = Change { site1: "allow_any: true, allowed_networks: [198.51.100.0/24]", ..Change::default() };
    assert_ends_site1(&Change::default(), &narrow, Some(116)).await;
    let narrow = Change { main: "allowed_networks: [198.51.100.0/24]", ..Change::default() };
    assert_ends_site1(&Change::default(), &narrow, Some(115)).await;
}

#[tokio::test(start_paused = true)]
async fn widened_credential_keeps_its_sessions_and_may_do_more_at_once() {
    let world = World::with(&Change { site1: "acl: ['bind:app.internal']", ..Change::default() });
    let mut peer = world.agent(&world.site1).await;
    peer.bind(APP).await;
    assert_eq!(peer.refused(BIND, &bind("https://more.internal")).await, 316);
    world.reload(&Change { site1: "acl: ['bind:app.internal', 'bind:more.internal']", ..Change::default() });
    peer.bind("https://more.internal").await;
    assert!(world.internal("main", APP).is_ok());
}

#[tokio::test(start_paused = true)]
async fn rules_that_were_wider_for_a_while_leave_nothing_behind() {
    let narrow = Change { site1: "acl: ['bind:app.internal']", ..Change::default() };
    let world = World::with(&narrow);
    let mut peer = world.agent(&world.site1).await;
    world.reload(&Change { site1: "acl: ['bind:app.internal', 'bind:more.internal']", ..Change::default() });
    peer.bind("https://more.internal").await;
    world.reload(&narrow);
    assert!(world.internal("main", "https://more.internal").is_err());
    assert!(peer.until_closed().await.unwrap().1.contains("ERR_NGROK_300"));
}

#[tokio::test(start_paused = true)]
async fn addresses_kept_for_a_removed_credential_are_free_at_once() {
    let world = World::new();
    let mut peer = world.agent(&world.site1).await;
    peer.bind(APP).await;
    drop(peer);
    world.until_sessions(0).await;
    let mut other = world.agent(&world.site2).await;
    assert_eq!(other.refused(BIND, &bind(APP)).await, 334);
    world.reload(&Change { site1: "remove", ..Change::default() });
    other.bind(APP).await;
}

#[tokio::test(start_paused = true)]
async fn cloud_endpoints_come_and_go_with_the_configuration() {
    use adit::endpoint_url::Scheme;
    use adit_gateway::http::reach::{PublicEndpoint, Reach};

    let world = World::new();
    let mut peer = world.agent(&world.site1).await;
    peer.bind("https://*.example.com").await;
    let is_cloud = |host: &str| match world.gateway.public(Scheme::Https, host, 443).unwrap() {
        PublicEndpoint::Cloud(_) => true,
        PublicEndpoint::Agent(_) => false,
    };
    assert!(!is_cloud("api.example.com"));
    world.reload(&Change {
        more: "cloud_endpoints:\n  - url: https://api.example.com\n    traffic_policy: {on_http_request: [{actions: [{type: deny}]}]}\n",
        ..Change::default()
    });
    assert!(is_cloud("api.example.com"), "more specific than the agent's wildcard");
    assert!(!is_cloud("other.example.com"));
    assert_eq!(peer.refused(BIND, &bind("https://api.example.com")).await, 334);
    world.reload(&Change::default());
    assert!(!is_cloud("api.example.com"));
}

#[tokio::test(start_paused = true)]
async fn public_name_that_agents_may_have_no_more_is_stopped() {
    let world = World::new();
    let mut peer = world.agent(&world.site1).await;
    for url in ["tls://api.example.com", "https://www.example.com", APP] {
        peer.bind(url).await;
    }
    world.reload(&Change {
        more: "cloud_endpoints:\n  - url: https://api.example.com\n    account: other\n    traffic_policy: {on_http_request: [{actions: [{type: deny}]}]}\n",
        ..Change::default()
    });
    assert!(world.public("tls://api.example.com").is_err(), "to a browser it is the cloud endpoint's site");
    assert!(world.public("https://www.example.com").is_ok());
    assert!(world.internal("main", APP).is_ok());
    assert_eq!(peer.refused(BIND, &bind("http://api.example.com:8080")).await, 334);
}

#[tokio::test(start_paused = true)]
async fn drain_waits_for_visitors_and_no_longer_than_it_may() {
    use adit_gateway::http::reach::Reach;

    let world = World::new();
    let (mut busy, mut idle) = (world.agent(&world.site1).await, world.agent(&world.site2).await);
    busy.bind(APP).await;
    let mut stream = world.visit("main", APP).await;
    let visit = busy.visit().await;
    let gateway = std::sync::Arc::clone(&world.gateway);
    let before = Instant::now();
    let drain = tokio::spawn(async move { gateway.drain(Duration::from_secs(20)).await });
    world.gateway.draining().await;
    world.gateway.draining().await;

    assert_eq!(idle.until_closed().await.unwrap().0, 0);
    assert!(before.elapsed() < Duration::from_secs(1));
    assert_eq!(world.connect().refused(AUTH, &auth(world.site1.expose())).await, 742);
    tokio::time::sleep(Duration::from_secs(10)).await;
    busy.data(visit.id, FIN, b"done").await;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "done");
    stream.shutdown().await.unwrap();
    drop(stream);
    assert_eq!(busy.until_closed().await.unwrap().0, 0);
    drain.await.unwrap();
    let took = before.elapsed();
    assert!(took < Duration::from_secs(13), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn drain_tells_each_of_our_agents_when_to_come_back_and_the_others_nothing() {
    let world = World::with(&Change { limits: "logins_per_second_max: 4", ..Change::default() });
    let mut ours = Vec::new();
    for _ in 0..4 {
        let mut peer = world.connect();
        let mut request = auth(world.site1.expose());
        request["Extra"]["Adit"] = serde_json::json!({"Version": 1});
        assert_eq!(code(&peer.call(AUTH, &request).await), None);
        ours.push(peer);
    }
    world.gateway.drain(Duration::from_secs(20)).await;
    let mut told = Vec::new();
    for mut peer in ours {
        let (_, text) = peer.until_closed().await.unwrap();
        let (words, object) = text.split_at(text.find('{').unwrap());
        assert_eq!(words, "the gateway is shutting down ");
        let object: serde_json::Value = serde_json::from_str(object).unwrap();
        told.push(object["Adit"]["RetryAfterMs"].as_u64().unwrap());
    }
    told.sort_unstable();
    assert_eq!(told, [0, 250, 500, 750]);

    let world = World::new();
    let mut official = world.agent(&world.site1).await;
    world.gateway.drain(Duration::from_secs(20)).await;
    assert_eq!(official.until_closed().await.unwrap().1, "the gateway is shutting down");
}

#[tokio::test(start_paused = true)]
async fn drain_ends_what_does_not_end_by_itself() {
    let world = World::new();
    let mut peer = world.agent(&world.site1).await;
    peer.bind(APP).await;
    let mut stream = world.visit("main", APP).await;
    peer.visit().await;
    let before = Instant::now();
    world.gateway.drain(Duration::from_secs(20)).await;
    assert_eq!(before.elapsed().as_secs(), 20);
    assert!(stream.read(&mut [0; 1]).await.is_err());
    assert_eq!(peer.until_closed().await.unwrap().0, 0);
}
