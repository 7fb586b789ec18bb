//! The command line of the gateway, with the real binary.

#![allow(clippy::unwrap_used)]

mod site;

use std::process::{Command, Output};

use adit_gateway::token::Token;
use site::{SMALLEST, Site};

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
        let credential = config.accounts.log_in(token, "192.0.2.1".parse().unwrap()).unwrap();
        assert!(credential.acl.allows(&allowed.parse().unwrap()));
        if let Some(refused) = refused {
            assert!(!credential.acl.allows(&refused.parse().unwrap()));
        }
    }
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
