//! The agent in a thread of its own: its loop knows nothing of tokio.

use std::thread;
use std::time::Duration;

use adit::agent::{Agent, Handle, RunError};
use adit::config::Config;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{error, warn};

/// An agent that runs. Dropping it without [`RunningAgent::stop`] tells it to end, but does not wait.
pub(super) struct RunningAgent {
    handle: Handle,
    ended: oneshot::Receiver<()>,
    is_ended: bool,
}

impl RunningAgent {
    pub(super) fn start(config: Config) -> Result<Self, RunError> {
        let agent = Agent::new(config)?;
        let handle = agent.handle();
        let (end, ended) = oneshot::channel();
        let run = move || {
            if let Err(error) = agent.run() {
                error!("the agent cannot go on: {error}");
            }
            // Nobody waits any more when the program ends for another reason.
            let _ = end.send(());
        };
        // Its join handle is not needed: `ended` says as much, and can be waited for without blocking.
        thread::Builder::new().name("agent".to_owned()).spawn(run).map_err(RunError::System)?;
        Ok(Self { handle, ended, is_ended: false })
    }

    /// Waits until it has ended by itself.
    pub(super) async fn ended(&mut self) {
        // An error says that the thread is gone, too.
        if !self.is_ended {
            let _ = (&mut self.ended).await;
            self.is_ended = true;
        }
    }

    /// Lets it say goodbye, and waits for it within bounds.
    pub(super) async fn stop(mut self) {
        // The first order drains, the second one ends it at once.
        for _ in 0..2 {
            self.handle.drain();
            if timeout(STOP_TIMEOUT, self.ended()).await.is_ok() {
                return;
            }
        }
        warn!("the agent does not end; leaving without it");
    }
}

impl Drop for RunningAgent {
    fn drop(&mut self) {
        self.handle.drain();
        self.handle.drain();
    }
}

/// For each of the two orders.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
