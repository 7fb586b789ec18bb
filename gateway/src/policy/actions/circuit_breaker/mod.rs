//! `circuit-breaker`: keeps requests away from a service that fails too often, until it has had time to recover.

mod breaker;

use std::sync::Arc;
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use tokio::time::Instant;

use super::super::Refused;
use super::super::error::{CIRCUIT_OPEN, RANGE};
use super::super::expression::Value;
use super::super::fields::Fields;
use super::super::phase::Phase;
use super::super::place::Place;
use super::super::run::{Run, error_code};
use super::{Action, Kind, Outcome};
use breaker::{Breaker, Settings};

pub(in crate::policy) use breaker::Trial;

pub(super) const KIND: Kind = Kind { name: "circuit-breaker", phases: &[Phase::HttpRequest], compile };

#[derive(Debug)]
struct CircuitBreaker {
    breaker: Arc<Breaker>,
    enforce: bool,
}

impl Action for CircuitBreaker {
    fn protects(&self) -> bool {
        self.enforce
    }

    fn run<'r>(&'r self, run: &'r mut Run<'_, '_, '_>) -> Outcome<'r> {
        // One that is not enforced never trips, so there is nothing to count.
        if !self.enforce {
            run.set_result("circuit_breaker", Value::map([("tripped", Value::Bool(false))]));
            return Outcome::NEXT;
        }
        let visitor = run.connection().peer.ip();
        match Breaker::permit(&self.breaker, visitor, Instant::now()) {
            Ok(trial) => {
                run.set_result("circuit_breaker", Value::map([("tripped", Value::Bool(false))]));
                run.state.trials.push(trial);
                Outcome::NEXT
            }
            Err(wait) => {
                let code = Value::text(&error_code(CIRCUIT_OPEN));
                let error = Value::map([("code", code), ("message", Value::text(MESSAGE))]);
                run.set_result("circuit_breaker", Value::map([("tripped", Value::Bool(true)), ("error", error)]));
                let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                let mut refused = Refused::new(StatusCode::SERVICE_UNAVAILABLE, CIRCUIT_OPEN, MESSAGE);
                refused.headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
                Outcome::refuse(refused)
            }
        }
    }
}

fn compile(fields: &mut Fields<'_>, _phase: Phase, _place: Place) -> Option<Box<dyn Action>> {
    let error_threshold = fields.number("error_threshold", 0.0..=1.0, ERROR_THRESHOLD);
    let volume_threshold = fields.int("volume_threshold", 1..=VOLUME_MAX, VOLUME);
    let window = fields.duration("window_duration", DURATION_MIN..=DURATION_MAX, Some(DURATION));
    let tripped = fields.duration("tripped_duration", DURATION_MIN..=DURATION_MAX, Some(DURATION));
    if fields.int("num_buckets", 1..=u64::MAX, BUCKETS) != BUCKETS {
        fields.wrong("num_buckets", RANGE, "must be 10: the reference has no other number");
    }
    let enforce = fields.bool("enforce", true);
    let settings = Settings {
        error_threshold,
        volume_threshold: u32::try_from(volume_threshold).ok()?,
        window: window?,
        tripped: tripped?,
    };
    Some(Box::new(CircuitBreaker { breaker: Arc::new(Breaker::new(settings, Instant::now())), enforce }))
}

const MESSAGE: &str = "The service behind this endpoint has failed too often of late, and gets no requests for a little \
                       while. Try again later.";

/// As in ngrok's reference, all of them.
const ERROR_THRESHOLD: f64 = 0.5;
const VOLUME: u64 = 10;
const VOLUME_MAX: u64 = 2_000_000_000;
const DURATION: Duration = Duration::from_secs(10);
const DURATION_MIN: Duration = Duration::from_secs(1);
const DURATION_MAX: Duration = Duration::from_secs(120);
const BUCKETS: u64 = breaker::BUCKETS as u64;
