//! Our multiplexer against one that is not ours: the crate `muxado`, as the other end, in both roles.

// The crate needs atomics of 64 bits.
#![cfg(target_has_atomic = "64")]
#![expect(clippy::unwrap_used, reason = "a test may end here")]

#[path = "muxado_peer/ours.rs"]
mod ours;

use std::time::Duration;

use adit::frame::ErrorCode;
use adit::mux::{AbortStyle, Side};
use muxado::heartbeat::{Heartbeat, HeartbeatConfig};
use muxado::typed::{StreamType, Typed, TypedAccept, TypedOpenClose, TypedSession};
use muxado::{Accept, MuxadoSession, OpenClose, Session, SessionBuilder, Stream};
use ours::{Ours, PIECE_MAX, Plan, TAG_LEN, pattern};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// Streams at one time.
const STREAMS: u32 = 120;
/// Bytes of each direction: the window turns over several times.
fn len_of(tag: u32) -> usize {
    1_000_000 + 1_009 * tag as usize
}

fn answer(tag: u32) -> Plan {
    Plan::new(tag, len_of(tag))
}

/// Both ends of a link: ours in the role given, the other in the other.
fn link(side: Side) -> (Ours, MuxadoSession) {
    link_with(side, answer)
}

fn link_with(side: Side, answer: fn(u32) -> Plan) -> (Ours, MuxadoSession) {
    let (here, there) = tokio::io::duplex(50_000);
    let builder = SessionBuilder::new(there);
    let session = match side {
        Side::Agent => builder.server().start(),
        Side::Gateway => builder.client().start(),
    };
    (Ours::new(side, here, answer), session)
}

/// Runs a scenario with our end in each role. The time limit only turns a hang into a failure.
fn both_roles<F: Future<Output = ()>>(scenario: impl Fn(Side) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for side in [Side::Agent, Side::Gateway] {
        let done = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(120), scenario(side)).await });
        assert!(done.is_ok(), "{side:?} hangs");
    }
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), tag: u32, opener: bool, from: usize, to: usize) {
    let mut at = from;
    while at < to {
        let piece = pattern(tag, opener, at, (to - at).min(10_000));
        stream.write_all(piece).await.unwrap();
        at += piece.len();
    }
}

/// Reads up to `to`, or to the end of the stream.
async fn expect(stream: &mut (impl AsyncRead + Unpin), tag: u32, opener: bool, from: usize, to: usize) -> usize {
    let mut buffer = vec![0; PIECE_MAX];
    let mut at = from;
    while at < to {
        let n = stream.read(&mut buffer[..(to - at).min(PIECE_MAX)]).await.unwrap();
        if n == 0 {
            break;
        }
        assert!(buffer[..n] == *pattern(tag, opener, at, n), "other bytes than were sent");
        at += n;
    }
    at
}

async fn accept(session: &mut impl Accept) -> (Stream, u32) {
    let mut stream = session.accept().await.unwrap();
    let tag = stream.read_u32().await.unwrap();
    (stream, tag)
}

async fn open(session: &mut impl OpenClose, tag: u32) -> Stream {
    let mut stream = session.open().await.unwrap();
    stream.write_all(&tag.to_be_bytes()).await.unwrap();
    stream
}

/// The peer's side of one stream: sends and receives at the same time, ends its direction, waits for our end.
async fn converse(stream: Stream, tag: u32, opener: bool) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let start = |ours: bool| if ours { TAG_LEN } else { 0 };
    let sending = async {
        send(&mut writer, tag, opener, start(opener), start(opener) + len_of(tag)).await;
        writer.shutdown().await.unwrap();
    };
    let receiving = async {
        let end = expect(&mut reader, tag, !opener, start(!opener), usize::MAX).await;
        assert_eq!(end, start(!opener) + len_of(tag));
    };
    tokio::join!(sending, receiving);
}

#[test]
fn many_streams_carry_megabytes_both_ways() {
    both_roles(|side| async move {
        let (mut ours, session) = link(side);
        for tag in 0..STREAMS / 2 {
            ours.open(Plan::new(tag, len_of(tag)));
        }
        let (mut opener, mut acceptor) = session.split();
        let mut peers = JoinSet::new();
        peers.spawn(async move {
            for tag in STREAMS / 2..STREAMS {
                let stream = open(&mut opener, tag).await;
                tokio::spawn(converse(stream, tag, true));
            }
            // Dropping it would end the session.
            std::future::pending::<()>().await;
        });
        peers.spawn(async move {
            let mut conversations = JoinSet::new();
            for _ in 0..STREAMS / 2 {
                let (stream, tag) = accept(&mut acceptor).await;
                conversations.spawn(converse(stream, tag, false));
            }
            conversations.join_all().await;
            std::future::pending::<()>().await;
        });
        ours.run(|ours| ours.streams.len() == STREAMS as usize && ours.streams.values().all(Plan::is_done)).await;
        ours.run(|ours| ours.mux.streams() == 0).await;
        for plan in ours.streams.values() {
            let there = if plan.tag < STREAMS / 2 { 0 } else { TAG_LEN };
            assert_eq!((plan.received, plan.reset), (there + len_of(plan.tag), None), "stream {}", plan.tag);
        }
        assert_eq!(ours.mux.memory_used(), 0);
    });
}

#[test]
fn five_hundred_streams_are_open_at_once() {
    both_roles(|side| async move {
        let (mut ours, mut session) = link(side);
        for tag in 0..500 {
            ours.open(Plan { stalled: true, ..Plan::new(tag, 10) });
        }
        let peer = async {
            let mut streams = Vec::new();
            for _ in 0..500 {
                streams.push(accept(&mut session).await);
            }
            for (stream, tag) in &mut streams {
                assert_eq!(expect(stream, *tag, true, TAG_LEN, usize::MAX).await, TAG_LEN + 10);
                send(stream, *tag, false, 0, 100).await;
                stream.shutdown().await.unwrap();
            }
        };
        ours.drive(peer).await;
        for plan in ours.streams.values_mut() {
            plan.stalled = false;
        }
        ours.run(|ours| ours.mux.streams() == 0).await;
        assert!(ours.streams.values().all(|plan| plan.is_done() && plan.received == 100));
    });
}

#[test]
fn half_closed_stream_still_carries_the_answer() {
    both_roles(|side| async move {
        let (mut ours, mut session) = link(side);
        let asks = ours.open(Plan::new(1, 400_000));
        let waits = ours.open(Plan { after_peer: true, ..Plan::new(2, 400_000) });
        let peer = async {
            // Our whole request and its end first, then the answer.
            let (mut stream, tag) = accept(&mut session).await;
            assert_eq!(expect(&mut stream, tag, true, TAG_LEN, usize::MAX).await, TAG_LEN + 400_000);
            send(&mut stream, tag, false, 0, 500_000).await;
            stream.shutdown().await.unwrap();
            // Its whole answer and its end first, then our request.
            let (mut stream, tag) = accept(&mut session).await;
            send(&mut stream, tag, false, 0, 500_000).await;
            stream.shutdown().await.unwrap();
            assert_eq!(expect(&mut stream, tag, true, TAG_LEN, usize::MAX).await, TAG_LEN + 400_000);
        };
        ours.drive(peer).await;
        ours.run(|ours| ours.mux.streams() == 0).await;
        for key in [asks, waits] {
            assert!(ours.streams[&key].is_done());
            assert_eq!(ours.streams[&key].received, 500_000);
        }
    });
}

#[test]
fn stream_that_the_peer_does_not_read_leaves_the_others_flowing() {
    both_roles(|side| async move {
        let (mut ours, mut session) = link(side);
        let stalled = ours.open(Plan::new(1, 1_000_000));
        let peer = async {
            let (unread, _) = accept(&mut session).await;
            for tag in 2..5 {
                let stream = open(&mut session, tag).await;
                converse(stream, tag, true).await;
            }
            unread
        };
        let mut unread = ours.drive(peer).await;
        assert_eq!(ours.streams[&stalled].sent, 262_144 + TAG_LEN, "the window, and the credit for what was read");
        let peer = async {
            assert_eq!(expect(&mut unread, 1, true, TAG_LEN, usize::MAX).await, TAG_LEN + 1_000_000);
            unread.shutdown().await.unwrap();
        };
        ours.drive(peer).await;
        ours.run(|ours| ours.mux.streams() == 0).await;
        assert!(ours.streams.values().all(Plan::is_done));
    });
}

#[test]
fn stream_that_we_do_not_read_leaves_the_others_flowing() {
    both_roles(|side| async move {
        let answer = |tag| Plan { stalled: tag == 1, ..answer(tag) };
        let (mut ours, mut session) = link_with(side, answer);
        let (began, begun) = oneshot::channel();
        let peer = async {
            let stream = open(&mut session, 1).await;
            began.send(tokio::spawn(converse(stream, 1, true))).unwrap();
            for tag in 2..5 {
                let stream = open(&mut session, tag).await;
                converse(stream, tag, true).await;
            }
        };
        ours.drive(peer).await;
        let stalled = *ours.streams.iter().find(|(_, plan)| plan.tag == 1).unwrap().0;
        assert_eq!(ours.streams[&stalled].received, TAG_LEN);
        assert_eq!(ours.mux.queue(stalled).unwrap().len(), 262_144 - TAG_LEN, "the window");
        ours.streams.get_mut(&stalled).unwrap().stalled = false;
        ours.drive(begun.await.unwrap()).await.unwrap();
        ours.run(|ours| ours.mux.streams() == 0).await;
        assert!(ours.streams.values().all(Plan::is_done));
    });
}

// The peer forgets a stream with its FIN and refuses what still arrives with RST 4.
#[test]
fn early_answer_to_a_long_upload_is_delivered_whole() {
    both_roles(|side| async move {
        let (mut ours, mut session) = link(side);
        let upload = ours.open(Plan { stalled: true, open_end: true, ..Plan::new(1, 100_000) });
        let peer = async {
            let (mut stream, tag) = accept(&mut session).await;
            send(&mut stream, tag, false, 0, 200_000).await;
            stream.shutdown().await.unwrap();
            stream
        };
        let stream = ours.drive(peer).await;
        ours.run(|ours| ours.streams[&upload].announced_end).await;
        drop(stream);
        ours.streams.get_mut(&upload).unwrap().send += 50_000;
        // What another stream carries both ways comes behind the refusal.
        ours.drive(async { converse(open(&mut session, 2).await, 2, true).await }).await;
        let plan = ours.streams.get_mut(&upload).unwrap();
        assert_eq!((plan.received, plan.reset), (0, None));
        plan.stalled = false;
        ours.run(|ours| ours.streams[&upload].reset.is_some()).await;
        let plan = &ours.streams[&upload];
        assert_eq!((plan.received, plan.ended), (200_000, true));
        assert_eq!(plan.reset, Some(ErrorCode::STREAM_CLOSED));
    });
}

#[test]
fn waking_reset_wakes_a_reader_and_a_blocked_writer() {
    both_roles(|side| async move {
        let (mut ours, mut session) = link_with(side, |tag| Plan { stalled: true, ..Plan::new(tag, 0) });
        ours.mux.set_abort_style(AbortStyle::WakeThenReset);
        let read = ours.open(Plan { after_peer: true, ..Plan::new(1, 10) });
        let (blocked, is_blocked) = oneshot::channel();
        let peer = async {
            let (mut stream, _) = accept(&mut session).await;
            let reader = tokio::spawn(async move { stream.read(&mut [0; 10]).await });
            let mut stream = open(&mut session, 2).await;
            let writer = tokio::spawn(async move {
                send(&mut stream, 2, true, TAG_LEN, 262_144).await;
                blocked.send(()).unwrap();
                stream.write_all(b"beyond the window").await
            });
            is_blocked.await.unwrap();
            (reader, writer)
        };
        let (reader, writer) = ours.drive(peer).await;
        ours.run(|ours| ours.streams.values().any(|plan| plan.tag == 2)).await;
        let written = *ours.streams.iter().find(|(_, plan)| plan.tag == 2).unwrap().0;
        for key in [read, written] {
            ours.mux.reset(key, ErrorCode::STREAM_CANCELLED);
            ours.streams.remove(&key);
        }
        let (reader, writer) = ours.drive(async { (reader.await.unwrap(), writer.await.unwrap()) }).await;
        assert_eq!(reader.unwrap(), 0);
        assert_eq!(writer.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        // Nothing else suffered.
        let other = ours.open(Plan::new(3, 1000));
        let peer = async {
            let (mut stream, tag) = accept(&mut session).await;
            assert_eq!(expect(&mut stream, tag, true, TAG_LEN, usize::MAX).await, TAG_LEN + 1000);
        };
        ours.drive(peer).await;
        ours.run(|ours| ours.streams[&other].ended).await;
    });
}

#[test]
fn stream_that_the_peer_drops_unread_is_refused_not_ended() {
    both_roles(|side| async move {
        let (mut ours, mut session) = link(side);
        let key = ours.open(Plan::new(1, 5_000_000));
        let peer = async {
            // Dropped: a FIN, then RST 4 for what we still send.
            drop(accept(&mut session).await);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = peer => {}
            () = ours.run(|ours| ours.streams[&key].reset.is_some()) => {}
        }
        assert_eq!(ours.streams[&key].reset, Some(ErrorCode::STREAM_CLOSED));
        assert_eq!(ours.mux.streams(), 0);
    });
}

#[test]
fn heartbeats_pass_both_ways() {
    both_roles(|side| async move {
        let (mut ours, session) = link(side);
        ours.echo = true;
        let config = HeartbeatConfig { interval: Duration::from_secs(3600), ..HeartbeatConfig::default() };
        let (session, control) = ours.drive(Heartbeat::start(Typed::new(session), config)).await.unwrap();
        for _ in 0..100 {
            ours.drive(control.beat()).await.unwrap();
        }
        // And as the one who asks.
        let (_opener, mut acceptor) = session.split_typed();
        let responder = tokio::spawn(async move { acceptor.accept_typed().await.map(|_| ()) });
        let key = ours.mux.open(&[0xff; 4]).unwrap();
        for beat in 0..100u32 {
            ours.mux.send(key, &beat.to_be_bytes()).unwrap();
            ours.run(|ours| ours.mux.chunk(key).len() == 4).await;
            assert_eq!(ours.mux.chunk(key), beat.to_be_bytes());
            ours.mux.consume(key, 4);
        }
        assert!(!responder.is_finished());
    });
}

#[test]
fn typed_streams_arrive_with_their_type() {
    both_roles(|side| async move {
        let (mut ours, session) = link(side);
        let mut session = Typed::new(session);
        ours.open(Plan::new(3, 1000));
        let peer = async {
            let mut stream = session.accept_typed().await.unwrap();
            assert_eq!(*stream.typ(), 3);
            assert_eq!(expect(&mut *stream, 3, true, TAG_LEN, usize::MAX).await, TAG_LEN + 1000);
            let stream = session.open_typed(StreamType::clamp(7)).await.unwrap();
            (session, stream)
        };
        let _open = ours.drive(peer).await;
        ours.run(|ours| ours.streams.values().any(|plan| plan.tag == 7)).await;
    });
}

// The crate announces a wrong length in its GOAWAY.
#[test]
fn goodbye_of_the_peer_ends_the_session() {
    both_roles(|side| async move {
        let (mut ours, mut session) = link(side);
        let closing = session.close(muxado::Error::Internal, "the text is long enough".to_owned());
        tokio::select! {
            () = ours.run(|ours| ours.go_away.is_some()) => {}
            () = async { closing.await.unwrap(); std::future::pending().await } => {}
        }
        assert_eq!(ours.go_away, Some(ErrorCode::INTERNAL_ERROR));
        assert!(ours.mux.is_ending());
    });
}

#[test]
fn our_goodbye_ends_the_peers_session() {
    both_roles(|side| async move {
        let (mut ours, mut session) = link(side);
        ours.open(Plan::new(1, 1000));
        let (mut stream, _) = ours.drive(accept(&mut session)).await;
        ours.mux.go_away(ErrorCode::NO_ERROR, "no error");
        ours.drive(async {
            assert!(session.accept().await.is_none());
            // Its streams end with it.
            let _ = stream.read_to_end(&mut Vec::new()).await;
        })
        .await;
    });
}
