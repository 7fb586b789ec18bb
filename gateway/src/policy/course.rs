//! How a visitor's connection has gone so far, for the policies that look at it.

use std::sync::atomic::{AtomicU64, Ordering};

use time::OffsetDateTime;

use crate::metrics::Tally;

/// When a connection began, and what has been carried on it. Behind TLS the bytes are those inside.
#[derive(Debug)]
pub struct Course {
    began: OffsetDateTime,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    /// The same of all connections of its kind, from the visitors and to them.
    totals: Option<(Tally, Tally)>,
}

impl Course {
    /// A connection begins.
    #[must_use]
    pub fn begin() -> Self {
        Self {
            began: OffsetDateTime::now_utc(),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            totals: None,
        }
    }

    /// A connection begins whose bytes count for the totals, too: those from visitors, and those to them.
    #[must_use]
    pub fn counted(received: Tally, sent: Tally) -> Self {
        Self { totals: Some((received, sent)), ..Self::begin() }
    }

    /// Counts bytes from the visitor.
    pub fn came(&self, bytes: usize) {
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
        if let Some((received, _)) = &self.totals {
            received.add(bytes as u64);
        }
    }

    /// Counts bytes to the visitor.
    pub fn went(&self, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
        if let Some((_, sent)) = &self.totals {
            sent.add(bytes as u64);
        }
    }

    pub(super) fn began(&self) -> OffsetDateTime {
        self.began
    }

    pub(crate) fn bytes_in(&self) -> u64 {
        self.bytes_in.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes_out(&self) -> u64 {
        self.bytes_out.load(Ordering::Relaxed)
    }
}
