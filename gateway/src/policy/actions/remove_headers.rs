//! `remove-headers`: takes headers out of the request or the response.

use http::HeaderName;

use super::super::error::{HEADER_NAME, HEADERS_TOO_MANY};
use super::super::expression::Value;
use super::super::fields::Fields;
use super::super::phase::Phase;
use super::super::place::Place;
use super::super::run::Run;
use super::{Action, HTTP, Kind, Outcome, header};

pub(super) const KIND: Kind = Kind { name: "remove-headers", phases: HTTP, compile };

#[derive(Debug)]
struct RemoveHeaders {
    names: Vec<HeaderName>,
}

impl Action for RemoveHeaders {
    fn protects(&self) -> bool {
        true
    }

    fn run<'r>(&'r self, run: &'r mut Run<'_, '_, '_>) -> Outcome<'r> {
        if let Some(headers) = run.headers() {
            let removed = self.names.iter().filter(|name| headers.remove(*name).is_some());
            let removed = Value::list(removed.map(|name| Value::text(name.as_str())));
            run.set_result("remove_headers", Value::map([("headers_removed", removed)]));
        }
        Outcome::NEXT
    }
}

fn compile(fields: &mut Fields<'_>, _phase: Phase, _place: Place) -> Option<Box<dyn Action>> {
    let mut names = Vec::new();
    for (index, name) in fields.list("headers", 1..=HEADERS_MAX, HEADERS_TOO_MANY) {
        match header::parse_changeable(name, true) {
            Ok(name) => names.push(name),
            Err(message) => fields.wrong_item("headers", index, HEADER_NAME, message),
        }
    }
    Some(Box::new(RemoveHeaders { names }))
}

/// As in ngrok's reference.
const HEADERS_MAX: usize = 10;
