//! The embedded default: a gateway and an agent in one process, on this machine, without any file to write.
//!
//! What it needs lies in a private temporary directory and goes with it; every port is a free one of the loopback
//! interface.

mod agent;
mod authority;
mod offer;
mod report;
mod service;
mod setup;

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};
use tracing::info;

use crate::certificates::Certificates;
use crate::config::accounts::ACCOUNT_DEFAULT;
use crate::config::{Config, ConfigErrors};
use crate::gateway::Gateway;
use crate::http::reach::Reach;
use crate::identity_key::{IdentityKey, IdentityKeyError};
use crate::listen::{Inherited, ListenError, Listeners, Serving};
use agent::RunningAgent;
use setup::Setup;

pub use authority::AuthorityError;
pub use offer::OfferError;

/// What to do.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The services to make reachable, each `[NAME=]URL`; without any, a small built-in one answers.
    pub upstreams: Vec<String>,
    /// Whether one line of JSON is printed instead of a text for people.
    pub ready_json: bool,
}

/// Why it could not start, or ended by itself.
#[derive(Debug)]
pub enum DevError {
    /// The command line asks for something that cannot be offered.
    Offer(OfferError),
    /// The system refuses something; the text says what.
    System(&'static str, io::Error),
    /// The throw-away certificates cannot be made.
    Authority(AuthorityError),
    /// The generated configuration is refused: a mistake of ours.
    Config(ConfigErrors),
    /// There is no randomness for a token or a key.
    NoRandomness,
    /// There is no key for the identities of agents.
    IdentityKey(IdentityKeyError),
    /// The ports that were free are not any more, several times in a row.
    Listeners(ListenError),
    /// TLS cannot be set up.
    Tls(rustls::Error),
    /// The agent cannot run.
    Agent(adit::agent::RunError),
    /// The agent is not connected, with all its endpoints, after some time.
    NotReady,
    /// The agent ended by itself.
    AgentEnded,
}

/// Runs gateway and agent until SIGINT, SIGTERM or SIGHUP, then ends both and removes the temporary directory.
///
/// # Errors
///
/// See [`DevError`]. Nothing is left behind then, either.
pub async fn run(options: Options) -> Result<(), DevError> {
    // Before there is anything to leave behind.
    let mut ended = ended_by_signal()?;
    let mut attempt = 1;
    let (setup, gateway, serving) = loop {
        let setup = Setup::new(&options).await?;
        match open(&setup) {
            Err(DevError::Listeners(error)) if attempt < ATTEMPTS_MAX => {
                // Somebody was quicker with a port that was free a moment ago.
                info!("the listeners cannot be opened, trying other ports: {error}");
                attempt += 1;
            }
            result => {
                let (gateway, serving) = result?;
                break (setup, gateway, serving);
            }
        }
    };
    let mut agent = RunningAgent::start(setup.agent_config()).map_err(DevError::Agent)?;
    let outcome = tokio::select! {
        biased;
        () = &mut ended => Ok(()),
        () = agent.ended() => Err(DevError::AgentEnded),
        result = serve(&options, &setup, &gateway) => result,
    };
    serving.stop();
    agent.stop().await;
    gateway.drain(DRAIN_TIMEOUT).await;
    outcome
}

/// Says that everything is ready when it is, and goes on until it is dropped.
async fn serve(options: &Options, setup: &Setup, gateway: &Gateway) -> Result<(), DevError> {
    wait_until_online(setup, gateway).await?;
    if options.ready_json {
        report::print(&report::ready_json(setup));
    } else {
        report::print(&report::for_people(setup));
    }
    std::future::pending().await
}

fn open(setup: &Setup) -> Result<(Arc<Gateway>, Serving), DevError> {
    let config = Config::clone(&setup.config);
    let listeners = Listeners::bind(&config, Inherited::default()).map_err(DevError::Listeners)?;
    let key = IdentityKey::generate().map_err(DevError::IdentityKey)?;
    let authority = Arc::clone(&setup.authority);
    let on_demand = Arc::new(move |name: &str| authority.certificate(name).ok());
    let known = config.certificates.iter().map(|known| (known.names.clone(), Arc::clone(&known.certified)));
    let certificates = Certificates::from_keys(known, Some(on_demand));
    let gateway = Gateway::new(config, &key).map_err(|_| DevError::NoRandomness)?;
    let serving = listeners.serve(Arc::clone(&gateway), certificates).map_err(DevError::Tls)?;
    Ok((gateway, serving))
}

/// Asks the registry, because an endpoint that is in it can be reached.
async fn wait_until_online(setup: &Setup, gateway: &Gateway) -> Result<(), DevError> {
    let deadline = Instant::now() + READY_TIMEOUT;
    let is_online = |offer: &offer::Offer| gateway.internal(ACCOUNT_DEFAULT, &offer.internal).is_ok();
    while !setup.offers.iter().all(is_online) {
        if Instant::now() >= deadline {
            return Err(DevError::NotReady);
        }
        sleep(READY_STEP).await;
    }
    Ok(())
}

/// Completes with the first of the signals that end the program.
fn ended_by_signal() -> Result<std::pin::Pin<Box<dyn Future<Output = ()> + Send>>, DevError> {
    let watch = |kind| signal(kind).map_err(|error| DevError::System("signals cannot be watched", error));
    let (mut interrupt, mut terminate) = (watch(SignalKind::interrupt())?, watch(SignalKind::terminate())?);
    // The terminal was closed.
    let mut hangup = watch(SignalKind::hangup())?;
    Ok(Box::pin(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }))
}

impl DevError {
    /// Whether another command line would do.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Offer(_))
    }
}

impl fmt::Display for DevError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offer(error) => error.fmt(f),
            Self::System(what, error) => write!(f, "{what}: {error}"),
            Self::Authority(error) => error.fmt(f),
            Self::Config(errors) => write!(f, "the generated configuration is refused: {errors}"),
            Self::NoRandomness => f.write_str("the operating system gave no random bytes; try again"),
            Self::IdentityKey(error) => error.fmt(f),
            Self::Listeners(error) => error.fmt(f),
            Self::Tls(error) => write!(f, "TLS cannot be set up: {error}"),
            Self::Agent(error) => write!(f, "the agent cannot run: {error}"),
            Self::NotReady => write!(
                f,
                "the agent is not online with all its endpoints after {} s; its log says why",
                READY_TIMEOUT.as_secs()
            ),
            Self::AgentEnded => f.write_str("the agent ended by itself; its log says why"),
        }
    }
}

impl std::error::Error for DevError {}

/// Ports are chosen anew each time; as many collisions in a row are no chance any more.
const ATTEMPTS_MAX: u32 = 5;
/// On an idle machine it takes some 20 ms.
const READY_TIMEOUT: Duration = Duration::from_secs(20);
/// How often the registry is asked meanwhile.
const READY_STEP: Duration = Duration::from_millis(5);
/// For visitors to finish. Who presses Ctrl-C does not want to wait.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);
