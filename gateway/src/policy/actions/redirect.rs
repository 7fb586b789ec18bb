//! `redirect`: sends the visitor to another URL.

use std::sync::Arc;

use bytes::Bytes;
use http::header::LOCATION;
use http::{HeaderMap, StatusCode};

use super::super::error::{CONFIG_VALUE, RANGE};
use super::super::expression::Fault;
use super::super::fields::Fields;
use super::super::phase::Phase;
use super::super::place::Place;
use super::super::run::Run;
use super::super::{CustomResponse, Verdict};
use super::header::{self, Headers};
use super::url_rewrite::{self, Rewriting};
use super::{Action, Kind, Outcome};

pub(super) const KIND: Kind = Kind { name: "redirect", phases: &[Phase::HttpRequest], compile };

#[derive(Debug)]
struct Redirect {
    rewriting: Rewriting,
    status: StatusCode,
    headers: Headers,
}

impl Action for Redirect {
    fn protects(&self) -> bool {
        true
    }

    fn run<'r>(&'r self, run: &'r mut Run<'_, '_, '_>) -> Outcome<'r> {
        match self.response(run) {
            Ok(Some(response)) => Outcome::end(Verdict::Respond(Arc::new(response))),
            Ok(None) => Outcome::NEXT,
            Err(fault) => Outcome::failed("to or headers", &fault),
        }
    }
}

impl Redirect {
    /// The answer; none when the URL would be the same.
    fn response(&self, run: &mut Run<'_, '_, '_>) -> Result<Option<CustomResponse>, Fault> {
        let Some(url) = url_rewrite::url_of(run) else { return Ok(None) };
        let Some(new) = self.rewriting.apply(&url, run)?.filter(|new| new.url != url) else { return Ok(None) };
        let mut headers: HeaderMap = header::render(&self.headers, run)?.into_iter().collect();
        headers.insert(LOCATION, header::header_value(&new.url)?);
        run.set_result("redirect", url_rewrite::result(&url, &new.url, new.matches));
        Ok(Some(CustomResponse { status: self.status, headers, body: Bytes::new() }))
    }
}

fn compile(fields: &mut Fields<'_>, _phase: Phase, _place: Place) -> Option<Box<dyn Action>> {
    let rewriting = Rewriting::read(fields);
    let status = fields.status("status_code", 300..=399, StatusCode::FOUND);
    if !STATUSES.contains(&status.as_u16()) {
        fields.wrong("status_code", RANGE, "must be 301, 302, 303, 307 or 308");
    }
    let headers = header::read(fields, "headers", 0);
    if headers.iter().any(|(name, _)| *name == LOCATION) {
        fields.wrong_entry("headers", "location", CONFIG_VALUE, "is set by the action itself: see to");
    }
    Some(Box::new(Redirect { rewriting: rewriting?, status, headers }))
}

const STATUSES: [u16; 5] = [301, 302, 303, 307, 308];
