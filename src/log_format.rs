//! The agent's log: one line per record on standard error, in one of three forms, with repetitions folded.
//!
//! A message may begin with the fields `session=…`, `stream=…`, `connection=…` and `took=…`, in this order; they become
//! fields of the line. Everything else is text: it is escaped, so that what a peer sent cannot begin a line or a field of
//! its own. A message that occurs again within [`REPEAT_WINDOW`] is counted instead of written; of the fields, only
//! `session` makes it another message. The count appears as `repeated=…` once the window has passed and something is
//! logged, or when the log is flushed. While there is no session at most [`OFFLINE_LINES_MAX`] lines a minute are
//! written; a line says how many were left out, and repeats the last of them. What ends the program is always written.

mod cap;
mod line;
mod repeats;

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use log::{Level, LevelFilter, Log, Metadata, Record, SetLoggerError};

use self::cap::{Cap, LeftOut, Verdict};
use self::line::Line;
use self::repeats::{Decision, Folded, Repeats};
use crate::wall_time::WallTime;

pub use self::cap::OFFLINE_LINES_MAX;
pub use self::repeats::REPEAT_WINDOW;

/// The form of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// `t=… lvl=info session=… msg="…"`.
    #[default]
    Logfmt,
    /// One JSON object a line, with the same names.
    Json,
    /// For a person at a terminal: time, level, fields, text.
    Term,
}

impl LogFormat {
    /// The words of the configuration.
    pub const WORDS: [(&'static str, Self); 3] = [("logfmt", Self::Logfmt), ("json", Self::Json), ("term", Self::Term)];
}

/// The least important level that is written, in ngrok's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// Only what ends the program. The same as `Error`, whose lines mean just that.
    Crit,
    /// What ends the program.
    Error,
    /// What an operator should look at.
    Warn,
    /// Changes of state.
    #[default]
    Info,
    /// One line per stream.
    Debug,
}

impl LogLevel {
    /// The words of the configuration.
    pub const WORDS: [(&'static str, Self); 5] = [
        ("crit", Self::Crit),
        ("warn", Self::Warn),
        ("error", Self::Error),
        ("info", Self::Info),
        ("debug", Self::Debug),
    ];

    /// What the `log` crate calls it.
    #[must_use]
    pub const fn filter(self) -> LevelFilter {
        match self {
            Self::Crit | Self::Error => LevelFilter::Error,
            Self::Warn => LevelFilter::Warn,
            Self::Info => LevelFilter::Info,
            Self::Debug => LevelFilter::Debug,
        }
    }
}

/// Makes standard error the log of this process. `log::logger().flush()` writes the counts of folded lines.
///
/// # Errors
/// The process has a logger already.
pub fn init(level: LogLevel, format: LogFormat) -> Result<(), SetLoggerError> {
    let logger = LOGGER.get_or_init(|| FoldingLogger::new(env_logger::Target::Stderr, level, format));
    log::set_logger(logger)?;
    change(level, format);
    Ok(())
}

/// From now on lines are of this level or above, and of this form. Without [`init`] nothing happens.
pub fn change(level: LogLevel, format: LogFormat) {
    if let Some(logger) = LOGGER.get() {
        let mut state = logger.state();
        (state.level, state.format) = (level, format);
        log::set_max_level(level.filter());
    }
}

/// A duration as lines and reports have it. In 64 bits: a router's CPU divides 128 by a subroutine that nothing else needs.
pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A round trip in milliseconds: `12.3`. Without floats, which most routers have no unit for.
pub(crate) fn round_trip(took: Duration) -> String {
    let tenths = u64::try_from(took.as_micros()).unwrap_or(u64::MAX) / 100;
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// Tells the log whether there is a session: without one, lines are capped. It begins without.
pub fn note_session(session: SessionState) {
    if let Some(logger) = LOGGER.get() {
        logger.state().session = session;
    }
}

/// Whether there is a session with the gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SessionState {
    /// There is none.
    #[default]
    Down,
    /// There is one.
    Up,
}

static LOGGER: OnceLock<FoldingLogger> = OnceLock::new();

/// Folds, caps and renders; `env_logger` writes.
struct FoldingLogger {
    inner: env_logger::Logger,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    level: LogLevel,
    format: LogFormat,
    session: SessionState,
    repeats: Repeats,
    cap: Cap,
}

impl FoldingLogger {
    fn new(target: env_logger::Target, level: LogLevel, format: LogFormat) -> Self {
        use std::io::Write;

        let inner = env_logger::Builder::new()
            .filter_level(LevelFilter::Debug)
            .target(target)
            .format(|out, record| writeln!(out, "{}", record.args()))
            .build();
        Self { inner, state: Mutex::new(State { level, format, ..State::default() }) }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a line unless there have been too many.
    fn write(&self, state: &mut State, level: Level, line: &Line<'_>, now: Instant) {
        if state.session == SessionState::Up || level == Level::Error {
            return self.put(state, level, line);
        }
        match state.cap.admit(level, line.text(), now) {
            Verdict::Write => self.put(state, level, line),
            Verdict::Announce => {
                let text = format!(
                    "more than {OFFLINE_LINES_MAX} lines in a minute without a session: the others of this minute are \
                     left out"
                );
                self.put(state, Level::Warn, &Line::parse(&text));
            }
            Verdict::LeaveOut => {}
        }
    }

    fn put(&self, state: &State, level: Level, line: &Line<'_>) {
        let text = line.render(state.format, level, WallTime::system());
        self.inner.log(&Record::builder().args(format_args!("{text}")).level(level).target(module_path!()).build());
    }

    fn write_folded(&self, state: &mut State, folded: &[Folded], now: Instant) {
        for folded in folded {
            self.write(state, folded.level, &Line::parse(&folded.text).repeated(folded.count), now);
        }
    }

    fn write_left_out(&self, state: &State, left_out: Option<LeftOut>) {
        if let Some(LeftOut { count, level, last }) = left_out {
            let text = format!("{count} lines were left out; the last of them: {last}");
            self.put(state, level, &Line::parse(&text));
        }
    }
}

impl Log for FoldingLogger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= self.state().level.filter()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let text = record.args().to_string();
        let line = Line::parse(&text);
        let now = Instant::now();
        let state = &mut *self.state();
        let left_out = match state.session {
            SessionState::Up => state.cap.drain(),
            SessionState::Down => state.cap.expire(now),
        };
        self.write_left_out(state, left_out);
        let decision = state.repeats.admit(record.level(), &line.folding_key(), now);
        let folded = state.repeats.expire(now);
        self.write_folded(state, &folded, now);
        match decision {
            Decision::Count => {}
            Decision::Write { repeated } => self.write(state, record.level(), &line.repeated(repeated), now),
        }
    }

    fn flush(&self) {
        let state = &mut *self.state();
        let folded = state.repeats.drain();
        self.write_folded(state, &folded, Instant::now());
        let left_out = state.cap.drain();
        self.write_left_out(state, left_out);
        self.inner.flush();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Sink {
        fn logger(&self, level: LogLevel, format: LogFormat) -> FoldingLogger {
            FoldingLogger::new(env_logger::Target::Pipe(Box::new(self.clone())), level, format)
        }

        fn lines(&self) -> Vec<String> {
            let bytes = self.0.lock().unwrap().clone();
            String::from_utf8(bytes).unwrap().lines().map(ToOwned::to_owned).collect()
        }
    }

    fn log_one(logger: &FoldingLogger, level: Level, text: &str) {
        logger.log(&Record::builder().args(format_args!("{text}")).level(level).build());
    }

    fn logged(level: LogLevel, format: LogFormat, records: &[(Level, &str)]) -> Vec<String> {
        let sink = Sink::default();
        let logger = sink.logger(level, format);
        for (level, text) in records {
            log_one(&logger, *level, text);
        }
        logger.flush();
        sink.lines()
    }

    #[test]
    fn lines_without_a_session_are_capped_and_the_last_reason_is_still_said() {
        let sink = Sink::default();
        let logger = sink.logger(LogLevel::Debug, LogFormat::Logfmt);
        for number in 0..1000 {
            log_one(&logger, Level::Warn, &format!("no session with gw: reason {number}"));
        }
        let lines = sink.lines();
        assert_eq!(lines.len(), OFFLINE_LINES_MAX as usize + 1, "{lines:?}");
        assert!(lines.last().unwrap().contains("left out"), "{lines:?}");
        log_one(&logger, Level::Error, "what ends the program");
        assert!(sink.lines().last().unwrap().contains("what ends the program"));
        logger.state().session = SessionState::Up;
        log_one(&logger, Level::Info, "up");
        let lines = sink.lines();
        let tail: Vec<&str> = lines.iter().rev().take(2).map(String::as_str).collect();
        assert!(tail[0].ends_with("msg=\"up\""), "{tail:?}");
        let expected = "970 lines were left out; the last of them: no session with gw: reason 999\"";
        assert!(tail[1].ends_with(expected), "{tail:?}");
        for number in 0..100 {
            log_one(&logger, Level::Info, &format!("with a session {number}"));
        }
        assert_eq!(sink.lines().len(), lines.len() + 100);
    }

    #[test]
    fn level_and_form_change_while_it_runs() {
        let sink = Sink::default();
        let logger = sink.logger(LogLevel::Info, LogFormat::Logfmt);
        log_one(&logger, Level::Debug, "unseen");
        (logger.state().level, logger.state().format) = (LogLevel::Debug, LogFormat::Json);
        log_one(&logger, Level::Debug, "seen");
        let lines = sink.lines();
        assert!(lines.len() == 1 && lines[0].contains("\"msg\":\"seen\""), "{lines:?}");
    }

    #[test]
    fn repetition_is_folded_and_counted_at_flush() {
        let mut records = vec![(Level::Info, "session=1 stream=7 connection=5 took=3ms upstream refused"); 1];
        records.extend(vec![(Level::Info, "session=1 stream=9 connection=6 took=4ms upstream refused"); 17]);
        records.push((Level::Info, "session=2 up"));
        let lines = logged(LogLevel::Info, LogFormat::Logfmt, &records);
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(
            lines[0].ends_with("lvl=info session=1 stream=7 connection=5 took=3ms msg=\"upstream refused\""),
            "{lines:?}"
        );
        assert!(lines[1].ends_with("lvl=info session=2 msg=\"up\""), "{lines:?}");
        assert!(lines[2].ends_with("lvl=info session=1 msg=\"upstream refused\" repeated=17"), "{lines:?}");
    }

    #[test]
    fn record_below_the_level_is_not_written() {
        let records = [(Level::Debug, "a"), (Level::Info, "b"), (Level::Warn, "c")];
        assert_eq!(logged(LogLevel::Warn, LogFormat::Term, &records).len(), 1);
        assert_eq!(logged(LogLevel::Debug, LogFormat::Term, &records).len(), 3);
        assert_eq!(logged(LogLevel::Crit, LogFormat::Term, &records).len(), 0);
    }

    #[test]
    fn peers_text_cannot_begin_a_line_in_any_format() {
        let text = "peer said x\nt=2026-01-01T00:00:00.000Z lvl=error msg=\"forged\"\r\u{1b}[2J\u{85}\u{2028}y";
        for (_, format) in LogFormat::WORDS {
            let lines = logged(LogLevel::Info, format, &[(Level::Info, text)]);
            assert_eq!(lines.len(), 1, "{format:?}");
            assert!(!lines[0].chars().any(|c| c.is_control() || c == '\u{2028}'), "{format:?} {lines:?}");
        }
    }
}
