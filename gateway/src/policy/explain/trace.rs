//! What a run of a policy leaves behind for explaining it.

use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION, SET_COOKIE};
use http::{HeaderMap, HeaderName};
use serde::Serialize;

use super::super::expression::{Expression, Fault, Value};
use super::super::mask::{HIDDEN, Mask};
use super::super::phase::{Step, Values};
use super::super::run::{Run, Subject};
use super::decision::Decision;

/// Notes of a run. Nothing in them has to be hidden any more.
#[derive(Debug)]
pub(in crate::policy) struct Trace {
    mask: Mask,
    /// Actions may ask others over the network.
    is_online: bool,
    /// What an action says of itself before it ends.
    said: Vec<String>,
    pub(super) rules: Vec<RuleTrace>,
}

/// A rule that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct RuleTrace {
    /// Its place in its phase.
    pub rule: usize,
    /// Its name in the document.
    pub name: Option<String>,
    /// Whether its actions run; not for a rule that is gone on with behind an action.
    pub applies: bool,
    /// Its expressions as far as they were evaluated.
    pub expressions: Vec<ExpressionTrace>,
    /// Those that follow the one that decided.
    pub expressions_not_evaluated: usize,
    /// Its actions as far as they were come to.
    pub actions: Vec<ActionTrace>,
}

/// An expression that was evaluated.
#[derive(Clone, Debug, Serialize)]
pub struct ExpressionTrace {
    /// Its text.
    pub expression: String,
    /// `true`, `false` or `no value`.
    pub result: &'static str,
    /// Why it has no value.
    pub reason: Option<String>,
    /// What it looks up, with the values as JSON.
    pub values: Vec<LookedUp>,
}

/// A value that an expression looks up.
#[derive(Clone, Debug, Serialize)]
pub struct LookedUp {
    /// As it could stand in an expression.
    pub name: String,
    /// As JSON, or why there is none.
    pub value: String,
}

/// An action that was come to.
#[derive(Clone, Debug, Serialize)]
pub struct ActionTrace {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// It did not run, for this reason, and is taken to have let the traffic pass.
    pub not_run: Option<String>,
    /// What it says of itself.
    pub notes: Vec<String>,
    /// What is different since it ran.
    pub changes: Vec<Change>,
    /// How it ended the policy, if it did.
    pub decision: Option<Decision>,
}

/// Something that an action changed.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    /// A header, the URL, a variable or a result.
    pub what: String,
    /// What it was.
    pub before: Option<String>,
    /// What it is.
    pub after: Option<String>,
}

/// What there was before an action ran.
#[derive(Debug)]
pub(in crate::policy) struct Before {
    headers: Option<HeaderMap>,
    uri: Option<String>,
    vars: Values,
    results: Values,
}

impl Trace {
    pub(super) fn new(mask: Mask, is_online: bool) -> Self {
        Self { mask, is_online, said: Vec::new(), rules: Vec::new() }
    }

    fn value(&self, value: &Value) -> String {
        cut(&self.mask.hide(&value.to_json().to_string()))
    }

    fn header(&self, name: &HeaderName, headers: &HeaderMap) -> Option<String> {
        let lines: Vec<String> =
            headers.get_all(name).iter().map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned()).collect();
        if lines.is_empty() {
            return None;
        }
        if is_secret(name) {
            return Some(HIDDEN.to_owned());
        }
        Some(cut(&self.mask.hide(&lines.join(", "))))
    }

    fn note_expression(&mut self, expression: &Expression, held: &Result<bool, Fault>, found: Vec<(String, Found)>) {
        let (result, reason) = match held {
            Ok(true) => ("true", None),
            Ok(false) => ("false", None),
            Err(fault) => ("no value", Some(self.mask.hide(&fault.to_string()))),
        };
        let values = found.into_iter().map(|(name, found)| LookedUp {
            name: self.mask.hide(&name),
            value: match found {
                Ok(value) => self.value(&value),
                Err(fault) => format!("({})", self.mask.hide(&fault.to_string())),
            },
        });
        let traced = ExpressionTrace {
            expression: self.mask.hide(expression.source()),
            result,
            reason,
            values: values.collect(),
        };
        if let Some(rule) = self.rules.last_mut() {
            rule.expressions.push(traced);
            rule.expressions_not_evaluated = rule.expressions_not_evaluated.saturating_sub(1);
        }
    }

    fn changes(&self, before: &Before, run: &Run<'_, '_, '_>) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut note = |what: String, before: Option<String>, after: Option<String>| {
            changes.push(Change { what, before, after });
        };
        if let (Some(old), Some(new)) = (&before.headers, headers_of(run)) {
            let mut names: Vec<&HeaderName> = old.keys().chain(new.keys()).collect();
            names.sort_by_key(|name| name.as_str());
            names.dedup();
            for name in names {
                if !old.get_all(name).iter().eq(new.get_all(name).iter()) {
                    note(format!("header {name}"), self.header(name, old), self.header(name, new));
                }
            }
        }
        let uri = uri_of(run);
        if before.uri != uri {
            let shown = |uri: &Option<String>| uri.as_ref().map(|uri| cut(&self.mask.hide(uri)));
            note("path and query".to_owned(), shown(&before.uri), shown(&uri));
        }
        let maps = [("vars", &before.vars, &run.state.vars), ("actions.ngrok", &before.results, &run.state.results)];
        for (prefix, old, new) in maps {
            for (key, value) in new.iter().filter(|(key, value)| old.get(*key) != Some(value)) {
                note(format!("{prefix}.{key}"), old.get(key).map(|old| self.value(old)), Some(self.value(value)));
            }
        }
        changes
    }
}

type Found = Result<Value, Fault>;

impl Run<'_, '_, '_> {
    /// Notes that a rule is looked at.
    pub(in crate::policy) fn trace_rule(&mut self, rule: usize, name: Option<&str>, expressions: usize) {
        let Some(trace) = &mut self.state.trace else { return };
        trace.rules.push(RuleTrace {
            rule,
            name: name.map(|name| trace.mask.hide(name)),
            applies: false,
            expressions: Vec::new(),
            expressions_not_evaluated: expressions,
            actions: Vec::new(),
        });
    }

    /// Notes what has become of the rule that is looked at.
    pub(in crate::policy) fn trace_entry(&mut self, applies: bool) {
        if let Some(rule) = self.state.trace.as_mut().and_then(|trace| trace.rules.last_mut()) {
            rule.applies = applies;
        }
    }

    /// Notes what an expression has come to.
    pub(in crate::policy) fn trace_expression(&mut self, expression: &Expression, held: &Result<bool, Fault>) {
        if self.state.trace.is_none() {
            return;
        }
        let found = expression.lookups(&self.facts());
        if let Some(trace) = &mut self.state.trace {
            trace.note_expression(expression, held, found);
        }
    }

    /// What an action says of itself, if anybody wants to know.
    pub(in crate::policy) fn trace_note(&mut self, note: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.state.trace {
            let note = trace.mask.hide(&note());
            trace.said.push(note);
        }
    }

    /// What there is before an action runs; nothing when the run is not explained.
    pub(in crate::policy) fn trace_before(&self) -> Option<Before> {
        self.state.trace.as_ref()?;
        Some(Before {
            headers: headers_of(self).cloned(),
            uri: uri_of(self),
            vars: self.state.vars.clone(),
            results: self.state.results.clone(),
        })
    }

    /// Notes what an action has done.
    pub(in crate::policy) fn trace_action(&mut self, kind: &'static str, before: Option<Before>, step: &Step) {
        let (Some(before), Some(mut trace)) = (before, self.state.trace.take()) else { return };
        let changes = trace.changes(&before, self);
        let decision = match step {
            Step::Next => None,
            Step::End(verdict) => Some(Decision::of(verdict, &trace.mask)),
        };
        let notes = std::mem::take(&mut trace.said);
        if let Some(rule) = trace.rules.last_mut() {
            rule.actions.push(ActionTrace { kind, not_run: None, notes, changes, decision });
        }
        self.state.trace = Some(trace);
    }

    /// Leaves out an action that would ask others, when the run is explained without a network.
    pub(in crate::policy) fn trace_left_out(
        &mut self,
        kind: &'static str,
        asks: impl FnOnce() -> Option<String>,
    ) -> bool {
        let Some(trace) = self.state.trace.as_mut().filter(|trace| !trace.is_online) else { return false };
        let Some(what) = asks() else { return false };
        let not_run = Some(format!("it asks the network for {}", trace.mask.hide(&what)));
        let traced = ActionTrace { kind, not_run, notes: Vec::new(), changes: Vec::new(), decision: None };
        if let Some(rule) = trace.rules.last_mut() {
            rule.actions.push(traced);
        }
        true
    }
}

fn headers_of<'r>(run: &'r Run<'_, '_, '_>) -> Option<&'r HeaderMap> {
    match &run.subject {
        Subject::Connection(_) => None,
        Subject::Request(request) => Some(&request.head.headers),
        Subject::Response(response) => Some(&response.head.headers),
    }
}

fn uri_of(run: &Run<'_, '_, '_>) -> Option<String> {
    match &run.subject {
        Subject::Request(request) => Some(request.head.uri.to_string()),
        Subject::Connection(_) | Subject::Response(_) => None,
    }
}

/// Headers whose values prove who somebody is.
pub(super) fn is_secret(name: &HeaderName) -> bool {
    [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE, SET_COOKIE].contains(name)
}

/// Values of maps that are looked up whole may be long.
fn cut(text: &str) -> String {
    let mut shown: String = text.chars().take(VALUE_CHARS_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

const VALUE_CHARS_MAX: usize = 400;
