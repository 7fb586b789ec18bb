//! What an operator is told of sessions and endpoints, and when.

use std::sync::Arc;
use std::time::Duration;

use adit_gateway::events::{Event, Events, Kind, Tail, Tailed};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::peer::{AUTH, Peer, auth, code};
use crate::world::{Change, World};

const APP: &str = "https://app.internal";
const SETTLE: Duration = Duration::from_secs(5);
const EVENTS: &str = "events: {settle: 5s}";

/// Follows a gateway's events from the beginning.
struct Operator {
    events: Arc<Events>,
    tail: Tail,
}

impl Operator {
    fn of(world: &World) -> Self {
        let events = Arc::clone(world.gateway.events());
        let publisher = Arc::clone(&events);
        tokio::spawn(async move { publisher.run().await });
        Self { tail: events.follow(), events }
    }

    async fn next(&mut self) -> Arc<Event> {
        match self.tail.next().await.unwrap() {
            Tailed::Event(event) => event,
            Tailed::Missed(count) => panic!("{count} events were missed"),
        }
    }

    async fn kinds(&mut self, count: usize) -> Vec<Kind> {
        let mut kinds = Vec::new();
        for _ in 0..count {
            kinds.push(self.next().await.kind);
        }
        kinds.sort_unstable();
        kinds
    }
}

async fn start(world: &World) -> Peer {
    let mut peer = world.connect();
    let mut request = auth(world.site1.expose());
    // Nobody answers beats here: this is five minutes, in nanoseconds.
    request["Extra"]["HeartbeatInterval"] = json!(200_000_000_000_u64);
    request["Extra"]["HeartbeatTolerance"] = json!(100_000_000_000_u64);
    request["Extra"]["Adit"] = json!({"Version": 1, "StreamsMax": 100, "Instance": "box-7"});
    let reply = peer.call(AUTH, &request).await;
    assert_eq!(code(&reply), None, "{reply}");
    peer.bind(APP).await;
    peer
}

#[tokio::test(start_paused = true)]
async fn site_that_is_cut_off_is_told_after_the_settle_time_with_its_endpoints() {
    let world = World::with(&Change { more: EVENTS, ..Change::default() });
    let mut operator = Operator::of(&world);
    let peer = start(&world).await;
    assert_eq!(operator.kinds(2).await, [Kind::SiteUp, Kind::EndpointOnline]);
    drop(peer);
    world.until_sessions(0).await;
    let cut = Instant::now();
    let mut told = [operator.next().await, operator.next().await];
    told.sort_by_key(|event| event.kind);
    assert!(cut.elapsed() >= SETTLE - Duration::from_millis(10) && cut.elapsed() < SETTLE * 2, "{:?}", cut.elapsed());
    let [down, offline] = told;
    assert_eq!((down.kind, offline.kind), (Kind::SiteDown, Kind::EndpointOffline));
    let about = &down.about;
    let whose = [&about.account, &about.credential, &about.instance].map(|part| part.as_deref().unwrap());
    assert_eq!(whose, ["main", "site1", "box-7"]);
    assert_eq!(down.reason.as_deref(), Some("the agent closed the connection"));
    assert_eq!(offline.about.subject.as_deref(), Some(APP));
}

#[tokio::test(start_paused = true)]
async fn site_that_comes_back_in_time_is_not_told() {
    let world = World::with(&Change { more: EVENTS, ..Change::default() });
    let mut operator = Operator::of(&world);
    let peer = start(&world).await;
    operator.kinds(2).await;
    drop(peer);
    world.until_sessions(0).await;
    sleep(SETTLE / 2).await;
    let _peer = start(&world).await;
    sleep(SETTLE * 50).await;
    assert_eq!(operator.events.recent().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn site_that_comes_and_goes_is_told_once() {
    let world = World::with(&Change { more: EVENTS, ..Change::default() });
    let mut operator = Operator::of(&world);
    for _ in 0..10 {
        drop(start(&world).await);
        world.until_sessions(0).await;
        sleep(SETTLE / 3).await;
    }
    let _peer = start(&world).await;
    assert_eq!(operator.next().await.kind, Kind::SiteFlapping);
    // The endpoint was never there for long enough to be told before.
    assert_eq!(operator.next().await.kind, Kind::EndpointOnline);
    let settled = Instant::now();
    assert_eq!(operator.kinds(2).await, [Kind::SiteUp, Kind::SiteSteady]);
    assert!(settled.elapsed() > SETTLE * 3);
    sleep(SETTLE * 50).await;
    assert_eq!(operator.events.recent().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn refused_log_ins_and_limits_are_told() {
    let world = World::with(&Change { limits: "sessions_per_account_max: 1", more: EVENTS, ..Change::default() });
    let mut operator = Operator::of(&world);
    for _ in 0..3 {
        let mut peer = world.connect();
        let wrong = world.site2.expose().replace(|c: char| c.is_ascii_digit(), "9");
        assert!(code(&peer.call(AUTH, &auth(&wrong)).await).is_some());
    }
    let refused = operator.next().await;
    assert_eq!(refused.kind, Kind::CredentialRefused);
    assert_eq!(refused.about.subject.as_deref(), Some("192.0.2.1"));
    let _peer = start(&world).await;
    let mut other = world.connect();
    assert!(code(&other.call(AUTH, &auth(world.site2.expose())).await).is_some());
    let hit = operator.next().await;
    assert_eq!(hit.kind, Kind::LimitHit);
    assert_eq!(hit.about.subject.as_deref(), Some("limits.sessions_per_account_max"));
    assert_eq!(hit.about.account.as_deref(), Some("main"));
}

#[tokio::test(start_paused = true)]
async fn settle_time_can_be_changed_by_a_reload() {
    let world = World::with(&Change { more: EVENTS, ..Change::default() });
    let mut operator = Operator::of(&world);
    world.reload(&Change { more: "events: {settle: 2m}", ..Change::default() });
    let before = Instant::now();
    let _peer = start(&world).await;
    operator.kinds(2).await;
    assert!(before.elapsed() >= Duration::from_secs(120), "{:?}", before.elapsed());
}
