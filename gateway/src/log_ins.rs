//! `adit-gateway log-ins`: who is logged in, and ending that.

use std::fmt;
use std::io;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use adit_gateway::config::{Config, ConfigErrors};
use adit_gateway::login::ending::Ending;
use adit_gateway::login::spent::Journal;
use adit_gateway::login::store::{NOTED_MAX, Noted, Store, Unlisted};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::cli::{EndLogIns, ListLogIns};

/// Why it cannot be done.
pub(crate) enum Failure {
    /// The command line says too little.
    Usage(&'static str),
    /// The configuration is wrong.
    Config(ConfigErrors),
    /// A file cannot be read or written.
    File(String),
}

/// What came of it.
pub(crate) struct Done {
    /// The answer.
    pub(crate) text: String,
    /// What is not in it although it should be.
    pub(crate) warnings: Vec<String>,
}

/// The log-ins, as lines for people or as JSON.
pub(crate) fn list(arguments: &ListLogIns) -> Result<Done, Failure> {
    let Known { mut sessions, unlisted, warnings, .. } = known(&arguments.file.config, arguments.account.as_deref())?;
    sessions.retain(|session| arguments.account.as_ref().is_none_or(|account| *account == session.account));
    if arguments.json {
        let listed = Listed { log_ins: &sessions, unlisted: &unlisted };
        let text = serde_json::to_string_pretty(&listed).map_err(|error| Failure::File(error.to_string()))?;
        return Ok(Done { text, warnings });
    }
    let lines = sessions.iter().map(|session| Line(session).to_string());
    let mut text: Vec<String> = [HEADING.to_owned()].into_iter().chain(lines).collect();
    text.push(format!("{} log-ins", sessions.len()));
    Ok(Done { text: text.join("\n"), warnings })
}

/// Ends the log-ins that the arguments choose, and waits until a running gateway has taken them.
pub(crate) fn end(arguments: &EndLogIns) -> Result<Done, Failure> {
    let chosen = arguments.ids.len() + arguments.person.len();
    if chosen == 0 && !arguments.all {
        return Err(Failure::Usage("say which: ids as `log-ins list` shows them, --person, or --all"));
    }
    let Known { ending, sessions, warnings, .. } = known(&arguments.file.config, arguments.account.as_deref())?;
    let done = |text| Ok(Done { text, warnings });
    let is_meant = |session: &Noted| {
        arguments.account.as_ref().is_none_or(|account| *account == session.account)
            && (arguments.all
                || arguments.ids.contains(&session.id)
                || arguments.person.iter().any(|person| *person == session.subject || *person == session.email))
    };
    let meant: Vec<&Noted> = sessions.iter().filter(|session| is_meant(session)).collect();
    if meant.is_empty() {
        return done("no log-in is meant: see `log-ins list`".into());
    }
    for session in &meant {
        ending.ask(session).map_err(|error| Failure::File(format!("{}: {error}", session.id)))?;
    }
    let begin = Instant::now();
    while begin.elapsed() < WAIT {
        if ending.waiting().map_err(|error| Failure::File(error.to_string()))? == 0 {
            return done(format!("{} log-ins have ended", meant.len()));
        }
        sleep(LOOK);
    }
    done(format!("{} log-ins will end as soon as the gateway runs", meant.len()))
}

/// What `--json` prints.
#[derive(Serialize)]
struct Listed<'k> {
    log_ins: &'k [Noted],
    /// Of accounts that have more than are listed.
    unlisted: &'k [Unlisted],
}

/// What a gateway has written down.
struct Known {
    ending: Ending,
    sessions: Vec<Noted>,
    unlisted: Vec<Unlisted>,
    warnings: Vec<String>,
}

fn known(config: &Path, account: Option<&str>) -> Result<Known, Failure> {
    let (config, _) = Config::load(config).map_err(Failure::Config)?;
    let file = config.log_ins.spent_file(&config.key_file);
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let shown = |error: io::Error| Failure::File(format!("{}: {error}", file.display()));
    let journal = Journal::look(&file, now).map_err(shown)?;
    let unlisted = journal.unlisted(now).into_iter();
    let unlisted = unlisted.filter(|unlisted| account.is_none_or(|account| account == unlisted.account));
    let unlisted: Vec<_> = unlisted.collect();
    let warnings = unlisted.iter().map(warning).collect();
    Ok(Known { ending: Ending::beside(&file), sessions: journal.sessions(now), unlisted, warnings })
}

fn warning(Unlisted { account, unlisted, until }: &Unlisted) -> String {
    format!(
        "up to {unlisted} older log-ins of the account {account} are not listed, and cannot be ended from here: there is \
         room for half of {NOTED_MAX} of one account. The last of them is over at {}; new log_ins.key_files end all",
        moment(*until)
    )
}

/// A session in a table.
struct Line<'s>(&'s Noted);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Noted { id, account, host, subject, email, begun, ends, .. } = self.0;
        write!(f, "{id}  {}  {}  {account}  {host}  {subject}  {email}", moment(*begun), moment(*ends))
    }
}

fn moment(seconds: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(seconds).ok();
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default()
}

const HEADING: &str = "id  begun  ends  account  host  person  mail";
/// Twice as long as a gateway takes to look.
const WAIT: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(100);
