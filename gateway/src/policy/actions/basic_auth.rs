//! `basic-auth`: asks for a name and a password.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use ring::digest::{SHA256, digest};
use subtle::{Choice, ConstantTimeEq};

use super::super::Refused;
use super::super::error::{BASIC_AUTH_REFUSED, CONFIG_VALUE};
use super::super::expression::{Fault, Value};
use super::super::fields::Fields;
use super::super::phase::Phase;
use super::super::place::Place;
use super::super::run::{Run, error_code};
use super::super::template::Template;
use super::{Action, Kind, Outcome};

pub(super) const KIND: Kind = Kind { name: "basic-auth", phases: &[Phase::HttpRequest], compile };

struct BasicAuth {
    credentials: Vec<Template>,
    challenge: HeaderValue,
    enforce: bool,
}

impl std::fmt::Debug for BasicAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BasicAuth").field("credentials", &self.credentials.len()).finish_non_exhaustive()
    }
}

impl Action for BasicAuth {
    fn protects(&self) -> bool {
        self.enforce
    }

    fn run<'r>(&'r self, run: &'r mut Run<'_, '_, '_>) -> Outcome<'r> {
        let given = run.headers().and_then(|headers| given(headers));
        let is_known = match self.knows(given.as_deref(), run) {
            Ok(is_known) => is_known,
            Err(fault) => return Outcome::failed("credentials", &fault),
        };
        // Only a name that has proven itself is kept: what somebody merely says may be a password in the wrong place.
        let name = given.as_deref().filter(|_| is_known).and_then(|given| given.split_once(':')).map(|(name, _)| name);
        let credentials = [
            ("presented", Value::Bool(given.is_some())),
            ("username", Value::text(name.unwrap_or_default())),
            ("authorized", Value::Bool(is_known)),
        ];
        let mut result = vec![("credentials", Value::map(credentials)), ("authorized", Value::Bool(is_known))];
        if !is_known {
            let code = Value::text(&error_code(BASIC_AUTH_REFUSED));
            result.push(("error", Value::map([("code", code), ("message", Value::text(MESSAGE))])));
        }
        run.set_result("basic_auth", Value::map(result));
        if is_known || !self.enforce {
            return Outcome::NEXT;
        }
        let mut refused = Refused::new(StatusCode::UNAUTHORIZED, BASIC_AUTH_REFUSED, MESSAGE);
        refused.headers.insert(WWW_AUTHENTICATE, self.challenge.clone());
        refused.reason = Some(if given.is_some() { "wrong name or password" } else { "no credentials" }.into());
        Outcome::refuse(refused)
    }
}

impl BasicAuth {
    /// Compares with all of them, in a time that says nothing about which one comes close.
    fn knows(&self, given: Option<&str>, run: &mut Run<'_, '_, '_>) -> Result<bool, Fault> {
        let given = given.map(|given| digest(&SHA256, given.as_bytes()));
        let mut is_known = Choice::from(0);
        for credential in &self.credentials {
            let known = run.render(credential)?;
            if check(&known).is_err() {
                return Err(Fault::Invalid("a credential is not name:password within the limits".into()));
            }
            let known = digest(&SHA256, known.as_bytes());
            if let Some(given) = &given {
                is_known |= known.as_ref().ct_eq(given.as_ref());
            }
        }
        Ok(is_known.into())
    }
}

/// What the request gives as `name:password`.
fn given(headers: &HeaderMap) -> Option<String> {
    let line = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credentials) = line.split_once(' ')?;
    let bytes = STANDARD.decode(credentials.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    String::from_utf8(bytes).ok()
}

fn check(credential: &str) -> Result<(), &'static str> {
    let (name, password) =
        credential.split_once(':').ok_or("must be name:password; the value is not shown, it may be a secret")?;
    if name.len() > NAME_BYTES_MAX {
        return Err("has a name of more than 128 bytes");
    }
    if !(PASSWORD_BYTES_MIN..=PASSWORD_BYTES_MAX).contains(&password.len()) {
        return Err("must have a password of 8 to 128 bytes");
    }
    Ok(())
}

fn compile(fields: &mut Fields<'_>, _phase: Phase, _place: Place) -> Option<Box<dyn Action>> {
    let mut credentials = Vec::new();
    for (index, template) in fields.secret_list("credentials", 1..=CREDENTIALS_MAX, CONFIG_VALUE) {
        match template.fixed().map_or(Ok(()), check) {
            Ok(()) => credentials.push(template),
            Err(message) => fields.wrong_item("credentials", index, CONFIG_VALUE, message),
        }
    }
    let realm = fields.text("realm").unwrap_or("ngrok");
    let is_plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\';
    if realm.len() > REALM_BYTES_MAX || !realm.bytes().all(is_plain) {
        fields.wrong("realm", CONFIG_VALUE, "must be at most 128 printable ASCII characters, without \" and \\");
    }
    let enforce = fields.bool("enforce", true);
    let challenge = HeaderValue::from_str(&format!("Basic realm=\"{realm}\", charset=\"UTF-8\""));
    Some(Box::new(BasicAuth { credentials, challenge: challenge.ok()?, enforce }))
}

const MESSAGE: &str = "This endpoint asks for a name and a password.";

/// As in ngrok's reference.
const CREDENTIALS_MAX: usize = 10;
const NAME_BYTES_MAX: usize = 128;
const PASSWORD_BYTES_MIN: usize = 8;
const PASSWORD_BYTES_MAX: usize = 128;
const REALM_BYTES_MAX: usize = 128;
