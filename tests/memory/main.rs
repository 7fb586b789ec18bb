//! What the heap holds, seen by a counting allocator: nothing is allocated for a frame, and nothing stays of a connection.
//!
//! A program of its own without the test harness: the counters are those of the whole process, and the harness has a thread
//! that allocates while a test runs.

#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps; clippy.toml covers only #[test] functions")]

mod link;
mod login;
mod pair;
#[path = "../agent/site.rs"]
mod site;

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() {
    a_frame_allocates_nothing();
    sessions_hold_no_more_after_ten_thousand_streams();
    agent_holds_no_more_after_ten_thousand_connections();
}

fn a_frame_allocates_nothing() {
    for direct in [true, false] {
        let mut pair = pair::Pair::up(direct);
        pair.transfer(WARM_FRAMES);
        let region = Region::new(ALLOCATOR);
        pair.transfer(FRAMES);
        let change = region.change();
        assert_eq!((change.allocations, change.reallocations), (0, 0), "direct {direct}: {change:?}");
    }
}

fn sessions_hold_no_more_after_ten_thousand_streams() {
    let mut pair = pair::Pair::up(true);
    let live = [1000, 9000].map(|count| {
        (0..count).for_each(|n| pair.visit(n % 10 == 0));
        live()
    });
    check("two sessions", live);
}

fn agent_holds_no_more_after_ten_thousand_connections() {
    let mut agent = link::Link::up();
    let live = [1000, 9000].map(|count| {
        for n in 0..count / link::AT_A_TIME {
            agent.visit(n % 10 == 0);
        }
        agent.settle();
        live()
    });
    check("the agent and its link", live);
    idle_connections_cost_little(&mut agent);
    agent.end();
}

fn idle_connections_cost_little(agent: &mut link::Link) {
    let before = live();
    agent.hold(IDLE);
    let each = (live() - before) / IDLE;
    println!("an idle connection costs {each} bytes at both ends of the link together");
    assert!(each <= IDLE_BYTES_MAX, "{each} bytes for each");
}

/// Bytes that are allocated now.
fn live() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

fn check(who: &str, [after_1000, after_10000]: [usize; 2]) {
    println!("{who}: {after_1000} bytes after 1000 connections, {after_10000} after 10000");
    assert!(after_10000 <= after_1000 + SLACK, "{who}: {after_1000} bytes grew to {after_10000}");
}

/// What grows to a bound of its own: the ids that were reset lately, at either end, two KiB at each doubling, and buffers that
/// hold a record or what was written at once, which is a matter of how the threads were scheduled: 21 KiB were seen. Five bytes
/// for each of the connections between the two looks: a `u32` in a list that doubles would be more.
const SLACK: usize = 48 * 1024;

/// Idle connections at a time; each has two sockets in this process.
pub(crate) const IDLE: usize = 200;

/// A thousand idle connections have 3 MiB, in which the allocator's own losses and the agent's code have to fit.
const IDLE_BYTES_MAX: usize = 2048;

/// Enough that every queue and buffer has its size: some windows.
const WARM_FRAMES: usize = 200;

const FRAMES: usize = 2000;
