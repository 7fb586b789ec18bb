//! Evaluating compiled expressions, at a bounded cost.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::compile::{Node, Secret};
use super::operators;
use super::value::Value;
use super::variables::{self, Facts};

/// What the expressions and templates of one run of a policy may cost together.
///
/// A step is one node of an expression, one element of a list that is looked at or made, or 16 bytes of text.
#[derive(Debug)]
pub(in crate::policy) struct Budget {
    left: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { left: STEPS_MAX }
    }
}

impl Budget {
    /// Takes so many steps. When they are not there, what is left is gone as well: nothing else may go that far once more.
    ///
    /// # Errors
    ///
    /// [`Fault::Cost`]
    pub(in crate::policy) fn spend(&mut self, steps: usize) -> Result<(), Fault> {
        let left = self.left.checked_sub(steps);
        self.left = left.unwrap_or_default();
        left.map(drop).ok_or(Fault::Cost)
    }
}

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::policy) enum Fault {
    /// Something that it looks up is not there.
    Missing(String),
    /// An operator or a function cannot work with the values that it got.
    Type(String),
    /// A value is out of range or malformed.
    Invalid(String),
    /// It costs too much.
    Cost,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What a visitor sent may stand in it.
        let cut = |text: &str| text.chars().take(FAULT_CHARS_MAX).collect::<String>();
        match self {
            Self::Missing(what) => write!(f, "there is no {}", cut(what)),
            Self::Type(what) | Self::Invalid(what) => f.write_str(&cut(what)),
            Self::Cost => write!(f, "the evaluation takes more than {STEPS_MAX} steps"),
        }
    }
}

/// One evaluation.
pub(super) struct Evaluation<'a, 'f> {
    pub(super) facts: &'a Facts<'f>,
    pub(super) budget: &'a mut Budget,
    /// The values of the variables that loops bind, outermost first.
    pub(super) locals: Vec<Value>,
}

impl<'a, 'f> Evaluation<'a, 'f> {
    pub(super) fn new(facts: &'a Facts<'f>, budget: &'a mut Budget) -> Self {
        Self::with_locals(facts, budget, Vec::new())
    }

    /// An evaluation of an expression with names of its own.
    pub(super) fn with_locals(facts: &'a Facts<'f>, budget: &'a mut Budget, locals: Vec<Value>) -> Self {
        Self { facts, budget, locals }
    }

    /// The value of a node. It goes as deep as the expression, whose depth is bounded when it is compiled.
    pub(super) fn value(&mut self, node: &Node) -> Result<Value, Fault> {
        self.budget.spend(1)?;
        match node {
            Node::Constant(value) | Node::Secret(Secret(value)) => Ok(value.clone()),
            Node::Variable(variable) => {
                let value = variables::resolve(*variable, self.facts)?;
                self.budget.spend(value.weight())?;
                Ok(value)
            }
            Node::Local(slot) => {
                self.locals.get(*slot).cloned().ok_or_else(|| Fault::Missing("value of a loop's variable".into()))
            }
            Node::Select(operand, field) => select(&self.value(operand)?, field),
            Node::Has(operand, field) => self.has(operand, field),
            Node::Present(variable) => match variables::resolve(*variable, self.facts) {
                Ok(value) => Ok(Value::Bool(value != Value::Null)),
                Err(Fault::Missing(_)) => Ok(Value::Bool(false)),
                Err(fault) => Err(fault),
            },
            Node::Index(operand, index) => {
                let (found, index) = (self.value(operand)?, self.value(index)?);
                match (&**operand, &found, &index) {
                    // A visitor who sends no such header has sent none of its values.
                    (Node::Variable(variable), Value::Map(entries), Value::Text(name))
                        if variable.has_lists() && !entries.contains_key(name) =>
                    {
                        Ok(Value::list([]))
                    }
                    _ => operators::index(&found, &index),
                }
            }
            Node::And(left, right) => self.connective(left, right, false),
            Node::Or(left, right) => self.connective(left, right, true),
            Node::Not(operand) => Ok(Value::Bool(!self.bool(operand)?)),
            Node::Conditional(parts) => {
                let [condition, then, other] = &**parts;
                if self.bool(condition)? { self.value(then) } else { self.value(other) }
            }
            Node::Negate(operand) => operators::negate(&self.value(operand)?),
            Node::Binary(operator, left, right) => {
                let (left, right) = (self.value(left)?, self.value(right)?);
                self.budget.spend(operator.cost(&left, &right))?;
                operator.apply(&left, &right, self.budget)
            }
            Node::List(items) => {
                let items = items.iter().map(|item| self.value(item)).collect::<Result<Arc<[Value]>, Fault>>()?;
                Ok(Value::List(items))
            }
            Node::Map(entries) => self.map(entries),
            Node::Matches(text, pattern) => {
                let text = self.value(text)?;
                self.budget.spend(text.weight())?;
                Ok(Value::Bool(pattern.is_match(operators::text(&text)?)))
            }
            Node::InNetworks(address, networks) => {
                let address = self.value(address)?;
                Ok(Value::Bool(networks.contains(operators::address(&address)?)))
            }
            Node::Call(function, arguments) => {
                let values =
                    arguments.iter().map(|argument| self.value(argument)).collect::<Result<Vec<_>, Fault>>()?;
                // Every function looks at its arguments; what it makes of them it takes on its own.
                values.iter().try_for_each(|value| self.budget.spend(value.weight()))?;
                (function.run)(&values, self)
            }
            Node::Loop(looped) => self.run_loop(looped),
        }
    }

    pub(super) fn bool(&mut self, node: &Node) -> Result<bool, Fault> {
        match self.value(node)? {
            Value::Bool(value) => Ok(value),
            other => Err(Fault::Type(format!("{} is neither true nor false", other.kind()))),
        }
    }

    /// `&&` and `||`: one side that decides is enough, even when the other one has no value, as CEL has it.
    fn connective(&mut self, left: &Node, right: &Node, deciding: bool) -> Result<Value, Fault> {
        let left = self.bool(left);
        if left == Ok(deciding) || left == Err(Fault::Cost) {
            return left.map(Value::Bool);
        }
        match self.bool(right) {
            Ok(right) if right == deciding => Ok(Value::Bool(deciding)),
            Err(Fault::Cost) => Err(Fault::Cost),
            right => left.and(right).map(Value::Bool),
        }
    }

    fn has(&mut self, operand: &Node, field: &str) -> Result<Value, Fault> {
        match self.value(operand) {
            Ok(value) => Ok(Value::Bool(select(&value, field).is_ok_and(|found| found != Value::Null))),
            Err(Fault::Missing(_)) => Ok(Value::Bool(false)),
            Err(fault) => Err(fault),
        }
    }

    fn map(&mut self, entries: &[(Node, Node)]) -> Result<Value, Fault> {
        let mut map = BTreeMap::new();
        for (key, value) in entries {
            let Value::Text(key) = self.value(key)? else {
                return Err(Fault::Type("the keys of a map must be strings".into()));
            };
            let value = self.value(value)?;
            if map.insert(key, value).is_some() {
                return Err(Fault::Invalid("a map has the same key twice".into()));
            }
        }
        Ok(Value::Map(Arc::new(map)))
    }
}

fn select(value: &Value, field: &str) -> Result<Value, Fault> {
    match value {
        Value::Map(entries) => entries.get(field).cloned().ok_or_else(|| Fault::Missing(format!("entry {field:?}"))),
        other => Err(Fault::Type(format!("{} has no field {field:?}", other.kind()))),
    }
}

/// Two orders of magnitude above what hundreds of rules of the usual kind need; some milliseconds at most.
const STEPS_MAX: usize = 200_000;

/// Enough to see what is meant.
const FAULT_CHARS_MAX: usize = 200;
