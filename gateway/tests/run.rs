//! The gateway as a process: `adit-gateway run`, its log, and what signals do to it.

#![allow(clippy::unwrap_used)]

mod site;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use site::{SMALLEST, Site};

/// A running gateway and the lines of its log. It is killed when the test fails.
struct Process {
    child: Child,
    lines: Receiver<String>,
}

impl Process {
    fn start(file: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_adit-gateway"))
            .args(["run", "--config", file.to_str().unwrap()])
            .env_remove("ADIT_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines }
    }

    /// The lines up to the first with these words.
    fn until(&self, words: &str) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            let Ok(line) = self.lines.recv_timeout(PATIENCE) else { panic!("no {words:?} in {seen:#?}") };
            seen.push(line);
            if seen.last().is_some_and(|line| line.contains(words)) {
                return seen;
            }
        }
    }

    fn signal(&self, name: &str) {
        let command = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &command]).status().unwrap().success());
    }

    fn end(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address in a line such as `… listening kind="agents" addresses="127.0.0.1:4711"`.
fn address(lines: &[String], kind: &str) -> SocketAddr {
    let line = lines.iter().find(|line| line.contains(&format!("kind=\"{kind}\""))).unwrap();
    line.split("addresses=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap()
}

#[test]
fn gateway_listens_until_a_signal_ends_it() {
    for signal in ["TERM", "INT"] {
        let site = Site::new();
        let process = Process::start(&site.write("gateway.yml", SMALLEST));
        let agents = address(&process.until("the gateway is ready"), "agents");
        TcpStream::connect(agents).unwrap();
        assert_eq!(fs::metadata(site.path("identity.key")).unwrap().permissions().mode() & 0o777, 0o600);
        process.signal(signal);
        process.until("drained");
        assert_eq!(process.end().code(), Some(0));
        assert!(TcpStream::connect(agents).is_err());
    }
}

/// Asks at a Unix socket, and gives the whole answer.
fn ask(socket: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    write!(stream, "{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn admin_socket_is_private_and_answers() {
    let site = Site::new();
    let text = format!("{SMALLEST}admin: {{socket: admin.sock, listen: '127.0.0.1:0'}}\n");
    let process = Process::start(&site.write("gateway.yml", &text));
    let address = address(&process.until("the gateway is ready"), "admin");
    let socket = site.path("admin.sock");
    assert_eq!(fs::symlink_metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    for (request, answer) in [
        ("GET /healthz", "HTTP/1.1 200 OK"),
        ("GET /readyz", "HTTP/1.1 200 OK"),
        ("POST /healthz", "HTTP/1.1 405 Method Not Allowed"),
        ("GET /nothing", "HTTP/1.1 404 Not Found"),
    ] {
        assert!(ask(&socket, request).starts_with(answer), "{request}");
    }
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: elsewhere.example\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
    process.signal("TERM");
    process.until("drained");
    assert_eq!(process.end().code(), Some(0));
    assert!(!socket.exists());
}

#[test]
fn metrics_are_at_the_admin_socket() {
    let site = Site::new();
    let text = format!("{SMALLEST}admin: {{socket: admin.sock}}\n");
    let process = Process::start(&site.write("gateway.yml", &text));
    let agents = address(&process.until("the gateway is ready"), "agents");
    let mut stranger = TcpStream::connect(agents).unwrap();
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    // The gateway has closed it when there is no more to read.
    let _ = stranger.read_to_end(&mut Vec::new());
    let answer = ask(&site.path("admin.sock"), "GET /metrics");
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("text/plain; version=0.0.4"), "{answer}");
    for sample in ["adit_sessions 0", "adit_handshakes_total{outcome=\"hello_invalid\"} 1"] {
        assert!(answer.contains(&format!("\n{sample}\n")), "{sample}: {answer}");
    }
}

#[test]
fn administrative_acts_are_written_down_and_the_file_is_opened_anew() {
    let site = Site::new();
    let text = format!("{SMALLEST}audit_log: {{file: audit.log}}\n");
    let process = Process::start(&site.write("gateway.yml", &text));
    process.until("the gateway is ready");
    process.signal("HUP");
    process.until("is in force");
    fs::rename(site.path("audit.log"), site.path("audit.log.1")).unwrap();
    process.signal("USR1");
    process.until("opened anew");
    process.signal("TERM");
    process.until("drained");
    assert_eq!(process.end().code(), Some(0));
    let acts = |name: &str| -> Vec<String> {
        let text = fs::read_to_string(site.path(name)).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines.map(|line| format!("{} by {}", line["act"].as_str().unwrap(), line["by"].as_str().unwrap())).collect()
    };
    assert_eq!(acts("audit.log.1"), ["reload by SIGHUP", "reopen_logs by SIGUSR1"]);
    assert_eq!(acts("audit.log"), ["drain by SIGTERM"]);
}

#[test]
fn log_that_cannot_be_opened_is_said_with_its_key() {
    let site = Site::new();
    let process =
        Process::start(&site.write("gateway.yml", &format!("{SMALLEST}access_log: {{file: no/access.log}}\n")));
    let lines = process.until("cannot be opened");
    assert!(lines.last().unwrap().contains("access_log: "), "{lines:#?}");
    assert_eq!(process.end().code(), Some(1));
}

#[test]
fn admin_socket_of_a_gateway_that_ends_is_taken_over() {
    let site = Site::new();
    let text = format!("{SMALLEST}admin: {{socket: admin.sock}}\n");
    let first = Process::start(&site.write("gateway.yml", &text));
    first.until("the gateway is ready");
    let second = format!("{text}log_ins: {{spent_file: second.spent}}\n");
    let second = Process::start(&site.write("second.yml", &second));
    second.until("another process answers there");
    second.until("the gateway is ready");
    first.signal("TERM");
    first.until("drained");
    second.until("is free now");
    assert!(ask(&site.path("admin.sock"), "GET /healthz").starts_with("HTTP/1.1 200 OK"));
}

/// Asks a gateway by its own commands; gives the exit code and everything that came out.
fn command(file: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adit-gateway"));
    let output = command.args(arguments).args(["--config", file.to_str().unwrap()]).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn commands_ask_the_running_gateway_and_say_what_came_of_it() {
    let site = Site::new();
    let text = format!("{SMALLEST}admin: {{socket: admin.sock, listen: '127.0.0.1:0'}}\n");
    let file = site.write("gateway.yml", &text);
    assert_eq!(command(&file, &["sites"]).0, Some(4), "nobody answers");
    let process = Process::start(&file);
    let address = address(&process.until("the gateway is ready"), "admin");
    let (code, told) = command(&file, &["sites"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("unseen") && told.contains("main/site1"), "{told}");
    let (code, told) = command(&file, &["sites", "--json", "--credential", "site1"]);
    let document: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!((code, document["sites"].as_array().map(Vec::len)), (Some(0), Some(1)));
    let (code, told) = command(&file, &["sites", "--json", "--credential", "other"]);
    let document: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!((code, document["sites"].as_array().map(Vec::len)), (Some(6), Some(0)), "nothing is an answer, too");
    for (arguments, expected) in [
        (&["sessions"][..], 0),
        (&["endpoints", "--json"], 0),
        (&["streams"], 0),
        (&["sessions", "--session", "7"], 6),
        (&["endpoints", "--account", "other"], 6),
        (&["streams", "--instance", "other"], 6),
        (&["tail", "--session", "7"], 2),
        (&["kick"], 5),
        (&["kick", "--all", "--for", "41"], 5),
        (&["kick", "--all"], 6),
        (&["drain", "--session", "1"], 6),
        (&["drain", "--all", "--session", "1"], 2),
        (&["reload"], 0),
    ] {
        let (code, told) = command(&file, arguments);
        assert_eq!(code, Some(expected), "{arguments:?}: {told}");
    }
    let wrong = site.write("gateway.yml", &format!("{text}no_such_key: 1\n"));
    let socket = site.path("admin.sock");
    let (code, told) = command(&wrong, &["reload", "--socket", socket.to_str().unwrap()]);
    assert!(code == Some(5) && told.contains("no_such_key") && told.contains("not put in force"), "{told}");
    // Whoever comes to the address may look, and change nothing.
    for (request, answer) in [("GET /v1/sites", "HTTP/1.1 200 "), ("POST /v1/drain?all=true", "HTTP/1.1 403 ")] {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.starts_with(answer), "{text}");
    }
    let (code, told) = command(&wrong, &["drain", "--all", "--socket", socket.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{told}");
    process.until("drained");
    assert_eq!(process.end().code(), Some(0));
}

#[test]
fn whoever_follows_along_is_told_that_the_gateway_ends() {
    let site = Site::new();
    let text = format!("{SMALLEST}admin: {{socket: admin.sock}}\n");
    let process = Process::start(&site.write("gateway.yml", &text));
    process.until("the gateway is ready");
    let mut stream = UnixStream::connect(site.path("admin.sock")).unwrap();
    stream.write_all(b"GET /v1/tail HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut begin = [0; 15];
    stream.read_exact(&mut begin).unwrap();
    assert_eq!(&begin, b"HTTP/1.1 200 OK");
    process.signal("TERM");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("{\"end\":\"the gateway ends\"}\n\r\n0\r\n\r\n"), "{answer}");
    assert_eq!(process.end().code(), Some(0));
}

#[test]
fn tail_tells_the_end_of_the_gateway_from_a_connection_that_breaks() {
    let site = Site::new();
    let socket = site.path("pretended.sock");
    let file = site.write("gateway.yml", &format!("{SMALLEST}admin: {{socket: pretended.sock}}\n"));
    let listener = UnixListener::bind(&socket).unwrap();
    let line = "12\r\n{\"end\":\"it ends\"}\n\r\n";
    for (body, code, words) in
        [(format!("{line}0\r\n\r\n"), 0, "it ends"), (line.to_owned(), 0, "it ends"), (String::new(), 1, "broke")]
    {
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut stream = listener.accept().unwrap().0;
                // The whole head is in the first packet.
                assert_ne!(stream.read(&mut [0; 4096]).unwrap(), 0);
                write!(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}").unwrap();
            });
            let (ended, told) = command(&file, &["tail"]);
            assert!(ended == Some(code) && told.contains(words), "{ended:?}: {told}");
        });
    }
}

#[test]
fn reload_takes_a_good_file_and_refuses_a_bad_one() {
    let site = Site::new();
    let file = site.write("gateway.yml", SMALLEST);
    let process = Process::start(&file);
    let agents = address(&process.until("the gateway is ready"), "agents");

    fs::write(&file, "listeners: {agents: nonsense}\nlimits: {sessions_max: 0}\n").unwrap();
    process.signal("HUP");
    let lines = process.until("is not put in force");
    for path in ["listeners.agents: \"nonsense\": must be", "limits.sessions_max: 0: must be"] {
        assert!(lines.iter().any(|line| line.contains("ERROR") && line.contains(path)), "{path}: {lines:#?}");
    }
    TcpStream::connect(agents).unwrap();

    let elsewhere = SMALLEST.replace("127.0.0.1:0", "127.0.0.2:0");
    fs::write(&file, format!("{elsewhere}log: {{level: debug}}\n")).unwrap();
    process.signal("HUP");
    let lines = process.until("is in force");
    let warned = lines.iter().any(|line| line.contains("listeners.agents") && line.contains("at a restart only"));
    assert!(warned, "{lines:#?}");
    TcpStream::connect(agents).unwrap();

    fs::remove_file(&file).unwrap();
    process.signal("HUP");
    assert!(process.until("is not put in force").iter().any(|line| line.contains("cannot be read")));

    process.signal("TERM");
    process.until("drained");
    assert_eq!(process.end().code(), Some(0));
}

#[test]
fn taken_address_is_said_with_its_key() {
    let site = Site::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let process = Process::start(&site.write("gateway.yml", &SMALLEST.replace("127.0.0.1:0", &address)));
    process.until(&format!("listeners.agents: {address} cannot be opened"));
    assert_eq!(process.end().code(), Some(1));
}

#[test]
fn key_that_cannot_be_kept_is_said() {
    let site = Site::new();
    let process = Process::start(&site.write("gateway.yml", &format!("{SMALLEST}key_file: no/identity.key\n")));
    let lines = process.until("identity.key");
    assert!(lines.last().unwrap().contains("a directory that the gateway may write to"), "{lines:#?}");
    assert_eq!(process.end().code(), Some(1));
}

#[test]
fn log_is_json_when_asked() {
    let site = Site::new();
    let process = Process::start(&site.write("gateway.yml", &format!("{SMALLEST}log: {{format: json}}\n")));
    for line in process.until("the gateway is ready") {
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["level"], "INFO");
        assert!(line["message"].is_string() && line["timestamp"].is_string(), "{line}");
    }
}

/// Only a gateway that hangs makes a test wait for so long.
const PATIENCE: Duration = Duration::from_secs(60);
