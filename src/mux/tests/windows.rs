//! Windows that both ends agreed on, that grow and that shrink.

use std::time::{Duration, Instant};

use super::*;
use crate::mux::limits::{WINDOW, WINDOW_MIN};
use crate::pool::BLOCK_LEN;

const ROUND_TRIP: Duration = Duration::from_millis(100);

fn agreed(side: Side, limits: Limits) -> (Mux, Instant) {
    let (mut mux, now) = (Mux::new(side, limits), Instant::now());
    mux.set_now(now);
    mux.set_round_trip(ROUND_TRIP);
    assert!(mux.agree_windows(40_000));
    (mux, now)
}

fn small() -> Limits {
    Limits { window: WINDOW_MIN, ..Limits::default() }
}

fn window(mux: &Mux, key: Key) -> usize {
    mux.audit().unwrap().iter().find(|stream| stream.key == key).map_or(0, |stream| stream.window)
}

/// The peer sends so many bytes on stream 2, as its credit allows, and they are consumed.
fn flow(mux: &mut Mux, key: Key, mut len: usize) {
    while len > 0 {
        let allowance = mux.audit().unwrap().iter().find(|stream| stream.key == key).unwrap().allowance;
        let now = len.min(allowance).min(1 << 20);
        assert!(now > 0);
        recv(mux, &data(2, DataFlag::None, &vec![0; now]));
        mux.consume(key, now);
        events(mux);
        out(mux);
        len -= now;
    }
}

#[test]
fn streams_that_the_gateway_opens_begin_with_the_windows_that_were_agreed_on() {
    let (mut agent, _) = agreed(Side::Agent, small());
    let theirs = accept(&mut agent, 2);
    assert_eq!(window(&agent, theirs), WINDOW_MIN as usize);
    recv(&mut agent, &data(2, DataFlag::None, &vec![0; WINDOW_MIN as usize - 4 + 1]));
    assert_eq!(events(&mut agent), [Event::Reset(theirs, ErrorCode::FLOW_CONTROL_ERROR)]);
    let (mut gateway, _) = agreed(Side::Gateway, small());
    let ours = opened(&mut gateway);
    exhaust_credit(&mut gateway, ours);
    gateway.want_send(ours);
    assert!(gateway.poll_grant().is_none());
    let sent: usize = gateway.audit().unwrap().iter().map(|stream| 40_000 - stream.credit).sum();
    assert_eq!(sent, 40_000, "the first frame counts too");
}

#[test]
fn streams_that_the_agent_opens_begin_with_the_protocols_window() {
    let (mut agent, _) = agreed(Side::Agent, small());
    let (mut gateway, _) = agreed(Side::Gateway, small());
    let call = opened(&mut agent);
    let there = accept(&mut gateway, 3);
    assert_eq!([window(&agent, call), window(&gateway, there)], [WINDOW as usize; 2]);
}

#[test]
fn streams_from_before_keep_what_they_have() {
    let mut agent = Mux::new(Side::Agent, small());
    let before = accept(&mut agent, 2);
    assert!(agent.agree_windows(WINDOW_MIN));
    let after = accept(&mut agent, 4);
    assert_eq!([window(&agent, before), window(&agent, after)], [WINDOW as usize, WINDOW_MIN as usize]);
}

#[test]
fn nonsense_is_no_agreement() {
    for peer_window in [0, 1, WINDOW_MIN - 1, WINDOW + 1, u32::MAX] {
        let mut mux = Mux::new(Side::Agent, small());
        assert!(!mux.agree_windows(peer_window), "{peer_window}");
        let key = accept(&mut mux, 2);
        assert_eq!(window(&mux, key), WINDOW as usize);
    }
}

#[test]
fn window_doubles_while_all_of_it_is_consumed_within_four_round_trips() {
    let (mut agent, mut now) = agreed(Side::Agent, small());
    let key = accept(&mut agent, 2);
    let mut size = WINDOW_MIN as usize;
    for _ in 0..4 {
        now += ROUND_TRIP;
        agent.set_now(now);
        flow(&mut agent, key, size - 4);
        out(&mut agent);
        // Seen when the next bytes come.
        flow(&mut agent, key, 4);
        size *= 2;
        assert_eq!(window(&agent, key), size);
        out(&mut agent);
    }
    assert_eq!(agent.windows_grown(), size - WINDOW_MIN as usize);
    now += 5 * ROUND_TRIP;
    agent.set_now(now);
    flow(&mut agent, key, size);
    flow(&mut agent, key, 4);
    assert_eq!(window(&agent, key), size, "that was slow");
    agent.reset(key, ErrorCode::STREAM_CANCELLED);
    assert_eq!(agent.windows_grown(), 0);
}

/// Grows the window of stream 2 as far as it goes.
fn grown(mux: &mut Mux) -> Key {
    let key = accept(mux, 2);
    loop {
        let before = window(mux, key);
        flow(mux, key, before);
        flow(mux, key, before);
        if window(mux, key) == before {
            return key;
        }
    }
}

#[test]
fn no_window_grows_without_agreement_or_without_a_round_trip() {
    let mut official = Mux::new(Side::Agent, small());
    official.set_now(Instant::now());
    official.set_round_trip(ROUND_TRIP);
    let mut unmeasured = Mux::new(Side::Agent, small());
    unmeasured.set_now(Instant::now());
    assert!(unmeasured.agree_windows(WINDOW));
    for mut mux in [official, unmeasured] {
        grown(&mut mux);
        assert_eq!(mux.windows_grown(), 0);
    }
}

#[test]
fn windows_grow_by_half_the_budget_and_each_by_half_of_what_is_left() {
    let memory_max = 4 << 20;
    let (mut agent, _) = agreed(Side::Agent, Limits { memory_max, ..small() });
    let key = grown(&mut agent);
    let first = window(&agent, key);
    assert!(agent.windows_grown() <= memory_max / 2);
    assert!((memory_max / 4..memory_max / 2).contains(&first), "{first}");
}

#[test]
fn window_never_grows_beyond_its_bound() {
    let (mut agent, _) = agreed(Side::Agent, Limits { memory_max: 1 << 30, ..small() });
    let key = grown(&mut agent);
    assert_eq!(window(&agent, key), limits::WINDOW_GROWN_MAX as usize);
}

#[test]
fn idle_window_shrinks_by_what_is_not_granted_again() {
    let (mut agent, now) = agreed(Side::Agent, small());
    let key = grown(&mut agent);
    let large = window(&agent, key);
    agent.set_now(now + Duration::from_secs(9));
    assert_eq!(window(&agent, key), large);
    agent.set_now(now + Duration::from_secs(11));
    assert_eq!((window(&agent, key), agent.windows_grown()), (WINDOW_MIN as usize, 0));
    // What was granted holds, and is not granted again.
    out(&mut agent);
    let allowance = agent.audit().unwrap()[0].allowance;
    assert!(allowance > large - large / 8);
    recv(&mut agent, &data(2, DataFlag::None, &vec![0; allowance]));
    agent.consume(key, allowance - WINDOW_MIN as usize);
    assert_eq!(written(&mut agent), Vec::<String>::new());
    agent.consume(key, usize::MAX);
    assert_eq!(written(&mut agent), [format!("WNDINC 2 {WINDOW_MIN}")]);
}

#[test]
fn windows_neither_grow_nor_stay_grown_while_memory_is_short() {
    let memory_max = 4 << 20;
    let (mut agent, _) = agreed(Side::Agent, Limits { memory_max, ..small() });
    grown(&mut agent);
    let most = agent.windows_grown();
    agent.set_held(memory_max / 2);
    accept(&mut agent, 4);
    assert_eq!(agent.windows_grown(), most, "at 50 % none shrinks");
    agent.set_held(memory_max / 4 * 3 - BLOCK_LEN);
    recv(&mut agent, &data(4, DataFlag::None, b"x"));
    assert_eq!(agent.windows_grown(), 0, "at 75 %");
    events(&mut agent);
    agent.set_held(memory_max / 2);
    let key = grown_again(&mut agent);
    assert_eq!((window(&agent, key), agent.windows_grown()), (WINDOW_MIN as usize, 0), "from 50 % none grows");
}

/// As [`grown`], for stream 6.
fn grown_again(mux: &mut Mux) -> Key {
    let key = accept(mux, 6);
    for _ in 0..10 {
        recv(mux, &data(6, DataFlag::None, &[0; 8 * 1024]));
        mux.consume(key, usize::MAX);
        events(mux);
        out(mux);
    }
    key
}

#[test]
fn memory_of_a_burst_is_given_back_a_second_later_and_that_is_asked_for() {
    let (mut agent, now) = agreed(Side::Agent, Limits::default());
    let key = accept(&mut agent, 2);
    assert_eq!(agent.sweep_due(), None);
    recv(&mut agent, &data(2, DataFlag::None, &vec![0; 40 * BLOCK_LEN]));
    assert_eq!(agent.sweep_due(), None, "it is in use");
    agent.consume(key, usize::MAX);
    let due = agent.sweep_due().unwrap();
    assert_eq!((due, agent.pool.spare_bytes()), (now + limits::SWEEP, 40 * BLOCK_LEN));
    agent.set_now(due.checked_sub(Duration::from_nanos(1)).unwrap());
    assert_eq!(agent.pool.spare_bytes(), 40 * BLOCK_LEN);
    agent.set_now(due);
    assert_eq!((agent.pool.spare_bytes(), agent.sweep_due()), (16 * BLOCK_LEN, None));
}
