//! From the text of an expression to nodes that can be evaluated: what the parser gives, with all names known.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, MapExpr, SelectExpr};
use cel::parser::PrattParser;
use regex::{Regex, RegexBuilder};

use super::super::networks::{NetworkSet, parse_network};
use super::super::own::Lent;
use super::super::phase::Phase;
use super::functions::{self, Function};
use super::loops::{Loop, LoopKind};
use super::operators::Operator;
use super::value::Value;
use super::variables::{self, Variable};

/// What an expression may name.
#[derive(Clone, Copy, Debug)]
pub(in crate::policy) struct Scope<'a> {
    /// When it is evaluated.
    pub(in crate::policy) phase: Phase,
    /// The names that `set-vars` actions of the document set.
    pub(in crate::policy) vars: &'a BTreeSet<String>,
    /// What the operator lends to it.
    pub(in crate::policy) lent: Lent<'a>,
}

/// What is wrong with an expression, in words.
pub(in crate::policy) type Mistake = String;

/// A part of a compiled expression.
#[derive(Debug)]
pub(super) enum Node {
    Constant(Value),
    /// A secret, as it was when the policy was loaded.
    Secret(Secret),
    Variable(Variable),
    /// The variable of a loop, counted from the outermost one.
    Local(usize),
    Select(Box<Self>, Box<str>),
    Has(Box<Self>, Box<str>),
    /// `has` of a variable.
    Present(Variable),
    Index(Box<Self>, Box<Self>),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    Not(Box<Self>),
    Negate(Box<Self>),
    Conditional(Box<[Self; 3]>),
    Binary(Operator, Box<Self>, Box<Self>),
    List(Vec<Self>),
    Map(Vec<(Self, Self)>),
    /// `matches` with a pattern that is known when the policy is loaded.
    Matches(Box<Self>, Box<Regex>),
    /// `inCidrRange` and `inCidrRanges` with networks that are known when the policy is loaded.
    InNetworks(Box<Self>, Box<NetworkSet>),
    Call(&'static Function, Vec<Self>),
    Loop(Box<Loop>),
}

/// A value that nothing shows, not even the policy that it is compiled into.
pub(super) struct Secret(pub(super) Value);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Gives the node. `names` are known as if a loop around it bound them.
pub(super) fn compile(source: &str, scope: Scope<'_>, names: &[&str]) -> Result<Node, Mistake> {
    if source.len() > EXPRESSION_BYTES_MAX {
        return Err(format!("has {} bytes: at most {EXPRESSION_BYTES_MAX} are possible", source.len()));
    }
    let parser = PrattParser::new().max_recursion_depth(DEPTH_MAX);
    let parsed = parser.parse(source).map_err(|errors| {
        let first = errors.errors.first().map(|error| error.msg.as_str()).unwrap_or_default();
        let first = first.strip_prefix("Syntax error: ").unwrap_or(first);
        format!("is not an expression of CEL: {}", cut(first))
    })?;
    let locals = names.iter().map(|name| (*name).to_owned()).collect();
    let mut compiler = Compiler { scope, locals, depth: 0, nodes: 0 };
    compiler.node(&parsed)
}

/// The parser's words may quote the whole expression.
fn cut(text: &str) -> String {
    text.chars().take(MESSAGE_CHARS_MAX).flat_map(char::escape_debug).collect()
}

struct Compiler<'a> {
    scope: Scope<'a>,
    /// The names that the loops around this place bind, outermost first.
    locals: Vec<String>,
    depth: u16,
    nodes: usize,
}

impl Compiler<'_> {
    fn node(&mut self, parsed: &IdedExpr) -> Result<Node, Mistake> {
        if self.depth >= DEPTH_MAX {
            return Err(format!("is nested more than {DEPTH_MAX} deep"));
        }
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(format!("has more than {NODES_MAX} parts"));
        }
        self.depth += 1;
        let node = self.expression(&parsed.expr);
        self.depth -= 1;
        node
    }

    fn expression(&mut self, expression: &Expr) -> Result<Node, Mistake> {
        match expression {
            Expr::Literal(literal) => Ok(Node::Constant(constant(literal))),
            Expr::Ident(name) => match self.local(name) {
                Some(slot) => Ok(Node::Local(slot)),
                None => self.variable(name),
            },
            Expr::Select(select) => self.select(select),
            Expr::Call(call) => self.call(call),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            Expr::List(list) => Ok(Node::List(self.nodes(&list.elements)?)),
            Expr::Map(map) => self.map(map),
            Expr::Struct(message) => Err(format!("has the message type {}: there are none", cut(&message.type_name))),
            Expr::Unspecified => Err("is not an expression of CEL".into()),
        }
    }

    fn nodes(&mut self, parsed: &[IdedExpr]) -> Result<Vec<Node>, Mistake> {
        parsed.iter().map(|parsed| self.node(parsed)).collect()
    }

    fn boxed(&mut self, parsed: &IdedExpr) -> Result<Box<Node>, Mistake> {
        self.node(parsed).map(Box::new)
    }

    fn local(&self, name: &str) -> Option<usize> {
        self.locals.iter().rposition(|local| local == name)
    }

    /// The name that a chain of fields on a variable spells, as `req.url.host`.
    fn dotted(&self, expression: &Expr) -> Option<String> {
        match expression {
            Expr::Ident(name) => self.local(name).is_none().then(|| name.clone()),
            Expr::Select(select) if !select.test => {
                Some(format!("{}.{}", self.dotted(&select.operand.expr)?, select.field))
            }
            _ => None,
        }
    }

    fn variable(&mut self, name: &str) -> Result<Node, Mistake> {
        let variable = variables::find(name).ok_or_else(|| variables::unknown(name))?;
        variable.check(name, self.scope.phase)?;
        Ok(Node::Variable(variable))
    }

    fn select(&mut self, select: &SelectExpr) -> Result<Node, Mistake> {
        let field: Box<str> = select.field.as_str().into();
        let Some(parent) = self.dotted(&select.operand.expr) else {
            let operand = self.boxed(&select.operand)?;
            return Ok(if select.test { Node::Has(operand, field) } else { Node::Select(operand, field) });
        };
        let name = format!("{parent}.{field}");
        if let Some(variable) = variables::find(&name) {
            variable.check(&name, self.scope.phase)?;
            return Ok(if select.test { Node::Present(variable) } else { Node::Variable(variable) });
        }
        self.check_member(&name)?;
        let operand = self.boxed(&select.operand)?;
        Ok(if select.test { Node::Has(operand, field) } else { Node::Select(operand, field) })
    }

    /// Only what a map holds can have a name that is not in the table of variables.
    fn check_member(&self, name: &str) -> Result<(), Mistake> {
        let mut prefix = name;
        while let Some((shorter, _)) = prefix.rsplit_once('.') {
            prefix = shorter;
            let Some(variable) = variables::find(prefix) else { continue };
            let member = name.get(prefix.len() + 1..).unwrap_or_default();
            let first = member.split('.').next().unwrap_or_default();
            return match variable {
                Variable::Vars if self.scope.vars.contains(first) => Ok(()),
                Variable::Vars => Err(unset(first, self.scope.vars)),
                Variable::Results if variables::has_results(first) => Ok(()),
                Variable::Results => Err(format!("names {}: no action sets that: {}", cut(name), variables::results())),
                variable if variable.is_map() => Ok(()),
                _ => Err(variables::unknown(name)),
            };
        }
        Err(variables::unknown(name))
    }

    fn call(&mut self, call: &CallExpr) -> Result<Node, Mistake> {
        let name = call.func_name.as_str();
        if let Some(target) = &call.target {
            return self.method(target, name, &call.args);
        }
        match (name, call.args.as_slice()) {
            ("_&&_", [left, right]) => Ok(Node::And(self.boxed(left)?, self.boxed(right)?)),
            ("_||_", [left, right]) => Ok(Node::Or(self.boxed(left)?, self.boxed(right)?)),
            ("!_", [operand]) => Ok(Node::Not(self.boxed(operand)?)),
            ("-_", [operand]) => Ok(Node::Negate(self.boxed(operand)?)),
            ("_[_]", [operand, index]) => {
                let (operand, mut index) = (self.boxed(operand)?, self.boxed(index)?);
                // The names of headers have no case, and the map has them in lower case.
                if let (Node::Variable(variable), Node::Constant(Value::Text(name))) = (&*operand, &mut *index)
                    && variable.is_headers()
                {
                    *name = name.to_ascii_lowercase().into();
                }
                Ok(Node::Index(operand, index))
            }
            ("_?_:_", [condition, then, other]) => {
                let parts = [self.node(condition)?, self.node(then)?, self.node(other)?];
                Ok(Node::Conditional(Box::new(parts)))
            }
            (name, [left, right]) if let Some(operator) = Operator::named(name) => {
                Ok(Node::Binary(operator, self.boxed(left)?, self.boxed(right)?))
            }
            (name, arguments) => {
                let arguments = self.nodes(arguments)?;
                self.function(name, arguments, false)
            }
        }
    }

    fn method(&mut self, target: &IdedExpr, name: &str, arguments: &[IdedExpr]) -> Result<Node, Mistake> {
        // `base64.encode(x)` looks like a method of a variable `base64`.
        if let Some(namespace) = self.dotted(&target.expr)
            && functions::is_namespace(&namespace)
        {
            let arguments = self.nodes(arguments)?;
            return self.function(&format!("{namespace}.{name}"), arguments, false);
        }
        if let ("sortBy", [variable, key]) = (name, arguments)
            && let Expr::Ident(variable) = &variable.expr
        {
            let range = self.node(target)?;
            let key = self.inside(variable, |compiler| compiler.node(key))?;
            return Ok(Node::Loop(Box::new(Loop { range, kind: LoopKind::SortBy(key) })));
        }
        let mut all = vec![self.node(target)?];
        all.extend(self.nodes(arguments)?);
        self.function(name, all, true)
    }

    fn function(&self, name: &str, mut arguments: Vec<Node>, is_method: bool) -> Result<Node, Mistake> {
        if name == "secrets.get" && !is_method {
            return self.secret(&arguments);
        }
        let function = functions::find(name, is_method).ok_or_else(|| functions::unknown(name, is_method))?;
        function.check(arguments.len(), is_method, self.scope.phase)?;
        match (name, arguments.as_slice()) {
            ("matches", [_, Node::Constant(Value::Text(pattern))]) => {
                let pattern = Box::new(compile_pattern(pattern)?);
                Ok(Node::Matches(Box::new(arguments.swap_remove(0)), pattern))
            }
            ("inCidrRange" | "inCidrRanges", [_, networks]) => match constant_networks(networks)? {
                Some(networks) => Ok(Node::InNetworks(Box::new(arguments.swap_remove(0)), Box::new(networks))),
                None => Ok(Node::Call(function, arguments)),
            },
            _ => Ok(Node::Call(function, arguments)),
        }
    }

    /// Which one it is must be clear when the policy is loaded: a missing secret is then found at once.
    fn secret(&self, arguments: &[Node]) -> Result<Node, Mistake> {
        let [Node::Constant(Value::Text(vault)), Node::Constant(Value::Text(name))] = arguments else {
            return Err(
                "calls secrets.get, which takes the name of a vault and that of a secret, both in quotes".into()
            );
        };
        let own = self.scope.lent.get("calls secrets.get")?;
        own.secret(vault, name).map(|secret| Node::Secret(Secret(Value::Text(Arc::clone(secret)))))
    }

    fn map(&mut self, map: &MapExpr) -> Result<Node, Mistake> {
        let mut entries = Vec::with_capacity(map.entries.len());
        for entry in &map.entries {
            let EntryExpr::MapEntry(entry) = &entry.expr else {
                return Err("has a map with something else than keys and values".into());
            };
            entries.push((self.node(&entry.key)?, self.node(&entry.value)?));
        }
        Ok(Node::Map(entries))
    }

    /// The parser has written the macros out as loops with an accumulator. Each has a shape of its own, and is evaluated
    /// as what it was, so that collecting a list does not copy it with every element.
    fn comprehension(&mut self, looped: &ComprehensionExpr) -> Result<Node, Mistake> {
        let range = self.node(&looped.iter_range)?;
        let Expr::Call(step) = &looped.loop_step.expr else { return Err(unsupported_loop()) };
        let kind = self.inside(&looped.iter_var, |compiler| {
            match (&looped.accu_init.expr, step.func_name.as_str(), step.args.as_slice()) {
                (Expr::Literal(LiteralValue::Boolean(_)), "_||_", [_, test]) => {
                    compiler.node(test).map(LoopKind::Exists)
                }
                (Expr::Literal(LiteralValue::Boolean(_)), "_&&_", [_, test]) => compiler.node(test).map(LoopKind::All),
                (Expr::Literal(LiteralValue::Int(_)), "_?_:_", [test, ..]) => {
                    compiler.node(test).map(LoopKind::ExistsOne)
                }
                (Expr::List(_), "_+_", [_, kept]) => Ok(LoopKind::Collect(None, compiler.kept(kept)?)),
                (Expr::List(_), "_?_:_", [condition, added, _]) => {
                    let condition = compiler.node(condition)?;
                    let Expr::Call(CallExpr { args, .. }) = &added.expr else { return Err(unsupported_loop()) };
                    let [_, kept] = args.as_slice() else { return Err(unsupported_loop()) };
                    Ok(LoopKind::Collect(Some(condition), compiler.kept(kept)?))
                }
                _ => Err(unsupported_loop()),
            }
        })?;
        Ok(Node::Loop(Box::new(Loop { range, kind })))
    }

    /// What `map` and `filter` keep of an element stands in a list of its own.
    fn kept(&mut self, list: &IdedExpr) -> Result<Node, Mistake> {
        match &list.expr {
            Expr::List(list) if let [kept] = list.elements.as_slice() => self.node(kept),
            _ => Err(unsupported_loop()),
        }
    }

    fn inside<T>(
        &mut self,
        variable: &str,
        compile: impl FnOnce(&mut Self) -> Result<T, Mistake>,
    ) -> Result<T, Mistake> {
        self.locals.push(variable.to_owned());
        let result = compile(self);
        self.locals.pop();
        result
    }
}

fn unset(name: &str, vars: &BTreeSet<String>) -> Mistake {
    let known: Vec<&str> = vars.iter().take(NAMES_MAX).map(String::as_str).collect();
    let known = if known.is_empty() { "none".to_owned() } else { cut(&known.join(", ")) };
    format!("names vars.{}, which no set-vars of this policy sets: there are {known}", cut(name))
}

fn unsupported_loop() -> Mistake {
    "has a loop that this gateway does not know".into()
}

fn constant(literal: &LiteralValue) -> Value {
    match literal {
        LiteralValue::Boolean(value) => Value::Bool(*value.inner()),
        LiteralValue::Bytes(value) => Value::Bytes(value.inner().to_vec().into()),
        LiteralValue::Double(value) => Value::Double(*value.inner()),
        LiteralValue::Int(value) => Value::Int(*value.inner()),
        LiteralValue::Null => Value::Null,
        LiteralValue::String(value) => Value::text(value.inner()),
        LiteralValue::UInt(value) => Value::Uint(*value.inner()),
    }
}

/// Regular expressions of RE2's kind: matched in linear time, and bounded in memory.
pub(in crate::policy) fn compile_pattern(pattern: &str) -> Result<Regex, Mistake> {
    let compiled = RegexBuilder::new(pattern).size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_BYTES_MAX).build();
    compiled.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => format!("the regular expression {pattern:?} is too large"),
        _ => {
            format!("{pattern:?} is not a regular expression (of RE2's kind: without look-around and back references)")
        }
    })
}

/// The networks of a literal; nothing when they are only known at run time.
fn constant_networks(node: &Node) -> Result<Option<NetworkSet>, Mistake> {
    let read = |text: &Arc<str>| {
        let network = parse_network(text);
        network.ok_or_else(|| format!("{text:?} is not a network such as 10.0.0.0/8 or 2001:db8::/32"))
    };
    match node {
        Node::Constant(Value::Text(text)) => Ok(Some([read(text)?].into_iter().collect())),
        Node::List(items) => {
            let mut set = NetworkSet::default();
            for item in items {
                let Node::Constant(Value::Text(text)) = item else { return Ok(None) };
                set.insert(read(text)?);
            }
            Ok(Some(set))
        }
        _ => Ok(None),
    }
}

/// Longest expression. Lists of networks belong into `restrict-ips`.
pub(in crate::policy) const EXPRESSION_BYTES_MAX: usize = 16 * 1024;
/// Nodes of a parsed expression.
const NODES_MAX: usize = 4000;
/// How deep an expression may be nested: evaluation goes down as deep, on the stack of a task.
const DEPTH_MAX: u16 = 64;
/// Memory of a compiled regular expression, and of the cache that matching uses.
const PATTERN_BYTES_MAX: usize = 256 * 1024;
const MESSAGE_CHARS_MAX: usize = 200;
/// Names that a message lists.
const NAMES_MAX: usize = 20;
