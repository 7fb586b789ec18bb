//! How long a round trip on the link takes: the shortest of the last ones, because a busy link answers late.

use std::time::Duration;

/// The last samples.
#[derive(Debug, Default)]
pub(super) struct RoundTrip {
    samples: [Option<Duration>; SAMPLES],
    next: usize,
}

impl RoundTrip {
    /// Adds a sample and returns the estimate.
    pub(super) fn add(&mut self, sample: Duration) -> Duration {
        if let Some(place) = self.samples.get_mut(self.next) {
            *place = Some(sample);
        }
        self.next = (self.next + 1) % SAMPLES;
        self.estimate().unwrap_or(sample)
    }

    /// The estimate so far.
    pub(super) fn estimate(&self) -> Option<Duration> {
        self.samples.iter().flatten().min().copied()
    }
}

/// A minute of heartbeats: a link that has moved to another path is measured anew after it.
const SAMPLES: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimate_is_the_shortest_of_the_last_six() {
        let mut round_trip = RoundTrip::default();
        let mut add = |ms| round_trip.add(Duration::from_millis(ms)).as_millis();
        assert_eq!([300, 40, 200, 50].map(&mut add), [300, 40, 40, 40]);
        assert_eq!([200, 200, 200, 200].map(&mut add), [40, 40, 40, 50]);
        assert_eq!([200, 200].map(&mut add), [50, 200]);
    }
}
