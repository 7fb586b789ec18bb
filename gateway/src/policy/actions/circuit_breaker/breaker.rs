//! What a circuit breaker knows of its service. It reads no clock: the time comes with each call.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// When it trips, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    /// The share of failures, 0 to 1, from which on it trips.
    pub(super) error_threshold: f64,
    /// Below so many results within the window the share is not looked at.
    pub(super) volume_threshold: u32,
    /// How far back results count.
    pub(super) window: Duration,
    /// How long nothing gets through.
    pub(super) tripped: Duration,
}

/// One breaker. It holds [`BUCKETS`] pairs of counts, however many requests there are.
#[derive(Debug)]
pub(super) struct Breaker {
    settings: Settings,
    start: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// Everything gets through, and is counted.
    Closed(Box<[Bucket; BUCKETS]>),
    /// Nothing gets through until then.
    Tripped(Instant),
    /// A request is on its way to find out whether the service has recovered.
    Probing(Probe),
}

/// The last request that was sent to find out whether the service has recovered.
#[derive(Clone, Copy, Debug)]
struct Probe {
    /// When it has not come back by then, the next one is sent after it: one visitor who is slow, or means harm, must not
    /// decide for all others when the service gets its next chance.
    until: Instant,
    /// Whose it is. The next one is somebody else's.
    visitor: IpAddr,
}

/// What came back within a tenth of the window.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// Which tenth it is, counted from the start.
    number: u128,
    total: u32,
    failed: u32,
}

/// A request that a breaker has let through. Dropped without a result, it counts as if it had never been.
#[derive(Debug)]
#[must_use]
pub(in crate::policy) struct Trial {
    breaker: Arc<Breaker>,
    is_probe: bool,
    is_settled: bool,
}

impl Trial {
    /// Tells the breaker what became of the request.
    pub(in crate::policy) fn settle(mut self, has_failed: bool, now: Instant) {
        self.is_settled = true;
        self.breaker.record(has_failed, self.is_probe, now);
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if self.is_probe && !self.is_settled {
            self.breaker.abandon();
        }
    }
}

impl Breaker {
    pub(super) fn new(settings: Settings, start: Instant) -> Self {
        Self { settings, start, state: Mutex::new(State::Closed(Box::default())) }
    }

    /// Lets a visitor's request through, or says how long nothing gets through at least.
    pub(super) fn permit(this: &Arc<Self>, visitor: IpAddr, now: Instant) -> Result<Trial, Duration> {
        let trial = |is_probe| Trial { breaker: Arc::clone(this), is_probe, is_settled: false };
        let mut state = this.state();
        match *state {
            State::Closed(_) => Ok(trial(false)),
            State::Tripped(until) | State::Probing(Probe { until, .. }) if now < until => {
                Err(until.duration_since(now))
            }
            State::Probing(probe) if probe.visitor == visitor && now < this.patience(probe) => {
                Err(this.patience(probe).duration_since(now))
            }
            State::Tripped(_) | State::Probing(_) => {
                let time = PROBE_TIME.min(this.settings.tripped);
                *state = State::Probing(Probe { until: now.checked_add(time).unwrap_or(now), visitor });
                Ok(trial(true))
            }
        }
    }

    fn record(&self, has_failed: bool, is_probe: bool, now: Instant) {
        let mut state = self.state();
        match &mut *state {
            State::Closed(buckets) => {
                let number = self.number(now);
                count(buckets, number, has_failed);
                if self.is_too_much(buckets, number) {
                    *state = State::Tripped(self.later(now));
                }
            }
            State::Probing(_) if is_probe => {
                *state = if has_failed { State::Tripped(self.later(now)) } else { State::Closed(Box::default()) };
            }
            // From before it tripped: it says nothing new.
            State::Tripped(_) | State::Probing(_) => {}
        }
    }

    /// The probe has gone without a result: the next request is one.
    fn abandon(&self) {
        let mut state = self.state();
        if matches!(*state, State::Probing(_)) {
            *state = State::Tripped(self.start);
        }
    }

    fn is_too_much(&self, buckets: &[Bucket; BUCKETS], number: u128) -> bool {
        let within = buckets.iter().filter(|bucket| bucket.number + BUCKETS as u128 > number);
        let (total, failed) = within.fold((0_u32, 0_u32), |(total, failed), bucket| {
            (total.saturating_add(bucket.total), failed.saturating_add(bucket.failed))
        });
        total >= self.settings.volume_threshold && f64::from(failed) >= self.settings.error_threshold * f64::from(total)
    }

    fn number(&self, now: Instant) -> u128 {
        let width = (self.settings.window.as_nanos() / BUCKETS as u128).max(1);
        now.saturating_duration_since(self.start).as_nanos() / width
    }

    /// Until then the visitor of a probe gets no other one. Without others, it has to.
    fn patience(&self, probe: Probe) -> Instant {
        probe.until.checked_add(self.settings.tripped).unwrap_or(probe.until)
    }

    fn later(&self, now: Instant) -> Instant {
        now.checked_add(self.settings.tripped).unwrap_or(now)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count(buckets: &mut [Bucket; BUCKETS], number: u128, has_failed: bool) {
    let index = usize::try_from(number % BUCKETS as u128).unwrap_or_default();
    let Some(bucket) = buckets.get_mut(index) else { return };
    if bucket.number != number {
        *bucket = Bucket { number, ..Bucket::default() };
    }
    bucket.total = bucket.total.saturating_add(1);
    bucket.failed = bucket.failed.saturating_add(u32::from(has_failed));
}

/// How long a probe has the service to itself: time for an answer of most services, and too short to wait for by those
/// whose requests are turned away meanwhile.
const PROBE_TIME: Duration = Duration::from_secs(2);

/// Parts of the window, as in ngrok's reference: results leave it a tenth at a time.
pub(super) const BUCKETS: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Settings = Settings {
        error_threshold: 0.5,
        volume_threshold: 4,
        window: Duration::from_secs(10),
        tripped: Duration::from_secs(20),
    };

    struct Bench {
        breaker: Arc<Breaker>,
        start: Instant,
    }

    impl Bench {
        fn new(settings: Settings) -> Self {
            let start = Instant::now();
            Self { breaker: Arc::new(Breaker::new(settings, start)), start }
        }

        fn at(&self, seconds: u64) -> Instant {
            self.start + Duration::from_secs(seconds)
        }

        fn permit(&self, seconds: u64) -> Result<Trial, u64> {
            self.permit_of(1, seconds)
        }

        fn permit_of(&self, visitor: u8, seconds: u64) -> Result<Trial, u64> {
            let visitor = IpAddr::from([192, 0, 2, visitor]);
            Breaker::permit(&self.breaker, visitor, self.at(seconds)).map_err(|wait| wait.as_secs())
        }

        fn ask(&self, seconds: u64, has_failed: bool) {
            self.permit(seconds).unwrap().settle(has_failed, self.at(seconds));
        }

        fn ask_all(&self, seconds: u64, failed: &[bool]) {
            failed.iter().for_each(|failed| self.ask(seconds, *failed));
        }
    }

    #[test]
    fn half_of_enough_requests_must_fail() {
        let bench = Bench::new(SETTINGS);
        bench.ask_all(0, &[true, true, true]);
        assert!(bench.permit(0).is_ok(), "three are too few to judge by");
        let bench = Bench::new(SETTINGS);
        bench.ask_all(0, &[false, false, false, true, true]);
        assert!(bench.permit(0).is_ok(), "two of five are less than half");
        bench.ask(0, true);
        assert_eq!(bench.permit(0).unwrap_err(), 20, "three of six are half");
        assert_eq!(bench.permit(19).unwrap_err(), 1);
    }

    #[test]
    fn results_leave_the_window() {
        let bench = Bench::new(SETTINGS);
        bench.ask_all(0, &[true, true, true]);
        // In the last tenth that still sees them there would be one too many.
        bench.ask(10, true);
        assert!(bench.permit(10).is_ok());
        bench.ask_all(19, &[true, true]);
        assert!(bench.permit(19).is_ok());
        bench.ask(19, true);
        assert!(bench.permit(19).is_err());
    }

    #[test]
    fn threshold_of_zero_trips_at_the_first_result() {
        let bench = Bench::new(Settings { error_threshold: 0.0, volume_threshold: 1, ..SETTINGS });
        bench.ask(0, false);
        assert!(bench.permit(0).is_err());
    }

    #[test]
    fn one_request_tries_whether_the_service_has_recovered() {
        let bench = Bench::new(SETTINGS);
        bench.ask_all(0, &[true; 4]);
        let probe = bench.permit(20).unwrap();
        assert_eq!(bench.permit_of(2, 20).unwrap_err(), 2, "only one at a time");
        probe.settle(true, bench.at(21));
        assert_eq!(bench.permit(22).unwrap_err(), 19, "it failed: tripped for as long again");
        let probe = bench.permit(41).unwrap();
        probe.settle(false, bench.at(42));
        // And the failures of before are forgotten.
        bench.ask_all(42, &[true, true, true]);
        assert!(bench.permit(42).is_ok());
    }

    #[test]
    fn probe_that_goes_or_stays_away_makes_room_for_the_next() {
        let bench = Bench::new(SETTINGS);
        bench.ask_all(0, &[true; 4]);
        drop(bench.permit(20).unwrap());
        let slow = bench.permit(20).unwrap();
        assert!(bench.permit_of(2, 21).is_err());
        let next = bench.permit_of(2, 22).unwrap();
        next.settle(false, bench.at(22));
        slow.settle(true, bench.at(23));
        assert!(bench.permit(23).is_ok(), "one late failure among few results");
    }

    #[test]
    fn visitor_whose_probe_does_not_come_back_cannot_take_the_next_one() {
        let bench = Bench::new(SETTINGS);
        bench.ask_all(0, &[true; 4]);
        let slow = bench.permit(20).unwrap();
        assert_eq!(bench.permit(22).unwrap_err(), 20, "the service is somebody else's now");
        bench.permit_of(2, 22).unwrap().settle(false, bench.at(22));
        assert!(bench.permit(22).is_ok());
        drop(slow);
    }

    #[test]
    fn visitor_without_others_gets_another_probe() {
        let bench = Bench::new(SETTINGS);
        bench.ask_all(0, &[true; 4]);
        let _slow = bench.permit(20).unwrap();
        assert_eq!(bench.permit(41).unwrap_err(), 1);
        assert!(bench.permit(42).is_ok());
    }

    #[test]
    fn late_results_of_before_do_not_count() {
        let bench = Bench::new(SETTINGS);
        let late: Vec<_> = (0..8).map(|_| bench.permit(0).unwrap()).collect();
        bench.ask_all(0, &[true; 4]);
        late.into_iter().for_each(|trial| trial.settle(false, bench.at(1)));
        assert!(bench.permit(1).is_err());
    }

    #[test]
    fn counts_stop_at_their_end_instead_of_beginning_anew() {
        let mut buckets = [Bucket { number: 0, total: u32::MAX, failed: u32::MAX }; BUCKETS];
        count(&mut buckets, 0, true);
        assert_eq!((buckets[0].total, buckets[0].failed), (u32::MAX, u32::MAX));
        let bench = Bench::new(SETTINGS);
        assert!(bench.breaker.is_too_much(&buckets, 0));
    }
}
