//! The budget for received bytes and its three steps: withhold credit, refuse streams, reset the stalest.

use super::*;
use crate::pool::BLOCK_LEN;

const BLOCKS: usize = 20;

/// Room for 20 blocks: 15 are 75 %, 18 are 90 %.
fn small(side: Side) -> Mux {
    Mux::new(side, Limits { memory_max: BLOCKS * BLOCK_LEN, credit_min: 1, ..Limits::default() })
}

fn blocks(id: u32, n: usize) -> Vec<u8> {
    data(id, DataFlag::None, &vec![0; n * BLOCK_LEN])
}

fn streams<const N: usize>(mux: &mut Mux) -> [Key; N] {
    let keys = std::array::from_fn(|n| accept(mux, 2 * u32::try_from(n).unwrap() + 3));
    out(mux);
    keys
}

#[test]
fn below_75_percent_credit_is_returned() {
    let mut mux = small(Side::Gateway);
    let [a, _] = streams(&mut mux);
    recv(&mut mux, &blocks(3, 15));
    mux.consume(a, BLOCK_LEN);
    assert_eq!(mux.memory_used(), 14 * BLOCK_LEN);
    assert_eq!(written(&mut mux), ["WNDINC 3 4096"]);
}

#[test]
fn from_75_percent_credit_of_streams_that_hold_bytes_waits_until_memory_is_free() {
    let mut mux = small(Side::Gateway);
    let [a, b] = streams(&mut mux);
    recv(&mut mux, &blocks(3, 16));
    recv(&mut mux, &data(5, DataFlag::None, b"12"));
    mux.consume(a, BLOCK_LEN);
    mux.consume(b, 1);
    assert_eq!(mux.memory_used(), 16 * BLOCK_LEN);
    assert_eq!(written(&mut mux), Vec::<String>::new());
    mux.consume(a, 2 * BLOCK_LEN);
    assert_eq!(mux.memory_used(), 14 * BLOCK_LEN);
    assert_eq!(written(&mut mux), ["WNDINC 3 12288", "WNDINC 5 1"]);
}

// A few streams that nobody drains must not stop all others for good.
#[test]
fn from_75_percent_a_stream_that_holds_nothing_still_flows() {
    let mut mux = small(Side::Gateway);
    let [a, b] = streams(&mut mux);
    recv(&mut mux, &blocks(3, 16));
    for _ in 0..200 {
        recv(&mut mux, &blocks(5, 1));
        mux.consume(b, BLOCK_LEN);
        assert_eq!(written(&mut mux), ["WNDINC 5 4096"]);
    }
    assert_eq!(mux.queue(a).unwrap().len(), 16 * BLOCK_LEN);
}

#[test]
fn withheld_credit_comes_when_the_stream_itself_is_drained() {
    let mut mux = small(Side::Gateway);
    let [_, b] = streams(&mut mux);
    recv(&mut mux, &blocks(3, 15));
    recv(&mut mux, &blocks(5, 2));
    mux.consume(b, BLOCK_LEN);
    assert_eq!(written(&mut mux), Vec::<String>::new());
    mux.consume(b, BLOCK_LEN);
    assert_eq!(written(&mut mux), ["WNDINC 5 8192"]);
}

#[test]
fn from_90_percent_new_streams_are_refused() {
    let mut mux = small(Side::Gateway);
    let [a] = streams(&mut mux);
    recv(&mut mux, &blocks(3, 17));
    events(&mut mux);
    let b = accept(&mut mux, 5);
    recv(&mut mux, &data(5, DataFlag::None, b"x"));
    assert_eq!(mux.memory_used(), 18 * BLOCK_LEN);
    recv(&mut mux, &open(7));
    assert_eq!(written(&mut mux), ["RST 7 5"]);
    mux.consume(b, 1);
    events(&mut mux);
    accept(&mut mux, 9);
    assert_eq!(mux.queue(a).unwrap().len(), 17 * BLOCK_LEN);
}

#[test]
fn at_100_percent_the_stream_longest_undrained_is_reset() {
    let mut mux = small(Side::Gateway);
    let [a, b, c] = streams(&mut mux);
    recv(&mut mux, &blocks(3, 8));
    recv(&mut mux, &blocks(5, 8));
    recv(&mut mux, &frame::credit(3, 1));
    mux.consume(a, 1);
    events(&mut mux);
    recv(&mut mux, &blocks(7, 4));
    assert_eq!(mux.memory_used(), 20 * BLOCK_LEN);
    assert_eq!(events(&mut mux), [Event::Readable(c)]);
    recv(&mut mux, &data(7, DataFlag::None, b"x"));
    assert_eq!(events(&mut mux), [Event::Reset(b, ErrorCode::ENHANCE_YOUR_CALM)]);
    // And credit flows again.
    assert_eq!(written(&mut mux), ["RST 5 10", "WNDINC 3 1"]);
    assert_eq!(mux.memory_used(), 13 * BLOCK_LEN);
    assert_eq!(mux.queue(c).unwrap().len(), 4 * BLOCK_LEN + 1);
    assert!(mux.queue(a).is_some());
}

#[test]
fn long_idle_stream_that_begins_to_receive_is_fresh() {
    let mut mux = small(Side::Gateway);
    let [a, b] = streams(&mut mux);
    recv(&mut mux, &blocks(5, 10));
    recv(&mut mux, &blocks(3, 10));
    events(&mut mux);
    recv(&mut mux, &data(3, DataFlag::None, b"x"));
    assert_eq!(events(&mut mux), [Event::Reset(b, ErrorCode::ENHANCE_YOUR_CALM)]);
    assert!(mux.queue(a).is_some());
}

#[test]
fn looking_at_a_stream_without_consuming_does_not_make_it_fresh() {
    let mut mux = small(Side::Gateway);
    let [a, b] = streams(&mut mux);
    recv(&mut mux, &blocks(3, 10));
    recv(&mut mux, &blocks(5, 10));
    recv(&mut mux, &frame::credit(3, 1));
    mux.consume(a, 0);
    events(&mut mux);
    recv(&mut mux, &data(5, DataFlag::None, b"x"));
    assert_eq!(events(&mut mux), [Event::Reset(a, ErrorCode::ENHANCE_YOUR_CALM)]);
    assert!(mux.queue(b).is_some());
}

#[test]
fn stream_that_alone_exceeds_the_budget_is_reset_itself() {
    let mut mux = small(Side::Gateway);
    let [a] = streams(&mut mux);
    recv(&mut mux, &blocks(3, 21));
    assert_eq!(events(&mut mux), [Event::Reset(a, ErrorCode::ENHANCE_YOUR_CALM)]);
    assert_eq!((mux.memory_used(), written(&mut mux)), (0, vec!["RST 3 10".to_owned()]));
}

#[test]
fn stream_reset_in_the_middle_of_its_last_frame_does_not_end() {
    let mut mux = small(Side::Gateway);
    let [a] = streams(&mut mux);
    recv(&mut mux, &data(3, DataFlag::Fin, &vec![0; 21 * BLOCK_LEN]));
    assert!(!mux.is_finished(a));
    assert_eq!(events(&mut mux), [Event::Reset(a, ErrorCode::ENHANCE_YOUR_CALM)]);
}

#[test]
fn memory_never_exceeds_the_budget() {
    let mut mux = small(Side::Gateway);
    for n in 0..40 {
        let id = 2 * n + 3;
        recv(&mut mux, &[open(id), blocks(id, 3)].concat());
        assert!(mux.memory_used() <= BLOCKS * BLOCK_LEN);
        events(&mut mux);
    }
}

#[test]
fn nothing_is_reserved_for_an_open_stream() {
    let mut mux = gateway();
    for n in 0..500 {
        accept(&mut mux, 2 * n + 3);
    }
    assert_eq!((mux.streams(), mux.memory_used()), (500, 0));
}

/// What a peer of the official kind does: as many streams as it may have, and on each the whole of the window that the
/// protocol fixes, whatever becomes of the others.
fn flood(mux: &mut Mux, streams: u32, mut after_each: impl FnMut(&mut Mux)) {
    let piece = 16 * 1024;
    for n in 0..streams {
        recv(mux, &open(2 * n + 2));
        after_each(mux);
    }
    for _ in 0..limits::WINDOW as usize / piece - 1 {
        for n in 0..streams {
            mux.recv(&data(2 * n + 2, DataFlag::None, &vec![0; piece]), &mut ()).unwrap();
            after_each(mux);
        }
    }
}

#[test]
fn budget_holds_against_fixed_windows_on_512_streams_whose_upstreams_all_stand_still() {
    let mut mux = Mux::new(Side::Agent, Limits { streams_max: 1024, ..Limits::default() });
    let memory_max = Limits::default().memory_max;
    let (mut most, mut resets, mut keys) = (0, 0, Vec::new());
    flood(&mut mux, 512, |mux| {
        most = most.max(mux.memory_used());
        while let Some(event) = mux.poll_event() {
            match event {
                Event::Opened(key) => keys.push(key),
                Event::Reset(_, code) => {
                    assert_eq!(code, ErrorCode::ENHANCE_YOUR_CALM);
                    resets += 1;
                }
                _ => {}
            }
        }
        // The peer reads.
        mux.poll_transmit(&mut Vec::new(), usize::MAX);
    });
    assert!(most <= memory_max && most > memory_max - BLOCK_LEN, "{most}");
    let alive = keys.iter().filter(|key| mux.queue(**key).is_some()).count();
    assert_eq!(alive + resets, 512);
    let held: usize = keys.iter().filter_map(|key| mux.queue(*key)).map(crate::pool::BlockQueue::len).sum();
    assert!(held > memory_max * 9 / 10, "those that are left keep what they have: {held}");
    assert_eq!(mux.shortage(), Shortage { refused: 0, aborted: u32::try_from(resets).unwrap() });
    // No newcomer, until memory is free.
    recv(&mut mux, &open(9002));
    assert_eq!(written(&mut mux).last().unwrap(), "RST 9002 5");
    assert_eq!(mux.shortage().refused, 1);
    for key in keys {
        mux.consume(key, usize::MAX);
    }
    assert_eq!(mux.memory_used(), 0);
    recv(&mut mux, &open(9004));
    assert!(matches!(mux.poll_event(), Some(Event::Opened(_))));
}

#[test]
fn stream_that_is_drained_flows_while_511_others_stand_still() {
    let mut mux = Mux::new(Side::Agent, Limits { streams_max: 1024, ..Limits::default() });
    let flowing = accept(&mut mux, 2);
    for n in 1..512 {
        recv(&mut mux, &open(2 * n + 2));
    }
    let (mut credit, mut delivered) = (limits::WINDOW as usize - 4, 0);
    for round in 0..100 {
        for n in (1..512).filter(|n| n % 100 == round) {
            for _ in 0..15 {
                mux.recv(&data(2 * n + 2, DataFlag::None, &[0; 16 * 1024]), &mut ()).unwrap();
            }
        }
        let len = credit.min(100_000);
        recv(&mut mux, &data(2, DataFlag::None, &vec![0; len]));
        while mux.poll_event().is_some() {}
        mux.consume(flowing, len);
        (credit, delivered) = (credit - len, delivered + len);
        for line in written(&mut mux) {
            if let Some(more) = line.strip_prefix("WNDINC 2 ") {
                credit += more.parse::<usize>().unwrap();
            }
        }
    }
    assert!(mux.shortage().aborted > 0, "memory was short");
    assert_eq!(delivered, 100 * 100_000);
}

#[test]
fn what_the_user_holds_counts_against_the_budget_and_pushes_out_what_was_received() {
    let mut mux = small(Side::Gateway);
    let [a, b] = streams(&mut mux);
    recv(&mut mux, &blocks(3, 8));
    recv(&mut mux, &blocks(5, 8));
    events(&mut mux);
    mux.set_held(4 * BLOCK_LEN);
    assert_eq!((mux.memory_used(), mux.is_over_budget()), (BLOCKS * BLOCK_LEN, false));
    mux.set_held(4 * BLOCK_LEN + 1);
    assert_eq!(events(&mut mux), [Event::Reset(a, ErrorCode::ENHANCE_YOUR_CALM)]);
    mux.set_held(BLOCKS * BLOCK_LEN + 1);
    assert_eq!(events(&mut mux), [Event::Reset(b, ErrorCode::ENHANCE_YOUR_CALM)]);
    assert!(mux.is_over_budget());
    // And what comes now has no room at all.
    recv(&mut mux, &open(7));
    assert_eq!(written(&mut mux), ["RST 3 10", "RST 5 10", "RST 7 5"]);
    mux.set_held(0);
    assert_eq!(mux.memory_used(), 0);
}
