//! Traffic of the last half hour, for the pictures.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::fleet::report::{self, Filter, SiteState};
use crate::gateway::Gateway;

/// What was measured at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sample {
    /// Sites that were online.
    pub(super) sites: u64,
    /// Streams that were open.
    pub(super) streams: u64,
    /// Bytes a second for agents, since the sample before.
    pub(super) to_agents: u64,
    /// Bytes a second from agents, since the sample before.
    pub(super) from_agents: u64,
}

/// Sums since the start.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    sites: u64,
    streams: u64,
    to_agents: u64,
    from_agents: u64,
}

/// Samples of the last half hour.
#[derive(Debug, Default)]
pub struct History {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    samples: VecDeque<Sample>,
    before: Option<Totals>,
}

impl History {
    /// Takes a sample every ten seconds until it is dropped.
    pub async fn follow(&self, gateway: &Arc<Gateway>) {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Some(totals) = gateway.look(Totals::of).await {
                self.add(totals);
            }
        }
    }

    pub(crate) fn samples(&self) -> Vec<Sample> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).samples.iter().copied().collect()
    }

    fn add(&self, now: Totals) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        // Sites that are forgotten take what they had counted with them.
        let rate = |now: u64, before: u64| now.saturating_sub(before) / PERIOD.as_secs();
        let before = kept.before.replace(now).unwrap_or(now);
        if kept.samples.len() >= SAMPLES_MAX {
            kept.samples.pop_front();
        }
        kept.samples.push_back(Sample {
            sites: now.sites,
            streams: now.streams,
            to_agents: rate(now.to_agents, before.to_agents),
            from_agents: rate(now.from_agents, before.from_agents),
        });
    }
}

impl Totals {
    fn of(gateway: &Gateway) -> Self {
        let mut totals = Self::default();
        for site in report::sites(gateway, &Filter::default()).sites {
            totals.sites += u64::from(site.state == SiteState::Online);
            totals.streams = totals.streams.saturating_add(site.counts.streams as u64);
            totals.to_agents = totals.to_agents.saturating_add(site.counts.bytes_to_agent);
            totals.from_agents = totals.from_agents.saturating_add(site.counts.bytes_from_agent);
        }
        totals
    }
}

/// Fine enough for a picture of half an hour, and rare enough to cost nothing.
const PERIOD: Duration = Duration::from_secs(10);
/// Half an hour.
const SAMPLES_MAX: usize = 180;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_differences_and_half_an_hour_is_kept() {
        let history = History::default();
        let add = |bytes| history.add(Totals { sites: 1, streams: 2, to_agents: bytes, from_agents: 0 });
        [500, 1500, 1000].into_iter().for_each(add);
        let rates: Vec<_> = history.samples().iter().map(|sample| sample.to_agents).collect();
        assert_eq!(rates, [0, 100, 0]);
        (0..500).for_each(|_| add(1000));
        assert_eq!(history.samples().len(), SAMPLES_MAX);
    }
}
