//! Credit, ours and the peer's.

use super::*;

// F14.
#[test]
fn credit_granted_to_excess_never_overflows() {
    let mut mux = gateway();
    let key = accept(&mut mux, 3);
    for _ in 0..5 {
        recv(&mut mux, &frame::credit(3, 0x7fff_ffff));
    }
    assert_eq!(mux.audit().unwrap()[0].credit, 0x7fff_ffff);
    mux.want_send(key);
    assert_eq!(mux.poll_grant().expect("a grant").max, limits::FRAME_DATA_MAX);
}

// F16.
#[test]
fn credit_of_one_byte_sends_one_byte() {
    let mut mux = gateway();
    let key = accept(&mut mux, 3);
    exhaust_credit(&mut mux, key);
    recv(&mut mux, &frame::credit(3, 1));
    let grant = mux.poll_grant().expect("a grant");
    assert_eq!(grant.max, 1);
    assert!(mux.commit(grant, 1).is_some());
    assert!(mux.poll_grant().is_none());
    mux.send(key, b"ab").unwrap();
    recv(&mut mux, &frame::credit(3, 1));
    assert_eq!(written(&mut mux), ["DATA 3 - 1"]);
}

#[test]
fn exactly_the_window_may_be_sent_without_credit() {
    let mut mux = gateway();
    let key = accept(&mut mux, 3);
    mux.want_send(key);
    let mut sent = 0;
    while let Some(grant) = mux.poll_grant() {
        sent += grant.max;
        let max = grant.max;
        assert!(mux.commit(grant, max).is_some());
    }
    assert_eq!(sent, limits::WINDOW as usize);
}

#[test]
fn exactly_the_window_is_accepted_without_credit() {
    let mut mux = gateway();
    let key = accept(&mut mux, 3);
    recv(&mut mux, &data(3, DataFlag::Fin, &vec![0; limits::WINDOW as usize - 4]));
    assert_eq!(events(&mut mux), [Event::Readable(key), Event::Finished(key)]);
    assert_eq!(mux.queue(key).unwrap().len(), limits::WINDOW as usize - 4);
    assert_eq!(written(&mut mux), Vec::<String>::new());
}

#[test]
fn consumed_bytes_are_granted_again_in_one_frame_from_credit_min() {
    let mut mux = Mux::new(Side::Gateway, Limits { credit_min: 10, ..Limits::default() });
    let key = accept(&mut mux, 3);
    recv(&mut mux, &data(3, DataFlag::None, b"0123456789"));
    mux.consume(key, 5);
    assert_eq!(written(&mut mux), Vec::<String>::new());
    mux.consume(key, 1);
    mux.consume(key, 3);
    assert_eq!(written(&mut mux), ["WNDINC 3 13"]);
    mux.consume(key, 1);
    assert_eq!(written(&mut mux), Vec::<String>::new());
}

#[test]
fn nothing_is_granted_for_bytes_that_were_not_there() {
    let mut mux = Mux::new(Side::Gateway, Limits { credit_min: 0, ..Limits::default() });
    let key = accept(&mut mux, 3);
    assert_eq!(written(&mut mux), ["WNDINC 3 4"]);
    mux.consume(key, 0);
    mux.consume(key, 1000);
    assert_eq!(written(&mut mux), Vec::<String>::new());
}

#[test]
fn sender_is_never_left_at_zero_credit_by_an_empty_reader() {
    let (mut ours, mut peer) = (gateway(), agent());
    let sender = opened(&mut peer);
    let reader = accept(&mut ours, 3);
    let mut total = 0;
    for _ in 0..100 {
        let mut frames = Vec::new();
        peer.want_send(sender);
        while let Some(grant) = peer.poll_grant() {
            let len = grant.max.min(1000);
            frames.extend_from_slice(&peer.commit(grant, len).unwrap());
            frames.extend_from_slice(&vec![0; len]);
            total += len;
        }
        recv(&mut ours, &frames);
        events(&mut ours);
        ours.consume(reader, usize::MAX);
        recv(&mut peer, &out(&mut ours));
        let left = peer.audit().unwrap()[0].credit;
        assert!(left > (limits::WINDOW - Limits::default().credit_min) as usize, "{left}");
    }
    assert!(total > 20_000_000);
}

#[test]
fn credit_of_a_dead_stream_is_not_returned() {
    let mut mux = Mux::new(Side::Gateway, Limits { credit_min: 1, ..Limits::default() });
    let key = accept(&mut mux, 3);
    recv(&mut mux, &frame::reset(3, ErrorCode::STREAM_CANCELLED));
    assert_eq!(written(&mut mux), Vec::<String>::new());
    assert_eq!(events(&mut mux), [Event::Reset(key, ErrorCode::STREAM_CANCELLED)]);
    let key = accept(&mut mux, 5);
    mux.reset(key, ErrorCode::STREAM_CANCELLED);
    assert_eq!(written(&mut mux), ["RST 5 6"]);
}

/// Takes at most `room` bytes in all.
struct Limited {
    room: usize,
    taken: Vec<u8>,
}

impl Sink for Limited {
    fn take(&mut self, _: Key, bytes: &[u8]) -> usize {
        let n = bytes.len().min(self.room);
        self.room -= n;
        self.taken.extend_from_slice(&bytes[..n]);
        n
    }
}

#[test]
fn direct_stream_bypasses_the_queue_until_its_sink_is_full() {
    let mut mux = Mux::new(Side::Gateway, Limits { credit_min: 1, ..Limits::default() });
    let key = accept(&mut mux, 3);
    out(&mut mux);
    mux.set_direct(key);
    let mut sink = Limited { room: 7, taken: Vec::new() };
    mux.recv(&data(3, DataFlag::None, b"first"), &mut sink).unwrap();
    assert_eq!((events(&mut mux), mux.memory_used()), (vec![], 0));
    assert_eq!(written(&mut mux), ["WNDINC 3 5"]);
    mux.recv(&data(3, DataFlag::None, b"second"), &mut sink).unwrap();
    assert_eq!(events(&mut mux), [Event::Readable(key)]);
    assert_eq!((&sink.taken[..], mux.chunk(key)), (&b"firstse"[..], &b"cond"[..]));
    sink.room = 100;
    mux.recv(&data(3, DataFlag::Fin, b"third"), &mut sink).unwrap();
    assert_eq!(mux.chunk(key), b"condthird");
    assert_eq!(events(&mut mux), [Event::Finished(key)]);
    mux.consume(key, 9);
    assert!(mux.is_finished(key));
}

#[test]
fn stream_that_is_not_direct_is_never_offered_to_the_sink() {
    let mut mux = gateway();
    let mut sink = Limited { room: 100, taken: Vec::new() };
    mux.recv(&open(3), &mut sink).unwrap();
    assert_eq!(sink.taken, b"");
    assert_eq!(events(&mut mux).len(), 2);
}

#[test]
fn sink_that_claims_more_than_it_was_offered_is_believed_only_that_far() {
    struct Liar;
    impl Sink for Liar {
        fn take(&mut self, _: Key, _: &[u8]) -> usize {
            usize::MAX
        }
    }
    let mut mux = Mux::new(Side::Gateway, Limits { credit_min: 1, ..Limits::default() });
    let key = accept(&mut mux, 3);
    mux.set_direct(key);
    mux.recv(&data(3, DataFlag::None, b"abc"), &mut Liar).unwrap();
    assert_eq!(written(&mut mux), ["WNDINC 3 7"]);
}

/// Notes what it is offered at once, and takes at most `room` bytes of it.
struct Noting {
    room: usize,
    runs: Vec<(Key, Vec<Vec<u8>>)>,
}

impl Sink for Noting {
    fn take(&mut self, _: Key, _: &[u8]) -> usize {
        unreachable!("runs are offered whole")
    }

    fn take_run(&mut self, key: Key, pieces: &[&[u8]]) -> usize {
        self.runs.push((key, pieces.iter().map(|piece| piece.to_vec()).collect()));
        pieces.iter().map(|piece| piece.len()).sum::<usize>().min(self.room)
    }
}

fn direct(ids: [u32; 2]) -> (Mux, [Key; 2]) {
    let mut mux = gateway();
    let keys = ids.map(|id| accept(&mut mux, id));
    for key in keys {
        mux.set_direct(key);
    }
    (mux, keys)
}

#[test]
fn frames_of_one_stream_behind_each_other_are_offered_at_once() {
    let (mut mux, [a, b]) = direct([3, 5]);
    let frame = |id, body: &[u8]| data(id, DataFlag::None, body);
    let wire = [frame(3, b"one"), frame(3, b"two"), frame(5, b"else"), frame(3, b"three")].concat();
    let mut sink = Noting { room: usize::MAX, runs: Vec::new() };
    mux.recv(&wire, &mut sink).unwrap();
    let run = |key, pieces: &[&[u8]]| (key, pieces.iter().map(|piece| piece.to_vec()).collect::<Vec<_>>());
    assert_eq!(sink.runs, [run(a, &[b"one", b"two"]), run(b, &[b"else"]), run(a, &[b"three"])]);
}

#[test]
fn run_ends_before_what_could_concern_its_stream() {
    let frame = |body: &[u8]| data(3, DataFlag::None, body);
    let fin = data(3, DataFlag::Fin, b"");
    for between in [frame::reset(3, ErrorCode::STREAM_CANCELLED).to_vec(), fin, open(9)] {
        let (mut mux, [a, _]) = direct([3, 5]);
        let mut sink = Noting { room: usize::MAX, runs: Vec::new() };
        mux.recv(&[frame(b"one"), between, frame(b"late")].concat(), &mut sink).unwrap();
        assert_eq!(sink.runs.first(), Some(&(a, vec![b"one".to_vec()])));
        assert_ne!(events(&mut mux), []);
    }
}

#[test]
fn run_is_offered_when_it_is_full_and_at_the_end_of_the_input() {
    let (mut mux, [a, _]) = direct([3, 5]);
    let mut sink = Noting { room: usize::MAX, runs: Vec::new() };
    let wire = data(3, DataFlag::None, b"x").repeat(limits::RUN_MAX + 1);
    mux.recv(&wire, &mut sink).unwrap();
    let counts: Vec<_> = sink.runs.iter().map(|(key, pieces)| (*key, pieces.len())).collect();
    assert_eq!(counts, [(a, limits::RUN_MAX), (a, 1)]);
}

#[test]
fn what_a_sink_leaves_of_a_run_is_queued_in_order() {
    for room in 0..=11 {
        let (mut mux, [a, _]) = direct([3, 5]);
        let mut sink = Noting { room, runs: Vec::new() };
        let wire = [&b"one"[..], b"two", b"three"].map(|body| data(3, DataFlag::None, body)).concat();
        mux.recv(&wire, &mut sink).unwrap();
        let mut kept = Vec::new();
        while !mux.chunk(a).is_empty() {
            let chunk = mux.chunk(a).to_vec();
            mux.consume(a, chunk.len());
            kept.extend(chunk);
        }
        assert_eq!(kept, b"onetwothree"[room..], "{room}");
        mux.audit().unwrap();
    }
}
