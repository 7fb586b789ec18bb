//! The command line of the agent: reads arguments and configuration, sets up the log, runs. The only place where an
//! error becomes an exit code.

mod arguments;

use std::env;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use adit::agent::{Agent, Loaded, RunError};
use adit::config::Config;
use adit::diagnose::{self, Class};
use adit::log_format;
use adit::status::{Verdict, client};

use self::arguments::{Arguments, Check, Command, Diagnose, Parsed, Run, Status};

fn main() -> ExitCode {
    let command = match arguments::parse(env::args_os()) {
        Parsed::Arguments(Arguments { command }) => command,
        Parsed::Help(text) => {
            print(text.trim_end());
            return ExitCode::from(EXIT_OK);
        }
        Parsed::Wrong(text) => {
            complain(text.trim_end());
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let code = match command {
        Command::Run(arguments) => run(&arguments),
        Command::Check(arguments) => check(&arguments),
        Command::Diagnose(arguments) => diagnose(&arguments),
        Command::Status(arguments) => status(&arguments),
        Command::Version(_) => version(),
    };
    ExitCode::from(code)
}

fn run(arguments: &Run) -> u8 {
    let mut loaded = match Loaded::from_file(&arguments.config) {
        Ok(loaded) => loaded,
        Err(errors) => {
            complain(errors);
            return EXIT_CONFIG;
        }
    };
    let log = loaded.config.agent.log;
    if let Err(error) = log_format::init(log.level, log.format) {
        complain(error);
        return EXIT_INTERNAL;
    }
    for warning in loaded.warnings.drain(..) {
        log::warn!("{warning}");
    }
    let code = run_agent(loaded, &arguments.config);
    log::logger().flush();
    code
}

fn run_agent(loaded: Loaded, path: &Path) -> u8 {
    let outcome = Agent::with(loaded).and_then(|mut agent| {
        agent.reload_from(path.to_owned());
        agent.watch_signals()?;
        agent.run()
    });
    match outcome {
        Ok(()) => EXIT_OK,
        Err(error) => {
            log::error!("{error}");
            if matches!(error, RunError::Tls(_)) { EXIT_CONFIG } else { EXIT_INTERNAL }
        }
    }
}

fn check(arguments: &Check) -> u8 {
    let mut is_usable = true;
    match Loaded::from_file(&arguments.config) {
        Ok(Loaded { config, warnings, .. }) => {
            for warning in warnings {
                complain(format_args!("warning: {warning}"));
            }
            print(format_args!("{}: ok: {}", arguments.config.display(), summary(&config)));
        }
        Err(errors) => {
            complain(errors);
            is_usable = false;
        }
    }
    if arguments.ngrok {
        // What kept the file from being read at all was said above.
        for problem in Config::foreign_to_ngrok(&arguments.config).unwrap_or_default() {
            complain(problem);
            is_usable = false;
        }
    }
    if is_usable { EXIT_OK } else { EXIT_CONFIG }
}

fn status(arguments: &Status) -> u8 {
    let socket = match Config::status_socket(&arguments.config) {
        Ok(Some(socket)) => socket,
        Ok(None) => {
            let file = arguments.config.display();
            complain(format_args!(
                "{file}: agent.status_socket: is missing: without it the agent has no status to show"
            ));
            return EXIT_CONFIG;
        }
        Err(errors) => {
            complain(errors);
            return EXIT_CONFIG;
        }
    };
    let (report, json) = match client::ask(&socket) {
        Ok(answer) => answer,
        Err(error) => {
            complain(format_args!("{}: {error}", socket.display()));
            return EXIT_NOT_RUNNING;
        }
    };
    if arguments.json {
        print(json);
    } else {
        print(&report);
    }
    match report.verdict() {
        Verdict::Up => EXIT_OK,
        Verdict::NotConnected => EXIT_NOT_CONNECTED,
        Verdict::Silent => EXIT_SILENT,
    }
}

fn diagnose(arguments: &Diagnose) -> u8 {
    let file = arguments.config.display();
    let loaded = match Loaded::from_file(&arguments.config) {
        Ok(loaded) => loaded,
        Err(errors) => {
            print(format_args!("FAIL  configuration: {file} is unusable"));
            complain(errors);
            return EXIT_CONFIG;
        }
    };
    print(format_args!("ok    configuration: {file}, {}", summary(&loaded.config)));
    match diagnose::walk(&loaded, &mut |line| print(line)) {
        None => EXIT_OK,
        Some(Class::System) => EXIT_INTERNAL,
        Some(Class::Names) => EXIT_NAMES,
        Some(Class::Network) => EXIT_NETWORK,
        Some(Class::Time) => EXIT_TIME,
        Some(Class::Certificate) => EXIT_CERTIFICATE,
        Some(Class::Protocol) => EXIT_PROTOCOL,
        Some(Class::LogIn) => EXIT_LOG_IN,
        Some(Class::Upstream) => EXIT_UPSTREAM,
    }
}

fn version() -> u8 {
    print(concat!("adit ", env!("CARGO_PKG_VERSION")));
    EXIT_OK
}

/// `2 endpoints to connect.example.com:443`.
fn summary(config: &Config) -> String {
    let count = config.endpoints.len();
    let plural = if count == 1 { "endpoint" } else { "endpoints" };
    format!("{count} {plural}, gateway {}", config.agent.connect)
}

/// Writes to standard output. A reader that has gone away is no error of ours.
fn print(text: impl Display) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// Writes to standard error.
fn complain(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

// The exit codes; `--help` and the README list them.

/// `run`: SIGTERM or SIGINT came and the drain is finished. `check`: the configuration is usable. Others: done.
const EXIT_OK: u8 = 0;

/// A fault of the program or of the system below it.
const EXIT_INTERNAL: u8 = 1;

/// The command line is wrong.
const EXIT_USAGE: u8 = 2;

/// The configuration is unusable; with `check --ngrok` also: ngrok's agent would not accept one of its keys.
const EXIT_CONFIG: u8 = 3;

/// `status`: no agent answers at the socket.
const EXIT_NOT_RUNNING: u8 = 4;

/// `status`: the agent runs and has no session.
const EXIT_NOT_CONNECTED: u8 = 5;

/// `status`: there is a session, and its last heartbeat was not answered in time.
const EXIT_SILENT: u8 = 6;

// `diagnose`: where the walk ended; see `Class`.
const EXIT_NAMES: u8 = 10;
const EXIT_NETWORK: u8 = 11;
const EXIT_TIME: u8 = 12;
const EXIT_CERTIFICATE: u8 = 13;
const EXIT_PROTOCOL: u8 = 14;
const EXIT_LOG_IN: u8 = 15;
const EXIT_UPSTREAM: u8 = 16;
