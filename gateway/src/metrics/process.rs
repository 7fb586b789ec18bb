//! What the process takes of the machine, and how much it may take, as `/proc` and the control group say.

use std::fs;
use std::path::{Path, PathBuf};

/// What the process takes. What cannot be read is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Usage {
    /// Memory in RAM, in bytes.
    pub(super) resident_bytes: u64,
    /// The most that it can have, in bytes: the control group's limit or the machine's memory, as far as they are known.
    pub(super) memory_limit_bytes: Option<u64>,
    /// Open descriptors.
    pub(super) descriptors: u64,
    /// The soft limit of descriptors, if there is one.
    pub(super) descriptors_max: Option<u64>,
    /// Time of the processor, in seconds.
    pub(super) cpu_seconds: f64,
}

impl Usage {
    /// Reads it anew.
    pub(super) fn read() -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        // A sandbox may hide it.
        let machine = kilobytes(&text("/proc/meminfo"), "MemTotal:");
        let group = group_limit(&text("/proc/self/cgroup"), Path::new(CGROUP_ROOT));
        Self {
            resident_bytes: kilobytes(&text("/proc/self/status"), "VmRSS:").unwrap_or_default(),
            memory_limit_bytes: group.into_iter().chain(machine).min(),
            // One of them is that of the directory itself.
            descriptors: fs::read_dir("/proc/self/fd").map_or(0, |list| (list.count() as u64).saturating_sub(1)),
            descriptors_max: descriptors_max(&text("/proc/self/limits")),
            cpu_seconds: cpu_seconds(&text("/proc/self/stat")).unwrap_or_default(),
        }
    }
}

/// A line such as `VmRSS: 1234 kB`, in bytes.
fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let count: u64 = line.split_whitespace().next()?.parse().ok()?;
    count.checked_mul(1024)
}

fn descriptors_max(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The 14th and 15th field; the second one may have spaces, and ends with the last parenthesis.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user.checked_add(system)? as f64 / TICKS_PER_SECOND)
}

/// The least limit of the process's control group (version 2) and of those around it; `None` without any.
fn group_limit(own: &str, root: &Path) -> Option<u64> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?.trim_start_matches('/');
    let mut folder: PathBuf = root.join(path);
    let mut least = None;
    while folder.starts_with(root) {
        let limit = fs::read_to_string(folder.join("memory.max")).ok().and_then(|text| text.trim().parse().ok());
        least = match (least, limit) {
            (Some(least), Some(limit)) => Some(std::cmp::min::<u64>(least, limit)),
            (least, limit) => least.or(limit),
        };
        if !folder.pop() {
            break;
        }
    }
    least
}

/// Where version 2 of control groups is mounted.
const CGROUP_ROOT: &str = "/sys/fs/cgroup";
/// The unit of times in `/proc/PID/stat`, the same on all machines since Linux 2.6.
const TICKS_PER_SECOND: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel_are_read() {
        assert_eq!(kilobytes("VmPeak:\t 9 kB\nVmRSS:\t   1234 kB\n", "VmRSS:"), Some(1234 * 1024));
        assert_eq!(kilobytes("VmRSS: x kB", "VmRSS:"), None);
        let limits =
            "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 4096  files\n";
        assert_eq!(descriptors_max(limits), Some(1024));
        assert_eq!(descriptors_max("Max open files            unlimited            unlimited  files"), None);
        let stat = "17 (a b) c) S 1 17 17 0 -1 4194560 1 0 0 0 8589934642 50 0 0 20 0 1 0 5 1 1 1";
        assert_eq!(cpu_seconds(stat), Some(85_899_346.92));
    }

    #[test]
    fn least_limit_of_the_groups_around_counts() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("outer/inner");
        fs::create_dir_all(&inner).unwrap();
        assert_eq!(group_limit("0::/outer/inner\n", root.path()), None);
        fs::write(root.path().join("outer/memory.max"), "4096\n").unwrap();
        fs::write(inner.join("memory.max"), "max\n").unwrap();
        assert_eq!(group_limit("0::/outer/inner\n", root.path()), Some(4096));
        fs::write(inner.join("memory.max"), "1024\n").unwrap();
        assert_eq!(group_limit("0::/outer/inner\n", root.path()), Some(1024));
    }

    #[test]
    fn own_process_takes_something_within_its_limits() {
        let usage = Usage::read();
        assert!(usage.resident_bytes > 0 && usage.descriptors > 0, "{usage:?}");
        assert!(usage.memory_limit_bytes.is_none_or(|limit| usage.resident_bytes <= limit), "{usage:?}");
        assert!(usage.descriptors_max.is_none_or(|limit| usage.descriptors <= limit), "{usage:?}");
    }
}
