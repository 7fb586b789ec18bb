//! Lines on their way to a file, which never keep anybody waiting.
//!
//! Whoever has a line puts it behind the others in memory, up to a bound, and goes on. A thread of its own writes them
//! in batches. A disk that is full, slow or gone costs lines and nothing else; they are counted and told of.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::metrics::Tally;

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The program's standard output.
    Stdout,
    /// A file, or a pipe with a name. It is added to, and made with mode 0640 where there is none.
    File(PathBuf),
}

/// A log that is written line by line. Dropping it lets the thread end once it has written what there is.
#[derive(Debug)]
pub struct LineLog {
    shared: Arc<Shared>,
}

/// What a log counts.
#[derive(Clone, Debug)]
pub struct Counts {
    /// Lines that were taken by the file.
    pub written: Tally,
    /// Lines that were lost.
    pub dropped: Tally,
}

#[derive(Debug)]
struct Shared {
    /// What it is called in the program's own log.
    name: &'static str,
    counts: Counts,
    state: Mutex<State>,
    /// There is something to do for the thread.
    changed: Condvar,
    /// The thread has ended.
    over: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Whole lines; at most [`QUEUE_BYTES_MAX`].
    pending: Vec<u8>,
    pending_lines: u64,
    reopen: bool,
    ending: bool,
    is_over: bool,
    /// Lines that were lost and not told of.
    untold: u64,
    told: Option<Instant>,
}

impl LineLog {
    /// Opens the file and starts the thread. A pipe is opened by the thread, because that waits for somebody who reads.
    ///
    /// # Errors
    ///
    /// The file cannot be opened, or there can be no thread.
    pub fn start(name: &'static str, place: Place, counts: Counts) -> io::Result<Self> {
        let sink = Sink::open(place)?;
        let shared =
            Arc::new(Shared { name, counts, state: Mutex::default(), changed: Condvar::new(), over: Condvar::new() });
        let writing = Arc::clone(&shared);
        thread::Builder::new().name(name.to_owned()).spawn(move || writing.write(sink))?;
        Ok(Self { shared })
    }

    /// Adds a line, with its end, or counts it as lost. It never waits.
    pub fn push(&self, line: &[u8]) {
        let mut state = self.shared.lock();
        if state.pending.len() + line.len() > QUEUE_BYTES_MAX {
            let due = self.shared.lose(&mut state, 1);
            drop(state);
            return self.shared.tell(due, "the file does not take them as fast as they come");
        }
        let was_below = state.pending.len() < WAKE_BYTES;
        let was_empty = state.pending.is_empty();
        state.pending.extend_from_slice(line);
        state.pending_lines += 1;
        let is_urgent = was_below && state.pending.len() >= WAKE_BYTES;
        drop(state);
        if was_empty || is_urgent {
            self.shared.changed.notify_one();
        }
    }

    /// Lets the thread open the file anew, because it was renamed. Lines that came before go to the old one.
    pub fn reopen(&self) {
        self.shared.lock().reopen = true;
        self.shared.changed.notify_one();
    }

    /// Waits until everything is written, or for so long. There are no more lines then.
    pub fn finish(&self, limit: Duration) {
        let mut state = self.shared.lock();
        state.ending = true;
        self.shared.changed.notify_one();
        let waited = self.shared.over.wait_timeout_while(state, limit, |state| !state.is_over);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for LineLog {
    fn drop(&mut self) {
        self.shared.lock().ending = true;
        self.shared.changed.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread.
    fn write(&self, mut sink: Sink) {
        let mut batch = Vec::new();
        loop {
            let (lines, reopen, ending) = self.next(&mut batch);
            if !batch.is_empty() {
                self.put(&mut sink, &batch, lines);
            }
            if batch.capacity() > KEPT_BYTES {
                batch = Vec::new();
            }
            if reopen {
                match sink.reopen() {
                    Ok(()) => tracing::info!(log = self.name, "opened anew"),
                    Err(error) => {
                        tracing::error!(log = self.name, "cannot be opened anew, the old file goes on: {error}");
                    }
                }
            }
            if ending {
                break;
            }
        }
        self.lock().is_over = true;
        self.over.notify_all();
    }

    /// Waits for something to do, takes all lines that there are into `batch`, and tells how many; and whether to open the file
    /// anew, and to end.
    fn next(&self, batch: &mut Vec<u8>) -> (u64, bool, bool) {
        batch.clear();
        let is_idle = |state: &mut State| state.pending.is_empty() && !state.reopen && !state.ending;
        let mut state = self.lock();
        while is_idle(&mut state) {
            // What was lost and not told of is told when it is time, also when nothing more is lost.
            let limit = if state.untold > 0 { TELL_PAUSE } else { Duration::MAX };
            let waited = self.changed.wait_timeout_while(state, limit, is_idle);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            let due = self.lose(&mut state, 0);
            drop(state);
            self.tell(due, "since the last such line");
            state = self.lock();
        }
        // Lines that come together are written together.
        let is_early = |state: &mut State| state.pending.len() < WAKE_BYTES && !state.reopen && !state.ending;
        let waited = self.changed.wait_timeout_while(state, BATCH_TIME, is_early);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        std::mem::swap(&mut state.pending, batch);
        (std::mem::take(&mut state.pending_lines), std::mem::take(&mut state.reopen), state.ending)
    }

    fn put(&self, sink: &mut Sink, batch: &[u8], lines: u64) {
        let (taken, result) = sink.put(batch);
        let Err(error) = result else { return self.counts.written.add(lines) };
        // A line that was cut short is lost.
        let rest = batch.get(taken..).unwrap_or_default();
        let lost = rest.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.counts.written.add(lines.saturating_sub(lost));
        let due = self.lose(&mut self.lock(), lost);
        self.tell(due, error);
    }

    /// Counts lines as lost, and gives how many there are to tell of if that is due.
    fn lose(&self, state: &mut State, lines: u64) -> Option<u64> {
        self.counts.dropped.add(lines);
        state.untold += lines;
        let now = Instant::now();
        let is_due = state.told.is_none_or(|told| now.saturating_duration_since(told) >= TELL_PAUSE);
        if state.untold == 0 || !is_due {
            return None;
        }
        state.told = Some(now);
        Some(std::mem::take(&mut state.untold))
    }

    fn tell(&self, lost: Option<u64>, why: impl std::fmt::Display) {
        if let Some(lost) = lost {
            tracing::warn!(log = self.name, lost, "lines are lost: {why}");
        }
    }
}

/// What the thread writes to.
#[derive(Debug)]
struct Sink {
    place: Place,
    /// `None`: standard output, or a pipe that has not been opened yet.
    file: Option<File>,
    /// The last line is not whole.
    is_torn: bool,
}

impl Sink {
    fn open(place: Place) -> io::Result<Self> {
        let file = match &place {
            Place::File(path) if !is_pipe(path) => Some(open(path)?),
            Place::File(_) | Place::Stdout => None,
        };
        Ok(Self { place, file, is_torn: false })
    }

    fn reopen(&mut self) -> io::Result<()> {
        if let Place::File(path) = &self.place {
            self.file = Some(open(path)?);
            self.is_torn = false;
        }
        Ok(())
    }

    /// Writes, and tells how many bytes were taken. A line that was cut short before is ended first.
    fn put(&mut self, batch: &[u8]) -> (usize, io::Result<()>) {
        let mut taken = 0;
        let result = self.put_counted(batch, &mut taken);
        if taken > 0 {
            self.is_torn = batch.get(taken - 1) != Some(&b'\n');
        }
        (taken, result)
    }

    fn put_counted(&mut self, batch: &[u8], taken: &mut usize) -> io::Result<()> {
        let is_torn = self.is_torn;
        let mut stdout;
        let out: &mut dyn Write = match (&self.place, &mut self.file) {
            (Place::Stdout, _) => {
                stdout = io::stdout().lock();
                &mut stdout
            }
            (Place::File(path), file @ None) => file.insert(open(path)?),
            (Place::File(_), Some(file)) => file,
        };
        if is_torn {
            out.write_all(b"\n")?;
            self.is_torn = false;
        }
        while let Some(rest) = batch.get(*taken..).filter(|rest| !rest.is_empty()) {
            match out.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => *taken += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        out.flush()
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(MODE).open(path)
}

fn is_pipe(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|facts| facts.file_type().is_fifo())
}

/// What waits to be written: some ten thousand lines. While a batch is being written, as much again.
pub const QUEUE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// So much is not left waiting for [`BATCH_TIME`].
const WAKE_BYTES: usize = 256 * 1024;
/// What is kept of a buffer from one batch to the next.
const KEPT_BYTES: usize = 2 * WAKE_BYTES;
/// How long a line waits for others. One write for each line would be most of what the log costs.
const BATCH_TIME: Duration = Duration::from_millis(200);
/// One line tells of losses; one for each of them would make it worse.
const TELL_PAUSE: Duration = Duration::from_secs(60);
/// Who reads it is in the group: lines have addresses of visitors.
const MODE: u32 = 0o640;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn counts() -> Counts {
        Counts { written: Tally::default(), dropped: Tally::default() }
    }

    fn start(path: &Path) -> (LineLog, Counts) {
        let counts = counts();
        (LineLog::start("test", Place::File(path.to_owned()), counts.clone()).unwrap(), counts)
    }

    fn finish(log: &LineLog) {
        log.finish(Duration::from_secs(60));
        assert!(log.shared.lock().is_over);
    }

    #[test]
    fn lines_are_added_to_the_file_in_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        fs::write(&path, "before\n").unwrap();
        let (log, counts) = start(&path);
        log.push(b"one\n");
        log.push(b"two\n");
        finish(&log);
        assert_eq!(fs::read_to_string(&path).unwrap(), "before\none\ntwo\n");
        assert_eq!((counts.written.count(), counts.dropped.count()), (2, 0));
    }

    #[test]
    fn lines_before_a_rotation_are_in_the_old_file_and_the_others_in_the_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
        let (log, counts) = start(&path);
        log.push(b"one\n");
        fs::rename(&path, &old).unwrap();
        log.reopen();
        while !path.exists() {
            thread::yield_now();
        }
        log.push(b"two\n");
        finish(&log);
        assert_eq!(fs::read_to_string(&old).unwrap(), "one\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "two\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777 & !MODE, 0);
        assert_eq!(counts.dropped.count(), 0);
    }

    #[test]
    fn file_that_cannot_be_opened_anew_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let (inner, moved) = (folder.path().join("logs"), folder.path().join("moved"));
        fs::create_dir(&inner).unwrap();
        let (log, _) = start(&inner.join("access.log"));
        fs::rename(&inner, &moved).unwrap();
        log.reopen();
        log.push(b"one\n");
        finish(&log);
        assert_eq!(fs::read_to_string(moved.join("access.log")).unwrap(), "one\n");
    }

    #[test]
    fn full_disk_costs_lines_which_are_counted() {
        let (log, counts) = start(Path::new("/dev/full"));
        log.push(b"one\n");
        log.push(b"two\n");
        finish(&log);
        assert_eq!((counts.written.count(), counts.dropped.count()), (0, 2));
    }

    #[test]
    fn queue_is_bounded_when_nobody_reads_the_pipe() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let (log, counts) = start(&path);
        // Opening the pipe takes the first batch out of the queue, and waits for a reader. Then come more than there is room for.
        log.push(b"first\n");
        while !log.shared.lock().pending.is_empty() {
            thread::yield_now();
        }
        let line = [vec![b'x'; 64 * 1024 - 1], vec![b'\n']].concat();
        for _ in 0..QUEUE_BYTES_MAX / line.len() {
            log.push(&line);
        }
        assert_eq!((log.shared.lock().pending.len(), counts.dropped.count()), (QUEUE_BYTES_MAX, 0));
        log.push(b"\n");
        log.push(b"too much\n");
        assert_eq!((log.shared.lock().pending.len(), counts.dropped.count()), (QUEUE_BYTES_MAX, 2));
        // Not even the end waits for a pipe.
        log.finish(Duration::ZERO);
        let reader = thread::spawn(move || fs::read(&path).unwrap());
        finish(&log);
        drop(log);
        let read = reader.join().unwrap();
        assert!(read.starts_with(b"first\nxxx"));
        assert_eq!(read.len(), b"first\n".len() + QUEUE_BYTES_MAX);
    }

    #[test]
    fn line_that_was_cut_short_is_ended_before_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let mut sink = Sink::open(Place::File(path.clone())).unwrap();
        assert_eq!(sink.put(b"cut sho").0, 7);
        assert_eq!(sink.put(b"next\n").0, 5);
        assert_eq!(fs::read_to_string(&path).unwrap(), "cut sho\nnext\n");
    }

    #[test]
    fn losses_are_told_once_a_minute() {
        let (log, _) = start(Path::new("/dev/null"));
        let mut state = log.shared.lock();
        assert_eq!(log.shared.lose(&mut state, 0), None);
        assert_eq!(log.shared.lose(&mut state, 3), Some(3));
        assert_eq!(log.shared.lose(&mut state, 2), None);
        state.told = state.told.and_then(|told| told.checked_sub(TELL_PAUSE));
        assert_eq!(log.shared.lose(&mut state, 1), Some(3));
    }
}
