//! Expressions in the Common Expression Language (CEL).
//!
//! The crate `cel` parses, because a grammar is not ours to invent. What it makes is checked once, when the policy is
//! loaded: every variable and function must be known in the phase, regular expressions and networks are compiled. What
//! remains is evaluated here and not by the crate, which has no bound for the cost of an evaluation, wants every variable
//! beforehand, and has none that are a text and have members at the same time, as `req.url` and `req.url.host`.

mod compile;
mod cookies;
mod evaluate;
mod functions;
mod kinds;
mod lookups;
mod loops;
mod operators;
mod tls;
mod url_path;
mod user_agent;
mod value;
mod variables;

pub(super) use compile::{Mistake, Scope, compile_pattern};
pub(super) use evaluate::{Budget, Fault};
pub(super) use value::{TEXT_BYTES_PER_STEP, Value};
pub(super) use variables::{Facts, RequestFacts, authority, query_pairs, split_port};

use compile::Node;
use evaluate::Evaluation;

/// A compiled expression.
#[derive(Debug)]
pub(super) struct Expression {
    root: Node,
    source: Box<str>,
}

impl Expression {
    /// Parses and checks an expression for a phase.
    ///
    /// # Errors
    ///
    /// What is wrong with it; parts of it may be quoted.
    pub(super) fn compile(source: &str, scope: Scope<'_>) -> Result<Self, Mistake> {
        let root = compile::compile(source, scope, &[])?;
        Ok(Self { root, source: source.into() })
    }

    /// As [`Expression::compile`], of a condition. It may also use these names, whose values come with each evaluation.
    ///
    /// # Errors
    ///
    /// As [`Expression::compile`], and when it can be seen that it is never true or false.
    pub(super) fn condition(source: &str, scope: Scope<'_>, names: &[&str]) -> Result<Self, Mistake> {
        let root = compile::compile(source, scope, names)?;
        if let Some(kind) = kinds::never_bool(&root) {
            return Err(format!("is {kind}, and never true or false: compare it with something, as in value == 'a'"));
        }
        Ok(Self { root, source: source.into() })
    }

    /// Its text.
    pub(super) fn source(&self) -> &str {
        &self.source
    }

    /// Evaluates it; what that costs is taken from `budget`.
    ///
    /// # Errors
    ///
    /// See [`Fault`].
    pub(super) fn evaluate(&self, facts: &Facts<'_>, budget: &mut Budget) -> Result<Value, Fault> {
        Evaluation::new(facts, budget).value(&self.root)
    }

    /// Evaluates it for a text; what showing the value costs is taken from `budget` as well.
    ///
    /// # Errors
    ///
    /// See [`Fault`].
    pub(super) fn shown(&self, facts: &Facts<'_>, budget: &mut Budget) -> Result<String, Fault> {
        let value = self.evaluate(facts, budget)?;
        value.charge(budget)?;
        Ok(value.shown())
    }

    /// Evaluates it as a condition.
    ///
    /// # Errors
    ///
    /// As [`Expression::evaluate`], and when it is neither true nor false.
    pub(super) fn holds(&self, facts: &Facts<'_>, budget: &mut Budget) -> Result<bool, Fault> {
        self.holds_with(facts, budget, Vec::new())
    }

    /// As [`Expression::holds`], with the values of its own names in their order.
    ///
    /// # Errors
    ///
    /// As [`Expression::holds`].
    pub(super) fn holds_with(&self, facts: &Facts<'_>, budget: &mut Budget, values: Vec<Value>) -> Result<bool, Fault> {
        match Evaluation::with_locals(facts, budget, values).value(&self.root)? {
            Value::Bool(holds) => Ok(holds),
            other => Err(Fault::Type(format!("the expression is {}, and neither true nor false", other.kind()))),
        }
    }
}

#[cfg(test)]
mod tests;
