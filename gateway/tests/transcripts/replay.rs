//! An old agent's bytes, sent to this gateway.

use std::collections::VecDeque;
use std::sync::Arc;

use adit_gateway::gateway::Gateway;
use adit_gateway::session::serve_agent;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::stage::{PATIENCE, Stage};
use crate::streams::Streams;
use crate::transcript::{Event, Transcript};
use crate::visits::Errand;

/// A connection on which an old agent speaks.
pub(crate) struct Replay {
    gateway: Arc<Gateway>,
    io: DuplexStream,
    serving: JoinHandle<()>,
    agent: Streams,
    /// What the gateway had said then.
    then: Streams,
    /// What it says now.
    now: Streams,
    visits: VecDeque<(Errand, JoinHandle<Vec<u8>>)>,
}

impl Replay {
    pub(crate) fn of(stage: &Stage) -> Self {
        let (io, theirs) = tokio::io::duplex(64 * 1024);
        let gateway = Arc::clone(&stage.gateway);
        let serving = tokio::spawn(serve_agent(Arc::clone(&gateway), theirs, "192.0.2.1:40000".parse().unwrap()));
        let (agent, then, now) = (Streams::default(), Streams::default(), Streams::default());
        Self { gateway, io, serving, agent, then, now, visits: VecDeque::new() }
    }

    /// Goes through all events, and to the end of the session.
    pub(crate) async fn run(mut self, transcript: &Transcript) {
        for event in &transcript.events {
            match event {
                Event::Agent(bytes) => {
                    self.catch_up().await;
                    self.agent.take(bytes);
                    self.io.write_all(bytes).await.expect("the gateway has closed the connection");
                }
                Event::Gateway(bytes) => self.then.take(bytes),
                Event::Visitor(errand) => {
                    self.visits.push_back((*errand, tokio::spawn(errand.run(Arc::clone(&self.gateway)))));
                }
                Event::Answer(errand, answer) => {
                    self.catch_up().await;
                    let (came, visit) = self.visits.pop_front().expect("an answer to nobody");
                    let now = visit.await.unwrap();
                    assert_eq!((came, String::from_utf8_lossy(&now)), (*errand, String::from_utf8_lossy(answer)));
                }
            }
        }
        self.catch_up().await;
        timeout(PATIENCE, self.serving).await.expect("the session does not end").unwrap();
        assert_eq!(self.gateway.sessions(), 0);
        compare(&self.agent, &self.then, &self.now);
    }

    /// Waits until the gateway has said as much as it had then.
    async fn catch_up(&mut self) {
        while let Some(what) = behind(&self.then, &self.now) {
            let mut bytes = Vec::with_capacity(4096);
            let read = timeout(PATIENCE, self.io.read_buf(&mut bytes)).await;
            let len = read.unwrap_or_else(|_| panic!("{what} does not come")).unwrap();
            assert!(len > 0, "the connection ends before {what}");
            self.now.take(&bytes);
        }
    }
}

/// What is yet to come.
fn behind(then: &Streams, now: &Streams) -> Option<String> {
    let is_behind = |id: &u32| now.by_id.get(id).is_none_or(|said| !said.is_as_far_as(&then.by_id[id]));
    let stream = then.by_id.keys().find(|id| is_behind(id)).map(|id| format!("what is to be said on stream {id}"));
    stream.or_else(|| (then.has_gone && !now.has_gone).then(|| "the farewell".to_owned()))
}

fn compare(agent: &Streams, then: &Streams, now: &Streams) {
    for (id, old) in &then.by_id {
        let new = &now.by_id[id];
        if id % 2 == 0 {
            // What follows the header is the visitors', who have looked at it.
            keeps(&header(&old.data), &header(&new.data), "");
        } else if agent.by_id[id].kind() == HEARTBEAT {
            assert_eq!(new.data, old.data, "a beat comes back as it was");
        } else {
            keeps(&serde_json::from_slice(&old.data).unwrap(), &serde_json::from_slice(&new.data).unwrap(), "");
        }
    }
}

/// The header of a stream to the agent: type, length, JSON.
fn header(data: &[u8]) -> Value {
    let len = i64::from_le_bytes(data[4..12].try_into().unwrap());
    serde_json::from_slice(&data[12..12 + usize::try_from(len).unwrap()]).unwrap()
}

/// Everything that was said then is still said.
fn keeps(old: &Value, new: &Value, at: &str) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (name, value) in old {
                keeps(value, new.get(name).unwrap_or(&Value::Null), &format!("{at}/{name}"));
            }
        }
        _ if MAY_DIFFER.contains(&at) => {
            let is_same_type = std::mem::discriminant(old) == std::mem::discriminant(new);
            assert!(is_same_type, "does not keep {at}: {new} instead of {old}");
        }
        _ => assert_eq!(new, old, "does not keep {at}"),
    }
}

const HEARTBEAT: u32 = 0xffff_ffff;
/// What names one session, or says how this gateway is.
const MAY_DIFFER: [&str; 6] = [
    "/Extra/Cookie",
    "/Extra/AgentSessionID",
    "/Extra/Version",
    "/Extra/Adit/Version",
    "/Extra/Adit/StreamsMax",
    "/Extra/Adit/Window",
];
