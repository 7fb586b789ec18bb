//! What goes out by itself: in which order, and never beyond the room given.

use super::*;

/// A multiplexer with a bit of everything to say.
fn talkative(style: AbortStyle) -> Mux {
    let mut mux = Mux::new(Side::Gateway, Limits { credit_min: 1, ..Limits::default() });
    mux.set_abort_style(style);
    let keys = [3, 5, 7, 9].map(|id| accept(&mut mux, id));
    mux.send(keys[0], &[0; 3000]).unwrap();
    mux.finish(keys[0]);
    mux.send(keys[1], b"beat").unwrap();
    let key = mux.open(&[0; 120]).unwrap();
    mux.send(key, b"more").unwrap();
    mux.reset(keys[2], ErrorCode::STREAM_CANCELLED);
    recv(&mut mux, &data(99, DataFlag::None, b"who?"));
    mux
}

#[test]
fn resets_go_before_credit_and_credit_before_calls() {
    let lines = written(&mut talkative(AbortStyle::Reset));
    let expected = [
        "RST 7 6",
        "RST 99 4",
        "WNDINC 3 4",
        "WNDINC 5 4",
        "WNDINC 9 4",
        "DATA 3 FIN 3000",
        "DATA 5 - 4",
        "DATA 2 SYN 120",
        "DATA 2 - 4",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn calls_take_turns_frame_by_frame() {
    let mut mux = gateway();
    let [a, b] = [3, 5].map(|id| accept(&mut mux, id));
    mux.send(a, &[0; 40_000]).unwrap();
    mux.send(b, &[0; 4]).unwrap();
    let expected = ["DATA 3 - 16376", "DATA 5 - 4", "DATA 3 - 16376", "DATA 3 - 7248"];
    assert_eq!(written(&mut mux), expected);
}

#[test]
fn output_stays_within_any_room_and_nothing_is_lost() {
    for style in [AbortStyle::Reset, AbortStyle::WakeThenReset] {
        let payload = |lines: &[String], id: &str| -> usize {
            let of_stream = lines.iter().filter(|line| line.starts_with(&format!("DATA {id} ")));
            of_stream.map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum()
        };
        for room in 0..400 {
            let mut mux = talkative(style);
            let mut all = b"before".to_vec();
            loop {
                let before = all.len();
                mux.poll_transmit(&mut all, room);
                mux.audit().unwrap();
                assert!(all.len() - before <= room, "{} bytes in a room of {room}", all.len() - before);
                if all.len() == before {
                    break;
                }
            }
            let lines = lines(&all[6..]);
            // The longest frame that cannot be split is the first of a stream, 120 bytes and its header.
            if room >= 128 {
                let sums = ["2", "3", "5"].map(|id| payload(&lines, id));
                assert_eq!(sums, [124, 3000, 4], "room {room}");
                assert_eq!(lines.iter().filter(|line| line.starts_with("RST")).count(), 2);
                assert_eq!(
                    lines.iter().filter(|line| line.contains("FIN")).count(),
                    1 + usize::from(style == AbortStyle::WakeThenReset)
                );
            }
        }
    }
}

#[test]
fn go_away_waits_for_room() {
    let mut mux = gateway();
    mux.go_away(ErrorCode::NO_ERROR, "no error");
    let mut bytes = Vec::new();
    mux.poll_transmit(&mut bytes, 23);
    assert!(bytes.is_empty());
    assert!(mux.is_ending());
    mux.poll_transmit(&mut bytes, 24);
    assert_eq!(lines(&bytes), ["GOAWAY 0 0 no error"]);
}

#[test]
fn long_call_is_cut_to_the_room_left() {
    let mut mux = gateway();
    let key = accept(&mut mux, 3);
    mux.send(key, &[0; 100]).unwrap();
    mux.finish(key);
    let mut bytes = Vec::new();
    mux.poll_transmit(&mut bytes, 8 + 60);
    assert_eq!(lines(&bytes), ["DATA 3 - 60"]);
    assert_eq!(written(&mut mux), ["DATA 3 FIN 40"]);
}

// F19.
#[test]
fn no_frame_of_ours_has_both_flags_or_a_flag_that_is_not_for_it() {
    // `lines` panics on any other type and flags.
    for style in [AbortStyle::Reset, AbortStyle::WakeThenReset] {
        written(&mut talkative(style));
    }
}
