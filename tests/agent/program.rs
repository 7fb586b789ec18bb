//! The agent's process: its files, its log, its signals, its end.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::gateway::Gateway;
use crate::patience::{PATIENCE, Watched};

pub(crate) struct Agent {
    child: Child,
    pid: u32,
    log: Arc<Watched<Log>>,
    /// Holds the files for as long as the process may read them.
    files: TempDir,
}

#[derive(Default)]
struct Log {
    lines: Vec<String>,
    ended: bool,
}

/// What to run.
#[derive(Clone)]
pub(crate) struct Setup {
    endpoints: Vec<Value>,
    agent: Value,
    gateway_ca: Option<String>,
    upstream_ca: Option<String>,
    descriptors: Option<usize>,
    umask_0: bool,
    environment: Vec<(&'static str, String)>,
}

impl Setup {
    pub(crate) fn new() -> Self {
        let agent = json!({ "authtoken": TOKEN, "log_level": "debug" });
        Self {
            endpoints: Vec::new(),
            agent,
            gateway_ca: None,
            upstream_ca: None,
            descriptors: None,
            umask_0: false,
            environment: Vec::new(),
        }
    }

    /// An endpoint named `name` in front of a `tcp://` upstream.
    pub(crate) fn tcp(self, name: &str, upstream: SocketAddr) -> Self {
        self.endpoint(name, &format!("tcp://{name}.internal:1"), &format!("tcp://{upstream}"))
    }

    pub(crate) fn endpoint(mut self, name: &str, url: &str, upstream: &str) -> Self {
        self.endpoints.push(json!({ "name": name, "url": url, "upstream": { "url": upstream } }));
        self
    }

    /// A member of the section `agent`.
    pub(crate) fn agent(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.agent[key] = value.into();
        self
    }

    /// A member of the endpoint that was added last.
    pub(crate) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.endpoints.last_mut().unwrap()[key] = value.into();
        self
    }

    /// A variable of the environment, which is empty otherwise.
    pub(crate) fn env(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    /// Trusts another authority than the gateway's.
    pub(crate) fn trusts(mut self, ca_pem: &str) -> Self {
        self.gateway_ca = Some(ca_pem.to_owned());
        self
    }

    /// Files are everybody's unless the agent says otherwise.
    pub(crate) fn umask_0(mut self) -> Self {
        self.umask_0 = true;
        self
    }

    /// The system's bundle, for TLS upstreams.
    pub(crate) fn system_bundle(mut self, ca_pem: &str) -> Self {
        self.upstream_ca = Some(ca_pem.to_owned());
        self
    }

    /// The system lets the process have so many descriptors.
    pub(crate) fn descriptors(mut self, count: usize) -> Self {
        self.descriptors = Some(count);
        self
    }

    /// Writes the agent's files.
    fn write(&self, gateway: &Gateway, files: &Path) -> PathBuf {
        let ca = files.join("ca.pem");
        fs::write(&ca, self.gateway_ca.as_ref().unwrap_or(&gateway.site.ca_pem)).unwrap();
        let mut agent = json!({ "connect_url": gateway.address.to_string(), "connect_cas": ca });
        agent.as_object_mut().unwrap().extend(self.agent.as_object().unwrap().clone());
        let document = json!({ "version": 3, "agent": agent, "endpoints": self.endpoints });
        let config = files.join("adit.json");
        fs::write(&config, document.to_string()).unwrap();
        fs::set_permissions(&config, Permissions::from_mode(0o600)).unwrap();
        config
    }

    /// The agent's files without an agent.
    pub(crate) fn files(&self, gateway: &Gateway) -> TempDir {
        let files = TempDir::new().unwrap();
        self.write(gateway, files.path());
        files
    }

    pub(crate) fn start(self, gateway: &Gateway) -> Agent {
        let files = TempDir::new().unwrap();
        let config = self.write(gateway, files.path());
        let mut command = Command::new("/bin/sh");
        let umask = if self.umask_0 { "umask 0; " } else { "" };
        let descriptors = self.descriptors.map(|count| format!("ulimit -n {count}; ")).unwrap_or_default();
        command
            .env_clear()
            .envs(self.environment)
            .args(["-c", &format!("{umask}{descriptors}exec \"$0\" run --config \"$1\"")]);
        command.arg(env!("CARGO_BIN_EXE_adit")).arg(&config);
        if let Some(pem) = &self.upstream_ca {
            let bundle = files.path().join("bundle.pem");
            fs::write(&bundle, pem).unwrap();
            command.env("SSL_CERT_FILE", bundle);
        }
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let log = Arc::new(Watched::new(Log::default()));
        let writer = Arc::clone(&log);
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                writer.with(|log| log.lines.push(line));
            }
            writer.with(|log| log.ended = true);
        });
        Agent { pid: child.id(), child, log, files }
    }
}

impl Agent {
    /// Waits for a line with all of these words.
    pub(crate) fn wait_line(&self, words: &[&str]) -> String {
        let found = |log: &mut Log| log.lines.iter().find(|line| has_all(line, words)).cloned();
        self.log.wait(&format!("a log line with {words:?}"), found)
    }

    /// Waits for this many lines with all of these words.
    pub(crate) fn wait_lines(&self, count: usize, words: &[&str]) {
        let found = |log: &mut Log| log.lines.iter().filter(|line| has_all(line, words)).count() >= count;
        self.log.wait(&format!("{count} log lines with {words:?}"), |log| found(log).then_some(()));
    }

    /// The lines with all of these words.
    pub(crate) fn lines(&self, words: &[&str]) -> Vec<String> {
        self.log.with(|log| log.lines.iter().filter(|line| has_all(line, words)).cloned().collect())
    }

    /// Where the agent's files are.
    pub(crate) fn folder(&self) -> &Path {
        self.files.path()
    }

    /// Puts other files in the place of the agent's, and tells it.
    pub(crate) fn reload(&self, setup: &Setup, gateway: &Gateway) {
        setup.write(gateway, self.files.path());
        self.signal("HUP");
    }

    /// Sends a signal by its short name.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.pid)]).status().unwrap();
        assert!(status.success(), "the process has ended");
    }

    /// Waits until the process has ended.
    pub(crate) fn wait_exit(&mut self) -> ExitStatus {
        self.log.wait("the end of the process", |log| log.ended.then_some(()));
        self.child.wait().unwrap()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sets the limit of descriptors while the process runs.
    pub(crate) fn limit_descriptors(&self, count: usize) {
        let arguments = [format!("--pid={}", self.pid), format!("--nofile={count}:")];
        assert!(Command::new("prlimit").args(arguments).status().unwrap().success());
    }

    /// Descriptors that the process has.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid)).unwrap().count()
    }

    /// Bytes of memory that the process has for itself.
    pub(crate) fn anonymous_bytes(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    }

    /// Clock ticks that the process has used.
    pub(crate) fn cpu_ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap();
        let after_name = stat.rsplit_once(')').unwrap().1;
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    /// Waits until the process has so many TCP connections. The kernel's table is read in pieces, so that a look at it
    /// while other programs connect may miss some.
    pub(crate) fn wait_connections(&self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.connections() != count {
            assert!(Instant::now() < deadline, "{} connections instead of {count}", self.connections());
            thread::sleep(POLL);
        }
    }

    fn connections(&self) -> usize {
        let descriptors = fs::read_dir(format!("/proc/{}/fd", self.pid)).unwrap();
        let targets = descriptors.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
        let targets: Vec<String> = targets.map(|target| target.to_string_lossy().into_owned()).collect();
        let table = fs::read_to_string(format!("/proc/{}/net/tcp", self.pid)).unwrap();
        let inodes = table.lines().skip(1).filter_map(|line| line.split_whitespace().nth(9));
        inodes.filter(|inode| targets.contains(&format!("socket:[{inode}]"))).count()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let lines = self.log.with(|log| log.lines.clone());
            eprintln!("the agent's log:\n{}", lines.join("\n"));
        }
    }
}

fn has_all(line: &str, words: &[&str]) -> bool {
    words.iter().all(|word| line.contains(word))
}

/// Between two looks at the kernel's table.
const POLL: Duration = Duration::from_millis(10);

impl Agent {
    /// All lines so far.
    pub(crate) fn log(&self) -> String {
        self.log.with(|log| log.lines.join("\n"))
    }
}

pub(crate) const TOKEN: &str = "tok_5ecret5ecret5ecret";
