//! The agent's log: one line per record on standard error, in one of three forms, with repetitions folded.
//!
//! A message may begin with the fields `session=…`, `stream=…` and `took=…`, in this order; they become fields of the
//! line. Everything else is text: it is escaped, so that what a peer sent cannot begin a line or a field of its own.
//! A message that occurs again within [`REPEAT_WINDOW`] is counted instead of written; `stream` and `took` do not make
//! it another message. The count appears as `repeated=…` once the window has passed and something is logged, or when
//! the log is flushed.

mod line;
mod repeats;

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use log::{Level, LevelFilter, Log, Metadata, Record, SetLoggerError};

use self::line::Line;
use self::repeats::{Decision, Folded, Repeats};
use crate::wall_time::WallTime;

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
    let logger = FoldingLogger::new(env_logger::Target::Stderr, level, format);
    log::set_boxed_logger(Box::new(logger))?;
    log::set_max_level(level.filter());
    Ok(())
}

/// Folds and renders; `env_logger` filters and writes.
struct FoldingLogger {
    inner: env_logger::Logger,
    format: LogFormat,
    repeats: Mutex<Repeats>,
}

impl FoldingLogger {
    fn new(target: env_logger::Target, level: LogLevel, format: LogFormat) -> Self {
        use std::io::Write;

        let inner = env_logger::Builder::new()
            .filter_level(level.filter())
            .target(target)
            .format(|out, record| writeln!(out, "{}", record.args()))
            .build();
        Self { inner, format, repeats: Mutex::new(Repeats::default()) }
    }

    fn write(&self, level: Level, line: &Line<'_>) {
        let text = line.render(self.format, level, WallTime::system());
        self.inner.log(&Record::builder().args(format_args!("{text}")).level(level).target(module_path!()).build());
    }

    fn write_folded(&self, folded: &[Folded]) {
        for folded in folded {
            self.write(folded.level, &Line::parse(&folded.text).repeated(folded.count));
        }
    }
}

impl Log for FoldingLogger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.inner.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.inner.matches(record) {
            return;
        }
        let text = record.args().to_string();
        let line = Line::parse(&text);
        let now = Instant::now();
        let mut repeats = self.repeats.lock().unwrap_or_else(PoisonError::into_inner);
        let decision = repeats.admit(record.level(), &line.folding_key(), now);
        self.write_folded(&repeats.expire(now));
        match decision {
            Decision::Count => {}
            Decision::Write { repeated } => self.write(record.level(), &line.repeated(repeated)),
        }
    }

    fn flush(&self) {
        let folded = self.repeats.lock().unwrap_or_else(PoisonError::into_inner).drain();
        self.write_folded(&folded);
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

    fn logged(level: LogLevel, format: LogFormat, records: &[(Level, &str)]) -> Vec<String> {
        let sink = Sink::default();
        let logger = FoldingLogger::new(env_logger::Target::Pipe(Box::new(sink.clone())), level, format);
        for (level, text) in records {
            logger.log(&Record::builder().args(format_args!("{text}")).level(*level).build());
        }
        logger.flush();
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(ToOwned::to_owned).collect()
    }

    #[test]
    fn repetition_is_folded_and_counted_at_flush() {
        let mut records = vec![(Level::Info, "session=1 stream=7 took=3ms upstream refused"); 1];
        records.extend(vec![(Level::Info, "session=1 stream=9 took=4ms upstream refused"); 17]);
        records.push((Level::Info, "session=2 up"));
        let lines = logged(LogLevel::Info, LogFormat::Logfmt, &records);
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines[0].ends_with("lvl=info session=1 stream=7 took=3ms msg=\"upstream refused\""), "{lines:?}");
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
