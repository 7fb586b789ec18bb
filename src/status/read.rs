//! A report as it comes from an agent, which may be of another version: what is missing or of another type is as if
//! nothing were known of it.

use serde::de::Error;
use serde_json::{Map, Value};

use super::{Bytes, Endpoint, EndpointState, Heartbeat, LastError, Memory, Report, Session, SessionState, Streams};

impl Report {
    /// Reads the JSON of a report.
    ///
    /// # Errors
    /// It is no JSON, or no object.
    pub fn read(json: &[u8]) -> Result<Self, serde_json::Error> {
        let Value::Object(members) = serde_json::from_slice(json)? else {
            return Err(Error::custom("it is no object"));
        };
        let report = Members(Some(&members));
        Ok(Self {
            schema: report.number("schema").try_into().unwrap_or(u32::MAX),
            version: report.text("version").unwrap_or_default(),
            running_ms: report.number("running_ms"),
            session: session(&report.object("session")),
            heartbeat: heartbeat(&report.object("heartbeat")),
            endpoints: report.array("endpoints").iter().map(|value| endpoint(&Members(value.as_object()))).collect(),
            endpoints_omitted: report.number("endpoints_omitted").try_into().unwrap_or(usize::MAX),
            streams: streams(&report.object("streams")),
            bytes: bytes(&report.object("bytes")),
            memory: memory(&report.object("memory")),
            reconnects: report.number("reconnects"),
            last_error: last_error(&report.object("last_error")),
        })
    }
}

fn session(session: &Members<'_>) -> Session {
    Session {
        state: match session.word("state") {
            "waiting" | "" => SessionState::Waiting,
            "connecting" => SessionState::Connecting,
            "up" => SessionState::Up,
            "draining" => SessionState::Draining,
            "stopped" => SessionState::Stopped,
            _ => SessionState::Unknown,
        },
        since_ms: session.number("since_ms"),
        number: session.number("number"),
        gateway: session.text("gateway").unwrap_or_default(),
        address: session.text("address"),
        tls: session.text("tls"),
        account: session.text("account"),
        region: session.text("region"),
        gateway_version: session.text("gateway_version"),
    }
}

fn heartbeat(heartbeat: &Members<'_>) -> Heartbeat {
    Heartbeat {
        answered: heartbeat.get("answered").and_then(Value::as_bool).unwrap_or_default(),
        round_trip_us: heartbeat.get("round_trip_us").and_then(Value::as_u64),
        since_ms: heartbeat.get("since_ms").and_then(Value::as_u64),
        deadline_ms: heartbeat.number("deadline_ms"),
    }
}

fn endpoint(endpoint: &Members<'_>) -> Endpoint {
    Endpoint {
        name: endpoint.text("name").unwrap_or_default(),
        url: endpoint.text("url").unwrap_or_default(),
        upstream: endpoint.text("upstream").unwrap_or_default(),
        state: match endpoint.word("state") {
            "offline" | "" => EndpointState::Offline,
            "online" => EndpointState::Online,
            "refused" => EndpointState::Refused,
            "stopped" => EndpointState::Stopped,
            _ => EndpointState::Unknown,
        },
        since_ms: endpoint.number("since_ms"),
        reason: endpoint.text("reason"),
    }
}

fn streams(streams: &Members<'_>) -> Streams {
    Streams { open: streams.number("open"), total: streams.number("total"), unreachable: streams.number("unreachable") }
}

fn bytes(bytes: &Members<'_>) -> Bytes {
    Bytes { to_upstreams: bytes.number("to_upstreams"), from_upstreams: bytes.number("from_upstreams") }
}

fn memory(memory: &Members<'_>) -> Memory {
    Memory { used: memory.number("used"), max: memory.number("max") }
}

fn last_error(error: &Members<'_>) -> Option<LastError> {
    Some(LastError { text: error.text("text")?, since_ms: error.number("since_ms") })
}

/// The members of an object, if there is one.
struct Members<'a>(Option<&'a Map<String, Value>>);

impl<'a> Members<'a> {
    fn get(&self, name: &str) -> Option<&'a Value> {
        self.0?.get(name)
    }

    fn number(&self, name: &str) -> u64 {
        self.get(name).and_then(Value::as_u64).unwrap_or_default()
    }

    fn text(&self, name: &str) -> Option<String> {
        self.get(name).and_then(Value::as_str).map(str::to_owned)
    }

    fn word(&self, name: &str) -> &'a str {
        self.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    fn object(&self, name: &str) -> Self {
        Self(self.get(name).and_then(Value::as_object))
    }

    fn array(&self, name: &str) -> &'a [Value] {
        self.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_read_as_it_was_written() {
        let sessions = [
            SessionState::Waiting,
            SessionState::Connecting,
            SessionState::Up,
            SessionState::Draining,
            SessionState::Stopped,
            SessionState::Unknown,
        ];
        let endpoints = [
            EndpointState::Offline,
            EndpointState::Online,
            EndpointState::Refused,
            EndpointState::Stopped,
            EndpointState::Unknown,
        ];
        for (index, state) in sessions.into_iter().enumerate() {
            let endpoint = Endpoint { state: endpoints[index % endpoints.len()], ..Endpoint::default() };
            let report = Report {
                session: Session { state, ..Session::default() },
                endpoints: vec![endpoint],
                ..Report::default()
            };
            assert_eq!(Report::read(&serde_json::to_vec(&report).unwrap()).unwrap(), report);
        }
    }

    #[test]
    fn what_is_no_object_is_no_report() {
        for json in ["", "[]", "7", "{\"schema\":1"] {
            assert!(Report::read(json.as_bytes()).is_err(), "{json}");
        }
        let report = Report::read(br#"{"schema":"one","session":[],"endpoints":[7],"last_error":{}}"#).unwrap();
        assert_eq!(report, Report { endpoints: vec![Endpoint::default()], ..Report::default() });
    }
}
