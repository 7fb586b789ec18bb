//! The operators of CEL on values. Nothing overflows: a result that has no place is an error.

use std::cmp::Ordering;
use std::net::IpAddr;

use bytes::Bytes;

use super::evaluate::{Budget, Fault};
use super::value::Value;

/// An operator with two sides that are both evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
}

impl Operator {
    /// By its name in a parsed expression.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "_+_" => Self::Add,
            "_-_" => Self::Subtract,
            "_*_" => Self::Multiply,
            "_/_" => Self::Divide,
            "_%_" => Self::Modulo,
            "_==_" => Self::Equal,
            "_!=_" => Self::Unequal,
            "_<_" => Self::Less,
            "_<=_" => Self::LessOrEqual,
            "_>_" => Self::Greater,
            "_>=_" => Self::GreaterOrEqual,
            "@in" => Self::In,
            _ => return None,
        })
    }

    /// What it costs beyond a step.
    pub(super) fn cost(self, left: &Value, right: &Value) -> usize {
        match self {
            Self::Add => left.weight().saturating_add(right.weight()),
            Self::In => right.weight(),
            Self::Less | Self::LessOrEqual | Self::Greater | Self::GreaterOrEqual => left.weight().min(right.weight()),
            // Comparing takes what it costs on its own.
            Self::Equal | Self::Unequal => 0,
            Self::Subtract | Self::Multiply | Self::Divide | Self::Modulo => 0,
        }
    }

    pub(super) fn apply(self, left: &Value, right: &Value, budget: &mut Budget) -> Result<Value, Fault> {
        let ordered = |is: fn(Ordering) -> bool| {
            let order = left.compare(right).ok_or_else(|| self.cannot(left, right))?;
            Ok(Value::Bool(is(order)))
        };
        match self {
            Self::Equal => Ok(Value::Bool(left.equals(right, budget)?)),
            Self::Unequal => Ok(Value::Bool(!left.equals(right, budget)?)),
            Self::Less => ordered(Ordering::is_lt),
            Self::LessOrEqual => ordered(Ordering::is_le),
            Self::Greater => ordered(Ordering::is_gt),
            Self::GreaterOrEqual => ordered(Ordering::is_ge),
            Self::In => match right {
                Value::List(items) => is_among(left, items, budget).map(Value::Bool),
                Value::Map(entries) => Ok(Value::Bool(matches!(left, Value::Text(key) if entries.contains_key(key)))),
                _ => Err(self.cannot(left, right)),
            },
            Self::Add => self.add(left, right),
            Self::Subtract => match (left, right) {
                (Value::Time(a), Value::Time(b)) => Ok(Value::Span(*a - *b)),
                (Value::Time(a), Value::Span(b)) => a.checked_sub(*b).map(Value::Time).ok_or_else(too_large),
                (Value::Span(a), Value::Span(b)) => a.checked_sub(*b).map(Value::Span).ok_or_else(too_large),
                _ => self.arithmetic(left, right),
            },
            Self::Multiply | Self::Divide | Self::Modulo => self.arithmetic(left, right),
        }
    }

    fn add(self, left: &Value, right: &Value) -> Result<Value, Fault> {
        match (left, right) {
            (Value::Text(a), Value::Text(b)) => Ok(Value::Text([&**a, &**b].concat().into())),
            (Value::Bytes(a), Value::Bytes(b)) => Ok(Value::Bytes(Bytes::from([&a[..], &b[..]].concat()))),
            (Value::List(a), Value::List(b)) => Ok(Value::list(a.iter().chain(b.iter()).cloned())),
            (Value::Time(a), Value::Span(b)) | (Value::Span(b), Value::Time(a)) => {
                a.checked_add(*b).map(Value::Time).ok_or_else(too_large)
            }
            (Value::Span(a), Value::Span(b)) => a.checked_add(*b).map(Value::Span).ok_or_else(too_large),
            _ => self.arithmetic(left, right),
        }
    }

    fn arithmetic(self, left: &Value, right: &Value) -> Result<Value, Fault> {
        let is_division = matches!(self, Self::Divide | Self::Modulo);
        match (left, right) {
            (_, Value::Int(0) | Value::Uint(0)) if is_division && !matches!(left, Value::Double(_)) => {
                Err(Fault::Invalid("a number is divided by zero".into()))
            }
            (Value::Int(a), Value::Int(b)) => {
                let result = match self {
                    Self::Add => a.checked_add(*b),
                    Self::Subtract => a.checked_sub(*b),
                    Self::Multiply => a.checked_mul(*b),
                    Self::Divide => a.checked_div(*b),
                    Self::Modulo => a.checked_rem(*b),
                    _ => return Err(self.cannot(left, right)),
                };
                result.map(Value::Int).ok_or_else(too_large)
            }
            (Value::Uint(a), Value::Uint(b)) => {
                let result = match self {
                    Self::Add => a.checked_add(*b),
                    Self::Subtract => a.checked_sub(*b),
                    Self::Multiply => a.checked_mul(*b),
                    Self::Divide => a.checked_div(*b),
                    Self::Modulo => a.checked_rem(*b),
                    _ => return Err(self.cannot(left, right)),
                };
                result.map(Value::Uint).ok_or_else(too_large)
            }
            (Value::Double(a), Value::Double(b)) => Ok(Value::Double(match self {
                Self::Add => a + b,
                Self::Subtract => a - b,
                Self::Multiply => a * b,
                Self::Divide => a / b,
                _ => return Err(self.cannot(left, right)),
            })),
            _ => Err(self.cannot(left, right)),
        }
    }

    fn cannot(self, left: &Value, right: &Value) -> Fault {
        Fault::Type(format!("{} does not work with {} and {}", self.sign(), left.kind(), right.kind()))
    }

    fn sign(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Modulo => "%",
            Self::Equal => "==",
            Self::Unequal => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::In => "in",
        }
    }
}

pub(super) fn negate(value: &Value) -> Result<Value, Fault> {
    match value {
        Value::Int(number) => number.checked_neg().map(Value::Int).ok_or_else(too_large),
        Value::Double(number) => Ok(Value::Double(-number)),
        other => Err(Fault::Type(format!("{} cannot be negated", other.kind()))),
    }
}

/// `operand[index]`.
pub(super) fn index(operand: &Value, index: &Value) -> Result<Value, Fault> {
    match (operand, index) {
        (Value::List(items), Value::Int(_) | Value::Uint(_)) => {
            let at = match index {
                Value::Int(at) => usize::try_from(*at).ok(),
                Value::Uint(at) => usize::try_from(*at).ok(),
                _ => None,
            };
            let found = at.and_then(|at| items.get(at)).cloned();
            found.ok_or_else(|| Fault::Missing(format!("element {} in a list of {}", index.shown(), items.len())))
        }
        (Value::Map(entries), Value::Text(key)) => {
            entries.get(key).cloned().ok_or_else(|| Fault::Missing(format!("entry {key:?}")))
        }
        _ => Err(Fault::Type(format!("{} has no elements with {} as index", operand.kind(), index.kind()))),
    }
}

/// True when one of the items equals a value.
pub(super) fn is_among(value: &Value, items: &[Value], budget: &mut Budget) -> Result<bool, Fault> {
    for item in items {
        if item.equals(value, budget)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Sorts by keys that can all be compared.
pub(super) fn sort<T>(items: &mut [T], key: impl Fn(&T) -> &Value, budget: &mut Budget) -> Result<(), Fault> {
    items.iter().try_for_each(|item| budget.spend(key(item).weight()))?;
    let first = items.first().map(|item| key(item).clone());
    let is_odd = |value: &Value| {
        first.as_ref().is_some_and(|first| first.kind() != value.kind() || value.compare(value).is_none())
    };
    if let Some(odd) = items.iter().find(|item| is_odd(key(item))) {
        return Err(Fault::Type(format!("{} cannot be sorted among the others", key(odd).kind())));
    }
    items.sort_by(|a, b| key(a).compare(key(b)).unwrap_or(Ordering::Equal));
    Ok(())
}

pub(super) fn text(value: &Value) -> Result<&str, Fault> {
    match value {
        Value::Text(text) => Ok(text),
        other => Err(Fault::Type(format!("{} is no string", other.kind()))),
    }
}

pub(super) fn address(value: &Value) -> Result<IpAddr, Fault> {
    let address: Result<IpAddr, _> = text(value)?.parse();
    address.map(|address| address.to_canonical()).map_err(|_| Fault::Invalid("a string is no IP address".into()))
}

fn too_large() -> Fault {
    Fault::Invalid("a result is too large".into())
}
