//! How long a visitor may stay that a log-in has let through.

use std::sync::Arc;
use std::time::Duration;

use super::io::Activity;
use crate::login::term::Passage;

/// What a log-in has decided of a request, and when something of it or of its answer last moved.
#[derive(Debug)]
pub(super) struct Stay {
    passage: Arc<Passage>,
    activity: Arc<Activity>,
}

impl Stay {
    pub(super) fn new(passage: Arc<Passage>, activity: Arc<Activity>) -> Self {
        Self { passage, activity }
    }

    /// Completes when what was let through has to end; see [`Passage::over`].
    pub(super) async fn over(&self) {
        self.passage.over(|| self.activity.without_payload()).await;
    }

    /// The same for a request that waits for its answer, which is no idle time: it was made just now, and its answer has a
    /// time of its own.
    pub(super) async fn session_over(&self) {
        self.passage.over(|| Duration::ZERO).await;
    }

    /// Whether there is any end to wait for.
    pub(super) fn is_limited(&self) -> bool {
        self.passage.is_limited()
    }
}
