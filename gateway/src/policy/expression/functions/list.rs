//! Methods of lists.

use super::super::evaluate::{Evaluation, Fault};
use super::super::operators;
use super::super::value::Value;
use super::{Function, argument, count_argument, text_argument};

pub(super) const TABLE: &[Function] = &[
    Function::method("join", 1..=2, |arguments, evaluation| {
        let items = items(arguments, evaluation)?;
        let separator = if arguments.len() > 1 { text_argument(arguments, 1)? } else { "" };
        let texts = items.iter().map(operators::text).collect::<Result<Vec<&str>, Fault>>()?;
        let weight = items.iter().map(Value::weight).fold(0, usize::saturating_add);
        evaluation.budget.spend(weight.saturating_add(items.len().saturating_mul(separator.len() / 16)))?;
        Ok(Value::text(&texts.join(separator)))
    }),
    Function::method("slice", 3..=3, |arguments, evaluation| {
        let items = items(arguments, evaluation)?;
        let (from, to) = (count_argument(arguments, 1)?, count_argument(arguments, 2)?);
        let part = from.zip(to).and_then(|(from, to)| items.get(from..to));
        let part = part.ok_or_else(|| Fault::Invalid(format!("that is no part of a list of {}", items.len())))?;
        Ok(Value::list(part.iter().cloned()))
    }),
    Function::method("flatten", 1..=2, |arguments, evaluation| {
        let items = items(arguments, evaluation)?;
        argument(arguments, 0).charge(evaluation.budget)?;
        let depth = count_argument(arguments, 1)?.unwrap_or(1);
        let mut flat = Vec::new();
        flatten(items, depth, &mut flat);
        Ok(Value::list(flat))
    }),
    Function::method("sort", 1..=1, |arguments, evaluation| {
        let mut items = items(arguments, evaluation)?.to_vec();
        operators::sort(&mut items, |item| item, evaluation.budget)?;
        Ok(Value::list(items))
    }),
    Function::method("distinct", 1..=1, |arguments, evaluation| {
        let items = items(arguments, evaluation)?;
        let mut distinct: Vec<Value> = Vec::new();
        for item in items {
            if !operators::is_among(item, &distinct, evaluation.budget)? {
                distinct.push(item.clone());
            }
        }
        Ok(Value::list(distinct))
    }),
    Function::global("lists.range", 1..=1, |arguments, evaluation| {
        let count = count_argument(arguments, 0)?.unwrap_or_default();
        evaluation.budget.spend(count)?;
        Ok(Value::list((0..).take(count).map(Value::Int)))
    }),
];

fn items<'v>(arguments: &'v [Value], evaluation: &mut Evaluation<'_, '_>) -> Result<&'v [Value], Fault> {
    match argument(arguments, 0) {
        Value::List(items) => {
            evaluation.budget.spend(items.len())?;
            Ok(items)
        }
        other => Err(Fault::Type(format!("{} is no list", other.kind()))),
    }
}

fn flatten(items: &[Value], depth: usize, flat: &mut Vec<Value>) {
    for item in items {
        match item {
            Value::List(inner) if depth > 0 => flatten(inner, depth - 1, flat),
            other => flat.push(other.clone()),
        }
    }
}
