//! Certificates from an ACME authority (RFC 8555): who has one, how names are proved, and when one is renewed.
//!
//! [`Acme`] runs beside the listeners and puts what it gets into [`Certificates`]; the listeners ask [`Challenges`] what an
//! authority is to be answered. Nothing waits for the authority: a name without a certificate is refused in TLS until there
//! is one, and everything else goes on.

mod authority;
mod challenges;
mod http;
mod issued;
mod keeper;
mod renewal;
mod state;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use adit::session::Random;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::certificates::{Certificates, Obtained};
use crate::config::acme::AcmeConfig;
use authority::AcmeAuthority;
use keeper::{Keeper, Means};
use state::State;

pub use challenges::{ACME_TLS, ChallengeError, Challenges, Pending};
pub(crate) use http::check as check_url;
pub use state::StateError;

/// The certificates that the configuration wants from an authority. Dropping it ends what is under way.
#[derive(Debug)]
pub struct Acme {
    certificates: Arc<Certificates>,
    challenges: Arc<Challenges>,
    running: Mutex<Option<Running>>,
    seed: u64,
}

/// A keeper at work.
#[derive(Debug)]
struct Running {
    config: Arc<AcmeConfig>,
    names: mpsc::Sender<Vec<String>>,
    task: JoinHandle<()>,
}

impl Acme {
    /// Nothing is wanted yet. `seed` is for the times by chance.
    #[must_use]
    pub fn new(certificates: Arc<Certificates>, challenges: Arc<Challenges>, seed: u64) -> Self {
        Self { certificates, challenges, running: Mutex::new(None), seed }
    }

    /// Does from now on what the configuration says; it reads what is kept before it returns. Call it within a runtime.
    ///
    /// # Errors
    ///
    /// [`StateError`]: nothing can be kept; what was in force stays.
    pub fn follow(&self, config: Option<&Arc<AcmeConfig>>) -> Result<(), StateError> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(config) = config else {
            if running.take().is_some() {
                self.certificates.set_obtained(Obtained::default());
            }
            return Ok(());
        };
        if let Some(running) = running.as_mut()
            && running.config.is_same_authority(config)
        {
            // A keeper that has not taken the last list yet takes this one at the next reload.
            let _ = running.names.try_send(config.names.clone());
            return Ok(());
        }
        let state = State::open(&config.state, &config.directory_url)?;
        // Ends the one before it with its orders.
        *running = None;
        let authority = AcmeAuthority::new(Arc::clone(config), state.clone(), Arc::clone(&self.challenges));
        let means = Means {
            authority: Arc::new(authority),
            state,
            certificates: Arc::clone(&self.certificates),
            renew_before: config.renew_before,
            clock: Arc::new(SystemTime::now),
            random: Random::new(self.seed),
        };
        let (names, lists) = mpsc::channel(LISTS_MAX);
        let task = tokio::spawn(Keeper::new(means, &config.names).run(lists));
        *running = Some(Running { config: Arc::clone(config), names, task });
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reloads that a keeper has not noticed yet.
const LISTS_MAX: usize = 8;
