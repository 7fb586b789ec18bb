//! Assertions that are encrypted for us. What an attacker could learn from trying is kept out: no PKCS#1 1.5 for keys,
//! and CBC, which does not notice changes, only where the ciphertext is signed.

use bergshamra::EncContext;
use bergshamra::keys::{Key, KeysManager};
use uppsala::NodeId;

use super::plain_xml::Comments;
use super::tree::Tree;
use super::{DSIG, Refusal, XMLENC, signature};

/// What an encrypted assertion stood in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Around {
    /// A Response whose signature was verified.
    Signed,
    /// A Response that anybody could have made.
    Unsigned,
}

/// Gives the `EncryptedAssertion` with the assertion in it instead of its ciphertext.
pub(super) fn open(tree: &Tree<'_>, node: NodeId, key: Option<&Key>, around: Around) -> Result<Vec<u8>, Refusal> {
    let Some(key) = key else {
        return Err(Refusal::form("the assertion is encrypted, and the policy has no private_key for it"));
    };
    let alone = signature::bytes(tree, node)?;
    let alone = Tree::parse(&alone, Comments::Refused).map_err(Refusal::form)?;
    check(&alone, around)?;
    let mut manager = KeysManager::new();
    manager.add_key(key.clone());
    let mut context = EncContext::new(manager).with_disable_cipher_reference(true);
    context.max_pbkdf2_iterations = 0;
    // One reason for whatever goes wrong: the difference could tell what the plaintext is.
    bergshamra::decrypt_to_bytes(&context, alone.text)
        .map_err(|_| Refusal::signature("the assertion cannot be decrypted with private_key"))
}

fn check(tree: &Tree<'_>, around: Around) -> Result<(), Refusal> {
    let wrong =
        |reason: String| Refusal::form(format!("the assertion is encrypted in a form that is not taken: {reason}"));
    let root = tree.root();
    let data = tree.required(root, XMLENC, "EncryptedData").map_err(wrong)?;
    if tree.attribute(data, "Type") != Some(ELEMENT) || tree.all(XMLENC, "EncryptedData").len() != 1 {
        return Err(wrong("it is not one element".into()));
    }
    let method = method(tree, data).map_err(wrong)?;
    match (CIPHERS.contains(&method), CBC.contains(&method), around) {
        (true, _, _) | (_, true, Around::Signed) => {}
        (_, true, Around::Unsigned) => {
            return Err(wrong("CBC counts only inside of a signed Response; use AES-GCM".into()));
        }
        (false, false, _) => return Err(wrong("the cipher is not AES-GCM".into())),
    }
    let keys = tree.all(XMLENC, "EncryptedKey");
    let [key] = keys.as_slice() else { return Err(wrong("it has not one EncryptedKey".into())) };
    let method = self::method(tree, *key).map_err(wrong)?;
    if !TRANSPORTS.contains(&method) {
        return Err(wrong("its key is not encrypted with RSA-OAEP".into()));
    }
    let info = tree.required(data, DSIG, "KeyInfo").map_err(wrong)?;
    // The one key, in place or by its ID.
    let id = tree.attribute(*key, "Id");
    let is_reference = |node| {
        let uri = tree.attribute(node, "URI").and_then(|uri| uri.strip_prefix('#'));
        tree.is(node, DSIG, "RetrievalMethod") && uri.is_some() && uri == id
    };
    let is_known = |node| *key == node || is_reference(node);
    if tree.children(info).any(|node| !is_known(node)) {
        return Err(wrong("its KeyInfo has more than an EncryptedKey".into()));
    }
    Ok(())
}

fn method<'t>(tree: &'t Tree<'_>, node: NodeId) -> Result<&'t str, String> {
    let method = tree.required(node, XMLENC, "EncryptionMethod")?;
    Ok(tree.attribute(method, "Algorithm").unwrap_or_default())
}

const ELEMENT: &str = "http://www.w3.org/2001/04/xmlenc#Element";
const CIPHERS: &[&str] = &[
    "http://www.w3.org/2009/xmlenc11#aes128-gcm",
    "http://www.w3.org/2009/xmlenc11#aes192-gcm",
    "http://www.w3.org/2009/xmlenc11#aes256-gcm",
];
const CBC: &[&str] = &[
    "http://www.w3.org/2001/04/xmlenc#aes128-cbc",
    "http://www.w3.org/2001/04/xmlenc#aes192-cbc",
    "http://www.w3.org/2001/04/xmlenc#aes256-cbc",
];
const TRANSPORTS: &[&str] =
    &["http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p", "http://www.w3.org/2009/xmlenc11#rsa-oaep"];
