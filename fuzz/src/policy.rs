//! Traffic Policy documents, as operators write them and as agents send them, on every kind of endpoint; those that are
//! accepted run over a request and its response.

use std::sync::Arc;

use adit::endpoint_url::EndpointUrl;
use adit_gateway::policy::{
    Asking, Connection, Errands, Payload, Place, Policy, Position, Reading, Request, Response, State, Tls, Tools,
};
use bytes::Bytes;

/// Compiles the input for endpoints of every scheme, from the operator's file and from an agent, and runs it.
pub fn policy(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for (url, place) in places() {
        match Policy::parse(text, place) {
            Ok(policy) => run(&policy, &url, request()),
            Err(errors) => assert!(!errors.errors().is_empty(), "a document is refused without a reason"),
        }
    }
}

/// Compiles a document for every kind of endpoint, and runs it where it is accepted.
pub fn run_everywhere(document: &serde_json::Value) {
    for (url, place) in places() {
        match Policy::from_value(document, place) {
            Ok(policy) => run(&policy, &url, request()),
            Err(errors) => assert!(!errors.errors().is_empty(), "a document is refused without a reason"),
        }
    }
}

fn places() -> impl Iterator<Item = (EndpointUrl, Place)> {
    let urls =
        ["https://app.example.test", "http://app.example.test", "tls://app.example.test", "tcp://example.test:7"];
    urls.into_iter().flat_map(|url| {
        let Ok(url) = EndpointUrl::parse(url) else { panic!("the target's own {url} is refused") };
        [Place::cloud(&url), Place::agent(&url)].map(|place| (url.clone(), place))
    })
}

fn request() -> http::Request<()> {
    let request = http::Request::post("/a%20b/c?x=1&y=%26&x=two")
        .header("host", "app.example.test:8443")
        .header("cookie", "a=1; b=2; a=3")
        .header("authorization", "Basic YTpiYmJiYmJiYg==")
        .header("accept-encoding", "gzip;q=0.5, br, *;q=0")
        .header("x-hub-signature-256", SIGNATURE)
        .header("stripe-signature", "t=1700000000,v1=00,v1=x")
        .header("content-type", "text/plain; charset=utf-8");
    let Ok(request) = request.body(()) else { panic!("the target's own request is invalid") };
    request
}

/// Runs a policy over a connection, a request on it, and its response.
pub fn run(policy: &Policy, endpoint: &EndpointUrl, request: http::Request<()>) {
    let address = std::net::SocketAddr::from(([192, 0, 2, 1], 1000));
    let connection = Connection {
        peer: address,
        local: address,
        scheme: endpoint.scheme(),
        endpoint,
        bind: None,
        course: None,
        tls: Tls::Unknown,
    };
    let tools = Tools { payload: Some(Arc::new(Around)), errands: Some(Arc::new(Around)), ..Tools::default() };
    let mut state = State::new("main".into(), tools);
    let _ = policy.on_tcp_connect(connection, &mut state, Position::default());
    let Ok(response) = http::Response::builder().status(404).header("set-cookie", "a=1; Path=/; Secure").body(())
    else {
        panic!("the target's own response is invalid")
    };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_time().build() else {
        panic!("there is no runtime")
    };
    runtime.block_on(async {
        let mut head = request.into_parts().0;
        let mut request = Request { connection, head: &mut head };
        let _ = policy.on_http_request(&mut request, &mut state, Position::default()).await;
        let mut answer = response.into_parts().0;
        let mut response = Response { connection, request: &head, head: &mut answer };
        let _ = policy.on_http_response(&mut response, &mut state).await;
    });
}

/// What is around a policy: a body, and endpoints that answer at once.
#[derive(Debug)]
struct Around;

impl Payload for Around {
    fn read_at_most<'a>(&'a self, _account: &'a Arc<str>, _bytes_max: usize) -> Reading<'a> {
        Box::pin(std::future::ready(Ok(Bytes::from_static(b"{\"a\":1}"))))
    }
}

impl Errands for Around {
    fn inside<'a>(&'a self, _: &'a str, _: &'a EndpointUrl, request: http::Request<Bytes>) -> Asking<'a> {
        let mut reply = http::Response::new(request.into_body());
        reply.headers_mut().insert("location", http::HeaderValue::from_static("../next?x"));
        *reply.status_mut() = http::StatusCode::FOUND;
        Box::pin(std::future::ready(Ok(reply)))
    }

    fn hops(&self) -> u8 {
        0
    }

    fn may_go_outside(&self) -> bool {
        false
    }
}

/// That of the body with the secret `s3cret`.
const SIGNATURE: &str = "sha256=5910e62016ef5034272c926c27071992a465c2335cecf41851bda071577f4f6d";
