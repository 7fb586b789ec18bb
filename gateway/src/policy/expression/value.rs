//! The values of expressions.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::Number;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::evaluate::{Budget, Fault};

/// A value. Large ones are shared, so that a clone is cheap.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::policy) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Arc<str>),
    Bytes(Bytes),
    List(Arc<[Self]>),
    /// Keys are texts: requests, JSON and query strings have no others.
    Map(Arc<BTreeMap<Arc<str>, Self>>),
    Time(OffsetDateTime),
    Span(Duration),
}

impl Value {
    pub(in crate::policy) fn text(text: &str) -> Self {
        Self::Text(text.into())
    }

    pub(in crate::policy) fn list(items: impl IntoIterator<Item = Self>) -> Self {
        Self::List(items.into_iter().collect())
    }

    /// A map of texts as keys.
    pub(in crate::policy) fn map<'k>(entries: impl IntoIterator<Item = (&'k str, Self)>) -> Self {
        Self::Map(Arc::new(entries.into_iter().map(|(key, value)| (key.into(), value)).collect()))
    }

    /// The length of a text, list or map as it is counted for the cost; 1 for what has a fixed size.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Text(text) => text.len() / TEXT_BYTES_PER_STEP,
            Self::Bytes(bytes) => bytes.len() / TEXT_BYTES_PER_STEP,
            Self::List(items) => items.len(),
            Self::Map(entries) => entries.len(),
            Self::Null
            | Self::Bool(_)
            | Self::Int(_)
            | Self::Uint(_)
            | Self::Double(_)
            | Self::Time(_)
            | Self::Span(_) => 1,
        }
    }

    /// Takes the cost of going through all of it, at any depth, and goes no further than the budget lasts: parts are shared,
    /// so that a value can have far more leaves than there is memory.
    ///
    /// # Errors
    ///
    /// [`Fault::Cost`]
    pub(super) fn charge(&self, budget: &mut Budget) -> Result<(), Fault> {
        match self {
            Self::List(items) => {
                budget.spend(1)?;
                items.iter().try_for_each(|item| item.charge(budget))
            }
            Self::Map(entries) => {
                budget.spend(1)?;
                entries.iter().try_for_each(|(key, value)| {
                    budget.spend(key.len() / TEXT_BYTES_PER_STEP)?;
                    value.charge(budget)
                })
            }
            other => budget.spend(1 + other.weight()),
        }
    }

    /// What it is, for an error message.
    pub(in crate::policy) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a bool",
            Self::Int(_) => "an int",
            Self::Uint(_) => "a uint",
            Self::Double(_) => "a double",
            Self::Text(_) => "a string",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
            Self::Time(_) => "a timestamp",
            Self::Span(_) => "a duration",
        }
    }

    /// CEL's equality: numbers of different types are equal when they have the same value. What is compared is paid for on
    /// the way.
    ///
    /// # Errors
    ///
    /// [`Fault::Cost`]
    pub(super) fn equals(&self, other: &Self, budget: &mut Budget) -> Result<bool, Fault> {
        match (self, other) {
            (Self::List(a), Self::List(b)) => {
                budget.spend(1)?;
                if a.len() != b.len() {
                    return Ok(false);
                }
                for (a, b) in a.iter().zip(b.iter()) {
                    if !a.equals(b, budget)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            (Self::Map(a), Self::Map(b)) => {
                budget.spend(1)?;
                if a.len() != b.len() {
                    return Ok(false);
                }
                for (key, a) in a.iter() {
                    budget.spend(key.len() / TEXT_BYTES_PER_STEP)?;
                    let Some(b) = b.get(key) else { return Ok(false) };
                    if !a.equals(b, budget)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            (a, b) => {
                budget.spend(1 + a.weight().min(b.weight()))?;
                if a.is_number() && b.is_number() {
                    return Ok(a.compare(b) == Some(Ordering::Equal));
                }
                Ok(a == b)
            }
        }
    }

    fn is_number(&self) -> bool {
        matches!(self, Self::Int(_) | Self::Uint(_) | Self::Double(_))
    }

    /// The order of two values, if they have one.
    pub(super) fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::Int(a), Self::Int(b)) => Some(a.cmp(b)),
            (Self::Uint(a), Self::Uint(b)) => Some(a.cmp(b)),
            (Self::Int(a), Self::Uint(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
            (Self::Uint(a), Self::Int(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
            (Self::Double(a), Self::Double(b)) => a.partial_cmp(b),
            (Self::Double(a), b) if b.is_number() => a.partial_cmp(&b.as_double()?),
            (a, Self::Double(b)) if a.is_number() => a.as_double()?.partial_cmp(b),
            (Self::Text(a), Self::Text(b)) => Some(a.cmp(b)),
            (Self::Bytes(a), Self::Bytes(b)) => Some(a.cmp(b)),
            (Self::Time(a), Self::Time(b)) => Some(a.cmp(b)),
            (Self::Span(a), Self::Span(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }

    /// The nearest double to a number.
    #[expect(clippy::cast_precision_loss, reason = "that is what a double is")]
    pub(super) fn as_double(&self) -> Option<f64> {
        match self {
            Self::Int(number) => Some(*number as f64),
            Self::Uint(number) => Some(*number as f64),
            Self::Double(number) => Some(*number),
            _ => None,
        }
    }

    /// As it stands in a template's text: texts as they are, lists and maps as JSON. It may be as large as
    /// [`Value::charge`] allows: call that first.
    pub(in crate::policy) fn shown(&self) -> String {
        match self {
            Self::Null => String::new(),
            Self::Text(text) => text.to_string(),
            Self::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Uint(value) => value.to_string(),
            Self::Double(value) => value.to_string(),
            Self::Time(value) => shown_time(*value),
            Self::Span(value) => format!("{}s", value.as_seconds_f64()),
            Self::List(_) | Self::Map(_) => self.to_json().to_string(),
        }
    }

    /// As JSON, with the same condition as [`Value::shown`].
    pub(in crate::policy) fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Bool(value) => (*value).into(),
            Self::Int(value) => (*value).into(),
            Self::Uint(value) => (*value).into(),
            Self::Double(value) => Number::from_f64(*value).map_or(serde_json::Value::Null, Into::into),
            Self::Bytes(bytes) => STANDARD.encode(bytes).into(),
            Self::List(items) => items.iter().map(Self::to_json).collect(),
            Self::Map(entries) => {
                let entries = entries.iter().map(|(key, value)| (key.to_string(), value.to_json()));
                serde_json::Value::Object(entries.collect())
            }
            Self::Text(_) | Self::Time(_) | Self::Span(_) => self.shown().into(),
        }
    }

    /// A JSON tree as a value; numbers without a fraction are ints.
    pub(in crate::policy) fn from_json(json: &serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(value) => Self::Bool(*value),
            serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(number), _) => Self::Int(number),
                (None, Some(number)) => Self::Uint(number),
                (None, None) => Self::Double(number.as_f64().unwrap_or(f64::NAN)),
            },
            serde_json::Value::String(text) => Self::text(text),
            serde_json::Value::Array(items) => Self::list(items.iter().map(Self::from_json)),
            serde_json::Value::Object(entries) => {
                Self::map(entries.iter().map(|(key, value)| (key.as_str(), Self::from_json(value))))
            }
        }
    }
}

/// A time as RFC 3339 writes it.
pub(super) fn shown_time(time: OffsetDateTime) -> String {
    time.format(&Rfc3339).unwrap_or_default()
}

/// So many bytes of text cost as much as one step of an evaluation.
pub(in crate::policy) const TEXT_BYTES_PER_STEP: usize = 16;
