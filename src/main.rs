//! The command line of the agent: reads arguments and configuration, sets up the log, runs. The only place where an
//! error becomes an exit code.

mod arguments;

use std::env;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use adit::agent::{Agent, RunError};
use adit::config::{Config, ConfigErrors, ConnectCas, Problem, Warning};
use adit::{log_format, tls};

use self::arguments::{Arguments, Check, Command, Parsed, Run};

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
        Command::Version(_) => version(),
    };
    ExitCode::from(code)
}

fn run(arguments: &Run) -> u8 {
    let (config, warnings) = match load(&arguments.config) {
        Ok(loaded) => loaded,
        Err(errors) => {
            complain(errors);
            return EXIT_CONFIG;
        }
    };
    if let Err(error) = log_format::init(config.agent.log.level, config.agent.log.format) {
        complain(error);
        return EXIT_INTERNAL;
    }
    for warning in warnings {
        log::warn!("{warning}");
    }
    let code = run_agent(config);
    log::logger().flush();
    code
}

fn run_agent(config: Config) -> u8 {
    let outcome = Agent::new(config).and_then(|mut agent| {
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
    match load(&arguments.config) {
        Ok((config, warnings)) => {
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

fn version() -> u8 {
    print(concat!("adit ", env!("CARGO_PKG_VERSION")));
    EXIT_OK
}

/// Reads the configuration and tries the certificate files that it names, so that `check` finds what `run` would.
fn load(path: &Path) -> Result<(Config, Vec<Warning>), ConfigErrors> {
    let (config, warnings) = Config::load(path, &|name| env::var(name).ok())?;
    let agent = &config.agent;
    let problem = |key: &str, value: Option<String>, error: tls::TlsError| Problem {
        file: path.display().to_string(),
        path: key.to_owned(),
        value,
        expected: error.to_string(),
    };
    if let Err(error) = tls::connect_config(agent) {
        let value = match &agent.connect_cas {
            ConnectCas::Trusted => "\"trusted\"".to_owned(),
            ConnectCas::Host => "\"host\"".to_owned(),
            ConnectCas::File(path) => format!("{path:?}"),
        };
        return Err(problem("agent.connect_cas", Some(value), error).into());
    }
    if config.endpoints.iter().any(|endpoint| endpoint.upstream.is_tls()) {
        let tried = tls::upstream_config(agent);
        tried.map_err(|error| problem("endpoints", None, error))?;
    }
    Ok((config, warnings))
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
