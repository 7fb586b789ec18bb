//! The functions of expressions: those of CEL, and those that ngrok's reference adds.

mod codec;
mod convert;
mod hash;
mod http;
mod list;
mod moment;
mod text;

use std::ops::RangeInclusive;

use super::super::phase::Phase;
use super::compile::Mistake;
use super::evaluate::{Evaluation, Fault};
use super::value::Value;

/// One function, or one method, whose first argument is then what it is called on.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) name: &'static str,
    form: Form,
    /// How many arguments it takes, what it is called on among them.
    arguments: RangeInclusive<usize>,
    needs: Needs,
    pub(super) run: fn(&[Value], &mut Evaluation<'_, '_>) -> Result<Value, Fault>,
}

/// How a function is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// `f(x)`
    Global,
    /// `x.f()`
    Method,
    /// Either.
    Both,
}

/// What must be known for a function to make sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    Nothing,
    Request,
    Response,
}

impl Function {
    const fn global(name: &'static str, arguments: RangeInclusive<usize>, run: Run) -> Self {
        Self { name, form: Form::Global, arguments, needs: Needs::Nothing, run }
    }

    const fn method(name: &'static str, arguments: RangeInclusive<usize>, run: Run) -> Self {
        Self { name, form: Form::Method, arguments, needs: Needs::Nothing, run }
    }

    const fn both(name: &'static str, arguments: RangeInclusive<usize>, run: Run) -> Self {
        Self { name, form: Form::Both, arguments, needs: Needs::Nothing, run }
    }

    /// True when it does nothing but look something up in the request or the response.
    pub(super) fn reads_traffic(&self) -> bool {
        self.needs != Needs::Nothing
    }

    /// Refuses a call with the wrong number of arguments, or before what it needs is known.
    pub(super) fn check(&self, arguments: usize, is_method: bool, phase: Phase) -> Result<(), Mistake> {
        let is_known = match self.needs {
            Needs::Nothing => true,
            Needs::Request => phase != Phase::TcpConnect,
            Needs::Response => phase == Phase::HttpResponse,
        };
        if !is_known {
            return Err(format!("calls {}, which does not work in {phase}", self.name));
        }
        if self.arguments.contains(&arguments) {
            return Ok(());
        }
        let own = usize::from(is_method);
        let (least, most) = (self.arguments.start().saturating_sub(own), self.arguments.end().saturating_sub(own));
        let wanted = if least == most { least.to_string() } else { format!("{least} to {most}") };
        let given = arguments.saturating_sub(own);
        Err(format!("calls {} with {given} arguments: it takes {wanted}", self.name))
    }
}

type Run = fn(&[Value], &mut Evaluation<'_, '_>) -> Result<Value, Fault>;

/// Finds a function by its name, which has its namespace in front if it is in one.
pub(super) fn find(name: &str, is_method: bool) -> Option<&'static Function> {
    let fits = |form| if is_method { form != Form::Global } else { form != Form::Method };
    TABLES.into_iter().flatten().find(|function| function.name == name && fits(function.form))
}

/// The names of all functions, each once.
#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let names: std::collections::BTreeSet<&str> = TABLES.into_iter().flatten().map(|function| function.name).collect();
    names.into_iter()
}

/// True for what stands before the dot of a function that is no method.
pub(super) fn is_namespace(name: &str) -> bool {
    TABLES.into_iter().flatten().any(|function| {
        function.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')) && function.form == Form::Global
    }) || ELSEWHERE.contains(&name)
}

/// What to say of a function that does not exist.
pub(super) fn unknown(name: &str, is_method: bool) -> Mistake {
    let name: String = name.chars().take(NAME_CHARS_MAX).collect();
    match find(&name, !is_method) {
        Some(_) if is_method => format!("calls {name} on a value: write {name}(…)"),
        Some(_) => format!("calls {name} without a value in front: write value.{name}(…)"),
        None => format!("calls {name}, which is not a function that this gateway has"),
    }
}

/// The argument at a place that [`Function::check`] has found to be there.
fn argument(arguments: &[Value], at: usize) -> &Value {
    arguments.get(at).unwrap_or(&Value::Null)
}

fn text_argument(arguments: &[Value], at: usize) -> Result<&str, Fault> {
    super::operators::text(argument(arguments, at))
}

/// An int that is not negative; `None` when it was left out.
fn count_argument(arguments: &[Value], at: usize) -> Result<Option<usize>, Fault> {
    match arguments.get(at) {
        None => Ok(None),
        Some(Value::Int(number)) => {
            let count = usize::try_from(*number);
            count.map(Some).map_err(|_| Fault::Invalid(format!("{number} is less than 0")))
        }
        Some(other) => Err(Fault::Type(format!("{} is no int", other.kind()))),
    }
}

const TABLES: [&[Function]; 7] =
    [codec::TABLE, convert::TABLE, hash::TABLE, http::TABLE, list::TABLE, moment::TABLE, text::TABLE];
/// Namespaces whose functions are worked out when the policy is loaded.
const ELSEWHERE: [&str; 1] = ["secrets"];
const NAME_CHARS_MAX: usize = 64;
