//! The configuration of the gateway: what it means, and that every mistake is named where it is.

#![allow(clippy::unwrap_used)]

mod site;

use std::fs::{self, Permissions};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use adit::config::problem::Warning;
use adit_gateway::config::Config;
use adit_gateway::config::accounts::{CredentialLimits, LogInRefusal};
use adit_gateway::config::acme::ChallengeKind;
use adit_gateway::config::limits::{self, Limits};
use adit_gateway::config::listeners::AgentPorts;
use adit_gateway::config::public_names::PublicRefusal;
use adit_gateway::events::Kind;
use adit_gateway::login::hand_over::Party;
use adit_gateway::token::Token;
use serde_json::{Value, json};
use site::{SMALLEST, Site};
use time::OffsetDateTime;
use time::macros::datetime;

const NOW: OffsetDateTime = datetime!(2029-06-01 0:00 UTC);

const FULL: &str = "
version: 1
log: {level: debug, format: json}
connect: {names: connect.example.com}
listeners:
  agents: 0.0.0.0:443
  https: 0.0.0.0:443
  tls: 0.0.0.0:443
  http: 0.0.0.0:80
  tcp: {addresses: 0.0.0.0, agent_ports: 20000-20999}
  trusted_proxies: {networks: [10.0.0.5], ports: [443]}
certificates:
  - {certificate_file: certificate.pem, private_key_file: private-key.pem}
key_file: keys/identity.key
base_domain: apps.example.com
public_domains: [demo.example.com, '*.demo.example.com']
accounts:
  - name: main
  - {name: clinics, allowed_networks: [10.0.0.0/8]}
credentials:
  - id: site1
    hashes: ['sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad']
    acl: ['bind:*.site1.internal', 'bind:tcp://']
  - id: clinic7
    account: clinics
    hashes:
      - sha256:0000000000000000000000000000000000000000000000000000000000000000
      - sha256:1111111111111111111111111111111111111111111111111111111111111111
    allow_any: true
    allowed_networks: [10.7.0.0/16]
cloud_endpoints:
  - url: https://api.example.com
    traffic_policy:
      on_http_request: [{actions: [{type: forward-internal, config: {url: https://api.site1.internal}}]}]
  - url: tls://db.example.com
    account: clinics
    traffic_policy_file: policies/db.yml
  - url: tcp://connect.example.com:5432
    traffic_policy: '{\"on_tcp_connect\": [{\"actions\": [{\"type\": \"deny\"}]}]}'
policies: {outside_requests: true}
limits: {sessions_max: 600, tcp_idle_timeout: 12h}
";

const DB_POLICY: &str =
    "on_tcp_connect:\n  - actions:\n      - {type: forward-internal, config: {url: 'tls://db.clinic7.internal'}}\n";

/// Reads a configuration as if it stood in `gateway.yml` there.
fn parse(site: &Site, text: &str) -> Result<(Config, Vec<Warning>), String> {
    Config::parse(&site.path("gateway.yml"), text).map_err(|errors| errors.to_string())
}

fn full_site() -> Site {
    let site = Site::new();
    site.write("policies/db.yml", DB_POLICY);
    site
}

fn full() -> (Site, Config) {
    let site = full_site();
    let (config, warnings) = parse(&site, FULL).unwrap();
    assert_eq!(warnings, []);
    (site, config)
}

/// What the file says after `from` is replaced by `to`.
fn errors_with(from: &str, to: &str) -> String {
    assert!(FULL.contains(from), "{from}");
    parse(&full_site(), &FULL.replace(from, to)).map(|_| ()).unwrap_err()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn every_key_has_its_meaning() {
    let (site, config) = full();
    assert_eq!(config.connect.names, ["connect.example.com"]);
    assert!(config.listeners.agents_share());
    assert_eq!(config.listeners.tcp.agent_ports, AgentPorts::Between(20000..=20999));
    assert_eq!(config.certificates[0].names, ["connect.example.com", "*.example.com", "*.apps.example.com"]);
    assert_eq!(config.certificates[0].ends_at_unix, 7_258_118_400);
    assert_eq!(config.key_file, site.path("keys/identity.key"));
    assert_eq!(config.accounts.iter().map(|account| &*account.name).collect::<Vec<_>>(), ["main", "clinics"]);
    let site1 = config.accounts.credential("site1").unwrap();
    assert_eq!(&*site1.account, "main");
    assert!(site1.acl.allows(&"https://api.site1.internal".parse().unwrap()));
    assert!(!site1.acl.allows(&"https://api.site2.internal".parse().unwrap()));
    assert!(site1.acl.allows_assigned_tcp());
    assert_eq!(config.accounts.credential("clinic7").unwrap().hashes.len(), 2);
    let clouds: Vec<_> = config.cloud_endpoints.iter().map(|cloud| (cloud.url.to_string(), &*cloud.account)).collect();
    assert_eq!(
        clouds,
        [
            ("https://api.example.com".to_owned(), "main"),
            ("tls://db.example.com".to_owned(), "clinics"),
            ("tcp://connect.example.com:5432".to_owned(), "main"),
        ]
    );
    assert!(config.policies.outside_requests);
    assert_eq!(config.limits.sessions_max, 600);
    assert_eq!(config.limits.tcp_idle_timeout.as_secs(), 12 * 3600);
    assert_eq!(config.limits.auth_timeout, Limits::default().auth_timeout);
}

#[test]
fn what_is_left_out_has_a_default() {
    let site = Site::new();
    let (config, warnings) = parse(&site, SMALLEST).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(config.accounts.iter().map(|account| &*account.name).collect::<Vec<_>>(), ["main"]);
    assert_eq!(config.limits, Limits::default());
    assert!(!config.policies.outside_requests);
    assert_eq!(config.limits.tcp_idle_timeout.as_secs(), 0, "idle database connections stay open");
    assert_eq!(config.key_file, site.path("identity.key"));
    assert!(!site.path("identity.key").exists(), "reading changes nothing");
    assert_eq!(config.public_names.base_domain(), None);
}

#[test]
fn json_is_read_like_yaml() {
    let site = Site::new();
    let text = "{\n\t\"listeners\": {\"agents\": [\"127.0.0.1:0\"]},\n\t\"certificates\": [{\"certificate_file\": \
                \"certificate.pem\", \"private_key_file\": \"private-key.pem\"}]}";
    let (config, warnings) = parse(&site, text).unwrap();
    assert_eq!(config.listeners.agents.len(), 1);
    assert!(warnings[0].to_string().contains("credentials: there are none"), "{warnings:?}");
}

#[test]
fn file_is_loaded_relative_to_its_directory() {
    let site = full_site();
    let file = site.write("gateway.yml", FULL);
    assert!(Config::load(&file).is_ok());
    let error = Config::load(&site.path("absent.yml")).unwrap_err().to_string();
    assert!(error.contains("absent.yml: cannot be read"), "{error}");
    let file = site.write("latin1.yml", "");
    fs::write(&file, b"connect: {names: \xe9}").unwrap();
    assert!(Config::load(&file).unwrap_err().to_string().contains("is not UTF-8 text"));
}

#[test]
fn unreadable_text_is_one_error() {
    let site = Site::new();
    for (text, says) in [
        ("a: [1", "gateway.yml: is neither YAML nor JSON: "),
        ("", "gateway.yml: null: must be an object"),
        ("- 1", "gateway.yml: a list: must be an object"),
    ] {
        let error = parse(&site, text).map(|_| ()).unwrap_err();
        assert!(error.contains(says) && error.lines().count() == 1, "{error}");
    }
}

#[test]
fn each_mistake_is_named_with_path_value_and_remedy() {
    let policy =
        "{on_http_request: [{actions: [{type: forward-internal, config: {url: https://api.site1.internal}}]}]}";
    let table = [
        ("version: 1", "version: 2", "version: 2: must be a whole number from 1 to 1"),
        ("level: debug", "level: loud", "log.level: \"loud\": must be \"error\", \"warn\""),
        ("{outside_requests: true}", "{outside_requests: 1}", "policies.outside_requests: 1: must be true or false"),
        ("format: json", "format: xml", "log.format: \"xml\": must be \"text\" or \"json\""),
        ("connect: {names: connect.example.com}", "connect: {}", "connect.names: is missing: agents share a socket"),
        (
            "{names: connect.example.com}",
            "{names: '*.example.com'}",
            "connect.names: \"*.example.com\": must be a plain name",
        ),
        (
            "names: connect.example.com",
            "names: 'connect.example.com:443'",
            "connect.names: \"connect.example.com:443\": must be a plain name",
        ),
        (
            "names: connect.example.com",
            "names: other.test",
            "connect.names: other.test: no certificate is valid for this name",
        ),
        ("agents: 0.0.0.0:443", "agent: 0.0.0.0:443", "listeners.agent: unknown key: did you mean \"agents\"?"),
        (
            "certificate_file: certificate.pem",
            "certificate_file: no.pem",
            "certificates[0].certificate_file: \"no.pem\": cannot be read: No such file",
        ),
        (
            "certificate_file: certificate.pem",
            "certificate_file: private-key.pem",
            "certificates[0].certificate_file: \"private-key.pem\": has no certificate in it",
        ),
        (
            "private_key_file: private-key.pem",
            "private_key_file: certificate.pem",
            "certificates[0].private_key_file: \"certificate.pem\": has no private key",
        ),
        (
            "base_domain: apps.example.com",
            "base_domain: '*.apps.example.com'",
            "base_domain: \"*.apps.example.com\": must be a plain name",
        ),
        (
            "[demo.example.com, ",
            "[demo.internal, ",
            "public_domains[0]: \"demo.internal\": names below .internal are never public",
        ),
        ("- name: main", "- name: Main", "accounts[0].name: \"Main\": an id is 1 to 63 of a-z"),
        ("- name: main", "- name: clinics", "accounts[1].name: \"clinics\": is the name of another account already"),
        (
            "[10.0.0.0/8]",
            "[10.0.0.1/8]",
            "accounts[1].allowed_networks[0]: \"10.0.0.1/8\": has bits beyond its prefix: 10.0.0.0/8",
        ),
        ("[10.0.0.0/8]", "[]", "accounts[1].allowed_networks: a list: is empty"),
        ("id: clinic7", "id: site1", "credentials[1].id: \"site1\": is the id of another credential already"),
        ("id: site1", "id: Site 1", "credentials[0].id: \"Site 1\": an id is 1 to 63"),
        (
            "account: clinics\n    hashes",
            "account: clinic\n    hashes",
            "credentials[1].account: \"clinic\": is not among the accounts of this file: main, clinics",
        ),
        ("sha256:1111", "sha256:111", "credentials[1].hashes[1]: a hash is sha256: and 64 hexadecimal digits"),
        (
            "sha256:1111111111111111111111111111111111111111111111111111111111111111",
            "sha256:0000000000000000000000000000000000000000000000000000000000000000",
            "credentials[1].hashes[1]: is there twice",
        ),
        ("acl: ['bind:*.site1.internal', 'bind:tcp://']", "name: x", "credentials[0].acl: is missing: rules such as"),
        ("acl: ['bind:*.site1.internal', 'bind:tcp://']", "acl: []", "credentials[0].acl: a list: must have a rule"),
        ("'bind:tcp://'", "'allow:all'", "credentials[0].acl[1]: \"allow:all\": a rule begins with bind:"),
        ("allow_any: true", "{allow_any: true", "gateway.yml: is neither YAML nor JSON"),
        (
            "allow_any: true",
            "allow_any: true\n    acl: bind:*",
            "credentials[1].allow_any: true: makes the rules of acl meaningless",
        ),
        ("allow_any: true", "allow_any: yes", "credentials[1].allow_any: \"yes\": must be true or false"),
        (
            "url: https://api.example.com\n",
            "url: https://api.example.com/\n",
            "cloud_endpoints[0].url: \"https://api.example.com/\": a trailing '/' is not allowed",
        ),
        (
            "url: https://api.example.com\n",
            "url: https://api.internal\n",
            "cloud_endpoints[0].url: \"https://api.internal\": must be a public name",
        ),
        (
            "url: https://api.example.com\n",
            "url: https://connect.example.com\n",
            "cloud_endpoints[0].url: \"https://connect.example.com\": is the name that agents connect to",
        ),
        (
            "url: https://api.example.com\n",
            "url: https://db.example.com\n",
            "cloud_endpoints[1].url: \"tls://db.example.com\": cannot be told from https://db.example.com",
        ),
        (
            "url: tcp://connect.example.com:5432",
            "url: tcp://connect.example.com:443",
            "cloud_endpoints[2].url: \"tcp://connect.example.com:443\": needs a port of its own: 0.0.0.0:443 is in listeners.agents",
        ),
        (
            "url: tcp://connect.example.com:5432",
            "url: tcp://connect.example.com:20500",
            "has a port that is for agents (listeners.tcp.agent_ports: 20000-20999)",
        ),
        (
            "  http: 0.0.0.0:80\n  tcp: {addresses: 0.0.0.0, agent_ports: 20000-20999}\n",
            "",
            "cloud_endpoints[2].url: \"tcp://connect.example.com:5432\": can never be reached: there is no listeners.tcp",
        ),
        (
            "{type: forward-internal, config: {url: https://api.site1.internal}}",
            "{type: forward-internl}",
            "cloud_endpoints[0].traffic_policy.on_http_request[0].actions[0].type: \"forward-internl\"",
        ),
        (
            "traffic_policy_file: policies/db.yml",
            "traffic_policy_file: policies/no.yml",
            "cloud_endpoints[1].traffic_policy_file: \"policies/no.yml\": cannot be read",
        ),
        ("traffic_policy_file: policies/db.yml", "name: x", "cloud_endpoints[1].traffic_policy: is missing"),
        (
            "    traffic_policy_file: policies/db.yml",
            "    traffic_policy_file: policies/db.yml\n    traffic_policy: {}",
            "cloud_endpoints[1].traffic_policy_file: \"policies/db.yml\": stands beside traffic_policy",
        ),
        (
            "\"type\": \"deny\"",
            "\"type\": \"no\"",
            "cloud_endpoints[2].traffic_policy.on_tcp_connect[0].actions[0].type: \"no\"",
        ),
        ("sessions_max: 600", "sessions_max: 0", "limits.sessions_max: 0: must be a whole number from 1 to 100000"),
        ("tcp_idle_timeout: 12h", "tcp_idle_timeout: 12", "limits.tcp_idle_timeout: 12: must be a duration"),
        ("key_file: keys/identity.key", "key_files: x", "key_files: unknown key: did you mean \"key_file\"?"),
        ("log: {", "log: {level: info, ", "log.level: this key occurs more than once"),
    ];
    for (from, to, says) in table {
        let error = errors_with(from, to);
        assert!(error.contains(says), "{to}\ngives\n{error}");
        assert!(error.lines().all(|line| line.contains("gateway.yml: ")), "{error}");
    }
    let twice = FULL.replace(
        "  - url: tls://db",
        &format!("  - url: https://api.example.com\n    traffic_policy: {policy}\n  - url: tls://db"),
    );
    let error = parse(&full_site(), &twice).map(|_| ()).unwrap_err();
    assert!(error.contains("cloud_endpoints[1].url: \"https://api.example.com\": is there twice"), "{error}");
}

#[test]
fn policies_ask_the_internet_only_where_the_file_says_so() {
    let inside = "on_http_request: [{actions: [{type: forward-internal";
    let outside = "on_http_request: [{actions: [{type: http-request, config: {url: https://example.com/}}, {type: \
                   forward-internal";
    let text = FULL.replace(inside, outside);
    assert!(parse(&full_site(), &text).is_ok());
    let error = parse(&full_site(), &text.replace("policies: {outside_requests: true}\n", "")).unwrap_err();
    assert!(
        error.contains("config.url: \"https://example.com/\"") && error.contains("policies.outside_requests"),
        "{error}"
    );
}

#[test]
fn mistakes_of_all_sections_come_at_once() {
    let text = "
listeners: {agents: 1, http: x}
certificates: [{}]
base_domain: 7
credentials: [{id: a}, 5]
cloud_endpoints: [{url: tcp://a.b, traffic_policy: {}}, {account: nobody}]
limits: {drain_timeout: -1s}
";
    let error = parse(&Site::new(), text).map(|_| ()).unwrap_err();
    for path in [
        "listeners.agents: 1",
        "listeners.http: \"x\"",
        "certificates[0].certificate_file: is missing",
        "certificates[0].private_key_file: is missing",
        "base_domain: 7: must be a string",
        "credentials[0].hashes: is missing",
        "credentials[0].acl: is missing",
        "credentials[1]: 5: must be an object",
        "cloud_endpoints[0].url: \"tcp://a.b\": a tcp endpoint needs a port",
        "cloud_endpoints[1].url: is missing",
        "cloud_endpoints[1].account: \"nobody\": is not among",
        "limits.drain_timeout: \"-1s\"",
    ] {
        assert!(error.contains(&format!("gateway.yml: {path}")), "{path}\nis not in\n{error}");
    }
}

#[test]
fn public_ports_for_agents_need_a_name_for_their_urls() {
    let with_ports = |rest: &str| {
        let tcp = "'127.0.0.1:0', tcp: {addresses: 127.0.0.1, agent_ports: any}";
        parse(&Site::new(), &(SMALLEST.replace("'127.0.0.1:0'", tcp) + rest)).map(|(config, _)| config)
    };
    let error = with_ports("").map(|_| ()).unwrap_err();
    assert!(error.contains("listeners.tcp.agent_ports: any: needs a name for the URLs of these ports"), "{error}");
    for (rest, host) in [("connect: {names: connect.example.com}", "connect.example.com"), ("base_domain: a.b", "a.b")]
    {
        let config = with_ports(rest).unwrap();
        assert_eq!(config.tcp_host(), Some(host));
        assert_eq!(config.check_public(&format!("tcp://{host}:1234").parse().unwrap()), Ok(()));
    }
}

#[test]
fn mistakes_in_a_policy_file_name_that_file() {
    let site = full_site();
    site.write(
        "policies/db.yml",
        "on_tcp_connect:\n  - actions:\n      - {type: forward-internal, config: {urls: x}}\n",
    );
    let error = parse(&site, FULL).map(|_| ()).unwrap_err();
    assert!(error.contains("policies/db.yml: on_tcp_connect[0].actions[0].config"), "{error}");
}

/// A configuration whose only cloud endpoint answers with a secret.
fn with_vaults(vaults: &str) -> String {
    format!(
        "{SMALLEST}vaults: {vaults}\ncloud_endpoints:\n  - url: http://api.example.com\n    traffic_policy: \
         {{on_http_request: [{{actions: [{{type: custom-response, config: {{body: \"${{secrets.get('crm', 'key')}}\"}}}}]}}]}}\n"
    )
    .replace("{agents: '127.0.0.1:0'}", "{agents: '127.0.0.1:0', http: '127.0.0.1:0'}")
}

#[test]
fn secrets_come_from_files_and_the_environment_and_are_never_shown() {
    let site = Site::new();
    site.write("secrets/key", "s3cret\r\n");
    site.write("empty", "\n");
    site.write("long", &"s3cret".repeat(3000));
    let vaults = "[{name: crm, secrets: [{name: key, file: secrets/key}, {name: path, env: PATH}]}, {name: other}]";
    let (config, warnings) = parse(&site, &with_vaults(vaults)).unwrap();
    assert!(!format!("{config:?}").contains("s3cret"));
    let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    let [warning] = warnings.as_slice() else { panic!("{warnings:?}") };
    assert!(warning.contains("vaults[0].secrets[0].file") && warning.contains("chmod"), "{warning}");
    for (vaults, says) in [
        ("[{secrets: []}]", "vaults[0].name: is missing"),
        ("[{name: 'a b'}]", "vaults[0].name: \"a b\": must be 1 to 128 letters"),
        ("[{name: a}, {name: a}]", "vaults[1].name: \"a\": is there twice"),
        ("[{name: a, keys: []}]", "vaults[0].keys: unknown key"),
        ("[{name: a, secrets: [{file: secrets/key}]}]", "vaults[0].secrets[0].name: is missing"),
        ("[{name: a, secrets: [{name: b}]}]", "vaults[0].secrets[0].file: is missing"),
        (
            "[{name: a, secrets: [{name: b, file: secrets/key, env: PATH}]}]",
            "secrets[0].file: is missing: a file, or with env",
        ),
        ("[{name: a, secrets: [{name: b, file: none}]}]", "secrets[0].file: \"none\": cannot be read"),
        ("[{name: a, secrets: [{name: b, file: empty}]}]", "secrets[0].file: \"empty\": is empty"),
        ("[{name: a, secrets: [{name: b, file: long}]}]", "secrets[0].file: \"long\": is longer than"),
        (
            "[{name: a, secrets: [{name: b, env: ADIT_NO_SUCH_VARIABLE}]}]",
            "secrets[0].env: \"ADIT_NO_SUCH_VARIABLE\": is not set",
        ),
        ("[{name: a, secrets: [{name: b, value: s3cret}]}]", "secrets[0].value: a secret does not stand in this file"),
        (
            "[{name: a, secrets: [{name: b, env: PATH}, {name: b, env: PATH}]}]",
            "secrets[1].name: \"b\": is there twice",
        ),
        ("[{name: a}]", "names the vault \"crm\", which the gateway's configuration does not have: there are a"),
        ("[{name: crm}]", "names the secret \"key\", which the vault \"crm\" does not have: there are none"),
    ] {
        let errors = parse(&site, &with_vaults(vaults)).map(|_| ()).unwrap_err();
        assert!(errors.contains(says) && !errors.contains("s3cret"), "{vaults}: {errors}");
    }
}

#[test]
fn keys_for_tokens_are_read_from_files_beside_the_configuration() {
    let site = Site::new();
    site.write(
        "keys.json",
        r#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#,
    );
    let with = |sources: &str| {
        with_vaults("[{name: crm, secrets: [{name: key, env: PATH}]}]").replace(
            "[{type: custom-response",
            &format!(
                "[{{type: jwt-validation, config: {{issuer: {{allow_list: [a]}}, http: {{tokens: [{{type: jwt, method: \
                 header, name: authorization}}]}}, jws: {{allowed_algorithms: [EdDSA], keys: {{sources: {sources}}}}}}}}}, \
                 {{type: custom-response"
            ),
        )
    };
    for sources in ["{files: [keys.json]}", "{files: [certificate.pem], additional_jkus: ['https://idp.example.com']}"]
    {
        assert_eq!(parse(&site, &with(sources)).map(|_| ()), Ok(()), "{sources}");
    }
    for (sources, says) in [
        ("{}", "keys.sources.additional_jkus: is missing"),
        ("{files: []}", "keys.sources.files: a list of 0: must be a list of 1 to 100"),
        ("{files: [none.pem]}", "keys.sources.files[0]: \"none.pem\": cannot be read"),
        ("{files: [private-key.pem]}", "keys.sources.files[0]: \"private-key.pem\": has no key that a token can be"),
        ("{files: [gateway.yml]}", "keys.sources.files[0]: \"gateway.yml\": cannot be read"),
        ("{files: [7]}", "keys.sources.files[0]: 7: must be a text"),
        (
            "{additional_jkus: ['https://${req.host}/']}",
            "additional_jkus[0]: \"https://${req.host}/\": cannot have a ${…}",
        ),
    ] {
        let errors = parse(&site, &with(sources)).map(|_| ()).unwrap_err();
        assert!(errors.contains(says), "{sources}: {errors}");
    }
}

#[test]
fn token_in_place_of_its_hash_is_not_repeated() {
    let token = Token::generate(&"site1".parse().unwrap()).unwrap();
    let text =
        SMALLEST.replace("sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", token.expose());
    let error = parse(&Site::new(), &text).map(|_| ()).unwrap_err();
    assert!(error.contains("credentials[0].hashes[0]: a hash is sha256:"), "{error}");
    assert!(!error.contains("adit_site1_"), "{error}");
}

#[test]
fn certificate_has_to_match_its_key() {
    let site = Site::new();
    site.write_certificate("other-", &["other.test"], |_| ());
    let text = SMALLEST.replace("private_key_file: private", "private_key_file: other-private");
    let error = parse(&site, &text).map(|_| ()).unwrap_err();
    assert!(error.contains("certificates[0].private_key_file: ") && error.contains("is not the key of "), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

#[test]
fn certificate_out_of_its_time_and_exposed_keys_are_warnings() {
    let site = Site::new();
    site.write_certificate("", &["a.test"], |params| params.not_after = rcgen::date_time_ymd(2021, 1, 1));
    let warned = |site: &Site| parse(site, SMALLEST).unwrap().1.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert!(warned(&site)[0].contains("certificates[0].certificate_file: has ended on "), "{:?}", warned(&site));

    site.write_certificate("", &["a.test"], |params| params.not_before = rcgen::date_time_ymd(2199, 1, 1));
    assert!(warned(&site)[0].contains("is not valid before "), "{:?}", warned(&site));

    site.write_certificate("", &["a.test"], |_| ());
    assert_eq!(warned(&site), Vec::<String>::new());
    fs::set_permissions(site.path("private-key.pem"), Permissions::from_mode(0o644)).unwrap();
    assert!(warned(&site)[0].contains("has mode 0644: everybody can read the key"), "{:?}", warned(&site));
}

#[test]
fn names_without_certificate_are_warned_of() {
    let site = full_site();
    site.write_certificate("", &["connect.example.com"], |_| ());
    let warnings: Vec<_> = parse(&site, FULL).unwrap().1.iter().map(ToString::to_string).collect();
    assert!(
        warnings[0].contains("cloud_endpoints[0].url: no certificate is valid for api.example.com"),
        "{warnings:?}"
    );
    assert!(warnings[1].contains("base_domain: no certificate is valid for *.apps.example.com"), "{warnings:?}");
    assert_eq!(warnings.len(), 2);
}

#[test]
fn certificate_covers_names_one_label_below_its_wildcard() {
    let (_site, config) = full();
    let certificate = &config.certificates[0];
    for name in ["connect.example.com", "API.example.com", "*.example.com", "x.apps.example.com"] {
        assert!(certificate.covers(name), "{name}");
    }
    for name in ["example.com", "x.y.example.com", "x.example.org", "", "com"] {
        assert!(!certificate.covers(name), "{name}");
    }
}

#[test]
fn unusable_identity_key_is_found_before_the_start() {
    let site = full_site();
    let file = site.write("keys/identity.key", "not a key");
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    assert!(parse(&site, FULL).map(|_| ()).unwrap_err().contains("key_file: "));
    fs::write(&file, "00".repeat(32)).unwrap();
    assert!(parse(&site, FULL).is_ok());
    fs::set_permissions(&file, Permissions::from_mode(0o604)).unwrap();
    assert!(parse(&site, FULL).map(|_| ()).unwrap_err().contains("chmod it to 0600"));
}

#[test]
fn log_in_needs_the_token_and_an_allowed_source() {
    let old = Token::generate(&"clinic7".parse().unwrap()).unwrap();
    let new = Token::generate(&"clinic7".parse().unwrap()).unwrap();
    let text = FULL
        .replace(&format!("sha256:{}", "0".repeat(64)), &old.hash().to_string())
        .replace(&format!("sha256:{}", "1".repeat(64)), &new.hash().to_string());
    let (config, _) = parse(&full_site(), &text).unwrap();
    let log_in = |token: &str, source: &str| {
        config
            .accounts
            .log_in(token, address(source), NOW)
            .map(|credential| credential.id.to_string())
            .map_err(LogInRefusal::code)
    };
    let stranger = Token::generate(&"clinic7".parse().unwrap()).unwrap();
    let nobody = Token::generate(&"nobody".parse().unwrap()).unwrap();

    assert_eq!(log_in(old.expose(), "10.7.1.1"), Ok("clinic7".to_owned()));
    assert_eq!(log_in(new.expose(), "::ffff:10.7.1.1"), Ok("clinic7".to_owned()));
    assert_eq!(log_in(new.expose(), "10.8.1.1"), Err(116));
    assert_eq!(log_in(new.expose(), "192.0.2.1"), Err(115));
    assert_eq!(log_in(stranger.expose(), "10.7.1.1"), Err(107));
    assert_eq!(log_in(nobody.expose(), "10.7.1.1"), Err(107));
    assert_eq!(log_in("", "10.7.1.1"), Err(105));
    assert_eq!(log_in("abc", "10.7.1.1"), Err(105));
}

#[test]
fn credential_ends_with_its_last_day_and_an_old_token_earlier() {
    let (old, new) =
        (Token::generate(&"clinic7".parse().unwrap()).unwrap(), Token::generate(&"clinic7".parse().unwrap()).unwrap());
    let text = FULL
        .replace(
            &format!("sha256:{}", "0".repeat(64)),
            &format!("{{hash: '{}', not_after: 2030-01-01T12:00:00+01:00}}", old.hash()),
        )
        .replace(&format!("sha256:{}", "1".repeat(64)), &new.hash().to_string())
        .replace("allowed_networks: [10.7.0.0/16]", "not_after: 2030-12-31");
    let accounts = parse(&full_site(), &text).unwrap().0.accounts;
    let log_in = |token: &Token, now| accounts.log_in(token.expose(), address("10.7.1.1"), now).map(|_| ());
    let rotation = datetime!(2030-01-01 11:00 UTC);
    assert_eq!(log_in(&old, rotation), Ok(()));
    assert_eq!(log_in(&old, rotation + time::Duration::NANOSECOND), Err(LogInRefusal::Expired));
    assert_eq!(log_in(&new, rotation + time::Duration::NANOSECOND), Ok(()));
    assert_eq!(log_in(&new, datetime!(2030-12-31 23:59:59.999999999 UTC)), Ok(()));
    assert_eq!(log_in(&new, datetime!(2031-01-01 0:00 UTC)), Err(LogInRefusal::Expired));
    assert_eq!(accounts.next_end(NOW), Some(rotation));
    assert_eq!(accounts.next_end(datetime!(2031-01-01 0:00 UTC)), None);

    let revoked = parse(&full_site(), &text.replace("not_after: 2030-12-31", "revoked: true")).unwrap().0.accounts;
    let log_in = |token: &Token| revoked.log_in(token.expose(), address("10.7.1.1"), NOW).map(|_| ());
    assert_eq!(log_in(&new), Err(LogInRefusal::Revoked));
    let stranger = Token::generate(&"clinic7".parse().unwrap()).unwrap();
    assert_eq!(log_in(&stranger), Err(LogInRefusal::Unknown), "whoever has no token learns nothing");
}

#[test]
fn limits_of_a_credential_are_optional_and_bounded() {
    let with = |limits: &str| FULL.replace("allowed_networks: [10.7.0.0/16]", &format!("limits: {{{limits}}}"));
    let (config, _) =
        parse(&full_site(), &with("streams_max: 3, new_streams_per_second_max: 5, bytes_per_second_max: 2MiB"))
            .unwrap();
    let limits = config.accounts.credential("clinic7").unwrap().limits;
    let expected = (Some(3), Some(5), Some(2 << 20));
    assert_eq!((limits.streams_max, limits.new_streams_per_second_max, limits.bytes_per_second_max), expected);
    assert_eq!(config.accounts.credential("site1").unwrap().limits, CredentialLimits::default());
    for (bad, expected) in [
        ("streams_max: 0", "credentials[1].limits.streams_max: 0: must be"),
        ("bytes_per_second_max: 1KiB", "credentials[1].limits.bytes_per_second_max: \"1KiB\": must be from 16KiB"),
        ("bandwidth: 1MiB", "credentials[1].limits.bandwidth: unknown key"),
    ] {
        let error = parse(&full_site(), &with(bad)).map(|_| ()).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn credentials_of_a_directory_are_among_the_others_and_a_bad_file_keeps_only_itself_out() {
    let site = full_site();
    let hash = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let text = format!("credentials_directory: sites\n{FULL}");
    let error = parse(&site, &text).map(|_| ()).unwrap_err();
    assert!(error.contains("credentials_directory: ") && error.contains("cannot be listed"), "{error}");
    site.write("sites/site3.yml", &format!("id: site3\nhashes: ['{hash}']\nallow_any: true\n"));
    site.write("sites/site4.yml", "id: site4\nhashes: [adit_site4_secret]\nallow_any: true\n");
    site.write("sites/copy.yml", &format!("id: site1\nhashes: ['{hash}']\nallow_any: true\n"));
    let (config, warnings) = parse(&site, &text).unwrap();
    assert!(config.accounts.credential("site3").is_some() && config.accounts.credential("site4").is_none());
    assert!(!config.accounts.credential("site1").unwrap().acl.allows(&"https://any.internal".parse().unwrap()));
    let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings.iter().any(|line| line.contains("sites/site4.yml: hashes[0]: a hash is sha256:")), "{warnings:?}");
    assert!(warnings.iter().any(|line| line.contains("copy.yml: is not used: site1 is the id")), "{warnings:?}");
    assert!(!warnings.concat().contains("adit_site4_secret"));
}

#[test]
fn agents_have_in_public_only_what_is_for_them() {
    let (_site, config) = full();
    let check = |url: &str| config.check_public(&url.parse().unwrap());
    for url in [
        "https://a.apps.example.com",
        "http://a.b.apps.example.com",
        "tls://*.apps.example.com",
        "https://demo.example.com:8443",
        "https://x.demo.example.com",
        "tcp://apps.example.com:20000",
        "tcp://x.demo.example.com:20999",
    ] {
        assert_eq!(check(url), Ok(()), "{url}");
    }
    let cloud = |url: &str| PublicRefusal::CloudEndpoint(url.parse().unwrap());
    for (url, refusal, code) in [
        ("https://apps.example.com", PublicRefusal::Name, 316),
        ("https://evilapps.example.com", PublicRefusal::Name, 316),
        ("https://other.test", PublicRefusal::Name, 316),
        ("https://connect.example.com", PublicRefusal::ConnectName, 316),
        ("tcp://other.test:20000", PublicRefusal::Name, 316),
        ("tcp://apps.example.com:19999", PublicRefusal::Port(AgentPorts::Between(20000..=20999)), 308),
        ("tcp://apps.example.com:5432", PublicRefusal::Port(AgentPorts::Between(20000..=20999)), 308),
    ] {
        assert_eq!(check(url), Err(refusal.clone()), "{url}");
        assert_eq!(refusal.code(), code);
    }

    let (config, _) = parse(
        &full_site(),
        &FULL.replace("demo.example.com, '*.demo", "'*.example.com', '*.demo").replace("20000-20999", "any"),
    )
    .unwrap();
    let check = |url: &str| config.check_public(&url.parse().unwrap());
    assert_eq!(check("https://api.example.com"), Err(cloud("https://api.example.com")));
    assert_eq!(check("tls://api.example.com"), Err(cloud("https://api.example.com")), "one socket, one name");
    assert_eq!(check("http://api.example.com"), Ok(()));
    assert_eq!(check("tcp://x.example.com:5432"), Err(cloud("tcp://connect.example.com:5432")));
    assert_eq!(check("https://*.example.com"), Ok(()));

    let (config, _) = parse(&Site::new(), SMALLEST).unwrap();
    for url in ["https://a.apps.example.com", "tcp://a.b:20000", "tls://a.b", "http://a.b"] {
        let refusal = config.check_public(&url.parse().unwrap()).unwrap_err();
        assert!(matches!(refusal, PublicRefusal::NoListener(_)), "{url}: {refusal}");
    }
}

/// The full file with a section `acme` and without other certificates.
fn with_acme(section: &str) -> String {
    let files = "certificates:\n  - {certificate_file: certificate.pem, private_key_file: private-key.pem}\n";
    assert!(FULL.contains(files));
    FULL.replace(files, &format!("acme: {{{section}}}\n"))
}

const ACME: &str = "directory_url: https://ca.example.com/directory, accept_terms: true";

#[test]
fn acme_takes_the_names_of_agents_and_https_endpoints_unless_some_are_listed() {
    let site = full_site();
    let (config, warnings) = parse(&site, &with_acme(ACME)).unwrap();
    let acme = config.acme.unwrap();
    assert_eq!(acme.names, ["connect.example.com", "api.example.com"]);
    assert_eq!((acme.challenge, acme.renew_before), (ChallengeKind::TlsAlpn, None));
    assert_eq!(acme.state, site.path("acme"));
    assert!(!site.path("acme").exists(), "reading changes nothing");
    let warnings: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    assert!(warnings.len() == 1 && warnings[0].contains("no certificate is valid for *.apps"), "{warnings:?}");

    let more = "names: [connect.example.com, x.example.com], contact: ops@example.com, challenge: http-01, state: kept, \
                renew_before: 240h";
    let (config, _) = parse(&site, &with_acme(&format!("{ACME}, {more}"))).unwrap();
    let acme = config.acme.unwrap();
    assert_eq!(acme.names, ["connect.example.com", "x.example.com"]);
    assert_eq!((&*acme.contact, acme.challenge), (&["mailto:ops@example.com".to_owned()][..], ChallengeKind::Http));
    assert_eq!((&acme.state, acme.renew_before.unwrap().as_secs()), (&site.path("kept"), 864_000));

    // Beside files, the authority is asked for the rest.
    site.write_certificate("", &["connect.example.com"], |_| ());
    let (config, _) =
        parse(&site, &FULL.replace("key_file: keys", &format!("acme: {{{ACME}}}\nkey_file: keys"))).unwrap();
    assert_eq!(config.acme.unwrap().names, ["api.example.com"]);
}

#[test]
fn mistakes_in_acme_are_named_with_what_would_be_right() {
    let site = full_site();
    site.write("ca.pem", "no certificate");
    for (section, says) in [
        ("accept_terms: true", "acme.directory_url: is missing"),
        ("directory_url: 'http://ca.example.com/dir', accept_terms: true", "must begin with https://"),
        ("directory_url: /directory, accept_terms: true", "must be a URL such as https://"),
        (
            "directory_url: https://ca.example.com/directory",
            "acme.accept_terms: is missing: read the authority's terms",
        ),
        ("directory_url: https://ca.example.com/directory, accept_terms: false", "and write true to accept them"),
        ("names: ['*.example.com']", "acme.names[0]: \"*.example.com\": a wildcard can be proved by DNS-01 only"),
        ("names: [a.example.com, 'https://x']", "acme.names[1]: \"https://x\""),
        ("names: [192.0.2.1]", "acme.names[0]: \"192.0.2.1\": must be a plain name"),
        ("names: [a.internal]", "must be a plain name"),
        ("names: [connect.example.com, a.test, A.test]", "a.test is there twice"),
        ("names: [a.example.com]", "connect.names: connect.example.com: no certificate is valid"),
        ("challenge: dns-01", "acme.challenge: \"dns-01\": must be \"tls-alpn-01\" or \"http-01\""),
        ("contact: ops", "acme.contact: \"ops\": must be an email address"),
        ("directory_ca_file: ca.pem", "acme.directory_ca_file: \"ca.pem\": must be a PEM file"),
        ("directory_ca_file: none.pem", "acme.directory_ca_file: \"none.pem\": cannot be read"),
        ("renew_before: 0s", "acme.renew_before: \"0s\": must be from 1s"),
        ("directory_uri: x", "acme.directory_uri: unknown key: did you mean \"directory_url\"?"),
    ] {
        let section = if section.contains("accept_terms") || section.contains("directory_url: https") {
            section.to_owned()
        } else {
            format!("{ACME}, {section}")
        };
        let errors = parse(&site, &with_acme(&section)).map(|_| ()).unwrap_err();
        assert!(errors.contains(says), "{section}: {errors}");
    }
    let without_http = with_acme(&format!("{ACME}, challenge: http-01")).replace("  http: 0.0.0.0:80\n", "");
    let errors = parse(&site, &without_http).map(|_| ()).unwrap_err();
    assert!(errors.contains("acme.challenge: \"http-01\": needs listeners.http"), "{errors}");
}

#[test]
fn acme_on_other_ports_than_authorities_ask_at_draws_a_warning() {
    let site = full_site();
    for (challenge, from, to, says) in [
        ("http-01", "0.0.0.0:80", "0.0.0.0:8080", "http-01 comes to port 80"),
        ("tls-alpn-01", "0.0.0.0:443", "0.0.0.0:8443", "tls-alpn-01 comes to port 443"),
    ] {
        let text = with_acme(&format!("{ACME}, challenge: {challenge}")).replace(from, to);
        let (_, warnings) = parse(&site, &text).unwrap();
        assert!(warnings.iter().any(|warning| warning.to_string().contains(says)), "{warnings:?}");
    }
}

#[test]
fn reload_names_what_needs_a_restart_and_nothing_else() {
    let (site, old) = full();
    let changes = |from: &str, to: &str| {
        let (new, _) = parse(&site, &FULL.replace(from, to)).unwrap();
        Config::changes_needing_restart(&old, &new)
    };
    assert_eq!(changes("", ""), Vec::<String>::new());
    assert_eq!(changes("http: 0.0.0.0:80", "http: 0.0.0.0:81"), ["listeners.http"]);
    assert_eq!(changes("0.0.0.0:443", "0.0.0.0:444"), ["listeners.agents", "listeners.https", "listeners.tls"]);
    assert_eq!(changes("keys/identity.key", "keys/other.key"), ["key_file"]);
    assert_eq!(changes("format: json", "format: text"), ["log.format"]);
    assert_eq!(changes("addresses: 0.0.0.0", "addresses: '::'"), ["listeners.tcp.addresses"]);
    for (from, to) in [
        ("sessions_max: 600", "sessions_max: 601"),
        ("level: debug", "level: info"),
        ("id: site1", "id: site2"),
        ("20000-20999", "20000-20998"),
        ("apps.example.com", "x.example.com"),
        ("tls://db.example.com", "tls://db2.example.com"),
    ] {
        assert_eq!(changes(from, to), Vec::<String>::new(), "{to}");
    }
}

#[test]
fn reload_keeps_what_needs_a_restart_and_takes_the_rest() {
    let (site, old) = full();
    let text = FULL
        .replace(": 0.0.0.0", ": 127.0.0.1")
        .replace("20000-20999", "30000-30001")
        .replace("10.0.0.5", "10.0.0.6")
        .replace("keys/", "")
        .replace("600", "7");
    let (mut new, _) = parse(&site, &text.replace("level: debug, format: json", "level: warn")).unwrap();
    new.keep_from(&old);
    assert_eq!(Config::changes_needing_restart(&old, &new), Vec::<String>::new());
    assert_eq!(new.listeners.tcp.agent_ports, AgentPorts::Between(30000..=30001));
    assert!(new.listeners.trusted_proxies.announces([10, 0, 0, 6].into(), 443));
    assert_eq!(new.limits.sessions_max, 7);
    assert_ne!(new.log.level, old.log.level);
}

#[test]
fn agents_may_come_from_ten_thousand_networks_and_from_no_more() {
    let networks = |count: u32| {
        let list: Vec<_> = (0..count).map(|at| format!("10.{}.{}.0/24", at / 256, at % 256)).collect();
        format!("[{}, '2001:db8::/32']", list.join(", "))
    };
    let site = full_site();
    let text = |count| FULL.replace("[10.7.0.0/16]", &networks(count)).replace("[10.0.0.0/8]", &networks(count));
    let (config, _) = parse(&site, &text(9_999)).unwrap();
    let credential = config.accounts.credential("clinic7").unwrap();
    let check = |address: &str| config.accounts.check_source(credential, address.parse().unwrap());
    for inside in ["10.0.0.1", "10.39.14.255", "::ffff:10.39.14.1", "2001:db8::7"] {
        assert_eq!(check(inside), Ok(()), "{inside}");
    }
    for outside in ["10.39.15.1", "11.0.0.1", "2001:db9::7", "::1"] {
        assert_eq!(check(outside), Err(LogInRefusal::AccountSource), "{outside}");
    }
    let error = parse(&site, &text(10_000)).unwrap_err();
    for path in ["accounts[1].allowed_networks", "credentials[1].allowed_networks"] {
        assert!(error.contains(path) && error.contains("10000"), "{error}");
    }
}

/// Every value of the file in turn becomes something else: the result is a configuration or a list of errors, and each
/// error says where.
#[test]
fn file_with_any_value_exchanged_is_read_or_refused_with_paths() {
    let site = full_site();
    let tree = adit_gateway::yaml::parse(FULL).unwrap().value;
    let mut pointers = Vec::new();
    collect_pointers(&tree, String::new(), &mut pointers);
    assert!(pointers.len() > 60, "{}", pointers.len());
    let mut refused = 0;
    for pointer in &pointers {
        for other in [
            json!(null),
            json!(true),
            json!(-1),
            json!(1e300),
            json!(""),
            json!("\u{0}*:/@é"),
            json!([]),
            json!([[{}]]),
            json!({"": 1}),
        ] {
            let mut changed = tree.clone();
            *changed.pointer_mut(pointer).unwrap() = other;
            if let Err(error) = parse(&site, &changed.to_string()) {
                refused += 1;
                assert!(error.lines().all(|line| line.split(": ").count() >= 3), "{pointer}: {error}");
            }
        }
    }
    assert!(refused > pointers.len() * 4, "{refused}");
}

fn collect_pointers(value: &Value, at: String, pointers: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(key, value)| collect_pointers(value, format!("{at}/{key}"), pointers));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, value)| collect_pointers(value, format!("{at}/{i}"), pointers));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    if !at.is_empty() {
        pointers.push(at);
    }
}

#[test]
fn example_has_every_limit_with_its_default() {
    let (config, _) = parse(&Site::new(), include_str!("../example.yml")).unwrap();
    assert_eq!(config.limits, Limits::default());
    let keys = limits::COUNTS.iter().map(|count| count.key).chain(limits::SPANS.iter().map(|span| span.key));
    for key in keys {
        assert!(include_str!("../example.yml").contains(&format!("\n  {key}: ")), "{key}");
    }
}

#[test]
fn admin_listener_is_private_or_has_certificates_on_both_sides() {
    let site = full_site();
    site.write_certificate("operators-", &["operators"], |params| {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    });
    let files = "certificate_file: certificate.pem, private_key_file: private-key.pem";
    let tls = format!("{{{files}, client_ca_file: operators-certificate.pem}}");
    let with = |section: &str| parse(&site, &format!("{FULL}admin: {section}\n"));
    let (config, _) = with("{socket: run/admin.sock, listen: '[::1]:4041'}").unwrap();
    assert_eq!(config.admin.socket, Some(site.path("run/admin.sock")));
    assert!(config.admin.listen.as_ref().unwrap().tls.is_none());
    let (certified, _) = with(&format!("{{listen: '0.0.0.0:4041', tls: {tls}}}")).unwrap();
    assert!(certified.admin.listen.as_ref().unwrap().tls.is_some());
    assert_eq!(Config::changes_needing_restart(&config, &certified), ["admin"]);
    let long = "x".repeat(104);
    for (section, says) in [
        ("{listen: '0.0.0.0:4041'}", "admin.listen: \"0.0.0.0:4041\": needs admin.tls"),
        ("{listen: 4041}", "admin.listen: 4041: must be"),
        (&*format!("{{socket: a.sock, tls: {tls}}}"), "admin.tls: is for admin.listen"),
        (&*format!("{{listen: '127.0.0.1:1', tls: {{{files}}}}}"), "admin.tls.client_ca_file: is missing"),
        (
            &*format!("{{listen: '127.0.0.1:1', tls: {{{files}, client_ca_file: private-key.pem}}}}"),
            "has no certificate",
        ),
        (&*format!("{{socket: {long}}}"), "admin.socket: "),
        ("{sockets: a}", "admin.sockets: unknown key"),
    ] {
        let error = with(section).map(|_| ()).unwrap_err();
        assert!(error.contains(says), "{section}: {error}");
    }
}

#[test]
fn callback_host_is_a_name_that_browsers_can_go_to() {
    let with = |host: &str| format!("{FULL}log_ins: {{callback_host: '{host}'}}\n");
    let (config, _) = parse(&full_site(), &with("login.example.com:8443")).unwrap();
    for scheme in ["https", "http", "tls"] {
        let url = format!("{scheme}://login.example.com").parse().unwrap();
        assert_eq!(config.check_public(&url), Err(PublicRefusal::CallbackHost), "{scheme}");
    }
    let callback_host = config.log_ins.callback_host.unwrap();
    let party = Party { account: "a b", client: "mark" };
    assert_eq!(callback_host.redirect(party), "https://login.example.com:8443/ngrok/oauth2/callback/a%20b/mark");
    for (host, reason) in [
        ("https://login.example.com", "a host name such as login.example.com"),
        ("login.example.net", "no certificate is valid for this name"),
        ("connect.example.com", "is the name that agents connect to on the same socket"),
    ] {
        let error = parse(&full_site(), &with(host)).map(|_| ()).unwrap_err();
        assert!(error.contains("log_ins.callback_host") && error.contains(reason), "{host}: {error}");
    }
    let without = parse(&Site::new(), &format!("{SMALLEST}log_ins: {{callback_host: login.example.com}}\n"));
    assert!(without.map(|_| ()).unwrap_err().contains("can never be reached: there is no listeners.https"));
}

#[test]
fn webhook_is_https_or_here_and_shows_no_secret() {
    let site = full_site();
    let keys = site.write("webhook.secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n");
    fs::set_permissions(keys, Permissions::from_mode(0o600)).unwrap();
    site.write("short.secret", "whsec_c2hvcnQ=\n");
    let with = |section: &str| parse(&site, &format!("{SMALLEST}events: {section}\n"));
    let url = "url: 'https://hooks.example.com/in/path-of-a-secret'";
    let (config, _) = with(&format!("{{webhook: {{{url}, secret_file: webhook.secret, timeout: 3s}}}}")).unwrap();
    let webhook = config.events.webhook.as_ref().unwrap();
    assert_eq!((webhook.timeout, config.events.settle), (Duration::from_secs(3), Duration::from_secs(30)));
    assert!(webhook.takes(Kind::SiteUp) && !webhook.takes(Kind::WebhookFailing));
    assert!(!format!("{config:?}").contains("path-of-a-secret"));
    let some = format!("{{webhook: {{{url}, secret_file: webhook.secret, kinds: [site.down]}}}}");
    let (config, _) = with(&some).unwrap();
    assert!(!config.events.webhook.as_ref().unwrap().takes(Kind::SiteUp));
    assert!(with("{webhook: {url: 'http://127.0.0.1:1/', secret_file: webhook.secret}}").is_ok());
    for (section, says) in [
        ("{settle: 50ms}", "events.settle: \"50ms\": must be from 100ms to 1h"),
        ("{webhook: {secret_file: webhook.secret}}", "events.webhook.url: is missing"),
        ("{webhook: {url: 'http://hooks.example.com/', secret_file: webhook.secret}}", "must be a URL such as https"),
        ("{webhook: {url: 'https://a:b@hooks.example.com/', secret_file: webhook.secret}}", "must be a URL such as"),
        (&*format!("{{webhook: {{{url}}}}}"), "events.webhook.secret_file: is missing"),
        (
            &*format!("{{webhook: {{{url}, secret_file: short.secret}}}}"),
            "secret_file: \"short.secret\": must have one",
        ),
        (&*format!("{{webhook: {{{url}, secret_file: webhook.secret, secret: x}}}}"), "a secret does not stand in"),
        (&*format!("{{webhook: {{{url}, secret_file: webhook.secret, kinds: [site]}}}}"), "must be one of site.up"),
        (
            &*format!("{{webhook: {{{url}, secret_file: webhook.secret, ca_file: webhook.secret}}}}"),
            "events.webhook.ca_file",
        ),
    ] {
        let error = with(section).unwrap_err();
        assert!(error.contains(says), "{section}: {error}");
        assert!(!error.contains("path-of-a-secret") && !error.contains("a:b@"), "{error}");
    }
}
