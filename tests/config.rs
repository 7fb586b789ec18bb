//! The agent's configuration file, through the public API: what is read, what is refused and how it is said.

#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps; clippy.toml covers only #[test] functions")]

use std::collections::HashMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use adit::config::{
    Binding, CONFIG_BYTES_MAX, CONNECT_PINS_MAX, Config, ConfigErrors, ConnectCas, DESCRIPTION_BYTES_MAX,
    ENDPOINTS_MAX, METADATA_BYTES_MAX, PublicKeyPin, Resources, TRAFFIC_POLICY_BYTES_MAX, TlsCiphers, Warning,
};
use adit::endpoint_url::{RequestedUrl, Scheme};
use adit::log_format::{LogFormat, LogLevel};
use adit::message::INSTANCE_LEN_MAX;
use adit::proxy_protocol::ProxyProtocol;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A file in a directory of its own, readable by its owner only, and an environment.
struct Setup {
    dir: TempDir,
    environment: HashMap<String, String>,
}

impl Setup {
    fn new(text: &str) -> Self {
        let setup = Self { dir: tempfile::tempdir().unwrap(), environment: HashMap::new() };
        setup.write("adit.json", text, 0o600);
        setup
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("adit.json")
    }

    fn load(&self) -> Result<(Config, Vec<Warning>), ConfigErrors> {
        Config::load(&self.path(), &|name| self.environment.get(name).cloned())
    }
}

/// A configuration that is right, to be spoilt by a test.
fn good() -> Value {
    json!({
        "version": 3,
        "agent": {"authtoken": "tok_1", "connect_url": "connect.example.com"},
        "endpoints": [{"name": "api", "url": "https://api.internal", "upstream": {"url": "8080"}}],
    })
}

/// `good()` with the value at `pointer` replaced or added.
fn with(pointer: &str, value: Value) -> Value {
    let mut config = good();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = config.pointer_mut(parent).unwrap();
    match parent {
        Value::Object(members) => drop(members.insert(key.to_owned(), value)),
        Value::Array(items) => items.push(value),
        _ => panic!("{pointer}"),
    }
    config
}

fn loaded(config: &Value) -> (Config, Vec<Warning>) {
    let setup = Setup::new(&config.to_string());
    setup.load().unwrap_or_else(|errors| panic!("{errors}"))
}

/// The problems of a configuration, without the file's name.
fn problems(config: &Value) -> Vec<String> {
    let setup = Setup::new(&config.to_string());
    problems_of(&setup)
}

fn problems_of(setup: &Setup) -> Vec<String> {
    let Err(errors) = setup.load() else { return Vec::new() };
    let file = format!("{}: ", setup.path().display());
    errors.problems().iter().map(|problem| problem.to_string().replace(&file, "")).collect()
}

fn endpoint(name: &str, url: &str) -> Value {
    json!({"name": name, "url": url, "upstream": {"url": "tcp://127.0.0.1:1"}})
}

#[test]
fn small_file_has_the_documented_defaults() {
    let (config, warnings) = loaded(&good());
    assert!(warnings.is_empty(), "{warnings:?}");
    let agent = &config.agent;
    assert_eq!(agent.authtoken.expose(), "tok_1");
    assert_eq!(agent.connect.to_string(), "connect.example.com:443");
    assert_eq!(agent.connect_cas, ConnectCas::Trusted);
    assert!(agent.connect_pins.is_empty());
    assert_eq!(agent.tls_ciphers, TlsCiphers::Auto);
    assert_eq!(agent.connect_timeout, Duration::from_secs(10));
    assert_eq!(agent.heartbeat_interval, Duration::from_secs(10));
    assert_eq!(agent.heartbeat_tolerance, Duration::from_secs(15));
    assert_eq!(agent.drain_timeout, Duration::from_secs(10));
    assert_eq!((agent.log.level, agent.log.format), (LogLevel::Info, LogFormat::Logfmt));
    assert!(!agent.remote_management && agent.metadata.is_empty() && agent.instance_id.is_none());
    assert_eq!(agent.resources, Resources { memory_max: 8 << 20, streams_max: 2036, idle_timeout: None });
    let endpoint = &config.endpoints[0];
    assert_eq!(endpoint.upstream.to_string(), "http://localhost:8080");
    assert_eq!(endpoint.binding, Binding::Internal);
    assert!(!endpoint.pooling_enabled && endpoint.traffic_policy.is_none());
}

#[test]
fn every_key_is_read() {
    let (config, warnings) = loaded(&json!({
        "version": "3",
        "agent": {
            "authtoken": "tok_1", "connect_url": "tls://[2001:db8::1]:8443", "connect_cas": "/etc/ca.pem",
            "connect_pin": PIN, "tls_ciphers": "chacha20",
            "connect_timeout": "5s", "heartbeat_interval": "1m30s", "heartbeat_tolerance": "2s",
            "metadata": "box 7", "instance_id": "box-7", "log": "stderr", "log_level": "debug", "log_format": "json",
            "remote_management": true, "drain_timeout": "0s",
            "memory_max": "4MiB", "streams_max": 100, "idle_timeout": "2h",
            "dns_resolver_ips": ["192.0.2.53", "2001:db8::53", "[2001:db8::54]:5353"], "connect_interface": "eth1.2",
            "connect_mss": 1200, "proxy_url": "socks5://me:pw@proxy.lan",
        },
        "endpoints": [
            {
                "name": "db", "url": "tcp://db.internal:5432", "bindings": ["internal"],
                "upstream": {"url": "192.0.2.5:5432", "proxy_protocol": 2},
                "pooling_enabled": true, "metadata": "m", "description": "d",
                "traffic_policy": {"on_tcp_connect": []},
            },
            {
                "name": "web", "bindings": "public", "upstream": {"url": 8080, "protocol": "http1", "proxy_protocol": "1"},
                "traffic_policy": "on_http_request: []",
            },
            {"name": "any", "url": "tcp://", "upstream": {"url": "tls://db:5433"}},
        ],
    }));
    assert!(warnings.is_empty(), "{warnings:?}");
    let agent = &config.agent;
    assert_eq!((agent.connect.host(), agent.connect.port()), ("2001:db8::1", 8443));
    assert_eq!(agent.connect_cas, ConnectCas::File("/etc/ca.pem".into()));
    assert_eq!(agent.connect_pins, [PublicKeyPin::parse(PIN).unwrap()]);
    assert_eq!(agent.tls_ciphers, TlsCiphers::ChaCha20);
    assert_eq!(agent.connect_timeout, Duration::from_secs(5));
    assert_eq!(agent.heartbeat_interval, Duration::from_secs(90));
    assert_eq!(agent.heartbeat_tolerance, Duration::from_secs(2));
    assert_eq!((agent.metadata.as_str(), agent.instance_id.as_deref()), ("box 7", Some("box-7")));
    let resolvers: Vec<_> = agent.egress.dns_resolvers.iter().map(ToString::to_string).collect();
    assert_eq!(resolvers, ["192.0.2.53:53", "[2001:db8::53]:53", "[2001:db8::54]:5353"]);
    assert_eq!((agent.egress.interface.as_deref(), agent.egress.mss), (Some("eth1.2"), Some(1200)));
    assert_eq!(agent.egress.proxy.as_ref().map(ToString::to_string).as_deref(), Some("socks5://proxy.lan:1080"));
    assert_eq!((agent.log.level, agent.log.format), (LogLevel::Debug, LogFormat::Json));
    assert!(agent.remote_management);
    assert_eq!(agent.drain_timeout, Duration::ZERO);
    let idle_timeout = Some(Duration::from_secs(7200));
    assert_eq!(agent.resources, Resources { memory_max: 4 << 20, streams_max: 100, idle_timeout });
    let [db, web, any] = config.endpoints.as_slice() else { panic!() };
    assert_eq!(db.url, RequestedUrl::parse("tcp://db.internal:5432").unwrap());
    assert_eq!(db.upstream.to_string(), "tcp://192.0.2.5:5432");
    assert_eq!(db.upstream.proxy_protocol, ProxyProtocol::V2);
    assert!(db.pooling_enabled);
    assert_eq!((db.metadata.as_str(), db.description.as_str()), ("m", "d"));
    assert_eq!(db.traffic_policy.as_deref(), Some("{\"on_tcp_connect\":[]}"));
    assert_eq!(web.url, RequestedUrl::Assign { scheme: Scheme::Https });
    assert_eq!((web.binding, web.upstream.proxy_protocol), (Binding::Public, ProxyProtocol::V1));
    assert_eq!(web.upstream.to_string(), "http://localhost:8080");
    assert_eq!(web.traffic_policy.as_deref(), Some("on_http_request: []"));
    assert_eq!(any.url, RequestedUrl::Assign { scheme: Scheme::Tcp });
    assert!(any.upstream.is_tls());
}

#[test]
fn each_mistake_is_named_with_path_value_and_what_would_be_right() {
    let table = [
        ("/version", json!(2), "version: 2: must be 3"),
        (
            "/agent/connect_url",
            json!("http://x"),
            "agent.connect_url: \"http://x\": must be host, host:port, https://host:port or tls://host:port: the connection is always TLS",
        ),
        (
            "/agent/connect_url",
            json!(null),
            "agent.connect_url: is missing: the gateway's host or host:port; there is no default",
        ),
        (
            "/agent/connect_cas",
            json!(""),
            "agent.connect_cas: \"\": must be \"trusted\", \"host\" or the path of a PEM file",
        ),
        ("/agent/tls_ciphers", json!("rc4"), "agent.tls_ciphers: \"rc4\": must be \"auto\", \"aes\" or \"chacha20\""),
        ("/agent/connect_timeout", json!("0s"), "agent.connect_timeout: \"0s\": must be from 1s to 10m"),
        (
            "/agent/heartbeat_interval",
            json!(10),
            "agent.heartbeat_interval: 10: must be a duration in quotes such as \"10s\", \"1m30s\" or \"500ms\"",
        ),
        ("/agent/drain_timeout", json!("11m"), "agent.drain_timeout: \"11m\": must be from 0s to 10m"),
        (
            "/agent/memory_max",
            json!("8MB"),
            "agent.memory_max: \"8MB\": must be a size such as \"8MiB\" or \"512KiB\", or a number of bytes",
        ),
        ("/agent/memory_max", json!("1023KiB"), "agent.memory_max: \"1023KiB\": must be from 1MiB to 1GiB"),
        ("/agent/memory_max", json!((1 << 30) + 1), "agent.memory_max: 1073741825: must be from 1MiB to 1GiB"),
        ("/agent/streams_max", json!(0), "agent.streams_max: 0: must be a whole number from 1 to 2036"),
        ("/agent/streams_max", json!(2037), "agent.streams_max: 2037: must be a whole number from 1 to 2036"),
        ("/agent/idle_timeout", json!("721h"), "agent.idle_timeout: \"721h\": must be from 0s to 720h"),
        (
            "/agent/log_level",
            json!("loud"),
            "agent.log_level: \"loud\": must be \"crit\", \"warn\", \"error\", \"info\" or \"debug\"",
        ),
        ("/agent/log_format", json!("xml"), "agent.log_format: \"xml\": must be \"logfmt\", \"json\" or \"term\""),
        ("/agent/log", json!(5), "agent.log: 5: must be \"stderr\""),
        ("/agent/remote_management", json!("no"), "agent.remote_management: \"no\": must be true or false"),
        ("/agent/authtoken", json!("two words"), "agent.authtoken: [secret]: must be one word of printable ASCII"),
        ("/agent/authtoken", json!(""), "agent.authtoken: [secret]: must not be empty"),
        (
            "/agent/authtoken",
            json!(null),
            "agent.authtoken: is missing: set it here, name a file in authtoken_file, or set ADIT_AUTHTOKEN",
        ),
        ("/agent/server_addr", json!("x:443"), "agent.server_addr: is the name of ngrok's version 2: use connect_url"),
        (
            "/agent/proxy_url",
            json!("https://u:p@x"),
            "agent.proxy_url: [secret]: TLS to the proxy itself is not supported: use http://host:port; what passes \
             through is TLS anyway",
        ),
        (
            "/agent/proxy_url",
            json!("ftp://u:p@x"),
            "agent.proxy_url: [secret]: must be http://host:port or socks5://host:port, with user:password@ before the host",
        ),
        (
            "/agent/dns_resolver_ips",
            json!(["dns.example"]),
            "agent.dns_resolver_ips[0]: \"dns.example\": must be an IP address, or one with a port as in 192.0.2.1:5353 or \
             [2001:db8::1]:5353",
        ),
        (
            "/agent/dns_resolver_ips",
            json!(["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"]),
            "agent.dns_resolver_ips: a list: must have at most 3 entries, this has 4",
        ),
        (
            "/agent/connect_interface",
            json!("an-interface-too-long"),
            "agent.connect_interface: \"an-interface-too-long\": must be the name of a network interface such as \"eth1\", \
             of 1 to 15 characters",
        ),
        ("/agent/connect_mss", json!(100), "agent.connect_mss: 100: must be a whole number from 536 to 1460"),
        ("/agent/log_lvl", json!("info"), "agent.log_lvl: unknown key: did you mean \"log_level\"?"),
        ("/agents", json!({}), "agents: unknown key: did you mean \"agent\"?"),
        (
            "/tunnels",
            json!({}),
            "tunnels: is deprecated by ngrok and not supported: write each of them as an entry of endpoints",
        ),
        ("/endpoints", json!({}), "endpoints: an object: must be a list of objects"),
        ("/endpoints/0/name", json!(null), "endpoints[0].name: is missing: a string is needed"),
        (
            "/endpoints/0/name",
            json!("a\nb"),
            "endpoints[0].name: \"a\\nb\": must be at most 255 bytes without control characters",
        ),
        (
            "/endpoints/0/url",
            json!("tcp://db.internal"),
            "endpoints[0].url: \"tcp://db.internal\": a tcp endpoint needs a port, as in tcp://db.internal:5432",
        ),
        (
            "/endpoints/0/bindings",
            json!(["public"]),
            "endpoints[0].bindings: a list: \"public\" cannot have a url whose host ends with .internal",
        ),
        (
            "/endpoints/0/bindings",
            json!("kubernetes"),
            "endpoints[0].bindings: \"kubernetes\": \"kubernetes\" is not supported: must be \"public\" or \"internal\"",
        ),
        (
            "/endpoints/0/bindings",
            json!(["internal", "public"]),
            "endpoints[0].bindings: a list: must have at most 1 entries, this has 2",
        ),
        ("/endpoints/0/upstream", json!(null), "endpoints[0].upstream: is missing: an object is needed"),
        ("/endpoints/0/upstream", json!("8080"), "endpoints[0].upstream: \"8080\": must be an object"),
        (
            "/endpoints/0/upstream/url",
            json!("ftp://x"),
            "endpoints[0].upstream.url: \"ftp://x\": the scheme must be http, https, tcp or tls",
        ),
        (
            "/endpoints/0/upstream/url",
            json!(70000),
            "endpoints[0].upstream.url: 70000: the port must be a number from 1 to 65535",
        ),
        (
            "/endpoints/0/upstream/url",
            json!("http://web/app"),
            "endpoints[0].upstream.url: \"http://web/app\": a path is not allowed: visitors choose the path, write only scheme://host:port",
        ),
        ("/endpoints/0/upstream/url", json!(null), "endpoints[0].upstream.url: is missing: a string is needed"),
        (
            "/endpoints/0/upstream/proxy_protocol",
            json!(3),
            "endpoints[0].upstream.proxy_protocol: 3: must be 1 or 2; leave it out for none",
        ),
        (
            "/endpoints/0/upstream/protocol",
            json!("http2"),
            "endpoints[0].upstream.protocol: \"http2\": HTTP/2 to upstreams is not supported: must be \"http1\"",
        ),
        (
            "/endpoints/0/traffic_policy",
            json!([]),
            "endpoints[0].traffic_policy: a list: must be an object, or a string that holds JSON or YAML",
        ),
        (
            "/endpoints/0/traffic_policy_file",
            json!("p"),
            "endpoints[0].traffic_policy_file: is not supported: write the policy here as traffic_policy",
        ),
        (
            "/endpoints/0/pooling",
            json!(true),
            "endpoints[0].pooling: unknown key: the keys here are name, url, pooling_enabled, bindings, upstream, agent_tls_termination, metadata, description, traffic_policy",
        ),
    ];
    for (pointer, value, expected) in table {
        assert_eq!(problems(&with(pointer, value)), [expected], "{pointer}");
    }
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let problems = problems(&json!({
        "agent": {"connect_url": "", "log_level": 1},
        "endpoints": [{"name": "a", "upstream": {"url": "file:///"}}, {"upstream": {"urll": "8080"}}],
    }));
    let starts = [
        "version: is missing",
        "agent.authtoken: is missing",
        "agent.connect_url: \"\": the host is missing",
        "agent.log_level: 1",
        "endpoints[0].upstream.url: \"file:///\"",
        "endpoints[1].name: is missing",
        "endpoints[1].upstream.url: is missing",
        "endpoints[1].upstream.urll: unknown key: did you mean \"url\"?",
    ];
    assert_eq!(problems.len(), starts.len(), "{problems:#?}");
    for (problem, start) in problems.iter().zip(starts) {
        assert!(problem.starts_with(start), "{problem}");
    }
}

#[test]
fn names_and_addresses_occur_once_unless_pooled() {
    let mut config = good();
    config["endpoints"] = json!([endpoint("a", "https://x.internal"), endpoint("a", "x.internal:443")]);
    let found = problems(&config);
    assert_eq!(
        found,
        [
            "endpoints[1].name: \"a\": is the name of endpoints[0] too: every endpoint needs its own",
            "endpoints[1].url: \"x.internal:443\": is the address of endpoints[0] too: change it, or set pooling_enabled on both",
        ]
    );
    config["endpoints"][1]["name"] = json!("b");
    config["endpoints"][1]["pooling_enabled"] = json!(true);
    assert_eq!(problems(&config).len(), 1);
    config["endpoints"][0]["pooling_enabled"] = json!(true);
    assert_eq!(problems(&config).len(), 0);
    config["endpoints"] = json!([endpoint("a", "tcp://"), endpoint("b", "tcp://")]);
    assert_eq!(problems(&config).len(), 0);
}

#[test]
fn internal_binding_needs_an_internal_name() {
    for url in [json!("https://api.example.com"), json!(""), json!(null)] {
        let mut config = with("/endpoints/0/bindings", json!(["internal"]));
        config["endpoints"][0]["url"] = url;
        let found = problems(&config);
        assert_eq!(found, ["endpoints[0].bindings: a list: \"internal\" needs a url whose host ends with .internal"]);
    }
}

#[test]
fn protocol_of_http_is_refused_on_other_endpoints() {
    let mut config = with("/endpoints/0/upstream/protocol", json!("http1"));
    config["endpoints"][0]["url"] = json!("tls://api.internal");
    assert_eq!(
        problems(&config),
        ["endpoints[0].upstream.protocol: \"http1\": is only for http and https endpoints: remove it"]
    );
}

#[test]
fn token_of_the_environment_wins() {
    let setup = Setup::new(&good().to_string()).env("NGROK_AUTHTOKEN", "tok_n");
    assert_eq!(setup.load().unwrap().0.agent.authtoken.expose(), "tok_n");
    let setup = setup.env("ADIT_AUTHTOKEN", "tok_a");
    assert_eq!(setup.load().unwrap().0.agent.authtoken.expose(), "tok_a");
    let setup = setup.env("ADIT_AUTHTOKEN", "");
    assert_eq!(setup.load().unwrap().0.agent.authtoken.expose(), "tok_n");
    let setup = setup.env("ADIT_AUTHTOKEN", "tok a");
    assert_eq!(problems_of(&setup), ["environment: ADIT_AUTHTOKEN: [secret]: must be one word of printable ASCII"]);
}

#[test]
fn token_file_is_read_and_trimmed_and_excludes_the_token_itself() {
    let setup = Setup::new("");
    let token = setup.write("token", "\ntok_f\n", 0o600);
    let mut config = with("/agent/authtoken_file", json!(token));
    setup.write("adit.json", &config.to_string(), 0o600);
    assert_eq!(
        problems_of(&setup),
        [format!("agent.authtoken_file: {token:?}: authtoken and authtoken_file exclude each other: keep one of them")]
    );
    config["agent"]["authtoken"] = json!(null);
    setup.write("adit.json", &config.to_string(), 0o600);
    let (loaded, warnings) = setup.load().unwrap();
    assert_eq!((loaded.agent.authtoken.expose(), warnings.len()), ("tok_f", 0));
    setup.write("token", "two words", 0o600);
    assert_eq!(
        problems_of(&setup),
        [format!("agent.authtoken_file: {token:?}: the file's text must be one word of printable ASCII")]
    );
    fs::remove_file(&token).unwrap();
    assert!(problems_of(&setup)[0].contains("cannot be read"));
}

#[test]
fn file_with_a_token_that_others_can_read_gets_a_warning() {
    for (mode, warned) in [(0o600, 0), (0o640, 1), (0o604, 1), (0o622, 0)] {
        let setup = Setup::new("");
        setup.write("adit.json", &good().to_string(), mode);
        let (_, warnings) = setup.load().unwrap();
        assert_eq!(warnings.len(), warned, "{mode:o}");
        let token = setup.write("token", "tok_f", mode);
        let mut config = with("/agent/authtoken_file", json!(token));
        config["agent"]["authtoken"] = json!(null);
        setup.write("adit.json", &config.to_string(), 0o644);
        let (_, warnings) = setup.load().unwrap();
        assert_eq!(warnings.len(), warned, "{mode:o}");
    }
}

#[test]
fn harmless_keys_of_ngroks_agent_are_ignored_with_a_warning() {
    for key in [
        "api_key",
        "crl_noverify",
        "update_check",
        "update_channel",
        "console_ui",
        "console_ui_color",
        "inspect_db_size",
        "local_storage",
        "web_addr",
        "web_allow_hosts",
    ] {
        let (_, warnings) = loaded(&with(&format!("/agent/{key}"), json!("hunter2")));
        assert_eq!(warnings.len(), 1, "{key}");
        assert_eq!(warnings[0].path, format!("agent.{key}"));
        assert!(warnings[0].text.starts_with("has no effect: "), "{key}");
        assert!(!warnings[0].to_string().contains("hunter2"));
    }
    for value in [json!("stdout"), json!("/var/log/adit"), json!(false)] {
        assert_eq!(loaded(&with("/agent/log", value)).1.len(), 1);
    }
}

#[test]
fn file_without_endpoints_is_usable_with_a_warning() {
    let (config, warnings) = loaded(&json!({"version": 3, "agent": good()["agent"]}));
    assert!(config.endpoints.is_empty());
    assert_eq!(warnings.len(), 1);
}

#[test]
fn proxy_of_the_environment_is_used_and_told() {
    let proxy = |setup: &Setup| {
        let (config, warnings) = setup.load().unwrap_or_else(|errors| panic!("{errors}"));
        (config.agent.egress.proxy.map(|proxy| proxy.to_string()), warnings.len())
    };
    let text = good().to_string();
    let set = || Setup::new(&text).env("ALL_PROXY", "socks5://u:pw@all.lan").env("https_proxy", "https.lan:3128");
    assert_eq!(proxy(&set()), (Some("http://https.lan:3128".to_owned()), 1));
    assert_eq!(proxy(&Setup::new(&text).env("http_proxy", "http://http.lan")), (None, 0));
    assert_eq!(proxy(&set().env("NO_PROXY", "localhost,.example.com")), (None, 0));
    let written = with("/agent/proxy_url", json!("http://file.lan")).to_string();
    let set = Setup::new(&written).env("HTTPS_PROXY", "nonsense://").env("NO_PROXY", "*");
    assert_eq!(proxy(&set), (Some("http://file.lan:80".to_owned()), 0));
    let wrong = Setup::new(&text).env("HTTPS_PROXY", "https://u:pw@proxy.lan");
    let found = wrong.load().unwrap_err().to_string();
    assert!(found.starts_with("environment: HTTPS_PROXY: [secret]: TLS to the proxy itself"), "{found}");
}

#[test]
fn secret_is_in_no_message_and_no_debug_output() {
    let secret = "hunter2";
    let spoilt = [
        with("/agent/authtoken", json!([secret])),
        with("/agent/authtoken", json!({"a": secret})),
        with("/agent/authtoken", json!(format!("{secret} {secret}"))),
        with("/agent/autthoken", json!(secret)),
        with("/agent/api_kee", json!(secret)),
        with("/agent/proxy_url", json!(format!("https://u:{secret}@proxy"))),
        with("/agent/proxy_url", json!(format!("http://u:{secret}%@proxy"))),
        with("/agent/proxy_url", json!([secret])),
        with("/agent/connect_url", json!(format!("https://u:{secret}@host"))),
        with("/agent/connect_url", json!(format!("https://host/?token={secret}"))),
        with("/endpoints/0/upstream/url", json!(format!("http://u:{secret}@web"))),
        with("/endpoints/0/url", json!(format!("https://u:{secret}@web.internal"))),
        with("/endpoints/0/agent_tls_termination", json!({"server_private_key": secret})),
        with("/endpoints/0/traffic_policy", json!([{"client_secret": secret}])),
        json!([secret]),
    ];
    for config in spoilt {
        let found = problems(&config);
        assert!(!found.is_empty(), "{config}");
        assert!(!found.concat().contains(secret), "{found:?}");
    }
    let (config, _) = loaded(&with("/agent/authtoken", json!(secret)));
    assert!(!format!("{config:?} {config:#?}").contains(secret));
    let (config, _) = loaded(&with("/agent/proxy_url", json!(format!("http://u:{secret}@proxy"))));
    assert!(!format!("{config:?} {config:#?}").contains(secret));
}

#[test]
fn limits_hold_at_the_bound_and_not_beyond() {
    let texts = [
        ("/agent/metadata", METADATA_BYTES_MAX),
        ("/endpoints/0/metadata", METADATA_BYTES_MAX),
        ("/endpoints/0/description", DESCRIPTION_BYTES_MAX),
        ("/endpoints/0/traffic_policy", TRAFFIC_POLICY_BYTES_MAX),
        ("/endpoints/0/name", 255),
        ("/agent/authtoken", 1024),
        ("/agent/instance_id", INSTANCE_LEN_MAX),
    ];
    for (pointer, bytes_max) in texts {
        assert!(problems(&with(pointer, json!("x".repeat(bytes_max)))).is_empty(), "{pointer}");
        assert_eq!(problems(&with(pointer, json!("x".repeat(bytes_max + 1)))).len(), 1, "{pointer}");
    }
    let budget = |memory_max: usize| {
        let mut config = with("/agent/memory_max", json!(memory_max));
        config["endpoints"][0]["traffic_policy"] = json!("x".repeat(TRAFFIC_POLICY_BYTES_MAX));
        problems(&config)
    };
    assert!(budget(2 << 20).is_empty());
    let expected = "agent.memory_max: 2097151: must be at least 2MiB, eight times the traffic policies of the file";
    assert_eq!(budget((2 << 20) - 1), [expected]);
    let endpoints = |count: usize| -> Value {
        let list = (0..count).map(|index| endpoint(&format!("e{index}"), &format!("tcp://x.internal:{}", index + 1)));
        with("/endpoints", list.collect())
    };
    assert_eq!(loaded(&endpoints(ENDPOINTS_MAX)).0.endpoints.len(), ENDPOINTS_MAX);
    assert_eq!(problems(&endpoints(ENDPOINTS_MAX + 1)).len(), 1);
    let text = good().to_string();
    let padded = |bytes: usize| format!("{text}{}", " ".repeat(bytes - text.len()));
    assert!(Setup::new(&padded(CONFIG_BYTES_MAX)).load().is_ok());
    assert!(problems_of(&Setup::new(&padded(CONFIG_BYTES_MAX + 1)))[0].contains("is longer than 1048576 bytes"));
}

#[test]
fn file_that_is_no_json_or_has_a_key_twice_is_refused() {
    let found = problems_of(&Setup::new("version: 3\n"));
    assert!(found[0].starts_with("is not valid JSON: "), "{found:?}");
    assert_eq!(problems_of(&Setup::new("[]")), ["a list: must be an object"]);
    let text = good().to_string().replacen("\"version\":3", "\"version\":3,\"version\":3", 1);
    assert_eq!(problems_of(&Setup::new(&text)), ["version: this key occurs more than once: keep one of them"]);
    let setup = Setup::new("");
    let yaml = setup.write("ngrok.yml", "version: 3\n", 0o600);
    let errors = Config::load(&yaml, &|_| None).unwrap_err();
    assert!(errors.to_string().ends_with("is YAML by its name: write it as JSON, with the same keys"));
}

#[test]
fn pins_are_read_in_both_forms_and_up_to_their_limit() {
    let agent = |pins: Value| json!({"authtoken": "tok_1", "connect_url": "x", "connect_cas": "/etc/ca.pem", "connect_pin": pins});
    let hex = format!("sha256:{}", "0f".repeat(32));
    let (config, warnings) = loaded(&with("/agent", agent(json!([PIN, hex]))));
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(config.agent.connect_pins, [PIN, &hex].map(|text| PublicKeyPin::parse(text).unwrap()));

    let full = with("/agent", agent(json!(vec![PIN; CONNECT_PINS_MAX])));
    assert_eq!(loaded(&full).0.agent.connect_pins.len(), CONNECT_PINS_MAX);
    let over = problems(&with("/agent", agent(json!(vec![PIN; CONNECT_PINS_MAX + 1]))));
    assert_eq!(over, ["agent.connect_pin: a list: must have at most 8 entries, this has 9"]);
    let empty = problems(&with("/agent", agent(json!([]))));
    assert_eq!(empty, ["agent.connect_pin: a list: names no key: remove it to run without, or name one"]);
    let wrong = problems(&with("/agent", agent(json!([PIN, "sha256/AAAA"]))));
    assert_eq!(wrong.len(), 1, "{wrong:?}");
    assert!(
        wrong[0].starts_with("agent.connect_pin[1]: \"sha256/AAAA\": must be the SHA-256 of the public key"),
        "{wrong:?}"
    );
}

#[test]
fn pin_without_a_private_authority_is_refused() {
    for cas in [json!(null), json!("trusted"), json!("host")] {
        let mut config = with("/agent/connect_pin", json!(PIN));
        config["agent"]["connect_cas"] = cas;
        let expected = format!(
            "agent.connect_pin: \"{PIN}\": needs connect_cas to be the PEM file of a private authority: the gateway's \
             certificate still has to come from there"
        );
        assert_eq!(problems(&config), [expected]);
    }
    // What is wrong with the other key is said once.
    let mut config = with("/agent/connect_pin", json!(PIN));
    config["agent"]["connect_cas"] = json!(5);
    assert_eq!(problems(&config), ["agent.connect_cas: 5: must be a string"]);
}

const PIN: &str = "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

#[test]
fn keys_that_ngroks_agent_would_not_accept_are_named() {
    let mut config = with("/agent/drain_timeout", json!("5s"));
    config["agent"]["connect_pin"] = json!(PIN);
    config["agent"]["tls_ciphers"] = json!("auto");
    config["endpoints"][0]["upstream"]["proxy_protocol"] = json!(1);
    let setup = Setup::new(&config.to_string());
    let foreign = Config::foreign_to_ngrok(&setup.path()).unwrap();
    let paths: Vec<&str> = foreign.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(paths, ["agent.connect_pin", "agent.drain_timeout", "agent.tls_ciphers"]);
}

#[test]
fn system_bundle_of_the_environment_is_taken_over() {
    let setup = Setup::new(&with("/agent/connect_cas", json!("host")).to_string()).env("SSL_CERT_FILE", "/x.pem");
    let agent = setup.load().unwrap().0.agent;
    assert_eq!((agent.connect_cas, agent.ssl_cert_file), (ConnectCas::Host, Some("/x.pem".into())));
}
