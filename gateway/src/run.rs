//! The gateway as a process: what `adit-gateway run` does until a signal ends it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinError;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::access_log::Act;
use crate::acme::{Acme, StateError};
use crate::admin::{self, Admin, AdminError, Order};
use crate::certificate_watch::{CertificateWatch, Found, LOOK_INTERVAL};
use crate::certificates::Certificates;
use crate::config::Config;
use crate::credentials::watch::Watch;
use crate::gateway::Gateway;
use crate::identity::NoRandomness;
use crate::identity_key::{IdentityKey, IdentityKeyError};
use crate::ledger::LedgerError;
use crate::listen::{Inherited, ListenError, Listeners, Serving};
use crate::log::LogControl;
use crate::login::LogIns;
use crate::login::ending::Ending;
use crate::login::seal::Keys;
use crate::login::spent::Journal;

mod pending;
mod reloads;

use pending::Pending;
use reloads::{Asker, Parts, Reloads};

/// Why the gateway could not start.
#[derive(Debug)]
pub enum RunError {
    /// There is no key for the identities of agents.
    IdentityKey(String, IdentityKeyError),
    /// A socket cannot be opened.
    Listen(ListenError),
    /// The admin listener cannot be opened.
    Admin(AdminError),
    /// What an authority issues cannot be kept.
    Acme(StateError),
    /// The operating system gives no random numbers.
    Random(NoRandomness),
    /// TLS cannot be set up.
    Tls(rustls::Error),
    /// What must not count again cannot be read from the file.
    LogIns(String, io::Error),
    /// A log of traffic or of administrative acts cannot be started.
    Ledger(LedgerError),
    /// Signals cannot be received.
    Signals(io::Error),
}

/// Runs the gateway until SIGTERM or SIGINT, reloads its configuration at SIGHUP, and opens its logs of traffic and of
/// administrative acts anew at SIGUSR1. A second SIGTERM or SIGINT ends the drain early.
///
/// # Errors
///
/// See [`RunError`].
pub async fn run(config: Config, log: LogControl) -> Result<(), RunError> {
    // First of all: a signal that nobody waits for ends the process without a word.
    let mut signals = Signals::new().map_err(RunError::Signals)?;
    let key_file = &config.key_file;
    let key = IdentityKey::load_or_create(key_file)
        .map_err(|error| RunError::IdentityKey(key_file.display().to_string(), error))?;
    let inherited = Inherited::from_environment();
    // Only then the visitors of the process before this one come here; after a plain start nobody is on the way.
    let is_successor = !inherited.is_empty();
    let listeners = Listeners::bind(&config, inherited).map_err(RunError::Listen)?;
    let admin = admin::Listeners::bind(&config.admin).map_err(RunError::Admin)?;
    let certificates = Certificates::new(&config.certificates);
    let log_ins = log_ins(&config, &key)?;
    let ending = Ending::beside(&config.log_ins.spent_file(&config.key_file));
    if let Err(error) = ending.prepare() {
        tracing::warn!("`adit-gateway log-ins end` will not work: its folder cannot be made: {error}");
    }
    let gateway = Gateway::with_log_ins(config, &key, log_ins).map_err(RunError::Random)?;
    gateway.ledger().start_logs(&gateway.config().ledger).map_err(RunError::Ledger)?;
    let acme = Acme::new(Arc::clone(&certificates), Arc::clone(gateway.challenges()), gateway.state().random.next());
    acme.follow(gateway.config().acme.as_ref()).map_err(RunError::Acme)?;
    let events = Arc::clone(gateway.events());
    let publishing = tokio::spawn(async move { events.run().await });
    tell_addresses(&listeners, admin.address());
    if is_successor {
        gateway.expect_agents(gateway.config().limits.arrival_wait);
    }
    let serving = listeners.serve(Arc::clone(&gateway), certificates).map_err(RunError::Tls)?;
    let (routes, mut orders) = Admin::new(Arc::clone(&gateway));
    admin.serve(&routes);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "the gateway is ready");
    // `None` while a look is under way.
    let mut watch = Some(CertificateWatch::new(&gateway.config().certificates));
    let mut credentials = Watch::new(&gateway);
    let mut looks = interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Disks may not answer: the end of the process, orders and the ends of credentials do not wait for them.
    let (mut reloads, mut looking, mut ending_sessions) = (Reloads::none(), Pending::none(), Pending::none());
    let parts = Parts { gateway: &gateway, serving: &serving, acme: &acme, log: &log };
    loop {
        tokio::select! {
            told = signals.next() => match told {
                Told::Reload => reloads.ask(Asker::Signal, &gateway),
                Told::ReopenLogs => reopen_logs(&gateway),
                Told::End(signal) => {
                    gateway.ledger().audit(Act::Drain, &signal, "", "begun");
                    break;
                }
            },
            step = credentials.next() => credentials.take(step, &gateway),
            // It never ends: what it comes from lives as long as this.
            Some(order) = orders.recv() => match order {
                Order::Reload { by, done } => reloads.ask(Asker::Admin { by, done }, &gateway),
                Order::End { by } => {
                    gateway.ledger().audit(Act::Drain, &by, "", "begun");
                    break;
                }
            },
            read = reloads.done() => {
                if let Some(new) = reloads.take(read, parts) {
                    // What a look finds now is about the certificates of before.
                    looking.forget();
                    watch = Some(new);
                }
            }
            looked = looking.done() => watch = take_look(looked, &serving),
            ended = ending_sessions.done() => {
                if let Err(error) = ended {
                    tracing::error!("sessions that are to end were not looked for: {error}");
                }
            }
            _ = looks.tick() => {
                if let Some(mut watch) = watch.take() {
                    tell_ends(&gateway, &watch);
                    looking.begin(move || {
                        let found = watch.look();
                        (watch, found)
                    });
                }
                if !ending_sessions.is_under_way() {
                    let (gateway, ending) = (Arc::clone(&gateway), ending.clone());
                    ending_sessions.begin(move || end_sessions(&gateway, &ending));
                }
            }
        }
    }
    // Whoever asked for something that is not done yet learns that it will not be.
    drop(reloads);
    // Whoever still orders something learns that it comes too late.
    drop(orders);
    let (mut drained, mut cut) = (pin!(drain(&gateway, &serving)), pin!(signals.end(&gateway)));
    loop {
        tokio::select! {
            () = &mut drained => {
                tracing::info!("drained");
                break;
            }
            () = &mut cut => {
                tracing::warn!("told to end at once: connections are cut");
                break;
            }
            // A drain may take an hour: a credential is revoked all the same.
            step = credentials.next() => credentials.take(step, &gateway),
        }
    }
    gateway.events().end_tails().await;
    publishing.abort();
    let ledger = Arc::clone(gateway.ledger());
    // It fails only for a thread that panicked.
    let _ = tokio::task::spawn_blocking(move || ledger.finish(LOG_TIME)).await;
    Ok(())
}

/// What log-ins are kept with, over restarts.
fn log_ins(config: &Config, key: &IdentityKey) -> Result<LogIns, RunError> {
    let mut keys = Vec::new();
    for file in &config.log_ins.key_files {
        let shown = || file.display().to_string();
        let loaded = IdentityKey::load(file).map_err(|error| RunError::IdentityKey(shown(), error))?;
        keys.push(loaded.ok_or_else(|| RunError::IdentityKey(shown(), IdentityKeyError::Malformed))?);
    }
    if keys.is_empty() {
        keys.push(key.clone());
    }
    let keys = Keys::derive(keys.iter().map(|key| &key.expose()[..]));
    let spent = config.log_ins.spent_file(&config.key_file);
    let journal = Journal::open(&spent, OffsetDateTime::now_utc().unix_timestamp());
    let journal = journal.map_err(|error| RunError::LogIns(spent.display().to_string(), error))?;
    let callback_host = config.log_ins.callback_host.clone();
    Ok(LogIns::new(keys, Arc::new(journal)).with_callback_host(callback_host))
}

/// Ends the sessions that whoever runs the gateway wants to end. May block for as long as a disk takes.
fn end_sessions(gateway: &Gateway, ending: &Ending) {
    let log_ins = gateway.log_ins();
    match ending.take(&*log_ins.store(), OffsetDateTime::now_utc().unix_timestamp()) {
        Ok(taken) => {
            for session in taken {
                log_ins.tokens().remove(&session);
                gateway.ledger().audit(Act::EndLogIn, &format_args!("whoever writes in {ending}"), &session, DONE);
            }
        }
        Err(error) => tracing::error!("{error}"),
    }
}

/// Puts certificates in force that were renewed.
fn take_look(looked: Result<(CertificateWatch, Found), JoinError>, serving: &Serving) -> Option<CertificateWatch> {
    let (watch, found) = looked
        .inspect_err(|error| tracing::error!("certificates are not watched any more until the next reload: {error}"))
        .ok()?;
    for problem in found.problems {
        tracing::error!("{problem}");
    }
    if let Some(certificates) = found.certificates {
        serving.replace_certificates(&certificates);
    }
    for certificate in found.changed {
        tracing::info!(certificate, "the certificate was read again and is in use");
    }
    Some(watch)
}

/// Tells of certificates that end soon.
fn tell_ends(gateway: &Gateway, watch: &CertificateWatch) {
    for certificate in watch.certificates() {
        gateway.events().certificate(&certificate.certificate_file.display().to_string(), certificate.ends_at_unix);
    }
}

/// Closes the sockets, lets connections end for as long as the configuration allows, and then ends them.
async fn drain(gateway: &Arc<Gateway>, serving: &Serving) {
    let time = gateway.config().limits.drain_timeout;
    tracing::info!(seconds = time.as_secs(), "draining");
    let end = tokio::time::Instant::now() + time;
    serving.stop();
    // Whoever has just come is served, and finds its agent still here.
    let _ = timeout(HAND_OVER_TIME.min(time), serving.visitors_finished()).await;
    gateway.drain(end.saturating_duration_since(tokio::time::Instant::now())).await;
    // Whoever is left had its time, or has only to read what it was told.
    let _ = timeout(FAREWELL_TIME, serving.finished()).await;
}

fn reopen_logs(gateway: &Gateway) {
    gateway.ledger().audit(Act::ReopenLogs, &"SIGUSR1", "", DONE);
    gateway.ledger().reopen();
}

fn shown(gateway: &Gateway) -> String {
    gateway.config().file.display().to_string()
}

fn tell_addresses(listeners: &Listeners, admin: Option<SocketAddr>) {
    let kinds = [
        ("agents", listeners.agents()),
        ("https", listeners.https()),
        ("tls", listeners.tls()),
        ("http", listeners.http()),
        ("tcp", listeners.tcp()),
        ("admin", admin.into_iter().collect()),
    ];
    for (kind, addresses) in kinds.into_iter().filter(|(_, addresses)| !addresses.is_empty()) {
        let addresses: Vec<_> = addresses.iter().map(SocketAddr::to_string).collect();
        tracing::info!(kind, addresses = addresses.join(" "), "listening");
    }
}

/// What the process is told.
enum Told {
    Reload,
    ReopenLogs,
    /// By this signal.
    End(&'static str),
}

/// The signals that mean something.
struct Signals {
    hangup: Signal,
    user: Signal,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            user: signal(SignalKind::user_defined1())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.hangup.recv() => Told::Reload,
            _ = self.user.recv() => Told::ReopenLogs,
            _ = self.interrupt.recv() => Told::End("SIGINT"),
            _ = self.terminate.recv() => Told::End("SIGTERM"),
        }
    }

    /// Waits for the end, whatever else comes.
    async fn end(&mut self, gateway: &Gateway) {
        loop {
            match self.next().await {
                Told::End(signal) => return gateway.ledger().audit(Act::Drain, &signal, "", "cut short"),
                Told::ReopenLogs => reopen_logs(gateway),
                Told::Reload => {}
            }
        }
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IdentityKey(file, error) => write!(f, "{file}: {error}"),
            Self::Listen(error) => error.fmt(f),
            Self::Admin(error) => error.fmt(f),
            Self::Acme(error) => error.fmt(f),
            Self::Random(error) => error.fmt(f),
            Self::Ledger(error) => error.fmt(f),
            Self::Tls(error) => write!(f, "TLS cannot be set up: {error}"),
            Self::LogIns(file, error) => write!(f, "{file}: what log-ins are remembered cannot be read: {error}"),
            Self::Signals(error) => write!(f, "signals cannot be received: {error}"),
        }
    }
}

impl std::error::Error for RunError {}

const DONE: &str = "done";
/// For the last lines of logs. A disk that does not answer must not keep the process.
const LOG_TIME: Duration = Duration::from_secs(2);
/// What came before the sockets closed has until then to get its stream: a TLS handshake and a request. Agents stay for
/// so long, or until there is no visitor.
const HAND_OVER_TIME: Duration = Duration::from_secs(1);
/// After the drain: links are told to go, and read it within a second.
const FAREWELL_TIME: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
