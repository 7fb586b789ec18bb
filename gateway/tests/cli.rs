//! The command line of the gateway, with the real binary.

#![allow(clippy::unwrap_used)]

mod site;

use std::process::{Command, Output};

use adit_gateway::login::ending::Ending;
use adit_gateway::login::spent::Journal;
use adit_gateway::login::store::{Noted, Store};
use adit_gateway::token::Token;
use serde_json::{Value, json};
use site::{SMALLEST, Site};
use time::OffsetDateTime;

fn gateway(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_adit-gateway")).args(arguments).env_remove("ADIT_LOG").output().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

fn new_token(arguments: &[&str]) -> Output {
    gateway(&[&["token", "new"], arguments].concat())
}

#[test]
fn check_accepts_a_usable_file() {
    let site = Site::new();
    let file = site.write("gateway.yml", SMALLEST);
    let output = gateway(&["check", "--config", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        stdout(&output),
        format!("{}: ok: 1 account, 1 credential, 0 cloud endpoints, 1 certificate\n", file.display())
    );
    assert_eq!(stderr(&output), "");
}

#[test]
fn check_accepts_the_example() {
    let site = Site::new();
    let file = site.write("gateway.yml", include_str!("../example.yml"));
    let output = gateway(&["check", "--config", file.to_str().unwrap()]);
    assert_eq!(stderr(&output), "", "no warnings either");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn policy_check_says_what_is_wrong_where() {
    let site = Site::new();
    let good = "on_http_request: [{expressions: [\"req.method == 'GET'\"], actions: [{type: deny}]}]";
    let file = site.write("policy.yml", good);
    let file = file.to_str().unwrap();
    let output = gateway(&["policy", "check", file, "--agent"]);
    assert_eq!((output.status.code(), stdout(&output)), (Some(0), &*format!("{file}: ok for https://example.com\n")));
    let output = gateway(&["policy", "check", file]);
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("on_http_request: the policy of a cloud endpoint must answer all traffic"));
    let output = gateway(&["policy", "check", file, "--agent", "--url", "tcp://example.com:7"]);
    assert!(stderr(&output).contains("tcp endpoints have no on_http_request"), "{}", stderr(&output));
    site.write("policy.yml", "on_http_request: [{expressions: [nobody], actions: [{type: deny, config: {x: 1}}]}]");
    let output = gateway(&["policy", "check", file]);
    let expected =
        ["on_http_request[0].expressions[0]: \"nobody\": names nobody", "actions[0].config.x: is not a field"];
    for line in expected {
        assert!(stderr(&output).contains(line), "{}", stderr(&output));
    }
}

/// What `policy explain` prints for the document and these arguments, and its exit code.
fn explained(site: &Site, document: &str, arguments: &[&str]) -> (String, Option<i32>) {
    let file = site.write("policy.yml", document);
    let output = gateway(&[&["policy", "explain", file.to_str().unwrap()], arguments].concat());
    assert_eq!(stderr(&output), "");
    (stdout(&output).to_owned(), output.status.code())
}

const OFFICE: &str = "on_http_request:
  - name: only the office
    actions:
      - {type: restrict-ips, config: {allow: [192.0.2.0/24]}}
  - name: no strangers in admin
    expressions: [\"req.url.path.startsWith('/admin')\", \"!('admin' in getReqHeader('x-role'))\"]
    actions: [{type: deny, config: {status_code: 404}}]
  - actions:
      - {type: add-headers, config: {headers: {x-visitor: '${conn.client_ip}'}}}
      - {type: forward-internal, config: {url: 'https://api.internal'}}
on_http_response:
  - expressions: [res.status_code >= 500]
    actions: [{type: custom-response, config: {status_code: 503, body: later}}]
";

#[test]
fn policy_explain_says_which_rules_ran_with_which_values() {
    let site = Site::new();
    let admin = ["--url", "https://api.example.com/admin", "--peer", "192.0.2.7", "--header", "X-Role: user"];
    let (text, code) = explained(&site, OFFICE, &admin);
    assert_eq!(code, Some(0));
    let expected = "GET /admin from 192.0.2.7 to https://api.example.com
on_tcp_connect: no rules
on_http_request
  rule 0 \"only the office\": applies
    restrict-ips: goes on
      actions.ngrok.restrict_ips = {\"action\":\"allow\",\"error\":{\"code\":\"\",\"message\":\"\"},\"matched_cidr\":\"192.0.2.0/24\"}
  rule 1 \"no strangers in admin\": applies
    true: req.url.path.startsWith('/admin')
      req.url.path = \"/admin\"
    true: !('admin' in getReqHeader('x-role'))
      getReqHeader('x-role') = [\"user\"]
    deny: denied with 404 Not Found
  1 more rule is not come to
on_http_response: not run, the traffic has ended before
decision: denied with 404 Not Found
";
    assert_eq!(text, expected);

    let allowed = ["--url", "https://api.example.com/a", "--peer", "192.0.2.7", "--status", "502"];
    let (text, code) = explained(&site, OFFICE, &allowed);
    assert_eq!(code, Some(0));
    for line in [
        "    false: req.url.path.startsWith('/admin')",
        "    1 more, not evaluated",
        "      header x-visitor = 192.0.2.7",
        "    forward-internal: forwarded to https://api.internal",
        "    true: res.status_code >= 500",
        "      res.status_code = 502",
        "decision: answered with 503 Service Unavailable",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }

    let (text, _) = explained(&site, OFFICE, &["--peer", "198.51.100.1", "--url", "https://api.example.com/"]);
    assert!(text.contains("decision: refused with 403 Forbidden (ERR_NGROK_3203)"), "{text}");
    let tcp = "on_tcp_connect: [{expressions: ['conn.server_port == 7'], actions: [{type: close-connection}]}, {actions: \
               [{type: forward-internal, config: {url: 'tcp://db.internal:7'}}]}]";
    let (text, _) = explained(&site, tcp, &["--url", "tcp://db.example.com:7"]);
    assert!(text.starts_with("a connection from 127.0.0.1 to tcp://db.example.com:7\n"), "{text}");
    assert!(text.ends_with("decision: the connection is closed without an answer\n"), "{text}");
}

#[test]
fn policy_explain_prints_what_the_readme_says() {
    let readme = include_str!("../../README.md");
    let (_, section) = readme.split_once("\n### Traffic Policy\n").unwrap();
    let block = |begin: &str| section.split_once(begin).unwrap().1.split_once("```").unwrap().0;
    let site = Site::new();
    site.write("policy.yml", block("```yaml\n"));
    let (command, expected) = block("```text\n$ adit-gateway ").split_once('\n').unwrap();
    let mut explain = Command::new(env!("CARGO_BIN_EXE_adit-gateway"));
    let output = explain.args(command.split(' ')).current_dir(site.path("")).output().unwrap();
    assert_eq!(stdout(&output), expected);
}

#[test]
fn policy_explain_prints_json_for_programs() {
    let site = Site::new();
    let (text, code) = explained(&site, OFFICE, &["--json", "--peer", "192.0.2.7", "--method", "POST"]);
    assert_eq!(code, Some(0));
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["request"]["method"], "POST");
    assert_eq!(json["decision"]["verdict"], "forward");
    assert_eq!(json["decision"]["target"], "https://api.internal");
    let rules = &json["phases"][1]["rules"];
    assert_eq!((&rules[1]["applies"], &rules[1]["expressions"][0]["result"]), (&false.into(), &"false".into()));
    assert_eq!(rules[2]["actions"][0]["type"], "add-headers");
    assert_eq!(rules[2]["actions"][0]["changes"][0]["after"], "192.0.2.7");
}

#[test]
fn policy_explain_asks_nobody_unless_told_and_says_so() {
    let site = Site::new();
    // A port on which nobody listens: whoever asks gets told at once.
    let document = "on_http_request: [{actions: [{type: jwt-validation, config: {issuer: {allow_list: [a]}, http: {tokens: \
                    [{type: jwt, method: header, name: authorization, prefix: 'Bearer '}]}, jws: {allowed_algorithms: \
                    [ES256], keys: {sources: {additional_jkus: ['http://127.0.0.1:1/jwks']}}}}}, {type: deny}]}]";
    let token = "Authorization: Bearer eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJhIn0.c2lnbmF0dXJl";
    let (text, _) = explained(&site, document, &["--header", token]);
    let line = "    jwt-validation: not run: it asks the network for keys at http://127.0.0.1:1/jwks; taken to let the \
                traffic pass (run it with --online)";
    assert!(text.lines().any(|found| found == line), "{text}");
    assert!(text.contains("decision: denied with 403"), "{text}");
    let (text, _) = explained(&site, document, &["--header", token, "--online"]);
    assert!(text.contains("ERR_NGROK_3422"), "{text}");
    let behind = "on_http_request: [{actions: [{type: forward-internal, config: {url: 'https://a.internal', on_error: \
                  continue}}, {type: custom-response, config: {body: \"${actions.ngrok.forward_internal.error.code}\"}}]}]";
    let (text, _) = explained(&site, behind, &[]);
    assert!(text.contains("or the policy goes on when nobody has it online"), "{text}");
    let (text, _) = explained(&site, behind, &["--offline"]);
    assert!(text.ends_with("body: ERR_NGROK_3200\n"), "{text}");
    let asking = "on_http_request: [{actions: [{type: http-request, config: {on_error: halt, url: \
                  'https://check.internal/a?key=s3cret'}}, {type: deny}]}]";
    let (text, _) = explained(&site, asking, &[]);
    assert!(
        text.contains("http-request: not run: it asks the network for what https://check.internal/a answers"),
        "{text}"
    );
    assert!(!text.contains("s3cret") && text.contains("decision: denied with 403"), "{text}");
}

#[test]
fn policy_explain_shows_no_secret() {
    let site = Site::new();
    site.write("key.txt", "vaulted-s3cret\n");
    let config = format!("{SMALLEST}\nvaults: [{{name: crm, secrets: [{{name: key, file: key.txt}}]}}]\n");
    let config = site.write("gateway.yml", &config);
    let headers = "Authorization: Basic YW5uOnMzY3JldC1vZi1hbm4=\nCookie: session=s3cret-session\n\
                   X-Jwt: eyJhbGciOiJFUzI1NiJ9.eyJzM2NyZXQiOjF9.s3cret-signature\n";
    let headers = site.write("headers.txt", headers);
    let document = "on_http_request:
  - name: it
    expressions: [\"req.headers['authorization'][0] != '' && req.cookies['session'][0].value != secrets.get('crm', 'key')\"]
    actions:
      - {type: set-vars, config: {vars: [{all: '${req.headers}'}, {up: \"${getReqHeader('Cookie')[0].upper()}\"}]}}
      - {type: log, config: {metadata: {who: \"${getReqHeader('authorization')[0].split(' ')[1].decodeBase64()}\"}}}
      - {type: add-headers, config: {headers: {x-key: \"${secrets.get('crm', 'key')}\", x-jwt: \"${getReqHeader('x-jwt')[0]}\"}}}
      - {type: basic-auth, config: {enforce: false, credentials: ['ann:s3cret-of-ann', 'bob:s3cret-of-bob']}}
      - {type: custom-response, config: {body: \"${secrets.get('crm', 'key')} ${req.headers['authorization'][0]}\"}}
  - actions: [{type: deny}]
";
    let header = format!("@{}", headers.display());
    for json in [&[][..], &["--json"]] {
        let arguments = ["--config", config.to_str().unwrap(), "--header", &header];
        let (text, code) = explained(&site, document, &[&arguments[..], json].concat());
        assert_eq!(code, Some(0));
        for secret in ["s3cret", "S3CRET", "YW5uOnMzY3JldC1vZi1hbm4", "eyJzM2NyZXQiOjF9"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
        for part in ["basic-auth", "actions.ngrok.basic_auth", "(hidden)", "answered with 200 OK", "logs {"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}

#[test]
fn policy_explain_refuses_what_is_wrong_with_the_exit_code_for_it() {
    let site = Site::new();
    let file = site.write("policy.yml", "on_http_request: [{actions: [{type: deny, config: {x: 1}}]}]");
    let file = file.to_str().unwrap();
    for (arguments, code, says) in [
        (&[file][..], 3, "policy.yml: on_http_request[0].actions[0].config.x: is not a field"),
        (&["/nonexistent.yml"], 3, "cannot be read"),
        (&[file, "--url", "/path"], 2, "--url must be a whole URL"),
        (&[file, "--url", "https://a.example.com/", "--endpoint", "tcp://a.example.com:1"], 2, "has the scheme https"),
        (&[file, "--header", "s3cret"], 2, "--header takes 'Name: value'"),
        (&[file, "--header", "@/nonexistent.txt"], 3, "/nonexistent.txt: cannot be read"),
        (&[file, "--peer", "nobody"], 2, "--peer"),
        (&[], 2, "FILE"),
    ] {
        let output = gateway(&[&["policy", "explain"], arguments].concat());
        assert_eq!((output.status.code(), stdout(&output)), (Some(code), ""), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(says) && !stderr(&output).contains("s3cret"), "{}", stderr(&output));
    }
}

#[test]
fn policy_check_knows_the_secrets_of_a_configuration() {
    let site = Site::new();
    site.write("key.txt", "vaulted\n");
    let config = format!("{SMALLEST}\nvaults: [{{name: crm, secrets: [{{name: key, file: key.txt}}]}}]\n");
    let config = site.write("gateway.yml", &config);
    let document = "on_http_request: [{expressions: [\"req.host == secrets.get('crm', 'key')\"], actions: [{type: deny}]}, \
                    {actions: [{type: deny}]}]";
    let file = site.write("policy.yml", document);
    let (file, config) = (file.to_str().unwrap(), config.to_str().unwrap());
    let output = gateway(&["policy", "check", file, "--config", config]);
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), ""));
    for (arguments, says) in
        [(&[][..], "name it with --config"), (&["--agent", "--config", config], "only policies of")]
    {
        let output = gateway(&[&["policy", "check", file], arguments].concat());
        assert_eq!(output.status.code(), Some(3));
        assert!(stderr(&output).contains(says), "{}", stderr(&output));
    }
}

#[test]
fn check_names_all_mistakes_and_makes_nothing() {
    let site = Site::new();
    let file = site.write("gateway.yml", &SMALLEST.replace("allow_any: true", "allow_any: 1, x: 2"));
    let output = gateway(&["check", "--config", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(stdout(&output), "");
    let expected = [": credentials[0].allow_any: 1: must be true or false", ": credentials[0].x: unknown key"];
    for line in expected {
        assert!(stderr(&output).contains(&format!("{}{line}", file.display())), "{}", stderr(&output));
    }
    assert!(!site.path("identity.key").exists());

    let output = gateway(&["check", "--config", site.path("absent.yml").to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("absent.yml: cannot be read: No such file or directory"), "{}", stderr(&output));
}

#[test]
fn check_prints_warnings_and_still_accepts() {
    let site = Site::new();
    let file = site.write("gateway.yml", SMALLEST.split("credentials").next().unwrap());
    let output = gateway(&["check", "--config", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    assert!(stderr(&output).starts_with("warning: "), "{}", stderr(&output));
    assert!(stderr(&output).contains("`adit-gateway token new`"), "{}", stderr(&output));
}

#[test]
fn run_refuses_what_check_refuses() {
    let site = Site::new();
    let file = site.write("gateway.yml", "{}");
    let output = gateway(&["run", "--config", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("gateway.yml: listeners: is missing"), "{}", stderr(&output));
}

#[test]
fn new_token_fits_the_configuration_as_printed() {
    for (arguments, allowed, refused) in [
        (&["--acl", "bind:*.site2.internal", "bind:tcp://"][..], "https://a.site2.internal", Some("https://a.b")),
        (&["--acl", "bind:a.b", "--acl", "bind:c.d"], "https://c.d", Some("https://e.f")),
        (&["--allow-any", "--account", "main"], "tcp://any.where:1", None),
    ] {
        let output = new_token(&[&["--id", "site2"], arguments].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let (token, entry) = stdout(&output).split_once('\n').unwrap();
        assert_eq!(Token::parse(token).unwrap().credential_id(), "site2");
        assert!(!entry.contains(token) && !stderr(&output).contains(token), "shown once");

        let site = Site::new();
        let credentials = SMALLEST.split_once("credentials: [").unwrap().0.to_owned() + "credentials:\n" + entry;
        let file = site.path("gateway.yml");
        let (config, _) = adit_gateway::config::Config::parse(&file, &credentials).unwrap();
        let credential =
            config.accounts.log_in(token, "192.0.2.1".parse().unwrap(), OffsetDateTime::now_utc()).unwrap();
        assert!(credential.acl.allows(&allowed.parse().unwrap()));
        if let Some(refused) = refused {
            assert!(!credential.acl.allows(&refused.parse().unwrap()));
        }
    }
}

#[test]
fn new_token_with_write_prints_the_token_alone_and_the_gateway_takes_the_file() {
    let site = Site::new();
    std::fs::create_dir(site.path("sites")).unwrap();
    let directory = site.path("sites").display().to_string();
    let arguments =
        ["--id", "site2", "--acl", "bind:*.site2.internal", "--not-after", "2200-12-31", "--write", &directory];
    let output = new_token(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let token = stdout(&output).strip_suffix('\n').unwrap();
    assert_eq!(Token::parse(token).unwrap().credential_id(), "site2");
    assert!(!stderr(&output).contains(token));

    let text = format!("credentials_directory: sites\n{SMALLEST}");
    let (config, warnings) = adit_gateway::config::Config::parse(&site.path("gateway.yml"), &text).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    let log_in = config.accounts.log_in(token, "192.0.2.1".parse().unwrap(), OffsetDateTime::now_utc());
    assert!(log_in.unwrap().not_after.is_some());

    let again = new_token(&arguments);
    assert_eq!((again.status.code(), stdout(&again)), (Some(1), ""));
    assert!(stderr(&again).contains("site2.yml cannot be written"), "{}", stderr(&again));
    let (config, _) = adit_gateway::config::Config::parse(&site.path("gateway.yml"), &text).unwrap();
    assert!(config.accounts.log_in(token, "192.0.2.1".parse().unwrap(), OffsetDateTime::now_utc()).is_ok());
    let bad = new_token(&["--id", "a", "--allow-any", "--not-after", "tomorrow"]);
    assert!(stderr(&bad).contains("must be a day, such as"), "{}", stderr(&bad));
}

#[test]
fn new_token_is_another_each_time() {
    let outputs = [(); 2].map(|()| stdout(&new_token(&["--id", "a", "--allow-any"])).to_owned());
    assert_ne!(outputs[0], outputs[1]);
}

#[test]
fn wrong_command_line_is_refused_with_advice() {
    let table = [
        (&["token", "new", "--id", "a"][..], "--acl <RULE>..."),
        (&["token", "new", "--id", "a", "--acl", "bind:*", "--allow-any"], "cannot be used with"),
        (&["token", "new", "--id", "A b", "--allow-any"], "an id is 1 to 63 of a-z"),
        (&["token", "new", "--id", "a", "--acl", "allow:x"], "a rule begins with bind:"),
        (&["token", "new", "--allow-any"], "--id <ID>"),
        (&["rum"], "run"),
        (&["run", "--file", "x"], "unexpected argument '--file'"),
        (&[], "Usage"),
    ];
    for (arguments, says) in table {
        let output = gateway(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(says), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn version_and_help_go_to_standard_output() {
    let version = concat!("adit-gateway ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(stdout(&gateway(&["version"])), version);
    assert_eq!(stdout(&gateway(&["--version"])), version);
    let help = gateway(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    for word in ["run", "check", "token", "dev", "version", "Exit codes: 0", "ADIT_LOG"] {
        assert!(stdout(&help).contains(word), "{word}");
    }
}

#[test]
fn policy_check_judges_as_the_running_gateway_does() {
    let site = Site::new();
    let outside = "on_http_request: [{actions: [{type: http-request, config: {url: 'https://example.org/'}}]}]";
    let file = site.write("policy.yml", outside);
    let file = file.to_str().unwrap();
    let refused = gateway(&["policy", "check", file, "--agent"]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(stderr(&refused).contains("policies.outside_requests"), "{}", stderr(&refused));
    assert_eq!(gateway(&["policy", "check", file, "--agent", "--outside-requests"]).status.code(), Some(0));
    let config = site.write("gateway.yml", &format!("{SMALLEST}\npolicies: {{outside_requests: true}}\n"));
    let allowed = gateway(&["policy", "check", file, "--agent", "--config", config.to_str().unwrap()]);
    assert_eq!(allowed.status.code(), Some(0), "{}", stderr(&allowed));

    site.write(
        "policy.yml",
        "on_http_request: [{actions: [{type: forward-internal, config: {url: 'https://a.site1.internal'}}]}]",
    );
    let check = |rule| gateway(&["policy", "check", file, "--agent", "--acl", rule]);
    assert_eq!(check("bind:*.site1.internal").status.code(), Some(0));
    let elsewhere = check("bind:*.site2.internal");
    assert_eq!(elsewhere.status.code(), Some(3));
    assert!(stderr(&elsewhere).contains("forwards to https://a.site1.internal"), "{}", stderr(&elsewhere));
    let usage = gateway(&["policy", "check", file, "--acl", "bind:*"]);
    assert_eq!(usage.status.code(), Some(2), "rules are of agents");
}

#[test]
fn policy_explain_reads_the_body() {
    let site = Site::new();
    let document = "on_http_request: [{actions: [{type: verify-webhook, config: {provider: github, secret: s3cret}}]}, \
                    {actions: [{type: deny, config: {status_code: 404}}]}]";
    // HMAC-SHA-256 of the body with the secret.
    let signature = "x-hub-signature-256: sha256=5910e62016ef5034272c926c27071992a465c2335cecf41851bda071577f4f6d";
    let body = site.write("body.json", r#"{"a":1}"#);
    let other = site.write("other.json", r#"{"a":2}"#);
    let ask = |file: &std::path::Path| {
        let arguments = ["--method", "POST", "--header", signature, "--body", file.to_str().unwrap()];
        explained(&site, document, &arguments).0
    };
    let text = ask(&body);
    assert!(text.contains("\"verified\":true") && text.contains("decision: denied with 404"), "{text}");
    let text = ask(&other);
    assert!(text.contains("decision: refused with 403"), "{text}");
}

#[test]
fn policy_explain_lets_tls_end_with_the_certificate_of_the_client() {
    let site = Site::new();
    let issue = |name: &str, ca: Option<&rcgen::CertifiedIssuer<'_, rcgen::KeyPair>>| {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new([]).unwrap();
        params.not_after = rcgen::date_time_ymd(2200, 1, 1);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.extended_key_usages.push(rcgen::ExtendedKeyUsagePurpose::ClientAuth);
        match ca {
            Some(ca) => params.signed_by(&key, ca).unwrap().pem(),
            None => params.self_signed(&key).unwrap().pem(),
        }
    };
    let mut params = rcgen::CertificateParams::new([]).unwrap();
    params.not_after = rcgen::date_time_ymd(2200, 1, 1);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap();
    site.write("ca.pem", &ca.pem());
    let known = site.write("known.pem", &issue("monitoring", Some(&ca)));
    let stranger = site.write("stranger.pem", &issue("monitoring", None));
    let config = site.write("gateway.yml", SMALLEST);
    for (strategy, url) in [
        ("require-and-verify", "https://a.example.com/"),
        ("request", "https://a.example.com/"),
        ("request", "tls://a.test:1"),
    ] {
        let is_http = url.starts_with("https");
        let end = if is_http { "on_http_request: [{actions: [{type: deny}]}]" } else { "" };
        let behind = if is_http { "" } else { ", {actions: [{type: deny}]}" };
        let document = format!(
            "on_tcp_connect: [{{actions: [{{type: terminate-tls, config: {{mutual_tls_certificate_authorities: [ca.pem], \
             mutual_tls_verification_strategy: {strategy}}}}}]}}, {{expressions: [\"conn.tls.client.verified && \
             conn.tls.client.subject.common_name == 'monitoring'\"], actions: [{{type: set-vars, config: {{vars: [{{is: \
             known}}]}}}}]}}{behind}]\n{end}"
        );
        let ask = |file: &std::path::Path| {
            let (file, config) = (file.to_str().unwrap(), config.to_str().unwrap());
            explained(&site, &document, &["--url", url, "--client-cert", file, "--config", config]).0
        };
        let text = ask(&known);
        assert!(text.contains("certificate of the client: verified\n"), "{strategy} {url}: {text}");
        assert!(text.contains("vars.is = \"known\""), "{strategy} {url}: {text}");
        let text = ask(&stranger);
        let outcome = if strategy == "request" { "not verified: it is" } else { "the handshake fails: it is" };
        assert!(text.contains(&format!("{outcome} from none of the endpoint's authorities")), "{url}: {text}");
        assert!(!text.contains("vars.is"), "{strategy} {url}: {text}");
    }
    let key = site.write("key.pem", "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n");
    let file = site.write("policy.yml", OFFICE);
    let arguments = ["policy", "explain", file.to_str().unwrap(), "--client-cert", key.to_str().unwrap()];
    let output = gateway(&arguments);
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("has no certificate") && !stderr(&output).contains("c2Vj"), "{}", stderr(&output));
}

#[test]
fn log_ins_are_listed_and_those_that_are_meant_are_asked_to_end() {
    let site = Site::new();
    let file = site.write("gateway.yml", SMALLEST);
    let run = |arguments: &[&str]| gateway(&[&["log-ins"], arguments, &["--config", file.to_str().unwrap()]].concat());
    let output = run(&["list", "--json"]);
    let listed: Value = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!((output.status.code(), listed), (Some(0), json!({"log_ins": [], "unlisted": []})));
    let journal = Journal::open(&site.path("identity.spent"), 0).unwrap();
    for (id, account, subject) in [("one", "main", "ann"), ("two", "other", "ann"), ("three", "main", "bob")] {
        let texts = [id, account, "app.example.com", subject, ""].map(str::to_owned);
        let [id, account, host, subject, email] = texts;
        let (person, provider_session) = (String::new(), String::new());
        let noted =
            Noted { id, account, host, subject, email, begun: 0, ends: 7_258_118_400, person, provider_session };
        journal.note(noted, 0).unwrap();
    }
    let output = run(&["list", "--account", "main"]);
    let shown = stdout(&output);
    assert!(
        shown.contains("one  1970-01-01T00:00:00Z") && shown.contains("three") && !shown.contains("two"),
        "{shown}"
    );
    let output = run(&["end"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--person"), "{}", stderr(&output));
    // No gateway runs that could take it: the folder is not there before the first start.
    let ending = Ending::beside(&site.path("identity.spent"));
    assert_eq!(run(&["end", "one"]).status.code(), Some(1));
    ending.prepare().unwrap();
    // Here one runs.
    let taking = std::thread::spawn(move || {
        loop {
            let taken = ending.take(&journal, 0).unwrap();
            if !taken.is_empty() {
                return taken;
            }
            std::thread::yield_now();
        }
    });
    let output = run(&["end", "--person", "ann", "--account", "main"]);
    assert_eq!((output.status.code(), stdout(&output)), (Some(0), "1 log-ins have ended\n"));
    assert_eq!(taking.join().unwrap(), ["one"]);
    assert!(!stdout(&run(&["list"])).contains("one"));
    assert_eq!(stdout(&run(&["end", "one"])), "no log-in is meant: see `log-ins list`\n");
}

#[test]
fn log_ins_that_are_too_many_to_be_listed_are_told() {
    let site = Site::new();
    let file = site.write("gateway.yml", SMALLEST);
    let unlisted = "{\"account\":\"main\",\"unlisted\":3,\"until\":7258118400}\n";
    site.write("identity.spent.sessions", unlisted);
    let run = |arguments: &[&str]| gateway(&[&["log-ins"], arguments, &["--config", file.to_str().unwrap()]].concat());
    for arguments in [&["list"][..], &["list", "--json"], &["list", "--account", "main"], &["end", "--all"]] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(0));
        assert!(stderr(&output).contains("3 older log-ins of the account main"), "{}", stderr(&output));
    }
    let listed = |arguments: &[&str]| -> Value { serde_json::from_str(stdout(&run(arguments))).unwrap() };
    let unlisted = json!([{"account": "main", "unlisted": 3, "until": 7_258_118_400_i64}]);
    assert_eq!(listed(&["list", "--json"]), json!({"log_ins": [], "unlisted": unlisted}));
    assert_eq!(listed(&["list", "--json", "--account", "other"]), json!({"log_ins": [], "unlisted": []}));
    assert_eq!(stderr(&run(&["list", "--account", "other"])), "");
}

#[test]
fn policy_explain_knows_of_tls_where_no_certificate_is_asked_for() {
    let site = Site::new();
    for version in ["1.2", "1.3"] {
        let document = format!(
            "on_tcp_connect: [{{actions: [{{type: terminate-tls, config: {{max_version: '{version}'}}}}]}}]\n\
             on_http_request: [{{expressions: [\"conn.tls.version < '1.3'\"], actions: [{{type: deny}}]}}]"
        );
        let (text, _) = explained(&site, &document, &["--agent"]);
        let decision = if version == "1.2" { "denied with 403 Forbidden" } else { "the endpoint's own agent gets it" };
        assert!(text.contains(&format!("decision: {decision}")), "{text}");
    }
}
