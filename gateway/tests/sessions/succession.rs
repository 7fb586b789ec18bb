//! Who gets the place of an older session: the agent that had it, also when it has forgotten everything, and no second
//! box with the same file.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

use crate::peer::{AUTH, BIND, FIN, PATCH, Peer, auth, auth_again, bind, bind_again, code};
use crate::world::World;

const APP: &str = "https://app.internal";

/// A log-in of our own agent: it says which box it is.
fn auth_of(token: &str, instance: &str) -> Value {
    let mut request = auth(token);
    request["Extra"]["ClientType"] = json!("adit");
    request["Extra"]["Metadata"] = json!(format!("the box {instance}"));
    request["Extra"]["Adit"] = json!({"Version": 1, "StreamsMax": 100, "Instance": instance});
    request
}

/// An agent on a box, from somewhere, with its endpoint online.
async fn start(world: &World, instance: &str, address: &str) -> (Peer, Value, Value) {
    let (mut peer, _) = world.connect_from(address);
    let reply = peer.call(AUTH, &auth_of(world.site1.expose(), instance)).await;
    assert_eq!(code(&reply), None, "{reply}");
    let bound = peer.bind(APP).await;
    (peer, reply, bound)
}

/// Logs in while the older agent, which lives, goes on answering what it is asked.
async fn meet(newcomer: &mut Peer, request: &Value, older: &mut Peer) -> Value {
    let id = newcomer.ask(AUTH, &request.to_string()).await;
    older.echo_one().await;
    newcomer.answer(id).await
}

#[tokio::test(start_paused = true)]
async fn agent_that_has_forgotten_everything_gets_its_ids_back() {
    let world = World::new();
    let (peer, first, bound) = start(&world, "box-7", "192.0.2.1:1").await;
    drop(peer);
    world.until_sessions(0).await;
    let before = Instant::now();
    let (mut peer, again, bound_again) = start(&world, "box-7", "192.0.2.1:2").await;
    assert_eq!(again["ClientId"], first["ClientId"]);
    assert_ne!(again["Extra"]["Cookie"], first["Extra"]["Cookie"], "another session has another cookie");
    assert_eq!((&bound_again["Id"], &bound_again["URL"]), (&bound["Id"], &bound["URL"]));
    assert!(before.elapsed() < Duration::from_secs(1));
    let mut stream = world.visit("main", APP).await;
    let visit = peer.visit().await;
    assert_eq!(visit.header["Id"], bound["Id"]);
    peer.data(visit.id, FIN, b"here").await;
    stream.read_exact(&mut [0; 4]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn gateway_that_was_restarted_gives_the_same_ids_to_an_agent_that_was_too() {
    let mut world = World::new();
    let (_peer, first, bound) = start(&world, "box-7", "192.0.2.1:1").await;
    world.restart();
    let (_peer, again, bound_again) = start(&world, "box-7", "192.0.2.1:2").await;
    assert_eq!((&again["ClientId"], &bound_again["Id"]), (&first["ClientId"], &bound["Id"]));
}

/// The box was switched off: nothing answers on the old connection, and nothing ends it.
#[tokio::test(start_paused = true)]
async fn crashed_agent_replaces_its_silent_session_within_the_time_to_answer() {
    let world = World::new();
    let (mut silent, first, bound) = start(&world, "box-7", "192.0.2.1:1").await;
    let before = Instant::now();
    let (_peer, again, bound_again) = start(&world, "box-7", "198.51.100.9:1").await;
    assert_eq!((&again["ClientId"], &bound_again["Id"]), (&first["ClientId"], &bound["Id"]));
    let took = before.elapsed();
    assert!(took >= Duration::from_secs(3) && took < Duration::from_secs(4), "{took:?}");
    assert_eq!(world.gateway.sessions(), 1);
    silent.until_closed().await.expect("it is told why, should it ever read it");
}

#[tokio::test(start_paused = true)]
async fn old_connection_that_ends_meanwhile_makes_room_at_once() {
    let world = World::new();
    let (old, ..) = start(&world, "box-7", "192.0.2.1:1").await;
    let (mut peer, _) = world.connect_from("192.0.2.1:2");
    let id = peer.ask(AUTH, &auth_of(world.site1.expose(), "box-7").to_string()).await;
    let before = Instant::now();
    peer.idle(Duration::from_millis(500)).await;
    drop(old);
    assert_eq!(code(&peer.answer(id).await), None);
    assert!(before.elapsed() < Duration::from_secs(1), "{:?}", before.elapsed());
}

/// The path of a running agent has changed: it shows the cookie that only it has.
#[tokio::test(start_paused = true)]
async fn agent_that_shows_its_cookie_replaces_its_session_without_a_question() {
    let world = World::new();
    let (mut old, first, _) = start(&world, "box-7", "192.0.2.1:1").await;
    let (mut peer, _) = world.connect_from("198.51.100.9:1");
    let mut request = auth_of(world.site1.expose(), "box-7");
    let resumed = auth_again(world.site1.expose(), &first);
    request["ClientId"] = resumed["ClientId"].clone();
    request["Extra"]["Cookie"] = resumed["Extra"]["Cookie"].clone();
    let before = Instant::now();
    let reply = peer.call(AUTH, &request).await;
    assert_eq!((code(&reply), &reply["ClientId"]), (None, &first["ClientId"]));
    assert!(before.elapsed() < Duration::from_millis(100));
    old.until_closed().await.unwrap();
    assert!(!old.has_visit(), "it was not asked");
}

#[tokio::test(start_paused = true)]
async fn second_box_with_the_same_file_is_told_where_the_first_is() {
    let world = World::new();
    let (mut first, ..) = start(&world, "box-7", "192.0.2.1:4711").await;
    // The same source address proves nothing: both may be behind one NAT.
    for address in ["198.51.100.9:1", "192.0.2.1:2"] {
        let (mut second, _) = world.connect_from(address);
        let before = Instant::now();
        let reply = meet(&mut second, &auth_of(world.site1.expose(), "box-7"), &mut first).await;
        assert_eq!(code(&reply), Some(108), "{reply}");
        let text = reply["Error"].as_str().unwrap();
        for part in ["192.0.2.1:4711", "box-7", "the box box-7", "agent.instance_id", "authtoken"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(before.elapsed() < Duration::from_secs(1));
    }
    first.beat().await;
    assert!(world.internal("main", APP).is_ok());
    assert_eq!(world.gateway.sessions(), 1);
}

/// Both boxes come back again and again, with whatever cookies they have. The one that is online stays online.
#[tokio::test(start_paused = true)]
async fn two_boxes_with_one_file_do_not_fight() {
    let world = World::new();
    let (first, log_in, _) = start(&world, "box-7", "192.0.2.1:1").await;
    drop(first);
    world.until_sessions(0).await;
    let (mut second, ..) = start(&world, "box-7", "198.51.100.9:1").await;
    let mut cookie = auth_of(world.site1.expose(), "box-7");
    cookie["ClientId"] = log_in["ClientId"].clone();
    cookie["Extra"]["Cookie"] = log_in["Extra"]["Cookie"].clone();
    for request in [&cookie, &auth_of(world.site1.expose(), "box-7"), &cookie] {
        let (mut first, _) = world.connect_from("192.0.2.1:2");
        let reply = meet(&mut first, request, &mut second).await;
        assert_eq!(code(&reply), Some(108));
        assert!(reply["Error"].as_str().unwrap().contains("198.51.100.9:1"), "{reply}");
        second.idle(Duration::from_secs(20)).await;
        second.beat().await;
    }
    assert!(second.go_away.is_none());
    assert!(world.internal("main", APP).is_ok());
}

/// Two newcomers wait for one dead session: only one gets its place, the other has to ask that one.
#[tokio::test(start_paused = true)]
async fn of_two_newcomers_one_gets_in_and_the_other_is_told_of_it() {
    let world = World::new();
    let (_silent, ..) = start(&world, "box-7", "192.0.2.1:1").await;
    let request = auth_of(world.site1.expose(), "box-7").to_string();
    let (mut left, _) = world.connect_from("198.51.100.9:1");
    let (mut right, _) = world.connect_from("198.51.100.9:2");
    let left_call = left.ask(AUTH, &request).await;
    let right_call = right.ask(AUTH, &request).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    // Whoever of them is in is asked by the other.
    for peer in [&mut left, &mut right] {
        peer.idle(Duration::from_millis(10)).await;
        if peer.has_visit() {
            peer.echo_one().await;
        }
    }
    let answers = [code(&left.answer(left_call).await), code(&right.answer(right_call).await)];
    assert!(matches!(answers, [None, Some(108)] | [Some(108), None]), "{answers:?}");
    assert_eq!(world.gateway.sessions(), 1);
}

#[tokio::test(start_paused = true)]
async fn another_box_is_let_in_and_its_endpoint_refused_with_the_address_of_the_holder() {
    let world = World::new();
    let (mut first, ..) = start(&world, "box-7", "192.0.2.1:4711").await;
    let (mut second, _) = world.connect_from("198.51.100.9:1");
    assert_eq!(code(&second.call(AUTH, &auth_of(world.site1.expose(), "box-8")).await), None);
    let reply = second.call(BIND, &bind(APP)).await;
    assert_eq!(code(&reply), Some(334));
    let text = reply["Error"].as_str().unwrap();
    for part in ["192.0.2.1:4711", "box-7", "pooling_enabled"] {
        assert!(text.contains(part), "{text}");
    }
    first.beat().await;
    assert_eq!(world.gateway.sessions(), 2);
}

/// An instance is a word that anybody can say: it counts within the credential that says it.
#[tokio::test(start_paused = true)]
async fn instance_of_another_credential_is_another_agent_and_learns_no_address() {
    let world = World::new();
    let (mut first, log_in, _) = start(&world, "box-7", "192.0.2.1:4711").await;
    for (token, expected) in [(&world.site2, Some(334)), (&world.other1, None)] {
        let mut stranger = world.connect();
        let reply = stranger.call(AUTH, &auth_of(token.expose(), "box-7")).await;
        assert_eq!(code(&reply), None);
        assert_ne!(reply["ClientId"], log_in["ClientId"]);
        let reply = stranger.call(BIND, &bind(APP)).await;
        assert_eq!(code(&reply), expected);
        assert!(!reply.to_string().contains("192.0.2.1"), "{reply}");
    }
    first.beat().await;
    assert!(!first.has_visit(), "it was not even asked");
}

#[tokio::test(start_paused = true)]
async fn two_endpoints_at_one_address_keep_apart() {
    let world = World::new();
    let (mut peer, _, bound) = start(&world, "box-7", "192.0.2.1:1").await;
    assert_eq!(code(&peer.call(BIND, &bind(APP)).await), Some(334));
    let mut other = bind("https://b.internal");
    other["Extra"]["PoolingEnabled"] = json!(true);
    let (one, two) = (peer.call(BIND, &other).await, peer.call(BIND, &other).await);
    assert_eq!((code(&one), code(&two)), (None, None));
    assert_ne!(one["Id"], two["Id"]);
    assert_ne!(one["Id"], bound["Id"]);
}

#[tokio::test(start_paused = true)]
async fn instance_that_is_none_is_refused() {
    let world = World::new();
    for instance in ["", "two words", &"x".repeat(65)] {
        let mut peer = world.connect();
        assert_eq!(peer.refused(AUTH, &auth_of(world.site1.expose(), instance)).await, 109, "{instance}");
    }
}

#[tokio::test(start_paused = true)]
async fn patch_of_a_process_that_is_gone_does_not_override_what_its_successor_asks_for() {
    let world = World::new();
    for again in [false, true] {
        let mut peer = world.connect();
        let log_in = peer.call(AUTH, &auth_of(world.site1.expose(), "box")).await;
        assert_eq!(code(&log_in), None);
        let open = bind("https://app.internal");
        let bound = peer.call(BIND, &open).await;
        let patch = json!({"TunnelId": bound["Extra"]["TunnelID"], "TrafficPolicy": ""});
        assert_eq!(peer.call(PATCH, &patch).await["Error"], "");
        drop(peer);
        world.until_sessions(0).await;

        let mut peer = world.connect();
        assert_eq!(code(&peer.call(AUTH, &auth_of(world.site1.expose(), "box")).await), None);
        let mut guarded = if again { bind_again(&open, &bound) } else { open.clone() };
        guarded["Opts"]["TrafficPolicy"] = json!("on_http_request: [{actions: [{type: deny}]}]");
        let reply = peer.call(BIND, &guarded).await;
        assert_eq!(reply["Id"], bound["Id"], "the same agent's endpoint");
        peer.beat().await;
        tokio::time::sleep(Duration::from_millis(6)).await;
        assert!(world.internal("main", "https://app.internal").unwrap().policy.is_some(), "again: {again}");
        drop(peer);
        world.until_sessions(0).await;
    }
}
