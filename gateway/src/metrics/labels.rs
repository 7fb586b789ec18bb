//! Counters with labels of which there cannot be too many: those of an enumeration, and those of a table that stops growing.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use prometheus::core::{Collector, Desc};
use prometheus::{IntCounter, IntCounterVec, Opts, Registry, proto};

use super::cells::{CELLS_MAX, Cells, Tally};

/// The values of a label that are known beforehand.
pub trait Label: Copy + Send + Sync + 'static {
    /// The label's name.
    const NAME: &'static str;
    /// All values, in the order of [`Label::index`].
    const ALL: &'static [Self];

    /// The value as it is written.
    fn as_str(self) -> &'static str;

    /// The place in [`Label::ALL`].
    fn index(self) -> usize;
}

/// One counter for each value of a label, all of them there from the start: a rate over one that appears with its first
/// event would miss that event.
#[derive(Debug)]
pub struct Each<L> {
    desc: Desc,
    cells: Arc<Cells>,
    label: PhantomData<L>,
}

impl<L: Label> Each<L> {
    pub(super) fn new(registry: &Registry, name: &str, help: &str) -> prometheus::Result<Self> {
        const { assert!(L::ALL.len() <= CELLS_MAX) };
        let desc = Desc::new(name.to_owned(), help.to_owned(), vec![L::NAME.to_owned()], HashMap::new())?;
        let cells = Cells::new();
        register(registry, Self { desc: desc.clone(), cells: Arc::clone(&cells), label: PhantomData })?;
        Ok(Self { desc, cells, label: PhantomData })
    }

    /// Counts one.
    pub fn one(&self, label: L) {
        self.add(label, 1);
    }

    /// Counts so many.
    pub fn add(&self, label: L, count: u64) {
        self.cells.add(label.index(), count);
    }

    /// Lets one value have a total that is counted elsewhere, and never less than it has. One at a time may call this.
    pub fn reach(&self, label: L, total: u64) {
        self.add(label, total.saturating_sub(self.count(label)));
    }

    /// The counter of one value.
    #[must_use]
    pub fn counter(&self, label: L) -> Tally {
        Tally::new(&self.cells, label.index())
    }

    /// What has been counted so far.
    #[must_use]
    pub fn count(&self, label: L) -> u64 {
        self.cells.sum(label.index())
    }

    fn sample(&self, label: L) -> proto::Metric {
        let mut pair = proto::LabelPair::default();
        pair.set_name(L::NAME.to_owned());
        pair.set_value(label.as_str().to_owned());
        let mut counter = proto::Counter::default();
        // Exact up to 2^53, as everything is for Prometheus.
        counter.set_value(self.count(label) as f64);
        let mut metric = proto::Metric::from_label(vec![pair]);
        metric.set_counter(counter);
        metric
    }
}

impl<L: Label> Collector for Each<L> {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let mut family = proto::MetricFamily::default();
        family.set_name(self.desc.fq_name.clone());
        family.set_help(self.desc.help.clone());
        family.set_field_type(proto::MetricType::COUNTER);
        family.set_metric(L::ALL.iter().map(|label| self.sample(*label)).collect());
        vec![family]
    }
}

/// Counters whose labels are only known when something is counted. Once there are as many as the limit, every new
/// combination counts as [`OTHER`] in all labels; those that are there go on.
#[derive(Debug)]
pub struct Bounded<const N: usize> {
    family: IntCounterVec,
    max: usize,
    known: RwLock<HashMap<String, IntCounter>>,
    /// Counts what is beyond the limit, once that was met.
    other: OnceLock<IntCounter>,
}

impl<const N: usize> Bounded<N> {
    pub(super) fn new(
        registry: &Registry,
        (name, help): (&str, &str),
        labels: [&str; N],
        max: usize,
    ) -> prometheus::Result<Self> {
        let family = IntCounterVec::new(Opts::new(name, help), &labels)?;
        register(registry, family.clone())?;
        Ok(Self { family, max, known: RwLock::default(), other: OnceLock::new() })
    }

    /// Counts one.
    pub fn one(&self, values: [&str; N]) {
        if let Some(counter) = self.counter(values) {
            counter.inc();
        }
    }

    /// The counter of these values, or of those that have none of their own.
    pub(super) fn counter(&self, values: [&str; N]) -> Option<IntCounter> {
        let key = values.join(SEPARATOR);
        if let Some(counter) = self.known.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Some(counter.clone());
        }
        if let Some(other) = self.other.get() {
            return Some(other.clone());
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let is_room = known.len() < self.max || known.contains_key(&key);
        let values = if is_room { values } else { [OTHER; N] };
        // It fails only for a wrong number of labels, which the types rule out.
        let counter = self.family.get_metric_with_label_values(&values).ok()?;
        if is_room {
            known.insert(key, counter.clone());
        } else {
            // Who comes later takes no lock for writing any more.
            let _ = self.other.set(counter.clone());
        }
        Some(counter)
    }

    /// What has been counted so far.
    #[must_use]
    pub fn count(&self, values: [&str; N]) -> u64 {
        let key = values.join(SEPARATOR);
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&key).map_or(0, IntCounter::get)
    }
}

pub(super) fn register(registry: &Registry, family: impl Collector + 'static) -> prometheus::Result<()> {
    registry.register(Box::new(family))
}

/// Stands for everything that has no counter of its own.
pub const OTHER: &str = "other";
/// It is in none of the values: URLs, names of rules and codes have no control characters.
const SEPARATOR: &str = "\u{1f}";

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;

    #[test]
    fn combinations_beyond_the_bound_count_as_other() {
        let registry = Registry::new();
        let counters = Bounded::new(&registry, ("rules_total", "Rules."), ["endpoint", "rule"], 2).unwrap();
        for (endpoint, rule) in [("a", "1"), ("b", "1"), ("c", "1"), ("a", "1"), ("d", "2")] {
            counters.one([endpoint, rule]);
        }
        let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        let mut samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        samples.sort_unstable();
        let expected = [
            "rules_total{endpoint=\"a\",rule=\"1\"} 2",
            "rules_total{endpoint=\"b\",rule=\"1\"} 1",
            "rules_total{endpoint=\"other\",rule=\"other\"} 2",
        ];
        assert_eq!(samples, expected);
    }
}
