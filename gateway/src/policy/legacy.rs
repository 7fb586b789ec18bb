//! The modules by which SDKs asked for treatment of traffic before there was Traffic Policy, written as a policy.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::place::Place;
use super::{Policy, PolicyErrors};

/// Names those of an agent's modules that nothing here does the work of.
pub fn untranslatable(modules: &[String]) -> Vec<&str> {
    modules.iter().map(String::as_str).filter(|name| !TRANSLATED.contains(name)).collect()
}

/// Writes modules as a policy; `modules` are the names of those that the options have set.
///
/// # Errors
///
/// What about them cannot be honoured.
pub fn translate(options: &Map<String, Value>, modules: &[String], place: Place) -> Result<Policy, String> {
    let refused = untranslatable(modules);
    if !refused.is_empty() {
        return Err(unsupported(&refused));
    }
    let mut rules = Rules::default();
    for name in TRANSLATED.into_iter().filter(|name| modules.iter().any(|module| module == name)) {
        let mut found = options.iter().filter(|(key, value)| key.eq_ignore_ascii_case(name) && !value.is_null());
        let (Some((_, Value::Object(module))), None) = (found.next(), found.next()) else {
            return Err(format!("{name} must be one object"));
        };
        if module.values().any(holds_template) {
            return Err(format!(
                "{name} has ${{ in one of its values, which a Traffic Policy would take for a template"
            ));
        }
        rules.add(name, module)?;
    }
    let first = if place.scheme().is_http() { "on_http_request" } else { "on_tcp_connect" };
    let terminate = (!rules.tls.is_empty()).then(|| rule("TLS", "terminate-tls", &rules.tls.into()));
    let mut document = Map::new();
    if place.scheme().is_http() {
        document.insert("on_tcp_connect".to_owned(), terminate.into_iter().collect());
    } else {
        // Behind the restriction of addresses, which needs no handshake.
        rules.request.extend(terminate);
    }
    document.insert(first.to_owned(), rules.request.into());
    document.insert("on_http_response".to_owned(), rules.response.into());
    // The path leads into a document that nobody wrote; the message says enough.
    let message = |errors: PolicyErrors| match errors.errors() {
        [first, ..] => format!("{} cannot be honoured: {}", modules.join(", "), first.message),
        [] => format!("{} cannot be honoured", modules.join(", ")),
    };
    Policy::from_value(&Value::Object(document), place).map_err(message)
}

/// What to say of modules that nothing here does the work of.
pub fn unsupported(modules: &[&str]) -> String {
    let names = modules.join(", ");
    format!("this gateway does not support {names}, and does not publish an endpoint without it; use a Traffic Policy")
}

#[derive(Default)]
struct Rules {
    /// The fields of a `terminate-tls`.
    tls: Map<String, Value>,
    request: Vec<Value>,
    response: Vec<Value>,
}

impl Rules {
    fn add(&mut self, name: &'static str, module: &Map<String, Value>) -> Result<(), String> {
        match name {
            "IPRestriction" => {
                check_members(name, module, &["allow_cidrs", "deny_cidrs"])?;
                let lists =
                    json!({"allow": texts(name, module, "allow_cidrs")?, "deny": texts(name, module, "deny_cidrs")?});
                self.request.push(rule(name, "restrict-ips", &lists));
            }
            "UserAgentFilter" => {
                check_members(name, module, &["allow", "deny"])?;
                self.user_agents(name, &texts(name, module, "allow")?, "!")?;
                self.user_agents(name, &texts(name, module, "deny")?, "")?;
            }
            "BasicAuth" => {
                check_members(name, module, &["credentials"])?;
                let list = module.get("credentials").and_then(Value::as_array).ok_or("BasicAuth has no credentials")?;
                let credentials = list.iter().map(credential).collect::<Result<Vec<String>, String>>()?;
                self.request.push(rule(name, "basic-auth", &json!({"credentials": credentials})));
            }
            "OAuth" => {
                check_members(name, module, &[&["provider"], &PEOPLE_MEMBERS[..]].concat())?;
                let provider = module.get("provider").and_then(Value::as_str).unwrap_or_default();
                self.people(name, ("oauth", "oauth"), module, ("provider", provider))?;
            }
            "OIDC" => {
                check_members(name, module, &[&["issuer_url"], &PEOPLE_MEMBERS[..]].concat())?;
                let issuer = module.get("issuer_url").and_then(Value::as_str).unwrap_or_default();
                self.people(name, ("openid-connect", "oidc"), module, ("issuer_url", issuer))?;
            }
            "MutualTLSCA" | "MutualTLSAtEdge" => {
                check_members(name, module, &["mutual_tls_ca"])?;
                let authorities =
                    decoded(name, module, "mutual_tls_ca")?.ok_or(format!("{name} has no mutual_tls_ca"))?;
                self.tls.insert("mutual_tls_certificate_authorities".to_owned(), vec![authorities].into());
                self.tls.insert("mutual_tls_verification_strategy".to_owned(), "require-and-verify".into());
            }
            "TLSTermination" => {
                check_members(name, module, &["cert", "key"])?;
                // Said in any case, so that the rule is there also without a certificate of its own.
                self.tls.insert("min_version".to_owned(), "1.2".into());
                for (member, field) in [("cert", "server_certificate"), ("key", "server_private_key")] {
                    if let Some(text) = decoded(name, module, member)? {
                        self.tls.insert(field.to_owned(), text.into());
                    }
                }
            }
            "WebhookVerification" => {
                check_members(name, module, &["provider", "secret"])?;
                let text = |member| module.get(member).and_then(Value::as_str).unwrap_or_default();
                let config = json!({"provider": text("provider"), "secret": text("secret")});
                self.request.push(rule(name, "verify-webhook", &config));
            }
            "CircuitBreaker" => {
                check_members(name, module, &["error_threshold"])?;
                let threshold = module.get("error_threshold").filter(|threshold| !threshold.is_null());
                let config = threshold.map_or_else(|| json!({}), |threshold| json!({"error_threshold": threshold}));
                self.request.push(rule(name, "circuit-breaker", &config));
            }
            "Compression" => {
                check_members(name, module, &[])?;
                self.response.push(rule(name, "compress-response", &json!({})));
            }
            "RequestHeaders" => headers(name, module, &mut self.request)?,
            "ResponseHeaders" => headers(name, module, &mut self.response)?,
            _ => return Err(unsupported(&[name])),
        }
        Ok(())
    }

    /// Lets in who has logged in, and of them those alone whose address of mail is named, if any is.
    fn people(
        &mut self,
        name: &str,
        (action, result): (&str, &str),
        module: &Map<String, Value>,
        (field, provider): (&str, &str),
    ) -> Result<(), String> {
        let text = |member| module.get(member).and_then(Value::as_str).unwrap_or_default();
        if text("client_id").is_empty() || text("client_secret").is_empty() {
            return Err(format!(
                "{name} has no client_id and client_secret: this gateway has no apps of its own at the providers"
            ));
        }
        let mut config = json!({"client_id": text("client_id"), "client_secret": text("client_secret")});
        config[field] = provider.into();
        let scopes = texts(name, module, "scopes")?;
        if !scopes.is_empty() {
            config["scopes"] = scopes.into();
        }
        self.request.push(rule(name, action, &config));
        let email = format!("actions.ngrok.{result}.identity.email.lower()");
        let quoted = |text: String| serde_json::to_string(&text).map_err(|error| error.to_string());
        let mut tests = Vec::new();
        for address in texts(name, module, "allow_emails")? {
            tests.push(format!("{email} == {}", quoted(address.to_lowercase())?));
        }
        for domain in texts(name, module, "allow_domains")? {
            tests.push(format!("{email}.endsWith({})", quoted(format!("@{}", domain.to_lowercase()))?));
        }
        if !tests.is_empty() {
            let refuses = format!("!({})", tests.join(" || "));
            self.request.push(json!({"name": name, "expressions": [refuses], "actions": [{"type": "deny"}]}));
        }
        Ok(())
    }

    /// Refuses who matches one of the patterns, or with `!` who matches none.
    fn user_agents(&mut self, name: &str, patterns: &[&str], not: &str) -> Result<(), String> {
        if patterns.is_empty() {
            return Ok(());
        }
        let quoted = |pattern: &&str| serde_json::to_string(pattern).map_err(|error| error.to_string());
        let tests = patterns.iter().map(|pattern| Ok(format!("req.user_agent.matches({})", quoted(pattern)?)));
        let tests = tests.collect::<Result<Vec<String>, String>>()?.join(" || ");
        let rule = json!({"name": name, "expressions": [format!("{not}({tests})")], "actions": [{"type": "deny"}]});
        self.request.push(rule);
        Ok(())
    }
}

fn rule(name: &str, action: &str, config: &Value) -> Value {
    json!({"name": name, "actions": [{"type": action, "config": config}]})
}

fn check_members(name: &str, module: &Map<String, Value>, known: &[&str]) -> Result<(), String> {
    match module.iter().find(|(key, value)| !known.contains(&key.as_str()) && !is_empty(value)) {
        Some((key, _)) => {
            let key: String = key.chars().take(NAME_CHARS_MAX).flat_map(char::escape_debug).collect();
            Err(format!("this gateway does not support {name}.{key}, and does not publish an endpoint without it"))
        }
        None => Ok(()),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

fn holds_template(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains("${"),
        Value::Array(list) => list.iter().any(holds_template),
        Value::Object(map) => map.iter().any(|(key, value)| key.contains("${") || holds_template(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn texts<'m>(name: &str, module: &'m Map<String, Value>, member: &str) -> Result<Vec<&'m str>, String> {
    let malformed = || format!("{name}.{member} must be a list of texts");
    match module.get(member) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(list)) => list.iter().map(|text| text.as_str().ok_or_else(malformed)).collect(),
        Some(_) => Err(malformed()),
    }
}

/// The text of a member that is base64 on the wire; nothing when it is empty.
fn decoded(name: &str, module: &Map<String, Value>, member: &str) -> Result<Option<String>, String> {
    let malformed = || format!("{name}.{member} must be PEM text in base64");
    match module.get(member) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) => {
            let bytes = STANDARD.decode(text).map_err(|_| malformed())?;
            let text = String::from_utf8(bytes).map_err(|_| malformed())?;
            // What is no PEM text must not be taken for anything else by the policy, as for a template.
            if text.contains("-----BEGIN") && !text.contains("${") { Ok(Some(text)) } else { Err(malformed()) }
        }
        Some(_) => Err(malformed()),
    }
}

fn credential(value: &Value) -> Result<String, String> {
    let map = value.as_object().ok_or("BasicAuth.credentials must be objects")?;
    check_members("BasicAuth.credentials", map, &["username", "cleartext_password"])?;
    let text = |member| map.get(member).and_then(Value::as_str).unwrap_or_default();
    Ok(format!("{}:{}", text("username"), text("cleartext_password")))
}

/// Those to remove go first, so that one can be replaced.
fn headers(name: &str, module: &Map<String, Value>, rules: &mut Vec<Value>) -> Result<(), String> {
    check_members(name, module, &["add", "remove", "addParsed"])?;
    let remove = texts(name, module, "remove")?;
    if !remove.is_empty() {
        rules.push(rule(name, "remove-headers", &json!({"headers": remove})));
    }
    let mut add = Map::new();
    for line in texts(name, module, "add")? {
        let (header, value) =
            line.split_once(':').ok_or_else(|| format!("{name}.add must be texts such as name:value"))?;
        add.insert(header.trim().to_owned(), value.trim().into());
    }
    match module.get("addParsed") {
        None | Some(Value::Null) => {}
        Some(Value::Object(parsed)) => add.extend(parsed.clone()),
        Some(_) => return Err(format!("{name}.addParsed must be an object")),
    }
    if !add.is_empty() {
        rules.push(rule(name, "add-headers", &json!({"headers": add})));
    }
    Ok(())
}

/// In the order in which they act.
const TRANSLATED: [&str; 13] = [
    "IPRestriction",
    "TLSTermination",
    "MutualTLSAtEdge",
    "MutualTLSCA",
    "UserAgentFilter",
    "BasicAuth",
    "OAuth",
    "OIDC",
    "WebhookVerification",
    "CircuitBreaker",
    "RequestHeaders",
    "ResponseHeaders",
    "Compression",
];
/// Of the modules that send people to a provider.
const PEOPLE_MEMBERS: [&str; 5] = ["client_id", "client_secret", "allow_emails", "allow_domains", "scopes"];
const NAME_CHARS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use adit::endpoint_url::EndpointUrl;
    use http::{HeaderValue, StatusCode};

    use super::super::payload::Whole;
    use super::super::{Connection, Position, Request, State, Tls, Tools, Verdict};
    use super::*;

    fn translated(url: &str, options: Value) -> Result<Policy, String> {
        let options = options.as_object().unwrap().clone();
        let modules: Vec<String> = options.keys().cloned().collect();
        translate(&options, &modules, Place::agent(&EndpointUrl::parse(url).unwrap()))
    }

    async fn ask(policy: &Policy, headers: &[(&'static str, &'static str)]) -> (Verdict, http::HeaderMap) {
        let endpoint = EndpointUrl::parse("https://a.example.com").unwrap();
        let address = "192.0.2.1:1000".parse().unwrap();
        let connection = Connection {
            peer: address,
            local: address,
            scheme: endpoint.scheme(),
            endpoint: &endpoint,
            tls: Tls::Unknown,
            bind: None,
            course: None,
        };
        let (mut head, ()) = http::Request::new(()).into_parts();
        for (name, value) in headers {
            head.headers.append(*name, HeaderValue::from_static(value));
        }
        let mut request = Request { connection, head: &mut head };
        let tools = Tools { payload: Some(Arc::new(Whole::default())), ..Tools::default() };
        let mut state = State::new("main".into(), tools);
        let verdict = policy.on_http_request(&mut request, &mut state, Position::default()).await;
        (verdict, head.headers)
    }

    fn status(verdict: Verdict) -> u16 {
        match verdict {
            Verdict::Continue => 200,
            Verdict::Deny { status } => status.as_u16(),
            Verdict::Refuse(refused) => refused.status.as_u16(),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn modules_do_what_they_did() {
        let url = "https://a.example.com";
        let policy =
            translated(url, json!({"IPRestriction": {"allow_cidrs": ["10.0.0.0/8"], "deny_cidrs": null}})).unwrap();
        assert_eq!(status(ask(&policy, &[]).await.0), 403);
        let policy = translated(url, json!({"IPRestriction": {"deny_cidrs": ["10.0.0.0/8"]}})).unwrap();
        assert_eq!(status(ask(&policy, &[]).await.0), 200);
        let filter = json!({"UserAgentFilter": {"allow": ["^curl/", "(?i)mozilla"], "deny": ["bot\""]}});
        let policy = translated(url, filter).unwrap();
        for (agent, expected) in [("curl/8", 200), ("MOZILLA", 200), ("wget", 403), ("curl/8 bot\"", 403)] {
            let (verdict, _) = ask(&policy, &[("user-agent", agent)]).await;
            assert_eq!(status(verdict), expected, "{agent}");
        }
        let auth = json!({"BasicAuth": {"credentials": [{"username": "ann", "cleartext_password": "longenough"}]}});
        let policy = translated(url, auth).unwrap();
        assert_eq!(status(ask(&policy, &[]).await.0), StatusCode::UNAUTHORIZED);
        assert_eq!(status(ask(&policy, &[("authorization", "Basic YW5uOmxvbmdlbm91Z2g=")]).await.0), 200);
        let headers = json!({"RequestHeaders": {"add": ["x-a:1", "x-b: 2:3"], "remove": ["x-c"], "addParsed": {}}});
        let (verdict, head) = ask(&translated(url, headers).unwrap(), &[("x-c", "0")]).await;
        assert_eq!((status(verdict), head.len()), (200, 2));
        assert_eq!((&head["x-a"], &head["x-b"]), (&HeaderValue::from_static("1"), &HeaderValue::from_static("2:3")));
        assert!(translated(url, json!({"ResponseHeaders": {"add": ["x-a:1"]}})).unwrap().has_response_rules());
        let hook = json!({"WebhookVerification": {"provider": "gitlab", "secret": "s3cret", "sealed_secret": ""}});
        let policy = translated(url, hook).unwrap();
        assert_eq!(status(ask(&policy, &[("x-gitlab-token", "s3cret")]).await.0), 200);
        assert_eq!(status(ask(&policy, &[("x-gitlab-token", "other")]).await.0), 403);
        assert!(translated(url, json!({"Compression": {}})).unwrap().has_response_rules());
        for breaker in [json!({}), json!({"error_threshold": null}), json!({"error_threshold": 0.25})] {
            let policy = translated(url, json!({"CircuitBreaker": breaker})).unwrap();
            assert_eq!(status(ask(&policy, &[]).await.0), 200);
        }
        assert!(translated("tcp://a.example.com:1", json!({"IPRestriction": {"allow_cidrs": ["::/0"]}})).is_ok());
    }

    #[tokio::test]
    async fn people_have_to_log_in_at_the_provider_that_a_module_names() {
        use crate::login::{LogIns, seal::Keys, spent::Journal};

        let module = json!({"OAuth": {"provider": "google", "client_id": "site", "client_secret": "s3cret",
            "allow_emails": ["Ann@example.com"], "allow_domains": ["example.org"], "scopes": []}});
        let policy = translated("https://a.example.com", module).unwrap();
        assert!(policy.logs_in());
        let endpoint = EndpointUrl::parse("https://a.example.com").unwrap();
        let address = "192.0.2.1:1000".parse().unwrap();
        let connection = Connection {
            peer: address,
            local: address,
            scheme: endpoint.scheme(),
            endpoint: &endpoint,
            tls: Tls::Unknown,
            bind: None,
            course: None,
        };
        let (mut head, ()) = http::Request::new(()).into_parts();
        head.headers.insert(http::header::HOST, HeaderValue::from_static("a.example.com"));
        let log_ins = LogIns::new(Keys::derive([&b"k"[..]]), Arc::new(Journal::in_memory()));
        let tools = Tools { log_ins: Some(Arc::new(log_ins)), ..Tools::default() };
        let mut state = State::new("main".into(), tools);
        let mut request = Request { connection, head: &mut head };
        let verdict = policy.on_http_request(&mut request, &mut state, Position::default()).await;
        let Verdict::Respond(response) = verdict else { panic!("{verdict:?}") };
        let location = response.headers[http::header::LOCATION].to_str().unwrap();
        assert!(location.starts_with("https://accounts.google.com/o/oauth2/v2/auth?"), "{location}");
        assert!(location.contains("client_id=site") && !location.contains("s3cret"), "{location}");
    }

    #[test]
    fn modules_for_tls_become_one_end_of_tls() {
        let made = rcgen::generate_simple_self_signed(vec!["a.example.com".to_owned()]).unwrap();
        let (certificate, key) = (STANDARD.encode(made.cert.pem()), STANDARD.encode(made.signing_key.serialize_pem()));
        let ends = |url: &str, options: Value| {
            let policy = translated(url, options)?;
            let endpoint = EndpointUrl::parse(url).unwrap();
            let address = "192.0.2.1:1000".parse().unwrap();
            let connection = Connection {
                peer: address,
                local: address,
                scheme: endpoint.scheme(),
                endpoint: &endpoint,
                tls: Tls::Begun(None),
                bind: None,
                course: None,
            };
            match policy.on_tcp_connect(connection, &mut State::default(), Position::default()) {
                Verdict::TerminateTls { termination, .. } => Ok(format!("{termination:?}")),
                other => Err(format!("{other:?}")),
            }
        };
        let mutual = json!({"mutual_tls_ca": certificate});
        let end = ends("https://a.example.com", json!({"MutualTLSCA": mutual})).unwrap();
        assert!(end.contains("RequireAndVerify"), "{end}");
        let pair = json!({"cert": certificate, "key": key, "sealed_key": ""});
        let both =
            json!({"TLSTermination": pair, "MutualTLSAtEdge": mutual, "IPRestriction": {"deny_cidrs": ["::/0"]}});
        let end = ends("tls://a.example.com", both).unwrap();
        assert!(end.contains("own: true") && end.contains("RequireAndVerify"), "{end}");
        let end = ends("tls://a.example.com", json!({"TLSTermination": {"cert": "", "key": null}})).unwrap();
        assert!(end.contains("own: false") && end.contains("clients: None"), "{end}");
        for (url, options, reason) in [
            ("https://a.internal", json!({"MutualTLSCA": mutual}), "on_tcp_connect"),
            ("http://a.example.com", json!({"MutualTLSCA": mutual}), "http has no TLS"),
            ("https://a.example.com", json!({"MutualTLSCA": {"mutual_tls_ca": ""}}), "has no mutual_tls_ca"),
            ("tls://a.example.com", json!({"TLSTermination": {"cert": certificate}}), "or none of them"),
            ("tls://a.example.com", json!({"TLSTermination": {"cert": "aHVudGVy", "key": key}}), "TLSTermination.cert"),
            ("tls://a.example.com", json!({"TLSTermination": {"sealed_key": "eA=="}}), "TLSTermination.sealed_key"),
        ] {
            let error = ends(url, options).unwrap_err();
            assert!(error.contains(reason), "{reason}: {error}");
        }
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name_and_without_secrets() {
        for (options, reason) in [
            (json!({"MutualTLSCA": {"mutual_tls_ca": "Q0E="}}), "MutualTLSCA"),
            (json!({"OAuth": {"provider": "google"}}), "OAuth has no client_id"),
            (json!({"OIDC": {"client_id": "a", "client_secret": "s3cret"}}), "OIDC cannot be honoured"),
            (
                json!({"OIDC": {"issuer_url": "http://127.0.0.1", "client_id": "a", "client_secret": "s3cret"}}),
                "http:// is for a server on this machine",
            ),
            (
                json!({"OAuth": {"provider": "nobody", "client_id": "a", "client_secret": "s3cret"}}),
                "must be one of amazon",
            ),
            (
                json!({"OAuth": {"provider": "google", "client_id": "a", "sealed_client_secret": "eA==",
                    "client_secret": "s3cret"}}),
                "OAuth.sealed_client_secret",
            ),
            (
                json!({"OAuth": {"provider": "google", "client_id": "a", "client_secret": "s3cret"},
                    "OIDC": {"issuer_url": "https://idp.example.com", "client_id": "a", "client_secret": "s3cret"}}),
                "second action that logs people in",
            ),
            (json!({"SAML": {}, "BasicAuth": {}}), "SAML"),
            (json!({"Compression": {"level": 9}}), "Compression.level"),
            (json!({"CircuitBreaker": {"error_threshold": 2}}), "CircuitBreaker cannot be honoured"),
            (json!({"CircuitBreaker": {"error_threshold": 0.5, "x": 1}}), "CircuitBreaker.x"),
            (json!({"WebhookVerification": {"provider": "x", "secret": "s3cret"}}), "WebhookVerification cannot be"),
            (json!({"WebhookVerification": {"provider": "github"}}), "must not be empty"),
            (
                json!({"WebhookVerification": {"provider": "github", "secret": "", "sealed_secret": "czNjcmV0"}}),
                "WebhookVerification.sealed_secret",
            ),
            (json!({"BasicAuth": {}}), "BasicAuth has no credentials"),
            (json!({"BasicAuth": {"credentials": [{"username": "a", "cleartext_password": "s3cret"}]}}), "8 to 128"),
            (
                json!({"BasicAuth": {"credentials": [{"username": "a", "hashed_password": "czNjcmV0"}]}}),
                "hashed_password",
            ),
            (json!({"BasicAuth": {"credentials": [{"username": "a", "cleartext_password": "${s3cret}x"}]}}), "${"),
            (json!({"IPRestriction": {"allow_cidrs": ["nowhere"]}}), "IPRestriction cannot be honoured"),
            (json!({"IPRestriction": {"allow_cidrs": [7]}}), "IPRestriction.allow_cidrs"),
            (json!({"IPRestriction": {"ip_policies": ["ipp_1"]}}), "IPRestriction.ip_policies"),
            (json!({"IPRestriction": {}}), "IPRestriction cannot be honoured"),
            (json!({"UserAgentFilter": {"deny": ["("]}}), "UserAgentFilter cannot be honoured"),
            (json!({"RequestHeaders": {"add": ["x-a"]}}), "RequestHeaders.add"),
            (json!({"RequestHeaders": true}), "RequestHeaders must be one object"),
        ] {
            let error = translated("https://a.example.com", options).unwrap_err();
            assert!(error.contains(reason) && !error.contains("s3cret"), "{reason}: {error}");
        }
    }
}
