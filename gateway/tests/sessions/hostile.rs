//! Peers that break the rules: it costs a stream, or the link, and never more than that.

use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use crate::peer::{AUTH, BIND, FIN, Frame, HEARTBEAT, Peer, SYN, auth, bind, code};
use crate::world::World;

const APP: &str = "https://app.internal";

/// A logged-in agent that is about to misbehave, and another one that must not notice.
async fn scene() -> (World, Peer, Peer) {
    let world = World::new();
    let mut bystander = world.agent(&world.other1).await;
    bystander.bind(APP).await;
    let mut hostile = world.agent(&world.site1).await;
    hostile.bind(APP).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    (world, hostile, bystander)
}

async fn assert_serves(world: &World, account: &str, peer: &mut Peer) {
    let mut stream = world.visit(account, APP).await;
    let visit = peer.visit().await;
    peer.data(visit.id, FIN, b"fine").await;
    let mut answer = String::new();
    timeout(Duration::from_secs(1), stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer, "fine");
}

#[tokio::test(start_paused = true)]
async fn broken_frames_end_the_link_with_a_code_and_a_text() {
    for (frame, expected) in [
        ((1, SYN, 4, vec![0; 4]), 1),
        ((1, SYN, 2, vec![0; 4]), 1),
        ((1, 0, 0, vec![0; 4]), 1),
        ((2, 0, 0, vec![0, 0, 0, 1]), 1),
        ((2, 0, 3, vec![0, 0, 0, 0]), 1),
        ((0, 0, 3, vec![0; 5]), 8),
        ((2, 0, 3, vec![0; 3]), 8),
        ((1, SYN, 3, vec![0; 4]), 1),
    ] {
        let (world, mut hostile, mut bystander) = scene().await;
        let (kind, flags, id, body) = frame.clone();
        hostile.frame(kind, flags, id, &body).await;
        let (code, text) = hostile.until_closed().await.unwrap();
        assert_eq!(code, expected, "{frame:?}");
        assert!(text.len() >= 8, "{frame:?}: {text}");
        world.until_sessions(1).await;
        assert_serves(&world, "other", &mut bystander).await;
    }
}

#[tokio::test(start_paused = true)]
async fn tolerable_frames_are_tolerated() {
    let (world, mut hostile, _bystander) = scene().await;
    hostile.frame(9, 0, 0, b"abc").await;
    hostile.frame(15, 15, 77, b"").await;
    hostile.data(1001, FIN, b"").await;
    hostile.credit(1001, 1).await;
    hostile.reset(1001, 4).await;
    hostile.data(1003, 0, b"for nobody").await;
    hostile.until("a reset", |peer| peer.inboxes.get(&1003).is_some_and(|inbox| inbox.reset == Some(4))).await;
    for _ in 0..5 {
        hostile.credit(2, 0x7fff_ffff).await;
    }
    hostile.frame(1, 0xc, 1001, b"").await;
    assert_serves(&world, "main", &mut hostile).await;
}

#[tokio::test(start_paused = true)]
async fn overrun_window_costs_the_stream_alone() {
    let (world, mut hostile, _bystander) = scene().await;
    let mut stream = world.visit("main", APP).await;
    let visit = hostile.visit().await;
    for _ in 0..17 {
        hostile.data(visit.id, 0, &[0; 16_384]).await;
    }
    hostile.until("the reset", |peer| peer.inboxes[&visit.id].reset == Some(3)).await;
    let mut read = Vec::new();
    assert!(stream.read_to_end(&mut read).await.is_err());
    assert_serves(&world, "main", &mut hostile).await;
}

#[tokio::test(start_paused = true)]
async fn frame_of_sixteen_mebibytes_is_skipped_and_costs_its_stream() {
    let (world, mut hostile, _bystander) = scene().await;
    let _stream = world.visit("main", APP).await;
    let visit = hostile.visit().await;
    hostile.data(visit.id, 0, &vec![0; 0xff_ffff]).await;
    hostile.until("the reset", |peer| peer.inboxes[&visit.id].reset == Some(3)).await;
    assert_serves(&world, "main", &mut hostile).await;
}

#[tokio::test(start_paused = true)]
async fn broken_json_is_answered_and_costs_nothing_else() {
    let (world, mut hostile, _bystander) = scene().await;
    for text in [
        "[]",
        "\"x\"",
        "nonsense",
        "{\"Id\": }",
        "{\"Id\": 7}",
        "{} trailing",
        "{\"Proto\":\"https\",\"Opts\":[]}",
        "\u{0}{}",
    ] {
        let id = hostile.ask(BIND, text).await;
        let reply = hostile.answer(id).await;
        assert!(code(&reply).is_some(), "{text}: {reply}");
    }
    let deep = format!("{}{}", "{\"a\":".repeat(200), "1");
    let id = hostile.ask(BIND, &deep).await;
    assert!(code(&hostile.answer(id).await).is_some());
    assert_serves(&world, "main", &mut hostile).await;
}

#[tokio::test(start_paused = true)]
async fn request_that_ends_in_the_middle_costs_its_stream() {
    let (world, mut hostile, _bystander) = scene().await;
    let id = hostile.open(BIND).await;
    hostile.data(id, FIN, b"{\"Id\":").await;
    hostile.until("the end", |peer| peer.inboxes[&id].fin || peer.inboxes[&id].reset.is_some()).await;
    assert_serves(&world, "main", &mut hostile).await;
}

#[tokio::test(start_paused = true)]
async fn requests_without_end_are_refused_at_a_bound() {
    let (world, mut hostile, _bystander) = scene().await;
    let id = hostile.open(BIND).await;
    hostile.data(id, 0, b"{\"Id\":\"").await;
    for _ in 0..80 {
        hostile.data(id, 0, &[b'x'; 16_000]).await;
        hostile.beat().await;
        if hostile.inboxes[&id].fin || hostile.inboxes[&id].reset.is_some() {
            break;
        }
    }
    assert!(hostile.inboxes[&id].fin || hostile.inboxes[&id].reset.is_some());
    assert_serves(&world, "main", &mut hostile).await;
}

#[tokio::test(start_paused = true)]
async fn streams_before_the_log_in_are_few() {
    let world = World::new();
    let mut hostile = world.connect();
    for _ in 0..20 {
        hostile.open(HEARTBEAT).await;
    }
    hostile.until("a refusal", |peer| peer.inboxes.values().any(|inbox| inbox.reset == Some(5))).await;
    hostile.idle(Duration::from_millis(1)).await;
    assert!(hostile.inboxes.values().filter(|inbox| inbox.reset.is_none()).count() <= 8);
}

#[tokio::test(start_paused = true)]
async fn streams_that_are_opened_and_left_are_bounded() {
    let (world, mut hostile, _bystander) = scene().await;
    for _ in 0..600 {
        hostile.open(BIND).await;
        hostile.idle(Duration::from_micros(1)).await;
    }
    assert!(hostile.inboxes.values().any(|inbox| inbox.reset == Some(5)));
    let target = world.internal("main", APP).unwrap();
    assert!(world.open(&target).await.is_err(), "it took its streams itself");
    assert_eq!(world.gateway.sessions(), 2);
}

#[tokio::test(start_paused = true)]
async fn random_bytes_cost_their_link_at_most() {
    let world = World::new();
    let mut bystander = world.agent(&world.other1).await;
    bystander.bind(APP).await;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..200 {
        let mut bytes = Vec::new();
        for _ in 0..1 + round % 64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            bytes.extend_from_slice(&state.to_be_bytes());
        }
        let mut hostile = if round % 2 == 0 { world.connect() } else { world.agent(&world.site1).await };
        hostile.write(&bytes).await;
        drop(hostile);
    }
    tokio::time::sleep(Duration::from_secs(15)).await;
    bystander.beat().await;
    world.until_sessions(1).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_serves(&world, "other", &mut bystander).await;
}

#[tokio::test(start_paused = true)]
async fn link_that_ends_within_a_frame_is_let_go() {
    let world = World::new();
    for len in [1, 7, 8, 9, 11] {
        let (mut peer, task) = world.connect_from("192.0.2.1:1");
        let frame = [&(4_u32 << 8 | 0x12).to_be_bytes()[..], &3_u32.to_be_bytes(), &[0; 4]].concat();
        peer.write(&frame[..len]).await;
        drop(peer);
        task.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn proxied_garbage_is_the_visitors_business() {
    let (world, mut hostile, _bystander) = scene().await;
    let mut stream = world.visit("main", APP).await;
    let visit = hostile.visit().await;
    hostile.data(visit.id, 0, &[0, 1, 2, 255]).await;
    let mut read = [0; 4];
    stream.read_exact(&mut read).await.unwrap();
    assert_eq!(read, [0, 1, 2, 255]);
}

#[tokio::test(start_paused = true)]
async fn session_that_was_judged_gets_no_second_identity() {
    let world = World::new();
    let mut peer = world.connect();
    // Both requests are on their way before the first is answered.
    let first = peer.ask(AUTH, &auth(world.site1.expose()).to_string()).await;
    let second = peer.ask(AUTH, &auth(world.other1.expose()).to_string()).await;
    assert_eq!(code(&peer.answer(first).await), None);
    assert_eq!(code(&peer.answer(second).await), Some(109));
    peer.bind(APP).await;
    assert!(world.internal("main", APP).is_ok() && world.internal("other", APP).is_err());
    let reply = peer.call(BIND, &json!({"Proto": "https", "Opts": bind(APP)["Opts"]})).await;
    assert_eq!(code(&reply), Some(334), "all other members may be missing");
}

#[tokio::test(start_paused = true)]
async fn aborts_of_calls_leave_nothing_behind() {
    let (world, mut hostile, _bystander) = scene().await;
    for at in 0..300 {
        let id = hostile.ask(BIND, &bind(&format!("https://n{}.internal", at % 3)).to_string()).await;
        hostile.reset(id, 6).await;
    }
    hostile.beat().await;
    assert_serves(&world, "main", &mut hostile).await;
    let frame = timeout(Duration::from_secs(1), hostile.next()).await;
    assert!(
        matches!(frame, Err(_) | Ok(Some(Frame::Data { .. } | Frame::Credit { .. } | Frame::Reset { .. }))),
        "{frame:?}"
    );
}
