//! Reads a policy document whole and compiles it, or says everything that is wrong with it.

use std::collections::BTreeSet;
use std::path::Path as FilePath;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::actions;
use super::error::{
    ACTION_PHASE, ACTION_UNKNOWN, ACTIONS_MISSING, EXPRESSION, Findings, INTERNAL_HTTP_CONNECT, LOG_INS_TOO_MANY,
    NOT_TERMINATING, PHASE_SCHEME, POLICY_INVALID, PolicyErrors, RULES_TOO_MANY, UNREACHABLE,
};
use super::expression::{Expression, Scope};
use super::fields::Fields;
use super::own::{Lent, Own};
use super::path::Path;
use super::phase::{Phase, Placed, Policy, Rule};
use super::place::Place;

impl Policy {
    /// Reads a document that is YAML or JSON text; an empty one has no rules.
    ///
    /// # Errors
    ///
    /// All mistakes of the document, each with its place in it. Nothing of a faulty document takes effect.
    pub fn parse(text: &str, place: Place) -> Result<Self, PolicyErrors> {
        Self::read_text(text, place, (place.lent(None), None))
    }

    /// As [`Policy::parse`], of a document that may name files of this machine, because whoever runs the gateway wrote it:
    /// relative paths begin in `directory`.
    ///
    /// # Errors
    ///
    /// As [`Policy::parse`].
    pub fn parse_in(text: &str, place: Place, directory: Option<&FilePath>) -> Result<Self, PolicyErrors> {
        Self::read_text(text, place, (place.lent(None), directory))
    }

    /// As [`Policy::parse_in`], for a policy of the gateway's own configuration: it may use what the operator lends.
    ///
    /// # Errors
    ///
    /// As [`Policy::parse`].
    pub fn parse_with(text: &str, place: Place, own: &Own, directory: &FilePath) -> Result<Self, PolicyErrors> {
        Self::read_text(text, place, (place.lent(Some(own)), Some(directory)))
    }

    /// Reads a document that is already a tree, as part of a configuration file is.
    ///
    /// # Errors
    ///
    /// As [`Policy::parse`].
    pub fn from_value(document: &Value, place: Place) -> Result<Self, PolicyErrors> {
        Self::read_value(document, place, (place.lent(None), None))
    }

    /// As [`Policy::from_value`], for a policy of the gateway's own configuration, as [`Policy::parse_with`] has it.
    ///
    /// # Errors
    ///
    /// As [`Policy::parse`].
    pub fn from_value_with(
        document: &Value,
        place: Place,
        own: &Own,
        directory: &FilePath,
    ) -> Result<Self, PolicyErrors> {
        Self::read_value(document, place, (place.lent(Some(own)), Some(directory)))
    }

    fn read_text(text: &str, place: Place, lent: Loan<'_>) -> Result<Self, PolicyErrors> {
        let mut findings = Findings::default();
        if text.len() > DOCUMENT_BYTES_MAX {
            let message = format!("the document has {} bytes: at most {DOCUMENT_BYTES_MAX} are possible", text.len());
            findings.add_bare(Path::Root, POLICY_INVALID, message);
            return findings.into_result(Self::default());
        }
        match read_yaml(text) {
            Ok(document) => Self::read_value(&document, place, lent),
            Err(message) => {
                findings.add_bare(Path::Root, POLICY_INVALID, message);
                findings.into_result(Self::default())
            }
        }
    }

    fn read_value(document: &Value, place: Place, (lent, directory): Loan<'_>) -> Result<Self, PolicyErrors> {
        let (vars, findings) = (names_of_vars(document), Findings::default());
        let mut reader = Reader {
            place,
            lent,
            directory: directory.filter(|_| place.is_cloud()),
            vars,
            findings,
            rules: 0,
            is_old: false,
            logs_in: false,
        };
        let mut policy = reader.document(document);
        policy.withhold_identity_headers();
        if let Lent::All(own) = lent {
            policy.mask = own.mask().clone();
        }
        reader.check_termination(&policy);
        reader.findings.into_result(policy)
    }
}

/// What the operator lends, and where the paths of files begin, if there may be any.
type Loan<'a> = (Lent<'a>, Option<&'a FilePath>);

struct Reader<'a> {
    place: Place,
    lent: Lent<'a>,
    /// Where the paths of files begin, if it may name any.
    directory: Option<&'a FilePath>,
    /// What the `set-vars` actions of the document set.
    vars: BTreeSet<String>,
    findings: Findings,
    rules: usize,
    /// The phase that is read has its former name. Documents of that age may write keys in capitals.
    is_old: bool,
    /// One of the actions so far sends people to a provider.
    logs_in: bool,
}

impl Reader<'_> {
    fn document(&mut self, document: &Value) -> Policy {
        let mut policy = Policy::default();
        let phases = match document {
            Value::Null => return policy,
            Value::Object(phases) => phases,
            other => {
                let message = format!("must be an object with the phases {PHASES}");
                self.findings.add(Path::Root, other, POLICY_INVALID, message);
                return policy;
            }
        };
        let mut named = Vec::new();
        for (key, value) in phases {
            let path = Path::Root.key(key);
            self.is_old = false;
            let phase = match key.as_str() {
                "on_tcp_connect" => Phase::TcpConnect,
                "on_http_request" => Phase::HttpRequest,
                "on_http_response" => Phase::HttpResponse,
                "inbound" | "Inbound" => self.old_phase(Phase::last_of(self.place.scheme())),
                "outbound" | "Outbound" => self.old_phase(Phase::HttpResponse),
                _ => {
                    self.other_phase(key, value, path);
                    continue;
                }
            };
            let has_another = phases.contains_key(phase.as_str()) || named.contains(&phase);
            if self.is_old && has_another {
                let message = format!("means {phase}, and another key of the document does as well: keep one of them");
                self.findings.add_bare(path, POLICY_INVALID, message);
                continue;
            }
            named.push(phase);
            let rules = self.phase(phase, value, path);
            match phase {
                Phase::TcpConnect => policy.on_tcp_connect = rules,
                Phase::HttpRequest => policy.on_http_request = rules,
                Phase::HttpResponse => policy.on_http_response = rules,
            }
        }
        policy
    }

    fn old_phase(&mut self, phase: Phase) -> Phase {
        self.is_old = true;
        phase
    }

    /// Phases that exist elsewhere get an answer of their own.
    fn other_phase(&mut self, key: &str, value: &Value, path: Path<'_>) {
        let is_empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
        let message = match key {
            "on_event_stream_message" if is_empty => return,
            "on_event_stream_message" => format!("is a phase that this gateway does not support: it has {PHASES}"),
            _ => format!("is not a phase: there are {PHASES}"),
        };
        self.findings.add_bare(path, POLICY_INVALID, message);
    }

    /// The field of a rule or an action.
    fn field<'v>(&self, fields: &'v Map<String, Value>, name: &str) -> Option<&'v Value> {
        let capital = || fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        fields.get(name).or_else(|| self.is_old.then(capital).flatten())
    }

    /// Refuses what is no field of a rule or an action.
    fn check_fields(&mut self, fields: &Map<String, Value>, known: &[&str], what: &str, path: Path<'_>) {
        for (key, value) in fields {
            let is_known = known.iter().any(|name| key == name || (self.is_old && key.eq_ignore_ascii_case(name)));
            if !is_known {
                let message = format!("is not a field of {what}: it has {}", known.join(", "));
                self.findings.add_bare(path.key(key), POLICY_INVALID, message);
            }
            let mut before = fields.keys().take_while(|other| *other != key);
            if self.is_old && before.any(|other| other.eq_ignore_ascii_case(key)) {
                let message = "is there twice, with capitals and without: keep one of them";
                self.findings.add(path.key(key), value, POLICY_INVALID, message);
            }
        }
    }

    fn phase(&mut self, phase: Phase, value: &Value, path: Path<'_>) -> Vec<Rule> {
        let list = match value {
            Value::Null => return Vec::new(),
            Value::Array(list) => list,
            other => {
                self.findings.add(path, other, POLICY_INVALID, "must be a list of rules");
                return Vec::new();
            }
        };
        if !list.is_empty() && !self.is_phase_possible(phase, path) {
            return Vec::new();
        }
        self.rules += list.len();
        if self.rules > RULES_MAX {
            let message = format!("the policy has more than {RULES_MAX} rules");
            self.findings.add_bare(path, RULES_TOO_MANY, message);
            return Vec::new();
        }
        let mut rules = Vec::with_capacity(list.len());
        let mut is_ended = false;
        for (index, value) in list.iter().enumerate() {
            let Some(rule) = self.rule(phase, value, path.index(index), is_ended) else {
                continue;
            };
            is_ended |= rule.surely_ends() && !self.has_conditions(value);
            rules.push(rule);
        }
        rules
    }

    /// True when the text of a rule has expressions, also such as could not be compiled: a rule that a mistake left without
    /// conditions does not end the policy.
    fn has_conditions(&self, rule: &Value) -> bool {
        let expressions = rule.as_object().and_then(|fields| self.field(fields, "expressions"));
        expressions.is_some_and(|value| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty()))
    }

    fn is_phase_possible(&mut self, phase: Phase, path: Path<'_>) -> bool {
        let scheme = self.place.scheme();
        match phase {
            Phase::TcpConnect if scheme.is_http() && self.place.is_internal() => {
                let message = "internal http and https endpoints have no on_tcp_connect: requests reach them, not \
                               connections; use on_http_request, or a tcp or tls endpoint";
                self.findings.add_bare(path, INTERNAL_HTTP_CONNECT, message);
                false
            }
            Phase::HttpRequest | Phase::HttpResponse if !scheme.is_http() => {
                let message = format!("{scheme} endpoints have no {phase}: use on_tcp_connect");
                self.findings.add_bare(path, PHASE_SCHEME, message);
                false
            }
            Phase::TcpConnect | Phase::HttpRequest | Phase::HttpResponse => true,
        }
    }

    fn rule(&mut self, phase: Phase, value: &Value, path: Path<'_>, mut is_ended: bool) -> Option<Rule> {
        let Value::Object(fields) = value else {
            self.findings.add(path, value, POLICY_INVALID, "must be a rule: an object with actions");
            return None;
        };
        self.check_fields(fields, &RULE_FIELDS, "a rule", path);
        let expressions = self.expressions(phase, self.field(fields, "expressions"), path.key("expressions"));
        let name = self.name(self.field(fields, "name"), path.key("name"));
        let list = self.actions(fields, path)?;
        let actions_path = path.key("actions");
        let mut actions = Vec::with_capacity(list.len());
        for (index, value) in list.iter().enumerate() {
            let Some(placed) = self.action(phase, value, actions_path.index(index), is_ended) else {
                continue;
            };
            is_ended |= placed.action.is_terminating();
            actions.push(placed);
        }
        Some(Rule { name, expressions, actions })
    }

    fn name(&mut self, value: Option<&Value>, path: Path<'_>) -> Option<Arc<str>> {
        match value? {
            Value::Null => None,
            Value::String(name) => Some(name.as_str().into()),
            other => {
                self.findings.add(path, other, POLICY_INVALID, "must be a text");
                None
            }
        }
    }

    fn expressions(&mut self, phase: Phase, value: Option<&Value>, path: Path<'_>) -> Vec<Expression> {
        let list = match value {
            None | Some(Value::Null) => return Vec::new(),
            Some(Value::Array(list)) if list.len() > EXPRESSIONS_MAX => {
                let message = format!("has {} expressions: at most {EXPRESSIONS_MAX} are possible", list.len());
                self.findings.add_bare(path, EXPRESSION, message);
                return Vec::new();
            }
            Some(Value::Array(list)) => list,
            Some(other) => {
                self.findings.add(path, other, EXPRESSION, "must be a list of expressions");
                return Vec::new();
            }
        };
        let mut expressions = Vec::with_capacity(list.len());
        for (index, value) in list.iter().enumerate() {
            let source = match value {
                Value::String(source) => source.as_str(),
                // YAML reads a bare `true` as what it is in CEL, too.
                Value::Bool(true) => "true",
                Value::Bool(false) => "false",
                other => {
                    self.findings.add(path.index(index), other, EXPRESSION, "must be an expression in quotes");
                    continue;
                }
            };
            match Expression::condition(source, Scope { phase, vars: &self.vars, lent: self.lent }, &[]) {
                Ok(expression) => expressions.push(expression),
                Err(mistake) => self.findings.add(path.index(index), value, EXPRESSION, mistake),
            }
        }
        expressions
    }

    fn actions<'v>(&mut self, fields: &'v Map<String, Value>, path: Path<'_>) -> Option<&'v [Value]> {
        match self.field(fields, "actions") {
            Some(Value::Array(list)) if list.len() > ACTIONS_MAX => {
                let message = format!("the rule has {} actions: at most {ACTIONS_MAX} are possible", list.len());
                self.findings.add_bare(path.key("actions"), POLICY_INVALID, message);
                None
            }
            Some(Value::Array(list)) if !list.is_empty() => Some(list),
            None | Some(Value::Null | Value::Array(_)) => {
                self.findings.add_bare(path.key("actions"), ACTIONS_MISSING, "must be a list of at least one action");
                None
            }
            Some(other) => {
                self.findings.add(path.key("actions"), other, POLICY_INVALID, "must be a list of actions");
                None
            }
        }
    }

    fn action(&mut self, phase: Phase, value: &Value, path: Path<'_>, is_ended: bool) -> Option<Placed> {
        let Value::Object(fields) = value else {
            self.findings.add(path, value, POLICY_INVALID, "must be an action: an object with type and config");
            return None;
        };
        self.check_fields(fields, &ACTION_FIELDS, "an action", path);
        let type_path = path.key("type");
        let name = match self.field(fields, "type") {
            Some(Value::String(name)) => name,
            None | Some(Value::Null) => {
                let message = format!("is missing: {phase} has the actions {}", actions::names(phase));
                self.findings.add_bare(type_path, ACTION_UNKNOWN, message);
                return None;
            }
            Some(other) => {
                self.findings.add(type_path, other, ACTION_UNKNOWN, "must be a text");
                return None;
            }
        };
        let wrong = Value::from(name.as_str());
        let Some(kind) = actions::kind(name) else {
            let known = actions::names(phase);
            let message = format!("is not an action that this gateway has: {phase} has {known}");
            self.findings.add(type_path, &wrong, ACTION_UNKNOWN, message);
            return None;
        };
        if !kind.phases.contains(&phase) {
            let message = format!("does not work in {phase}, which has {}", actions::names(phase));
            self.findings.add(type_path, &wrong, ACTION_PHASE, message);
            return None;
        }
        if is_ended {
            let message = "can never run: an action before it ends the policy in every case";
            self.findings.add(type_path, &wrong, UNREACHABLE, message);
        }
        let config = self.field(fields, "config");
        let scope = Scope { phase, vars: &self.vars, lent: self.lent };
        let mut config = Fields::new(config, path.key("config"), scope, &mut self.findings);
        config.allow_files(self.directory);
        let action = (kind.compile)(&mut config, phase, self.place);
        config.finish();
        if action.as_ref().is_some_and(|action| action.logs_in()) && std::mem::replace(&mut self.logs_in, true) {
            let message =
                "is the second action that logs people in: a policy can have one, oauth, openid-connect or saml";
            self.findings.add(type_path, &wrong, LOG_INS_TOO_MANY, message);
        }
        Some(Placed { name: kind.name, action: action? })
    }

    /// A cloud endpoint has no upstream of its own: traffic that its policy leaves alone would have nowhere to go.
    fn check_termination(&mut self, policy: &Policy) {
        // A document with other mistakes may only seem not to terminate.
        if !self.place.is_cloud() || !self.findings.is_empty() {
            return;
        }
        let last = Phase::last_of(self.place.scheme());
        if policy.surely_ends(last) || policy.surely_ends(Phase::TcpConnect) {
            return;
        }
        let ending = match last {
            Phase::TcpConnect => "forward-internal, deny and close-connection",
            Phase::HttpRequest | Phase::HttpResponse => "forward-internal, deny, custom-response and close-connection",
        };
        let message = format!(
            "the policy of a cloud endpoint must answer all traffic: end it with a rule that has no expressions and one of \
             {ending}"
        );
        self.findings.add_bare(Path::Root.key(last.as_str()), NOT_TERMINATING, message);
    }
}

/// The names that the `set-vars` actions of a document set, wherever they stand: an expression may come before the action
/// in the text and after it in time.
fn names_of_vars(document: &Value) -> BTreeSet<String> {
    let phases = document.as_object().into_iter().flat_map(Map::values);
    let rules = phases.filter_map(Value::as_array).flatten();
    let actions = rules.filter_map(|rule| rule.get("actions").or_else(|| rule.get("Actions"))?.as_array()).flatten();
    let configs = actions.filter_map(|action| action.get("config").or_else(|| action.get("Config")));
    let lists = configs.filter_map(|config| config.get("vars"));
    let entries = lists.flat_map(|list| match list {
        Value::Array(entries) => entries.as_slice(),
        single => std::slice::from_ref(single),
    });
    entries.filter_map(Value::as_object).flat_map(Map::keys).take(VARS_MAX).cloned().collect()
}

fn read_yaml(text: &str) -> Result<Value, String> {
    if text.trim().is_empty() {
        return Ok(Value::Null);
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_aliases: ALIASES_MAX,
            max_anchors: ALIASES_MAX,
            max_nodes: NODES_MAX,
            max_documents: 1,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: NODES_MAX },
        with_snippet: false,
    };
    // The parser's words may quote the document, in which there may be secrets; its position does not.
    serde_saphyr::from_str_with_options(text, options).map_err(|error| match error.location() {
        Some(location) => {
            format!("is neither YAML nor JSON: see line {}, column {}", location.line(), location.column())
        }
        None => "is neither YAML nor JSON".into(),
    })
}

/// 1 MiB: as much as one message of an agent can hold, and a document always comes in one.
pub const DOCUMENT_BYTES_MAX: usize = 1024 * 1024;

/// Rules of all phases of one policy together. Each costs time on every request; hundreds are already unusual.
pub const RULES_MAX: usize = 1000;

/// Actions of one rule, for the same reason.
const ACTIONS_MAX: usize = 100;

/// Nodes of a document: far beyond what the rules above need, and it bounds the tree in memory.
const NODES_MAX: usize = 100_000;

/// YAML anchors and aliases: each alias repeats up to a whole document, so this times 1 MiB bounds what they can blow up
/// to.
const ALIASES_MAX: usize = 16;

/// Names of `set-vars` in one document.
const VARS_MAX: usize = 10_000;

/// Expressions of one rule.
const EXPRESSIONS_MAX: usize = 100;

const PHASES: &str = "on_tcp_connect, on_http_request, on_http_response";
const RULE_FIELDS: [&str; 3] = ["name", "expressions", "actions"];
const ACTION_FIELDS: [&str; 2] = ["type", "config"];

#[cfg(test)]
mod tests;
