//! Conversions, sizes and chance.

use ring::rand::{SecureRandom, SystemRandom};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::super::evaluate::Fault;
use super::super::value::Value;
use super::{Function, argument, text_argument};

pub(super) const TABLE: &[Function] = &[
    Function::both("size", 1..=1, |arguments, evaluation| {
        let value = argument(arguments, 0);
        evaluation.budget.spend(value.weight())?;
        let size = match value {
            Value::Text(text) => text.chars().count(),
            Value::Bytes(bytes) => bytes.len(),
            Value::List(items) => items.len(),
            Value::Map(entries) => entries.len(),
            other => return Err(Fault::Type(format!("{} has no size", other.kind()))),
        };
        Ok(Value::Int(i64::try_from(size).unwrap_or(i64::MAX)))
    }),
    Function::global("int", 1..=1, |arguments, _| int(argument(arguments, 0))),
    Function::global("uint", 1..=1, |arguments, _| uint(argument(arguments, 0))),
    Function::global("double", 1..=1, |arguments, _| {
        let value = argument(arguments, 0);
        let number = match value {
            Value::Text(text) => text.parse().ok(),
            other => other.as_double(),
        };
        number.map(Value::Double).ok_or_else(|| no_conversion(value, "a double"))
    }),
    Function::global("bool", 1..=1, |arguments, _| match argument(arguments, 0) {
        Value::Bool(value) => Ok(Value::Bool(*value)),
        Value::Text(text) if matches!(&**text, "true" | "True" | "TRUE" | "t" | "1") => Ok(Value::Bool(true)),
        Value::Text(text) if matches!(&**text, "false" | "False" | "FALSE" | "f" | "0") => Ok(Value::Bool(false)),
        other => Err(no_conversion(other, "a bool")),
    }),
    Function::global("string", 1..=1, |arguments, evaluation| {
        let value = argument(arguments, 0);
        evaluation.budget.spend(value.weight())?;
        match value {
            Value::Null | Value::List(_) | Value::Map(_) => Err(no_conversion(value, "a string")),
            Value::Bytes(bytes) => {
                let text = std::str::from_utf8(bytes);
                text.map(Value::text).map_err(|_| Fault::Invalid("the bytes are not UTF-8".into()))
            }
            value => Ok(Value::text(&value.shown())),
        }
    }),
    Function::global("bytes", 1..=1, |arguments, evaluation| {
        evaluation.budget.spend(argument(arguments, 0).weight())?;
        match argument(arguments, 0) {
            Value::Bytes(bytes) => Ok(Value::Bytes(bytes.clone())),
            _ => Ok(Value::Bytes(text_argument(arguments, 0)?.as_bytes().to_vec().into())),
        }
    }),
    Function::global("timestamp", 1..=1, |arguments, _| timestamp(argument(arguments, 0))),
    Function::global("duration", 1..=1, |arguments, _| match argument(arguments, 0) {
        Value::Span(span) => Ok(Value::Span(*span)),
        _ => duration(text_argument(arguments, 0)?),
    }),
    Function::global("rand.double", 0..=0, |_, _| {
        #[expect(clippy::cast_precision_loss, reason = "53 bits are what a double holds")]
        let number = (random()? >> 11) as f64 / (1_u64 << 53) as f64;
        Ok(Value::Double(number))
    }),
    Function::global("rand.int", 0..=2, |arguments, _| {
        let bound = |at, default| match arguments.get(at) {
            None => Ok(default),
            Some(Value::Int(number)) if *number >= 0 => Ok(*number),
            Some(_) => Err(Fault::Invalid("rand.int takes ints that are not negative".into())),
        };
        let (least, most) = (bound(0, 0)?, bound(1, 1)?);
        let span = most.checked_sub(least).and_then(|span| u64::try_from(span).ok());
        let span = span.ok_or_else(|| Fault::Invalid("rand.int takes the smaller number first".into()))?;
        let offset = random()? % (span + 1);
        Ok(Value::Int(least.saturating_add(i64::try_from(offset).unwrap_or_default())))
    }),
];

fn int(value: &Value) -> Result<Value, Fault> {
    let number = match value {
        Value::Int(number) => Some(*number),
        Value::Uint(number) => i64::try_from(*number).ok(),
        #[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
        Value::Double(number) => (number.abs() < INT_DOUBLE_MAX).then_some(*number as i64),
        Value::Text(text) => text.parse().ok(),
        Value::Time(time) => Some(time.unix_timestamp()),
        _ => None,
    };
    number.map(Value::Int).ok_or_else(|| no_conversion(value, "an int"))
}

fn uint(value: &Value) -> Result<Value, Fault> {
    let number = match value {
        Value::Uint(number) => Some(*number),
        Value::Int(number) => u64::try_from(*number).ok(),
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked")]
        Value::Double(number) => (*number >= 0.0 && *number < INT_DOUBLE_MAX).then_some(*number as u64),
        Value::Text(text) => text.parse().ok(),
        _ => None,
    };
    number.map(Value::Uint).ok_or_else(|| no_conversion(value, "a uint"))
}

fn timestamp(value: &Value) -> Result<Value, Fault> {
    let time = match value {
        Value::Time(time) => Some(*time),
        Value::Int(seconds) => OffsetDateTime::from_unix_timestamp(*seconds).ok(),
        Value::Text(text) => OffsetDateTime::parse(text, &Rfc3339).ok(),
        _ => None,
    };
    time.map(Value::Time).ok_or_else(|| no_conversion(value, "a timestamp"))
}

/// Go's notation: `1h30m`, `1.5s`, `-2m`.
fn duration(text: &str) -> Result<Value, Fault> {
    let malformed = || Fault::Invalid(format!("{text:?} is not a duration such as 1h30m"));
    let (negative, mut rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(malformed());
    }
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let number: f64 = number.parse().map_err(|_| malformed())?;
        let unit = after.find(|character: char| character.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return Err(malformed()),
        };
        let part = Duration::checked_seconds_f64(number * seconds).ok_or_else(malformed)?;
        total = total.checked_add(part).ok_or_else(malformed)?;
        rest = after;
    }
    let total = if negative { total.checked_neg().ok_or_else(malformed)? } else { total };
    Ok(Value::Span(total))
}

fn random() -> Result<u64, Fault> {
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Fault::Invalid("the system has no randomness".into()))?;
    Ok(u64::from_ne_bytes(bytes))
}

fn no_conversion(value: &Value, wanted: &str) -> Fault {
    Fault::Invalid(format!("{} cannot be made {wanted}", value.kind()))
}

/// 2^63: doubles below it fit into an int.
const INT_DOUBLE_MAX: f64 = 9_223_372_036_854_775_808.0;
