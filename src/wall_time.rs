//! The time of day. No other file of the agent reads the system's clock: it may be wrong, and may jump, at any moment.
//! So nothing waits by it (waits are by [`std::time::Instant`]); it dates log lines and certificates, nothing else.

use std::fmt;
use std::time::{Duration, SystemTime};

/// A moment by the calendar, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WallTime(Duration);

impl WallTime {
    /// When this program was built, as far as its sources tell (`build.rs`): no clock that shows less is right.
    pub const BUILD: Self = match u64::from_str_radix(env!("ADIT_BUILD_TIME"), 10) {
        Ok(seconds) => Self::from_unix(seconds),
        Err(_) => panic!("build.rs gives a number of seconds"),
    };

    /// What the system's clock shows now; 1970 if it is before that.
    #[must_use]
    pub fn system() -> Self {
        #[cfg(all(target_env = "musl", target_pointer_width = "32"))]
        if let Some(time) = beyond_2038::system() {
            return time;
        }
        Self(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO))
    }

    /// So many seconds after 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn from_unix(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// The time since 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn since_unix(self) -> Duration {
        self.0
    }
}

/// On 32-bit musl the standard library keeps seconds in 32 bits, and panics when the system's clock shows 2038-01-19 or
/// later. So the kernel is asked in another way first, and the standard library only about what it can bear.
#[cfg(any(test, all(target_env = "musl", target_pointer_width = "32")))]
mod beyond_2038 {
    use super::WallTime;

    /// The system's clock if it shows more than the standard library can bear. `None` also where `/proc` is not mounted.
    #[cfg(all(target_env = "musl", target_pointer_width = "32"))]
    pub(super) fn system() -> Option<WallTime> {
        let read = |path| std::fs::read_to_string(path).ok();
        beyond(&read("/proc/stat")?, &read("/proc/uptime")?)
    }

    /// The time of the boot, which the kernel corrects whenever the clock is set, and the time since.
    pub(super) fn beyond(stat: &str, uptime: &str) -> Option<WallTime> {
        let boot: u64 = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
        let (seconds, _) = uptime.split_once('.')?;
        // A clock that was set to less than the time since the boot makes the boot negative; the sum is right all the same.
        let shown = boot.wrapping_add(seconds.parse().ok()?);
        (shown >= SAFE_MAX).then_some(WallTime::from_unix(shown))
    }

    /// The last second that 32 bits hold, less what both numbers are rounded by and the moment until the clock is read.
    pub(super) const SAFE_MAX: u64 = i32::MAX.unsigned_abs() as u64 - 10;
}

/// RFC 3339 in whole seconds; with the alternate flag (`{:#}`) in milliseconds.
impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (year, month, day) = civil(seconds / DAY_SECONDS);
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if f.alternate() {
            write!(f, ".{:03}", self.0.subsec_millis())?;
        }
        f.write_str("Z")
    }
}

/// Year, month and day of a number of days since 1970-01-01, by counting in eras of 400 years that begin on March 1st
/// (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

const DAY_SECONDS: u64 = 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moment_is_written_right_around_leap_days_and_centuries() {
        let table = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_799, "2000-02-29T23:59:59Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (1_795_478_400, "2026-11-24T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ];
        for (seconds, expected) in table {
            assert_eq!(WallTime::from_unix(seconds).to_string(), expected);
        }
    }

    #[test]
    fn clock_beyond_2038_is_told_by_boot_and_uptime() {
        let shown = |boot: u64, uptime: u64| {
            let stat = format!("cpu  1 2 3\nintr 5 btime 7\nctxt 9\nbtime {boot}\nprocesses 11\n");
            beyond_2038::beyond(&stat, &format!("{uptime}.25 17.50\n"))
        };
        assert_eq!(shown(3_562_790_400, 86_400), Some(WallTime::from_unix(3_562_876_800)));
        assert_eq!(shown(beyond_2038::SAFE_MAX - 5, 5), Some(WallTime::from_unix(beyond_2038::SAFE_MAX)));
        assert_eq!(shown(beyond_2038::SAFE_MAX - 6, 5), None);
        // Set back to 1970 a day after the boot.
        assert_eq!(shown(30u64.wrapping_sub(86_400), 86_400), None);
        for (stat, uptime) in [("", "1.0 1.0"), ("btime x\n", "1.0 1.0"), ("btime 3562790400\n", "")] {
            assert_eq!(beyond_2038::beyond(stat, uptime), None);
        }
    }

    #[test]
    fn milliseconds_are_written_when_asked_for() {
        let moment = WallTime(Duration::from_millis(1_795_478_400_007));
        assert_eq!(
            (format!("{moment}"), format!("{moment:#}")),
            ("2026-11-24T00:00:00Z".to_owned(), "2026-11-24T00:00:00.007Z".to_owned())
        );
    }
}
