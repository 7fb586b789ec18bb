//! Where things have to stand in a response, before any signature is looked at: nothing that is signed can be somewhere
//! else than what is read, because there is no second place.

use std::collections::HashSet;

use uppsala::NodeId;

use super::tree::Tree;
use super::{ASSERTION, DSIG, PROTOCOL, Refusal};

/// The parts of a response.
pub(super) struct Shape {
    pub(super) response: NodeId,
    /// An assertion, plain or encrypted.
    pub(super) assertion: NodeId,
    pub(super) is_encrypted: bool,
}

impl Shape {
    /// Finds the parts of a response, each in the one place where it can be.
    pub(super) fn of(tree: &Tree<'_>) -> Result<Self, Refusal> {
        let response = tree.root();
        if !tree.is(response, PROTOCOL, "Response") {
            return Err(Refusal::form("the message is no Response of SAML 2.0"));
        }
        if tree.all(PROTOCOL, "Response").len() > 1 {
            return Err(Refusal::form("there is a second Response inside of the first"));
        }
        let (plain, encrypted) = (tree.all(ASSERTION, "Assertion"), tree.all(ASSERTION, "EncryptedAssertion"));
        let (assertion, is_encrypted) = match (plain.as_slice(), encrypted.as_slice()) {
            ([one], []) => (*one, false),
            ([], [one]) => (*one, true),
            ([], []) => {
                // A provider that says no has nothing to vouch for: its word is the reason.
                super::response::check_status(tree, response)?;
                return Err(Refusal::form("there is no assertion"));
            }
            _ => return Err(Refusal::form("there is more than one assertion")),
        };
        if tree.document.parent(assertion) != Some(response) {
            return Err(Refusal::form("the assertion is not right inside of the Response"));
        }
        check_ids(tree)?;
        check_signatures(tree, &[response, assertion])?;
        Ok(Self { response, assertion, is_encrypted })
    }
}

/// A signature names what it signs by its ID: there must be no second one.
pub(super) fn check_ids(tree: &Tree<'_>) -> Result<(), Refusal> {
    let mut seen = HashSet::new();
    for node in tree.elements() {
        let Some(element) = tree.document.element(node) else { continue };
        for attribute in &element.attributes {
            let name = attribute.name.local_name.to_ascii_lowercase();
            if matches!(name.as_str(), "id" | "assertionid") && !seen.insert(attribute.value.to_string()) {
                return Err(Refusal::form("two elements have the same ID"));
            }
        }
    }
    Ok(())
}

/// Signatures stand right inside of what they sign.
pub(super) fn check_signatures(tree: &Tree<'_>, signable: &[NodeId]) -> Result<(), Refusal> {
    let mut owners = Vec::new();
    for signature in tree.all(DSIG, "Signature") {
        let owner = tree.document.parent(signature).filter(|owner| signable.contains(owner));
        let Some(owner) = owner else {
            return Err(Refusal::signature("a Signature is neither right inside of the Response nor of the assertion"));
        };
        if owners.contains(&owner) {
            return Err(Refusal::signature("an element has two Signatures"));
        }
        owners.push(owner);
    }
    Ok(())
}
