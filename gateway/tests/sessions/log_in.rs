//! Logging in, and everything before it.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use adit_gateway::token::Token;

use crate::peer::{AUTH, BIND, FIN, HEARTBEAT, PATCH, SRV_INFO, UNBIND, auth, bind, code};
use crate::world::{Change, World};

#[tokio::test(start_paused = true)]
async fn good_token_is_welcome_and_gets_everything_that_agents_need() {
    let world = World::new();
    let mut peer = world.connect();
    let reply = peer.log_in(world.site1.expose()).await;
    assert_eq!(reply["Version"], "3");
    assert!(reply["ClientId"].as_str().unwrap().len() >= 22);
    assert!(!reply["Extra"]["Cookie"].as_str().unwrap().is_empty());
    assert_eq!(reply["Extra"]["AccountName"], "main");
    assert_eq!(reply["Extra"]["SessionDuration"], 0);
    assert!(reply["Extra"].get("Adit").is_none(), "only for those who asked");
    assert!(reply["Extra"].get("ConnectAddresses").is_none());
}

#[tokio::test(start_paused = true)]
async fn our_own_extension_is_answered_when_offered() {
    let world = World::with(&Change { limits: "streams_per_session_max: 2000", ..Change::default() });
    let mut request = auth(world.site1.expose());
    request["Extra"]["Adit"] = json!({"Version": 1, "StreamsMax": 64, "Unknown": true});
    let reply = world.connect().call(AUTH, &request).await;
    assert_eq!(reply["Extra"]["Adit"], json!({"Version": 1, "StreamsMax": 64}));
}

#[tokio::test(start_paused = true)]
async fn window_is_answered_only_when_a_usable_one_was_offered() {
    let world = World::new();
    for (offered, answered) in [(16_384, true), (262_144, true), (0, false), (16_383, false), (262_145, false)] {
        let mut request = auth(world.site1.expose());
        request["Extra"]["Adit"] = json!({"Version": 1, "Window": offered});
        let reply = world.connect().call(AUTH, &request).await;
        let expected = if answered { json!(262_144) } else { Value::Null };
        assert_eq!(reply["Extra"]["Adit"]["Window"], expected, "{offered}");
    }
}

#[tokio::test(start_paused = true)]
async fn wrong_tokens_are_refused_with_their_code_and_without_being_repeated() {
    let world = World::new();
    let mut swapped = world.site1.expose().to_owned();
    swapped.replace_range(swapped.len() - 1.., if swapped.ends_with('a') { "b" } else { "a" });
    for (token, expected) in [("", 105), ("secret-thing", 105), (swapped.as_str(), 107)] {
        let mut peer = world.connect();
        let reply = peer.call(AUTH, &auth(token)).await;
        assert_eq!(code(&reply), Some(expected), "{reply}");
        assert!(token.is_empty() || !reply.to_string().contains(token));
    }
    assert_eq!(world.gateway.sessions(), 0);
}

#[tokio::test(start_paused = true)]
async fn refused_agent_has_a_second_to_read_why() {
    let world = World::new();
    let mut peer = world.connect();
    let before = Instant::now();
    assert_eq!(peer.refused(AUTH, &auth("adit_wrong")).await, 105);
    assert_eq!(peer.refused(AUTH, &auth(world.site1.expose())).await, 109, "one attempt per connection");
    assert_eq!(peer.refused(BIND, &bind("https://app.internal")).await, 109);
    assert_eq!(peer.until_closed().await, None);
    let took = before.elapsed();
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn refused_agent_that_leaves_is_let_go_at_once() {
    let world = World::new();
    let (mut peer, task) = world.connect_from("192.0.2.1:1");
    peer.refused(AUTH, &auth("adit_wrong")).await;
    let before = Instant::now();
    drop(peer);
    task.await.unwrap();
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn silent_connection_is_closed_after_the_time_to_log_in() {
    let world = World::new();
    let before = Instant::now();
    let mut peer = world.connect();
    let (code, text) = peer.until_closed().await.unwrap();
    assert_eq!(code, 0);
    assert!(text.len() >= 8, "{text}");
    assert_eq!(before.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn beats_do_not_prolong_the_time_to_log_in() {
    let world = World::new();
    let before = Instant::now();
    let mut peer = world.connect();
    for _ in 0..9 {
        peer.beat().await;
        peer.idle(Duration::from_secs(1)).await;
    }
    peer.until_closed().await;
    assert_eq!(before.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn beats_and_srv_info_are_answered_before_the_log_in() {
    let world = World::new();
    let mut peer = world.connect();
    let heart = peer.open(HEARTBEAT).await;
    for beat in [b"1234", b"5678"] {
        peer.data(heart, 0, beat).await;
        assert_eq!(peer.take(heart, 4).await, beat);
    }
    let reply = peer.call(SRV_INFO, &json!({})).await;
    assert!(reply["Region"].is_string());
    peer.data(heart, 0, b"9").await;
    peer.data(heart, 0, b"abc").await;
    assert_eq!(peer.take(heart, 4).await, b"9abc");
    peer.log_in(world.site1.expose()).await;
    assert!(!peer.inboxes[&heart].fin);
}

#[tokio::test(start_paused = true)]
async fn calls_before_the_log_in_are_refused_and_change_nothing() {
    let world = World::new();
    let mut peer = world.connect();
    assert_eq!(peer.refused(BIND, &bind("https://app.internal")).await, 109);
    assert_eq!(peer.refused(UNBIND, &json!({"Id": "x"})).await, 109);
    assert_eq!(peer.refused(PATCH, &json!({"TunnelId": "x"})).await, 109);
    peer.log_in(world.site1.expose()).await;
    assert!(world.internal("main", "https://app.internal").is_err());
}

#[tokio::test(start_paused = true)]
async fn second_log_in_on_a_connection_is_refused_and_the_session_goes_on() {
    let world = World::new();
    let mut peer = world.agent(&world.site1).await;
    assert_eq!(peer.refused(AUTH, &auth(world.other1.expose())).await, 109);
    peer.bind("https://app.internal").await;
    assert!(world.internal("main", "https://app.internal").is_ok());
    assert!(world.internal("other", "https://app.internal").is_err());
}

#[tokio::test(start_paused = true)]
async fn odd_log_ins_are_refused_with_their_code() {
    let world = World::new();
    let change = |path: &str, value: Value| {
        let mut request = auth(world.site1.expose());
        *request.pointer_mut(path).unwrap() = value;
        request
    };
    for (request, expected) in [
        (change("/Version", json!(["2"])), 811),
        (change("/Extra/HeartbeatInterval", json!(1)), 111),
        (change("/Extra/HeartbeatTolerance", json!(1000)), 112),
        (change("/Extra/Metadata", json!("x".repeat(5000))), 100),
        (change("/Extra/AuthToken", json!(7)), 109),
        (change("/ClientId", json!({})), 109),
    ] {
        assert_eq!(world.connect().refused(AUTH, &request).await, expected, "{request}");
    }
    assert_eq!(world.gateway.sessions(), 0);
}

#[tokio::test(start_paused = true)]
async fn heartbeats_may_be_absent_and_keys_are_read_in_any_case() {
    let world = World::new();
    let request = json!({"version": ["3"], "clientid": "", "EXTRA": {"Authtoken": world.site1.expose()}});
    let reply = world.connect().call(AUTH, &request).await;
    assert_eq!(code(&reply), None, "{reply}");
}

#[tokio::test(start_paused = true)]
async fn source_networks_are_kept() {
    let change = Change { main: "allowed_networks: [192.0.2.0/24]", ..Change::default() };
    let world = World::with(&change);
    let (mut peer, _) = world.connect_from("198.51.100.1:1");
    assert_eq!(peer.refused(AUTH, &auth(world.site1.expose())).await, 115);
    let (mut peer, _) = world.connect_from("198.51.100.1:1");
    peer.log_in(world.other1.expose()).await;

    let change = Change { site1: "allow_any: true, allowed_networks: [192.0.2.128/25]", ..Change::default() };
    let world = World::with(&change);
    let (mut peer, _) = world.connect_from("192.0.2.1:1");
    assert_eq!(peer.refused(AUTH, &auth(world.site1.expose())).await, 116);
    let (mut peer, _) = world.connect_from("[::ffff:192.0.2.129]:1");
    peer.log_in(world.site1.expose()).await;
}

#[tokio::test(start_paused = true)]
async fn sessions_are_limited_per_account_and_in_all() {
    let world = World::with(&Change { limits: "sessions_per_account_max: 2, sessions_max: 3", ..Change::default() });
    let (first, _second) = (world.agent(&world.site1).await, world.agent(&world.site2).await);
    assert_eq!(world.connect().refused(AUTH, &auth(world.site1.expose())).await, 108);
    let _third = world.agent(&world.other1).await;
    assert_eq!(world.connect().refused(AUTH, &auth(world.other1.expose())).await, 108);
    drop(first);
    world.until_sessions(2).await;
    let _again = world.agent(&world.site1).await;
}

#[tokio::test(start_paused = true)]
async fn failed_log_ins_are_limited_per_source() {
    let world = World::with(&Change { limits: "login_failures_per_minute_max: 3", ..Change::default() });
    let mut known = world.connect();
    let earlier = known.log_in(world.site2.expose()).await;
    for _ in 0..3 {
        assert_eq!(world.connect().refused(AUTH, &auth("wrong")).await, 105);
    }
    assert_eq!(world.connect().refused(AUTH, &auth("wrong")).await, 349);
    assert_eq!(world.connect().refused(AUTH, &auth(world.site1.expose())).await, 349);
    let (mut elsewhere, _) = world.connect_from("192.0.2.2:1");
    elsewhere.log_in(world.site1.expose()).await;
    // Who proves an earlier session comes back whatever others behind the same address do.
    let again = crate::peer::auth_again(world.site2.expose(), &earlier);
    assert_eq!(code(&world.connect().call(AUTH, &again).await), None);
    tokio::time::sleep(Duration::from_secs(60)).await;
    world.connect().log_in(world.site1.expose()).await;
}

#[tokio::test(start_paused = true)]
async fn request_in_single_bytes_and_followed_by_white_space_is_understood() {
    let world = World::new();
    let mut peer = world.connect();
    let id = peer.open(AUTH).await;
    for byte in format!("  {}\n\n", auth(world.site1.expose())).bytes() {
        peer.data(id, 0, &[byte]).await;
    }
    assert_eq!(code(&peer.answer(id).await), None);
}

#[tokio::test(start_paused = true)]
async fn half_closed_request_is_answered_too() {
    let world = World::new();
    let mut peer = world.connect();
    let id = peer.open(AUTH).await;
    peer.data(id, FIN, auth(world.site1.expose()).to_string().as_bytes()).await;
    assert_eq!(code(&peer.answer_unconfirmed(id).await), None);
}

#[tokio::test(start_paused = true)]
async fn dead_agent_is_dropped_after_interval_and_tolerance() {
    let world = World::new();
    let mut peer = world.agent(&world.site1).await;
    peer.bind("https://app.internal").await;
    let before = Instant::now();
    let (code, _) = peer.until_closed().await.unwrap();
    assert_eq!(code, 0);
    assert_eq!(before.elapsed().as_secs(), 24, "25 s after the last frame, which was a few milliseconds earlier");
    world.until_sessions(0).await;
    assert!(world.internal("main", "https://app.internal").is_err());
}

#[tokio::test(start_paused = true)]
async fn beating_agent_lives_for_hours() {
    let world = World::new();
    let mut peer = world.agent(&world.site1).await;
    peer.bind("https://app.internal").await;
    let heart = peer.open(HEARTBEAT).await;
    for _ in 0..1000 {
        peer.data(heart, 0, b"beat").await;
        peer.take(heart, 4).await;
        peer.idle(Duration::from_secs(10)).await;
    }
    assert!(world.internal("main", "https://app.internal").is_ok());
}

#[tokio::test(start_paused = true)]
async fn agents_that_come_at_once_get_in_one_after_the_other_and_are_told_when_to_come_back() {
    let world = World::with(&Change { limits: "logins_per_second_max: 4", ..Change::default() });
    let mut ours = auth(world.site1.expose());
    ours["Extra"]["Adit"] = json!({"Version": 1});
    let before = Instant::now();
    let mut waiting = Vec::new();
    for _ in 0..15 {
        let mut peer = world.connect();
        let id = peer.ask(AUTH, &ours.to_string()).await;
        peer.idle(Duration::ZERO).await;
        waiting.push((peer, id));
    }
    let (mut accepted, mut told) = (Vec::new(), Vec::new());
    for (mut peer, id) in waiting {
        let reply = peer.answer(id).await;
        match code(&reply) {
            None => accepted.push(before.elapsed().as_millis() / 250),
            Some(349) => told.push(reply["Extra"]["Adit"]["RetryAfterMs"].as_u64().unwrap()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(accepted, (0..14).map(|at: u128| at.saturating_sub(1)).collect::<Vec<_>>());
    assert_eq!(told, [3250]);
}

#[tokio::test(start_paused = true)]
async fn credential_that_logs_in_all_the_time_holds_up_no_other() {
    let world = World::with(&Change { limits: "logins_per_second_max: 4", ..Change::default() });
    let ours = |token: &Token| {
        let mut request = auth(token.expose());
        request["Extra"]["Adit"] = json!({"Version": 1});
        request
    };
    let mut looping = Vec::new();
    for _ in 0..200 {
        let mut peer = world.connect();
        peer.ask(AUTH, &ours(&world.site1).to_string()).await;
        peer.idle(Duration::from_millis(50)).await;
        looping.push(peer);
    }
    let before = Instant::now();
    let mut peer = world.connect();
    assert_eq!(code(&peer.call(AUTH, &ours(&world.site2)).await), None);
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn official_agents_wait_for_their_turn_and_are_not_refused() {
    let world = World::with(&Change { limits: "logins_per_second_max: 1", ..Change::default() });
    let before = Instant::now();
    let mut waiting = Vec::new();
    for _ in 0..30 {
        let mut peer = world.connect();
        let id = peer.ask(AUTH, &auth(world.site1.expose()).to_string()).await;
        peer.idle(Duration::ZERO).await;
        waiting.push((peer, id));
    }
    let (patient, _) = waiting.last_mut().unwrap();
    patient.beat().await;
    for (mut peer, id) in waiting {
        assert_eq!(code(&peer.answer(id).await), None);
    }
    let took = before.elapsed();
    assert!(took >= Duration::from_secs(20) && took < Duration::from_secs(21), "{took:?}");
}
