//! Two multiplexers joined by two byte pipes, under every fault a TCP link can have, from a seed.
//!
//! `SIM_SEED=n` replays one seed and says what it did, `SIM_SEEDS=n` sets how many are tried.

mod sim;

use std::sync::atomic::{AtomicU32, Ordering};

use sim::world::{Sabotage, Tally, World};

/// Seeds of a plain `cargo test`.
const SEEDS: u64 = 1000;

#[test]
fn invariants_hold_for_every_seed() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    if let Some(seed) = number("SIM_SEED") {
        println!("{:#?}", run(seed));
        return;
    }
    let seeds = number("SIM_SEEDS").unwrap_or(SEEDS);
    // Not every router has atomics of 64 bits.
    let next = AtomicU32::new(0);
    let worker = || {
        let mut total = Tally::default();
        while let seed = u64::from(next.fetch_add(1, Ordering::Relaxed))
            && seed < seeds
        {
            total.add(run(seed));
        }
        total
    };
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let total = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let mut total = Tally::default();
        for worker in workers {
            total.add(worker.join().unwrap());
        }
        total
    });
    println!("{total:#?}");
    if seeds >= SEEDS {
        total.assert_everything_happened();
    }
}

fn run(seed: u64) -> Tally {
    match World::new(seed, Sabotage::None).run() {
        Ok(tally) => tally,
        Err(violation) => panic!("{violation}\nreplay with SIM_SEED={seed}"),
    }
}

/// Runs seeds under sabotage until one notices.
fn noticed(sabotage: Sabotage) -> Option<String> {
    (0..100).find_map(|seed| World::new(seed, sabotage).run().err())
}

#[test]
fn flipped_byte_is_noticed() {
    let violation = noticed(Sabotage::FlipByte).unwrap();
    assert!(violation.contains("other bytes than were sent"), "{violation}");
}

#[test]
fn lost_credit_is_noticed() {
    let violation = noticed(Sabotage::LoseCredit).unwrap();
    assert!(violation.contains("credit is not conserved"), "{violation}");
}

#[test]
fn lost_want_is_noticed() {
    let violation = noticed(Sabotage::ForgetWant).unwrap();
    assert!(violation.contains("did not come to rest"), "{violation}");
}

#[test]
fn early_end_is_noticed() {
    let violation = noticed(Sabotage::EndEarly).unwrap();
    assert!(violation.contains("ended without"), "{violation}");
}
