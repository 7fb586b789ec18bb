//! `rate-limit`: so many requests within a time, for each of what a key tells apart.

mod counts;
mod window;

use std::sync::Arc;
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use ring::digest::{Context, SHA256};
use tokio::time::Instant;

use super::super::Refused;
use super::super::error::{CONFIG_VALUE, RANGE, RATE_EXCEEDED};
use super::super::expression::{Expression, Fault, Value};
use super::super::fields::Fields;
use super::super::phase::Phase;
use super::super::place::Place;
use super::super::run::{Run, error_code};
use super::{Action, Kind, Outcome};
use counts::{BUDGET, Counts, KEY_LEN};
use window::Limit;

pub(super) const KIND: Kind = Kind { name: "rate-limit", phases: &[Phase::HttpRequest], compile };

#[derive(Debug)]
struct RateLimit {
    name: Box<str>,
    keys: Vec<Expression>,
    enforce: bool,
    counts: Arc<Counts>,
}

impl Action for RateLimit {
    fn protects(&self) -> bool {
        self.enforce
    }

    fn run<'r>(&'r self, run: &'r mut Run<'_, '_, '_>) -> Outcome<'r> {
        let (key, shown) = match self.key(run) {
            Ok(found) => found,
            Err(fault) => return Outcome::failed("bucket_key", &fault),
        };
        let now = Instant::now();
        let taken = self.counts.take(&run.state.account, key, now);
        let mut result = vec![
            ("limited", Value::Bool(taken.is_err())),
            ("name", Value::text(&self.name)),
            ("bucket_key", Value::text(&shown)),
        ];
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
    /// What the values of the keys come to: in a length that does not depend on what a visitor sends, and to be shown.
    fn key(&self, run: &mut Run<'_, '_, '_>) -> Result<([u8; KEY_LEN], String), Fault> {
        let mut texts = Vec::with_capacity(self.keys.len());
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
            texts.push(text);
        }
        let digest = context.finish();
        let (key, _) = digest.as_ref().split_first_chunk().ok_or(Fault::Cost)?;
        Ok((*key, texts.join(",")))
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
        counts: Counts::new(Limit { capacity: capacity?, rate: rate? }, &BUDGET),
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
