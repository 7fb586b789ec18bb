//! What the gateway says of its sites while they come, work and go.

use std::time::Duration;

use adit_gateway::fleet::report::{self, EndpointState, Filter, Site, SiteState};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::peer::{AUTH, BIND, FIN, auth, bind, code};
use crate::world::{Change, World, visitor};

const APP: &str = "https://app.internal";

fn only(credential: &str) -> Filter {
    Filter { credential: Some(credential.to_owned()), ..Filter::default() }
}

fn site1(world: &World) -> Site {
    let mut sites = report::sites(&world.gateway, &only("site1")).sites;
    assert_eq!(sites.len(), 1, "{sites:?}");
    sites.remove(0)
}

#[tokio::test(start_paused = true)]
async fn site_is_unseen_then_online_then_offline_with_the_reason() {
    let world = World::new();
    assert_eq!((site1(&world).state, site1(&world).address), (SiteState::Unseen, None));
    let mut peer = world.connect_from("192.0.2.9:4711").0;
    let mut request = auth(world.site1.expose());
    request["Extra"]["OS"] = json!("linux");
    request["Extra"]["Arch"] = json!("mips\u{1b}[31m");
    request["Extra"]["UserAgent"] = json!("box/7");
    request["Extra"]["Metadata"] = json!("floor 3");
    assert_eq!(code(&peer.call(AUTH, &request).await), None);
    peer.bind(APP).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let site = site1(&world);
    assert_eq!((site.state, site.seconds), (SiteState::Online, 5));
    assert_eq!(site.address.as_deref(), Some("192.0.2.9:4711"));
    assert_eq!((&*site.agent, &*site.metadata), ("box/7", "floor 3"));
    assert_eq!(site.target, "linux/mips?[31m", "nothing in it can talk to a terminal");
    assert_eq!((site.sessions.len(), site.sessions_total), (1, 1));
    assert_eq!(site.endpoints.len(), 1);
    assert_eq!((&*site.endpoints[0].url, site.endpoints[0].state), (APP, EndpointState::Online));
    assert!(site.last_heard_ms.is_some_and(|time| time <= 6000), "{:?}", site.last_heard_ms);
    assert!(site.last_end.is_none());

    let session = site.sessions[0];
    drop(peer);
    world.until_sessions(0).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let site = site1(&world);
    assert_eq!((site.state, site.seconds, site.sessions.len()), (SiteState::Offline, 60, 0));
    assert_eq!(site.address.as_deref(), Some("192.0.2.9:4711"), "where it was last");
    let end = site.last_end.unwrap();
    assert_eq!((end.session, &*end.cause, end.seconds), (session, "closed", 60));
    assert_eq!(end.reason, "the agent closed the connection");
    let others = report::sites(&world.gateway, &Filter::default()).sites;
    assert_eq!(others.len(), 3, "{others:?}");
}

#[tokio::test(start_paused = true)]
async fn silent_revoked_and_replaced_agents_are_told_apart() {
    let world = World::new();
    let _silent = world.agent(&world.site1).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    world.until_sessions(0).await;
    let end = site1(&world).last_end.unwrap();
    assert_eq!((&*end.cause, &*end.reason), ("silent", "nothing was heard of the agent for too long"));

    let mut revoked = world.agent(&world.site1).await;
    world.reload(&Change { site1: "remove", ..Change::default() });
    revoked.until_closed().await;
    let end = site1(&world).last_end.unwrap();
    assert_eq!(end.cause, "gateway");
    assert!(end.reason.starts_with("the authtoken was revoked"), "{}", end.reason);
}

#[tokio::test(start_paused = true)]
async fn streams_and_bytes_are_counted_for_stream_session_and_site() {
    let world = World::new();
    let mut peer = world.agent(&world.site1).await;
    peer.bind(APP).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut stream = world.visit("main", APP).await;
    let visit = peer.visit().await;
    stream.write_all(b"ping").await.unwrap();
    assert_eq!(peer.take(visit.id, 4).await, b"ping");
    peer.data(visit.id, FIN, b"pongpong").await;
    let mut answer = [0; 8];
    stream.read_exact(&mut answer).await.unwrap();

    let streams = report::streams(&world.gateway, &Filter::default());
    assert!(!streams.is_cut);
    let [one] = &streams.streams[..] else { panic!("{streams:?}") };
    assert_eq!((one.stream, one.bytes_to_agent, one.bytes_from_agent), (visit.id, 4, 8));
    assert_eq!((&*one.endpoint, one.visitor.as_str()), (APP, &*visitor().peer.to_string()));
    assert!(report::streams(&world.gateway, &only("site2")).streams.is_empty());
    let sessions = report::sessions(&world.gateway, &only("site1")).sessions;
    let counts = sessions[0].counts;
    assert_eq!((counts.streams, counts.streams_total), (1, 1));
    assert_eq!((counts.bytes_to_agent, counts.bytes_from_agent), (4, 8));
    drop(stream);
    assert_eq!(site1(&world).counts.streams, 0);
    // What passed stays with the site when its session is over.
    drop(peer);
    world.until_sessions(0).await;
    let counts = site1(&world).counts;
    assert_eq!((counts.streams_total, counts.bytes_to_agent, counts.bytes_from_agent), (1, 4, 8));
}

#[tokio::test(start_paused = true)]
async fn endpoints_say_in_which_state_they_are_and_why() {
    let world = World::with(&Change { limits: "address_hold: 60s", ..Change::default() });
    let state = |filter: &Filter| {
        let found = report::endpoints(&world.gateway, filter).endpoints;
        assert_eq!(found.len(), 1, "{found:?}");
        (found[0].state, found[0].why.clone())
    };
    let mut peer = world.agent(&world.site1).await;
    let call = peer.ask(BIND, &bind(APP).to_string()).await;
    peer.answer_unconfirmed(call).await;
    assert_eq!(state(&only("site1")).0, EndpointState::Waiting);
    let mut pooled = bind("tcp://db.internal:5432");
    pooled["Extra"]["PoolingEnabled"] = json!(true);
    let mut other = world.agent(&world.site2).await;
    assert_eq!(code(&other.call(BIND, &pooled).await), None);
    other.beat().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(state(&only("site2")), (EndpointState::Pooled, None));
    drop(other);
    world.until_sessions(1).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (kept, why) = state(&only("site2"));
    assert_eq!(kept, EndpointState::Kept);
    assert!(why.as_ref().is_some_and(|why| why.contains("for 50 s more") || why.contains("for 51 s more")), "{why:?}");
    tokio::time::sleep(Duration::from_secs(51)).await;
    assert!(report::endpoints(&world.gateway, &only("site2")).endpoints.is_empty());
}

#[tokio::test(start_paused = true)]
async fn kicked_session_ends_at_once_and_the_others_stay() {
    let world = World::new();
    let mut kicked = world.agent(&world.site1).await;
    let _other = world.agent(&world.site2).await;
    let session = site1(&world).sessions[0];
    assert_eq!(world.gateway.kick(&only("nobody"), None), Vec::<u64>::new());
    assert_eq!(world.gateway.kick(&only("site1"), None), [session]);
    let (code, text) = kicked.until_closed().await.unwrap();
    assert_eq!((code, &*text), (0, "the operator of the gateway has ended this session"));
    world.until_sessions(1).await;
    let end = site1(&world).last_end.unwrap();
    assert_eq!((&*end.cause, &*end.reason), ("gateway", "the operator of the gateway has ended this session"));
}

#[tokio::test(start_paused = true)]
async fn drained_session_waits_for_its_visitors_and_no_longer_than_the_limit() {
    let world = World::with(&Change { limits: "drain_timeout: 20s", ..Change::default() });
    let mut idle = world.agent(&world.site2).await;
    let mut busy = world.agent(&world.site1).await;
    busy.bind(APP).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let _stream = world.visit("main", APP).await;
    let sessions = world.gateway.matching(&Filter::default());
    assert_eq!(sessions.len(), 2);
    let start = tokio::time::Instant::now();
    let gateway = std::sync::Arc::clone(&world.gateway);
    let draining = tokio::spawn(async move { gateway.drain_sessions(sessions).await });
    idle.until_closed().await;
    assert!(start.elapsed() < Duration::from_secs(1));
    busy.idle(Duration::from_secs(15)).await;
    assert_eq!(world.gateway.sessions(), 1, "somebody still uses it");
    busy.until_closed().await;
    draining.await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(20), "{:?}", start.elapsed());
}
