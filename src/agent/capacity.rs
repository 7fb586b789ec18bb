//! What the agent can bear: connections within the limit of descriptors, and what the kernel may hold beside the budget.

use std::fs;

use crate::config::Resources;
use crate::config::size::format_size;
use crate::net::socket_options::UPSTREAM_BUFFER;

/// How many connections, and how much for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Capacity {
    /// Visitors' connections at one time.
    pub(super) streams: usize,
    /// Descriptors that the system lets the process have.
    descriptors: usize,
    memory_max: usize,
}

impl Capacity {
    /// Asks the system.
    pub(super) fn new(resources: &Resources) -> Self {
        let limits = fs::read_to_string("/proc/self/limits").ok();
        let descriptors = limits.as_deref().and_then(open_files).unwrap_or(DESCRIPTORS_DEFAULT);
        Self::within(resources, descriptors)
    }

    fn within(resources: &Resources, descriptors: usize) -> Self {
        let streams = resources.streams_max.min(descriptors.saturating_sub(DESCRIPTORS_RESERVE)).max(1);
        Self { streams, descriptors, memory_max: resources.memory_max }
    }

    /// The window that the agent grants each stream to begin with: as much as 128 of them can fill at a time.
    pub(super) fn window(&self) -> u32 {
        use crate::mux::limits::WINDOW_MIN;
        let share = u32::try_from(self.memory_max / WINDOWS_IN_BUDGET).unwrap_or(u32::MAX);
        share.clamp(WINDOW_MIN, WINDOW_START_MAX)
    }

    /// One line about all of it.
    pub(super) fn log(&self) {
        log::info!(
            "up to {} visitors at a time ({} descriptors, {DESCRIPTORS_RESERVE} of them kept back), buffers of {}; \
             beside them the kernel may hold {} for each visitor{}",
            self.streams,
            self.descriptors,
            format_size(self.memory_max as u64),
            format_size(2 * UPSTREAM_BUFFER as u64),
            link_buffers().map(|bytes| format!(" and {} for the link", format_size(bytes))).unwrap_or_default(),
        );
    }
}

/// What the kernel may hold for a connection whose buffers it sizes itself, both directions together.
fn link_buffers() -> Option<u64> {
    let most = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).ok()?;
        text.split_whitespace().nth(2)?.parse::<u64>().ok()
    };
    most("tcp_rmem")?.checked_add(most("tcp_wmem")?)
}

/// The soft limit of open files in the form of `/proc/self/limits`.
fn open_files(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(usize::MAX),
        number => number.parse().ok(),
    }
}

/// What Linux gives a process that nobody says otherwise for: where `/proc` cannot be read. A connection too many then
/// fails alone.
const DESCRIPTORS_DEFAULT: usize = 1024;

/// Descriptors that no visitor gets: standard streams, epoll and its wakers, signals, the link, and what comes and goes:
/// a new link, name look-ups, reading files, a second address of an upstream that is tried beside the first.
const DESCRIPTORS_RESERVE: usize = 32;

/// Streams that can stand still with a full window before the memory budget is used up.
const WINDOWS_IN_BUDGET: usize = 128;

/// Largest window to begin with: 64 KiB are a second of 512 kbit/s, and one round trip later they can be twice as much.
const WINDOW_START_MAX: u32 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units     \n\
                          Max processes             96290                96290                processes \n\
                          Max open files            1024                 524288               files     \n";

    #[test]
    fn soft_limit_is_read() {
        assert_eq!(open_files(LIMITS), Some(1024));
        assert_eq!(open_files(&LIMITS.replace("1024 ", "unlimited ")), Some(usize::MAX));
        for text in ["", "Max open files", "Max open files  many", "Max open files -1"] {
            assert_eq!(open_files(text), None, "{text:?}");
        }
    }

    #[test]
    fn streams_leave_the_reserve_and_there_is_always_one() {
        let streams = |streams_max, descriptors| {
            Capacity::within(&Resources { streams_max, ..Resources::default() }, descriptors).streams
        };
        assert_eq!(streams(2036, 1024), 1024 - DESCRIPTORS_RESERVE);
        assert_eq!(streams(100, 1024), 100);
        assert_eq!(streams(100, 100 + DESCRIPTORS_RESERVE), 100);
        assert_eq!(streams(100, 99 + DESCRIPTORS_RESERVE), 99);
        assert_eq!([0, 10, DESCRIPTORS_RESERVE].map(|descriptors| streams(100, descriptors)), [1; 3]);
        assert_eq!(streams(2036, usize::MAX), 2036);
    }

    #[test]
    fn window_follows_the_budget_within_its_bounds() {
        let window = |memory_max| Capacity::within(&Resources { memory_max, ..Resources::default() }, 1024).window();
        assert_eq!(window(8 << 20), 64 << 10);
        assert_eq!(window(4 << 20), 32 << 10);
        assert_eq!(window(1 << 20), 16 << 10);
        assert_eq!(window(1 << 30), 64 << 10);
    }
}
