//! Keeps the first TLS records of a link small enough for one packet each.
//!
//! On a path that swallows packets above some size and says nothing, a session that begins with small records still gets
//! as far as its log-in and its first binds, and the log tells that it did. It also spares the first round trips the wait
//! for the second half of a record.

/// Counts what was put into the link.
#[derive(Clone, Copy, Debug, Default)]
pub struct FirstRecords {
    sent: usize,
}

impl FirstRecords {
    /// How many bytes the next record may carry, for as long as there is such a limit. Each record then has to be given
    /// to the socket by itself.
    #[must_use]
    pub fn record_max(&self) -> Option<usize> {
        (self.sent < FIRST_BYTES).then_some(FIRST_RECORD_MAX)
    }

    /// Notes bytes that were put into the link.
    pub fn add(&mut self, len: usize) {
        self.sent = self.sent.saturating_add(len);
    }
}

/// Payload of a record: the least MTU of IPv6 (1280) less the headers of IPv6, TCP with time stamps, and TLS 1.2, which
/// needs most: 40 + 32 + 29.
pub const FIRST_RECORD_MAX: usize = 1179;

/// The log-in, its answer, and some binds with their policies.
pub const FIRST_BYTES: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limit_ends_after_the_first_bytes() {
        let mut records = FirstRecords::default();
        let mut count = 0;
        while let Some(max) = records.record_max() {
            records.add(max);
            count += 1;
        }
        assert_eq!(count, FIRST_BYTES.div_ceil(FIRST_RECORD_MAX));
        records.add(usize::MAX);
        assert_eq!(records.record_max(), None);
    }
}
