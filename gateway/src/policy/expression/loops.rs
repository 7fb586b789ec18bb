//! The macros of CEL that go through a list or the keys of a map.

use std::sync::Arc;

use super::compile::Node;
use super::evaluate::{Evaluation, Fault};
use super::operators;
use super::value::Value;

/// One of the macros, compiled.
#[derive(Debug)]
pub(super) struct Loop {
    pub(super) range: Node,
    pub(super) kind: LoopKind,
}

/// What is done with each element; the node sees it as the innermost local.
#[derive(Debug)]
pub(super) enum LoopKind {
    All(Node),
    Exists(Node),
    ExistsOne(Node),
    /// `map` and `filter`: the condition, and what is kept of an element that meets it.
    Collect(Option<Node>, Node),
    /// Sorts by a key.
    SortBy(Node),
}

impl Evaluation<'_, '_> {
    pub(super) fn run_loop(&mut self, looped: &Loop) -> Result<Value, Fault> {
        let items: Arc<[Value]> = match self.value(&looped.range)? {
            Value::List(items) => items,
            Value::Map(entries) => entries.keys().cloned().map(Value::Text).collect(),
            other => return Err(Fault::Type(format!("{} has no elements to go through", other.kind()))),
        };
        self.budget.spend(items.len())?;
        match &looped.kind {
            LoopKind::All(test) => self.search(&items, test, false),
            LoopKind::Exists(test) => self.search(&items, test, true),
            LoopKind::ExistsOne(test) => {
                let mut count = 0;
                for item in items.iter() {
                    count += usize::from(self.bool_with(item, test)?);
                }
                Ok(Value::Bool(count == 1))
            }
            LoopKind::Collect(condition, kept) => {
                let mut collected = Vec::new();
                for item in items.iter() {
                    let is_kept = match condition {
                        Some(condition) => self.bool_with(item, condition)?,
                        None => true,
                    };
                    if is_kept {
                        collected.push(self.with(item, |evaluation| evaluation.value(kept))?);
                    }
                }
                Ok(Value::list(collected))
            }
            LoopKind::SortBy(key) => {
                let mut keyed = Vec::with_capacity(items.len());
                for item in items.iter() {
                    let key = self.with(item, |evaluation| evaluation.value(key))?;
                    keyed.push((key, item.clone()));
                }
                operators::sort(&mut keyed, |(key, _)| key, self.budget)?;
                Ok(Value::list(keyed.into_iter().map(|(_, item)| item)))
            }
        }
    }

    /// `exists` and `all`: an element that decides is enough, even when the test failed for another one.
    fn search(&mut self, items: &[Value], test: &Node, deciding: bool) -> Result<Value, Fault> {
        let mut failed = None;
        for item in items {
            match self.bool_with(item, test) {
                Ok(found) if found == deciding => return Ok(Value::Bool(deciding)),
                Ok(_) => {}
                Err(Fault::Cost) => return Err(Fault::Cost),
                Err(fault) => failed = Some(fault),
            }
        }
        failed.map_or(Ok(Value::Bool(!deciding)), Err)
    }

    fn bool_with(&mut self, item: &Value, node: &Node) -> Result<bool, Fault> {
        self.with(item, |evaluation| evaluation.bool(node))
    }

    fn with<T>(&mut self, item: &Value, run: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        self.locals.push(item.clone());
        let result = run(self);
        self.locals.pop();
        result
    }
}
