//! The actions, and the one mechanism that all of them use: a [`Kind`] that reads the configuration, and an [`Action`]
//! that runs.

mod custom_response;
mod deny;
mod forward_internal;

use std::fmt;

use adit::endpoint_url::EndpointUrl;

use super::document::Place;
use super::fields::Fields;
use super::phase::{Phase, Step, Subject};

/// One action of a compiled policy.
pub(super) trait Action: fmt::Debug + Send + Sync {
    /// True when whatever comes behind it can never run.
    fn is_terminating(&self) -> bool;

    /// The internal endpoint that it may hand traffic to.
    fn forwards_to(&self) -> Option<&EndpointUrl> {
        None
    }

    /// Does its work. It is called only in the phases that its [`Kind`] names.
    fn run(&self, subject: &mut Subject<'_, '_>) -> Step;
}

/// One type of action.
#[derive(Debug)]
pub(super) struct Kind {
    /// Its name in documents.
    pub(super) name: &'static str,
    /// The phases that it works in.
    pub(super) phases: &'static [Phase],
    /// Reads its configuration, noting what is wrong; `None` only if something was noted.
    pub(super) compile: fn(&mut Fields<'_>, Phase, Place) -> Option<Box<dyn Action>>,
}

/// Finds a type of action by its name in documents.
pub(super) fn kind(name: &str) -> Option<&'static Kind> {
    KINDS.iter().copied().find(|kind| kind.name == name)
}

/// The names of all actions that work in a phase, for an error message.
pub(super) fn names(phase: Phase) -> String {
    let names: Vec<&str> = KINDS.iter().filter(|kind| kind.phases.contains(&phase)).map(|kind| kind.name).collect();
    names.join(", ")
}

/// Every action there is.
const KINDS: &[&Kind] = &[&custom_response::KIND, &deny::KIND, &forward_internal::KIND];
