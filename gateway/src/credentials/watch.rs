//! Notices, without a signal, that a credential has changed, is gone or has come to its end.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::task::JoinHandle;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::directory::{Directory, Found};
use crate::access_log::Act;
use crate::config::Config;
use crate::config::accounts::Accounts;
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
    ends: Ends,
}

/// When a credential or a token comes to its end, by a clock that may be set.
#[derive(Debug)]
struct Ends {
    next: Option<OffsetDateTime>,
    /// When that was looked up.
    found_at: OffsetDateTime,
    /// The time at the last tick.
    seen_at: OffsetDateTime,
}

impl Watch {
    /// Watches the credentials of the configuration that is in force. Call it within a runtime.
    #[must_use]
    pub fn new(gateway: &Gateway) -> Self {
        let mut ticks = interval(LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let config = gateway.config();
        let ends = Ends::new(&config.accounts, OffsetDateTime::now_utc());
        let mut watch = Self { ticks, config, directory: None, looking: None, ends };
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
        if self.ends.have_come(&self.config.accounts, OffsetDateTime::now_utc()) {
            gateway.end_sessions_not_allowed();
        }
    }

    fn begin(&mut self, config: Arc<Config>) {
        self.looking = None;
        self.directory.clone_from(&config.credentials_directory);
        self.ends = Ends::new(&config.accounts, OffsetDateTime::now_utc());
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

impl Ends {
    fn new(accounts: &Accounts, now: OffsetDateTime) -> Self {
        Self { next: accounts.next_end(now), found_at: now, seen_at: now }
    }

    /// Tells whether something has come to its end since the last time.
    fn have_come(&mut self, accounts: &Accounts, now: OffsetDateTime) -> bool {
        let has_come = self.next.is_some_and(|end| now > end);
        // What was over while the clock was ahead is to come again.
        if has_come || now < self.seen_at || now - self.found_at >= FIND_INTERVAL {
            *self = Self::new(accounts, now);
        }
        self.seen_at = now;
        has_come
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
/// How often the next end is looked up, whatever the clock does: it takes a look at every credential.
const FIND_INTERVAL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::credential::tests::credential;

    #[test]
    fn end_is_noticed_after_the_clock_was_ahead() {
        let start = OffsetDateTime::UNIX_EPOCH;
        let mut ending = credential("a");
        ending.not_after = Some(start + Duration::from_secs(100));
        let mut accounts = Accounts::default();
        accounts.set_filed([Arc::new(ending)].iter());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut ends = Ends::new(&accounts, at(5000));
        assert!(!ends.have_come(&accounts, at(5001)), "it was over before");
        assert!(!ends.have_come(&accounts, at(10)), "the clock was set back");
        assert!(!ends.have_come(&accounts, at(100)));
        assert!(ends.have_come(&accounts, at(101)));
        assert!(!ends.have_come(&accounts, at(102)), "once is enough");
    }

    #[test]
    fn next_end_is_looked_up_once_a_minute() {
        let mut ends = Ends::new(&Accounts::default(), OffsetDateTime::UNIX_EPOCH);
        for (seconds, found_at) in [(59, 0), (60, 60), (119, 60), (120, 120)] {
            ends.have_come(&Accounts::default(), OffsetDateTime::UNIX_EPOCH + Duration::from_secs(seconds));
            assert_eq!(ends.found_at.unix_timestamp(), found_at, "after {seconds} s");
        }
    }
}
