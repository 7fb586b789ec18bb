//! `close-connection`: ends the connection without an answer.

use super::super::Verdict;
use super::super::fields::Fields;
use super::super::phase::Phase;
use super::super::place::Place;
use super::super::run::Run;
use super::{Action, Kind, Outcome};

pub(super) const KIND: Kind =
    Kind { name: "close-connection", phases: &[Phase::TcpConnect, Phase::HttpRequest], compile };

#[derive(Debug)]
struct CloseConnection;

impl Action for CloseConnection {
    fn is_terminating(&self) -> bool {
        true
    }

    fn protects(&self) -> bool {
        true
    }

    fn run<'r>(&'r self, _run: &'r mut Run<'_, '_, '_>) -> Outcome<'r> {
        Outcome::end(Verdict::Close)
    }
}

fn compile(_fields: &mut Fields<'_>, _phase: Phase, _place: Place) -> Option<Box<dyn Action>> {
    Some(Box::new(CloseConnection))
}
