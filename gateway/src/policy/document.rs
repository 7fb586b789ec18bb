//! Reads a policy document whole and compiles it, or says everything that is wrong with it.

use adit::endpoint_url::{EndpointUrl, Scheme};
use serde_json::{Map, Value};

use super::actions::{self, Action};
use super::error::{
    ACTION_PHASE, ACTION_UNKNOWN, ACTIONS_MISSING, EXPRESSION, Findings, INTERNAL_HTTP_CONNECT, NOT_TERMINATING,
    PHASE_SCHEME, POLICY_INVALID, PolicyErrors, RULES_TOO_MANY, UNREACHABLE,
};
use super::fields::Fields;
use super::path::Path;
use super::phase::{Phase, Policy, Rule};

/// The endpoint that a policy is for, as far as it decides what the policy may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    scheme: Scheme,
    is_internal: bool,
    is_cloud: bool,
}

impl Place {
    /// An endpoint of the gateway's configuration. It has no upstream, so its policy has to end in a terminating action.
    pub fn cloud(url: &EndpointUrl) -> Self {
        Self { scheme: url.scheme(), is_internal: url.is_internal(), is_cloud: true }
    }

    /// An endpoint that an agent binds.
    pub fn agent(url: &EndpointUrl) -> Self {
        Self { scheme: url.scheme(), is_internal: url.is_internal(), is_cloud: false }
    }

    pub(super) fn scheme(self) -> Scheme {
        self.scheme
    }
}

impl Policy {
    /// Reads a document that is YAML or JSON text; an empty one has no rules.
    ///
    /// # Errors
    ///
    /// All mistakes of the document, each with its place in it. Nothing of a faulty document takes effect.
    pub fn parse(text: &str, place: Place) -> Result<Self, PolicyErrors> {
        let mut findings = Findings::default();
        if text.len() > DOCUMENT_BYTES_MAX {
            let message = format!("the document has {} bytes: at most {DOCUMENT_BYTES_MAX} are possible", text.len());
            findings.add_bare(Path::Root, POLICY_INVALID, message);
            return findings.into_result(Self::default());
        }
        match read_yaml(text) {
            Ok(document) => Self::from_value(&document, place),
            Err(message) => {
                findings.add_bare(Path::Root, POLICY_INVALID, message);
                findings.into_result(Self::default())
            }
        }
    }

    /// Reads a document that is already a tree, as part of a configuration file is.
    ///
    /// # Errors
    ///
    /// As [`Policy::parse`].
    pub fn from_value(document: &Value, place: Place) -> Result<Self, PolicyErrors> {
        let mut reader = Reader { place, findings: Findings::default(), rules: 0 };
        let policy = reader.document(document);
        reader.check_termination(&policy);
        reader.findings.into_result(policy)
    }
}

struct Reader {
    place: Place,
    findings: Findings,
    rules: usize,
}

impl Reader {
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
        for (key, value) in phases {
            let path = Path::Root.key(key);
            match key.as_str() {
                "on_tcp_connect" => policy.on_tcp_connect = self.phase(Phase::OnTcpConnect, value, path),
                "on_http_request" => policy.on_http_request = self.phase(Phase::OnHttpRequest, value, path),
                _ => self.other_phase(key, value, path),
            }
        }
        policy
    }

    /// Phases that exist elsewhere or existed once get an answer of their own.
    fn other_phase(&mut self, key: &str, value: &Value, path: Path<'_>) {
        let is_empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
        let message = match key {
            "on_http_response" | "on_event_stream_message" if is_empty => return,
            "on_http_response" | "on_event_stream_message" => {
                format!("is a phase that this gateway does not support yet: it has {PHASES}")
            }
            "inbound" => format!("is the former name of a phase: write {}", Phase::last_of(self.place.scheme)),
            "outbound" => "is the former name of on_http_response, which this gateway does not support yet".into(),
            _ => format!("is not a phase: there are {PHASES}"),
        };
        self.findings.add_bare(path, POLICY_INVALID, message);
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
            is_ended |= rule.surely_ends();
            rules.push(rule);
        }
        rules
    }

    fn is_phase_possible(&mut self, phase: Phase, path: Path<'_>) -> bool {
        let scheme = self.place.scheme;
        match phase {
            Phase::OnTcpConnect if scheme.is_http() && self.place.is_internal => {
                let message = "internal http and https endpoints have no on_tcp_connect: requests reach them, not \
                               connections; use on_http_request, or a tcp or tls endpoint";
                self.findings.add_bare(path, INTERNAL_HTTP_CONNECT, message);
                false
            }
            Phase::OnHttpRequest if !scheme.is_http() => {
                let message = format!("{scheme} endpoints have no on_http_request: use on_tcp_connect");
                self.findings.add_bare(path, PHASE_SCHEME, message);
                false
            }
            Phase::OnTcpConnect | Phase::OnHttpRequest => true,
        }
    }

    fn rule(&mut self, phase: Phase, value: &Value, path: Path<'_>, mut is_ended: bool) -> Option<Rule> {
        let Value::Object(fields) = value else {
            self.findings.add(path, value, POLICY_INVALID, "must be a rule: an object with actions");
            return None;
        };
        for key in fields.keys().filter(|key| !RULE_FIELDS.contains(&key.as_str())) {
            let message = format!("is not a field of a rule: it has {}", RULE_FIELDS.join(", "));
            self.findings.add_bare(path.key(key), POLICY_INVALID, message);
        }
        self.expressions(fields.get("expressions"), path.key("expressions"));
        let name = self.name(fields.get("name"), path.key("name"));
        let list = self.actions(fields, path)?;
        let actions_path = path.key("actions");
        let mut actions = Vec::with_capacity(list.len());
        for (index, value) in list.iter().enumerate() {
            let Some(action) = self.action(phase, value, actions_path.index(index), is_ended) else {
                continue;
            };
            is_ended |= action.is_terminating();
            actions.push(action);
        }
        Some(Rule { name, actions })
    }

    fn name(&mut self, value: Option<&Value>, path: Path<'_>) -> Option<Box<str>> {
        match value? {
            Value::Null => None,
            Value::String(name) => Some(name.as_str().into()),
            other => {
                self.findings.add(path, other, POLICY_INVALID, "must be a text");
                None
            }
        }
    }

    /// A rule whose condition is not evaluated would apply to the wrong traffic, so there must be none.
    fn expressions(&mut self, value: Option<&Value>, path: Path<'_>) {
        match value {
            None | Some(Value::Null) => {}
            Some(Value::Array(list)) => {
                for (index, expression) in list.iter().enumerate() {
                    let message = "this gateway cannot evaluate expressions yet: only rules without them are possible";
                    self.findings.add(path.index(index), expression, EXPRESSION, message);
                }
            }
            Some(other) => self.findings.add(path, other, EXPRESSION, "must be a list of expressions"),
        }
    }

    fn actions<'v>(&mut self, fields: &'v Map<String, Value>, path: Path<'_>) -> Option<&'v [Value]> {
        match fields.get("actions") {
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

    fn action(&mut self, phase: Phase, value: &Value, path: Path<'_>, is_ended: bool) -> Option<Box<dyn Action>> {
        let Value::Object(fields) = value else {
            self.findings.add(path, value, POLICY_INVALID, "must be an action: an object with type and config");
            return None;
        };
        for key in fields.keys().filter(|key| !ACTION_FIELDS.contains(&key.as_str())) {
            let message = format!("is not a field of an action: it has {}", ACTION_FIELDS.join(", "));
            self.findings.add_bare(path.key(key), POLICY_INVALID, message);
        }
        let type_path = path.key("type");
        let name = match fields.get("type") {
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
        let mut config = Fields::new(fields.get("config"), path.key("config"), &mut self.findings);
        let action = (kind.compile)(&mut config, phase, self.place);
        config.finish();
        action
    }

    /// A cloud endpoint has no upstream of its own: traffic that its policy leaves alone would have nowhere to go.
    fn check_termination(&mut self, policy: &Policy) {
        // A document with other mistakes may only seem not to terminate.
        if !self.place.is_cloud || !self.findings.is_empty() {
            return;
        }
        let last = Phase::last_of(self.place.scheme);
        if policy.surely_ends(last) || policy.surely_ends(Phase::OnTcpConnect) {
            return;
        }
        let message = format!(
            "the policy of a cloud endpoint must answer all traffic: end it with a rule that has one of {}",
            actions::names(last)
        );
        self.findings.add_bare(Path::Root.key(last.as_str()), NOT_TERMINATING, message);
    }
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

const PHASES: &str = "on_tcp_connect, on_http_request";
const RULE_FIELDS: [&str; 3] = ["name", "expressions", "actions"];
const ACTION_FIELDS: [&str; 2] = ["type", "config"];

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::super::{Connection, Request, Verdict};
    use super::*;

    fn cloud(url: &str) -> Place {
        Place::cloud(&EndpointUrl::parse(url).unwrap())
    }

    fn agent(url: &str) -> Place {
        Place::agent(&EndpointUrl::parse(url).unwrap())
    }

    /// A document, the URL of its endpoint, and the path and code of every mistake in it.
    type Faulty = (&'static str, &'static str, &'static [(&'static str, u32)]);

    /// The path and code of every mistake.
    fn mistakes(text: &str, place: Place) -> Vec<(String, u32)> {
        let Err(errors) = Policy::parse(text, place) else {
            return Vec::new();
        };
        errors.errors().iter().map(|error| (error.path.clone(), error.code)).collect()
    }

    fn connection(url: &EndpointUrl) -> Connection<'_> {
        let address = "192.0.2.1:1000".parse().unwrap();
        Connection { peer: address, local: address, endpoint: url }
    }

    async fn decide(policy: &Policy, url: &str) -> Verdict {
        let url = EndpointUrl::parse(url).unwrap();
        let (mut head, ()) = http::Request::new(()).into_parts();
        policy.on_http_request(&mut Request { connection: connection(&url), head: &mut head }).await
    }

    #[tokio::test]
    async fn yaml_and_json_mean_the_same() {
        let yaml = "on_http_request:\n  - name: all\n    actions:\n      - type: forward-internal\n        config:\n          \
                    url: https://api.internal\n          on_error: halt\n";
        let json = "{\n\t\"on_http_request\": [\n\t\t{\"name\": \"all\", \"actions\": [{\"type\": \"forward-internal\", \
                    \"config\": {\"url\": \"https://api.internal\", \"on_error\": \"halt\"}}]}\n\t]\n}";
        for text in [yaml, json] {
            let policy = Policy::parse(text, cloud("https://api.example.com")).unwrap();
            let verdict = decide(&policy, "https://api.example.com").await;
            assert_eq!(verdict, Verdict::Forward(EndpointUrl::parse("https://api.internal").unwrap().into()));
        }
    }

    #[tokio::test]
    async fn deny_and_custom_response_give_what_the_document_says() {
        let place = cloud("https://api.example.com");
        for (text, status) in [
            ("on_http_request: [{actions: [{type: deny}]}]", 403),
            ("on_http_request: [{actions: [{type: deny, config: {status_code: 404}}]}]", 404),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let policy = Policy::parse(text, place).unwrap();
            assert_eq!(decide(&policy, "https://api.example.com").await, Verdict::Deny { status });
        }
        let text = "on_http_request: [{actions: [{type: custom-response, config: {status_code: 503, body: closed, \
                    headers: {Retry-After: '60'}}}]}]";
        let Verdict::Respond(response) = decide(&Policy::parse(text, place).unwrap(), "https://api.example.com").await
        else {
            panic!("no response");
        };
        assert_eq!(response.status, 503);
        assert_eq!(&response.body[..], b"closed");
        assert_eq!(response.headers["retry-after"], "60");
        assert_eq!(response.headers["content-type"], "text/plain; charset=utf-8");
    }

    #[test]
    fn connection_phase_forwards_and_denies() {
        let url = EndpointUrl::parse("tcp://db.example.com:5432").unwrap();
        let text = "on_tcp_connect: [{actions: [{type: forward-internal, config: {url: 'tcp://db.internal:5432'}}]}]";
        let policy = Policy::parse(text, Place::cloud(&url)).unwrap();
        let target = EndpointUrl::parse("tcp://db.internal:5432").unwrap();
        assert_eq!(policy.on_tcp_connect(connection(&url)), Verdict::Forward(target.into()));

        let policy = Policy::parse("on_tcp_connect: [{actions: [{type: deny}]}]", Place::cloud(&url)).unwrap();
        assert_eq!(policy.on_tcp_connect(connection(&url)), Verdict::Deny { status: StatusCode::FORBIDDEN });
    }

    #[tokio::test]
    async fn empty_document_of_an_agent_lets_everything_through() {
        for text in ["", "  \n", "{}", "null", "on_http_request: []", "on_http_request:", "on_http_response: []"] {
            let policy = Policy::parse(text, agent("https://app.example.com")).unwrap();
            assert_eq!(decide(&policy, "https://app.example.com").await, Verdict::Continue, "{text:?}");
        }
    }

    #[test]
    fn cloud_policy_that_may_leave_traffic_alone_is_refused() {
        for (text, url, path) in [
            ("", "https://a.example.com", "on_http_request"),
            ("{}", "http://a.example.com", "on_http_request"),
            ("on_http_request: []", "https://a.example.com", "on_http_request"),
            ("on_tcp_connect: []", "tls://a.example.com", "on_tcp_connect"),
            ("null", "tcp://a.example.com:1", "on_tcp_connect"),
        ] {
            assert_eq!(mistakes(text, cloud(url)), [(path.to_owned(), 2235)], "{text:?}");
        }
        assert_eq!(mistakes("on_tcp_connect: [{actions: [{type: deny}]}]", cloud("https://a.example.com")), []);
    }

    #[test]
    fn faulty_document_is_refused_at_the_right_place() {
        let https = "https://a.example.com";
        let tcp = "tcp://a.example.com:1";
        let table: &[Faulty] = &[
            // The document.
            ("[]", https, &[("", 9026)]),
            ("7", https, &[("", 9026)]),
            ("{", https, &[("", 9026)]),
            ("a: b: c", https, &[("", 9026)]),
            ("on_http_request: []\non_http_request: []", https, &[("", 9026)]),
            (r#"{"on_http_request": [], "on_http_request": []}"#, https, &[("", 9026)]),
            ("--- {}\n--- {}", https, &[("", 9026)]),
            // Phases.
            ("on_request: []", https, &[("on_request", 9026)]),
            ("inbound: []", https, &[("inbound", 9026)]),
            ("outbound: []", https, &[("outbound", 9026)]),
            ("on_http_response: [{actions: [{type: deny}]}]", https, &[("on_http_response", 9026)]),
            ("on_http_request: {}", https, &[("on_http_request", 9026)]),
            ("on_http_request: x", https, &[("on_http_request", 9026)]),
            ("on_http_request: [{actions: [{type: deny}]}]", tcp, &[("on_http_request", 2230)]),
            ("on_tcp_connect: [{actions: [{type: deny}]}]", "https://a.internal", &[("on_tcp_connect", 2262)]),
            ("on_tcp_connect: [{actions: [{type: deny}]}]", "http://a.internal", &[("on_tcp_connect", 2262)]),
            // Rules.
            ("on_http_request: [7]", https, &[("on_http_request[0]", 9026)]),
            ("on_http_request: [{}]", https, &[("on_http_request[0].actions", 2206)]),
            ("on_http_request: [{actions: []}]", https, &[("on_http_request[0].actions", 2206)]),
            ("on_http_request: [{actions: {}}]", https, &[("on_http_request[0].actions", 9026)]),
            ("on_http_request: [{if: x, actions: [{type: deny}]}]", https, &[("on_http_request[0].if", 9026)]),
            ("on_http_request: [{name: 1, actions: [{type: deny}]}]", https, &[("on_http_request[0].name", 9026)]),
            (
                "on_http_request: [{expressions: ['true', \"req.method == 'GET'\"], actions: [{type: deny}]}]",
                https,
                &[("on_http_request[0].expressions[0]", 2200), ("on_http_request[0].expressions[1]", 2200)],
            ),
            (
                "on_http_request: [{expressions: 'true', actions: [{type: deny}]}]",
                https,
                &[("on_http_request[0].expressions", 2200)],
            ),
            // Actions.
            ("on_http_request: [{actions: [deny]}]", https, &[("on_http_request[0].actions[0]", 9026)]),
            ("on_http_request: [{actions: [{}]}]", https, &[("on_http_request[0].actions[0].type", 2201)]),
            ("on_http_request: [{actions: [{type: 1}]}]", https, &[("on_http_request[0].actions[0].type", 2201)]),
            (
                "on_http_request: [{actions: [{type: jwt-validation, config: {}}]}]",
                https,
                &[("on_http_request[0].actions[0].type", 2201)],
            ),
            (
                "on_tcp_connect: [{actions: [{type: custom-response}]}]",
                tcp,
                &[("on_tcp_connect[0].actions[0].type", 2202)],
            ),
            (
                "on_http_request: [{actions: [{type: deny, when: x}]}]",
                https,
                &[("on_http_request[0].actions[0].when", 9026)],
            ),
            (
                "on_http_request: [{actions: [{type: deny, config: []}]}]",
                https,
                &[("on_http_request[0].actions[0].config", 2203)],
            ),
            (
                "on_http_request: [{actions: [{type: deny}, {type: deny}]}]",
                https,
                &[("on_http_request[0].actions[1].type", 2207)],
            ),
            (
                "on_http_request: [{actions: [{type: deny}]}, {actions: [{type: custom-response}]}]",
                https,
                &[("on_http_request[1].actions[0].type", 2207)],
            ),
            // deny.
            (
                "on_http_request: [{actions: [{type: deny, config: {status: 404}}]}]",
                https,
                &[("on_http_request[0].actions[0].config.status", 2204)],
            ),
            (
                "on_http_request: [{actions: [{type: deny, config: {status_code: '404'}}]}]",
                https,
                &[("on_http_request[0].actions[0].config.status_code", 2203)],
            ),
            (
                "on_http_request: [{actions: [{type: deny, config: {status_code: 99}}]}]",
                https,
                &[("on_http_request[0].actions[0].config.status_code", 2215)],
            ),
            (
                "on_http_request: [{actions: [{type: deny, config: {status_code: 100000}}]}]",
                https,
                &[("on_http_request[0].actions[0].config.status_code", 2215)],
            ),
            (
                "on_tcp_connect: [{actions: [{type: deny, config: {status_code: 404}}]}]",
                tcp,
                &[("on_tcp_connect[0].actions[0].config.status_code", 2204)],
            ),
            // forward-internal.
            (
                "on_http_request: [{actions: [{type: forward-internal}]}]",
                https,
                &[("on_http_request[0].actions[0].config.url", 2203)],
            ),
            (
                "on_http_request: [{actions: [{type: forward-internal, config: {url: 7}}]}]",
                https,
                &[("on_http_request[0].actions[0].config.url", 2203)],
            ),
            (
                "on_http_request: [{actions: [{type: forward-internal, config: {url: 'https://x.internal/'}}]}]",
                https,
                &[("on_http_request[0].actions[0].config.url", 2204)],
            ),
            (
                "on_http_request: [{actions: [{type: forward-internal, config: {url: 'https://example.com'}}]}]",
                https,
                &[("on_http_request[0].actions[0].config.url", 2204)],
            ),
            (
                "on_http_request: [{actions: [{type: forward-internal, config: {url: 'https://*.x.internal'}}]}]",
                https,
                &[("on_http_request[0].actions[0].config.url", 2204)],
            ),
            (
                "on_http_request: [{actions: [{type: forward-internal, config: {url: 'tcp://x.internal:1'}}]}]",
                https,
                &[("on_http_request[0].actions[0].config.url", 2204)],
            ),
            (
                "on_tcp_connect: [{actions: [{type: forward-internal, config: {url: 'https://x.internal'}}]}]",
                tcp,
                &[("on_tcp_connect[0].actions[0].config.url", 2204)],
            ),
            (
                "on_tcp_connect: [{actions: [{type: forward-internal, config: {url: 'tls://x.internal'}}]}]",
                tcp,
                &[("on_tcp_connect[0].actions[0].config.url", 2204)],
            ),
            (
                "on_http_request: [{actions: [{type: forward-internal, config: {url: 'https://${req.host}.internal'}}]}]",
                https,
                &[("on_http_request[0].actions[0].config.url", 2213)],
            ),
            (
                "on_http_request: [{actions: [{type: forward-internal, \
                 config: {url: 'https://x.internal', on_error: continue}}]}]",
                https,
                &[("on_http_request[0].actions[0].config.on_error", 2203)],
            ),
            (
                "on_http_request: [{actions: [{type: forward-internal, \
                 config: {url: 'https://x.internal', on_error: stop, weight: 1}}]}]",
                https,
                &[
                    ("on_http_request[0].actions[0].config.on_error", 2204),
                    ("on_http_request[0].actions[0].config.weight", 2204),
                ],
            ),
            (
                "on_tcp_connect: [{actions: [{type: forward-internal, config: {url: 'https://x.internal'}}]}]",
                https,
                &[("on_tcp_connect[0].actions[0].config", 2205)],
            ),
            // custom-response.
            (
                "on_http_request: [{actions: [{type: custom-response, config: {status_code: 101}}]}]",
                https,
                &[("on_http_request[0].actions[0].config.status_code", 2215)],
            ),
            (
                "on_http_request: [{actions: [{type: custom-response, config: {status_code: 204, body: x}}]}]",
                https,
                &[("on_http_request[0].actions[0].config.body", 2204)],
            ),
            (
                "on_http_request: [{actions: [{type: custom-response, config: {body: 'at ${time.now}'}}]}]",
                https,
                &[("on_http_request[0].actions[0].config.body", 2213)],
            ),
            (
                "on_http_request: [{actions: [{type: custom-response, config: {headers: [a]}}]}]",
                https,
                &[("on_http_request[0].actions[0].config.headers", 2203)],
            ),
            (
                "on_http_request: [{actions: [{type: custom-response, config: {headers: {'a b': x, c: 1, d: \"x\\ny\", \
                 e: '${x}', ngrok-error-code: ERR_NGROK_1, Transfer-Encoding: chunked}}}]}]",
                https,
                &[
                    ("on_http_request[0].actions[0].config.headers.c", 2203),
                    ("on_http_request[0].actions[0].config.headers.e", 2213),
                    ("on_http_request[0].actions[0].config.headers.Transfer-Encoding", 2210),
                    ("on_http_request[0].actions[0].config.headers.a b", 2210),
                    ("on_http_request[0].actions[0].config.headers.d", 2211),
                    ("on_http_request[0].actions[0].config.headers.ngrok-error-code", 2210),
                ],
            ),
            (
                "on_http_request: [{actions: [{type: custom-response, config: {headers: \
                 {a: x, b: x, c: x, d: x, e: x, f: x, g: x, h: x, i: x, j: x, k: x}}}]}]",
                https,
                &[("on_http_request[0].actions[0].config.headers", 2212)],
            ),
        ];
        for (text, url, expected) in table {
            let mut found = mistakes(text, agent(url));
            let mut expected: Vec<(String, u32)> =
                expected.iter().map(|(path, code)| ((*path).into(), *code)).collect();
            found.sort();
            expected.sort();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn all_mistakes_are_reported_at_once() {
        let text = "on_http_request: [{actions: [{type: nope}]}, {actions: [{type: deny, config: {x: 1}}]}]\nbogus: 1";
        let paths: Vec<String> =
            mistakes(text, agent("https://a.example.com")).into_iter().map(|(path, _)| path).collect();
        assert_eq!(paths.len(), 3, "{paths:?}");
    }

    #[test]
    fn message_says_what_would_be_right() {
        let place = agent("https://a.example.com");
        let errors = Policy::parse("on_http_request: [{actions: [{type: oauth}]}]", place).unwrap_err();
        assert_eq!(
            errors.to_string(),
            "on_http_request[0].actions[0].type: \"oauth\": is not an action that this gateway has: on_http_request has \
             custom-response, deny, forward-internal (ERR_NGROK_2201)"
        );
    }

    #[test]
    fn unreadable_document_is_not_quoted() {
        let errors = Policy::parse("on_http_request: [{x: s3cret", agent("https://a.example.com")).unwrap_err();
        assert!(!errors.to_string().contains("s3cret"), "{errors}");
        assert!(errors.to_string().contains("line 1"), "{errors}");
    }

    #[test]
    fn rules_at_the_bound_are_accepted_and_one_more_refused() {
        let rule = "{actions: [{type: deny}]}";
        let document = |count: usize| format!("on_tcp_connect: [{}]", vec![rule; count].join(","));
        let place = agent("tls://a.example.com");
        let found = mistakes(&document(RULES_MAX), place);
        assert!(found.iter().all(|(_, code)| *code == UNREACHABLE), "{found:?}");
        assert_eq!(mistakes(&document(RULES_MAX + 1), place), [("on_tcp_connect".to_owned(), RULES_TOO_MANY)]);
    }

    #[test]
    fn actions_at_the_bound_are_accepted_and_one_more_refused() {
        let action = "{type: deny}";
        let document = |count: usize| format!("on_tcp_connect: [{{actions: [{}]}}]", vec![action; count].join(","));
        let place = agent("tls://a.example.com");
        let found = mistakes(&document(ACTIONS_MAX), place);
        assert!(found.iter().all(|(_, code)| *code == UNREACHABLE), "{found:?}");
        let expected = [("on_tcp_connect[0].actions".to_owned(), POLICY_INVALID)];
        assert_eq!(mistakes(&document(ACTIONS_MAX + 1), place), expected);
    }

    #[test]
    fn large_deep_or_swelling_document_is_refused_without_effort() {
        let place = agent("https://a.example.com");
        let comment = |len: usize| format!("#{}", "x".repeat(len - 1));
        assert_eq!(mistakes(&comment(DOCUMENT_BYTES_MAX), place), []);
        assert_eq!(mistakes(&comment(DOCUMENT_BYTES_MAX + 1), place), [(String::new(), 9026)]);
        assert_eq!(mistakes(&"[".repeat(100_000), place), [(String::new(), 9026)]);
        assert_eq!(mistakes(&"{a: ".repeat(100_000), place), [(String::new(), 9026)]);
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
                    d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d,*d]\n";
        assert_eq!(mistakes(bomb, place), [(String::new(), 9026)]);
    }
}
