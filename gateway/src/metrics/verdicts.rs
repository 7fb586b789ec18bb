//! What rules of policies decided, counted for each rule.

use std::collections::HashMap;
use std::sync::Arc;

use adit::endpoint_url::EndpointUrl;
use arc_swap::ArcSwap;
use prometheus::Registry;

use super::cells::Tally;
use super::labels::Bounded;
use crate::policy::Decided;

/// What rules decided. What agents bring has a table of its own, so that none of them can take the places of the operator's.
#[derive(Debug)]
pub struct Verdicts {
    own: Table,
    agents: Table,
}

impl Verdicts {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            own: Table::new(
                registry,
                "adit_policy_verdicts_total",
                "What rules of the gateway's own endpoints decided.",
            )?,
            agents: Table::new(
                registry,
                "adit_agent_policy_verdicts_total",
                "What rules of agents' endpoints decided.",
            )?,
        })
    }

    /// Counts what a rule of this endpoint's policy decides. With `is_own` the endpoint is of the gateway's file.
    #[must_use]
    pub fn counter(&self, is_own: bool, endpoint: &EndpointUrl, decided: &Decided) -> Tally {
        if is_own { self.own.counter(endpoint, decided) } else { self.agents.counter(endpoint, decided) }
    }
}

#[derive(Debug)]
struct Table {
    counters: Bounded<4>,
    /// The counters of rules that have decided something: looked up without making a text of each label, and without a lock.
    known: ArcSwap<Known>,
}

/// At most [`RULES_MAX`] of them, each under its endpoint.
#[derive(Clone, Debug, Default)]
struct Known {
    endpoints: HashMap<EndpointUrl, Arc<[(Decided, Tally)]>>,
    len: usize,
}

impl Table {
    fn new(registry: &Registry, name: &str, help: &str) -> prometheus::Result<Self> {
        let labels = ["endpoint", "phase", "rule", "verdict"];
        Ok(Self { counters: Bounded::new(registry, (name, help), labels, RULES_MAX)?, known: ArcSwap::default() })
    }

    fn counter(&self, endpoint: &EndpointUrl, decided: &Decided) -> Tally {
        if let Some(counter) = self.known.load().find(endpoint, decided) {
            return counter.clone();
        }
        let values = [&*endpoint.to_string(), decided.phase, &decided.rule(), decided.verdict];
        let counter = self.counters.counter(values);
        if self.known.load().len < RULES_MAX {
            self.known.rcu(|known| known.with(endpoint, decided, &counter));
        }
        counter
    }
}

impl Known {
    fn find(&self, endpoint: &EndpointUrl, decided: &Decided) -> Option<&Tally> {
        let rules = self.endpoints.get(endpoint)?;
        rules.iter().find(|(known, _)| known == decided).map(|(_, counter)| counter)
    }

    fn with(&self, endpoint: &EndpointUrl, decided: &Decided, counter: &Tally) -> Self {
        let mut known = self.clone();
        // Another thread may have been quicker.
        if known.len >= RULES_MAX || known.find(endpoint, decided).is_some() {
            return known;
        }
        let rules = known.endpoints.entry(endpoint.clone()).or_insert_with(|| Arc::new([]));
        *rules = rules.iter().cloned().chain([(decided.clone(), counter.clone())]).collect();
        known.len += 1;
        known
    }
}

/// Rules with a counter of their own, for each of the two tables. A scrape of all of them has half a megabyte.
pub const RULES_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Metrics, Moment};

    fn rule(place: usize, name: Option<&str>) -> Decided {
        Decided { phase: "on_http_request", place, name: name.map(Into::into), verdict: "deny" }
    }

    fn samples(metrics: &Metrics, name: &str) -> Vec<String> {
        let text = metrics.text(&Moment::default());
        text.lines().filter(|line| line.starts_with(name)).map(str::to_owned).collect()
    }

    #[test]
    fn agents_rules_do_not_take_the_places_of_the_operators() {
        let metrics = Metrics::new();
        let (agents, own) = ("https://a.example.com", "https://b.example.com");
        let (agents, own) = (EndpointUrl::parse(agents).unwrap(), EndpointUrl::parse(own).unwrap());
        for _ in 0..2 {
            (0..RULES_MAX + 2).for_each(|place| metrics.verdicts.counter(false, &agents, &rule(place, None)).add(1));
        }
        metrics.verdicts.counter(true, &own, &rule(0, None)).add(1);
        let found = samples(&metrics, "adit_agent_policy_verdicts_total{");
        assert_eq!(found.len(), RULES_MAX + 1);
        let (other, rest): (Vec<_>, Vec<_>) = found.iter().partition(|line| line.contains("endpoint=\"other\""));
        assert!(other.len() == 1 && other[0].ends_with("} 4"), "{other:?}");
        assert!(rest.iter().all(|line| line.ends_with("} 2")));
        assert_eq!(metrics.verdicts.agents.known.load().len, RULES_MAX);
        assert_eq!(samples(&metrics, "adit_policy_verdicts_total{").len(), 1);
    }

    #[test]
    fn rules_are_counted_by_what_their_labels_say() {
        let metrics = Metrics::new();
        let url = EndpointUrl::parse("https://a.example.com").unwrap();
        let other = EndpointUrl::parse("https://a.example.com:8443").unwrap();
        for (url, rule) in [
            (&url, rule(0, None)),
            (&url, rule(0, None)),
            (&url, rule(1, None)),
            (&url, rule(1, Some("named"))),
            (&url, rule(2, Some("named"))),
            (&url, Decided { verdict: "respond", ..rule(0, None) }),
            (&url, Decided { phase: "on_http_response", ..rule(0, None) }),
            (&other, rule(0, None)),
        ] {
            metrics.verdicts.counter(true, url, &rule).add(1);
        }
        let name = "adit_policy_verdicts_total";
        let expected = [
            ("https://a.example.com", "on_http_request", "0", "deny", 2),
            ("https://a.example.com", "on_http_request", "0", "respond", 1),
            ("https://a.example.com", "on_http_request", "1", "deny", 1),
            ("https://a.example.com", "on_http_request", "named", "deny", 2),
            ("https://a.example.com", "on_http_response", "0", "deny", 1),
            ("https://a.example.com:8443", "on_http_request", "0", "deny", 1),
        ]
        .map(|(endpoint, phase, rule, verdict, count)| {
            format!("{name}{{endpoint=\"{endpoint}\",phase=\"{phase}\",rule=\"{rule}\",verdict=\"{verdict}\"}} {count}")
        });
        let mut found = samples(&metrics, name);
        found.sort_unstable();
        assert_eq!(found, expected);
    }
}
