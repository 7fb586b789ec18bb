//! Events as lines of JSON, for whoever follows along.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::Admin;
use super::answer::{Body, problem, with_type};
use super::caller::Caller;
use crate::events::{Event, Place, Tail, Tailed};
use crate::fleet::report::Filter;

/// Lines that somebody else writes.
struct Lines {
    lines: mpsc::Receiver<Bytes>,
    /// Until the last one is on its way.
    _place: Place,
    /// One of those that there are for readers.
    _permit: OwnedSemaphorePermit,
}

impl http_body::Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.lines.poll_recv(cx).map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}

/// The events from now on, as long as the client is there. One that is slow loses some, and is told how many. The last line says
/// that the gateway ends: without it, the connection broke.
pub(super) fn follow(admin: &Admin, caller: &Caller, filter: Filter) -> Response<Body> {
    let [at_socket, at_address] = &admin.tails;
    let places = match caller {
        Caller::Local { .. } => at_socket,
        Caller::Certified { .. } | Caller::Loopback(_) => at_address,
    };
    let Ok(permit) = Arc::clone(places).try_acquire_owned() else {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "too many follow events already");
    };
    let (sender, lines) = mpsc::channel(LINES_MAX);
    let tail = admin.gateway.events().follow();
    let body = Lines { lines, _place: tail.place(), _permit: permit };
    tokio::spawn(write(tail, filter, sender));
    with_type(StatusCode::OK, Bytes::new(), "application/x-ndjson").map(|_| body.boxed_unsync())
}

async fn write(mut tail: Tail, filter: Filter, lines: mpsc::Sender<Bytes>) {
    loop {
        let next = tokio::select! {
            next = tail.next() => next,
            () = lines.closed() => return,
        };
        let value = match next {
            None => {
                // Whoever does not take it has gone.
                let _ = lines.send(line(&json!({"end": "the gateway ends"}))).await;
                return;
            }
            Some(Tailed::Missed(count)) => json!({"missed": count}),
            Some(Tailed::Event(event)) if fits(&filter, &event) => event.to_json(),
            Some(Tailed::Event(_)) => continue,
        };
        if lines.send(line(&value)).await.is_err() {
            return;
        }
    }
}

fn line(value: &Value) -> Bytes {
    format!("{value}\n").into()
}

fn fits(filter: &Filter, event: &Event) -> bool {
    let about = &event.about;
    let fits =
        |wanted: &Option<String>, value: Option<&str>| wanted.as_deref().is_none_or(|wanted| value == Some(wanted));
    fits(&filter.account, about.account.as_deref())
        && fits(&filter.credential, about.credential.as_deref())
        && fits(&filter.instance, about.instance.as_deref())
}

/// Lines on their way to a client; behind them, events wait where they are counted when they are lost.
const LINES_MAX: usize = 16;
