//! `set-vars`: keeps values under names of the policy's own.

use super::super::error::{CONFIG, CONFIG_VALUE, VARS_OF_VARS};
use super::super::expression::Value;
use super::super::fields::Fields;
use super::super::phase::Phase;
use super::super::place::Place;
use super::super::run::Run;
use super::super::template::Template;
use super::{Action, EVERYWHERE, Kind, Outcome};

pub(super) const KIND: Kind = Kind { name: "set-vars", phases: EVERYWHERE, compile };

#[derive(Debug)]
struct SetVars {
    vars: Vec<(Box<str>, Template)>,
}

impl Action for SetVars {
    fn run<'r>(&'r self, run: &'r mut Run<'_, '_, '_>) -> Outcome<'r> {
        for (name, template) in &self.vars {
            match run.render(template) {
                Ok(text) => {
                    run.state.vars.insert((&**name).into(), Value::text(&text));
                }
                Err(fault) => return Outcome::failed(name, &fault),
            }
        }
        Outcome::NEXT
    }
}

fn compile(fields: &mut Fields<'_>, _phase: Phase, _place: Place) -> Option<Box<dyn Action>> {
    fields.take_scalars();
    let mut vars = Vec::new();
    for (index, name, template) in fields.single_entries("vars", 1..=VARS_MAX, CONFIG) {
        if !is_name(name) {
            let message = "must be named with letters, digits and _, and begin with a letter or _";
            fields.wrong_item("vars", index, CONFIG_VALUE, message);
        } else if template.names_vars() {
            fields.wrong_item("vars", index, VARS_OF_VARS, "must not refer to other variables that set-vars sets");
        } else {
            vars.push((name.into(), template));
        }
    }
    Some(Box::new(SetVars { vars }))
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
