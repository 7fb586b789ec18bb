//! Every bound, at the bound.

use super::limits::{FRAME_DATA_MAX, OUTBOX_FREE, OUTBOX_MAX, OUTBOXES_MAX, RECENT_MAX, RESETS_MAX};
use super::*;

fn limited(streams_max: usize, open_max: usize) -> Mux {
    Mux::new(Side::Gateway, Limits { streams_max, open_max, ..Limits::default() })
}

#[test]
fn stream_over_streams_max_is_refused_alone() {
    let mut mux = limited(2, 2);
    let first = accept(&mut mux, 3);
    accept(&mut mux, 5);
    recv(&mut mux, &data(7, DataFlag::Syn, b"one too many"));
    recv(&mut mux, &data(7, DataFlag::None, b"sent before the peer knew"));
    recv(&mut mux, &data(7, DataFlag::Fin, b""));
    assert_eq!(written(&mut mux), ["RST 7 5"]);
    assert_eq!((events(&mut mux), mux.streams()), (vec![], 2));
    mux.reset(first, ErrorCode::STREAM_CANCELLED);
    accept(&mut mux, 9);
}

#[test]
fn open_max_counts_the_streams_of_both_sides() {
    let mut mux = limited(4, 3);
    accept(&mut mux, 3);
    assert_eq!(mux.free_streams(), 2);
    let key = mux.open(b"type").unwrap();
    mux.open(b"type").unwrap();
    assert_eq!((mux.open(b"type"), mux.free_streams()), (Err(OpenError::Limit), 0));
    accept(&mut mux, 5);
    recv(&mut mux, &open(7));
    assert_eq!(mux.streams(), 4);
    mux.reset(key, ErrorCode::STREAM_CANCELLED);
    assert_eq!(mux.open(b"type"), Err(OpenError::Limit));
    mux.set_streams(4, 4);
    assert!(mux.open(b"type").is_ok());
}

#[test]
fn five_hundred_streams_work_at_once() {
    let (mut ours, mut peer) = (gateway(), agent());
    let keys: Vec<_> = std::iter::from_fn(|| ours.open(b"type").ok()).collect();
    assert_eq!(keys.len(), Limits::default().open_max);
    for key in &keys {
        ours.send(*key, &[7; 500]).unwrap();
        ours.finish(*key);
    }
    recv(&mut peer, &out(&mut ours));
    let mut answered = 0;
    for event in events(&mut peer) {
        if let Event::Finished(key) = event {
            assert_eq!(peer.queue(key).unwrap().len(), 504);
            peer.consume(key, 504);
            peer.send(key, b"done").unwrap();
            peer.finish(key);
            answered += 1;
        }
    }
    assert_eq!(answered, keys.len());
    recv(&mut ours, &out(&mut peer));
    events(&mut ours);
    for key in keys {
        assert_eq!(ours.chunk(key), b"done");
        ours.consume(key, 4);
    }
    assert_eq!((ours.streams(), peer.streams()), (0, 0));
    assert_eq!((ours.memory_used(), peer.memory_used()), (0, 0));
}

#[test]
fn outbox_takes_all_or_nothing() {
    let mut mux = gateway();
    let key = accept(&mut mux, 3);
    mux.send(key, &vec![0; OUTBOX_MAX - 1]).unwrap();
    assert_eq!(mux.send(key, b"xy"), Err(SendError));
    mux.send(key, b"x").unwrap();
    assert_eq!(mux.send(key, b"x"), Err(SendError));
    // Bytes that went out make room.
    assert_eq!(out(&mut mux).len(), limits::WINDOW as usize + 17 * frame::HEADER_LEN);
    mux.send(key, &vec![0; limits::WINDOW as usize]).unwrap();
    assert_eq!(mux.send(key, b"x"), Err(SendError));
}

#[test]
fn outbox_keeps_nothing_of_what_went_out() {
    let mut mux = gateway();
    let key = mux.open(b"type").unwrap();
    for _ in 0..100 {
        mux.send(key, &[0; 100_000]).unwrap();
        let mut bytes = Vec::new();
        mux.poll_transmit(&mut bytes, 99_000);
        recv(&mut mux, &frame::credit(2, 99_000));
    }
    let stream = mux.store.peek(key).unwrap();
    assert!(stream.outbox.len() <= stream.outbox_left() + 100_000, "{} bytes", stream.outbox.len());
}

#[test]
fn outbox_of_a_stream_that_never_reached_the_wire_is_bounded_too() {
    let mut mux = gateway();
    let key = mux.open(&vec![0; FRAME_DATA_MAX]).unwrap();
    mux.send(key, &vec![0; OUTBOX_MAX - FRAME_DATA_MAX]).unwrap();
    assert_eq!(mux.send(key, b"x"), Err(SendError));
}

#[test]
fn outboxes_of_all_streams_together_are_bounded_and_short_messages_pass() {
    let mut mux = Mux::new(Side::Gateway, Limits { memory_max: 4 * OUTBOXES_MAX, ..Limits::default() });
    let keys: Vec<_> = (3..23).step_by(2).map(|id| accept(&mut mux, id)).collect();
    let long = vec![0; OUTBOX_MAX / 2];
    let taken = std::iter::repeat_n(&keys[..9], 2).flatten().filter(|key| mux.send(**key, &long).is_ok()).count();
    assert_eq!(taken, OUTBOXES_MAX / long.len());
    assert_eq!(mux.send(keys[9], &vec![0; OUTBOX_FREE + 1]), Err(SendError));
    mux.send(keys[9], &vec![0; OUTBOX_FREE]).unwrap();
    mux.reset(keys[0], ErrorCode::STREAM_CANCELLED);
    mux.send(keys[9], &long).unwrap();
}

#[test]
fn outboxes_fill_a_quarter_of_the_budget_and_short_messages_another() {
    let memory_max = 1 << 20;
    let mut mux = Mux::new(Side::Gateway, Limits { memory_max, ..Limits::default() });
    let keys: Vec<_> = (3..403).step_by(2).map(|id| accept(&mut mux, id)).collect();
    mux.send(keys[0], &vec![0; memory_max / 4]).unwrap();
    assert_eq!(mux.send(keys[1], &vec![0; OUTBOX_FREE + 1]), Err(SendError));
    let taken = keys[1..].iter().filter(|key| mux.send(**key, &[0; OUTBOX_FREE]).is_ok()).count();
    assert_eq!(taken, memory_max / 4 / OUTBOX_FREE);
    assert_eq!(mux.memory_used(), memory_max / 2);
    out(&mut mux);
    mux.reset(keys[0], ErrorCode::STREAM_CANCELLED);
    assert_eq!(mux.memory_used(), 0);
}

fn id(n: usize) -> u32 {
    2 * u32::try_from(n).unwrap() + 3
}

#[test]
fn peer_that_never_reads_its_resets_loses_the_link() {
    let mut mux = gateway();
    let most = RESETS_MAX + Limits::default().streams_max;
    for n in 0..most {
        mux.recv(&data(id(n), DataFlag::None, b"x"), &mut ()).unwrap();
    }
    let last = mux.recv(&data(id(most), DataFlag::None, b"x"), &mut ());
    assert_eq!(last, Err(LinkError::LimitResets));
    assert_eq!(written(&mut mux), ["GOAWAY 0 10 the peer causes resets faster than it reads them"]);
}

// An upstream that dies with thousands of connections is not the peer's fault.
#[test]
fn all_streams_may_be_aborted_at_once() {
    let streams_max = 2 * RESETS_MAX;
    let mut mux = limited(streams_max, 0);
    for n in 0..streams_max {
        mux.recv(&open(id(n)), &mut ()).unwrap();
    }
    for event in events(&mut mux) {
        if let Event::Opened(key) = event {
            mux.reset(key, ErrorCode::STREAM_CANCELLED);
        }
    }
    for n in 0..streams_max {
        mux.recv(&data(id(n), DataFlag::None, b"on its way"), &mut ()).unwrap();
    }
    assert_eq!(written(&mut mux).len(), streams_max);
    accept(&mut mux, id(streams_max));
}

#[test]
fn peer_that_reads_its_resets_may_cause_any_number() {
    let mut mux = gateway();
    for n in 0..3 * RESETS_MAX {
        recv(&mut mux, &data(id(n), DataFlag::None, b"x"));
        assert_eq!(written(&mut mux), [format!("RST {} 4", id(n))]);
    }
}

#[test]
fn flood_of_credit_and_beats_is_no_flood() {
    let mut mux = gateway();
    let key = accept(&mut mux, 3);
    for _ in 0..10_000 {
        mux.recv(&frame::credit(3, 4), &mut ()).unwrap();
        mux.recv(&data(3, DataFlag::None, b"beat"), &mut ()).unwrap();
        while mux.poll_event().is_some() {}
        mux.consume(key, 4);
    }
    let lines = written(&mut mux);
    assert_eq!(lines, ["WNDINC 3 40004"]);
}

#[test]
fn exactly_the_last_ids_we_reset_are_remembered() {
    let mut mux = gateway();
    for n in 0..=RECENT_MAX {
        let key = accept(&mut mux, id(n));
        mux.reset(key, ErrorCode::STREAM_CANCELLED);
        assert_eq!(written(&mut mux), [format!("RST {} 6", id(n))]);
    }
    for n in 1..=RECENT_MAX {
        recv(&mut mux, &data(id(n), DataFlag::None, b"late"));
    }
    assert_eq!(written(&mut mux), Vec::<String>::new());
    recv(&mut mux, &data(id(0), DataFlag::None, b"too late"));
    assert_eq!(written(&mut mux), ["RST 3 4"]);
}

// Counting allocations would need unsafe code; what could allocate is looked at instead.
#[test]
fn memory_of_queues_and_blocks_is_reused() {
    let (mut ours, mut peer) = (gateway(), agent());
    let sender = opened(&mut peer);
    let reader = accept(&mut ours, 3);
    let mut wire = Vec::new();
    let mut capacities = Vec::new();
    for _ in 0..50 {
        peer.want_send(sender);
        for _ in 0..3 {
            let Some(grant) = peer.poll_grant() else { break };
            let max = grant.max;
            wire.extend_from_slice(&peer.commit(grant, max).unwrap());
            wire.resize(wire.len() + max, 0);
        }
        ours.recv(&wire, &mut ()).unwrap();
        wire.clear();
        while ours.poll_event().is_some() {}
        ours.consume(reader, usize::MAX);
        ours.poll_transmit(&mut wire, usize::MAX);
        peer.recv(&wire, &mut ()).unwrap();
        wire.clear();
        let queues = |mux: &Mux| {
            let [light, heavy] = mux.turns.lines();
            [&mux.events, &mux.urgent, light, heavy, &mux.credits].map(VecDeque::capacity)
        };
        capacities.push((queues(&ours), queues(&peer), ours.pool.blocks_made()));
    }
    assert_eq!(capacities[1], capacities[49]);
}
