//! Notices, without a signal, that a credential has changed, is gone or has come to its end.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::task::JoinHandle;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::directory::{Directory, Found};
use crate::access_log::Act;
use crate::config::Config;
use crate::gateway::Gateway;

/// Looks after the credentials of a gateway.
#[derive(Debug)]
pub struct Watch {
    ticks: Interval,
    /// The configuration that the rest of this is about.
    config: Arc<Config>,
    /// `None` while a look is under way, and where there is none.
    directory: Option<Directory>,
    looking: Option<JoinHandle<(Directory, Found)>>,
    /// When a credential or a token comes to its end.
    next_end: Option<OffsetDateTime>,
}

impl Watch {
    /// Watches the credentials of the configuration that is in force. Call it within a runtime.
    #[must_use]
    pub fn new(gateway: &Gateway) -> Self {
        let mut ticks = interval(LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let config = gateway.config();
        let mut watch = Self { ticks, config, directory: None, looking: None, next_end: None };
        watch.begin(gateway.config());
        watch
    }

    /// Waits for the next moment to look, or for the end of a look. Nothing is lost when it is dropped before that.
    pub async fn next(&mut self) -> Step {
        let Some(looking) = &mut self.looking else {
            self.ticks.tick().await;
            return Step::Tick;
        };
        // The disk may not answer: neither signals nor the ends of credentials wait for it.
        tokio::select! {
            _ = self.ticks.tick() => Step::Tick,
            looked = looking => {
                self.looking = None;
                match looked {
                    Ok((directory, found)) => Step::Looked(Box::new(directory), found),
                    Err(error) => {
                        tracing::error!("credentials are not watched any more until the next reload: {error}");
                        Step::Tick
                    }
                }
            }
        }
    }

    /// Does what the step asks for. Between [`Watch::next`] and this, nothing else may change the configuration.
    pub fn take(&mut self, step: Step, gateway: &Gateway) {
        let config = gateway.config();
        let is_current = Arc::ptr_eq(&config, &self.config);
        if !is_current {
            // Somebody has reloaded meanwhile: what was found is about another configuration.
            self.begin(config);
            return;
        }
        match step {
            Step::Looked(directory, found) => self.finish_look(*directory, found, gateway),
            Step::Tick => {
                self.end_what_is_over(gateway);
                self.begin_look();
            }
        }
    }

    fn end_what_is_over(&mut self, gateway: &Gateway) {
        let now = OffsetDateTime::now_utc();
        if self.next_end.is_some_and(|end| now > end) {
            gateway.end_sessions_not_allowed();
            self.next_end = self.config.accounts.next_end(now);
        }
    }

    fn begin(&mut self, config: Arc<Config>) {
        self.looking = None;
        self.directory.clone_from(&config.credentials_directory);
        self.next_end = config.accounts.next_end(OffsetDateTime::now_utc());
        self.config = config;
    }

    fn begin_look(&mut self) {
        let Some(mut directory) = self.directory.take() else { return };
        let config = Arc::clone(&self.config);
        self.looking = Some(tokio::task::spawn_blocking(move || {
            let found = directory.look(&config.accounts);
            (directory, found)
        }));
    }

    fn finish_look(&mut self, directory: Directory, found: Found, gateway: &Gateway) {
        for problem in found.problems {
            tracing::error!("{problem}");
        }
        for told in found.told {
            tracing::info!("{told}");
            gateway.ledger().audit(Act::Credential, &"credentials_directory", &told, "done");
        }
        if !found.is_changed {
            self.directory = Some(directory);
            return;
        }
        let mut config = Config::clone(&self.config);
        config.set_credentials(directory);
        gateway.reload(config);
        self.begin(gateway.config());
    }
}

/// What [`Watch::take`] has to do.
#[derive(Debug)]
pub enum Step {
    /// Time for a look.
    Tick,
    /// A look is done.
    Looked(Box<Directory>, Found),
}

/// Half of the time within which what two looks have seen has to hold, less what a look takes with ten thousand files.
const LOOK_INTERVAL: Duration = Duration::from_millis(300);
