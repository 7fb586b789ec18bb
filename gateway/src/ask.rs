//! The commands that ask a running gateway at its admin socket: what it says, and how it comes out.

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use adit_gateway::config::ConfigErrors;
use adit_gateway::config::admin::AdminConfig;
use adit_gateway::login::query::form_text;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::runtime::Builder;
use tokio::time::timeout;

use crate::cli::{AdminSocket, Drain, Kick, Look, Reload, Tail};
use crate::tables;

/// Why a command has not done what it was to do.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The configuration from which the socket is to be read is wrong.
    Config(ConfigErrors),
    /// It names no socket.
    NoSocket(PathBuf),
    /// Nobody answers at the socket.
    NotRunning(PathBuf, io::Error),
    /// The gateway has refused.
    Refused(String),
    /// Nothing is meant by what was asked for.
    NothingMatched(String),
    /// The answer cannot be understood, or the system below refused something.
    Internal(String),
}

/// What can be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Sites,
    Sessions,
    Endpoints,
    Streams,
}

/// What there is to see.
#[derive(Debug)]
pub(crate) struct Seen {
    /// For standard output.
    pub(crate) text: String,
    /// What was asked for was narrowed down until nothing was left.
    pub(crate) is_nothing: bool,
}

/// Sites, sessions, endpoints or streams, as a table or as JSON.
pub(crate) fn look(subject: Subject, look: &Look) -> Result<Seen, Failure> {
    let (word, parameters) = (subject.word(), look.which.parameters());
    let text = whole(&look.socket, Method::GET, &format!("/v1/{word}"), &parameters)?;
    let is_nothing = !parameters.is_empty() && has_none(word, &text);
    if look.socket.json {
        return Ok(Seen { text: text.trim_end().to_owned(), is_nothing });
    }
    let table = match subject {
        Subject::Sites => serde_json::from_str(&text).map(|sites| tables::sites(&sites)),
        Subject::Sessions => serde_json::from_str(&text).map(|sessions| tables::sessions(&sessions)),
        Subject::Endpoints => serde_json::from_str(&text).map(|endpoints| tables::endpoints(&endpoints)),
        Subject::Streams => serde_json::from_str(&text).map(|streams| tables::streams(&streams)),
    };
    let text = table.map_err(|error| Failure::Internal(format!("the gateway's answer cannot be read: {error}")))?;
    Ok(Seen { text, is_nothing })
}

/// Whether the list of this name is empty. An answer that cannot be read is not.
fn has_none(word: &str, text: &str) -> bool {
    let document: Value = serde_json::from_str(text).unwrap_or_default();
    document.get(word).and_then(Value::as_array).is_some_and(Vec::is_empty)
}

impl Subject {
    /// The end of its path, and the name of the list in the answer.
    const fn word(self) -> &'static str {
        match self {
            Self::Sites => "sites",
            Self::Sessions => "sessions",
            Self::Endpoints => "endpoints",
            Self::Streams => "streams",
        }
    }
}

/// Ends sessions.
pub(crate) fn kick(kick: &Kick) -> Result<String, Failure> {
    let mut parameters = kick.which.parameters();
    parameters.extend(kick.away.map(|seconds| ("seconds", seconds.to_string())));
    parameters.extend(kick.all.then(|| ("all", "true".to_owned())));
    act(&kick.socket, "/v1/kick", &parameters, |answer| format!("ended: {}", numbers(answer)))
}

/// Ends sessions, or the gateway, once they are idle.
pub(crate) fn drain(drain: &Drain) -> Result<String, Failure> {
    let mut parameters = drain.which.parameters();
    parameters.extend(drain.all.then(|| ("all", "true".to_owned())));
    act(&drain.socket, "/v1/drain", &parameters, |answer| match answer.get("seconds_max") {
        Some(seconds) => format!("the gateway drains, and ends within {seconds} s"),
        None => format!("end as soon as they are idle: {}", numbers(answer)),
    })
}

/// Has the configuration read anew.
pub(crate) fn reload(reload: &Reload) -> Result<String, Failure> {
    act(&reload.socket, "/v1/reload", &[], |answer| {
        let warnings = answer.get("warnings").and_then(Value::as_array).into_iter().flatten();
        let warnings = warnings.filter_map(Value::as_str).map(|warning| format!("warning: {warning}\n"));
        format!("{}the configuration is in force", warnings.collect::<String>())
    })
}

/// Writes events as they come, until the gateway says that it ends or nobody reads.
pub(crate) fn tail(tail: &Tail) -> Result<(), Failure> {
    run(async {
        let answer = ask(&tail.socket, Method::GET, "/v1/tail", &tail.which.parameters()).await?;
        let mut body = checked(answer).await?.into_body();
        let mut rest = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Failure::Internal(format!("the connection broke: {error}")))?;
            rest.extend_from_slice(&frame.into_data().unwrap_or_default());
            if rest.len() > ANSWER_LEN_MAX {
                return Err(Failure::Internal("an event is too long".to_owned()));
            }
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                match write_event(&line, tail.socket.json) {
                    Ok(Written::Event) => {}
                    // Whoever reads has gone, in the second case.
                    Ok(Written::End) | Err(_) => return Ok(()),
                }
            }
        }
        Err(Failure::Internal("the connection ended, and nobody said that the gateway does".to_owned()))
    })
}

/// What a line was.
enum Written {
    Event,
    /// The word that no more come.
    End,
}

fn write_event(line: &[u8], json: bool) -> io::Result<Written> {
    let mut out = io::stdout().lock();
    let event = serde_json::from_slice::<Value>(line).unwrap_or_default();
    if json || event.is_null() {
        out.write_all(line)?;
    } else {
        writeln!(out, "{}", tables::event(&event))?;
    }
    out.flush()?;
    Ok(if event.get("end").is_some() { Written::End } else { Written::Event })
}

fn act(
    socket: &AdminSocket,
    path: &str,
    parameters: &[(&'static str, String)],
    told: impl FnOnce(&Value) -> String,
) -> Result<String, Failure> {
    let text = whole(socket, Method::POST, path, parameters)?;
    if socket.json {
        return Ok(text.trim_end().to_owned());
    }
    let answer = serde_json::from_str(&text);
    answer.map(|answer| told(&answer)).map_err(|error| Failure::Internal(format!("no usable answer: {error}")))
}

fn numbers(answer: &Value) -> String {
    let sessions = answer.get("sessions").and_then(Value::as_array).into_iter().flatten();
    let sessions: Vec<String> = sessions.map(ToString::to_string).collect();
    format!("{} ({})", if sessions.len() == 1 { "session" } else { "sessions" }, sessions.join(" "))
}

/// The whole answer.
fn whole(
    socket: &AdminSocket,
    method: Method,
    path: &str,
    parameters: &[(&'static str, String)],
) -> Result<String, Failure> {
    run(async {
        let asked = async { text(checked(ask(socket, method, path, parameters).await?).await?).await };
        timeout(ANSWER_TIME, asked).await.unwrap_or_else(|_| {
            Err(Failure::Internal(format!("the gateway has not answered within {} s", ANSWER_TIME.as_secs())))
        })
    })
}

fn run<T>(asked: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::Internal(format!("nothing can be run: {error}")))?.block_on(asked)
}

async fn ask(
    socket: &AdminSocket,
    method: Method,
    path: &str,
    parameters: &[(&'static str, String)],
) -> Result<Response<Incoming>, Failure> {
    let place = place(socket)?;
    let not_running = |error: io::Error| match error.kind() {
        io::ErrorKind::PermissionDenied => Failure::Refused(format!("{}: {error}", place.display())),
        _ => Failure::NotRunning(place.clone(), error),
    };
    let stream = UnixStream::connect(&place).await.map_err(not_running)?;
    let internal = |error: hyper::Error| Failure::Internal(format!("{}: {error}", place.display()));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(internal)?;
    // It ends with the answer.
    tokio::spawn(connection);
    let fields: Vec<(&str, &str)> = parameters.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let request = Request::builder().method(method).uri(format!("{path}?{}", form_text(&fields)));
    let request = request.header(header::HOST, "localhost").body(Empty::<Bytes>::new());
    let request = request.map_err(|error| Failure::Internal(error.to_string()))?;
    sender.send_request(request).await.map_err(internal)
}

fn place(socket: &AdminSocket) -> Result<PathBuf, Failure> {
    if let Some(place) = &socket.socket {
        return Ok(place.clone());
    }
    let file: &Path = &socket.file.config;
    let socket = AdminConfig::socket_in(file).map_err(Failure::Config)?;
    socket.ok_or_else(|| Failure::NoSocket(file.to_owned()))
}

async fn checked(answer: Response<Incoming>) -> Result<Response<Incoming>, Failure> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    Err(refusal(status, &text(answer).await?))
}

fn refusal(status: StatusCode, text: &str) -> Failure {
    let document: Value = serde_json::from_str(text).unwrap_or_default();
    let error = document.get("error").and_then(Value::as_str).unwrap_or(text.trim_end());
    let problems = document.get("problems").and_then(Value::as_array).into_iter().flatten();
    let problems = problems.filter_map(Value::as_str).map(|problem| format!("{problem}\n"));
    let told = format!("{}{error}", problems.collect::<String>());
    match status {
        // It says that there are none; where there is nothing of this name, it says nothing of sessions.
        StatusCode::NOT_FOUND if has_none("sessions", text) => Failure::NothingMatched(told),
        StatusCode::NOT_FOUND => Failure::Refused(format!("{told}; is the gateway older than this program?")),
        _ => Failure::Refused(told),
    }
}

async fn text(answer: Response<Incoming>) -> Result<String, Failure> {
    let body = Limited::new(answer.into_body(), ANSWER_LEN_MAX).collect().await;
    let body = body.map_err(|error| Failure::Internal(format!("the answer has not come whole: {error}")))?;
    String::from_utf8(body.to_bytes().into()).map_err(|error| Failure::Internal(error.to_string()))
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(errors) => errors.fmt(f),
            Self::NoSocket(file) => write!(f, "{}: has no admin.socket; name it with --socket", file.display()),
            Self::NotRunning(place, error) => {
                write!(f, "no gateway answers at {}: {error}; does it run?", place.display())
            }
            Self::Refused(text) | Self::NothingMatched(text) | Self::Internal(text) => f.write_str(text),
        }
    }
}

/// Ten times what 4,096 offline sites and 10,000 sessions say.
const ANSWER_LEN_MAX: usize = 128 << 20;
/// A reload of thousands of certificates takes a while.
const ANSWER_TIME: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_meant_only_where_the_gateway_says_so() {
        let none = refusal(StatusCode::NOT_FOUND, r#"{"error":"no session is meant by that","sessions":[]}"#);
        assert!(matches!(none, Failure::NothingMatched(_)), "{none:?}");
        let older = refusal(StatusCode::NOT_FOUND, r#"{"error":"there is nothing of this name here"}"#);
        assert!(matches!(older, Failure::Refused(_)) && older.to_string().contains("older"), "{older:?}");
        assert!(matches!(refusal(StatusCode::FORBIDDEN, ""), Failure::Refused(_)));
        for subject in [Subject::Sites, Subject::Sessions, Subject::Endpoints, Subject::Streams] {
            let word = subject.word();
            assert!(has_none(word, &format!(r#"{{"now":"","{word}":[]}}"#)), "{word}");
            assert!(!has_none(word, &format!(r#"{{"{word}":[{{}}]}}"#)) && !has_none(word, "{}"), "{word}");
        }
    }
}
