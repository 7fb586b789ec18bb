//! Turns one by one, and a fleet that comes back in virtual time: the agents' own back-off against the gateway's pace.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use adit::backoff::Backoff;
use adit::session::Random;

use super::*;

const DEFAULT: usize = 40;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// An agent of its own credential.
fn one_of(number: usize) -> Arc<str> {
    format!("credential-{number}").into()
}

#[test]
fn quiet_gateway_lets_everybody_in_at_once() {
    let (mut pace, mut now) = (Pace::default(), Instant::now());
    for number in 0..100 {
        for credential in [one_of(number), one_of(1)] {
            assert_eq!(pace.turn(&credential, DEFAULT, Patience::ComesBack, now), Turn::At(now));
            now += ms(25);
        }
    }
}

#[test]
fn beyond_the_burst_turns_come_at_the_rate_and_then_a_time_to_come_back() {
    let (mut pace, now) = (Pace::default(), Instant::now());
    let mut turns = Vec::new();
    let first_away = loop {
        match pace.turn(&one_of(turns.len()), DEFAULT, Patience::ComesBack, now) {
            Turn::At(at) => turns.push(at - now),
            Turn::Later(away) => break away,
        }
    };
    assert_eq!(turns.iter().filter(|turn| turn.is_zero()).count(), 11, "a quarter of a second's, and the next");
    assert!(turns.windows(2).all(|pair| pair[1] - pair[0] <= ms(25)));
    assert_eq!(*turns.last().unwrap(), QUEUE_MAX);
    assert_eq!(first_away, QUEUE_MAX + ms(25));
    let last = one_of(1000);
    assert_eq!(pace.turn(&last, DEFAULT, Patience::ComesBack, now), Turn::Later(QUEUE_MAX + ms(50)));
    // When they come back, the queue has been worked off.
    assert_eq!(pace.turn(&last, DEFAULT, Patience::ComesBack, now + first_away), Turn::At(now + first_away));
}

#[test]
fn agents_that_take_no_hint_wait_and_are_never_sent_away() {
    let (mut pace, now) = (Pace::default(), Instant::now());
    let mut last = Duration::ZERO;
    for number in 0..5_000 {
        let Turn::At(at) = pace.turn(&one_of(number), DEFAULT, Patience::Waits, now) else { panic!("sent away") };
        last = at - now;
        assert!(last <= PATIENT_QUEUE_MAX);
    }
    assert_eq!(last, PATIENT_QUEUE_MAX);
    // The queue is bounded: those who did not fit have not made it longer.
    let later = now + PATIENT_QUEUE_MAX + ms(25);
    assert_eq!(pace.turn(&one_of(0), DEFAULT, Patience::ComesBack, later), Turn::At(later));
}

#[test]
fn nobody_is_sent_away_for_longer_than_agents_honour() {
    let (mut pace, now) = (Pace::default(), Instant::now());
    for number in 0..10_000 {
        if let Turn::Later(away) = pace.turn(&one_of(number % 3), 1, Patience::ComesBack, now) {
            assert!(away >= QUEUE_MAX && away <= AWAY_MAX, "{away:?}");
        }
    }
    let slots: Vec<_> = (0..10_000).map(|number| slot(number, DEFAULT)).collect();
    assert_eq!(slots[..3], [ms(0), ms(25), ms(50)]);
    assert!(slots.iter().all(|slot| *slot <= AWAY_MAX));
    assert_eq!(slot(usize::MAX, usize::MAX), slot(usize::MAX, usize::MAX));
}

/// Lets somebody log in a thousand times a second from `from` to `until`, whatever the answers are, and everybody in
/// `others` once a second; how long those had to wait at most.
fn wait_beside(
    pace: &mut Pace,
    looping: Patience,
    others: &[(Arc<str>, Patience)],
    from: Instant,
    until: Duration,
) -> Duration {
    let (looper, mut worst) = (one_of(0), Duration::ZERO);
    for step in 0..until.as_millis() {
        let now = from + ms(u64::try_from(step).unwrap());
        pace.turn(&looper, DEFAULT, looping, now);
        if step % 1000 == 999 {
            for (credential, patience) in others {
                let Turn::At(at) = pace.turn(credential, DEFAULT, *patience, now) else { panic!("sent away") };
                worst = worst.max(at - now);
            }
        }
    }
    worst
}

#[test]
fn credential_that_logs_in_all_the_time_keeps_nobody_else_waiting() {
    let others = [(one_of(1), Patience::ComesBack), (one_of(2), Patience::Waits)];
    for looping in [Patience::ComesBack, Patience::Waits] {
        let (mut pace, start) = (Pace::default(), Instant::now());
        // Its first log-ins are like everybody's.
        let worst = wait_beside(&mut pace, looping, &others, start, ms(2_000));
        assert!(worst < ms(1_500), "{looping:?}: {worst:?}");
        let start = start + ms(2_000);
        assert_eq!(wait_beside(&mut pace, looping, &others, start, ms(300_000)), ms(0), "{looping:?}");
    }
}

#[test]
fn busy_queues_share_the_rate() {
    let (mut pace, start) = (Pace::default(), Instant::now());
    let mut accepted = [0; 3];
    // Two large fleets, and many agents of a credential each, of which hardly one in ten gets in.
    for step in 0..4_000 {
        let now = start + step * ms(5);
        let small = one_of(2 + usize::try_from(step % 1_000).unwrap());
        for (place, credential) in [one_of(0), one_of(1), small].iter().enumerate() {
            let is_in = matches!(pace.turn(credential, DEFAULT, Patience::ComesBack, now), Turn::At(_));
            accepted[place] += usize::from(is_in);
        }
    }
    // 20 s, what waits at their end, and what was given before the others came.
    let all: usize = accepted.iter().sum();
    assert!((20 * DEFAULT..26 * DEFAULT).contains(&all), "{accepted:?}");
    assert!(accepted.iter().all(|count| count * 4 > all), "{accepted:?}");
}

#[test]
fn frequent_is_who_has_been_of_late_and_the_table_is_bounded() {
    let (mut pace, start) = (Pace::default(), Instant::now());
    let is_frequent = |pace: &mut Pace, now| {
        pace.add(&one_of(0), now);
        pace.credentials[&one_of(0)].queue.is_some()
    };
    for _ in 0..FREQUENT {
        assert!(!is_frequent(&mut pace, start));
    }
    assert!(is_frequent(&mut pace, start + PERIOD - ms(1)));
    assert!(is_frequent(&mut pace, start + PERIOD), "the period before counts, too");
    assert!(!is_frequent(&mut pace, start + 3 * PERIOD));
    for number in 0..2 * CREDENTIALS_MAX {
        pace.add(&one_of(number), start + 3 * PERIOD);
    }
    assert_eq!(pace.credentials.len(), CREDENTIALS_MAX);
    // Those who have not been here for long make room.
    pace.add(&one_of(2 * CREDENTIALS_MAX), start + 5 * PERIOD);
    assert_eq!(pace.credentials.len(), 1);
}

/// How the gateway went away.
#[derive(Clone, Copy, Debug)]
enum Loss {
    Killed,
    Drained,
}

/// What a storm looked like.
#[derive(Debug)]
struct Storm {
    /// Accepted sessions in the fullest second, counted from the first.
    peak: usize,
    /// The same on average, from the first to the last.
    mean: f64,
    /// From the gateway's return to the last.
    last: Duration,
}

/// A fleet that has lost its gateway at one moment; another one is there after `outage`.
fn storm(
    agents: usize,
    per_second: usize,
    credential_of: fn(usize) -> Arc<str>,
    loss: Loss,
    outage: Duration,
    seed: u64,
) -> Storm {
    let start = Instant::now();
    let (mut pace, mut random) = (Pace::default(), Random::new(seed));
    let mut backoffs = vec![Backoff::new(); agents];
    let mut attempts = BinaryHeap::new();
    for (agent, backoff) in backoffs.iter_mut().enumerate() {
        let wait = match loss {
            Loss::Killed => backoff.next(random.next()),
            Loss::Drained => backoff.told(slot(agent, DEFAULT), random.next()),
        };
        attempts.push(Reverse((wait, agent)));
    }
    let mut accepted = Vec::new();
    while let Some(Reverse((at, agent))) = attempts.pop() {
        let backoff = &mut backoffs[agent];
        if at < outage {
            attempts.push(Reverse((at + backoff.next(random.next()), agent)));
            continue;
        }
        match pace.turn(&credential_of(agent), per_second, Patience::ComesBack, start + at) {
            Turn::At(turn) => accepted.push(turn - start),
            Turn::Later(away) => attempts.push(Reverse((at + backoff.told(away, random.next()), agent))),
        }
    }
    accepted.sort_unstable();
    let (first, last) = (accepted[0], accepted[agents - 1]);
    let mut seconds = BTreeMap::<u64, usize>::new();
    for at in accepted {
        *seconds.entry((at - first).as_secs()).or_default() += 1;
    }
    let buckets = u32::try_from((last - first).as_secs() + 1).unwrap();
    let mean = f64::from(u32::try_from(agents).unwrap()) / f64::from(buckets);
    Storm { peak: seconds.into_values().max().unwrap(), mean, last: last - outage }
}

fn worst(per_second: usize, credential_of: fn(usize) -> Arc<str>) -> f64 {
    let mut worst = 0_f64;
    for loss in [Loss::Killed, Loss::Drained] {
        for outage in [0, 500, 1_000, 1_500, 2_000, 3_000, 5_000, 10_000, 30_000, 300_000].map(ms) {
            for seed in 0..10 {
                let storm = storm(500, per_second, credential_of, loss, outage, seed);
                assert!(storm.last < Duration::from_secs(60), "{loss:?} {outage:?} {seed} {storm:?}");
                worst = worst.max(f64::from(u32::try_from(storm.peak).unwrap()) / storm.mean);
            }
        }
    }
    worst
}

#[test]
fn fleet_of_500_comes_back_within_a_minute_and_without_a_peak() {
    // A credential for each agent, one for all, and one for ten.
    for credential_of in [one_of, |_| one_of(0), |agent| one_of(agent / 10)] as [fn(usize) -> Arc<str>; 3] {
        let ratio = worst(DEFAULT, credential_of);
        assert!(ratio < 3.0, "peak / mean = {ratio}");
    }
}

/// What the test above is worth: the agents' jitter alone does not do it.
#[test]
fn without_a_pace_there_is_a_peak() {
    let ratio = worst(10_000, one_of);
    assert!(ratio > 3.0, "peak / mean = {ratio}");
}
