//! `rate-limit`: so many requests within a time, for each of what a key tells apart.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use ring::digest::{Context, SHA256};
use tokio::time::Instant;

use super::super::Refused;
use super::super::document::Place;
use super::super::error::{CONFIG_VALUE, RANGE, RATE_EXCEEDED};
use super::super::expression::{Expression, Fault, Value};
use super::super::fields::Fields;
use super::super::phase::Phase;
use super::super::run::{Run, error_code};
use super::{Action, Kind, Outcome};
use crate::bounded::Bounded;

pub(super) const KIND: Kind = Kind { name: "rate-limit", phases: &[Phase::HttpRequest], compile };

#[derive(Debug)]
struct RateLimit {
    name: Box<str>,
    keys: Vec<Expression>,
    enforce: bool,
    limit: Limit,
    counts: Mutex<Bounded<[u8; KEY_LEN], Window>>,
}

#[derive(Clone, Copy, Debug)]
struct Limit {
    capacity: u64,
    rate: Duration,
}

/// The requests of one key in a window that slides: those of the current period, and those of the one before it as far as
/// it still overlaps, taken as evenly spread.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    begin: Option<Instant>,
    current: u64,
    before: u64,
}

impl Window {
    /// Counts a request, or says after what time there is room for one.
    fn take(&mut self, limit: Limit, now: Instant) -> Result<(), Duration> {
        let begin = *self.begin.get_or_insert(now);
        let passed = now.saturating_duration_since(begin);
        if passed >= limit.rate {
            let periods = passed.as_nanos() / limit.rate.as_nanos().max(1);
            self.before = if periods == 1 { self.current } else { 0 };
            self.current = 0;
            let into =
                Duration::from_nanos(u64::try_from(passed.as_nanos() % limit.rate.as_nanos().max(1)).unwrap_or(0));
            self.begin = now.checked_sub(into).or(Some(now));
        }
        let into = now.saturating_duration_since(self.begin.unwrap_or(now));
        let left = limit.rate.saturating_sub(into);
        let share = |count: u64, part: Duration| {
            u64::try_from(u128::from(count) * part.as_nanos() / limit.rate.as_nanos().max(1)).unwrap_or(u64::MAX)
        };
        if self.current.saturating_add(share(self.before, left)) < limit.capacity {
            self.current += 1;
            return Ok(());
        }
        if self.current >= limit.capacity {
            return Err(left);
        }
        // As the period before slides out, it makes room one by one.
        let excess = self.current.saturating_add(share(self.before, left)).saturating_sub(limit.capacity) + 1;
        let each = limit.rate.as_nanos() / u128::from(self.before.max(1));
        Err(Duration::from_nanos(u64::try_from(each * u128::from(excess)).unwrap_or(u64::MAX)).min(left))
    }
}

impl Action for RateLimit {
    fn protects(&self) -> bool {
        self.enforce
    }

    fn run<'r>(&'r self, run: &'r mut Run<'_, '_, '_>) -> Outcome<'r> {
        let key = match self.key(run) {
            Ok(key) => key,
            Err(fault) => return Outcome::failed("bucket_key", &fault),
        };
        let now = Instant::now();
        let taken = self.counts.lock().unwrap_or_else(PoisonError::into_inner).entry(key).take(self.limit, now);
        let mut result = vec![("limited", Value::Bool(taken.is_err())), ("name", Value::text(&self.name))];
        if taken.is_err() {
            let code = Value::text(&error_code(RATE_EXCEEDED));
            result.push(("error", Value::map([("code", code), ("message", Value::text(MESSAGE))])));
        }
        run.set_result("rate_limit", Value::map(result));
        let Err(wait) = taken else { return Outcome::NEXT };
        if !self.enforce {
            return Outcome::NEXT;
        }
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let mut refused = Refused::new(StatusCode::TOO_MANY_REQUESTS, RATE_EXCEEDED, MESSAGE);
        refused.headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        refused.reason = Some(format!("rate-limit {}", self.name));
        Outcome::refuse(refused)
    }
}

impl RateLimit {
    /// What the values of the keys come to, in a length that does not depend on what a visitor sends.
    fn key(&self, run: &mut Run<'_, '_, '_>) -> Result<[u8; KEY_LEN], Fault> {
        let mut context = Context::new(&SHA256);
        for expression in &self.keys {
            // Requests without what the key asks for share a count.
            let text = match run.shown(expression) {
                Ok(text) => text,
                Err(Fault::Missing(_)) => String::new(),
                Err(fault) => return Err(fault),
            };
            context.update(&(text.len() as u64).to_be_bytes());
            context.update(text.as_bytes());
        }
        let digest = context.finish();
        let (key, _) = digest.as_ref().split_first_chunk().ok_or(Fault::Cost)?;
        Ok(*key)
    }
}

fn compile(fields: &mut Fields<'_>, _phase: Phase, _place: Place) -> Option<Box<dyn Action>> {
    let name = fields.required_text("name", "per-client");
    if name.is_some_and(|name| name.is_empty() || name.len() >= NAME_BYTES_MAX) {
        fields.wrong("name", CONFIG_VALUE, "must have 1 to 1023 bytes");
    }
    if fields.required_text("algorithm", "sliding_window").is_some_and(|algorithm| algorithm != "sliding_window") {
        fields.wrong("algorithm", CONFIG_VALUE, "must be sliding_window");
    }
    let capacity = fields.required_int("capacity", 1..=CAPACITY_MAX, "100");
    let rate = fields.duration("rate", RATE_MIN..=RATE_MAX, None);
    if rate.is_some_and(|rate| rate.as_secs() % RATE_STEP_SECS != 0 || rate.subsec_nanos() != 0) {
        fields.wrong("rate", RANGE, "must be a multiple of 10s");
    }
    let keys = fields.expression_list("bucket_key", 1..=KEYS_MAX, CONFIG_VALUE);
    let enforce = fields.bool("enforce", true);
    Some(Box::new(RateLimit {
        name: name?.into(),
        keys,
        enforce,
        limit: Limit { capacity: capacity?, rate: rate? },
        counts: Mutex::new(Bounded::new(COUNTS_MAX)),
    }))
}

const MESSAGE: &str = "This endpoint takes only so many requests at a time. Try again a little later.";

/// As in ngrok's reference.
const NAME_BYTES_MAX: usize = 1024;
const CAPACITY_MAX: u64 = 2_000_000_000;
const RATE_MIN: Duration = Duration::from_secs(60);
const RATE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
const RATE_STEP_SECS: u64 = 10;
const KEYS_MAX: usize = 10;
/// Keys that are counted at a time by one action, some 100 bytes each; beyond that the oldest is forgotten.
const COUNTS_MAX: usize = 65_536;
/// Enough of a digest that nobody finds two keys that share one.
const KEY_LEN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Limit = Limit { capacity: 10, rate: Duration::from_secs(60) };

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn capacity_is_taken_at_once_and_comes_back_as_the_window_slides() {
        let (mut window, start) = (Window::default(), Instant::now());
        for _ in 0..10 {
            assert_eq!(window.take(LIMIT, start), Ok(()));
        }
        assert_eq!(window.take(LIMIT, start), Err(seconds(60)));
        assert_eq!(window.take(LIMIT, start + seconds(20)), Err(seconds(40)));
        // A quarter into the next period, three quarters of the last one's ten still count.
        for _ in 0..3 {
            assert_eq!(window.take(LIMIT, start + seconds(75)), Ok(()));
        }
        assert_eq!(window.take(LIMIT, start + seconds(75)), Err(seconds(6)));
        for _ in 0..2 {
            assert_eq!(window.take(LIMIT, start + seconds(90)), Ok(()));
        }
        assert!(window.take(LIMIT, start + seconds(90)).is_err());
    }

    #[test]
    fn long_silence_forgets_all() {
        let (mut window, start) = (Window::default(), Instant::now());
        for _ in 0..10 {
            assert_eq!(window.take(LIMIT, start), Ok(()));
        }
        for _ in 0..10 {
            assert_eq!(window.take(LIMIT, start + seconds(120)), Ok(()));
        }
        assert!(window.take(LIMIT, start + seconds(120)).is_err());
    }
}
