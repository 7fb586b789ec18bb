//! The arguments of the command line.

use std::net::IpAddr;
use std::path::PathBuf;

use adit::endpoint_url::EndpointUrl;
use adit_gateway::acl::Rule;
use adit_gateway::config::accounts::ACCOUNT_DEFAULT;
use adit_gateway::config::credential::parse_end;
use adit_gateway::token::CredentialId;
use clap::{Args, Parser, Subcommand};
use http::{Method, StatusCode, Uri};

/// The gateway of adit: takes agents in and offers what is behind them, after a policy has let the traffic pass.
#[derive(Debug, Parser)]
#[command(name = "adit-gateway", version, max_term_width = 100, after_help = EXIT_CODES_HELP)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs the gateway until SIGTERM or SIGINT; SIGHUP reloads the configuration.
    Run(ConfigFile),
    /// Checks a configuration and says everything that is wrong with it.
    Check(ConfigFile),
    /// Makes authtokens for agents.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Looks at Traffic Policy documents.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Shows who is logged in by `oauth`, `openid-connect` or `saml` in a policy, and ends that.
    #[command(subcommand)]
    LogIns(LogInsCommand),
    /// Shows the sites of a running gateway, also those that are offline: since when and why.
    Sites(Look),
    /// Shows the sessions of agents at a running gateway.
    Sessions(Look),
    /// Shows the endpoints of a running gateway, in which state they are and why.
    Endpoints(Look),
    /// Shows the connections and requests of visitors that are open at a running gateway.
    Streams(Look),
    /// Ends sessions of agents at once; they come back when they like.
    Kick(Kick),
    /// Ends sessions of agents as soon as no visitor uses them, or with --all the whole gateway, as SIGTERM does.
    Drain(Drain),
    /// Has a running gateway read its configuration anew, as SIGHUP does, and shows what is wrong with it.
    Reload(Reload),
    /// Shows events of a running gateway as they come.
    Tail(Tail),
    /// Runs a gateway and an agent on this machine, without any file, to try things out.
    Dev(Dev),
    /// Prints the version.
    Version,
}

#[derive(Args, Debug)]
pub(crate) struct ConfigFile {
    /// The configuration, YAML or JSON.
    #[arg(long, value_name = "FILE", default_value = CONFIG_DEFAULT)]
    pub(crate) config: PathBuf,
}

/// Where a running gateway is asked.
#[derive(Args, Debug)]
pub(crate) struct AdminSocket {
    /// The gateway's admin socket; without this, admin.socket of the configuration.
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// Prints JSON, for scripts.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which sites are meant; all of what is given has to fit.
#[derive(Args, Debug)]
pub(crate) struct WhichSites {
    /// Those of this account.
    #[arg(long, value_name = "NAME")]
    pub(crate) account: Option<String>,
    /// Those of this credential.
    #[arg(long, value_name = "ID")]
    pub(crate) credential: Option<String>,
    /// Those of this instance.
    #[arg(long, value_name = "NAME")]
    pub(crate) instance: Option<String>,
}

/// Which sites or sessions are meant; all of what is given has to fit.
#[derive(Args, Debug)]
pub(crate) struct Which {
    #[command(flatten)]
    pub(crate) sites: WhichSites,
    /// The session of this number.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) session: Option<u64>,
}

#[derive(Args, Debug)]
pub(crate) struct Look {
    #[command(flatten)]
    pub(crate) socket: AdminSocket,
    #[command(flatten)]
    pub(crate) which: Which,
}

#[derive(Args, Debug)]
pub(crate) struct Tail {
    #[command(flatten)]
    pub(crate) socket: AdminSocket,
    #[command(flatten)]
    pub(crate) which: WhichSites,
}

#[derive(Args, Debug)]
pub(crate) struct Kick {
    #[command(flatten)]
    pub(crate) socket: AdminSocket,
    #[command(flatten)]
    pub(crate) which: Which,
    /// All sessions.
    #[arg(long)]
    pub(crate) all: bool,
    /// Asks agents to stay away for so many seconds, at most 40; those of ngrok's SDKs do not know that.
    #[arg(long = "for", value_name = "SECONDS")]
    pub(crate) away: Option<u64>,
}

#[derive(Args, Debug)]
pub(crate) struct Drain {
    #[command(flatten)]
    pub(crate) socket: AdminSocket,
    #[command(flatten)]
    pub(crate) which: Which,
    /// The whole gateway, which then ends.
    #[arg(long, conflicts_with_all = ["account", "credential", "instance", "session"])]
    pub(crate) all: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Reload {
    #[command(flatten)]
    pub(crate) socket: AdminSocket,
}

impl WhichSites {
    /// As the gateway takes them.
    pub(crate) fn parameters(&self) -> Vec<(&'static str, String)> {
        let Self { account, credential, instance } = self;
        let named = [("account", account), ("credential", credential), ("instance", instance)];
        named.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect()
    }
}

impl Which {
    /// As the gateway takes them.
    pub(crate) fn parameters(&self) -> Vec<(&'static str, String)> {
        let mut parameters = self.sites.parameters();
        parameters.extend(self.session.map(|session| ("session", session.to_string())));
        parameters
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum LogInsCommand {
    /// Lists the log-ins that have begun at this gateway and go on.
    List(ListLogIns),
    /// Ends log-ins, for ever, within seconds; a gateway that does not run ends them when it starts.
    End(EndLogIns),
}

#[derive(Args, Debug)]
pub(crate) struct ListLogIns {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// Only those of this account.
    #[arg(long, value_name = "NAME")]
    pub(crate) account: Option<String>,
    /// Prints JSON, for scripts.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct EndLogIns {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// The ids of log-ins.
    #[arg(value_name = "ID")]
    pub(crate) ids: Vec<String>,
    /// All log-ins of this person: its address of mail or the provider's name for it; can be repeated.
    #[arg(long, value_name = "WHO")]
    pub(crate) person: Vec<String>,
    /// All log-ins.
    #[arg(long)]
    pub(crate) all: bool,
    /// Only those of this account.
    #[arg(long, value_name = "NAME")]
    pub(crate) account: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Makes a token and prints it once, with the entry for the gateway's configuration, which --write stores.
    #[command(after_help = TOKEN_HELP, override_usage = TOKEN_USAGE)]
    New(NewToken),
}

#[derive(Args, Debug)]
pub(crate) struct NewToken {
    /// The name of the credential, unique on the gateway: a-z, 0-9, '-', '_' and '.'.
    #[arg(long)]
    pub(crate) id: CredentialId,
    /// The account that it belongs to.
    #[arg(long, value_name = "NAME", default_value = ACCOUNT_DEFAULT)]
    pub(crate) account: CredentialId,
    /// What agents with this token may bind, such as 'bind:*.site1.internal'; can be repeated.
    #[arg(long, value_name = "RULE", num_args = 1.., required_unless_present = "allow_any", conflicts_with = "allow_any")]
    pub(crate) acl: Vec<Rule>,
    /// Lets agents with this token bind everything in its account.
    #[arg(long)]
    pub(crate) allow_any: bool,
    /// The last day (such as 2030-12-31, in UTC) or moment at which the credential is good.
    #[arg(long, value_name = "DAY", value_parser = end)]
    pub(crate) not_after: Option<String>,
    /// Writes the entry as a file into this directory, which is `credentials_directory` in the gateway's configuration.
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) write: Option<PathBuf>,
}

/// Lets through what the configuration will understand.
fn end(text: &str) -> Result<String, &'static str> {
    parse_end(text).map(|_| text.to_owned())
}

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Checks a document and says everything that is wrong with it, each with its place.
    Check(PolicyFile),
    /// Says what a policy does with a request that the options make up: rules, values, actions, decision.
    #[command(after_help = EXPLAIN_HELP)]
    Explain(Box<Explain>),
}

/// A document and whom it is for.
#[derive(Args, Debug)]
pub(crate) struct Document {
    /// The document, YAML or JSON.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// It comes with an agent's endpoint; without this, it is for a cloud endpoint, and must answer everything.
    #[arg(long)]
    pub(crate) agent: bool,
    /// What the agent's credential may bind, such as 'bind:*.site1.internal': its policy may lead nowhere else; can be
    /// repeated.
    #[arg(long, value_name = "RULE", requires = "agent")]
    pub(crate) acl: Vec<Rule>,
    /// The gateway's configuration, for a policy that uses its secrets, files beside it, or requests to the internet.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Takes the gateway to allow requests of policies to the internet, as policies.outside_requests does.
    #[arg(long)]
    pub(crate) outside_requests: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Explain {
    #[command(flatten)]
    pub(crate) document: Document,
    /// The request's URL; tcp:// and tls:// for a connection.
    #[arg(long, value_name = "URL", default_value = "https://example.com/")]
    pub(crate) url: Uri,
    /// The endpoint that it comes to, such as https://*.example.com; without this, that of the URL.
    #[arg(long, value_name = "URL")]
    pub(crate) endpoint: Option<EndpointUrl>,
    /// The request's method.
    #[arg(long, default_value = "GET")]
    pub(crate) method: Method,
    /// A header of the request as 'Name: value', or a file of such lines as @FILE; can be repeated.
    #[arg(long = "header", value_name = "LINE")]
    pub(crate) headers: Vec<String>,
    /// The body of the request, for actions that read it.
    #[arg(long, value_name = "FILE")]
    pub(crate) body: Option<PathBuf>,
    /// The certificate that the visitor shows in TLS, in PEM, and behind it those between it and an authority.
    #[arg(long, value_name = "FILE")]
    pub(crate) client_cert: Option<PathBuf>,
    /// The visitor's address.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub(crate) peer: IpAddr,
    /// The status of what the agent answers, for on_http_response.
    #[arg(long, value_name = "STATUS")]
    pub(crate) status: Option<StatusCode>,
    /// A header of what the agent answers, as with --header; can be repeated.
    #[arg(long = "response-header", value_name = "LINE")]
    pub(crate) response_headers: Vec<String>,
    /// Lets actions ask others over the network, such as issuers for their keys.
    #[arg(long)]
    pub(crate) online: bool,
    /// Takes internal endpoints to be offline where the policy goes on then.
    #[arg(long)]
    pub(crate) offline: bool,
    /// Prints JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct PolicyFile {
    #[command(flatten)]
    pub(crate) document: Document,
    /// The endpoint that it is for.
    #[arg(long, value_name = "URL", default_value = "https://example.com")]
    pub(crate) url: EndpointUrl,
}

#[derive(Args, Debug)]
pub(crate) struct Dev {
    /// A local service to make reachable, such as 8080, http://localhost:8080 or db=tcp://localhost:5432, where db is
    /// the name it gets; can be repeated. Without any, a small built-in HTTP service answers.
    #[arg(long = "upstream", value_name = "[NAME=]URL")]
    pub(crate) upstreams: Vec<String>,
    /// Prints one line of JSON to standard output once traffic flows, for scripts.
    #[arg(long)]
    pub(crate) ready_json: bool,
}

const CONFIG_DEFAULT: &str = "/etc/adit-gateway.yml";

const EXIT_CODES_HELP: &str = "\
Exit codes: 0 done, or ended by SIGTERM or SIGINT; 1 the system below refused something, such as a port; 2 the command
line is wrong; 3 the configuration is wrong. Of the commands that ask a running gateway: 4 it does not run, 5 it has
refused, 6 nothing is meant by what was asked for.

The environment variable ADIT_LOG sets what is logged, such as debug or info,adit_gateway::session=debug.";

const EXPLAIN_HELP: &str = "\
Nothing is sent anywhere without --online: an action that asks others is then left out, said to be, and taken to let the
traffic pass. What rate-limit counts begins at zero. What proves who somebody is (authorization, cookies, tokens) is hidden.

Exit codes: 0 the policy was explained, whatever it decides; 2 the command line is wrong; 3 the document is wrong.";

const TOKEN_USAGE: &str = "adit-gateway token new --id <ID> [--account <NAME>] (--acl <RULE>... | --allow-any) [--not-after <DAY>] [--write <DIRECTORY>]";

const TOKEN_HELP: &str = "\
Of the output, the first line is the token and the others are the entry, so that a script can tell them apart. With --write
the token is all of it: the entry is the new file <ID>.yml, and a file of that name is never replaced. To replace a token
without an outage, make a new one of the same id, add its hash as the second one of the entry, reload, move the
agents over, and remove the old hash.";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn arguments_hold_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn events_are_of_sites_and_not_of_sessions() {
        let parsed = |command, option| Arguments::try_parse_from(["adit-gateway", command, option, "7"]);
        assert!(parsed("tail", "--instance").is_ok() && parsed("streams", "--session").is_ok());
        assert!(parsed("tail", "--session").is_err());
    }
}
