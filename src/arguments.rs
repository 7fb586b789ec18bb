//! The arguments of the command line and the text of `--help`.

use std::ffi::OsString;
use std::path::PathBuf;

use argh::{EarlyExit, FromArgs};

/// Makes services inside this network reachable through one outbound TLS connection.
#[derive(Debug, FromArgs)]
#[argh(
    help_triggers("-h", "--help", "help"),
    example = "{command_name} check --config /etc/adit.json\n{command_name} run --config /etc/adit.json",
    note = "The token comes from the environment (ADIT_AUTHTOKEN, NGROK_AUTHTOKEN) or from the\nconfiguration (agent.authtoken, agent.authtoken_file), never from the command line.",
    note = "Signals: SIGTERM and SIGINT end all endpoints, let open streams finish for at most\nagent.drain_timeout, and exit. SIGHUP reads the configuration again. SIGUSR1 reconnects.",
    error_code(0, "Done; run: drained after SIGTERM or SIGINT."),
    error_code(1, "A fault of the program or of the system below it."),
    error_code(2, "The command line is wrong."),
    error_code(3, "The configuration is unusable; the message says what would be right."),
    error_code(4, "status: no agent answers."),
    error_code(5, "status: the agent has no session."),
    error_code(6, "status: the session's last heartbeat was not answered in time."),
    error_code(10, "to 16: diagnose: where the walk failed, see `adit diagnose --help`.")
)]
pub(crate) struct Arguments {
    #[argh(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, FromArgs)]
#[argh(subcommand)]
pub(crate) enum Command {
    Run(Run),
    Check(Check),
    Diagnose(Diagnose),
    Status(Status),
    Version(Version),
}

/// Connect to the gateway and stay connected.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "run", help_triggers("-h", "--help", "help"))]
pub(crate) struct Run {
    /// configuration file, JSON (default: /etc/adit.json)
    #[argh(option, arg_name = "file", default = "adit::config::default_path()")]
    pub(crate) config: PathBuf,
}

/// Say everything that is wrong with a configuration, and connect to nothing.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "check", help_triggers("-h", "--help", "help"))]
pub(crate) struct Check {
    /// configuration file, JSON (default: /etc/adit.json)
    #[argh(option, arg_name = "file", default = "adit::config::default_path()")]
    pub(crate) config: PathBuf,

    /// also name every key that ngrok's agent would not accept
    #[argh(switch)]
    pub(crate) ngrok: bool,
}

/// Walk the way to the gateway and to each upstream, and say at the first failure what is wrong and who can mend it.
#[derive(Debug, FromArgs)]
#[argh(
    subcommand,
    name = "diagnose",
    help_triggers("-h", "--help", "help"),
    note = "A running agent is not disturbed.",
    error_code(0, "All is well."),
    error_code(3, "The configuration is unusable."),
    error_code(10, "The gateway's name cannot be looked up: DNS, or connect_url."),
    error_code(11, "No TCP connection: a firewall, the route, or nobody listens."),
    error_code(12, "A certificate is not valid now: this machine's clock, or the certificate."),
    error_code(13, "The certificate is not the gateway's: inspection, a portal, or connect_cas."),
    error_code(14, "What answers is no gateway, or is cut off."),
    error_code(15, "The gateway refuses the log-in: the token."),
    error_code(16, "An upstream cannot be reached.")
)]
pub(crate) struct Diagnose {
    /// configuration file, JSON (default: /etc/adit.json)
    #[argh(option, arg_name = "file", default = "adit::config::default_path()")]
    pub(crate) config: PathBuf,
}

/// Ask a running agent how it is, at the socket that agent.status_socket names.
#[derive(Debug, FromArgs)]
#[argh(
    subcommand,
    name = "status",
    help_triggers("-h", "--help", "help"),
    error_code(0, "There is a session, and its last heartbeat was answered in time."),
    error_code(3, "The configuration cannot be read, or names no status_socket."),
    error_code(4, "No agent answers at the socket."),
    error_code(5, "The agent runs and has no session."),
    error_code(6, "There is a session, and its last heartbeat was not answered in time.")
)]
pub(crate) struct Status {
    /// configuration file, JSON (default: /etc/adit.json)
    #[argh(option, arg_name = "file", default = "adit::config::default_path()")]
    pub(crate) config: PathBuf,

    /// print the report as one line of JSON, as the README describes it
    #[argh(switch)]
    pub(crate) json: bool,
}

/// Print the version.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "version", help_triggers("-h", "--help", "help"))]
pub(crate) struct Version {}

/// What the command line asks for.
pub(crate) enum Parsed {
    Arguments(Arguments),
    /// The help that was asked for.
    Help(String),
    /// What is wrong.
    Wrong(String),
}

/// Reads the arguments, the program's own name first.
pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Parsed {
    let mut words = Vec::new();
    for argument in arguments.skip(1) {
        let Ok(word) = argument.into_string() else {
            return Parsed::Wrong("arguments must be UTF-8 text".to_owned());
        };
        // Named here so that the token after it is not repeated on a terminal or in a log.
        if word.starts_with("--authtoken") {
            return Parsed::Wrong(NO_TOKEN_HERE.to_owned());
        }
        words.push(word);
    }
    let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
    if matches!(words.as_slice(), ["--version" | "-V"]) {
        words = vec!["version"];
    }
    match Arguments::from_args(&[PROGRAM], &words) {
        Ok(arguments) => Parsed::Arguments(arguments),
        Err(EarlyExit { output, status: Ok(()) }) => Parsed::Help(output),
        Err(EarlyExit { output, status: Err(()) }) => Parsed::Wrong(output),
    }
}

const PROGRAM: &str = "adit";

const NO_TOKEN_HERE: &str = "a token is never taken from the command line, where every process can read it: \
    set ADIT_AUTHTOKEN, or agent.authtoken or agent.authtoken_file in the configuration";
