//! Messages of an identity provider: nobody without its key can make one that says something else than it has said.

use std::sync::OnceLock;

use adit_gateway::login::saml::asked_log_out::{AskedLogOut, Proof};
use adit_gateway::login::saml::log_out::read_answer;
use adit_gateway::login::saml::metadata::Metadata;
use adit_gateway::login::saml::response::{Expected, Vouched};

/// The description of the provider whose key has signed the corpus.
const METADATA: &[u8] = include_bytes!("../../gateway/tests/data/policy/files/idp.xml");
/// When the corpus was signed.
const NOW: i64 = 1_800_000_000;

/// Reads the input as a response, as a description, as the answer to a log-out, and as a log-out that the provider asks for.
pub fn saml_response(data: &[u8]) {
    static PROVIDER: OnceLock<Metadata> = OnceLock::new();
    let provider = PROVIDER.get_or_init(|| match Metadata::read(METADATA, NOW) {
        Ok(metadata) => metadata,
        Err(message) => panic!("{message}"),
    });
    let expected = Expected {
        entity_id: "urn:site",
        acs: "https://app.example.com/acs",
        provider: &provider.entity_id,
        keys: &provider.keys,
        own_key: None,
        now: NOW,
    };
    if let Ok(vouched) = Vouched::read(data, expected) {
        assert_eq!((&*vouched.subject.name, &*vouched.assertion), ("ann", "_a"), "somebody else was logged in");
        assert_eq!((vouched.in_response_to.as_deref(), vouched.session.as_deref()), (Some("_q"), Some("s")));
        let said: Vec<&str> = vouched.attributes.iter().flat_map(|one| &one.values).map(String::as_str).collect();
        assert_eq!(said, ["ann@example.com"], "it says something that was not signed");
    }
    let _ = Metadata::read(data, NOW);
    let _ = read_answer(data, &provider.entity_id);
    let place = ("https://app.example.com/slo", NOW);
    // The provider has signed none.
    assert!(AskedLogOut::read(data, Proof::InMessage, provider, place).is_err(), "a log-out was made up");
    let query = String::from_utf8_lossy(data);
    assert!(AskedLogOut::read(data, Proof::InQuery(&query), provider, place).is_err(), "a query was taken for signed");
}
