//! `adit status`: what it says, its exit codes, and what the socket bears.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use adit::frame::ErrorCode;
use adit::message::WireError;
use serde_json::Value;
use tempfile::TempDir;

use crate::gateway::{Behaviour, Gateway};
use crate::patience::PATIENCE;
use crate::peer::Script;
use crate::program::{Agent, Setup, TOKEN};
use crate::upstream;

/// A folder for the socket; it outlives the agent.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn socket(&self) -> PathBuf {
        self.0.path().join("status")
    }

    fn setup(&self) -> Setup {
        Setup::new().agent("status_socket", self.socket().to_str().unwrap())
    }
}

fn status(agent: &Agent, more: &[&str]) -> (i32, String, String) {
    let config = agent.folder().join("adit.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_adit"));
    let Output { status, stdout, stderr } =
        command.arg("status").arg("--config").arg(config).args(more).env_clear().output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

fn report(agent: &Agent) -> (i32, Value) {
    let (code, stdout, stderr) = status(agent, &["--json"]);
    (code, serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stdout}{stderr}")))
}

#[test]
fn status_of_a_session_that_is_up_says_everything() {
    let (place, gateway) = (
        Place::new(),
        Gateway::new(Behaviour::Serve(Script { adit: true, refuses_endpoint: Some("refused"), ..Script::default() })),
    );
    let agent = place
        .setup()
        .tcp("echo", upstream::echo())
        .tcp("refused", upstream::nobody())
        .tcp("down", upstream::nobody())
        .start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(3);
    agent.wait_line(&["endpoint=refused refused"]);
    let stream = peer.visit("echo");
    stream.send(b"12345");
    stream.wait_received(5);
    peer.visit("down").wait_end();
    agent.wait_line(&["heartbeat came back"]);

    let (code, report) = report(&agent);
    assert_eq!(code, 0, "{report}");
    assert_eq!((&report["schema"], &report["session"]["state"]), (&1.into(), &"up".into()));
    assert_eq!(report["session"]["address"], gateway.address.to_string());
    assert_eq!(report["session"]["account"], "main");
    assert!(report["session"]["tls"].as_str().unwrap().starts_with("TLSv1_3"), "{report}");
    assert!(report["heartbeat"]["answered"].as_bool().unwrap() && report["heartbeat"]["round_trip_us"].is_u64());
    assert_eq!(report["heartbeat"]["deadline_ms"], 25_000);
    let endpoints: Vec<_> = report["endpoints"].as_array().unwrap().iter().map(|e| (&e["name"], &e["state"])).collect();
    let expected = [("echo", "online"), ("refused", "refused"), ("down", "online")];
    assert_eq!(
        endpoints,
        expected
            .map(|(name, state)| (Value::from(name), Value::from(state)))
            .iter()
            .map(|(a, b)| (a, b))
            .collect::<Vec<_>>()
    );
    assert!(report["endpoints"][1]["reason"].as_str().unwrap().contains("another account has it"));
    assert_eq!(report["streams"], serde_json::json!({ "open": 1, "total": 2, "unreachable": 1 }));
    assert_eq!(report["bytes"], serde_json::json!({ "to_upstreams": 5, "from_upstreams": 5 }));
    assert_eq!(report["memory"]["max"], 8 * 1024 * 1024);
    assert_eq!((&report["reconnects"], &report["last_error"]), (&0.into(), &Value::Null));

    let (code, text, _) = status(&agent, &[]);
    assert_eq!(code, 0);
    for words in ["session    up for", "endpoint   echo online", "endpoint   refused refused", "1 open, 2 in all"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(!text.contains(TOKEN));
}

#[test]
fn exit_code_follows_the_session_through_an_outage() {
    let (place, gateway) = (Place::new(), Gateway::adit());
    let mut agent = place.setup().tcp("echo", upstream::echo()).start(&gateway);
    gateway.peer(0).wait_bound(1);
    assert_eq!(status(&agent, &[]).0, 0);
    let refusal = WireError::new(107, "the token is not known");
    gateway.set(Behaviour::Serve(Script { adit: true, refuses: Some(refusal), ..Script::default() }));
    gateway.peer(0).go_away(ErrorCode::NO_ERROR, "restarting");
    agent.wait_line(&["refuses the log-in"]);
    let (code, report) = report(&agent);
    assert_eq!(code, 5, "{report}");
    assert!(report["last_error"]["text"].as_str().unwrap().contains("the token is not known"), "{report}");
    assert_eq!((&report["endpoints"][0]["state"], &report["session"]["tls"]), (&"offline".into(), &Value::Null));

    gateway.set(Behaviour::Serve(Script { adit: true, ..Script::default() }));
    agent.signal("USR1");
    agent.wait_lines(2, &["endpoint=echo online"]);
    let (code, report) = self::report(&agent);
    assert_eq!((code, &report["reconnects"]), (0, &1.into()));

    agent.signal("TERM");
    assert_eq!(agent.wait_exit().code(), Some(0));
    let (code, stdout, stderr) = status(&agent, &[]);
    assert_eq!((code, stdout.as_str()), (4, ""), "{stderr}");
    assert!(!place.socket().exists(), "removed at the exit");
}

#[test]
fn socket_is_the_owners_alone_whatever_the_umask() {
    let (place, gateway) = (Place::new(), Gateway::adit());
    let agent = place.setup().umask_0().tcp("echo", upstream::echo()).start(&gateway);
    gateway.peer(0).wait_bound(1);
    assert_eq!(status(&agent, &[]).0, 0);
    assert_eq!(fs::metadata(place.socket()).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn path_that_cannot_be_used_is_one_warning_and_nothing_more() {
    let (place, gateway) = (Place::new(), Gateway::adit());
    fs::write(place.socket(), "precious").unwrap();
    let agent = place.setup().tcp("echo", upstream::echo()).start(&gateway);
    gateway.peer(0).wait_bound(1);
    let line = agent.wait_line(&["lvl=warn", "agent.status_socket", "another kind"]);
    assert!(line.contains(place.socket().to_str().unwrap()), "{line}");
    assert_eq!(fs::read(place.socket()).unwrap(), b"precious");
    assert_eq!(status(&agent, &[]).0, 4);
}

#[test]
fn socket_of_a_crash_is_replaced_and_that_of_another_agent_is_not() {
    let (place, gateway) = (Place::new(), Gateway::adit());
    // Bound, and never removed: what a crash leaves.
    drop(UnixListener::bind(place.socket()).unwrap());
    let first = place.setup().tcp("echo", upstream::echo()).start(&gateway);
    gateway.peer(0).wait_bound(1);
    assert_eq!(status(&first, &[]).0, 0);
    let second = place.setup().tcp("echo", upstream::echo()).start(&gateway);
    second.wait_line(&["agent.status_socket", "another process answers"]);
    drop(second);
    assert_eq!(status(&first, &[]).0, 0);
}

#[test]
fn clients_that_read_nothing_hold_nobody_up_and_are_left() {
    let (place, gateway) = (Place::new(), Gateway::adit());
    // A report that no socket's buffer takes whole.
    let mut setup = place.setup();
    for number in 0..400 {
        let (name, url) = (format!("{}{number}", "n".repeat(240)), format!("tcp://n{number}.internal:1"));
        setup = setup.endpoint(&name, &url, "tcp://127.0.0.1:1");
    }
    let agent = setup.tcp("echo", upstream::echo()).start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(401);
    let mut idle: Vec<UnixStream> = (0..4).map(|_| UnixStream::connect(place.socket()).unwrap()).collect();
    let stream = peer.visit("echo");
    stream.send(b"x");
    assert_eq!(stream.wait_received(1), b"x");
    // The fifth is served when the deadline of those before it has passed.
    let mut fifth = UnixStream::connect(place.socket()).unwrap();
    fifth.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = Vec::new();
    fifth.read_to_end(&mut answer).unwrap();
    let report: Value = serde_json::from_slice(&answer).unwrap();
    let (listed, omitted) =
        (report["endpoints"].as_array().unwrap().len(), report["endpoints_omitted"].as_u64().unwrap());
    assert_eq!(listed as u64 + omitted, 401);
    for stream in &mut idle {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.len() < answer.len(), "the rest was not kept");
    }
    let before = agent.cpu_ticks();
    std::thread::sleep(Duration::from_millis(500));
    assert!(agent.cpu_ticks() - before <= 5, "the loop rests");
}

#[test]
fn reload_moves_and_closes_the_socket() {
    let (place, other, gateway) = (Place::new(), Place::new(), Gateway::adit());
    let agent = place.setup().tcp("echo", upstream::echo()).start(&gateway);
    gateway.peer(0).wait_bound(1);
    assert_eq!(status(&agent, &[]).0, 0);
    agent.reload(&other.setup().tcp("echo", upstream::echo()), &gateway);
    agent.wait_lines(1, &["was read again"]);
    assert_eq!(status(&agent, &[]).0, 0);
    assert!(!place.socket().exists());
    agent.reload(&Setup::new().tcp("echo", upstream::echo()), &gateway);
    agent.wait_lines(2, &["was read again"]);
    let (code, _, stderr) = status(&agent, &[]);
    assert!(code == 3 && stderr.contains("agent.status_socket"), "{stderr}");
    assert!(!other.socket().exists());
    assert_eq!(gateway.accepted(), 1);
}

/// An agent says goodbye for some seconds, and meanwhile a gateway may fall silent.
#[test]
fn exit_code_of_a_session_whose_heartbeat_is_overdue_is_its_own() {
    let (place, gateway) = (Place::new(), Gateway::adit());
    let setup = place.setup().agent("heartbeat_interval", "1s").agent("heartbeat_tolerance", "1s");
    let agent = setup.agent("drain_timeout", "0s").tcp("echo", upstream::echo()).start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    agent.wait_line(&["heartbeat came back"]);
    assert_eq!(status(&agent, &[]).0, 0);
    let (code, text) = peer.pause(|| {
        agent.signal("TERM");
        loop {
            let (code, text, _) = status(&agent, &[]);
            if code != 0 {
                return (code, text);
            }
        }
    });
    assert_eq!(code, 6, "{text}");
    assert!(text.contains("overdue"), "{text}");
}
