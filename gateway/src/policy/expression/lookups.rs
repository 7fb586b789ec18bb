//! What an expression looks up, for explaining why it is true or false.

use super::Expression;
use super::compile::Node;
use super::evaluate::{Budget, Evaluation, Fault};
use super::loops::LoopKind;
use super::value::Value;
use super::variables::Facts;

impl Expression {
    /// Everything that it looks up, spelled as in an expression, with what is found there. It costs the run nothing.
    pub(in crate::policy) fn lookups(&self, facts: &Facts<'_>) -> Vec<(String, Result<Value, Fault>)> {
        let mut found = Vec::new();
        collect(&self.root, &mut found);
        let values = found.into_iter().map(|(text, node)| {
            let mut budget = Budget::default();
            let value = Evaluation::new(facts, &mut budget).value(node);
            (text, value.and_then(|value| value.charge(&mut budget).map(|()| value)))
        });
        values.collect()
    }
}

fn collect<'n>(node: &'n Node, found: &mut Vec<(String, &'n Node)>) {
    if let Some(text) = spelled(node) {
        if found.iter().all(|(known, _)| *known != text) {
            found.push((text, node));
        }
        return;
    }
    match node {
        Node::Constant(_) | Node::Secret(_) | Node::Variable(_) | Node::Local(_) | Node::Present(_) => {}
        Node::Select(inner, _)
        | Node::Has(inner, _)
        | Node::Not(inner)
        | Node::Negate(inner)
        | Node::Matches(inner, _)
        | Node::InNetworks(inner, _) => collect(inner, found),
        Node::Index(left, right) | Node::And(left, right) | Node::Or(left, right) | Node::Binary(_, left, right) => {
            collect(left, found);
            collect(right, found);
        }
        Node::Conditional(parts) => parts.iter().for_each(|part| collect(part, found)),
        Node::List(items) | Node::Call(_, items) => items.iter().for_each(|item| collect(item, found)),
        Node::Map(entries) => entries.iter().for_each(|(key, value)| {
            collect(key, found);
            collect(value, found);
        }),
        Node::Loop(looped) => {
            collect(&looped.range, found);
            match &looped.kind {
                LoopKind::All(test) | LoopKind::Exists(test) | LoopKind::ExistsOne(test) | LoopKind::SortBy(test) => {
                    collect(test, found);
                }
                LoopKind::Collect(condition, kept) => {
                    condition.iter().for_each(|condition| collect(condition, found));
                    collect(kept, found);
                }
            }
        }
    }
}

/// The text of what does nothing but look up: a variable, a part of one, or a function that reads the request or response.
fn spelled(node: &Node) -> Option<String> {
    match node {
        Node::Variable(variable) => Some(variable.name()),
        Node::Present(variable) => Some(format!("has({})", variable.name())),
        Node::Select(inner, field) => Some(format!("{}.{field}", spelled(inner)?)),
        Node::Has(inner, field) => Some(format!("has({}.{field})", spelled(inner)?)),
        Node::Index(inner, index) => Some(format!("{}[{}]", spelled(inner)?, constant(index)?)),
        Node::Call(function, arguments) if function.reads_traffic() => {
            let arguments = arguments.iter().map(constant).collect::<Option<Vec<String>>>()?;
            Some(format!("{}({})", function.name, arguments.join(", ")))
        }
        _ => None,
    }
}

fn constant(node: &Node) -> Option<String> {
    match node {
        Node::Constant(Value::Text(text)) => Some(format!("'{}'", text.escape_debug())),
        Node::Constant(value @ (Value::Int(_) | Value::Uint(_))) => Some(value.shown()),
        _ => None,
    }
}
