//! Tells of certificates that end soon: 14, 7 and 1 days before, and when it has come.

use crate::bounded::Bounded;

/// Remembers what was told of which certificate.
#[derive(Debug)]
pub(super) struct CertificateEnds {
    told: Bounded<String, Told>,
}

#[derive(Debug, Default)]
struct Told {
    ends_at_unix: i64,
    steps: usize,
}

impl CertificateEnds {
    pub(super) fn new() -> Self {
        Self { told: Bounded::new(CERTIFICATES_MAX) }
    }

    /// Looks at one certificate. Gives the days that are left if that is to be told now: never the same twice, unless it was
    /// renewed in between.
    pub(super) fn look(&mut self, name: &str, ends_at_unix: i64, now_unix: i64) -> Option<i64> {
        let left = ends_at_unix.saturating_sub(now_unix);
        let steps = STEPS.iter().filter(|days| left <= **days * DAY).count();
        if steps == 0 {
            return None;
        }
        let told = self.told.entry(name.to_owned());
        if told.ends_at_unix != ends_at_unix {
            *told = Told { ends_at_unix, steps: 0 };
        }
        if told.steps >= steps {
            return None;
        }
        told.steps = steps;
        Some(left.div_euclid(DAY))
    }
}

/// In days before the end. Authorities that people use by hand give a year, and somebody has to be found who does it.
const STEPS: [i64; 4] = [14, 7, 1, 0];
const DAY: i64 = 86_400;
/// As many as a configuration may have.
const CERTIFICATES_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_is_told_at_each_step_once() {
        let (mut ends, end) = (CertificateEnds::new(), 100 * DAY);
        let told: Vec<_> = (0..110 * 24).filter_map(|hour| ends.look("a", end, hour * 3600)).collect();
        assert_eq!(told, [14, 7, 1, 0]);
    }

    #[test]
    fn renewed_certificate_is_told_anew() {
        let mut ends = CertificateEnds::new();
        assert_eq!(ends.look("a", 10 * DAY, 0), Some(10));
        assert_eq!(ends.look("a", 10 * DAY, 1), None);
        assert_eq!(ends.look("a", 11 * DAY, 1), Some(10));
        assert_eq!(ends.look("a", 100 * DAY, 1), None);
        assert_eq!(ends.look("a", 100 * DAY, 101 * DAY), Some(-1));
        assert_eq!(ends.told.len(), 1);
    }
}
