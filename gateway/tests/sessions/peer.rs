//! A scripted agent that speaks in frames. It shares no code with the gateway below the JSON texts, so that a mistake in
//! the protocol core cannot hide on both sides.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use futures::FutureExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::timeout;

pub(crate) const AUTH: u32 = 0;
pub(crate) const BIND: u32 = 1;
pub(crate) const UNBIND: u32 = 2;
pub(crate) const PROXY: u32 = 3;
pub(crate) const BIND_LABELED: u32 = 7;
pub(crate) const SRV_INFO: u32 = 8;
pub(crate) const STOP_TUNNEL: u32 = 9;
pub(crate) const PATCH: u32 = 10;
pub(crate) const HEARTBEAT: u32 = 0xffff_ffff;

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;

/// One frame of the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Data { id: u32, flags: u8, body: Vec<u8> },
    Reset { id: u32, code: u32 },
    Credit { id: u32, increment: u32 },
    GoAway { code: u32, text: String },
}

/// What came on one stream so far.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    pub(crate) data: Vec<u8>,
    pub(crate) fin: bool,
    pub(crate) reset: Option<u32>,
}

/// One connection of an agent.
pub(crate) struct Peer {
    io: DuplexStream,
    received: Vec<u8>,
    next_id: u32,
    pub(crate) inboxes: BTreeMap<u32, Inbox>,
    /// Streams that the gateway has opened and nobody has looked at yet.
    opened: VecDeque<u32>,
    pub(crate) go_away: Option<(u32, String)>,
    /// Whether everything received is credited at once.
    pub(crate) credits: bool,
    /// Whether a frame's header and body are written apart, as one official agent does.
    pub(crate) splits: bool,
    /// What ends a request.
    pub(crate) ending: &'static str,
}

/// A proxy stream as the agent sees it.
#[derive(Debug)]
pub(crate) struct Visit {
    pub(crate) id: u32,
    pub(crate) header: Value,
}

impl Peer {
    pub(crate) fn new(io: DuplexStream) -> Self {
        Self {
            io,
            received: Vec::new(),
            next_id: 3,
            inboxes: BTreeMap::new(),
            opened: VecDeque::new(),
            go_away: None,
            credits: true,
            splits: false,
            ending: "",
        }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        // The gateway may have closed the link already; what it said before is still to be read.
        let _ = self.io.write_all(bytes).await;
    }

    /// How many bytes have come that nobody has looked at.
    pub(crate) fn came(&mut self) -> usize {
        let mut piece = [0; 4096];
        while let Some(Ok(len @ 1..)) = self.io.read(&mut piece).now_or_never() {
            self.received.extend_from_slice(&piece[..len]);
        }
        self.received.len()
    }

    pub(crate) async fn frame(&mut self, kind: u8, flags: u8, id: u32, body: &[u8]) {
        let word = (u32::try_from(body.len()).unwrap() << 8) | u32::from(kind << 4 | flags);
        let header = [word.to_be_bytes(), id.to_be_bytes()].concat();
        if self.splits {
            self.write(&header).await;
            self.write(body).await;
        } else {
            self.write(&[header, body.to_vec()].concat()).await;
        }
    }

    pub(crate) async fn data(&mut self, id: u32, flags: u8, body: &[u8]) {
        self.frame(1, flags, id, body).await;
    }

    pub(crate) async fn reset(&mut self, id: u32, code: u32) {
        self.frame(0, 0, id, &code.to_be_bytes()).await;
    }

    pub(crate) async fn credit(&mut self, id: u32, increment: u32) {
        self.frame(2, 0, id, &increment.to_be_bytes()).await;
    }

    /// Opens a stream of a type.
    pub(crate) async fn open(&mut self, kind: u32) -> u32 {
        let id = self.next_id;
        self.next_id += 2;
        self.inboxes.insert(id, Inbox::default());
        self.data(id, SYN, &kind.to_be_bytes()).await;
        id
    }

    /// Sends a request; the reply is yet to come.
    pub(crate) async fn ask(&mut self, kind: u32, request: &str) -> u32 {
        let id = self.open(kind).await;
        let text = format!("{request}{}", self.ending);
        self.data(id, 0, text.as_bytes()).await;
        id
    }

    /// Waits for the reply, which must end in FIN, and confirms it.
    pub(crate) async fn answer(&mut self, id: u32) -> Value {
        let reply = self.answer_unconfirmed(id).await;
        self.data(id, FIN, &[]).await;
        reply
    }

    pub(crate) async fn answer_unconfirmed(&mut self, id: u32) -> Value {
        self.until("the reply", |peer| peer.inboxes[&id].fin).await;
        serde_json::from_slice(&self.inboxes[&id].data).unwrap()
    }

    pub(crate) async fn call(&mut self, kind: u32, request: &Value) -> Value {
        let id = self.ask(kind, &request.to_string()).await;
        self.answer(id).await
    }

    /// A call that must be refused; gives the code.
    pub(crate) async fn refused(&mut self, kind: u32, request: &Value) -> u32 {
        let reply = self.call(kind, request).await;
        code(&reply).unwrap_or_else(|| panic!("not refused: {reply}"))
    }

    pub(crate) async fn log_in(&mut self, token: &str) -> Value {
        let reply = self.call(AUTH, &auth(token)).await;
        assert_eq!(code(&reply), None, "{reply}");
        reply
    }

    pub(crate) async fn bind(&mut self, url: &str) -> Value {
        let reply = self.call(BIND, &bind(url)).await;
        assert_eq!(code(&reply), None, "{reply}");
        // The confirmation is the last frame that was sent; a beat behind it shows that it was read.
        self.beat().await;
        tokio::time::sleep(Duration::from_millis(6)).await;
        reply
    }

    /// Sends a beat on a new stream and waits for its echo: everything sent before has been worked off then.
    pub(crate) async fn beat(&mut self) {
        let id = self.open(HEARTBEAT).await;
        self.data(id, 0, b"beat").await;
        self.until("the echo", |peer| peer.inboxes[&id].data == b"beat").await;
        self.reset(id, 6).await;
    }

    /// Waits for the gateway's question whether this agent lives, and answers it.
    pub(crate) async fn echo_one(&mut self) {
        self.until("a beat", |peer| peer.opened.front().is_some_and(|id| peer.inboxes[id].data.len() >= 8)).await;
        let id = self.opened.pop_front().unwrap();
        let data = std::mem::take(&mut self.inboxes.get_mut(&id).unwrap().data);
        assert_eq!(data[..4], HEARTBEAT.to_be_bytes());
        self.data(id, 0, &data[4..]).await;
        self.until("the end of the question", |peer| peer.inboxes[&id].reset.is_some()).await;
    }

    /// Waits for the next stream that the gateway opens, and reads its type and header.
    pub(crate) async fn visit(&mut self) -> Visit {
        self.until("a proxy stream", |peer| !peer.opened.is_empty()).await;
        let id = self.opened.pop_front().unwrap();
        // Type, length and header have to come in the first frame, so nothing needs to be waited for.
        let inbox = self.inboxes.get_mut(&id).unwrap();
        assert_eq!(inbox.data[..4], PROXY.to_be_bytes());
        let len = i64::from_le_bytes(inbox.data[4..12].try_into().unwrap());
        let end = 12 + usize::try_from(len).unwrap();
        let header = serde_json::from_slice(&inbox.data[12..end]).unwrap();
        inbox.data.drain(..end);
        Visit { id, header }
    }

    /// Waits for the next command of the gateway: its stream, type and JSON.
    pub(crate) async fn command(&mut self) -> (u32, u32, Value) {
        self.until("a command", |peer| !peer.opened.is_empty()).await;
        let id = self.opened.pop_front().unwrap();
        let data = &self.inboxes[&id].data;
        let kind = u32::from_be_bytes(data[..4].try_into().unwrap());
        (id, kind, serde_json::from_slice(&data[4..]).unwrap())
    }

    /// Waits until so many bytes have come on a stream, and takes them.
    pub(crate) async fn take(&mut self, id: u32, len: usize) -> Vec<u8> {
        self.until("data", |peer| peer.inboxes[&id].data.len() >= len).await;
        self.inboxes.get_mut(&id).unwrap().data.drain(..len).collect()
    }

    pub(crate) async fn until_fin(&mut self, id: u32) {
        self.until("the end of a stream", |peer| peer.inboxes[&id].fin).await;
    }

    /// Waits for credit on a stream, taking in everything else on the way.
    pub(crate) async fn wait_for_credit(&mut self, on: u32) -> i64 {
        loop {
            let frame = timeout(PATIENCE, self.next()).await.expect("no credit came").expect("the link ended");
            let Frame::Credit { id, increment } = frame else {
                self.take_in(frame).await;
                continue;
            };
            if id == on {
                return i64::from(increment);
            }
        }
    }

    /// Waits for the end of the link, and gives the GOAWAY before it.
    pub(crate) async fn until_closed(&mut self) -> Option<(u32, String)> {
        while let Some(frame) = timeout(PATIENCE, self.next()).await.expect("the link did not end") {
            assert!(self.go_away.is_none(), "{frame:?} after GOAWAY");
            self.take_in(frame).await;
        }
        self.go_away.clone()
    }

    /// Takes frames until a condition holds.
    pub(crate) async fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        while !condition(self) {
            let frame = timeout(PATIENCE, self.next()).await.unwrap_or_else(|_| panic!("{what} did not come"));
            self.take_in(frame.unwrap_or_else(|| panic!("the link ended before {what}"))).await;
        }
    }

    /// Takes what comes for a while.
    pub(crate) async fn idle(&mut self, time: Duration) {
        let deadline = tokio::time::Instant::now() + time;
        while let Ok(Some(frame)) = tokio::time::timeout_at(deadline, self.next()).await {
            self.take_in(frame).await;
        }
        tokio::time::sleep_until(deadline).await;
    }

    /// Whether the gateway has opened a stream that nobody has looked at.
    pub(crate) fn has_visit(&self) -> bool {
        !self.opened.is_empty()
    }

    /// The next frame; `None` at the end of the link.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.parse() {
                return Some(frame);
            }
            if self.io.read_buf(&mut self.received).await.unwrap_or(0) == 0 {
                assert!(self.received.is_empty(), "the link ended within a frame");
                return None;
            }
        }
    }

    fn parse(&mut self) -> Option<Frame> {
        let header: [u8; 8] = self.received.get(..8)?.try_into().unwrap();
        let word = u32::from_be_bytes(header[..4].try_into().unwrap());
        let id = u32::from_be_bytes(header[4..].try_into().unwrap());
        let len = usize::try_from(word >> 8).unwrap();
        if self.received.len() < 8 + len {
            return None;
        }
        let body: Vec<u8> = self.received.drain(..8 + len).skip(8).collect();
        let (kind, flags) = (header[3] >> 4, header[3] & 0xf);
        assert!(kind == 1 || flags == 0, "flags on a frame that is no DATA");
        assert_ne!(flags, SYN | FIN, "SYN and FIN on one frame");
        let number = |at: usize| u32::from_be_bytes(body[at..at + 4].try_into().unwrap());
        Some(match kind {
            0 => Frame::Reset { id, code: number(0) },
            1 => Frame::Data { id, flags, body },
            2 => Frame::Credit { id, increment: number(0) },
            3 => Frame::GoAway { code: number(4), text: String::from_utf8(body[8..].to_vec()).unwrap() },
            other => panic!("frame type {other}"),
        })
    }

    async fn take_in(&mut self, frame: Frame) {
        match frame {
            Frame::Data { id, flags, body } => {
                if flags & SYN != 0 {
                    assert_eq!(id % 2, 0, "the gateway's ids are even");
                    self.inboxes.insert(id, Inbox::default());
                    self.opened.push_back(id);
                }
                let inbox = self.inboxes.get_mut(&id).expect("data for an unknown stream");
                assert!(!inbox.fin || body.is_empty(), "data after FIN");
                inbox.data.extend_from_slice(&body);
                inbox.fin |= flags & FIN != 0;
                if self.credits && !body.is_empty() {
                    self.credit(id, u32::try_from(body.len()).unwrap()).await;
                }
            }
            Frame::Reset { id, code } => self.inboxes.entry(id).or_default().reset = Some(code),
            Frame::Credit { increment, .. } => assert!(increment > 0),
            Frame::GoAway { code, text } => self.go_away = Some((code, text)),
        }
    }
}

/// The code of a reply that refuses.
pub(crate) fn code(reply: &Value) -> Option<u32> {
    let error = reply.get("Error").and_then(Value::as_str).filter(|error| !error.is_empty())?;
    let line = error.lines().find_map(|line| line.strip_prefix("ERR_NGROK_"));
    Some(line.expect("an error without a code on a line of its own").parse().unwrap())
}

/// A log-in as the Rust family spells it.
pub(crate) fn auth(token: &str) -> Value {
    json!({
        "Version": ["3", "2"], "ClientId": "", "Extra": {
            "OS": "linux", "Arch": "x86_64", "AuthToken": token, "Version": "0.19.0", "Hostname": "",
            "UserAgent": "ngrok-rust/0.19.0", "Metadata": "", "Cookie": "", "HeartbeatInterval": 10_000_000_000_i64,
            "HeartbeatTolerance": 15_000_000_000_i64, "UpdateUnsupportedError": "", "StopUnsupportedError": "",
            "RestartUnsupportedError": "", "ProxyType": "", "MutualTLS": false, "ServiceRun": false, "ConfigVersion": "",
            "CustomInterface": false, "CustomCAs": false, "ClientType": "ngrok-rust"
        }
    })
}

/// A log-in that takes up an earlier session.
pub(crate) fn auth_again(token: &str, earlier: &Value) -> Value {
    let mut request = auth(token);
    request["ClientId"] = earlier["ClientId"].clone();
    request["Extra"]["Cookie"] = earlier["Extra"]["Cookie"].clone();
    request
}

/// A Bind with the URL in `Opts.URL`; its scheme is the protocol.
pub(crate) fn bind(url: &str) -> Value {
    let proto = url.split_once("://").unwrap().0;
    json!({
        "Id": "", "Proto": proto, "ForwardsTo": "localhost:1", "ForwardsProto": "",
        "Opts": { "URL": url, "Domain": "", "Hostname": "", "Subdomain": "", "Auth": "", "HostHeaderRewrite": false,
            "LocalUrlScheme": null, "ProxyProto": 0, "TrafficPolicy": null },
        "Extra": { "Token": "", "IPPolicyRef": "", "Metadata": "", "Bindings": null, "PoolingEnabled": false }
    })
}

/// A Bind that re-establishes what an earlier reply has given, as all agents do it.
pub(crate) fn bind_again(request: &Value, reply: &Value) -> Value {
    let mut again = request.clone();
    for key in ["Id", "Proto", "Opts"] {
        again[key] = reply[key].clone();
    }
    again["Extra"]["Token"] = reply["Extra"]["Token"].clone();
    again
}

/// Virtual time, so it costs nothing; longer than anything that the gateway does by itself.
const PATIENCE: Duration = Duration::from_secs(3600);
