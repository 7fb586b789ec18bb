//! What the benchmarks need beside the programs they measure: an upstream and visitors that cost little themselves, a plain
//! TLS pipe to compare with, a fleet of simulated agents, and the multiplexer alone. Each command prints one line of JSON.

mod agents;
mod core;
mod pings;
mod pipe;
mod upstream;
mod visitors;

use std::error::Error;
use std::process::ExitCode;

use argh::FromArgs;

/// What a command ends with: its line of JSON, or why there is none.
type Outcome = Result<serde_json::Value, Box<dyn Error + Send + Sync>>;

/// Load, references and simulated agents for benchmarks.
#[derive(FromArgs)]
struct Arguments {
    #[argh(subcommand)]
    command: Command,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Command {
    Serve(upstream::Serve),
    Bulk(visitors::Bulk),
    Churn(visitors::Churn),
    Idle(visitors::Idle),
    Pings(pings::Pings),
    PipeServer(pipe::PipeServer),
    PipeAgent(pipe::PipeAgent),
    Agents(agents::Agents),
    Core(core::Core),
}

fn main() -> ExitCode {
    let arguments: Arguments = argh::from_env();
    let outcome = match arguments.command {
        Command::Serve(command) => upstream::serve(&command),
        Command::Bulk(command) => visitors::bulk(&command),
        Command::Churn(command) => visitors::churn(&command),
        Command::Idle(command) => visitors::idle(&command),
        Command::Pings(command) => pings::pings(&command),
        Command::PipeServer(command) => pipe::server(&command),
        Command::PipeAgent(command) => pipe::agent(&command),
        Command::Agents(command) => agents::agents(command),
        Command::Core(command) => core::core(&command),
    };
    match outcome {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("adit-rig: {error}");
            ExitCode::FAILURE
        }
    }
}
