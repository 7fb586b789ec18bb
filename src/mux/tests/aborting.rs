//! Resets, ours and the peer's. An abort is never a clean end.

use super::*;

const CANCELLED: ErrorCode = ErrorCode::STREAM_CANCELLED;
const NOTHING: Vec<String> = Vec::new();

fn waking(mut mux: Mux) -> Mux {
    mux.set_abort_style(AbortStyle::WakeThenReset);
    mux
}

#[test]
fn reset_is_a_bare_rst_and_no_event_follows() {
    let mut mux = gateway();
    let key = accept(&mut mux, 3);
    recv(&mut mux, &data(3, DataFlag::None, b"unread"));
    mux.reset(key, CANCELLED);
    assert_eq!((mux.streams(), mux.memory_used()), (0, 0));
    assert_eq!(events(&mut mux), []);
    assert_eq!(written(&mut mux), ["RST 3 6"]);
}

#[test]
fn waking_reset_is_end_reset_credit() {
    let mut mux = waking(gateway());
    let key = accept(&mut mux, 3);
    mux.reset(key, CANCELLED);
    let expected = [&frame::data_header(3, 0, DataFlag::Fin)[..], &frame::reset(3, CANCELLED), &frame::credit(3, 1)];
    assert_eq!(out(&mut mux), expected.concat());
}

#[test]
fn waking_reset_after_our_end_sends_no_second_end() {
    let mut mux = waking(gateway());
    let key = accept(&mut mux, 3);
    mux.finish(key);
    out(&mut mux);
    mux.reset(key, CANCELLED);
    assert_eq!(written(&mut mux), ["RST 3 6", "WNDINC 3 1"]);
}

#[test]
fn waking_reset_also_refuses_streams_of_the_peer() {
    let mut mux = waking(gateway());
    mux.set_streams(1, 1);
    accept(&mut mux, 3);
    recv(&mut mux, &open(5));
    assert_eq!(written(&mut mux), ["DATA 5 FIN 0", "RST 5 5", "WNDINC 5 1"]);
}

#[test]
fn finish_and_reset_ends_our_direction_first() {
    let mut mux = gateway();
    let key = accept(&mut mux, 3);
    mux.finish_and_reset(key, CANCELLED);
    assert_eq!(written(&mut mux), ["DATA 3 FIN 0", "RST 3 6"]);
}

#[test]
fn reset_of_a_stream_that_never_reached_the_wire_sends_nothing() {
    for mut mux in [gateway(), waking(gateway())] {
        let key = mux.open(b"type").unwrap();
        mux.send(key, b"more").unwrap();
        mux.reset(key, CANCELLED);
        assert_eq!(written(&mut mux), NOTHING);
        opened(&mut mux);
        mux.finish(mux.store.find(2, true).unwrap());
        assert_eq!(written(&mut mux), ["DATA 2 FIN 0"]);
    }
}

#[test]
fn reset_of_a_stream_over_in_both_directions_sends_nothing() {
    let mut mux = gateway();
    let key = accept(&mut mux, 3);
    mux.finish(key);
    recv(&mut mux, &data(3, DataFlag::Fin, b"unread"));
    out(&mut mux);
    mux.reset(key, CANCELLED);
    assert_eq!((written(&mut mux), mux.streams()), (NOTHING, 0));
}

#[test]
fn bytes_queued_before_a_reset_are_dropped() {
    let mut mux = gateway();
    let key = accept(&mut mux, 3);
    mux.send(key, b"never sent").unwrap();
    mux.finish(key);
    mux.reset(key, CANCELLED);
    assert_eq!(written(&mut mux), ["RST 3 6"]);
}

#[test]
fn data_that_crossed_our_reset_is_dropped_in_silence() {
    let mut mux = gateway();
    let key = accept(&mut mux, 3);
    mux.reset(key, CANCELLED);
    out(&mut mux);
    for _ in 0..3 {
        recv(&mut mux, &data(3, DataFlag::None, b"late"));
    }
    recv(&mut mux, &data(3, DataFlag::Fin, b"late"));
    recv(&mut mux, &frame::reset(3, CANCELLED));
    assert_eq!((written(&mut mux), events(&mut mux)), (NOTHING, vec![]));
}

#[test]
fn frame_cut_by_our_reset_is_skipped_to_its_end() {
    let mut mux = gateway();
    let key = accept(&mut mux, 3);
    let whole = [data(3, DataFlag::Fin, b"first half, second half"), open(5)].concat();
    recv(&mut mux, &whole[..20]);
    mux.reset(key, CANCELLED);
    recv(&mut mux, &whole[20..]);
    assert!(matches!(events(&mut mux)[..], [Event::Opened(_), Event::Readable(_)]));
    assert_eq!(written(&mut mux), ["RST 3 6"]);
}

// F15.
#[test]
fn peers_reset_while_we_wait_for_credit_frees_everything() {
    let mut mux = gateway();
    let key = accept(&mut mux, 3);
    exhaust_credit(&mut mux, key);
    mux.send(key, &[0; 1000]).unwrap();
    recv(&mut mux, &data(3, DataFlag::None, b"unread"));
    recv(&mut mux, &frame::reset(3, CANCELLED));
    assert_eq!(mux.memory_used(), 0);
    assert!(!mux.is_finished(key));
    recv(&mut mux, &frame::credit(3, 1));
    assert!(mux.poll_grant().is_none());
    assert_eq!(events(&mut mux), [Event::Reset(key, CANCELLED)]);
    assert_eq!((mux.streams(), written(&mut mux)), (0, NOTHING));
}

// F15.
#[test]
fn peers_reset_while_we_wait_for_data_is_told_at_once() {
    let mut mux = gateway();
    let key = accept(&mut mux, 3);
    recv(&mut mux, &frame::reset(3, ErrorCode(0xabcd)));
    assert_eq!(events(&mut mux), [Event::Reset(key, ErrorCode(0xabcd))]);
    assert_eq!(mux.streams(), 0);
}

#[test]
fn peers_reset_before_anybody_saw_the_stream_is_never_told() {
    let mut mux = gateway();
    recv(&mut mux, &[open(3), frame::reset(3, CANCELLED).to_vec()].concat());
    assert_eq!((events(&mut mux), mux.streams(), mux.memory_used()), (vec![], 0, 0));
}

#[test]
fn reset_after_the_peers_end_is_an_abort() {
    let mut mux = gateway();
    let key = accept(&mut mux, 3);
    recv(&mut mux, &data(3, DataFlag::Fin, b"unread"));
    assert_eq!(events(&mut mux), [Event::Readable(key), Event::Finished(key)]);
    recv(&mut mux, &frame::reset(3, CANCELLED));
    assert!(!mux.is_finished(key));
    assert_eq!(events(&mut mux), [Event::Reset(key, CANCELLED)]);
    assert_eq!(mux.memory_used(), 0);
}

#[test]
fn end_and_reset_in_one_piece_are_an_abort_and_no_end() {
    let mut mux = gateway();
    let key = accept(&mut mux, 3);
    let bytes = [data(3, DataFlag::Fin, b"unread"), frame::reset(3, CANCELLED).to_vec(), frame::credit(3, 1).to_vec()];
    recv(&mut mux, &bytes.concat());
    assert_eq!(events(&mut mux), [Event::Reset(key, CANCELLED)]);
}

#[test]
fn reset_after_both_ends_is_an_abort_while_bytes_are_unread() {
    let mut mux = gateway();
    let key = accept(&mut mux, 3);
    mux.finish(key);
    out(&mut mux);
    recv(&mut mux, &data(3, DataFlag::Fin, b"unread"));
    recv(&mut mux, &frame::reset(3, CANCELLED));
    assert_eq!(events(&mut mux), [Event::Reset(key, CANCELLED)]);
}

// Official peers forget a stream with their FIN and answer later data with RST 4: an upstream that answered before it
// read the whole request. The answer has to arrive.
#[test]
fn answer_that_ended_before_the_request_did_is_delivered_whole() {
    let mut mux = gateway();
    let key = accept(&mut mux, 3);
    mux.want_send(key);
    mux.send(key, b"part of the request").unwrap();
    let bytes = [data(3, DataFlag::Fin, b"413"), frame::reset(3, ErrorCode::STREAM_CLOSED).to_vec()].concat();
    recv(&mut mux, &bytes);
    assert_eq!(events(&mut mux), [Event::Readable(key), Event::Finished(key)]);
    assert!(mux.poll_grant().is_none());
    assert_eq!(mux.send(key, b"more"), Err(SendError));
    assert_eq!(written(&mut mux), NOTHING);
    mux.consume(key, 2);
    assert_eq!((mux.chunk(key), mux.is_finished(key)), (&b"3"[..], false));
    assert_eq!(events(&mut mux), []);
    mux.consume(key, 1);
    assert!(mux.is_finished(key));
    assert_eq!(events(&mut mux), [Event::Reset(key, ErrorCode::STREAM_CLOSED)]);
    assert_eq!((mux.streams(), written(&mut mux)), (0, NOTHING));
}

#[test]
fn refusal_of_more_bytes_is_told_at_once_when_all_was_read() {
    let mut mux = gateway();
    let key = accept(&mut mux, 3);
    recv(&mut mux, &data(3, DataFlag::Fin, b""));
    assert_eq!(events(&mut mux), [Event::Finished(key)]);
    recv(&mut mux, &frame::reset(3, ErrorCode::STREAM_CLOSED));
    assert_eq!(events(&mut mux), [Event::Reset(key, ErrorCode::STREAM_CLOSED)]);
    assert_eq!(mux.streams(), 0);
}

#[test]
fn refusal_of_more_bytes_says_nothing_after_both_ends() {
    let mut mux = gateway();
    let key = accept(&mut mux, 3);
    mux.finish(key);
    out(&mut mux);
    let bytes = [data(3, DataFlag::Fin, b"413"), frame::reset(3, ErrorCode::STREAM_CLOSED).to_vec()].concat();
    recv(&mut mux, &bytes);
    assert_eq!(events(&mut mux), [Event::Readable(key), Event::Finished(key)]);
    mux.consume(key, 3);
    assert_eq!((events(&mut mux), mux.streams()), (vec![], 0));
}

#[test]
fn reset_4_without_an_end_before_it_is_an_abort() {
    let mut mux = gateway();
    let key = accept(&mut mux, 3);
    recv(&mut mux, &data(3, DataFlag::None, b"part"));
    recv(&mut mux, &frame::reset(3, ErrorCode::STREAM_CLOSED));
    assert_eq!(events(&mut mux), [Event::Reset(key, ErrorCode::STREAM_CLOSED)]);
}

#[test]
fn reset_with_another_code_after_a_refusal_is_an_abort() {
    let mut mux = gateway();
    let key = accept(&mut mux, 3);
    recv(&mut mux, &data(3, DataFlag::Fin, b"unread"));
    recv(&mut mux, &frame::reset(3, ErrorCode::STREAM_CLOSED));
    recv(&mut mux, &frame::reset(3, CANCELLED));
    assert!(!mux.is_finished(key));
    assert_eq!(events(&mut mux), [Event::Reset(key, CANCELLED)]);
}

#[test]
fn user_may_abort_a_stream_whose_peer_takes_no_more() {
    let mut mux = gateway();
    let key = accept(&mut mux, 3);
    recv(&mut mux, &data(3, DataFlag::Fin, b"unread"));
    recv(&mut mux, &frame::reset(3, ErrorCode::STREAM_CLOSED));
    mux.finish(key);
    mux.reset(key, CANCELLED);
    assert_eq!((written(&mut mux), events(&mut mux), mux.streams()), (NOTHING, vec![], 0));
}
