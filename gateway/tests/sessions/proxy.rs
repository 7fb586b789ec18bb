//! Visitors' bytes: both ways, to the end, and broken off.

use std::io::ErrorKind;
use std::time::Duration;

use adit_gateway::http::reach::OpenError;
use adit_gateway::stream::ProxyStream;
use futures::FutureExt;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use crate::peer::{AUTH, BIND, FIN, Frame, Peer, Visit, auth, bind, code};
use crate::world::{NUMBER, World, visitor};

const APP: &str = "https://app.internal";

/// A visitor's stream that has reached its agent.
struct Scene {
    world: World,
    peer: Peer,
    stream: ProxyStream,
    visit: Visit,
}

impl Scene {
    async fn new() -> Self {
        Self::of_type("ngrok-rust").await
    }

    async fn of_type(client_type: &str) -> Self {
        let world = World::new();
        let mut peer = world.connect();
        let mut request = auth(world.site1.expose());
        request["Extra"]["ClientType"] = json!(client_type);
        assert_eq!(code(&peer.call(AUTH, &request).await), None);
        peer.bind(APP).await;
        // An endpoint that is fresh waits for a first sign of its agent.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let stream = world.visit("main", APP).await;
        let visit = peer.visit().await;
        Self { world, peer, stream, visit }
    }

    async fn read_error(&mut self) -> ErrorKind {
        let mut read = Vec::new();
        timeout(Duration::from_secs(1), self.stream.read_to_end(&mut read)).await.unwrap().unwrap_err().kind()
    }
}

#[tokio::test(start_paused = true)]
async fn header_says_who_comes_and_for_what() {
    let scene = Scene::new().await;
    let header = &scene.visit.header;
    assert_eq!(header["ClientAddr"], visitor().peer.to_string());
    assert_eq!((&header["Proto"], &header["EdgeType"]), (&json!("https"), &json!("0")));
    assert_eq!(header["PassthroughTLS"], false);
}

#[tokio::test(start_paused = true)]
async fn frame_of_a_visitor_is_on_its_way_when_the_write_is_done() {
    let mut scene = Scene::new().await;
    let frame = vec![7; 16 * 1024];
    // Without a turn for any other task.
    assert_eq!(scene.stream.write(&frame).now_or_never().unwrap().unwrap(), frame.len());
    let came = scene.peer.came();
    assert!(came > frame.len(), "{came}");
}

#[tokio::test(start_paused = true)]
async fn bytes_keep_their_order_whether_they_wait_or_go_at_once() {
    let Scene { world: _world, mut peer, mut stream, visit } = Scene::new().await;
    let sent: Vec<u8> = (0..=u8::MAX).cycle().take(150_000).collect();
    let (mut rest, mut lens) = (&sent[..], [100, 16_376, 1, 65_536, 40_000, 5].into_iter().cycle());
    while !rest.is_empty() {
        let piece = &rest[..lens.next().unwrap().min(rest.len())];
        // The session's driver has no turn unless everything is full.
        let len = match stream.write(piece).now_or_never() {
            Some(len) => len.unwrap(),
            None => {
                let seen = peer.inboxes[&visit.id].data.len();
                peer.until("more", |peer| peer.inboxes[&visit.id].data.len() > seen).await;
                0
            }
        };
        rest = &rest[len..];
    }
    peer.until("everything", |peer| peer.inboxes[&visit.id].data.len() == sent.len()).await;
    assert!(peer.inboxes[&visit.id].data == sent);
}

#[tokio::test(start_paused = true)]
async fn number_of_the_connection_is_said_to_agents_that_know_of_it() {
    assert_eq!(Scene::new().await.visit.header.get("AditConnection"), None);
    let world = World::new();
    let mut peer = world.connect();
    let mut request = auth(world.site1.expose());
    request["Extra"]["Adit"] = json!({"Version": 1});
    assert_eq!(code(&peer.call(AUTH, &request).await), None);
    peer.bind(APP).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let _stream = world.visit("main", APP).await;
    assert_eq!(peer.visit().await.header["AditConnection"], NUMBER);
}

#[tokio::test(start_paused = true)]
async fn tls_endpoint_is_passed_through() {
    let world = World::new();
    let mut peer = world.agent(&world.site1).await;
    peer.bind("tls://www.example.com").await;
    let target = world.public("tls://www.example.com").unwrap();
    let _stream = world.open(&target).await.unwrap();
    let visit = peer.visit().await;
    assert_eq!((&visit.header["Proto"], &visit.header["PassthroughTLS"]), (&json!("tls"), &json!(true)));
}

#[tokio::test(start_paused = true)]
async fn bytes_and_ends_pass_in_both_directions() {
    let Scene { mut peer, stream, visit, .. } = Scene::new().await;
    let upload: Vec<u8> = (0..3_000_000_u32).map(|at| (at / 7 % 251) as u8).collect();
    let download: Vec<u8> = (0..3_000_000_u32).map(|at| (at / 11 % 253) as u8).collect();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let expected = download.clone();
    let reading = tokio::spawn(async move {
        let mut read = Vec::new();
        reader.read_to_end(&mut read).await.unwrap();
        assert!(read == expected);
        reader
    });
    let sent = upload.clone();
    let writing = tokio::spawn(async move {
        writer.write_all(&sent).await.unwrap();
        writer.shutdown().await.unwrap();
        writer
    });
    let mut credit = 262_144_i64;
    for chunk in download.chunks(10_000) {
        let len = i64::try_from(chunk.len()).unwrap();
        while credit < len {
            credit += peer.wait_for_credit(visit.id).await;
        }
        credit -= len;
        peer.data(visit.id, 0, chunk).await;
    }
    peer.data(visit.id, FIN, b"").await;
    peer.until_fin(visit.id).await;
    assert!(peer.inboxes[&visit.id].data == upload);
    let reader = reading.await.unwrap();
    let writer = writing.await.unwrap();
    drop(reader.unsplit(writer));
    peer.beat().await;
    assert_eq!(peer.inboxes[&visit.id].reset, None, "a stream that has ended on both sides is not reset");
}

#[tokio::test(start_paused = true)]
async fn end_of_one_direction_leaves_the_other_open() {
    let Scene { mut peer, mut stream, visit, .. } = Scene::new().await;
    stream.write_all(b"question").await.unwrap();
    stream.shutdown().await.unwrap();
    peer.until_fin(visit.id).await;
    assert_eq!(peer.inboxes[&visit.id].data, b"question");
    assert_eq!(stream.write(b"more").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    peer.data(visit.id, 0, b"late ").await;
    peer.data(visit.id, FIN, b"answer").await;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "late answer");
}

#[tokio::test(start_paused = true)]
async fn go_agent_does_not_see_the_end_of_the_request_before_its_answer_is_over() {
    let Scene { mut peer, mut stream, visit, .. } = Scene::of_type("ngrok-go").await;
    stream.write_all(b"question").await.unwrap();
    timeout(Duration::from_secs(1), stream.shutdown()).await.unwrap().unwrap();
    assert_eq!(peer.take(visit.id, 8).await, b"question");
    peer.idle(Duration::from_secs(5)).await;
    assert!(!peer.inboxes[&visit.id].fin);
    peer.data(visit.id, FIN, b"answer").await;
    peer.until_fin(visit.id).await;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "answer");
    drop(stream);
    peer.beat().await;
    assert_eq!(peer.inboxes[&visit.id].reset, None);
}

#[tokio::test(start_paused = true)]
async fn go_agent_whose_visitor_leaves_after_its_request_is_told_by_a_reset() {
    let Scene { mut peer, mut stream, visit, .. } = Scene::of_type("ngrok-go").await;
    stream.shutdown().await.unwrap();
    drop(stream);
    peer.until("the reset", |peer| peer.inboxes[&visit.id].reset == Some(6)).await;
    assert!(!peer.inboxes[&visit.id].fin);
}

#[tokio::test(start_paused = true)]
async fn abort_by_the_agent_is_an_error_and_never_a_clean_end() {
    let mut scene = Scene::new().await;
    scene.peer.data(scene.visit.id, 0, b"half of the ans").await;
    scene.peer.reset(scene.visit.id, 6).await;
    scene.peer.beat().await;
    assert_eq!(scene.read_error().await, ErrorKind::ConnectionReset);
    assert_eq!(scene.stream.write(b"x").await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(scene.stream.shutdown().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn abort_right_after_the_end_is_an_error_too() {
    let mut scene = Scene::new().await;
    scene.peer.data(scene.visit.id, FIN, b"half of the ans").await;
    scene.peer.reset(scene.visit.id, 6).await;
    scene.peer.beat().await;
    assert_eq!(scene.read_error().await, ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn answer_of_an_agent_that_takes_no_more_is_read_to_its_clean_end() {
    let Scene { mut peer, mut stream, visit, .. } = Scene::new().await;
    stream.write_all(b"a long question").await.unwrap();
    peer.take(visit.id, 15).await;
    peer.data(visit.id, FIN, b"early answer").await;
    peer.reset(visit.id, 4).await;
    peer.beat().await;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "early answer");
    peer.beat().await;
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
    assert_eq!(stream.write(b"more").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[tokio::test(start_paused = true)]
async fn agent_that_agreed_on_a_window_gets_that_and_then_what_it_grants() {
    let world = World::new();
    let mut peer = world.connect();
    let mut request = auth(world.site1.expose());
    request["Extra"]["Adit"] = json!({"Version": 1, "Window": 32_768});
    peer.call(AUTH, &request).await;
    peer.bind(APP).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut stream = world.visit("main", APP).await;
    peer.credits = false;
    let visit = peer.visit().await;
    let writing = tokio::spawn(async move { stream.write_all(&vec![7; 400_000]).await });
    peer.idle(Duration::from_secs(1)).await;
    // The header takes its part.
    let first = peer.inboxes[&visit.id].data.len();
    assert!((32_000..32_768).contains(&first), "{first}");
    // More than the protocol's window may be granted too.
    peer.credit(visit.id, 300_000).await;
    peer.idle(Duration::from_secs(1)).await;
    assert_eq!(peer.inboxes[&visit.id].data.len(), first + 300_000);
    writing.abort();
}

#[tokio::test(start_paused = true)]
async fn abort_wakes_a_reader_and_a_writer_that_wait() {
    let Scene { mut peer, stream, visit, .. } = Scene::new().await;
    peer.credits = false;
    let (mut reader, mut writer) = tokio::io::split(stream);
    let reading = tokio::spawn(async move { reader.read(&mut [0; 1]).await.unwrap_err().kind() });
    let writing = tokio::spawn(async move { writer.write_all(&vec![0; 1 << 20]).await.unwrap_err().kind() });
    peer.take(visit.id, 262_000).await;
    assert!(!reading.is_finished() && !writing.is_finished());
    peer.reset(visit.id, 7).await;
    assert_eq!(reading.await.unwrap(), ErrorKind::ConnectionReset);
    assert_eq!(writing.await.unwrap(), ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn unreachable_upstream_is_told_from_an_abort() {
    let mut scene = Scene::new().await;
    scene.peer.reset(scene.visit.id, 0xa001).await;
    scene.peer.beat().await;
    assert_eq!(scene.read_error().await, ErrorKind::ConnectionRefused);

    let mut scene = Scene::new().await;
    scene.peer.data(scene.visit.id, 0, b"something").await;
    scene.peer.beat().await;
    scene.peer.reset(scene.visit.id, 0xa001).await;
    scene.peer.beat().await;
    assert_eq!(scene.read_error().await, ErrorKind::ConnectionReset, "it had been reached");
}

#[tokio::test(start_paused = true)]
async fn visitor_that_vanishes_is_a_bare_reset_to_most_agents() {
    let Scene { mut peer, stream, visit, .. } = Scene::of_type("adit").await;
    drop(stream);
    peer.until("the reset", |peer| peer.inboxes[&visit.id].reset == Some(6)).await;
    assert!(!peer.inboxes[&visit.id].fin);
}

#[tokio::test(start_paused = true)]
async fn visitor_that_vanishes_wakes_the_rust_family_with_the_whole_sequence() {
    let Scene { mut peer, mut stream, visit, .. } = Scene::of_type("ngrok-python").await;
    stream.abort();
    assert!(stream.write(b"x").await.is_err());
    let mut seen = Vec::new();
    while seen.len() < 3 {
        match peer.next().await.unwrap() {
            Frame::Data { id, flags: FIN, body } if id == visit.id && body.is_empty() => seen.push("fin"),
            Frame::Reset { id, code: 6 } if id == visit.id => seen.push("reset"),
            Frame::Credit { id, increment: 1 } if id == visit.id => seen.push("credit"),
            frame => panic!("{frame:?}"),
        }
    }
    assert_eq!(seen, ["fin", "reset", "credit"]);
}

#[tokio::test(start_paused = true)]
async fn lost_session_breaks_its_streams() {
    let mut scene = Scene::new().await;
    drop(scene.peer);
    let mut read = Vec::new();
    let error = scene.stream.read_to_end(&mut read).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    scene.world.until_sessions(0).await;
}

#[tokio::test(start_paused = true)]
async fn go_away_of_the_agent_breaks_its_streams_and_ends_the_session_at_once() {
    let mut scene = Scene::new().await;
    // As the Rust family writes it: the length of the text alone, with eight more bytes behind the header.
    let body = [&[0; 8][..], b"shutting down"].concat();
    let header = [(13_u32 << 8 | 0x30).to_be_bytes(), [0; 4]].concat();
    scene.peer.write(&[header, body].concat()).await;
    assert_eq!(scene.read_error().await, ErrorKind::ConnectionReset);
    scene.world.until_sessions(0).await;
    assert_eq!(scene.peer.until_closed().await, None, "nothing is answered to a GOAWAY");
}

#[tokio::test(start_paused = true)]
async fn slow_reader_leaves_the_others_flowing_and_the_link_read() {
    let Scene { world, mut peer, stream: mut slow, visit, .. } = Scene::new().await;
    for _ in 0..16 {
        peer.data(visit.id, 0, &[1; 16_384]).await;
    }
    for at in 0..50 {
        let mut quick = world.visit("main", APP).await;
        let other = peer.visit().await;
        peer.data(other.id, FIN, format!("answer {at}").as_bytes()).await;
        let mut answer = String::new();
        quick.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, format!("answer {at}"));
    }
    let mut read = vec![0; 262_144];
    slow.read_exact(&mut read).await.unwrap();
    assert!(read.iter().all(|byte| *byte == 1));
}

#[tokio::test(start_paused = true)]
async fn agent_that_does_not_credit_stops_only_its_stream() {
    let Scene { world, mut peer, mut stream, visit, .. } = Scene::new().await;
    peer.credits = false;
    let writing = tokio::spawn(async move {
        stream.write_all(&vec![1; 1 << 20]).await.unwrap();
        stream
    });
    peer.take(visit.id, 262_000).await;
    let mut quick = world.visit("main", APP).await;
    let other = peer.visit().await;
    quick.write_all(b"hello").await.unwrap();
    assert_eq!(peer.take(other.id, 5).await, b"hello");
    assert!(!writing.is_finished());
    peer.credits = true;
    peer.credit(visit.id, 262_144).await;
    peer.take(visit.id, (1 << 20) - 262_000).await;
    writing.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn control_never_waits_behind_more_than_two_frames_of_bulk() {
    let Scene { world, mut peer, mut stream, visit, .. } = Scene::new().await;
    let bulk = tokio::spawn(async move {
        stream.write_all(&vec![1; 8 << 20]).await.unwrap();
        stream
    });
    let mut others = Vec::new();
    for _ in 0..20 {
        peer.take(visit.id, 100_000).await;
        others.push(world.visit("main", APP).await);
        let asked = peer.inboxes[&visit.id].data.len();
        peer.visit().await;
        // What the pretended network already holds (64 KiB), two frames, and what was read along.
        let waited = peer.inboxes[&visit.id].data.len() - asked;
        assert!(waited <= 64 * 1024 + 3 * 16 * 1024, "{waited} bytes went before a new stream");
    }
    drop(peer);
    let _ = bulk.await;
}

#[tokio::test(start_paused = true)]
async fn five_hundred_streams_work_at_once_and_the_next_is_refused() {
    let world = World::new();
    let mut peer = world.agent(&world.site1).await;
    peer.bind(APP).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let target = world.internal("main", APP).unwrap();
    let mut visits = Vec::new();
    for at in 0..500 {
        let mut stream = world.open(&target).await.unwrap_or_else(|error| panic!("{at}: {error}"));
        stream.write_all(format!("visitor {at}").as_bytes()).await.unwrap();
        let visit = peer.visit().await;
        visits.push((at, stream, visit));
    }
    assert_eq!(world.open(&target).await.unwrap_err(), OpenError::Busy);
    peer.beat().await;
    for (at, stream, visit) in &mut visits {
        let expected = format!("visitor {at}");
        assert_eq!(peer.take(visit.id, expected.len()).await, expected.as_bytes());
        peer.data(visit.id, FIN, expected.as_bytes()).await;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, expected);
        stream.shutdown().await.unwrap();
    }
    drop(visits);
    peer.beat().await;
    world.open(&target).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn streams_are_limited_to_what_the_agent_announced() {
    let world = World::new();
    let mut peer = world.connect();
    let mut request = auth(world.site1.expose());
    request["Extra"]["Adit"] = json!({"Version": 1, "StreamsMax": 2});
    peer.call(AUTH, &request).await;
    peer.bind(APP).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let _both = (world.visit("main", APP).await, world.visit("main", APP).await);
    let target = world.internal("main", APP).unwrap();
    assert_eq!(world.open(&target).await.unwrap_err(), OpenError::Busy);
}

#[tokio::test(start_paused = true)]
async fn target_whose_session_has_ended_is_offline() {
    let world = World::new();
    let mut peer = world.agent(&world.site1).await;
    peer.bind(APP).await;
    let target = world.internal("main", APP).unwrap();
    drop(peer);
    world.until_sessions(0).await;
    assert_eq!(world.open(&target).await.unwrap_err(), OpenError::Offline);
}

#[tokio::test(start_paused = true)]
async fn stream_that_a_fresh_agent_ends_at_once_is_tried_once_more() {
    let world = World::new();
    let mut peer = world.agent(&world.site1).await;
    peer.bind(APP).await;
    let target = world.internal("main", APP).unwrap();
    let (opened, second) = tokio::join!(world.open(&target), async {
        let first = peer.visit().await;
        peer.data(first.id, FIN, b"").await;
        let second = peer.visit().await;
        assert_ne!(first.id, second.id);
        peer.data(second.id, FIN, b"at last").await;
        second
    });
    let mut answer = String::new();
    opened.unwrap().read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "at last");
    assert_eq!(peer.inboxes[&second.id].reset, None);
}

#[tokio::test(start_paused = true)]
async fn fresh_endpoint_delays_its_first_visitor_by_a_tenth_of_a_second_at_most() {
    let world = World::new();
    let mut peer = world.agent(&world.site1).await;
    peer.bind(APP).await;
    let before = Instant::now();
    let mut stream = world.visit("main", APP).await;
    assert!(before.elapsed() <= Duration::from_millis(100), "{:?}", before.elapsed());
    let before = Instant::now();
    let _other = world.visit("main", APP).await;
    assert_eq!(before.elapsed(), Duration::ZERO);
    stream.write_all(b"question").await.unwrap();
    let visit = peer.visit().await;
    assert_eq!(peer.take(visit.id, 8).await, b"question");
}

#[tokio::test(start_paused = true)]
async fn proxy_header_comes_first_when_asked_for() {
    let world = World::new();
    let mut peer = world.agent(&world.site1).await;
    let mut request = bind("tcp://db.internal:5432");
    request["Opts"]["ProxyProto"] = json!(1);
    peer.call(BIND, &request).await;
    peer.beat().await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut stream = world.visit("main", "tcp://db.internal:5432").await;
    stream.write_all(b"hello").await.unwrap();
    let visit = peer.visit().await;
    let expected = b"PROXY TCP4 198.51.100.7 192.0.2.80 50000 443\r\nhello";
    assert_eq!(peer.take(visit.id, expected.len()).await, expected);
}

/// The one test in real time and on real threads: a wake-up that is lost somewhere between a stream and the link would
/// make it stand still.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn streams_on_many_threads_lose_no_wake_up() {
    const STREAMS: usize = 100;
    const LEN: usize = 200_000;
    let world = World::new();
    let mut peer = world.agent(&world.site1).await;
    peer.bind(APP).await;
    let target = world.internal("main", APP).unwrap();
    let world = std::sync::Arc::new(world);
    let visitors: Vec<_> = (0..STREAMS)
        .map(|at| {
            let (world, target) = (std::sync::Arc::clone(&world), target.clone());
            tokio::spawn(async move {
                let (mut reader, mut writer) = tokio::io::split(world.open(&target).await.unwrap());
                let sent = vec![u8::try_from(at).unwrap(); LEN];
                let expected = sent.clone();
                let writing = tokio::spawn(async move {
                    writer.write_all(&sent).await.unwrap();
                    writer.shutdown().await.unwrap();
                });
                let mut read = Vec::new();
                reader.read_to_end(&mut read).await.unwrap();
                writing.await.unwrap();
                assert!(read == expected);
            })
        })
        .collect();
    let echo = async {
        let mut ended = 0;
        let mut headers = std::collections::HashSet::new();
        while ended < STREAMS {
            let frame = peer.next().await.unwrap();
            let Frame::Data { id, flags, body } = frame else { continue };
            if id % 2 == 1 {
                continue;
            }
            // The first frame is the header.
            let body = if headers.insert(id) { Vec::new() } else { body };
            peer.data(id, flags & FIN, &body).await;
            ended += usize::from(flags & FIN != 0);
        }
    };
    timeout(Duration::from_secs(60), echo).await.expect("something stands still");
    for visitor in visitors {
        timeout(Duration::from_secs(60), visitor).await.expect("a visitor waits for ever").unwrap();
    }
}
