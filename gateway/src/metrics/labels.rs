//! Counters with labels of which there cannot be too many: those of an enumeration, and those of a table that stops growing.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use prometheus::core::{Collector, Desc};
use prometheus::{Registry, proto};

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
}

impl<L: Label> Collector for Each<L> {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let samples = L::ALL.iter().map(|label| sample(vec![pair(L::NAME, label.as_str())], self.count(*label)));
        vec![counters(&self.desc, samples.collect())]
    }
}

/// Counters whose labels are only known when something is counted. Once there are as many as the limit, every new
/// combination counts as [`OTHER`] in all labels; those that are there go on.
#[derive(Clone, Debug)]
pub struct Bounded<const N: usize> {
    family: Arc<Family<N>>,
}

#[derive(Debug)]
struct Family<const N: usize> {
    desc: Desc,
    labels: [&'static str; N],
    max: usize,
    rows: RwLock<Rows<N>>,
    /// Counts what is beyond the limit, once that was met.
    other: OnceLock<Tally>,
}

#[derive(Debug, Default)]
struct Rows<const N: usize> {
    list: Vec<([String; N], Tally)>,
    /// Where a combination is in the list, by all values in a row.
    places: HashMap<String, usize>,
}

impl<const N: usize> Bounded<N> {
    pub(super) fn new(
        registry: &Registry,
        (name, help): (&str, &str),
        labels: [&'static str; N],
        max: usize,
    ) -> prometheus::Result<Self> {
        let desc = Desc::new(name.to_owned(), help.to_owned(), labels.map(str::to_owned).into(), HashMap::new())?;
        let family = Family { desc, labels, max, rows: RwLock::default(), other: OnceLock::new() };
        let bounded = Self { family: Arc::new(family) };
        register(registry, bounded.clone())?;
        Ok(bounded)
    }

    /// Counts one.
    pub fn one(&self, values: [&str; N]) {
        self.counter(values).add(1);
    }

    /// The counter of these values, or of those that have none of their own.
    pub(super) fn counter(&self, values: [&str; N]) -> Tally {
        let Family { rows, other, max, .. } = &*self.family;
        let key = values.join(SEPARATOR);
        if let Some(tally) = rows.read().unwrap_or_else(PoisonError::into_inner).find(&key) {
            return tally.clone();
        }
        if let Some(other) = other.get() {
            return other.clone();
        }
        let mut rows = rows.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(tally) = rows.find(&key) {
            return tally.clone();
        }
        if rows.list.len() < *max {
            return rows.add(key, values);
        }
        // Who comes later takes no lock for writing any more.
        other.get_or_init(|| rows.other()).clone()
    }

    /// What has been counted so far.
    #[must_use]
    pub fn count(&self, values: [&str; N]) -> u64 {
        let rows = self.family.rows.read().unwrap_or_else(PoisonError::into_inner);
        rows.find(&values.join(SEPARATOR)).map_or(0, Tally::count)
    }
}

impl<const N: usize> Rows<N> {
    fn find(&self, key: &str) -> Option<&Tally> {
        self.list.get(*self.places.get(key)?).map(|(_, tally)| tally)
    }

    /// What is beyond the limit, and what somebody has counted by that name before.
    fn other(&mut self) -> Tally {
        let key = [OTHER; N].join(SEPARATOR);
        self.find(&key).cloned().unwrap_or_else(|| self.add(key, [OTHER; N]))
    }

    fn add(&mut self, key: String, values: [&str; N]) -> Tally {
        let tally = Tally::beside(self.list.last().map(|(_, tally)| tally));
        self.places.insert(key, self.list.len());
        self.list.push((values.map(str::to_owned), tally.clone()));
        tally
    }
}

impl<const N: usize> Collector for Bounded<N> {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.family.desc]
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let Family { desc, labels, rows, .. } = &*self.family;
        let rows = rows.read().unwrap_or_else(PoisonError::into_inner);
        let samples = rows.list.iter().map(|(values, tally)| {
            let pairs = labels.iter().zip(values).map(|(name, value)| pair(name, value));
            sample(pairs.collect(), tally.count())
        });
        vec![counters(desc, samples.collect())]
    }
}

fn pair(name: &str, value: &str) -> proto::LabelPair {
    let mut pair = proto::LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

fn sample(labels: Vec<proto::LabelPair>, count: u64) -> proto::Metric {
    let mut counter = proto::Counter::default();
    // Exact up to 2^53, as everything is for Prometheus.
    counter.set_value(count as f64);
    let mut metric = proto::Metric::from_label(labels);
    metric.set_counter(counter);
    metric
}

fn counters(desc: &Desc, samples: Vec<proto::Metric>) -> proto::MetricFamily {
    let mut family = proto::MetricFamily::default();
    family.set_name(desc.fq_name.clone());
    family.set_help(desc.help.clone());
    family.set_field_type(proto::MetricType::COUNTER);
    family.set_metric(samples);
    family
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

    #[test]
    fn what_is_called_other_and_what_is_beyond_the_bound_is_one() {
        let counters = Bounded::new(&Registry::new(), ("refused_total", "Refused."), ["code"], 2).unwrap();
        [OTHER, "1", "2", "1", OTHER, "3"].iter().for_each(|code| counters.one([code]));
        assert_eq!((counters.count([OTHER]), counters.count(["1"]), counters.count(["2"])), (4, 2, 0));
        assert_eq!(counters.collect()[0].get_metric().len(), 2);
    }
}
