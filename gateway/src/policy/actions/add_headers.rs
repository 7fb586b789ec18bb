//! `add-headers`: adds headers to the request or the response; what is there stays, but for `host`.

use http::header::HOST;

use super::super::error::HEADER_NAME;
use super::super::expression::{Fault, Value};
use super::super::fields::Fields;
use super::super::phase::Phase;
use super::super::place::Place;
use super::super::run::Run;
use super::header::{self, Headers};
use super::{Action, HTTP, Kind, Outcome};

pub(super) const KIND: Kind = Kind { name: "add-headers", phases: HTTP, compile };

#[derive(Debug)]
struct AddHeaders {
    headers: Headers,
}

impl Action for AddHeaders {
    fn run<'r>(&'r self, run: &'r mut Run<'_, '_, '_>) -> Outcome<'r> {
        let added = match header::render(&self.headers, run) {
            Ok(added) => added,
            Err(fault) => return Outcome::failed("headers", &fault),
        };
        let shown =
            added.iter().map(|(name, value)| (name.as_str(), Value::text(&String::from_utf8_lossy(value.as_bytes()))));
        let result = Value::map([("headers_added", Value::map(shown))]);
        let Some(headers) = run.headers() else { return Outcome::NEXT };
        for (name, value) in added {
            let is_full = if name == HOST {
                headers.try_insert(name, value).is_err()
            } else {
                headers.try_append(name, value).is_err()
            };
            if is_full {
                return Outcome::failed("headers", &Fault::Invalid("there is no room for another header".into()));
            }
        }
        run.set_result("add_headers", result);
        Outcome::NEXT
    }
}

fn compile(fields: &mut Fields<'_>, phase: Phase, _place: Place) -> Option<Box<dyn Action>> {
    let headers = header::read(fields, "headers", 1);
    for (name, _) in &headers {
        let is_odd_host = *name == HOST && phase == Phase::HttpResponse;
        match header::parse_changeable(name.as_str(), is_odd_host) {
            Ok(_) if is_odd_host => fields.wrong_entry("headers", "host", HEADER_NAME, "is not a header of responses"),
            Ok(_) => {}
            Err(message) => fields.wrong_entry("headers", name.as_str(), HEADER_NAME, message),
        }
    }
    Some(Box::new(AddHeaders { headers }))
}
