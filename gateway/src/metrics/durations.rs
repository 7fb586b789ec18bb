//! Histograms of times that are noted with each request.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::{Registry, proto};

use super::cells::{CELLS_MAX, Cells};
use super::labels::register;

/// How often something took how long. A scrape while somebody notes a time may see it in the buckets and not yet in the sum.
#[derive(Clone, Debug)]
pub struct Durations {
    desc: Desc,
    /// One for each bound, one for what is beyond all of them, and the sum.
    cells: Arc<Cells>,
}

impl Durations {
    pub(super) fn new(registry: &Registry, name: &str, help: &str) -> prometheus::Result<Self> {
        let desc = Desc::new(name.to_owned(), help.to_owned(), Vec::new(), HashMap::new())?;
        let durations = Self { desc, cells: Cells::new() };
        register(registry, durations.clone())?;
        Ok(durations)
    }

    /// Notes a time.
    pub fn note(&self, time: Duration) {
        let bucket = BOUNDS.iter().filter(|bound| time > **bound).count();
        self.cells.add(bucket, 1);
        let ticks = u64::from((time.subsec_nanos() + TICK_NANOS / 2) / TICK_NANOS);
        self.cells.add(SUM, time.as_secs().saturating_mul(TICKS_PER_SECOND).saturating_add(ticks));
    }

    fn histogram(&self) -> proto::Histogram {
        let mut count = 0;
        let mut buckets = Vec::with_capacity(BOUNDS.len());
        for (index, bound) in BOUNDS.iter().enumerate() {
            count += self.cells.sum(index);
            let mut bucket = proto::Bucket::default();
            bucket.set_cumulative_count(count);
            bucket.set_upper_bound(bound.as_secs_f64());
            buckets.push(bucket);
        }
        count += self.cells.sum(BOUNDS.len());
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(count);
        histogram.set_sample_sum(self.cells.sum(SUM) as f64 / TICKS_PER_SECOND as f64);
        histogram
    }
}

impl Collector for Durations {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let mut metric = proto::Metric::default();
        metric.set_histogram(self.histogram());
        let mut family = proto::MetricFamily::default();
        family.set_name(self.desc.fq_name.clone());
        family.set_help(self.desc.help.clone());
        family.set_field_type(proto::MetricType::HISTOGRAM);
        family.set_metric(vec![metric]);
        vec![family]
    }
}

/// From what a look at a table takes to what a visitor bears.
const BOUNDS: [Duration; 13] = [
    Duration::from_micros(100),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
];
/// Where the sum is.
const SUM: usize = BOUNDS.len() + 1;
/// What the sum counts: fine enough for a policy of some microseconds, and with 10,000 visitors who wait all the time, good for
/// five years in each shard. A sum that wraps around is a counter that begins anew, which Prometheus expects.
const TICK_NANOS: u32 = 100;
const TICKS_PER_SECOND: u64 = 1_000_000_000 / TICK_NANOS as u64;
const _: () = assert!(SUM < CELLS_MAX);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_in_the_first_bucket_that_is_not_below_it() {
        let durations = Durations::new(&Registry::new(), "t_seconds", "T.").unwrap();
        for micros in [0, 100, 101, 30_000_000, 30_000_001, 90_000_000] {
            durations.note(Duration::from_micros(micros));
        }
        let histogram = durations.histogram();
        let counts: Vec<u64> = histogram.get_bucket().iter().map(|bucket| bucket.cumulative_count()).collect();
        assert_eq!(counts, [2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 4]);
        assert_eq!(histogram.get_sample_count(), 6);
        assert!((histogram.get_sample_sum() - 150.000_202).abs() < 1e-6, "{}", histogram.get_sample_sum());
    }

    #[test]
    fn bounds_are_written_as_they_are_read() {
        let registry = Registry::new();
        Durations::new(&registry, "t_seconds", "T.").unwrap().note(Duration::from_millis(3));
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        let expected = "# HELP t_seconds T.\n# TYPE t_seconds histogram\n\
            t_seconds_bucket{le=\"0.0001\"} 0\nt_seconds_bucket{le=\"0.0005\"} 0\nt_seconds_bucket{le=\"0.001\"} 0\n\
            t_seconds_bucket{le=\"0.0025\"} 0\nt_seconds_bucket{le=\"0.005\"} 1\nt_seconds_bucket{le=\"0.01\"} 1\n\
            t_seconds_bucket{le=\"0.025\"} 1\nt_seconds_bucket{le=\"0.05\"} 1\nt_seconds_bucket{le=\"0.1\"} 1\n\
            t_seconds_bucket{le=\"0.25\"} 1\nt_seconds_bucket{le=\"1\"} 1\nt_seconds_bucket{le=\"5\"} 1\n\
            t_seconds_bucket{le=\"30\"} 1\nt_seconds_bucket{le=\"+Inf\"} 1\nt_seconds_sum 0.003\nt_seconds_count 1\n";
        assert_eq!(text, expected);
    }
}
