//! Whose turn it is.

use super::*;

fn three() -> (Mux, [Key; 3]) {
    let mut mux = gateway();
    let keys = [3, 5, 7].map(|id| accept(&mut mux, id));
    (mux, keys)
}

fn next(mux: &mut Mux) -> Option<Key> {
    let grant = mux.poll_grant()?;
    let key = grant.key;
    assert!(mux.commit(grant, 1).is_some());
    Some(key)
}

#[test]
fn grants_go_round_robin() {
    let (mut mux, [a, b, c]) = three();
    for key in [a, b, c] {
        mux.want_send(key);
    }
    let order: Vec<_> = (0..7).map_while(|_| next(&mut mux)).collect();
    assert_eq!(order, [a, b, c, a, b, c, a]);
}

#[test]
fn asking_again_gives_no_extra_turn() {
    let (mut mux, [a, b, _]) = three();
    for key in [a, a, b, a, b] {
        mux.want_send(key);
    }
    recv(&mut mux, &frame::credit(3, 1));
    let order: Vec<_> = (0..4).map_while(|_| next(&mut mux)).collect();
    assert_eq!(order, [a, b, a, b]);
}

#[test]
fn released_stream_gets_no_turn_until_it_asks() {
    let (mut mux, [a, b, _]) = three();
    mux.want_send(a);
    mux.want_send(b);
    let grant = mux.poll_grant().expect("a grant");
    assert_eq!(grant.key, a);
    mux.release(grant);
    mux.audit().unwrap();
    assert_eq!((next(&mut mux), next(&mut mux)), (Some(b), Some(b)));
    mux.want_send(a);
    assert_eq!((next(&mut mux), next(&mut mux)), (Some(b), Some(a)));
}

#[test]
fn stream_has_one_grant_at_a_time() {
    let (mut mux, [a, ..]) = three();
    mux.want_send(a);
    let grant = mux.poll_grant().expect("a grant");
    mux.want_send(a);
    recv(&mut mux, &frame::credit(3, 10));
    assert!(mux.poll_grant().is_none());
    assert!(mux.commit(grant, limits::FRAME_DATA_MAX).is_some());
    assert_eq!(next(&mut mux), Some(a));
}

#[test]
fn stream_without_credit_loses_its_turn_and_comes_back() {
    let (mut mux, [a, b, _]) = three();
    exhaust_credit(&mut mux, a);
    mux.want_send(b);
    assert_eq!((next(&mut mux), next(&mut mux)), (Some(b), Some(b)));
    recv(&mut mux, &frame::credit(3, 1));
    let order: Vec<_> = (0..3).map_while(|_| next(&mut mux)).collect();
    assert_eq!(order, [a, b, b]);
}

#[test]
fn stream_that_is_not_on_the_wire_yet_gets_its_turn_after_its_first_frame() {
    let mut mux = gateway();
    let key = mux.open(b"type").unwrap();
    mux.want_send(key);
    assert!(mux.poll_grant().is_none());
    assert_eq!(written(&mut mux), ["DATA 2 SYN 4"]);
    assert_eq!(next(&mut mux), Some(key));
}

#[test]
fn queued_bytes_go_before_granted_ones() {
    let mut mux = gateway();
    let key = accept(&mut mux, 3);
    mux.want_send(key);
    mux.send(key, b"header").unwrap();
    assert!(mux.poll_grant().is_none());
    assert_eq!(written(&mut mux), ["DATA 3 - 6"]);
    assert_eq!(next(&mut mux), Some(key));
}

#[test]
fn granted_bytes_of_a_stream_that_died_are_dropped() {
    let (mut mux, [a, b, c]) = three();
    for key in [a, b, c] {
        mux.want_send(key);
    }
    let grants: Vec<_> = (0..3).map_while(|_| mux.poll_grant()).collect();
    recv(&mut mux, &frame::reset(3, ErrorCode::STREAM_CANCELLED));
    mux.reset(b, ErrorCode::STREAM_CANCELLED);
    recv(&mut mux, &frame::go_away(0, ErrorCode::NO_ERROR, "bye"));
    for grant in grants {
        assert_eq!(mux.commit(grant, 1), None);
        mux.audit().unwrap();
    }
}

#[test]
fn bytes_read_before_finish_still_go_out() {
    let (mut mux, [a, ..]) = three();
    mux.want_send(a);
    let grant = mux.poll_grant().expect("a grant");
    mux.finish(a);
    assert!(mux.commit(grant, 5).is_some());
    assert_eq!(written(&mut mux), ["DATA 3 FIN 0"]);
}

#[test]
fn credit_spent_between_grant_and_commit_is_not_spent_twice() {
    let (mut mux, [a, ..]) = three();
    exhaust_credit(&mut mux, a);
    recv(&mut mux, &frame::credit(3, 10));
    let grant = mux.poll_grant().expect("a grant");
    mux.send(a, b"123456").unwrap();
    out(&mut mux);
    assert_eq!(mux.commit(grant, 10), None);
    let grant = mux.poll_grant().expect("what is left");
    assert_eq!(grant.max, 4);
    assert!(mux.commit(grant, 4).is_some());
}

#[test]
fn headers_of_granted_frames_have_no_flag() {
    let (mut mux, [a, ..]) = three();
    assert_eq!(lines(&send_granted(&mut mux, a, b"abc")), ["DATA 3 - 3"]);
}

/// The next turn, of which everything is used.
fn next_whole(mux: &mut Mux) -> Option<(Key, usize)> {
    let grant = mux.poll_grant()?;
    let (key, burst) = (grant.key, grant.burst);
    assert!(mux.commit_burst(grant, burst).is_some());
    mux.audit().unwrap();
    Some((key, burst))
}

#[test]
fn stream_alone_has_a_burst_also_as_a_light_one() {
    let (mut mux, [a, ..]) = three();
    mux.want_send(a);
    let grant = mux.poll_grant().expect("a grant");
    assert_eq!((grant.max, grant.burst), (limits::FRAME_DATA_MAX, limits::BURST_MAX));
    mux.release(grant);
    mux.audit().unwrap();
}

#[test]
fn first_turn_beside_others_is_one_frame_and_those_after_a_full_one_are_bursts() {
    let (mut mux, [a, b, c]) = three();
    for key in [a, b, c] {
        mux.want_send(key);
    }
    let turns: Vec<_> = (0..6).map_while(|_| next_whole(&mut mux)).collect();
    let (frame, burst) = (limits::FRAME_DATA_MAX, limits::BURST_MAX);
    assert_eq!(turns, [(a, frame), (b, frame), (c, frame), (a, burst), (b, burst), (c, burst)]);
}

/// Twenty transfers that have had their first turn.
fn transfers(mux: &mut Mux) {
    for at in 0..20 {
        let transfer = accept(mux, 3 + 2 * at);
        mux.want_send(transfer);
    }
    while !mux.turns.lines()[0].is_empty() {
        assert!(next_whole(mux).is_some());
    }
}

#[test]
fn light_streams_wait_for_one_heavy_one_however_many_there_are_of_both() {
    let mut mux = gateway();
    transfers(&mut mux);
    let pings: Vec<_> = (0..30).map(|at| accept(&mut mux, 99 + 2 * at)).collect();
    for key in &pings {
        mux.want_send(*key);
    }
    let mut heavy = 0;
    for _ in 0..pings.len() {
        let mut grant = mux.poll_grant().expect("a grant");
        while !pings.contains(&grant.key) {
            heavy += 1;
            let len = grant.burst;
            assert!(mux.commit_burst(grant, len).is_some());
            grant = mux.poll_grant().expect("a grant");
        }
        assert!(mux.commit(grant, 1).is_some());
    }
    assert!(heavy <= 1, "{heavy}");
}

#[test]
fn heavy_stream_has_half_of_the_bytes_beside_any_number_of_light_ones() {
    let mut mux = gateway();
    let heavy = accept(&mut mux, 3);
    mux.want_send(heavy);
    assert_eq!(next_whole(&mut mux).map(|turn| turn.0), Some(heavy));
    for at in 0..40 {
        let light = accept(&mut mux, 5 + 2 * at);
        mux.want_send(light);
    }
    let (mut by_heavy, mut by_light) = (0, 0);
    // As long as its credit lasts.
    while by_heavy < 2 * limits::BURST_MAX {
        let grant = mux.poll_grant().expect("a grant");
        let is_heavy = grant.key == heavy;
        // Less than a frame, so that they stay light.
        let len = if is_heavy { grant.burst } else { grant.max / 2 };
        *if is_heavy { &mut by_heavy } else { &mut by_light } += len;
        assert!(mux.commit_burst(grant, len).is_some());
    }
    assert!(by_light <= by_heavy + limits::BURST_MAX + limits::FRAME_DATA_MAX, "{by_light} beside {by_heavy}");
}

#[test]
fn light_stream_that_had_nothing_takes_nothing_from_the_others() {
    let mut mux = gateway();
    transfers(&mut mux);
    let burst = next_whole(&mut mux).map(|turn| turn.1);
    assert_eq!(burst, Some(limits::BURST_MAX));
    let (empty, ping) = (accept(&mut mux, 99), accept(&mut mux, 101));
    for _ in 0..2 * limits::BURST_MAX / 1024 {
        mux.want_send(empty);
        let grant = mux.poll_grant().expect("a grant");
        assert_eq!(grant.key, empty);
        mux.release(grant);
    }
    mux.want_send(ping);
    assert_eq!(next(&mut mux), Some(ping));
}

#[test]
fn transfer_is_a_heavy_stream_also_after_a_turn_that_ended_with_its_credit() {
    let (mut mux, [a, b, _]) = three();
    mux.want_send(a);
    while next_whole(&mut mux).is_some() {}
    mux.want_send(b);
    recv(&mut mux, &frame::credit(3, 7));
    let turns: Vec<_> = (0..2).map_while(|_| next_whole(&mut mux)).collect();
    assert_eq!(turns, [(b, limits::FRAME_DATA_MAX), (a, 7)], "the light one first");
}

#[test]
fn transfer_is_a_heavy_stream_also_after_a_turn_that_ended_with_the_room() {
    let (mut mux, [a, b, _]) = three();
    mux.want_send(a);
    assert_eq!(next_whole(&mut mux), Some((a, limits::BURST_MAX)));
    let mut grant = mux.poll_grant().expect("a grant");
    // A credit went first.
    grant.burst = limits::FRAME_DATA_MAX - 12;
    let len = grant.burst;
    assert!(mux.commit_burst(grant, len).is_some());
    mux.want_send(b);
    let turns: Vec<_> = (0..2).map_while(|_| next_whole(&mut mux)).collect();
    assert_eq!(turns, [(b, limits::FRAME_DATA_MAX), (a, limits::BURST_MAX)], "the light one first");
}

#[test]
fn light_turn_counts_a_kibibyte_at_least() {
    let mut mux = gateway();
    transfers(&mut mux);
    assert_eq!(next_whole(&mut mux).map(|turn| turn.1), Some(limits::BURST_MAX));
    let ping = accept(&mut mux, 99);
    mux.want_send(ping);
    let mut light = 0;
    while next(&mut mux) == Some(ping) {
        light += 1;
    }
    assert_eq!(light, limits::BURST_MAX.div_ceil(1024), "then a transfer");
}

#[test]
fn payload_and_its_headers_fill_the_room_of_a_batch_and_no_more() {
    let frames = |payload: usize| payload.div_ceil(limits::FRAME_DATA_MAX);
    for room in limits::BATCH_REST..=limits::BATCH_MAX {
        let payload = limits::payload_in(room);
        let len = payload + frames(payload) * frame::HEADER_LEN;
        assert!(payload > 0 && len <= room && room - len <= frame::HEADER_LEN, "{len} in {room}");
    }
    assert_eq!(limits::payload_in(limits::BATCH_MAX), limits::BURST_MAX);
    assert_eq!(limits::payload_in(usize::MAX), limits::BURST_MAX);
}

#[test]
fn burst_is_frames_that_are_full_but_for_the_last_and_ends_with_the_credit() {
    let (mut mux, [a, ..]) = three();
    for (len, sizes) in [
        (1, vec![1]),
        (limits::FRAME_DATA_MAX, vec![limits::FRAME_DATA_MAX]),
        (2 * limits::FRAME_DATA_MAX + 5, vec![limits::FRAME_DATA_MAX, limits::FRAME_DATA_MAX, 5]),
    ] {
        mux.want_send(a);
        let grant = mux.poll_grant().expect("a grant");
        let headers: Vec<_> = mux.commit_burst(grant, len).expect("headers").collect();
        assert_eq!(headers, sizes.iter().map(|len| frame::data_header(3, *len, DataFlag::None)).collect::<Vec<_>>());
        mux.audit().unwrap();
    }
    let spent = 1 + 3 * limits::FRAME_DATA_MAX + 5;
    let mut left = limits::WINDOW as usize - spent;
    while let Some(grant) = mux.poll_grant() {
        assert_eq!(grant.burst, left.min(limits::BURST_MAX));
        left -= grant.burst;
        let len = grant.burst;
        assert!(mux.commit_burst(grant, len).is_some());
    }
    assert_eq!(left, 0);
}

#[test]
fn burst_of_a_stream_that_died_meanwhile_goes_nowhere() {
    let (mut mux, [a, ..]) = three();
    mux.want_send(a);
    let grant = mux.poll_grant().expect("a grant");
    recv(&mut mux, &frame::reset(3, ErrorCode::STREAM_CANCELLED));
    assert!(mux.commit_burst(grant, 2 * limits::FRAME_DATA_MAX).is_none());
}
