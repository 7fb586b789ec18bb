//! The time by which certificates are judged.

use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

use crate::wall_time::WallTime;

/// The system's clock, but never before the time of the build: a router without a battery starts in 1970, and would find
/// every certificate not yet valid. The clock is read anew each time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    pub(super) build: WallTime,
    pub(super) system: fn() -> WallTime,
}

impl Clock {
    /// The real one.
    pub(super) const REAL: Self = Self { build: WallTime::BUILD, system: WallTime::system };

    pub(super) fn now(self) -> WallTime {
        (self.system)().max(self.build)
    }
}

/// What to say at the start about a clock that cannot be right.
pub fn clock_warning() -> Option<String> {
    Clock::REAL.warning()
}

impl Clock {
    fn warning(self) -> Option<String> {
        let (system, build) = ((self.system)(), self.build);
        (system < build).then(|| {
            format!(
                "the system clock says {system}, before this adit was built: until it is set, certificates are judged as \
                 of {build}"
            )
        })
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix(self.now()))
    }
}

/// The same moment as rustls writes it.
pub(super) fn unix(time: WallTime) -> UnixTime {
    UnixTime::since_unix_epoch(time.since_unix())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warning_is_about_clocks_before_the_build_only() {
        let warning = |system| Clock { build: WallTime::from_unix(1_795_478_400), system }.warning();
        let expected = "the system clock says 1970-01-01T00:01:17Z, before this adit was built: until it is set, \
                        certificates are judged as of 2026-11-24T00:00:00Z";
        assert_eq!(warning(|| WallTime::from_unix(77)).as_deref(), Some(expected));
        assert_eq!(warning(|| WallTime::from_unix(1_795_478_400)), None);
        assert_eq!(warning(|| WallTime::from_unix(3_562_790_400)), None);
    }
}
