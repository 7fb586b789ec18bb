//! Answers of the gateway as text for people.

use adit_gateway::fleet::report::{Endpoints, SessionEnd, Sessions, Site, SiteState, Sites, Streams};
use serde_json::Value;

/// Sites, those that are offline at the bottom, where the terminal stands.
pub(crate) fn sites(sites: &Sites) -> String {
    let mut rows =
        vec![row(["STATE", "FOR", "SITE", "ADDRESS", "AGENT", "HEARD", "TRIP", "STREAMS", "BYTES", "ENDPOINTS"])];
    let (online, others): (Vec<&Site>, Vec<&Site>) =
        sites.sites.iter().partition(|site| site.state == SiteState::Online);
    for site in online.iter().chain(&others) {
        rows.push(vec![
            site.state.as_str().to_owned(),
            span(site.seconds),
            named(&site.account, &site.credential, site.instance.as_deref()),
            site.address.clone().unwrap_or_default(),
            program(&site.agent, &site.target),
            site.last_heard_ms.map(|time| span(time / 1000)).unwrap_or_default(),
            trip(site.round_trip_ms),
            site.counts.streams.to_string(),
            size(site.counts.bytes_to_agent.saturating_add(site.counts.bytes_from_agent)),
            site.endpoints.len().to_string(),
        ]);
        if site.state == SiteState::Offline {
            rows.push(note(&site.last_end.as_ref().map(why).unwrap_or_default()));
        }
        for endpoint in &site.endpoints {
            if let Some(why) = &endpoint.why {
                rows.push(note(&format!("{} {}: {why}", endpoint.url, endpoint.state.as_str())));
            }
        }
    }
    let draining = if sites.draining { "; the gateway drains" } else { "" };
    let unseen = others.iter().filter(|site| site.state == SiteState::Unseen).count();
    let forgotten = match sites.forgotten {
        0 => String::new(),
        count => format!("; {count} more went offline and are forgotten"),
    };
    let summary = format!(
        "{} online, {} offline, {unseen} not seen since the gateway started at {}{forgotten}{draining}",
        online.len(),
        others.len() - unseen,
        sites.started
    );
    format!("{}\n{summary}", aligned(&rows))
}

/// Sessions, oldest first.
pub(crate) fn sessions(sessions: &Sessions) -> String {
    let mut rows =
        vec![row(["SESSION", "FOR", "SITE", "ADDRESS", "AGENT", "HEARD", "TRIP", "STREAMS", "BYTES", "ENDPOINTS"])];
    rows.extend(sessions.sessions.iter().map(|session| {
        vec![
            session.session.to_string(),
            span(session.seconds),
            named(&session.account, &session.credential, session.instance.as_deref()),
            session.address.clone(),
            program(&session.agent, &session.target),
            span(session.last_heard_ms / 1000),
            trip(session.round_trip_ms),
            session.counts.streams.to_string(),
            size(session.counts.bytes_to_agent.saturating_add(session.counts.bytes_from_agent)),
            session.endpoints.to_string(),
        ]
    }));
    format!("{}\n{} sessions", aligned(&rows), sessions.sessions.len())
}

/// Endpoints by their address.
pub(crate) fn endpoints(endpoints: &Endpoints) -> String {
    let mut rows = vec![row(["STATE", "URL", "SITE", "SESSION", "FORWARDS TO"])];
    for endpoint in &endpoints.endpoints {
        let credential = endpoint.credential.as_deref().unwrap_or("(gateway's file)");
        rows.push(vec![
            endpoint.state.as_str().to_owned(),
            endpoint.url.clone(),
            named(&endpoint.account, credential, endpoint.instance.as_deref()),
            endpoint.session.map(|session| session.to_string()).unwrap_or_default(),
            endpoint.forwards_to.clone(),
        ]);
        rows.extend(endpoint.why.as_deref().map(note));
    }
    format!("{}\n{} endpoints", aligned(&rows), endpoints.endpoints.len())
}

/// Streams, oldest first.
pub(crate) fn streams(streams: &Streams) -> String {
    let mut rows = vec![row(["SESSION", "STREAM", "FOR", "SITE", "ENDPOINT", "VISITOR", "TO AGENT", "FROM AGENT"])];
    rows.extend(streams.streams.iter().map(|stream| {
        vec![
            stream.session.to_string(),
            stream.stream.to_string(),
            span(stream.seconds),
            named(&stream.account, &stream.credential, stream.instance.as_deref()),
            stream.endpoint.clone(),
            stream.visitor.clone(),
            size(stream.bytes_to_agent),
            size(stream.bytes_from_agent),
        ]
    }));
    let more = if streams.is_cut { ", and more: ask for a site or a session" } else { "" };
    format!("{}\n{} streams{more}", aligned(&rows), streams.streams.len())
}

/// One event as a line.
pub(crate) fn event(event: &Value) -> String {
    let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default();
    match (event.get("missed"), event.get("end")) {
        (Some(count), _) => format!("{count} events were lost: this reader was too slow"),
        (None, Some(_)) => format!("no more events: {}", text("end")),
        (None, None) => format!("{}  {}  {}", text("time"), text("type"), text("text")),
    }
}

fn why(end: &SessionEnd) -> String {
    format!("{} ago, {}: {}", span(end.seconds), end.cause, end.reason)
}

fn named(account: &str, credential: &str, instance: Option<&str>) -> String {
    match instance {
        Some(instance) => format!("{account}/{credential}/{instance}"),
        None => format!("{account}/{credential}"),
    }
}

fn program(agent: &str, target: &str) -> String {
    format!("{agent} {target}").trim().to_owned()
}

fn trip(millis: Option<f64>) -> String {
    millis.map(|millis| format!("{millis:.1}ms")).unwrap_or_default()
}

/// A time as its two largest units.
fn span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{}s", seconds % 60),
        (0, _, _) => format!("{hours}h{}m", minutes % 60),
        _ => format!("{days}d{}h", hours % 24),
    }
}

/// Bytes with a unit, so that three digits are left.
fn size(bytes: u64) -> String {
    let mut rest = bytes;
    for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
        if rest < 1024 {
            return format!("{rest}{unit}");
        }
        rest /= 1024;
    }
    format!("{rest}PiB")
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// A line of its own below a row.
fn note(text: &str) -> Vec<String> {
    vec![format!("    {text}")]
}

/// Rows as lines in which the cells of a column begin at the same place. A row of one cell is a line of its own.
fn aligned(rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows.iter().filter(|row| row.len() > 1) {
        for (index, cell) in row.iter().enumerate() {
            let width = cell.chars().count();
            match widths.get_mut(index) {
                Some(widest) => *widest = width.max(*widest),
                None => widths.push(width),
            }
        }
    }
    let lines = rows.iter().map(|row| {
        if let [line] = &row[..] {
            return line.clone();
        }
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn table_says_why_a_site_is_offline_and_since_when() {
        let site = |name: &str, state: &str, end: Value| {
            json!({
                "account": "main", "credential": name, "instance": null, "state": state, "since": "x", "seconds": 7265,
                "address": "192.0.2.1:5", "agent": "adit/0.1.0", "version": "", "target": "linux/mips", "metadata": "",
                "sessions": [], "sessions_total": 1, "last_heard_ms": null, "round_trip_ms": 12.34, "endpoints": [],
                "streams": 0, "streams_total": 0, "bytes_to_agent": 0, "bytes_from_agent": 2048, "last_end": end,
            })
        };
        let end = json!({"session": 3, "at": "x", "seconds": 7265, "cause": "silent", "reason": "nothing was heard"});
        let fleet = json!({
            "now": "x", "started": "then", "draining": true, "forgotten": 7,
            "sites": [site("a", "offline", end), site("longer-name", "online", Value::Null), site("c", "unseen", Value::Null)],
        });
        let text = sites(&serde_json::from_value(fleet).unwrap());
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with("online   2h1m  main/longer-name  192.0.2.1:5  adit/0.1.0 linux/mips"), "{text}");
        assert!(lines[1].contains("12.3ms") && lines[1].contains("2KiB"), "{text}");
        assert!(lines[2].starts_with("offline  2h1m  main/a "), "{text}");
        assert_eq!(lines[3], "    2h1m ago, silent: nothing was heard");
        assert!(lines[4].starts_with("unseen "), "{text}");
        let summary = "1 online, 1 offline, 1 not seen since the gateway started at then; 7 more went offline and are \
                       forgotten; the gateway drains";
        assert_eq!(lines[5], summary);
    }

    #[test]
    fn times_and_sizes_have_units() {
        let spans = [(0, "0s"), (59, "59s"), (60, "1m0s"), (3600, "1h0m"), (90_000, "1d1h")];
        assert!(spans.iter().all(|(seconds, text)| span(*seconds) == *text));
        let sizes = [(0, "0B"), (1023, "1023B"), (1024, "1KiB"), (5 << 30, "5GiB"), (u64::MAX, "16383PiB")];
        assert!(sizes.iter().all(|(bytes, text)| size(*bytes) == *text));
    }
}
