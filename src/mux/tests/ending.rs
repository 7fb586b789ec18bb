//! Half-close, the end of streams, and the end of the link.

use super::*;

#[test]
fn half_closed_stream_still_receives() {
    let mut mux = agent();
    let key = opened(&mut mux);
    mux.finish(key);
    assert_eq!(written(&mut mux), ["DATA 3 FIN 0"]);
    recv(&mut mux, &data(3, DataFlag::None, b"still"));
    assert_eq!(events(&mut mux), [Event::Readable(key)]);
    assert_eq!(mux.chunk(key), b"still");
    mux.consume(key, 5);
    recv(&mut mux, &data(3, DataFlag::Fin, b" here"));
    assert_eq!(events(&mut mux), [Event::Readable(key), Event::Finished(key)]);
    mux.consume(key, 5);
    assert_eq!(mux.streams(), 0);
}

#[test]
fn stream_whose_peer_half_closed_still_sends() {
    let mut mux = gateway();
    let key = accept(&mut mux, 3);
    recv(&mut mux, &data(3, DataFlag::Fin, b""));
    assert_eq!(events(&mut mux), [Event::Finished(key)]);
    assert!(mux.is_finished(key));
    mux.send(key, b"reply").unwrap();
    assert_eq!(written(&mut mux), ["DATA 3 - 5"]);
    assert_eq!(lines(&send_granted(&mut mux, key, b"granted")), ["DATA 3 - 7"]);
    mux.finish(key);
    assert_eq!(written(&mut mux), ["DATA 3 FIN 0"]);
    assert_eq!(mux.streams(), 0);
}

#[test]
fn nothing_is_sent_after_finish() {
    let mut mux = gateway();
    let key = accept(&mut mux, 3);
    mux.finish(key);
    assert_eq!(mux.send(key, b"late"), Err(SendError));
    mux.want_send(key);
    assert!(mux.poll_grant().is_none());
    mux.finish(key);
    assert_eq!(written(&mut mux), ["DATA 3 FIN 0"]);
    mux.finish(key);
    mux.want_send(key);
    assert_eq!(mux.send(key, b"late"), Err(SendError));
    assert_eq!(written(&mut mux), Vec::<String>::new());
    assert!(mux.poll_grant().is_none());
}

#[test]
fn end_rides_on_the_last_frame_of_our_own() {
    let mut mux = gateway();
    let key = accept(&mut mux, 3);
    mux.send(key, &vec![1; limits::FRAME_DATA_MAX + 10]).unwrap();
    mux.finish(key);
    assert_eq!(written(&mut mux), ["DATA 3 - 16376", "DATA 3 FIN 10"]);
}

#[test]
fn end_waits_for_queued_bytes_that_wait_for_credit() {
    let mut mux = gateway();
    let key = accept(&mut mux, 3);
    exhaust_credit(&mut mux, key);
    mux.send(key, b"abc").unwrap();
    mux.finish(key);
    assert_eq!(written(&mut mux), Vec::<String>::new());
    recv(&mut mux, &frame::credit(3, 2));
    assert_eq!(written(&mut mux), ["DATA 3 - 2"]);
    recv(&mut mux, &frame::credit(3, 100));
    assert_eq!(written(&mut mux), ["DATA 3 FIN 1"]);
}

#[test]
fn end_needs_no_credit() {
    let mut mux = gateway();
    let key = accept(&mut mux, 3);
    exhaust_credit(&mut mux, key);
    mux.finish(key);
    assert_eq!(written(&mut mux), ["DATA 3 FIN 0"]);
}

#[test]
fn stream_over_on_the_wire_lives_until_it_was_read() {
    let mut mux = gateway();
    let key = accept(&mut mux, 3);
    mux.finish(key);
    out(&mut mux);
    recv(&mut mux, &data(3, DataFlag::Fin, b"unread"));
    assert_eq!(mux.streams(), 1);
    assert_eq!(events(&mut mux), [Event::Readable(key), Event::Finished(key)]);
    mux.consume(key, 5);
    assert!(!mux.is_finished(key));
    mux.consume(key, 1);
    assert!(mux.is_finished(key));
    assert_eq!((mux.streams(), mux.memory_used()), (0, 0));
}

#[test]
fn end_is_told_even_if_ours_goes_out_before_anybody_asks() {
    let mut mux = gateway();
    let key = accept(&mut mux, 3);
    recv(&mut mux, &data(3, DataFlag::Fin, b""));
    mux.finish(key);
    assert_eq!(written(&mut mux), ["DATA 3 FIN 0"]);
    assert_eq!(events(&mut mux), [Event::Finished(key)]);
    assert_eq!(mux.streams(), 0);
}

#[test]
fn frames_after_both_ends_are_ignored() {
    let mut mux = gateway();
    let key = accept(&mut mux, 3);
    mux.finish(key);
    recv(&mut mux, &data(3, DataFlag::Fin, b""));
    assert_eq!(events(&mut mux), [Event::Finished(key)]);
    out(&mut mux);
    recv(&mut mux, &frame::credit(3, 5));
    recv(&mut mux, &frame::reset(3, ErrorCode::STREAM_CANCELLED));
    recv(&mut mux, &data(3, DataFlag::Fin, b""));
    assert_eq!(written(&mut mux), Vec::<String>::new());
    assert_eq!(events(&mut mux), []);
}

#[test]
fn go_away_is_the_last_frame() {
    let mut mux = gateway();
    let key = accept(&mut mux, 3);
    mux.want_send(key);
    let grant = mux.poll_grant().expect("a grant");
    let other = accept(&mut mux, 5);
    mux.send(other, b"queued").unwrap();
    mux.go_away(ErrorCode::NO_ERROR, "no error");
    mux.go_away(ErrorCode::INTERNAL_ERROR, "second thoughts");
    assert!(mux.is_ending());
    assert_eq!(mux.commit(grant, 1), None);
    assert_eq!(written(&mut mux), ["GOAWAY 5 0 no error"]);
    mux.finish(key);
    mux.reset(key, ErrorCode::STREAM_CANCELLED);
    mux.want_send(key);
    mux.go_away(ErrorCode::NO_ERROR, "no error");
    assert_eq!(mux.open(b"type"), Err(OpenError::GoingAway));
    assert_eq!(mux.free_streams(), 0);
    assert!(mux.poll_grant().is_none());
    assert_eq!(written(&mut mux), Vec::<String>::new());
}

#[test]
fn input_after_our_go_away_is_ignored() {
    let mut mux = gateway();
    mux.go_away(ErrorCode::NO_ERROR, "no error");
    recv(&mut mux, &open(3));
    assert_eq!((events(&mut mux), mux.streams()), (vec![], 0));
}

// F7.
#[test]
fn received_go_away_ends_the_session_after_what_came_before() {
    let mut mux = gateway();
    let mut bytes = [open(3), frame::go_away(0, ErrorCode(0xffff_ffff), "server\nshut down")].concat();
    // One family of peers announces the length of the text alone.
    bytes[14] = 16;
    bytes.extend_from_slice(&frame::credit(0, 0));
    recv(&mut mux, &bytes);
    let all = events(&mut mux);
    let [Event::Opened(_), Event::Readable(_), Event::GoAway(code, text)] = &all[..] else { panic!("{all:?}") };
    assert_eq!(*code, ErrorCode(0xffff_ffff));
    assert!(text.starts_with("server shut down"), "{text:?}");
    recv(&mut mux, &frame::credit(0, 0));
    assert!(mux.is_ending());
    assert_eq!(mux.open(b"type"), Err(OpenError::GoingAway));
    assert_eq!(events(&mut mux), []);
}

#[test]
fn text_of_a_received_go_away_is_cut() {
    let mut mux = agent();
    recv(&mut mux, &frame::go_away(0, ErrorCode::NO_ERROR, &"x".repeat(500)));
    let [Event::GoAway(_, text)] = &events(&mut mux)[..] else { panic!() };
    assert_eq!(text.len(), limits::GO_AWAY_TEXT_KEPT);
}
