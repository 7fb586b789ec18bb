//! `set-vars`: keeps values under names of the policy's own.

use serde_json::Value as Json;

use super::super::error::{CONFIG, CONFIG_VALUE};
use super::super::expression::{Fault, TEXT_BYTES_PER_STEP, Value};
use super::super::fields::Fields;
use super::super::phase::Phase;
use super::super::place::Place;
use super::super::run::Run;
use super::super::template::Template;
use super::{Action, EVERYWHERE, Kind, Outcome};

pub(super) const KIND: Kind = Kind { name: "set-vars", phases: EVERYWHERE, compile };

#[derive(Debug)]
struct SetVars {
    vars: Vec<(Box<str>, Source)>,
}

/// Where a value comes from.
#[derive(Debug)]
enum Source {
    /// It is the same every time.
    Fixed(Value),
    /// A text with `${…}`; one that is nothing but a `${…}` has the value of that, of whatever type.
    Text(Template),
    List(Vec<Self>),
    Map(Vec<(Box<str>, Self)>),
}

impl Action for SetVars {
    fn run<'r>(&'r self, run: &'r mut Run<'_, '_, '_>) -> Outcome<'r> {
        for (name, source) in &self.vars {
            // Kept at once: those behind it may refer to it.
            match source.value(run).and_then(|value| checked(value, run)) {
                Ok(value) => _ = run.state.vars.insert((&**name).into(), value),
                Err(fault) => return Outcome::failed(name, &fault),
            }
        }
        Outcome::NEXT
    }
}

impl Source {
    fn value(&self, run: &mut Run<'_, '_, '_>) -> Result<Value, Fault> {
        match self {
            Self::Fixed(value) => Ok(value.clone()),
            Self::Text(template) => match template.lone_expression() {
                Some(expression) => run.value(expression),
                None => Ok(Value::text(&run.render(template)?)),
            },
            Self::List(items) => {
                let values: Result<Vec<Value>, Fault> = items.iter().map(|item| item.value(run)).collect();
                Ok(Value::list(values?))
            }
            Self::Map(entries) => {
                let values = entries.iter().map(|(key, source)| Ok((&**key, source.value(run)?)));
                Ok(Value::map(values.collect::<Result<Vec<_>, Fault>>()?))
            }
        }
    }

    fn of_text(template: Template) -> Self {
        match template.fixed() {
            Some(text) => Self::Fixed(Value::text(text)),
            None => Self::Text(template),
        }
    }
}

/// The value, if it may be kept. Variables can be made of variables, so that what is shared in memory must be paid for as
/// often as it is named, and depth would grow with each.
fn checked(value: Value, run: &mut Run<'_, '_, '_>) -> Result<Value, Fault> {
    if matches!(value, Value::List(_) | Value::Map(_)) {
        charge(&value, DEPTH_MAX, run)?;
    }
    Ok(value)
}

fn charge(value: &Value, depth_left: usize, run: &mut Run<'_, '_, '_>) -> Result<(), Fault> {
    let deeper = || {
        let message = || Fault::Invalid(format!("the value is nested more than {DEPTH_MAX} deep"));
        depth_left.checked_sub(1).ok_or_else(message)
    };
    match value {
        Value::List(items) => {
            run.spend(1)?;
            let depth_left = deeper()?;
            items.iter().try_for_each(|item| charge(item, depth_left, run))
        }
        Value::Map(entries) => {
            run.spend(1)?;
            let depth_left = deeper()?;
            entries.iter().try_for_each(|(key, value)| {
                run.spend(key.len() / TEXT_BYTES_PER_STEP)?;
                charge(value, depth_left, run)
            })
        }
        Value::Text(text) => run.spend(1 + text.len() / TEXT_BYTES_PER_STEP),
        Value::Bytes(bytes) => run.spend(1 + bytes.len() / TEXT_BYTES_PER_STEP),
        _ => run.spend(1),
    }
}

fn compile(fields: &mut Fields<'_>, _phase: Phase, _place: Place) -> Option<Box<dyn Action>> {
    let mut vars = Vec::new();
    for (index, name, value) in fields.single_entries("vars", 1..=VARS_MAX, CONFIG) {
        if !is_name(name) {
            let message = "must be named with letters, digits and _, and begin with a letter or _";
            fields.wrong_item("vars", index, CONFIG_VALUE, message);
        } else if let Some(source) = read(fields, &[&format!("[{index}]"), name], value) {
            vars.push((name.into(), source));
        }
    }
    Some(Box::new(SetVars { vars }))
}

/// Reads a value of the document, with the texts inside it.
fn read(fields: &mut Fields<'_>, path: &[&str], value: &Json) -> Option<Source> {
    // A variable's own path has two parts.
    if path.len() >= DEPTH_MAX + 2 && (value.is_array() || value.is_object()) {
        fields.wrong_at("vars", path, CONFIG_VALUE, format!("is nested more than {DEPTH_MAX} deep"));
        return None;
    }
    match value {
        Json::String(text) => fields.template_at("vars", path, text).map(Source::of_text),
        Json::Array(items) => {
            let items = items.iter().enumerate();
            Some(Source::List(
                items.filter_map(|(at, item)| read(fields, &below(path, &format!("[{at}]")), item)).collect(),
            ))
        }
        Json::Object(entries) => {
            let entries = entries.iter();
            Some(Source::Map(
                entries
                    .filter_map(|(key, value)| Some((&**key).into()).zip(read(fields, &below(path, key), value)))
                    .collect(),
            ))
        }
        Json::Null | Json::Bool(_) | Json::Number(_) => Some(Source::Fixed(Value::from_json(value))),
    }
}

fn below<'p>(path: &[&'p str], part: &'p str) -> Vec<&'p str> {
    path.iter().copied().chain([part]).collect()
}

/// True for what can stand behind `vars.` in an expression.
pub(super) fn is_name(name: &str) -> bool {
    let is_first = |character: char| character.is_ascii_alphabetic() || character == '_';
    name.len() <= NAME_BYTES_MAX
        && name.starts_with(is_first)
        && name.chars().all(|character| is_first(character) || character.is_ascii_digit())
}

/// Variables of one action.
const VARS_MAX: usize = 100;
const NAME_BYTES_MAX: usize = 128;
/// Lists and maps around the innermost value of a variable: a token of an issuer has fewer, and no stack is at risk.
const DEPTH_MAX: usize = 32;
