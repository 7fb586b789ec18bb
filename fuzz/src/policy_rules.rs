//! Documents composed from the grammar, over requests of any kind.

use adit::endpoint_url::EndpointUrl;
use adit_gateway::policy::{Place, Policy};
use http::{HeaderValue, Method, Uri};

use crate::input::Input;
use crate::policy::run;
use crate::policy_grammar::Composer;

/// Composes a document from the greater part of the input and a request from the rest, and runs the one over the other.
pub fn policy_rules(data: &[u8]) {
    let (for_request, for_document) = data.split_at(data.len() / 4);
    let document = Composer::new(for_document).document();
    for url in ["https://app.example.test", "tcp://example.test:7", "https://app.internal"] {
        let Ok(url) = EndpointUrl::parse(url) else { panic!("the target's own {url} is refused") };
        for place in [Place::cloud(&url), Place::agent(&url)] {
            // As text, too: what the tree says must not depend on how it is written.
            let compiled = Policy::from_value(&document, place);
            let read = Policy::parse(&document.to_string(), place);
            assert_eq!(compiled.is_ok(), read.is_ok(), "{document}");
            if let Ok(policy) = compiled {
                run(&policy, &url, request(for_request));
            }
        }
    }
}

/// A request made of the input; whatever cannot be said in HTTP is left out.
fn request(data: &[u8]) -> http::Request<()> {
    let mut input = Input(data);
    let mut request = http::Request::new(());
    let methods = [Method::GET, Method::POST, Method::OPTIONS, Method::from_bytes(b"X-ANY").unwrap_or_default()];
    request.method_mut().clone_from(&methods[input.below(methods.len())]);
    let path_len = input.below(200);
    let path: Vec<u8> = input.bytes(path_len).iter().map(|byte| byte & 0x7f).collect();
    if let Ok(uri) = Uri::try_from([b"/", &path[..]].concat().as_slice()) {
        *request.uri_mut() = uri;
    }
    let names = ["host", "x-a", "x-b", "cookie", "content-type", "authorization", "user-agent", "content-length"];
    while !input.is_empty() && request.headers().len() < HEADERS_MAX {
        let name = names[input.below(names.len())];
        let len = input.below(300);
        if let Ok(value) = HeaderValue::from_bytes(input.bytes(len)) {
            request.headers_mut().append(name, value);
        }
    }
    request
}

/// As many as the gateway takes of a visitor.
const HEADERS_MAX: usize = 100;
