//! What it costs to count one request, and to have a line of the access log for it: `cargo bench -p adit-gateway --bench visit`.
//!
//! It does for each request what the gateway does for one that a rule forwards to an agent through a stream that is there, on as many
//! threads as there are cores, because counters that several cores count in cost more than those of one. Each thread has one visitor's
//! connection; what is done once for a connection is not counted in. `bench/observed` sets it against what a
//! request costs the gateway in all.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use adit::endpoint_url::{EndpointUrl, Scheme};
use adit_gateway::access_log::{Ending, Guest, Place, Site, Visit};
use adit_gateway::http::reach::{GatewayId, Location, PublicEndpoint, SessionId, Target, Visitor};
use adit_gateway::ledger::{AccessLogConfig, Ledger, LedgerConfig};
use adit_gateway::metrics::Queue;
use adit_gateway::policy::{Course, Decided};
use http::StatusCode;

fn main() {
    // `cargo test --benches` runs it, too, and wants to know no more than that it works.
    let is_test = !std::env::args().any(|argument| argument == "--bench");
    let (batches, requests) = if is_test { (1, 10) } else { (BATCHES, REQUESTS) };
    let folder = tempfile::tempdir().unwrap();
    let silent = Arc::new(Ledger::default());
    let writing = Arc::new(Ledger::default());
    let place = Place::File(folder.path().join("access.log"));
    let access = Some(AccessLogConfig { place, has_query: false });
    writing.start_logs(&LedgerConfig { access, audit: None }).unwrap();
    for (name, ledger) in [("counting", silent), ("counting and a line", writing)] {
        let mut times: Vec<Duration> = (0..batches).map(|_| batch(&ledger, requests)).collect();
        times.sort_unstable();
        println!("{name}: {} ns per request", times[times.len() / 2].as_nanos());
        ledger.finish(Duration::from_secs(60));
    }
}

/// The time of one request, where every core has so many one after the other.
fn batch(ledger: &Arc<Ledger>, requests: u32) -> Duration {
    let cores = thread::available_parallelism().unwrap().get();
    let threads: Vec<_> = (0..cores)
        .map(|_| {
            let ledger = Arc::clone(ledger);
            thread::spawn(move || {
                let request = Request::new();
                let guest = Arc::new(Guest::new(ledger, request.visitor, Scheme::Http));
                let course = guest.course();
                let begin = Instant::now();
                for _ in 0..requests {
                    request.pass(&guest, &course);
                }
                begin.elapsed()
            })
        })
        .collect();
    let time: Duration = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    wait_for_lines(ledger, u64::from(requests) * cores as u64);
    time / requests / u32::try_from(cores).unwrap()
}

/// Waits until the lines of this batch are written, so that the next one finds an empty queue and loses none.
fn wait_for_lines(ledger: &Ledger, batch: u64) {
    let written = || ledger.metrics().written.count(Queue::AccessLog);
    while ledger.access().is_some() && (written() == 0 || written() % batch != 0) {
        thread::yield_now();
    }
}

/// A request that a rule forwards to an agent.
struct Request {
    visitor: Visitor,
    head: http::request::Parts,
    endpoint: PublicEndpoint,
    target: Target,
    site: Site,
}

impl Request {
    fn new() -> Self {
        let address = SocketAddr::from(([10, 1, 2, 3], 40_000));
        let visitor = Visitor { peer: address, local: address, number: 3_774_873_600_000_000 };
        let head = http::Request::get("/a/file").header("Host", "api.example.com").body(()).unwrap().into_parts().0;
        let target = |url: &str| Target {
            location: Location { gateway: GatewayId::Local, session: SessionId(12), bind: "ep_1".into() },
            url: EndpointUrl::parse(url).unwrap(),
            account: "clinics".into(),
            forwards_to: "http://127.0.0.1:8080".into(),
            forwards_proto: "".into(),
            client_type: "adit".into(),
            policy: None,
        };
        Self {
            visitor,
            head,
            endpoint: PublicEndpoint::Agent(target("https://api.example.com")),
            target: target("https://api.site-7.internal"),
            site: Site { credential: "north".into(), instance: Some("box-7".into()) },
        }
    }

    fn pass(&self, guest: &Arc<Guest>, course: &Course) {
        let visit = Visit::request(guest, &self.head);
        course.came(HEAD_BYTES);
        visit.came_to(&self.endpoint);
        let decided = Decided { phase: "on_http_request", place: 0, name: None, verdict: "forward" };
        visit.decided(&self.endpoint, &decided);
        // The clock is read for this and nothing else.
        let begin = tokio::time::Instant::now();
        visit.judged(begin.elapsed());
        visit.sent_to(&self.target, || Some(self.site.clone()));
        let begin = tokio::time::Instant::now();
        visit.first_byte(begin.elapsed());
        visit.answered(Some(StatusCode::OK), None);
        visit.sent(HEAD_BYTES);
        course.went(HEAD_BYTES);
        visit.ended(Ending::Done);
    }
}

const BATCHES: u32 = 41;
/// Per thread and batch: fewer than the queue of lines holds while nobody writes, for eight cores.
const REQUESTS: u32 = 1_000;
/// Of a request or a response, about.
const HEAD_BYTES: usize = 200;
