//! XML signatures, of the one form that SAML has (SAML Core, 5.4): enveloped, about the element around it, exclusive
//! canonical form. Everything else is refused before the library sees it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bergshamra::keys::{Key, KeysManager};
use bergshamra::xml::NodeSet;
use bergshamra::{DsigContext, VerifyResult};
use bergshamra_c14n::C14nMode;
use ring::digest::{self, digest};
use subtle::ConstantTimeEq;
use uppsala::NodeId;

use super::tree::Tree;
use super::{DSIG, Refusal};

/// A signature as it has to be.
struct Profile {
    digest: &'static digest::Algorithm,
    value: Vec<u8>,
    /// Prefixes that are kept where nothing uses them.
    prefixes: Vec<String>,
}

/// Verifies all signatures of a document. `true` for elements that are signed.
///
/// [`check_signatures`](super::shape::check_signatures) has to come first.
///
/// # Errors
///
/// One of them is not as it has to be, or by somebody else.
pub(super) fn verify_all(tree: &Tree<'_>, keys: &[Key]) -> Result<Vec<NodeId>, Refusal> {
    let signatures = tree.all(DSIG, "Signature");
    if signatures.is_empty() {
        return Ok(Vec::new());
    }
    for signature in &signatures {
        profile(tree, *signature)?;
    }
    let mut manager = KeysManager::new();
    manager.add_keys(keys.iter().cloned());
    // Keys of the document do not count, and references lead to what is around the signature.
    let context = DsigContext::new(manager);
    let results = bergshamra::dsig::verify::verify_all_document_with_source(&context, &tree.document, Some(tree.text));
    let results = results.map_err(|error| Refusal::signature(format!("the signatures cannot be read: {error}")))?;
    if results.len() != signatures.len() {
        return Err(Refusal::signature("a signature was not looked at"));
    }
    signatures.iter().zip(&results).map(|(signature, result)| signed_element(tree, *signature, result)).collect()
}

/// The element that a signature is about, which is the one around it.
fn signed_element(tree: &Tree<'_>, signature: NodeId, result: &VerifyResult) -> Result<NodeId, Refusal> {
    let (found, references) = match result {
        VerifyResult::Valid { signature_node, references, .. } => (*signature_node, references),
        VerifyResult::Invalid { reason } if reason.contains("digest") => {
            return Err(Refusal::signature("what is signed was changed: its digest is another one"));
        }
        VerifyResult::Invalid { .. } => {
            return Err(Refusal::signature("no key of the provider's metadata has made the signature"));
        }
    };
    let owner = tree.document.parent(signature);
    match (owner, references.as_slice()) {
        (Some(owner), [one]) if found == signature && one.digest_verified && one.resolved_node == Some(owner) => {
            Ok(owner)
        }
        _ => Err(Refusal::signature("the signature is about something else than the element around it")),
    }
}

/// The canonical form of a signed element: exactly the bytes whose digest is in its signature.
///
/// # Errors
///
/// They have another digest, which is a mistake of the library.
pub(super) fn signed_bytes(tree: &Tree<'_>, element: NodeId) -> Result<Vec<u8>, Refusal> {
    let signature = tree.required(element, DSIG, "Signature").map_err(Refusal::signature)?;
    let profile = profile(tree, signature)?;
    let all = NodeSet::tree_without_comments(element, &tree.document);
    let mut own = NodeSet::tree_without_comments(signature, &tree.document);
    own.set_exclude_attrs(false);
    let bytes = canonical(tree, &all.subtract(&own), &profile.prefixes)?;
    let found = digest(profile.digest, &bytes);
    if bool::from(found.as_ref().ct_eq(&profile.value)) {
        Ok(bytes)
    } else {
        Err(Refusal::signature("the bytes that would be read are not those that are signed"))
    }
}

/// The canonical form of an element that is not signed by itself.
pub(super) fn bytes(tree: &Tree<'_>, element: NodeId) -> Result<Vec<u8>, Refusal> {
    canonical(tree, &NodeSet::tree_without_comments(element, &tree.document), &[])
}

fn canonical(tree: &Tree<'_>, nodes: &NodeSet, prefixes: &[String]) -> Result<Vec<u8>, Refusal> {
    let bytes = bergshamra_c14n::canonicalize_doc(&tree.document, C14nMode::Exclusive, Some(nodes), prefixes);
    bytes.map_err(|_| Refusal::signature("the canonical form cannot be made"))
}

fn profile(tree: &Tree<'_>, signature: NodeId) -> Result<Profile, Refusal> {
    let wrong = |reason: &str| Refusal::signature(format!("a signature is not of SAML's form: {reason}"));
    let part = |node, name| tree.required(node, DSIG, name).map_err(|reason| wrong(&reason));
    let algorithm = |node, name| Ok::<_, Refusal>(tree.attribute(part(node, name)?, "Algorithm").unwrap_or_default());
    let info = part(signature, "SignedInfo")?;
    if tree.children(signature).any(|child| tree.is(child, DSIG, "Object")) {
        return Err(wrong("it has an Object"));
    }
    if algorithm(info, "CanonicalizationMethod")? != EXCLUSIVE {
        return Err(wrong("SignedInfo is not in exclusive canonical form"));
    }
    let method = algorithm(info, "SignatureMethod")?;
    if !METHODS.contains(&method) {
        return Err(Refusal::signature(format!("the signature's algorithm is not taken: {}", shown(method))));
    }
    let reference = part(info, "Reference")?;
    let owner = tree.document.parent(signature).ok_or_else(|| wrong("nothing is around it"))?;
    let id =
        tree.attribute(owner, "ID").filter(|id| is_name(id)).ok_or_else(|| wrong("the element around it has no ID"))?;
    if tree.attribute(reference, "URI").and_then(|uri| uri.strip_prefix('#')) != Some(id) {
        return Err(Refusal::signature("the signature is about something else than the element around it"));
    }
    let prefixes = transforms(tree, part(reference, "Transforms")?).map_err(|reason| wrong(&reason))?;
    let method = algorithm(reference, "DigestMethod")?;
    let digest = DIGESTS.iter().find(|(name, _)| *name == method);
    let digest =
        digest.ok_or_else(|| Refusal::signature(format!("the digest's algorithm is not taken: {}", shown(method))))?;
    let value = tree.content(part(reference, "DigestValue")?).unwrap_or_default();
    let value: String = value.split_ascii_whitespace().collect();
    let value = STANDARD.decode(value).map_err(|_| wrong("DigestValue is not base64"))?;
    Ok(Profile { digest: digest.1, value, prefixes })
}

/// First the signature is taken out, then the rest is brought into exclusive canonical form. Gives its prefixes.
fn transforms(tree: &Tree<'_>, node: NodeId) -> Result<Vec<String>, String> {
    let all: Vec<NodeId> = tree.children(node).collect();
    let names: Vec<&str> = all.iter().map(|one| tree.attribute(*one, "Algorithm").unwrap_or_default()).collect();
    if names != [ENVELOPED, EXCLUSIVE] || !all.iter().all(|one| tree.is(*one, DSIG, "Transform")) {
        return Err("its transforms are others than enveloped-signature and exclusive canonical form".into());
    }
    let Some(last) = all.last() else { return Ok(Vec::new()) };
    let list = tree.only(*last, EXCLUSIVE, "InclusiveNamespaces")?;
    let list = list.and_then(|node| tree.attribute(node, "PrefixList")).unwrap_or_default();
    Ok(list.split_ascii_whitespace().map(str::to_owned).collect())
}

fn is_name(id: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':');
    (1..=ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(is_plain)
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).flat_map(char::escape_debug).collect()
}

const EXCLUSIVE: &str = "http://www.w3.org/2001/10/xml-exc-c14n#";
const ENVELOPED: &str = "http://www.w3.org/2000/09/xmldsig#enveloped-signature";
/// No SHA-1, no HMAC, no DSA.
const METHODS: &[&str] = &[
    "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256",
    "http://www.w3.org/2001/04/xmldsig-more#rsa-sha384",
    "http://www.w3.org/2001/04/xmldsig-more#rsa-sha512",
    "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256",
    "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384",
    "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha512",
];
const DIGESTS: &[(&str, &digest::Algorithm)] = &[
    ("http://www.w3.org/2001/04/xmlenc#sha256", &digest::SHA256),
    ("http://www.w3.org/2001/04/xmldsig-more#sha384", &digest::SHA384),
    ("http://www.w3.org/2001/04/xmlenc#sha512", &digest::SHA512),
];
const ID_BYTES_MAX: usize = 256;
const SHOWN_CHARS_MAX: usize = 100;
