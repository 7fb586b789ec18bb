//! The policy of an endpoint that is bound and gets no traffic, because its protection cannot be honoured any more.

use http::StatusCode;

use super::actions::{Action, Outcome};
use super::phase::{Placed, Rule};
use super::place::Place;
use super::run::Run;
use super::{Policy, Refused};

impl Policy {
    /// Refuses everything with 503 and a code. The reason is for the log: it may quote what visitors must not learn.
    #[must_use]
    pub fn held(place: Place, code: u32, reason: String) -> Self {
        let held = Some(reason.as_str().into());
        let actions = vec![Placed { name: "held", action: Box::new(Held { code, reason }) }];
        let rules = vec![Rule { name: Some("held back".into()), expressions: Vec::new(), actions }];
        if place.scheme().is_http() {
            return Self { on_http_request: rules, holds_more: true, held, ..Self::default() };
        }
        Self { on_tcp_connect: rules, holds_more: true, held, ..Self::default() }
    }
}

#[derive(Debug)]
struct Held {
    code: u32,
    reason: String,
}

impl Action for Held {
    fn is_terminating(&self) -> bool {
        true
    }

    fn protects(&self) -> bool {
        true
    }

    fn run<'r>(&'r self, _run: &'r mut Run<'_, '_, '_>) -> Outcome<'r> {
        let mut refused = Refused::new(StatusCode::SERVICE_UNAVAILABLE, self.code, MESSAGE);
        refused.reason = Some(self.reason.clone());
        Outcome::refuse(refused)
    }
}

const MESSAGE: &str = "The endpoint is held back: the gateway cannot honour the protection that its agent asks for any \
                       more, and publishes nothing without it. Whoever runs the gateway finds the reason in its log.";
