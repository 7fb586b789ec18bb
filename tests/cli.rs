//! The agent's command line, through the real binary: what it prints where, and its exit codes.

#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps; clippy.toml covers only #[test] functions")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

fn adit(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adit"));
    command.args(arguments).env_clear();
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Exit code, standard output, standard error.
fn outcome(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code().unwrap(), text(&stdout), text(&stderr))
}

fn file(dir: &TempDir, name: &str, content: &str) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    path
}

fn config(dir: &TempDir, agent: &str) -> PathBuf {
    let endpoints = r#"[{"name": "api", "url": "https://api.internal", "upstream": {"url": "8080"}}]"#;
    file(dir, "adit.json", &format!(r#"{{"version": 3, "agent": {{{agent}}}, "endpoints": {endpoints}}}"#))
}

fn check(path: &Path, more: &[&str]) -> Command {
    adit(&[&["check", "--config", path.to_str().unwrap()], more].concat())
}

const GOOD: &str = r#""authtoken": "tok_1", "connect_url": "connect.example.com""#;

#[test]
fn help_lists_commands_and_every_exit_code_on_standard_output() {
    for arguments in [&["--help"][..], &["-h"], &["help"]] {
        let (code, stdout, stderr) = outcome(&mut adit(arguments));
        assert_eq!((code, stderr.as_str()), (0, ""));
        for word in ["run", "check", "status", "diagnose", "version", "ADIT_AUTHTOKEN", "SIGTERM", "SIGHUP"] {
            assert!(stdout.contains(word), "{word}: {stdout}");
        }
        for code in 0..=6 {
            assert!(stdout.contains(&format!("\n  {code} ")), "{code}: {stdout}");
        }
    }
    let (code, stdout, _) = outcome(&mut adit(&["run", "--help"]));
    assert!(code == 0 && stdout.contains("/etc/adit.json"), "{stdout}");
}

#[test]
fn version_is_the_packages() {
    let expected = format!("adit {}\n", env!("CARGO_PKG_VERSION"));
    for arguments in [&["version"][..], &["--version"], &["-V"]] {
        assert_eq!(outcome(&mut adit(arguments)), (0, expected.clone(), String::new()));
    }
}

#[test]
fn wrong_command_line_is_code_2_on_standard_error() {
    for arguments in [&[][..], &["start"], &["run", "--conf", "x"], &["run", "--config"], &["check", "more"]] {
        let (code, stdout, stderr) = outcome(&mut adit(arguments));
        assert_eq!((code, stdout.as_str()), (2, ""), "{arguments:?}");
        assert!(!stderr.is_empty());
    }
}

#[test]
fn token_on_the_command_line_is_refused_and_not_repeated() {
    for arguments in [&["run", "--authtoken", "hunter2"][..], &["run", "--authtoken=hunter2"]] {
        let (code, stdout, stderr) = outcome(&mut adit(arguments));
        assert_eq!((code, stdout.as_str()), (2, ""));
        assert!(stderr.contains("ADIT_AUTHTOKEN") && !stderr.contains("hunter2"), "{stderr}");
    }
}

#[test]
fn check_of_a_usable_file_says_what_it_would_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = config(&dir, GOOD);
    let expected = format!("{}: ok: 1 endpoint, gateway connect.example.com:443\n", path.display());
    assert_eq!(outcome(&mut check(&path, &[])), (0, expected, String::new()));
}

#[test]
fn check_takes_the_token_from_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let path = config(&dir, r#""connect_url": "connect.example.com""#);
    assert_eq!(outcome(&mut check(&path, &[])).0, 3);
    for name in ["ADIT_AUTHTOKEN", "NGROK_AUTHTOKEN"] {
        assert_eq!(outcome(check(&path, &[]).env(name, "tok_1")).0, 0);
    }
}

#[test]
fn unusable_file_is_code_3_with_every_error_for_check_and_run() {
    let dir = tempfile::tempdir().unwrap();
    let path = config(&dir, r#""authtoken": "tok_1", "connect_ulr": "x", "log_level": "loud""#);
    let name = path.display();
    let expected = format!(
        "{name}: agent.connect_url: is missing: the gateway's host or host:port; there is no default\n\
         {name}: agent.log_level: \"loud\": must be \"crit\", \"warn\", \"error\", \"info\" or \"debug\"\n\
         {name}: agent.connect_ulr: unknown key: did you mean \"connect_url\"?\n"
    );
    for command in ["check", "run"] {
        let mut command = adit(&[command, "--config", path.to_str().unwrap()]);
        assert_eq!(outcome(&mut command), (3, String::new(), expected.clone()));
    }
    let gone = dir.path().join("gone.json");
    let (code, _, stderr) = outcome(&mut check(&gone, &[]));
    assert!(code == 3 && stderr.contains("gone.json: cannot be read"), "{stderr}");
}

#[test]
fn check_prints_warnings_and_is_content() {
    let dir = tempfile::tempdir().unwrap();
    let path = config(&dir, &format!(r#"{GOOD}, "update_check": false"#));
    let (code, _, stderr) = outcome(&mut check(&path, &[]));
    assert_eq!(code, 0);
    let expected = "agent.update_check: has no effect: the agent never looks for updates\n";
    assert_eq!(stderr, format!("warning: {}: {expected}", path.display()));
}

#[test]
fn check_ngrok_names_the_keys_of_our_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = config(&dir, GOOD);
    assert_eq!(outcome(&mut check(&path, &["--ngrok"])).0, 0);
    let path = config(&dir, &format!(r#"{GOOD}, "drain_timeout": "5s""#));
    let (code, _, stderr) = outcome(&mut check(&path, &["--ngrok"]));
    let expected = format!("{}: agent.drain_timeout: ngrok's agent would not accept this key\n", path.display());
    assert_eq!((code, stderr), (3, expected));
    assert_eq!(outcome(&mut check(&path, &[])).0, 0);
}

#[test]
fn status_without_a_socket_or_an_agent_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let status = |path: &Path| outcome(&mut adit(&["status", "--config", path.to_str().unwrap()]));
    let (code, stdout, stderr) = status(&config(&dir, GOOD));
    assert!(code == 3 && stdout.is_empty() && stderr.contains("agent.status_socket: is missing"), "{stderr}");
    for wrong in ["\"relative\"", "\"/folder/\"", "7", &format!("\"/{}\"", "x".repeat(107))] {
        let (code, _, stderr) = status(&config(&dir, &format!(r#"{GOOD}, "status_socket": {wrong}"#)));
        assert!(code == 3 && stderr.contains("agent.status_socket"), "{wrong}: {stderr}");
    }
    // Whose token only the agent's environment has.
    let socket = dir.path().join("status");
    let (code, stdout, stderr) = status(&config(&dir, &format!(r#""status_socket": {socket:?}"#)));
    assert!(code == 4 && stdout.is_empty() && stderr.contains("no agent answers"), "{stderr}");
}

#[test]
fn check_tries_the_certificate_file() {
    let dir = tempfile::tempdir().unwrap();
    let pem = file(&dir, "ca.pem", "nothing");
    let path = config(&dir, &format!(r#"{GOOD}, "connect_cas": {pem:?}"#));
    let (code, _, stderr) = outcome(&mut check(&path, &[]));
    assert_eq!(code, 3);
    assert!(stderr.contains("agent.connect_cas") && stderr.contains("holds no certificate"), "{stderr}");
}
