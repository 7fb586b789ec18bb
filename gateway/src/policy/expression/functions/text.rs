//! Methods of strings. Positions count characters, as CEL has it.

use super::super::compile::compile_pattern;
use super::super::evaluate::{Evaluation, Fault};
use super::super::value::{TEXT_BYTES_PER_STEP, Value};
use super::{Function, argument, count_argument, text_argument};

pub(super) const TABLE: &[Function] = &[
    Function::method("startsWith", 2..=2, |arguments, _| {
        Ok(Value::Bool(text_argument(arguments, 0)?.starts_with(text_argument(arguments, 1)?)))
    }),
    Function::method("endsWith", 2..=2, |arguments, _| {
        Ok(Value::Bool(text_argument(arguments, 0)?.ends_with(text_argument(arguments, 1)?)))
    }),
    Function::method("contains", 2..=2, |arguments, evaluation| {
        let text = seen(arguments, evaluation)?;
        Ok(Value::Bool(text.contains(text_argument(arguments, 1)?)))
    }),
    // With a constant pattern it is compiled once and never gets here.
    Function::both("matches", 2..=2, |arguments, evaluation| {
        let text = seen(arguments, evaluation)?;
        evaluation.budget.spend(PATTERN_STEPS)?;
        let pattern = compile_pattern(text_argument(arguments, 1)?).map_err(Fault::Invalid)?;
        Ok(Value::Bool(pattern.is_match(text)))
    }),
    Function::method("lower", 1..=1, |arguments, evaluation| {
        Ok(Value::text(&seen(arguments, evaluation)?.to_lowercase()))
    }),
    Function::method("lowerAscii", 1..=1, |arguments, evaluation| {
        Ok(Value::text(&seen(arguments, evaluation)?.to_ascii_lowercase()))
    }),
    Function::method("upper", 1..=1, |arguments, evaluation| {
        Ok(Value::text(&seen(arguments, evaluation)?.to_uppercase()))
    }),
    Function::method("upperAscii", 1..=1, |arguments, evaluation| {
        Ok(Value::text(&seen(arguments, evaluation)?.to_ascii_uppercase()))
    }),
    Function::method("trim", 1..=1, |arguments, evaluation| Ok(Value::text(seen(arguments, evaluation)?.trim()))),
    Function::method("reverse", 1..=1, |arguments, evaluation| match argument(arguments, 0) {
        Value::List(items) => {
            evaluation.budget.spend(items.len())?;
            Ok(Value::list(items.iter().rev().cloned()))
        }
        _ => Ok(Value::text(&seen(arguments, evaluation)?.chars().rev().collect::<String>())),
    }),
    Function::method("charAt", 2..=2, |arguments, evaluation| {
        let text = seen(arguments, evaluation)?;
        let at = count_argument(arguments, 1)?.unwrap_or_default();
        let len = text.chars().count();
        if at > len {
            return Err(Fault::Invalid(format!("{at} is beyond the end of a string of {len}")));
        }
        Ok(Value::text(&text.chars().nth(at).map(String::from).unwrap_or_default()))
    }),
    Function::method("substring", 2..=3, |arguments, evaluation| {
        let text = seen(arguments, evaluation)?;
        let len = text.chars().count();
        let from = count_argument(arguments, 1)?.unwrap_or_default();
        let to = count_argument(arguments, 2)?.unwrap_or(len);
        if from > to || to > len {
            return Err(Fault::Invalid(format!("{from} to {to} is no part of a string of {len}")));
        }
        Ok(Value::text(&text.chars().skip(from).take(to - from).collect::<String>()))
    }),
    Function::method("indexOf", 2..=3, |arguments, evaluation| {
        let text = seen(arguments, evaluation)?;
        let from = count_argument(arguments, 2)?.unwrap_or_default();
        let Some(start) = byte_of(text, from) else {
            return Err(Fault::Invalid(format!("{from} is beyond the end of the string")));
        };
        let rest = text.get(start..).unwrap_or_default();
        let found = rest.find(text_argument(arguments, 1)?).map(|at| from + chars_before(rest, at));
        Ok(position(found))
    }),
    Function::method("lastIndexOf", 2..=3, |arguments, evaluation| {
        let text = seen(arguments, evaluation)?;
        let sought = text_argument(arguments, 1)?;
        let found = match count_argument(arguments, 2)? {
            None => text.rfind(sought),
            Some(last) => {
                let last = byte_of(text, last)
                    .ok_or_else(|| Fault::Invalid(format!("{last} is beyond the end of the string")))?;
                let end = last.saturating_add(sought.len()).min(text.len());
                let end = (end..=text.len()).find(|end| text.is_char_boundary(*end)).unwrap_or(text.len());
                text.get(..end).unwrap_or_default().rfind(sought).filter(|at| *at <= last)
            }
        };
        Ok(position(found.map(|at| chars_before(text, at))))
    }),
    Function::method("split", 1..=3, |arguments, evaluation| {
        let text = seen(arguments, evaluation)?;
        let separator = if arguments.len() > 1 { text_argument(arguments, 1)? } else { " " };
        let most = count_argument(arguments, 2)?.unwrap_or(usize::MAX);
        evaluation.budget.spend(text.len().min(most))?;
        if separator.is_empty() {
            return Ok(Value::list(text.chars().take(most).map(|character| Value::text(&character.to_string()))));
        }
        Ok(Value::list(text.split(separator).take(most).map(Value::text)))
    }),
    Function::method("replace", 3..=4, |arguments, evaluation| {
        let text = seen(arguments, evaluation)?;
        let (from, to) = (text_argument(arguments, 1)?, text_argument(arguments, 2)?);
        let most = count_argument(arguments, 3)?.unwrap_or(usize::MAX);
        let count = text.matches(from).count().min(most);
        evaluation.budget.spend(count.saturating_mul(to.len()) / TEXT_BYTES_PER_STEP)?;
        Ok(Value::text(&text.replacen(from, to, most)))
    }),
    Function::method("format", 2..=2, |arguments, evaluation| {
        let text = seen(arguments, evaluation)?;
        let Value::List(values) = argument(arguments, 1) else {
            return Err(Fault::Type("format takes a list of values".into()));
        };
        values.iter().try_for_each(|value| value.charge(evaluation.budget))?;
        format(text, values)
    }),
];

/// What a method works on, with the cost of looking at it.
fn seen<'v>(arguments: &'v [Value], evaluation: &mut Evaluation<'_, '_>) -> Result<&'v str, Fault> {
    let text = text_argument(arguments, 0)?;
    evaluation.budget.spend(text.len() / TEXT_BYTES_PER_STEP)?;
    Ok(text)
}

fn byte_of(text: &str, at: usize) -> Option<usize> {
    let ends = std::iter::once(text.len());
    text.char_indices().map(|(byte, _)| byte).chain(ends).nth(at)
}

fn chars_before(text: &str, byte: usize) -> usize {
    text.get(..byte).unwrap_or_default().chars().count()
}

fn position(found: Option<usize>) -> Value {
    Value::Int(found.and_then(|at| i64::try_from(at).ok()).unwrap_or(-1))
}

/// Substitutes as `printf` does: `%s`, `%d`, `%f`, `%e`, `%b`, `%x`, `%X`, `%o`, `%%`.
fn format(pattern: &str, values: &[Value]) -> Result<Value, Fault> {
    let mut out = String::with_capacity(pattern.len());
    let mut values = values.iter();
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        let clause = characters.next();
        if clause == Some('%') {
            out.push('%');
            continue;
        }
        let value = values.next().ok_or_else(|| Fault::Invalid("format has fewer values than clauses".into()))?;
        match (clause, value) {
            (Some('s'), value) => out.push_str(&value.shown()),
            (Some('d'), Value::Int(_) | Value::Uint(_)) => out.push_str(&value.shown()),
            (Some('f'), Value::Double(number)) => out.push_str(&format!("{number:.6}")),
            (Some('e'), Value::Double(number)) => out.push_str(&format!("{number:.6e}")),
            (Some('b'), Value::Bool(value)) => out.push(if *value { '1' } else { '0' }),
            (Some('b'), Value::Int(number)) => out.push_str(&format!("{number:b}")),
            (Some('x'), Value::Int(number)) => out.push_str(&format!("{number:x}")),
            (Some('X'), Value::Int(number)) => out.push_str(&format!("{number:X}")),
            (Some('o'), Value::Int(number)) => out.push_str(&format!("{number:o}")),
            (Some('x'), Value::Text(text)) => text.bytes().for_each(|byte| out.push_str(&format!("{byte:02x}"))),
            (clause, value) => {
                let clause = clause.map(String::from).unwrap_or_default();
                return Err(Fault::Type(format!("%{clause} does not work with {}", value.kind())));
            }
        }
    }
    Ok(Value::text(&out))
}

/// What compiling a regular expression at run time costs.
const PATTERN_STEPS: usize = 2000;
