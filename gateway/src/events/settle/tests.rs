//! The settle time and flapping, on a clock of numbers.

use super::*;

/// The part before a slash.
impl Grouped for &'static str {
    type Group = &'static str;

    fn group(&self) -> &'static str {
        self.split_once('/').map_or("", |(group, _)| group)
    }
}

/// Follows things by their names; times are in seconds.
struct Clock {
    start: Instant,
    settle: Settle<&'static str>,
    told: Vec<(u64, &'static str, Change)>,
}

impl Clock {
    fn new() -> Self {
        Self { start: Instant::now(), settle: Settle::new(Duration::from_secs(30), 3), told: Vec::new() }
    }

    fn moment(&self, seconds: u64) -> Moment {
        Moment { at: self.start + Duration::from_secs(seconds), unix_ms: 0 }
    }

    /// Lets time pass until `seconds`, polling only when something is due.
    fn pass(&mut self, seconds: u64) {
        let until = self.moment(seconds).at;
        while let Some(at) = self.settle.next().filter(|at| *at <= until) {
            let second = at.duration_since(self.start).as_secs();
            assert!(self.settle.poll(at - Duration::from_nanos(1)).is_none(), "told before its time");
            let (first, other) = self.settle.poll(at).unwrap();
            self.told.extend([Some(first), other].into_iter().flatten().map(|told| (second, told.key, told.change)));
        }
    }

    fn hear(&mut self, seconds: u64, key: &'static str, is_up: bool) {
        self.pass(seconds);
        let told = self.settle.hear(&key, is_up, None, self.moment(seconds));
        self.told.extend(told.map(|told| (seconds, told.key, told.change)));
    }

    fn told(&mut self, until: u64) -> Vec<(u64, &'static str, Change)> {
        self.pass(until);
        std::mem::take(&mut self.told)
    }
}

#[test]
fn change_is_told_after_the_settle_time_and_not_before() {
    let mut clock = Clock::new();
    clock.hear(0, "a", true);
    assert_eq!(clock.told(29), []);
    assert_eq!(clock.told(30), [(30, "a", Change::Up(None))]);
    clock.hear(100, "a", false);
    assert_eq!(clock.told(129), []);
    assert_eq!(clock.told(130), [(130, "a", Change::Down)]);
    clock.hear(400, "a", true);
    assert_eq!(clock.told(430), [(430, "a", Change::Up(Some(Duration::from_secs(300))))]);
    assert_eq!(clock.told(10_000), []);
}

#[test]
fn short_absence_is_not_told() {
    let mut clock = Clock::new();
    clock.hear(0, "a", true);
    clock.told(60);
    clock.hear(100, "a", false);
    clock.hear(129, "a", true);
    assert_eq!(clock.told(10_000), []);
}

#[test]
fn absence_after_a_presence_too_short_to_be_told_is_told() {
    let mut clock = Clock::new();
    clock.hear(0, "a", true);
    clock.hear(10, "a", false);
    assert_eq!(clock.told(1000), [(40, "a", Change::Down)]);
}

#[test]
fn what_was_never_there_and_what_has_not_changed_is_not_told() {
    let mut clock = Clock::new();
    clock.hear(0, "a", false);
    clock.hear(0, "b", true);
    clock.hear(20, "b", true);
    assert_eq!(clock.told(1000), [(30, "b", Change::Up(None))]);
}

#[test]
fn flapping_is_told_once_and_its_end_with_the_count() {
    let mut clock = Clock::new();
    clock.hear(0, "a", true);
    clock.told(60);
    for departure in 0..20 {
        clock.hear(100 + departure * 20, "a", false);
        clock.hear(110 + departure * 20, "a", true);
    }
    assert_eq!(clock.told(639), [(140, "a", Change::Flapping(3))]);
    assert_eq!(clock.told(10_000), [(640, "a", Change::Steady(20, true))]);
    // And it counts from the beginning.
    clock.hear(10_010, "a", false);
    clock.hear(10_011, "a", true);
    clock.hear(10_020, "a", false);
    clock.hear(10_021, "a", true);
    assert_eq!(clock.told(20_000), []);
}

#[test]
fn flapping_that_ends_in_an_absence_tells_both() {
    let mut clock = Clock::new();
    clock.hear(0, "a", true);
    clock.told(60);
    for time in [100, 120, 140] {
        clock.hear(time - 1, "a", true);
        clock.hear(time, "a", false);
    }
    let expected = [(140, "a", Change::Flapping(3)), (290, "a", Change::Steady(3, false)), (290, "a", Change::Down)];
    assert_eq!(clock.told(10_000), expected);
}

#[test]
fn departures_far_apart_are_no_flapping() {
    let mut clock = Clock::new();
    clock.hear(0, "a", true);
    clock.told(60);
    for departure in 0..10 {
        clock.hear(1000 + departure * 151, "a", false);
        clock.hear(1001 + departure * 151, "a", true);
    }
    assert_eq!(clock.told(10_000), []);
    // Just often enough begins it, and does not end it in between.
    for departure in 0..10 {
        clock.hear(20_000 + departure * 150 - departure, "a", false);
        clock.hear(20_001 + departure * 150 - departure, "a", true);
    }
    let told: Vec<_> = clock.told(30_000).into_iter().map(|(_, _, change)| change).collect();
    assert_eq!(told, [Change::Flapping(3), Change::Steady(10, true)]);
}

#[test]
fn absent_ones_are_forgotten_oldest_first_and_the_loss_is_counted() {
    let mut clock = Clock::new();
    let names = ["a", "b", "c", "d"];
    for name in names {
        clock.hear(0, name, true);
    }
    clock.told(60);
    for (second, name) in (100..).zip(names) {
        clock.hear(second, name, false);
    }
    assert_eq!((clock.settle.records.len(), clock.settle.forgotten()), (3, 1));
    let told: Vec<_> = clock.told(1000).into_iter().map(|(_, key, _)| key).collect();
    assert_eq!(told, ["b", "c", "d"]);
    // Those that were told of are forgotten without a loss.
    clock.hear(2000, "e", true);
    clock.hear(2001, "e", false);
    assert_eq!((clock.settle.records.len(), clock.settle.forgotten()), (3, 1));
    assert_eq!(clock.settle.away.len(), 3);
    clock.pass(5000);
    assert!(clock.settle.due.is_empty());
}

#[test]
fn group_with_most_absent_ones_forgets_its_own() {
    let mut clock = Clock::new();
    clock.hear(0, "a/1", true);
    clock.told(60);
    clock.hear(100, "a/1", false);
    let made_up = ["b/1", "b/2", "b/3", "b/4", "b/5", "b/6"];
    for (second, name) in (101..).zip(made_up) {
        clock.hear(second, name, true);
        clock.hear(second, name, false);
    }
    let told: Vec<_> = clock.told(1000).into_iter().map(|(_, key, _)| key).collect();
    assert_eq!(told, ["a/1", "b/5", "b/6"]);
}

#[test]
fn outage_lasts_until_it_is_told_that_it_is_over() {
    let mut clock = Clock::new();
    clock.hear(0, "a", true);
    clock.hear(100, "a", false);
    clock.hear(3000, "a", true);
    clock.hear(3010, "a", false);
    clock.hear(4000, "a", true);
    let told = clock.told(5000);
    assert_eq!(told.last(), Some(&(4030, "a", Change::Up(Some(Duration::from_secs(3900))))));
}
