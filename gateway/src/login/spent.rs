//! One gateway's own memory of log-ins: what must not count again, in a journal of lines. It outlives the process.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ring::digest::{SHA256, digest};

use super::noted::{Notes, beside};
use super::store::{Noted, SpendError, Store, Unlisted, ended, has_share};

/// One gateway's own memory: a journal of lines, of a hash, a time and an account each, and beside it the sessions that
/// have begun.
pub struct Journal {
    path: Option<PathBuf>,
    /// Held as long as this process writes: two at one file would forget what the other one has spent.
    _lock: Option<File>,
    /// Held for moments: every request of a session looks.
    spent: RwLock<Table>,
    /// Held for as long as the disk takes.
    out: Mutex<Out>,
    notes: Mutex<Notes>,
}

#[derive(Default)]
struct Table {
    entries: HashMap<[u8; 32], Entry>,
    /// How many an account has.
    per_account: HashMap<Tag, usize>,
}

#[derive(Clone, Copy)]
struct Entry {
    until: i64,
    account: Tag,
}

/// Tells accounts apart, of which there are hundreds.
type Tag = u64;

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
        Self { path: None, _lock: None, spent: RwLock::default(), out: Mutex::default(), notes: Mutex::default() }
    }

    /// Reads what a file remembers and goes on with it. Lines that are cut or mean nothing are left out; what has expired at
    /// `now` goes. The sessions that have begun are beside it, in a file with `.sessions` behind its name.
    ///
    /// # Errors
    ///
    /// The file cannot be read or written, or another process has it open.
    pub fn open(path: &Path, now: i64) -> io::Result<Self> {
        let mut journal = Self { path: Some(path.to_owned()), _lock: lock(path)?, ..Self::in_memory() };
        journal.notes = Mutex::new(Notes::open(path, now)?);
        // It is made when there is something to remember.
        let Some(mut table) = Table::read(path)? else { return Ok(journal) };
        table.forget_expired(now);
        let mut out = Out::default();
        out.rewrite(path, &table)?;
        (journal.spent, journal.out) = (RwLock::new(table), Mutex::new(out));
        Ok(journal)
    }

    /// As [`Journal::open`], for a look at what a running gateway remembers: nothing is written.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn look(path: &Path, now: i64) -> io::Result<Self> {
        let notes = Notes::look(path, now)?;
        let table = Table::read(path)?.unwrap_or_default();
        Ok(Self { spent: RwLock::new(table), notes: Mutex::new(notes), ..Self::in_memory() })
    }

    fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.spent.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn table_mut(&self) -> RwLockWriteGuard<'_, Table> {
        self.spent.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for Journal {
    fn spend(&self, account: &str, what: &str, until: i64, now: i64) -> Result<bool, SpendError> {
        let (key, entry) = (key(what), Entry { until, account: tag(account) });
        // One at a time, so that nothing changes between the look and the entry.
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        if self.table().entries.contains_key(&key) {
            return Ok(false);
        }
        if !self.table().has_room(entry.account) {
            self.table_mut().forget_expired(now);
        }
        if !self.table().has_room(entry.account) {
            return Err(SpendError::Full);
        }
        if let Some(path) = &self.path {
            if out.file.is_none() || out.lines >= LINES_MAX {
                self.table_mut().forget_expired(now);
                out.rewrite(path, &self.table()).map_err(SpendError::Write)?;
            }
            out.append(&line(&key, entry)).map_err(SpendError::Write)?;
        }
        self.table_mut().insert(key, entry);
        Ok(true)
    }

    fn is_spent(&self, what: &str) -> bool {
        self.table().entries.contains_key(&key(what))
    }

    fn note(&self, session: Noted, now: i64) -> io::Result<()> {
        self.notes().add(session, now)
    }

    fn sessions(&self, now: i64) -> Vec<Noted> {
        let notes = self.notes();
        let living = notes.living(now).filter(|session| !self.is_spent(&ended(&session.id)));
        living.cloned().collect()
    }

    fn unlisted(&self, now: i64) -> Vec<Unlisted> {
        self.notes().unlisted(now).cloned().collect()
    }
}

/// Locks a journal by a file beside it, for as long as what is given lives. `None`: nothing can be made there at all, so that
/// nobody writes there.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(beside(path, ".lock"));
    let file = match opened {
        Ok(file) => file,
        Err(error) => return without_lock(path, error).map(|()| None),
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(io::Error::new(io::ErrorKind::ResourceBusy, IN_USE)),
        // On a file system without locks.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Whether a journal may be used although the file that would lock it cannot be opened: only where there is no such file
/// and none can be made, so that nobody else has it.
fn without_lock(path: &Path, error: io::Error) -> io::Result<()> {
    let kind = error.kind();
    let is_barred =
        matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem);
    let lock = beside(path, ".lock");
    if !is_barred || lock.try_exists().unwrap_or(true) {
        return Err(io::Error::new(kind, format!("{}: {error}", lock.display())));
    }
    tracing::warn!("{} cannot be made: nothing keeps another gateway from the same file ({error})", lock.display());
    Ok(())
}

const IN_USE: &str = "another gateway uses it: each gateway needs its own log_ins.spent_file";

impl Table {
    /// `None`: there is no file.
    fn read(path: &Path) -> io::Result<Option<Self>> {
        let mut text = Vec::new();
        match File::open(path) {
            Ok(file) => file.take(FILE_BYTES_MAX).read_to_end(&mut text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut table = Self::default();
        for (key, entry) in text.split(|byte| *byte == b'\n').filter_map(read_line) {
            table.insert(key, entry);
        }
        Ok(Some(table))
    }

    fn insert(&mut self, key: [u8; 32], entry: Entry) {
        if self.entries.insert(key, entry).is_none() {
            *self.per_account.entry(entry.account).or_default() += 1;
        }
    }

    fn has_room(&self, account: Tag) -> bool {
        let own = self.per_account.get(&account).copied().unwrap_or_default();
        has_share(own, self.entries.len(), SPENT_MAX)
    }

    fn forget_expired(&mut self, now: i64) {
        self.entries.retain(|_, entry| entry.until > now);
        self.per_account.clear();
        for entry in self.entries.values() {
            *self.per_account.entry(entry.account).or_default() += 1;
        }
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

    fn rewrite(&mut self, path: &Path, table: &Table) -> io::Result<()> {
        let text: String = table.entries.iter().map(|(key, entry)| line(key, *entry)).collect();
        replace(path, text.as_bytes())?;
        self.file = Some(OpenOptions::new().append(true).open(path)?);
        self.lines = table.entries.len();
        Ok(())
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spent = self.table().entries.len();
        f.debug_struct("Journal").field("path", &self.path).field("spent", &spent).finish_non_exhaustive()
    }
}

/// Writes a file anew; it is whole before it takes the place of the old one.
pub(super) fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let fresh = path.with_file_name(name);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(text)?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

/// The file must be of no use to who reads it.
fn key(what: &str) -> [u8; 32] {
    let mut key = [0; 32];
    key.copy_from_slice(digest(&SHA256, what.as_bytes()).as_ref());
    key
}

fn tag(account: &str) -> Tag {
    key(account).first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

fn line(key: &[u8; 32], entry: Entry) -> String {
    let mut line = String::with_capacity(key.len() * 2 + 32);
    for byte in key {
        let _ = write!(line, "{byte:02x}");
    }
    let _ = writeln!(line, " {} {:x}", entry.until, entry.account);
    line
}

fn read_line(line: &[u8]) -> Option<([u8; 32], Entry)> {
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    let (digits, until, account) = (words.next()?, words.next()?, words.next()?);
    let mut key = [0; 32];
    if digits.len() != key.len() * 2 || words.next().is_some() {
        return None;
    }
    for (byte, pair) in key.iter_mut().zip(digits.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some((key, Entry { until: until.parse().ok()?, account: Tag::from_str_radix(account, 16).ok()? }))
}

/// Log-ins and log-outs that have not expired, of all accounts; one alone may have half of them.
pub const SPENT_MAX: usize = 200_000;
/// The file is written anew when it has this many lines.
const LINES_MAX: usize = 2 * SPENT_MAX;
/// No line is longer than 104 bytes.
const FILE_BYTES_MAX: u64 = 104 * (LINES_MAX as u64 + 1);

#[cfg(test)]
mod tests {
    use super::*;

    fn spend(journal: &Journal, what: &str, until: i64, now: i64) -> bool {
        journal.spend("main", what, until, now).unwrap()
    }

    #[test]
    fn what_is_spent_stays_so_over_a_restart_until_it_expires() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spent");
        let journal = Journal::open(&path, 100).unwrap();
        assert!(spend(&journal, "a", 200, 100));
        assert!(!spend(&journal, "a", 200, 100));
        assert!(spend(&journal, "b", 300, 100));
        drop(journal);
        let journal = Journal::open(&path, 150).unwrap();
        assert!(journal.is_spent("a") && journal.is_spent("b") && !journal.is_spent("c"));
        drop(journal);
        let journal = Journal::open(&path, 250).unwrap();
        assert!(!journal.is_spent("a") && journal.is_spent("b"));
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
    }

    #[test]
    fn file_is_of_one_gateway_alone_until_that_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spent");
        let journal = Journal::open(&path, 0).unwrap();
        let error = Journal::open(&path, 0).unwrap_err();
        assert!(error.to_string().contains("spent_file"), "{error}");
        assert!(Journal::look(&path, 0).is_ok(), "who only looks needs no lock");
        assert!(Journal::open(&folder.path().join("other"), 0).is_ok());
        drop(journal);
        assert!(Journal::open(&path, 0).is_ok());
    }

    #[test]
    fn cut_line_costs_nothing_but_itself() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spent");
        let journal = Journal::open(&path, 0).unwrap();
        spend(&journal, "a", 200, 0);
        drop(journal);
        let mut text = std::fs::read(&path).unwrap();
        text.extend_from_slice(b"zz 5\n\xff\xff\n0123 9\n");
        text.extend_from_slice(&line(&key("b"), Entry { until: 200, account: 0 }).as_bytes()[..40]);
        std::fs::write(&path, &text).unwrap();
        let journal = Journal::open(&path, 0).unwrap();
        assert!(journal.is_spent("a") && !journal.is_spent("b"));
        assert!(spend(&journal, "b", 200, 0));
        drop(journal);
        assert!(Journal::open(&path, 0).unwrap().is_spent("b"));
    }

    #[test]
    fn memory_is_bounded_and_makes_room_for_what_has_expired() {
        let journal = Journal::in_memory();
        for index in 0..SPENT_MAX / 2 {
            assert!(spend(&journal, &index.to_string(), 100, 0));
        }
        assert!(matches!(journal.spend("main", "more", 100, 0), Err(SpendError::Full)));
        assert!(!journal.is_spent("more"));
        // An account that fills its share keeps nobody else from logging in.
        assert!(journal.spend("other", "theirs", 100, 0).unwrap());
        assert!(spend(&journal, "more", 200, 100));
        assert!(!journal.is_spent("1"));
    }

    #[test]
    fn share_of_an_account_is_known_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spent");
        let line = |index: usize| line(&key(&index.to_string()), Entry { until: 200, account: tag("main") });
        std::fs::write(&path, (0..SPENT_MAX / 2).map(line).collect::<String>()).unwrap();
        let journal = Journal::open(&path, 0).unwrap();
        assert!(matches!(journal.spend("main", "more", 100, 0), Err(SpendError::Full)));
        assert!(journal.spend("other", "more", 100, 0).unwrap());
    }

    #[test]
    fn lock_that_is_there_and_cannot_be_opened_is_not_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spent");
        let denied = |path: &Path| without_lock(path, io::ErrorKind::PermissionDenied.into());
        assert!(denied(&path).is_ok(), "nobody can have it");
        std::fs::write(folder.path().join("spent.lock"), "").unwrap();
        let error = denied(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("spent.lock"), "{error}");
        assert!(without_lock(&folder.path().join("other"), io::ErrorKind::StorageFull.into()).is_err());
    }

    #[test]
    fn file_does_not_grow_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spent");
        let journal = Journal::open(&path, 0).unwrap();
        spend(&journal, "a", 10, 0);
        journal.out.lock().unwrap().lines = LINES_MAX;
        spend(&journal, "b", 300, 100);
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
        assert!(journal.is_spent("b"));
    }
}
