//! Serves one connection of a visitor from its first byte to its last.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Interval, MissedTickBehavior};

use super::errand::Errand;
use super::exchange::Client;
use super::guard::Guard;
use super::io::{Activity, Lent, Rewound};
use super::limits::{
    H1_BUFFER_BYTES_MAX, H2_PING_TIME, H2_PONG_TIME, H2_SEND_BYTES_MAX, H2_STREAMS_MAX, H2_WINDOW_BYTES, TICK,
};
use super::reach::Reach;
use super::recorded;
use super::upstream::Streams;
use super::{Front, Protocol};
use crate::access_log::Guest;
use crate::policy::Course;

/// How a visitor's connection ended.
#[derive(Debug)]
#[must_use]
pub enum Ending<IO> {
    /// In order; it is closed already.
    Closed,
    /// In the middle of something whose end the visitor would take for a clean one (an upgraded connection, an HTTP/1.0
    /// response of unknown length): the caller has to reset it, by setting SO_LINGER to zero and dropping it.
    Cut(IO),
}

/// Serves a visitor's connection until it ends. Behind TLS, `io` is the decrypted side.
///
/// Nothing of a request is passed on before its head is complete and the policies have let it through. Dropping the future
/// ends the connection and aborts its requests, but not a connection that has been upgraded.
pub async fn serve<R, IO>(reach: Arc<R>, io: IO, front: Front) -> Ending<IO>
where
    R: Reach,
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let guest = reach.ledger().map(|ledger| Guest::new(ledger, front.visitor, front.scheme));
    // The connection's bytes are counted where somebody wants to know.
    let course = guest.as_ref().map_or_else(Course::begin, Guest::course);
    let activity = Arc::new(Activity::new(course));
    let (io, returned) = Lent::new(io, Arc::clone(&activity));
    let streams = Arc::new(Streams::default());
    let errands = Errand { reach: Arc::clone(&reach), front: front.clone(), streams: Arc::clone(&streams), hops: 0 };
    let client = Client {
        reach,
        front,
        streams,
        errands: Arc::new(errands),
        activity,
        guest: guest.map(Arc::new),
        switched: Arc::new(AtomicBool::new(false)),
        cut: Arc::new(AtomicBool::new(false)),
    };
    let cut = Arc::clone(&client.cut);
    run(Arc::new(client), io).await;
    // An upgraded connection is still in use here.
    match returned.await {
        Ok(io) if cut.load(Ordering::Relaxed) => Ending::Cut(io),
        Ok(_) | Err(_) => Ending::Closed,
    }
}

async fn run<R, IO>(client: Arc<Client<R>>, io: Lent<IO>)
where
    R: Reach,
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let limits = client.front.limits;
    let (io, is_h2) = match client.front.protocol {
        Protocol::Http1 => (Rewound::unread(io), false),
        Protocol::Http2 => (Rewound::unread(io), true),
        Protocol::Detect => match tokio::time::timeout(limits.head_time, Rewound::sniff(io)).await {
            Ok(Ok(sniffed)) => sniffed,
            Ok(Err(_)) | Err(_) => return,
        },
    };
    if is_h2 {
        run_http2(client, io).await;
    } else {
        run_http1(client, io).await;
    }
}

async fn run_http1<R, IO>(client: Arc<Client<R>>, io: IO)
where
    R: Reach,
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let limits = client.front.limits;
    let io = Guard::new(io, limits.head_bytes_max, limits.head_time, Arc::clone(&client.switched));
    let service = {
        let client = Arc::clone(&client);
        service_fn(move |request: Request<Incoming>| {
            let client = Arc::clone(&client);
            async move { recorded::answer(&client, request).await }
        })
    };
    let connection = http1::Builder::new()
        // The guard has its own clock for heads: hyper's runs on idle connections too.
        .header_read_timeout(None)
        .max_buf_size(H1_BUFFER_BYTES_MAX.max(limits.head_bytes_max))
        .max_header_size(limits.head_bytes_max)
        .title_case_headers(true)
        .preserve_header_case(true)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let mut watch = Watch::new(&client, Activity::idle);
    loop {
        tokio::select! {
            result = connection.as_mut() => return log(result),
            event = watch.next() => match event {
                Event::Finish => connection.as_mut().graceful_shutdown(),
                Event::Drop => return,
            },
        }
    }
}

async fn run_http2<R, IO>(client: Arc<Client<R>>, io: IO)
where
    R: Reach,
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let limits = client.front.limits;
    let service = {
        let client = Arc::clone(&client);
        service_fn(move |request: Request<Incoming>| {
            let client = Arc::clone(&client);
            async move { recorded::answer(&client, request).await }
        })
    };
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(H2_STREAMS_MAX)
        .initial_stream_window_size(H2_WINDOW_BYTES)
        .initial_connection_window_size(H2_WINDOW_BYTES)
        .max_send_buf_size(H2_SEND_BYTES_MAX)
        .max_header_list_size(u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX))
        .keep_alive_interval(H2_PING_TIME)
        .keep_alive_timeout(H2_PONG_TIME)
        .serve_connection(TokioIo::new(io), service);
    let mut connection = std::pin::pin!(connection);
    // Pings keep the connection from being lost, not from being idle.
    let mut watch = Watch::new(&client, Activity::without_payload);
    loop {
        tokio::select! {
            result = connection.as_mut() => return log(result),
            event = watch.next() => match event {
                Event::Finish => connection.as_mut().graceful_shutdown(),
                Event::Drop => return,
            },
        }
    }
}

fn log(result: hyper::Result<()>) {
    if let Err(error) = result {
        tracing::debug!(%error, "a visitor's connection ended");
    }
}

/// Watches the clocks of one connection.
struct Watch<'a, R> {
    client: &'a Client<R>,
    /// For how long the connection has been idle.
    idle: fn(&Activity) -> Duration,
    draining: Option<Pin<Box<dyn Future<Output = ()> + Send + 'a>>>,
    tick: Interval,
    is_finishing: bool,
}

/// What a [`Watch`] wants done with its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// It is to take no further request, and to close once it has answered the ones it has.
    Finish,
    /// It is to be dropped.
    Drop,
}

impl<'a, R: Reach> Watch<'a, R> {
    fn new(client: &'a Client<R>, idle: fn(&Activity) -> Duration) -> Self {
        let limits = &client.front.limits;
        let period = TICK.min(limits.idle_time / 4).min(limits.head_time / 4).max(TICK_MIN);
        let mut tick = tokio::time::interval(period);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { client, idle, draining: Some(Box::pin(client.reach.draining())), tick, is_finishing: false }
    }

    /// Waits until something is to be done. It may be dropped and called again.
    async fn next(&mut self) -> Event {
        loop {
            let draining = async {
                match &mut self.draining {
                    Some(draining) => draining.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = draining => {
                    self.draining = None;
                    if !self.is_finishing {
                        self.is_finishing = true;
                        return Event::Finish;
                    }
                }
                _ = self.tick.tick() => {
                    self.client.streams.sweep(self.client.front.limits.idle_time);
                    if let Some(event) = self.judge() {
                        return event;
                    }
                }
            }
        }
    }

    fn judge(&mut self) -> Option<Event> {
        let activity = &self.client.activity;
        let limits = &self.client.front.limits;
        if activity.without_request().is_some_and(|time| time >= limits.head_time) {
            return Some(Event::Drop);
        }
        // A request that waits for its response has a deadline of its own, which answers it.
        if (self.idle)(activity) < limits.idle_time || activity.is_waiting() {
            return None;
        }
        if activity.has_requests() {
            // The visitor must not take a response that stands still for one that is complete.
            self.client.cut.store(true, Ordering::Relaxed);
            return Some(Event::Drop);
        }
        if self.is_finishing {
            return Some(Event::Drop);
        }
        self.is_finishing = true;
        Some(Event::Finish)
    }
}

/// However short the limits are set, looking at them must not become work.
const TICK_MIN: Duration = Duration::from_millis(10);
