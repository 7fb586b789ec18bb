//! A policy document that the command line names, read as the running gateway would read it.

use adit::endpoint_url::EndpointUrl;
use adit_gateway::acl::Acl;
use adit_gateway::config::{self, Config};
use adit_gateway::policy::{DOCUMENT_BYTES_MAX, Place, Policy};

use crate::cli::Document;

/// Reads and compiles the document for an endpoint.
///
/// # Errors
///
/// What is wrong with a file, or with the document in it; a line for each.
pub(crate) fn read(document: &Document, endpoint: &EndpointUrl) -> Result<Policy, String> {
    let name = document.file.display();
    let text = config::bounded_text(&document.file, DOCUMENT_BYTES_MAX);
    let text = text.map_err(|expected| format!("{name}: {expected}"))?;
    let config = match &document.config {
        Some(file) => Some(Config::load(file).map_err(|errors| errors.to_string())?.0),
        None => None,
    };
    let allows_outside = config.as_ref().is_some_and(|config| config.policies.outside_requests);
    let place = if document.agent { Place::agent(endpoint) } else { Place::cloud(endpoint) };
    let place = place.going_outside(document.outside_requests || allows_outside);
    let directory = document.file.parent().filter(|_| !document.agent);
    let parsed = match (&config, directory) {
        (Some(config), Some(directory)) => Policy::parse_with(&text, place, &config.own, directory),
        _ => Policy::parse_in(&text, place, directory),
    };
    let policy = parsed.map_err(|errors| {
        let lines: Vec<String> = errors.to_string().lines().map(|line| format!("{name}: {line}")).collect();
        lines.join("\n")
    })?;
    check_targets(document, &policy).map_err(|error| format!("{name}: {error}"))?;
    Ok(policy)
}

/// The gateway refuses a Bind whose policy leads to an endpoint that its credential could not bind.
fn check_targets(document: &Document, policy: &Policy) -> Result<(), String> {
    if document.acl.is_empty() {
        return Ok(());
    }
    let acl = Acl::new(document.acl.clone());
    for target in policy.forwards_to() {
        acl.check(target).map_err(|refusal| format!("{refusal}: the traffic policy forwards to {target}"))?;
    }
    Ok(())
}
