//! `deny`: refuses the traffic. HTTP gets a status and no body, TCP and TLS a closed connection.

use http::StatusCode;

use super::super::Verdict;
use super::super::fields::Fields;
use super::super::phase::Phase;
use super::super::place::Place;
use super::super::run::Run;
use super::{Action, Kind, Outcome};

pub(super) const KIND: Kind = Kind { name: "deny", phases: &[Phase::TcpConnect, Phase::HttpRequest], compile };

#[derive(Debug)]
struct Deny {
    status: StatusCode,
}

impl Action for Deny {
    fn is_terminating(&self) -> bool {
        true
    }

    fn protects(&self) -> bool {
        true
    }

    fn run<'r>(&'r self, _run: &'r mut Run<'_, '_, '_>) -> Outcome<'r> {
        Outcome::end(Verdict::Deny { status: self.status })
    }
}

fn compile(fields: &mut Fields<'_>, phase: Phase, _place: Place) -> Option<Box<dyn Action>> {
    let status = match phase {
        Phase::TcpConnect => StatusCode::FORBIDDEN,
        // 1xx would not end the exchange.
        Phase::HttpRequest | Phase::HttpResponse => fields.status("status_code", 200..=599, StatusCode::FORBIDDEN),
    };
    Some(Box::new(Deny { status }))
}
