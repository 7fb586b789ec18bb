//! What must not count again: sessions that were ended, log-ins that were used. It outlives the process.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ring::digest::{SHA256, digest};

/// Remembers what is spent until it would have expired anyway. A store that several gateways share implements this as well.
pub trait Spent: fmt::Debug + Send + Sync {
    /// Spends something until a time in seconds since 1970; it is kept when this returns. `false`: it was spent already.
    /// May block for as long as a disk takes.
    ///
    /// # Errors
    ///
    /// [`SpendError`]: nothing was spent.
    fn spend(&self, what: &str, until: i64, now: i64) -> Result<bool, SpendError>;

    /// True when it is spent.
    fn is_spent(&self, what: &str) -> bool;
}

/// Why something cannot be spent.
#[derive(Debug)]
pub enum SpendError {
    /// There are [`SPENT_MAX`] already.
    Full,
    /// It cannot be kept.
    Write(io::Error),
}

impl fmt::Display for SpendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => write!(f, "{SPENT_MAX} log-ins and log-outs are remembered, and no more fit"),
            Self::Write(error) => write!(f, "it cannot be written down: {error}"),
        }
    }
}

impl std::error::Error for SpendError {}

/// One gateway's own memory: a journal of lines, a hash and a time each.
pub struct Journal {
    path: Option<PathBuf>,
    /// Held for moments: every request of a session looks.
    spent: RwLock<Table>,
    /// Held for as long as the disk takes.
    out: Mutex<Out>,
}

type Table = HashMap<[u8; 32], i64>;

#[derive(Default)]
struct Out {
    file: Option<File>,
    /// Lines of the file.
    lines: usize,
}

impl Journal {
    /// A memory that ends with the process.
    #[must_use]
    pub fn in_memory() -> Self {
        Self { path: None, spent: RwLock::default(), out: Mutex::default() }
    }

    /// Reads what a file remembers and goes on with it. Lines that are cut or mean nothing are left out; what has expired at
    /// `now` goes.
    ///
    /// # Errors
    ///
    /// The file cannot be read or written.
    pub fn open(path: &Path, now: i64) -> io::Result<Self> {
        let mut text = Vec::new();
        let mut journal = Self { path: Some(path.to_owned()), ..Self::in_memory() };
        match File::open(path) {
            Ok(file) => file.take(FILE_BYTES_MAX).read_to_end(&mut text)?,
            // It is made when there is something to remember.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(journal),
            Err(error) => return Err(error),
        };
        let lines = text.split(|byte| *byte == b'\n').filter_map(read_line);
        let spent: Table = lines.filter(|(_, until)| *until > now).collect();
        let mut out = Out::default();
        out.rewrite(path, &spent)?;
        (journal.spent, journal.out) = (RwLock::new(spent), Mutex::new(out));
        Ok(journal)
    }

    fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.spent.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn table_mut(&self) -> RwLockWriteGuard<'_, Table> {
        self.spent.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spent for Journal {
    fn spend(&self, what: &str, until: i64, now: i64) -> Result<bool, SpendError> {
        let key = key(what);
        // One at a time, so that nothing changes between the look and the entry.
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        if self.table().contains_key(&key) {
            return Ok(false);
        }
        if self.table().len() >= SPENT_MAX {
            self.table_mut().retain(|_, until| *until > now);
        }
        if self.table().len() >= SPENT_MAX {
            return Err(SpendError::Full);
        }
        if let Some(path) = &self.path {
            if out.file.is_none() || out.lines >= LINES_MAX {
                let live: Table =
                    self.table().iter().filter(|(_, until)| **until > now).map(|(key, until)| (*key, *until)).collect();
                out.rewrite(path, &live).map_err(SpendError::Write)?;
            }
            out.append(&line(&key, until)).map_err(SpendError::Write)?;
        }
        self.table_mut().insert(key, until);
        Ok(true)
    }

    fn is_spent(&self, what: &str) -> bool {
        self.table().contains_key(&key(what))
    }
}

impl Out {
    fn append(&mut self, line: &str) -> io::Result<()> {
        let mut file = self.file.take().ok_or(io::ErrorKind::NotConnected)?;
        file.write_all(line.as_bytes())?;
        file.sync_data()?;
        // Without it the next one writes the file anew: half a line may be at its end.
        self.file = Some(file);
        self.lines += 1;
        Ok(())
    }

    /// Writes the file anew; it is whole before it takes the place of the old one.
    fn rewrite(&mut self, path: &Path, spent: &Table) -> io::Result<()> {
        let mut text = String::new();
        for (key, until) in spent {
            text.push_str(&line(key, *until));
        }
        let fresh = path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&fresh, path)?;
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            File::open(parent)?.sync_all()?;
        }
        self.file = Some(OpenOptions::new().append(true).open(path)?);
        self.lines = spent.len();
        Ok(())
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("path", &self.path).field("spent", &self.table().len()).finish()
    }
}

/// The file must be of no use to who reads it.
fn key(what: &str) -> [u8; 32] {
    let mut key = [0; 32];
    key.copy_from_slice(digest(&SHA256, what.as_bytes()).as_ref());
    key
}

fn line(key: &[u8; 32], until: i64) -> String {
    let mut line = String::with_capacity(key.len() * 2 + 16);
    for byte in key {
        let _ = write!(line, "{byte:02x}");
    }
    let _ = writeln!(line, " {until}");
    line
}

fn read_line(line: &[u8]) -> Option<([u8; 32], i64)> {
    let (digits, until) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    let mut key = [0; 32];
    if digits.len() != key.len() * 2 {
        return None;
    }
    for (byte, pair) in key.iter_mut().zip(digits.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some((key, until.parse().ok()?))
}

/// Log-ins and log-outs that have not expired.
pub const SPENT_MAX: usize = 100_000;
/// The file is written anew when it has this many lines.
const LINES_MAX: usize = 2 * SPENT_MAX;
/// No line is longer than 90 bytes.
const FILE_BYTES_MAX: u64 = 90 * (LINES_MAX as u64 + 1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spent_stays_so_over_a_restart_until_it_expires() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spent");
        let journal = Journal::open(&path, 100).unwrap();
        assert!(journal.spend("a", 200, 100).unwrap());
        assert!(!journal.spend("a", 200, 100).unwrap());
        assert!(journal.spend("b", 300, 100).unwrap());
        drop(journal);
        let journal = Journal::open(&path, 150).unwrap();
        assert!(journal.is_spent("a") && journal.is_spent("b") && !journal.is_spent("c"));
        drop(journal);
        let journal = Journal::open(&path, 250).unwrap();
        assert!(!journal.is_spent("a") && journal.is_spent("b"));
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
    }

    #[test]
    fn cut_line_costs_nothing_but_itself() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spent");
        let journal = Journal::open(&path, 0).unwrap();
        journal.spend("a", 200, 0).unwrap();
        drop(journal);
        let mut text = std::fs::read(&path).unwrap();
        text.extend_from_slice(b"zz 5\n\xff\xff\n0123 9\n");
        text.extend_from_slice(&line(&key("b"), 200).as_bytes()[..40]);
        std::fs::write(&path, &text).unwrap();
        let journal = Journal::open(&path, 0).unwrap();
        assert!(journal.is_spent("a") && !journal.is_spent("b"));
        assert!(journal.spend("b", 200, 0).unwrap());
        drop(journal);
        assert!(Journal::open(&path, 0).unwrap().is_spent("b"));
    }

    #[test]
    fn memory_is_bounded_and_makes_room_for_what_has_expired() {
        let journal = Journal::in_memory();
        for index in 0..SPENT_MAX {
            assert!(journal.spend(&index.to_string(), 100, 0).unwrap());
        }
        assert!(matches!(journal.spend("more", 100, 0), Err(SpendError::Full)));
        assert!(!journal.is_spent("more"));
        assert!(journal.spend("more", 200, 100).unwrap());
        assert!(!journal.is_spent("1"));
    }

    #[test]
    fn file_does_not_grow_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spent");
        let journal = Journal::open(&path, 0).unwrap();
        journal.spend("a", 10, 0).unwrap();
        journal.out.lock().unwrap().lines = LINES_MAX;
        journal.spend("b", 300, 100).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
        assert!(journal.is_spent("b"));
    }
}
