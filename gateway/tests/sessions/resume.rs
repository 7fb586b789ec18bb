//! Coming back: after a lost link, a gateway's restart, or beside a link that is half dead.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::peer::{AUTH, BIND, FIN, Peer, STOP_TUNNEL, UNBIND, auth, auth_again, bind, bind_again, code};
use crate::world::{Change, World};

const APP: &str = "https://app.internal";
const DB: &str = "tcp://db.internal:5432";

/// An agent with two endpoints, and what it remembers of them.
struct Memory {
    log_in: Value,
    binds: Vec<(Value, Value)>,
}

async fn start(world: &World) -> (Peer, Memory) {
    let mut peer = world.connect();
    let log_in = peer.log_in(world.site1.expose()).await;
    let mut binds = Vec::new();
    for url in [APP, DB] {
        binds.push((bind(url), peer.bind(url).await));
    }
    (peer, Memory { log_in, binds })
}

impl Memory {
    /// Connects again and takes everything up, as all agents do it.
    async fn come_back(&self, world: &World) -> Peer {
        let mut peer = world.connect();
        let reply = peer.call(AUTH, &auth_again(world.site1.expose(), &self.log_in)).await;
        assert_eq!(code(&reply), None, "{reply}");
        assert_eq!(reply["ClientId"], self.log_in["ClientId"]);
        for (request, bound) in &self.binds {
            let again = peer.call(BIND, &bind_again(request, bound)).await;
            assert_eq!(code(&again), None, "{again}");
            assert_eq!((&again["Id"], &again["URL"]), (&bound["Id"], &bound["URL"]));
        }
        peer.beat().await;
        tokio::time::sleep(Duration::from_millis(6)).await;
        peer
    }
}

async fn assert_served_by(world: &World, peer: &mut Peer, memory: &Memory) {
    for (at, url) in [APP, DB].into_iter().enumerate() {
        let mut stream = world.visit("main", url).await;
        let visit = peer.visit().await;
        assert_eq!(visit.header["Id"], memory.binds[at].1["Id"]);
        peer.data(visit.id, FIN, b"here").await;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn lost_agent_comes_back_under_the_same_ids() {
    let world = World::new();
    let (peer, memory) = start(&world).await;
    drop(peer);
    world.until_sessions(0).await;
    assert!(world.internal("main", APP).is_err());
    let mut peer = memory.come_back(&world).await;
    assert_served_by(&world, &mut peer, &memory).await;
}

#[tokio::test(start_paused = true)]
async fn gateway_that_was_restarted_knows_its_agents_by_the_key() {
    let mut world = World::new();
    let (_peer, memory) = start(&world).await;
    world.restart();
    let mut peer = memory.come_back(&world).await;
    assert_served_by(&world, &mut peer, &memory).await;
}

#[tokio::test(start_paused = true)]
async fn gateway_with_another_key_gives_a_new_identity_and_keeps_the_bind_ids() {
    let (world, elsewhere) = (World::new(), World::new());
    let (_peer, memory) = start(&world).await;
    let mut peer = elsewhere.connect();
    let reply = peer.call(AUTH, &auth_again(elsewhere.site1.expose(), &memory.log_in)).await;
    assert_eq!(code(&reply), None);
    assert_ne!(reply["ClientId"], memory.log_in["ClientId"]);
    for (request, bound) in &memory.binds {
        let again = peer.call(BIND, &bind_again(request, bound)).await;
        assert_eq!(code(&again), None, "{again}");
        assert_eq!(again["Id"], bound["Id"], "agents insist on the Id they ask for");
    }
    peer.beat().await;
    tokio::time::sleep(Duration::from_millis(6)).await;
    assert_served_by(&elsewhere, &mut peer, &memory).await;
}

#[tokio::test(start_paused = true)]
async fn stale_connection_is_evicted_at_once_and_its_streams_break() {
    let world = World::new();
    let (mut stale, memory) = start(&world).await;
    let mut stream = world.visit("main", APP).await;
    stale.visit().await;
    let before = Instant::now();
    let mut peer = memory.come_back(&world).await;
    assert!(before.elapsed() < Duration::from_secs(1));
    let error = stream.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let (code, text) = stale.until_closed().await.unwrap();
    assert_eq!(code, 0);
    assert!(text.len() >= 8);
    assert_eq!(world.gateway.sessions(), 1);
    assert_served_by(&world, &mut peer, &memory).await;
}

#[tokio::test(start_paused = true)]
async fn agent_that_does_not_read_is_evicted_as_well() {
    let world = World::new();
    let (mut stale, memory) = start(&world).await;
    stale.credits = false;
    let mut stream = world.visit("main", APP).await;
    // The pretended network takes 64 KiB, nobody reads them, and the window would allow more.
    let written = tokio::time::timeout(Duration::from_secs(1), stream.write_all(&[7; 200_000])).await;
    assert!(written.is_err(), "the link should be full");
    let mut peer = memory.come_back(&world).await;
    assert!(stream.write_all(&[7; 200_000]).await.is_err());
    assert_served_by(&world, &mut peer, &memory).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.gateway.sessions(), 1);
}

#[tokio::test(start_paused = true)]
async fn addresses_of_a_lost_session_are_kept_and_then_free() {
    let world = World::with(&Change { limits: "address_hold: 60s", ..Change::default() });
    let (peer, _memory) = start(&world).await;
    drop(peer);
    world.until_sessions(0).await;
    let mut other = world.agent(&world.site2).await;
    let reply = other.call(BIND, &bind(APP)).await;
    assert_eq!(code(&reply), Some(334));
    assert!(reply["Error"].as_str().unwrap().contains("site1"), "{reply}");
    for _ in 0..7 {
        other.idle(Duration::from_secs(9)).await;
        other.beat().await;
    }
    other.bind(APP).await;
}

#[tokio::test(start_paused = true)]
async fn legs_of_an_agent_live_side_by_side_and_are_unbound_together() {
    let world = World::new();
    let leg = |number: u32, log_in: Option<&Value>| {
        let mut request =
            log_in.map_or_else(|| auth(world.site1.expose()), |reply| auth_again(world.site1.expose(), reply));
        request["Extra"]["LegNumber"] = json!(number);
        request["Extra"]["ClientType"] = json!("ngrok-go");
        request
    };
    let mut first = world.connect();
    let log_in = first.call(AUTH, &leg(0, None)).await;
    let bound = first.bind(APP).await;
    let mut second = world.connect();
    let reply = second.call(AUTH, &leg(1, Some(&log_in))).await;
    assert_eq!(reply["ClientId"], log_in["ClientId"]);
    let again = second.call(BIND, &bind_again(&bind(APP), &bound)).await;
    assert_eq!(again["Id"], bound["Id"]);
    second.beat().await;
    tokio::time::sleep(Duration::from_millis(6)).await;
    assert_eq!(world.gateway.sessions(), 2, "leg 1 does not evict leg 0");

    let mut streams = Vec::new();
    while !(first.has_visit() && second.has_visit()) {
        assert!(streams.len() < 200, "one leg gets nothing");
        streams.push(world.visit("main", APP).await);
        first.beat().await;
        second.beat().await;
    }
    drop(streams);
    first.call(UNBIND, &json!({"Id": bound["Id"]})).await;
    assert!(world.internal("main", APP).is_err());
    second.beat().await;

    let bound = first.bind(APP).await;
    second.call(BIND, &bind_again(&bind(APP), &bound)).await;
    second.beat().await;
    drop(first);
    world.until_sessions(1).await;
    tokio::time::sleep(Duration::from_millis(6)).await;
    assert!(world.internal("main", APP).is_ok(), "the other leg serves it");
}

#[tokio::test(start_paused = true)]
async fn stopped_endpoint_is_told_and_stays_stopped_after_a_reconnect() {
    let world = World::new();
    let (mut peer, memory) = start(&world).await;
    let owner = adit_gateway::identity::Owner { account: "main".into(), credential: "site1".into() };
    let url = adit::endpoint_url::EndpointUrl::parse(APP).unwrap();
    assert_eq!(world.gateway.stop_endpoint(&owner, &url, "closed for the day", 9999), 1);
    let (id, kind, command) = peer.command().await;
    assert_eq!(kind, STOP_TUNNEL);
    assert_eq!(command["Id"], memory.binds[0].1["Id"]);
    assert_eq!(
        (command["Message"].as_str(), command["ErrorCode"].as_str()),
        (Some("closed for the day"), Some("ERR_NGROK_9999"))
    );
    // No reply comes; the stream is freed by the gateway's own deadline.
    peer.until("the end of the command", |peer| peer.inboxes[&id].reset.is_some()).await;
    assert!(peer.inboxes[&id].fin);

    drop(peer);
    world.until_sessions(0).await;
    let mut peer = memory.come_back(&world).await;
    assert!(world.internal("main", APP).is_err());
    assert!(world.internal("main", DB).is_ok());
    peer.call(UNBIND, &json!({"Id": memory.binds[0].1["Id"]})).await;
    peer.bind(APP).await;
    assert!(world.internal("main", APP).is_ok());
}
