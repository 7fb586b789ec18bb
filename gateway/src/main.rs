//! The command line of the gateway: arguments, configuration, log, run. The only place where an error becomes an exit
//! code.

mod ask;
mod cli;
mod explain;
mod log_ins;
mod policy_file;
mod tables;

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use adit_gateway::acl::Rule;
use adit_gateway::config::{Config, ConfigErrors};
use adit_gateway::credentials::written;
use adit_gateway::dev::{self, Options};
use adit_gateway::log::{self, LogFormat, LogLevel};
use adit_gateway::run;
use adit_gateway::token::{Token, TokenHash};
use clap::Parser;
use tokio::runtime::Runtime;

use self::ask::Subject;
use self::cli::{Arguments, Command, Dev, Explain, LogInsCommand, NewToken, PolicyCommand, PolicyFile, TokenCommand};

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // It is also how help and version come out, which are no mistakes and go to standard output.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { EXIT_USAGE } else { EXIT_OK });
        }
    };
    let code = match arguments.command {
        Command::Run(file) => run_gateway(&file.config),
        Command::Check(file) => check(&file.config),
        Command::Token(TokenCommand::New(arguments)) => new_token(&arguments),
        Command::Policy(PolicyCommand::Check(arguments)) => check_policy(&arguments),
        Command::Policy(PolicyCommand::Explain(arguments)) => explain_policy(&arguments),
        Command::LogIns(LogInsCommand::List(arguments)) => tell(log_ins::list(&arguments)),
        Command::LogIns(LogInsCommand::End(arguments)) => tell(log_ins::end(&arguments)),
        Command::Sites(look) => show(ask::look(Subject::Sites, &look)),
        Command::Sessions(look) => show(ask::look(Subject::Sessions, &look)),
        Command::Endpoints(look) => show(ask::look(Subject::Endpoints, &look)),
        Command::Streams(look) => show(ask::look(Subject::Streams, &look)),
        Command::Kick(kick) => say(ask::kick(&kick)),
        Command::Drain(drain) => say(ask::drain(&drain)),
        Command::Reload(reload) => say(ask::reload(&reload)),
        Command::Tail(tail) => ask::tail(&tail).map_or_else(|failure| excuse(&failure), |()| EXIT_OK),
        Command::Dev(arguments) => dev(arguments),
        Command::Version => {
            print(concat!("adit-gateway ", env!("CARGO_PKG_VERSION")));
            EXIT_OK
        }
    };
    ExitCode::from(code)
}

fn run_gateway(file: &Path) -> u8 {
    let (config, warnings) = match Config::load(file) {
        Ok(loaded) => loaded,
        Err(errors) => return refuse(&errors),
    };
    let log = match log::install(config.log.level, config.log.format) {
        Ok(log) => log,
        Err(error) => return fail(error),
    };
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(format_args!("the threads of the gateway cannot be started: {error}")),
    };
    let ended = runtime.block_on(run::run(config, log));
    // A disk or a name server that does not answer keeps a thread, and must not keep the process.
    runtime.shutdown_timeout(SHUTDOWN_TIME);
    match ended {
        Ok(()) => EXIT_OK,
        Err(error) => {
            tracing::error!("{error}");
            EXIT_INTERNAL
        }
    }
}

fn check(file: &Path) -> u8 {
    match Config::load(file) {
        Ok((config, warnings)) => {
            for warning in warnings {
                complain(format_args!("warning: {warning}"));
            }
            print(format_args!("{}: ok: {}", file.display(), config.summary()));
            EXIT_OK
        }
        Err(errors) => refuse(&errors),
    }
}

fn check_policy(arguments: &PolicyFile) -> u8 {
    match policy_file::read(&arguments.document, &arguments.url) {
        Ok(_) => {
            print(format_args!("{}: ok for {}", arguments.document.file.display(), arguments.url));
            EXIT_OK
        }
        Err(lines) => {
            complain(lines);
            EXIT_CONFIG
        }
    }
}

fn explain_policy(arguments: &Explain) -> u8 {
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(format_args!("no threads can be started: {error}")),
    };
    match runtime.block_on(explain::run(arguments)) {
        Ok(explanation) if arguments.json => match serde_json::to_string_pretty(&explanation) {
            Ok(json) => print(json),
            Err(error) => return fail(error),
        },
        Ok(explanation) => print(explanation),
        Err(explain::Failure::Usage(message)) => {
            complain(message);
            return EXIT_USAGE;
        }
        Err(explain::Failure::Document(message)) => {
            complain(message);
            return EXIT_CONFIG;
        }
    }
    EXIT_OK
}

fn tell(done: Result<log_ins::Done, log_ins::Failure>) -> u8 {
    match done {
        Ok(log_ins::Done { text, warnings }) => {
            print(text);
            warnings.into_iter().for_each(complain);
            EXIT_OK
        }
        Err(log_ins::Failure::Usage(message)) => {
            complain(message);
            EXIT_USAGE
        }
        Err(log_ins::Failure::Config(errors)) => refuse(&errors),
        Err(log_ins::Failure::File(message)) => fail(message),
    }
}

/// What was seen of a running gateway: also nothing is an answer, for scripts.
fn show(seen: Result<ask::Seen, ask::Failure>) -> u8 {
    match seen {
        Ok(seen) => {
            print(seen.text);
            if seen.is_nothing { EXIT_NOTHING_MATCHED } else { EXIT_OK }
        }
        Err(failure) => excuse(&failure),
    }
}

/// What a running gateway has answered.
fn say(answer: Result<String, ask::Failure>) -> u8 {
    match answer {
        Ok(text) => {
            print(text);
            EXIT_OK
        }
        Err(failure) => excuse(&failure),
    }
}

/// Why a running gateway has not answered.
fn excuse(failure: &ask::Failure) -> u8 {
    complain(failure);
    match failure {
        ask::Failure::Config(_) => EXIT_CONFIG,
        ask::Failure::NoSocket(_) => EXIT_USAGE,
        ask::Failure::NotRunning(..) => EXIT_NOT_RUNNING,
        ask::Failure::Refused(_) => EXIT_REFUSED,
        ask::Failure::NothingMatched(_) => EXIT_NOTHING_MATCHED,
        ask::Failure::Internal(_) => EXIT_INTERNAL,
    }
}

fn new_token(arguments: &NewToken) -> u8 {
    let token = match Token::generate(&arguments.id) {
        Ok(token) => token,
        Err(error) => return fail(error),
    };
    if let Some(directory) = &arguments.write {
        let lines = entry(arguments, &token.hash());
        let file = match written::write(directory, &arguments.id, &(lines.join("\n") + "\n")) {
            Ok(file) => file,
            Err(error) => {
                return fail(format_args!("{}: {}.yml cannot be written: {error}", directory.display(), arguments.id));
            }
        };
        complain(format_args!("{} is written. The authtoken for the agent, shown only now:", file.display()));
        print(token.expose());
        return EXIT_OK;
    }
    complain("The authtoken for the agent. It is shown only now:");
    print(token.expose());
    complain("\nThe entry below `credentials:` in the gateway's configuration, which holds only a hash of it:");
    let lines = entry(arguments, &token.hash()).into_iter().enumerate();
    print(
        lines.map(|(at, line)| format!("  {} {line}", if at == 0 { "-" } else { " " })).collect::<Vec<_>>().join("\n"),
    );
    EXIT_OK
}

/// The lines of a credential. The texts in it need no escapes: their alphabets have none of the characters that would.
fn entry(arguments: &NewToken, hash: &TokenHash) -> Vec<String> {
    let mut lines = vec![format!("id: \"{}\"", arguments.id), format!("account: \"{}\"", arguments.account)];
    lines.push("hashes:".to_owned());
    lines.push(format!("  - \"{hash}\""));
    if arguments.allow_any {
        lines.push("allow_any: true".to_owned());
    } else {
        lines.push("acl:".to_owned());
        lines.extend(arguments.acl.iter().map(|rule: &Rule| format!("  - \"{rule}\"")));
    }
    lines.extend(arguments.not_after.iter().map(|end| format!("not_after: \"{end}\"")));
    lines
}

fn dev(arguments: Dev) -> u8 {
    // The text for people stands on standard output, so the log says only what is wrong.
    if let Err(error) = log::install(LogLevel::Warn, LogFormat::Text) {
        return fail(error);
    }
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(format_args!("the threads of the gateway cannot be started: {error}")),
    };
    let options = Options { upstreams: arguments.upstreams, ready_json: arguments.ready_json };
    let Err(error) = runtime.block_on(dev::run(options)) else { return EXIT_OK };
    complain(&error);
    if error.is_usage() { EXIT_USAGE } else { EXIT_INTERNAL }
}

fn refuse(errors: &ConfigErrors) -> u8 {
    complain(errors);
    EXIT_CONFIG
}

fn fail(error: impl Display) -> u8 {
    complain(error);
    EXIT_INTERNAL
}

/// Writes to standard output. A reader that has gone away is no error of ours.
fn print(text: impl Display) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// Writes to standard error.
fn complain(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

// The exit codes, the same as the agent's; `--help` and the README list them.

/// Done. `run`: SIGTERM or SIGINT came and the drain is finished.
const EXIT_OK: u8 = 0;

/// A fault of the program or of the system below it.
const EXIT_INTERNAL: u8 = 1;

/// The command line is wrong.
const EXIT_USAGE: u8 = 2;

/// The configuration is unusable.
const EXIT_CONFIG: u8 = 3;

/// No gateway answers at the admin socket.
const EXIT_NOT_RUNNING: u8 = 4;

/// The gateway, or the mode of its socket, has refused.
const EXIT_REFUSED: u8 = 5;

/// Nothing is meant by what was asked for.
const EXIT_NOTHING_MATCHED: u8 = 6;

/// For what still runs beside the traffic, which has ended.
const SHUTDOWN_TIME: Duration = Duration::from_secs(2);
