//! What is wrong with a policy document, all of it at once.

use std::fmt;

use serde_json::Value;

use super::path::Path;

/// One mistake in a policy document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyError {
    /// Where it is, as `on_http_request[0].actions[1].config.url`; empty when the document as a whole is meant.
    pub path: String,
    /// What stands there, cut short; empty when nothing does or when it must not be repeated.
    pub value: String,
    /// The number of its ERR_NGROK code.
    pub code: u32,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.path.is_empty() { "policy" } else { &self.path })?;
        if !self.value.is_empty() {
            write!(f, ": {}", self.value)?;
        }
        write!(f, ": {} (ERR_NGROK_{})", self.message, self.code)
    }
}

impl std::error::Error for PolicyError {}

/// All mistakes of one document, in its order; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyErrors {
    errors: Vec<PolicyError>,
    omitted: usize,
}

impl PolicyErrors {
    /// The mistakes, at most 64 of them.
    pub fn errors(&self) -> &[PolicyError] {
        &self.errors
    }

    /// The code of the first one, which stands for the whole in the answer to a Bind.
    pub fn code(&self) -> u32 {
        self.errors.first().map_or(POLICY_INVALID, |error| error.code)
    }
}

impl fmt::Display for PolicyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        if self.omitted > 0 {
            write!(f, "\nand {} more", self.omitted)?;
        }
        Ok(())
    }
}

impl std::error::Error for PolicyErrors {}

/// Collects mistakes while a document is read.
#[derive(Debug, Default)]
pub(super) struct Findings {
    errors: Vec<PolicyError>,
    omitted: usize,
}

impl Findings {
    /// Notes a mistake at a value that may be shown.
    pub(super) fn add(&mut self, path: Path<'_>, value: &Value, code: u32, message: impl Into<String>) {
        self.note(path, shown(value), code, message.into());
    }

    /// Notes a mistake where nothing stands, or something that must not be repeated.
    pub(super) fn add_bare(&mut self, path: Path<'_>, code: u32, message: impl Into<String>) {
        self.note(path, String::new(), code, message.into());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    /// The mistakes, or `value` when there are none.
    pub(super) fn into_result<T>(self, value: T) -> Result<T, PolicyErrors> {
        if self.errors.is_empty() {
            return Ok(value);
        }
        Err(PolicyErrors { errors: self.errors, omitted: self.omitted })
    }

    fn note(&mut self, path: Path<'_>, value: String, code: u32, message: String) {
        if self.errors.len() >= ERRORS_MAX {
            self.omitted += 1;
            return;
        }
        self.errors.push(PolicyError { path: path.to_string(), value, code, message });
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(value) => value.to_string(),
        Value::Number(value) => value.to_string(),
        Value::String(text) => {
            let cut: String = text.chars().take(VALUE_CHARS_MAX).collect();
            let more = if cut.len() < text.len() { "…" } else { "" };
            format!("{cut:?}{more}")
        }
        Value::Array(list) => format!("a list of {}", list.len()),
        Value::Object(_) => "an object".into(),
    }
}

/// A document can be wrong in very many places; nobody reads more than this, and the answer to a Bind stays small.
const ERRORS_MAX: usize = 64;

/// Enough to recognise the value, short enough for a log line.
const VALUE_CHARS_MAX: usize = 64;

/// ERR_NGROK_9026: the policy is not valid (in a way that has no code of its own).
pub(super) const POLICY_INVALID: u32 = 9026;
/// ERR_NGROK_2200: an expression is not valid.
pub(super) const EXPRESSION: u32 = 2200;
/// ERR_NGROK_2201: there is no action of this type.
pub(super) const ACTION_UNKNOWN: u32 = 2201;
/// ERR_NGROK_2202: the action does not work in this phase.
pub(super) const ACTION_PHASE: u32 = 2202;
/// ERR_NGROK_2203: the action's configuration cannot be read.
pub(super) const CONFIG: u32 = 2203;
/// ERR_NGROK_2204: a field of the action's configuration has a wrong value.
pub(super) const CONFIG_VALUE: u32 = 2204;
/// ERR_NGROK_2205: the action does not work with this protocol.
pub(super) const ACTION_PROTOCOL: u32 = 2205;
/// ERR_NGROK_2206: a rule has no action.
pub(super) const ACTIONS_MISSING: u32 = 2206;
/// ERR_NGROK_2207: an action can never run.
pub(super) const UNREACHABLE: u32 = 2207;
/// ERR_NGROK_2210: the name of a header is not valid.
pub(super) const HEADER_NAME: u32 = 2210;
/// ERR_NGROK_2211: the value of a header is not valid.
pub(super) const HEADER_VALUE: u32 = 2211;
/// ERR_NGROK_2212: there are too many headers.
pub(super) const HEADERS_TOO_MANY: u32 = 2212;
/// ERR_NGROK_2213: a `${…}` template is not valid.
pub(super) const TEMPLATE: u32 = 2213;
/// ERR_NGROK_2215: a number is out of its range.
pub(super) const RANGE: u32 = 2215;
/// ERR_NGROK_2216: an IP policy is not known.
pub(super) const IP_POLICY: u32 = 2216;
/// ERR_NGROK_2217: a network is not valid.
pub(super) const CIDR: u32 = 2217;
/// ERR_NGROK_2218: there are too many networks.
pub(super) const CIDRS_TOO_MANY: u32 = 2218;
/// ERR_NGROK_2227: an OpenID provider cannot be used as it is described.
pub(super) const ISSUER: u32 = 2227;
/// ERR_NGROK_2230: the phase does not exist for this scheme.
pub(super) const PHASE_SCHEME: u32 = 2230;
/// ERR_NGROK_2235: a cloud endpoint's policy may leave traffic without an answer.
pub(super) const NOT_TERMINATING: u32 = 2235;
/// ERR_NGROK_2239: a policy has more than one action that logs people in.
pub(super) const LOG_INS_TOO_MANY: u32 = 2239;
/// ERR_NGROK_2262: internal HTTP endpoints have no connection of their own.
pub(super) const INTERNAL_HTTP_CONNECT: u32 = 2262;
/// ERR_NGROK_2264: there are too many rules.
pub(super) const RULES_TOO_MANY: u32 = 2264;

/// ERR_NGROK_2300: an action or a condition could not be worked out for a request.
pub(super) const EVALUATION_FAILED: u32 = 2300;
/// ERR_NGROK_3002: the TLS of a connection is not what the endpoint asks for.
pub(super) const TLS_UNFIT: u32 = 3002;
/// ERR_NGROK_3202: a circuit breaker has tripped.
pub(super) const CIRCUIT_OPEN: u32 = 3202;
/// ERR_NGROK_3203: the visitor's address is not let through.
pub(super) const IP_REFUSED: u32 = 3203;
/// ERR_NGROK_3204: name or password are wrong.
pub(super) const BASIC_AUTH_REFUSED: u32 = 3204;
/// ERR_NGROK_3204: a webhook is not signed as it should.
pub(super) const WEBHOOK_REFUSED: u32 = 3204;
/// ERR_NGROK_3401: a token is not valid.
pub(super) const JWT_INVALID: u32 = 3401;
/// ERR_NGROK_3403: a token is valid, but not for this endpoint.
pub(super) const JWT_NOT_PERMITTED: u32 = 3403;
/// ERR_NGROK_3406: there is no token.
pub(super) const JWT_MISSING: u32 = 3406;
/// ERR_NGROK_3408: the header that has to bring a token is not there.
pub(super) const JWT_HEADER_MISSING: u32 = 3408;
/// ERR_NGROK_3411: the body that has to bring a token is no JSON object.
pub(super) const JWT_BODY_JSON: u32 = 3411;
/// ERR_NGROK_3412: the body that has to bring a token is no form.
pub(super) const JWT_BODY_FORM: u32 = 3412;
/// ERR_NGROK_3414: a body of this type brings no tokens.
pub(super) const JWT_BODY_TYPE: u32 = 3414;
/// ERR_NGROK_3415: a request of this method brings no tokens in a body.
pub(super) const JWT_BODY_METHOD: u32 = 3415;
/// ERR_NGROK_3413: the prefix of a token is not there.
pub(super) const JWT_PREFIX: u32 = 3413;
/// ERR_NGROK_3416: a token cannot be read.
pub(super) const JWT_UNPARSABLE: u32 = 3416;
/// ERR_NGROK_3422: the keys to check tokens with cannot be fetched.
pub(super) const JWT_KEYS: u32 = 3422;
/// ERR_NGROK_702: too many requests.
pub(super) const RATE_EXCEEDED: u32 = 702;
/// ERR_NGROK_3902: a regular expression is not valid.
pub(super) const PATTERN: u32 = 3902;
/// ERR_NGROK_3903: the body cannot be read for an action.
pub(super) const BODY_UNREAD: u32 = 3903;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn error_is_shown_with_place_value_code_and_advice() {
        let mut findings = Findings::default();
        findings.add(Path::Root.key("on_http_request"), &json!(7), POLICY_INVALID, "must be a list of rules");
        let errors = findings.into_result(()).unwrap_err();
        assert_eq!(errors.to_string(), "on_http_request: 7: must be a list of rules (ERR_NGROK_9026)");
        assert_eq!(errors.code(), 9026);
    }

    #[test]
    fn errors_beyond_the_bound_are_only_counted() {
        let mut findings = Findings::default();
        for _ in 0..ERRORS_MAX + 3 {
            findings.add_bare(Path::Root, CONFIG, "x");
        }
        let errors = findings.into_result(()).unwrap_err();
        assert_eq!(errors.errors().len(), ERRORS_MAX);
        assert!(errors.to_string().ends_with("\nand 3 more"));
    }

    #[test]
    fn long_value_is_cut() {
        assert_eq!(shown(&json!("x".repeat(100))), format!("\"{}\"…", "x".repeat(VALUE_CHARS_MAX)));
        assert_eq!(shown(&json!([1, 2])), "a list of 2");
    }
}
