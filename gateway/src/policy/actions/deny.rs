//! `deny`: refuses the traffic. HTTP gets a status and no body, TCP and TLS a closed connection.

use http::StatusCode;

use super::super::Verdict;
use super::super::document::Place;
use super::super::fields::Fields;
use super::super::phase::{Phase, Step, Subject};
use super::{Action, Kind};

pub(super) const KIND: Kind = Kind { name: "deny", phases: &[Phase::OnTcpConnect, Phase::OnHttpRequest], compile };

#[derive(Debug)]
struct Deny {
    status: StatusCode,
}

impl Action for Deny {
    fn is_terminating(&self) -> bool {
        true
    }

    fn run(&self, _subject: &mut Subject<'_, '_>) -> Step {
        Step::End(Verdict::Deny { status: self.status })
    }
}

fn compile(fields: &mut Fields<'_>, phase: Phase, _place: Place) -> Option<Box<dyn Action>> {
    let status = match phase {
        Phase::OnTcpConnect => StatusCode::FORBIDDEN,
        // 1xx would not end the exchange.
        Phase::OnHttpRequest => fields.status("status_code", 200..=599, StatusCode::FORBIDDEN),
    };
    Some(Box::new(Deny { status }))
}
