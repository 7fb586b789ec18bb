//! What a peer that breaks the protocol gets: as little as possible.

use super::*;

/// Feeds frames that have to end the session, and returns the GOAWAY's code and text.
fn fatal(mut mux: Mux, bytes: &[u8]) -> (u32, String) {
    let error = mux.recv(bytes, &mut ()).unwrap_err();
    let lines = written(&mut mux);
    let [line] = &lines[..] else { panic!("{lines:?}") };
    let mut words = line.splitn(4, ' ').skip(2);
    let code = words.next().unwrap().parse().unwrap();
    assert_eq!(code, error.code().0);
    (code, words.next().unwrap().to_owned())
}

// F10.
#[test]
fn session_level_violations_get_go_away_with_code_and_text() {
    let cases: [(&str, Vec<u8>, u32); 9] = [
        ("SYN with an id of our side", open(2), 1),
        ("SYN that repeats a live id", [open(3), open(3)].concat(), 1),
        ("SYN below an earlier id", [open(7), open(5)].concat(), 1),
        ("DATA on stream 0", data(0, DataFlag::None, b"x"), 1),
        ("SYN on stream 0", data(0, DataFlag::Syn, b"type"), 1),
        ("WNDINC of 0", frame::credit(3, 0).to_vec(), 1),
        ("WNDINC on stream 0", frame::credit(0, 1).to_vec(), 1),
        ("RST of 5 bytes", vec![0, 0, 5, 0, 0, 0, 0, 3, 0, 0, 0, 6, 0], 8),
        ("WNDINC of 3 bytes", vec![0, 0, 3, 0x20, 0, 0, 0, 3, 0, 0, 1], 8),
    ];
    for (name, bytes, expected) in cases {
        let (code, text) = fatal(gateway(), &bytes);
        assert_eq!(code, expected, "{name}");
        assert!(text.len() >= 8, "{name}: {text}");
    }
}

#[test]
fn syn_with_an_odd_id_is_wrong_for_an_agent() {
    assert_eq!(fatal(agent(), &open(3)).0, 1);
}

#[test]
fn nothing_is_read_after_a_violation() {
    let mut mux = gateway();
    let bytes = [data(0, DataFlag::None, b"x"), open(3)].concat();
    assert!(mux.recv(&bytes, &mut ()).is_err());
    assert_eq!(mux.recv(&open(5), &mut ()), Ok(()));
    assert_eq!(events(&mut mux), []);
    assert_eq!(mux.streams(), 0);
    assert!(mux.is_ending());
}

#[test]
fn what_came_before_a_violation_is_still_delivered() {
    let mut mux = gateway();
    let bytes = [open(3), frame::credit(0, 1).to_vec()].concat();
    assert!(mux.recv(&bytes, &mut ()).is_err());
    assert!(matches!(events(&mut mux)[..], [Event::Opened(_), Event::Readable(_)]));
}

// F8.
#[test]
fn data_on_an_unknown_stream_gets_reset_4_and_the_session_lives() {
    let mut mux = gateway();
    recv(&mut mux, &data(9, DataFlag::None, b"who?"));
    recv(&mut mux, &data(4, DataFlag::Fin, b"who?"));
    assert_eq!(written(&mut mux), ["RST 9 4", "RST 4 4"]);
    assert_eq!(events(&mut mux), []);
    accept(&mut mux, 11);
}

#[test]
fn repeated_data_on_an_unknown_stream_is_answered_once() {
    let mut mux = gateway();
    for _ in 0..10 {
        recv(&mut mux, &data(9, DataFlag::None, b"who?"));
    }
    assert_eq!(written(&mut mux), ["RST 9 4"]);
}

// F9.
#[test]
fn end_credit_and_reset_of_an_unknown_stream_are_ignored() {
    let mut mux = gateway();
    recv(&mut mux, &data(9, DataFlag::Fin, b""));
    recv(&mut mux, &frame::credit(9, 5));
    recv(&mut mux, &frame::reset(9, ErrorCode::STREAM_CANCELLED));
    assert_eq!(written(&mut mux), Vec::<String>::new());
    assert_eq!(events(&mut mux), []);
    accept(&mut mux, 11);
}

// F11.
#[test]
fn frames_of_unknown_type_are_skipped() {
    let mut mux = gateway();
    recv(&mut mux, &[0, 0, 3, 0x90, 0, 0, 0, 0, 1, 2, 3]);
    recv(&mut mux, &[0, 0, 0, 0xf3, 0, 0, 0, 3]);
    assert_eq!(written(&mut mux), Vec::<String>::new());
    accept(&mut mux, 3);
}

#[test]
fn unused_flags_and_the_top_bit_of_an_id_are_ignored() {
    let mut mux = gateway();
    let mut bytes = open(3);
    bytes[3] |= 0xc;
    bytes[4] |= 0x80;
    recv(&mut mux, &bytes);
    recv(&mut mux, &[0, 0, 0, 0x18, 0, 0, 0, 3]);
    assert!(matches!(events(&mut mux)[..], [Event::Opened(_), Event::Readable(_)]));
    assert_eq!(written(&mut mux), Vec::<String>::new());
}

#[test]
fn flags_on_frames_other_than_data_are_ignored() {
    let mut mux = gateway();
    let key = accept(&mut mux, 3);
    exhaust_credit(&mut mux, key);
    let mut bytes = frame::credit(3, 7);
    bytes[3] |= 3;
    recv(&mut mux, &bytes);
    assert_eq!(mux.poll_grant().expect("a grant").max, 7);
    assert_eq!(events(&mut mux), []);
}

// F12.
#[test]
fn overrun_window_resets_that_stream_alone() {
    let mut mux = gateway();
    let greedy = accept(&mut mux, 3);
    let other = accept(&mut mux, 5);
    recv(&mut mux, &data(3, DataFlag::None, &vec![0; limits::WINDOW as usize - 4]));
    assert!(mux.memory_used() <= limits::WINDOW as usize + crate::pool::BLOCK_LEN);
    assert_eq!(events(&mut mux), [Event::Readable(greedy)]);
    recv(&mut mux, &data(3, DataFlag::None, b"x"));
    recv(&mut mux, &data(3, DataFlag::None, b"more, sent before the peer knew"));
    recv(&mut mux, &data(5, DataFlag::None, b"fine"));
    assert_eq!(events(&mut mux), [Event::Reset(greedy, ErrorCode::FLOW_CONTROL_ERROR), Event::Readable(other)]);
    recv(&mut mux, &data(3, DataFlag::None, b"and more after the event"));
    assert_eq!(written(&mut mux), ["RST 3 3"]);
    assert_eq!(mux.chunk(other), b"fine");
    assert_eq!(mux.memory_used(), crate::pool::BLOCK_LEN);
}

// F13.
#[test]
fn frame_longer_than_any_window_is_never_buffered() {
    let mut mux = gateway();
    let key = accept(&mut mux, 3);
    recv(&mut mux, &frame::data_header(3, 0x00ff_ffff, DataFlag::None));
    assert_eq!(events(&mut mux), [Event::Reset(key, ErrorCode::FLOW_CONTROL_ERROR)]);
    let piece = vec![0; 0x000f_ffff];
    for _ in 0..16 {
        recv(&mut mux, &piece);
        assert_eq!(mux.memory_used(), 0);
    }
    recv(&mut mux, &piece[..0x00ff_ffff - 16 * 0x000f_ffff]);
    assert_eq!(written(&mut mux), ["RST 3 3"]);
    accept(&mut mux, 5);
}

#[test]
fn first_frame_longer_than_the_window_opens_nothing() {
    let mut mux = gateway();
    recv(&mut mux, &data(3, DataFlag::Syn, &vec![0; limits::WINDOW as usize + 1]));
    assert_eq!(events(&mut mux), []);
    assert_eq!(written(&mut mux), ["RST 3 3"]);
    assert_eq!((mux.streams(), mux.memory_used()), (0, 0));
    accept(&mut mux, 5);
}

#[test]
fn data_after_the_peers_own_end_resets_the_stream() {
    let mut mux = gateway();
    let key = accept(&mut mux, 3);
    recv(&mut mux, &data(3, DataFlag::Fin, b""));
    recv(&mut mux, &data(3, DataFlag::Fin, b""));
    assert_eq!(events(&mut mux), [Event::Finished(key)]);
    assert_eq!(written(&mut mux), Vec::<String>::new());
    recv(&mut mux, &data(3, DataFlag::None, b"again"));
    assert_eq!(events(&mut mux), [Event::Reset(key, ErrorCode::STREAM_CLOSED)]);
    assert_eq!(written(&mut mux), ["RST 3 4"]);
}

#[test]
fn stream_that_breaks_a_rule_before_anybody_saw_it_is_never_announced() {
    let mut mux = gateway();
    let bytes = [open(3), frame::data_header(3, 0x00ff_ffff, DataFlag::None).to_vec()].concat();
    recv(&mut mux, &bytes);
    assert_eq!(events(&mut mux), []);
    assert_eq!((mux.streams(), mux.memory_used()), (0, 0));
    assert_eq!(written(&mut mux), ["RST 3 3"]);
}
