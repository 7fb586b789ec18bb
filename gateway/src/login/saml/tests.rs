//! Responses of a real form, and everything that people have done to them.

use bergshamra::keys::Key;

use super::pretend::{
    ACS, ECDSA, ENTITY, NOW, PROVIDER, Provider, SHA256, Told, attributes, encrypted, own_pair, template,
};
use super::response::{Expected, Vouched};
use super::service::OwnKey;
use super::{Fault, Refusal};

fn read_with(message: &str, keys: &[Key], own_key: Option<&Key>) -> Result<Vouched, Refusal> {
    let expected = Expected { entity_id: ENTITY, acs: ACS, provider: PROVIDER, keys, own_key, now: NOW };
    Vouched::read(message.as_bytes(), expected)
}

fn read(message: &str, provider: &Provider) -> Result<Vouched, Refusal> {
    read_with(message, &provider.keys(), None)
}

#[track_caller]
fn refused(message: &str, provider: &Provider, fault: Fault, reason: &str) {
    let refusal = read(message, provider).unwrap_err();
    assert_eq!(refusal.fault, fault, "{refusal}");
    assert!(refusal.reason.contains(reason), "{reason:?} is not in {refusal}");
}

#[test]
fn signed_response_says_who_it_is() {
    for provider in [Provider::new(), Provider::rsa()] {
        let told = Told::default();
        let both = provider.around(&told, &provider.assertion(&told));
        for message in [provider.response(&told), provider.around(&told, &told.assertion("")), both] {
            let vouched = read(&message, &provider).unwrap();
            assert_eq!((&*vouched.subject.name, &*vouched.assertion), ("ann", "_a1"));
            assert_eq!(vouched.in_response_to.as_deref(), Some("_request"));
            assert_eq!((vouched.session.as_deref(), vouched.expires), (Some("s1"), NOW + 300 + 60));
            let said: Vec<_> = vouched.attributes.iter().map(|one| (&*one.name, &*one.values[0])).collect();
            assert_eq!(said, [("mail", "ann@example.com"), ("groups", "staff")]);
        }
    }
}

#[test]
fn any_key_of_the_metadata_will_do_and_no_other() {
    let (old, new, other) = (Provider::new(), Provider::rsa(), Provider::new());
    let keys = [old.keys(), new.keys()].concat();
    for provider in [&old, &new] {
        assert!(read_with(&provider.response(&Told::default()), &keys, None).is_ok());
    }
    let refusal = read_with(&other.response(&Told::default()), &keys, None).unwrap_err();
    assert_eq!(refusal.fault, Fault::Signature);
    assert!(refusal.reason.contains("no key of the provider's metadata"), "{refusal}");
}

#[test]
fn whatever_is_changed_is_noticed() {
    let provider = Provider::new();
    let good = provider.response(&Told::default());
    for (from, to) in
        [("ann</saml:NameID>", "eve</saml:NameID>"), ("ann@example.com", "eve@example.com"), ("staff", "admin")]
    {
        let changed = good.replace(from, to);
        assert_ne!(changed, good);
        refused(&changed, &provider, Fault::Signature, "its digest is another one");
    }
    let told = Told::default();
    let whole = provider.around(&told, &told.assertion(""));
    refused(&whole.replace("staff", "admin"), &provider, Fault::Signature, "its digest is another one");
    refused(
        &told.response("", &told.assertion("")),
        &provider,
        Fault::Signature,
        "neither the Response nor its assertion",
    );
}

/// An assertion of the attacker's own, without a signature.
fn evil(id: &str) -> String {
    let name = "<saml:NameID>eve</saml:NameID>".to_owned();
    Told { id: id.into(), name, ..Told::default() }.assertion("")
}

/// XSW1 to XSW8, as Somorovsky and others have them (On Breaking SAML, 2012).
#[test]
fn wrapped_signatures_are_refused() {
    let provider = Provider::new();
    let told = Told::default();
    let whole = provider.around(&told, &told.assertion(""));
    let evil_whole =
        whole.replace("ann</saml:NameID>", "eve</saml:NameID>").replace("_r1", "_evil").replace("_a1", "_evil2");
    let signature = cut(&whole, "<ds:Signature", "</ds:Signature>");
    let bare = |text: &str| text.replace(&cut(text, "<ds:Signature", "</ds:Signature>"), "");
    let original = bare(&whole);
    let at_end = |outer: &str, what: &str| outer.replace("</samlp:Response>", &format!("{what}</samlp:Response>"));
    // XSW1 and XSW2: another Response around, the signed one inside of its signature or beside it.
    let moved = signature.replace("</ds:Signature>", &format!("{original}</ds:Signature>"));
    let first = bare(&evil_whole).replace("<samlp:Status>", &format!("{moved}<samlp:Status>"));
    refused(&first, &provider, Fault::Form, "a second Response");
    let second = bare(&evil_whole).replace("<samlp:Status>", &format!("{signature}{original}<samlp:Status>"));
    refused(&second, &provider, Fault::Form, "a second Response");

    let signed = provider.assertion(&told);
    let bare_assertion = bare(&signed);
    let signature = cut(&signed, "<ds:Signature", "</ds:Signature>");
    // XSW3: a second assertion before the signed one.
    let third = told.response("", &format!("{}{signed}", evil("_evil")));
    refused(&third, &provider, Fault::Form, "more than one assertion");
    // XSW4: the signed one inside of the other.
    let fourth = told.response("", &evil("_evil").replace("</saml:Assertion>", &format!("{signed}</saml:Assertion>")));
    refused(&fourth, &provider, Fault::Form, "more than one assertion");
    // XSW5: the signed one, without its signature, behind; the signature in the other.
    let with = evil("_evil").replace("</saml:Issuer>", &format!("</saml:Issuer>{signature}"));
    let fifth = at_end(&told.response("", &with), &bare_assertion);
    refused(&fifth, &provider, Fault::Form, "more than one assertion");
    // XSW6: inside of the signature in the other.
    let moved = signature.replace("</ds:Signature>", &format!("{bare_assertion}</ds:Signature>"));
    let with = evil("_evil").replace("</saml:Issuer>", &format!("</saml:Issuer>{moved}"));
    refused(&told.response("", &with), &provider, Fault::Form, "more than one assertion");
    // XSW7: in an extension.
    let seventh = told.response(&format!("<samlp:Extensions>{}</samlp:Extensions>", evil("_evil")), &signed);
    refused(&seventh, &provider, Fault::Form, "more than one assertion");
    // XSW8: the signed one in an object of the signature in the other.
    let object = format!("<ds:Object>{bare_assertion}</ds:Object></ds:Signature>");
    let moved = signature.replace("</ds:Signature>", &object);
    let with = evil("_evil").replace("</saml:Issuer>", &format!("</saml:Issuer>{moved}"));
    refused(&told.response("", &with), &provider, Fault::Form, "more than one assertion");

    // One assertion, and it is not the one that is signed.
    let with = evil("_evil").replace("</saml:Issuer>", &format!("</saml:Issuer>{signature}"));
    refused(&told.response("", &with), &provider, Fault::Signature, "something else than the element around it");
    // The signature somewhere else.
    let elsewhere =
        told.response("", &bare_assertion).replace("</samlp:Status>", &format!("</samlp:Status><x>{signature}</x>"));
    refused(&elsewhere, &provider, Fault::Signature, "neither right inside");
    // Not right inside of the Response.
    let deeper = told.response("", &format!("<samlp:Extensions>{signed}</samlp:Extensions>"));
    refused(&deeper, &provider, Fault::Form, "not right inside of the Response");
    let twice = told.response("", &signed.replace(&signature, &format!("{signature}{signature}")));
    refused(&twice, &provider, Fault::Signature, "two Signatures");
}

fn cut(text: &str, begin: &str, end: &str) -> String {
    let (from, to) = (text.find(begin).unwrap(), text.find(end).unwrap() + end.len());
    text[from..to].to_owned()
}

#[test]
fn what_makes_two_readers_see_two_texts_is_refused() {
    let provider = Provider::new();
    let name = "<saml:NameID>ann@example.com<!-- -->.evil.example</saml:NameID>".to_owned();
    let comment = provider.response(&Told { name, ..Told::default() });
    refused(&comment, &provider, Fault::Form, "a comment");
    let good = provider.response(&Told::default());
    let dtd = "<!DOCTYPE r [<!ENTITY x SYSTEM \"file:///etc/passwd\">]>";
    refused(&format!("{dtd}{}", good.replace("ann<", "&x;<")), &provider, Fault::Form, "document type");
    refused(&good.replace("ann<", "&x;<"), &provider, Fault::Form, "not well-formed");
    refused(&good.replace("ann<", "<![CDATA[ann]]><"), &provider, Fault::Form, "CDATA");
    refused(&good.replace("ann<", "<b>ann</b><"), &provider, Fault::Signature, "digest");
    let inside = "<saml:NameID>ann<b/></saml:NameID>".to_owned();
    let inside = provider.response(&Told { name: inside, ..Told::default() });
    refused(&inside, &provider, Fault::Claims, "NameID is not a text");
    let nested = format!("{}{}", "<a>".repeat(1_400_000), "</a>".repeat(1_400_000));
    assert!(nested.len() > 9 << 20);
    refused(&nested, &provider, Fault::Form, "more than 262144 bytes");
    let nested = format!("{}{}", "<a>".repeat(30_000), "</a>".repeat(30_000));
    refused(&nested, &provider, Fault::Form, "nested more than");
    let wide = good.replacen("<samlp:Status>", &format!("<samlp:Status {}>", "a=\"\" ".repeat(40)), 1);
    refused(&wide, &provider, Fault::Form, "attributes");
}

#[test]
fn two_elements_with_one_id_are_refused() {
    let provider = Provider::new();
    let told = Told { id: "_r1".into(), ..Told::default() };
    refused(&provider.response(&told), &provider, Fault::Form, "same ID");
    let lower = provider.response(&Told::default()).replace("<samlp:Status>", "<samlp:Status id=\"_a1\">");
    refused(&lower, &provider, Fault::Form, "same ID");
}

#[test]
fn weaker_algorithms_are_refused() {
    let provider = Provider::new();
    let good = provider.response(&Told::default());
    for (from, to) in [
        (ECDSA, "http://www.w3.org/2000/09/xmldsig#rsa-sha1"),
        (ECDSA, "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha1"),
        (ECDSA, "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256"),
        (ECDSA, "http://www.w3.org/2000/09/xmldsig#hmac-sha1"),
        (ECDSA, "http://www.w3.org/2000/09/xmldsig#dsa-sha1"),
    ] {
        refused(&good.replace(from, to), &provider, Fault::Signature, "the signature's algorithm is not taken");
    }
    let weak = good.replace(SHA256, "http://www.w3.org/2000/09/xmldsig#sha1");
    refused(&weak, &provider, Fault::Signature, "the digest's algorithm is not taken");
    let exclusive = "<ds:CanonicalizationMethod Algorithm=\"http://www.w3.org/2001/10/xml-exc-c14n#\"/>";
    let other = "<ds:CanonicalizationMethod Algorithm=\"http://www.w3.org/TR/2001/REC-xml-c14n-20010315\"/>";
    refused(&good.replace(exclusive, other), &provider, Fault::Signature, "canonical form");
    let xslt = good.replace("#enveloped-signature", "#base64");
    refused(&xslt, &provider, Fault::Signature, "transforms");
    for uri in ["", "#_r1", "file:///etc/passwd", "#xpointer(id('_a1'))", "cid:x", "https://evil.example/x"] {
        let about = good.replace("URI=\"#_a1\"", &format!("URI=\"{uri}\""));
        refused(&about, &provider, Fault::Signature, "something else than the element around it");
    }
}

#[test]
fn key_of_the_document_counts_for_nothing() {
    let (provider, evil) = (Provider::new(), Provider::new());
    let info = format!(
        "</ds:SignatureValue><ds:KeyInfo><ds:X509Data><ds:X509Certificate>{}</ds:X509Certificate></ds:X509Data></ds:KeyInfo>",
        evil.certificate
    );
    let own = evil.response(&Told::default()).replace("</ds:SignatureValue>", &info);
    refused(&own, &provider, Fault::Signature, "no key of the provider's metadata");
    assert!(read(&own, &evil).is_ok());
}

#[test]
fn response_for_others_or_of_another_time_is_refused() {
    let provider = Provider::new();
    let with = |change: &dyn Fn(&mut Told)| {
        let mut told = Told::default();
        change(&mut told);
        provider.around(&told, &provider.assertion(&told))
    };
    let claims = |change: &dyn Fn(&mut Told), reason| refused(&with(change), &provider, Fault::Claims, reason);
    claims(&|told| told.audience = "https://other.example".into(), "(Audience)");
    claims(&|told| told.acs = "https://other.example/acs".into(), "(Recipient)");
    claims(&|told| told.destination = "https://other.example/acs".into(), "(Destination)");
    claims(&|told| told.issuer = "https://evil.example".into(), "Issuer is not the provider");
    claims(&|told| told.now = NOW - 361, "has expired");
    claims(&|told| told.now = NOW + 71, "does not count yet");
    claims(&|told| told.condition = "<x:Odd xmlns:x=\"urn:x\"/>".into(), "not known here");
    claims(&|told| told.name = String::new(), "NameID");
    claims(&|told| told.name = format!("<saml:NameID>{}</saml:NameID>", "x".repeat(257)), "more than 256 bytes");
    assert!(read(&with(&|told| told.now = NOW - 359), &provider).is_ok());
    assert!(read(&with(&|told| told.now = NOW + 70), &provider).is_ok());
    let statement = |text: String| with(&move |told: &mut Told| told.statements = text.clone());
    refused(&statement(attributes(&[("a", "b")])), &provider, Fault::Statement, "no AuthnStatement");
    let one = Told::default().statements;
    refused(
        &statement(one.replace("</saml:AttributeStatement>", "</saml:AttributeStatement><saml:AuthnStatement/>")),
        &provider,
        Fault::Statement,
        "more than one AuthnStatement",
    );
    let ended = one.replace("SessionIndex", "SessionNotOnOrAfter=\"2020-01-01T00:00:00Z\" SessionIndex");
    refused(&statement(ended), &provider, Fault::Claims, "SessionNotOnOrAfter");
    let failed = with(&|told| told.status = "urn:oasis:names:tc:SAML:2.0:status:Responder");
    refused(&failed, &provider, Fault::Status, "status:Responder");
    let no = Told { status: "urn:oasis:names:tc:SAML:2.0:status:Responder", ..Told::default() };
    refused(&no.response("", ""), &provider, Fault::Status, "status:Responder");
    refused(&Told::default().response("", ""), &provider, Fault::Form, "there is no assertion");
    let told = Told::default();
    let other = Told { in_response_to: Some("_other".into()), ..Told::default() };
    refused(&other.response("", &provider.assertion(&told)), &provider, Fault::Claims, "answer different requests");
    let unsolicited = Told { in_response_to: None, ..Told::default() };
    assert_eq!(read(&provider.response(&unsolicited), &provider).unwrap().in_response_to, None);
    let bare = Told { audience: "x".into(), ..Told::default() }.assertion(&provider.template("_a1"));
    let bare =
        bare.replace("<saml:AudienceRestriction><saml:Audience>x</saml:Audience></saml:AudienceRestriction>", "");
    refused(&told.response("", &provider.sign(&bare)), &provider, Fault::Claims, "does not say for whom");
}

#[test]
fn encrypted_assertion_is_opened_and_has_to_be_signed_all_the_same() {
    let provider = Provider::new();
    let (key, certificate) = own_pair();
    let own = OwnKey::read(key.as_bytes(), certificate.as_bytes()).unwrap();
    let (keys, told) = (provider.keys(), Told::default());
    let (gcm, cbc) = ("http://www.w3.org/2009/xmlenc11#aes256-gcm", "http://www.w3.org/2001/04/xmlenc#aes256-cbc");
    let oaep = "http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p";
    let ours = |message: &str| read_with(message, &keys, Some(own.xml()));
    let signed = encrypted(&provider.assertion(&told), &own, gcm, oaep);
    let plain = encrypted(&told.assertion(""), &own, gcm, oaep);
    for good in [told.response("", &signed), provider.around(&told, &signed), provider.around(&told, &plain)] {
        assert_eq!(ours(&good).unwrap().subject.name, "ann");
    }
    let refused = |message: &str, reason: &str| {
        let refusal = ours(message).unwrap_err();
        assert!(refusal.reason.contains(reason), "{refusal}");
    };
    refused(&told.response("", &plain), "neither the Response nor its assertion");
    let in_cbc = encrypted(&provider.assertion(&told), &own, cbc, oaep);
    assert!(ours(&provider.around(&told, &in_cbc)).is_ok());
    refused(&told.response("", &in_cbc), "CBC counts only inside of a signed Response");
    let other = signed.replace(oaep, "http://www.w3.org/2001/04/xmlenc#rsa-1_5");
    refused(&told.response("", &other), "not encrypted with RSA-OAEP");
    let des = signed.replace(gcm, "http://www.w3.org/2001/04/xmlenc#tripledes-cbc");
    refused(&told.response("", &des), "not AES-GCM");
    let (key, certificate) = own_pair();
    let stranger = OwnKey::read(key.as_bytes(), certificate.as_bytes()).unwrap();
    let foreign = encrypted(&provider.assertion(&told), &stranger, gcm, oaep);
    refused(&told.response("", &foreign), "cannot be decrypted");
    let without = read_with(&told.response("", &signed), &keys, None).unwrap_err();
    assert!(without.reason.contains("no private_key"), "{without}");
    // A second one inside.
    let two = encrypted(&format!("{}{}", provider.assertion(&told), evil("_evil")), &own, gcm, oaep);
    refused(&told.response("", &two), "not one assertion");
}

#[test]
fn own_requests_are_signed_so_that_others_can_verify_them() {
    use super::request::LogInRequest;
    use super::service::Service;
    let (key, certificate) = own_pair();
    let own = OwnKey::read(key.as_bytes(), certificate.as_bytes()).unwrap();
    let service = Service {
        entity_id: ENTITY,
        acs: ACS,
        log_out: "https://app.example.com/ngrok/saml/slo",
        name_format: "urn:x&y",
        signs: true,
        key: Some(&own),
    };
    let request = LogInRequest { id: "_id", destination: "https://idp.example.com/sso", force: true, now: NOW };
    let field = request.message(&service).field(Some(&own)).unwrap();
    let text = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, field).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("ForceAuthn=\"true\"") && text.contains("urn:x&amp;y"), "{text}");
    let issuer = text.find("</saml:Issuer><ds:Signature").is_some();
    assert!(issuer, "the schema wants the signature right behind the issuer: {text}");
    let mut keys = bergshamra::keys::KeysManager::new();
    keys.add_key(own.xml().clone());
    let context = bergshamra::DsigContext::new(keys);
    assert!(bergshamra::verify(&context, &text).unwrap().is_valid());
    let url = request.message(&service).redirect("https://idp.example.com/sso?a=b", "relay", Some(&own)).unwrap();
    let (signed, signature) = url.split_once("&Signature=").unwrap();
    let query = signed.split_once("?a=b&").unwrap().1;
    assert!(query.starts_with("SAMLRequest=") && query.contains("&RelayState=relay&SigAlg="), "{query}");
    let signature = percent_encoding::percent_decode_str(signature).decode_utf8().unwrap();
    let signature = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, &*signature).unwrap();
    assert_eq!(signature, own.sign(query.as_bytes()).unwrap());
    let metadata = service.metadata();
    assert!(metadata.contains("use=\"encryption\"") && metadata.contains(&format!("Location=\"{ACS}\"")), "{metadata}");
    assert!(uppsala::parse(&metadata).is_ok());
}

#[test]
fn metadata_that_cannot_be_relied_on_is_refused() {
    use super::metadata::Metadata;
    let good = Provider::new().metadata();
    assert_eq!(Metadata::read(good.as_bytes(), NOW).unwrap().entity_id, PROVIDER);
    let wrong = |text: &str| Metadata::read(text.as_bytes(), NOW).unwrap_err();
    assert!(wrong(&good.replace("IDPSSODescriptor", "SPSSODescriptor")).contains("no IDPSSODescriptor"));
    assert!(wrong(&good.replace("https://idp.example.com/sso", "http://idp.example.com/sso")).contains("https://"));
    assert!(
        wrong(&good.replace("https://idp.example.com/sso", "javascript:alert(1)//")).contains("SingleSignOnService")
    );
    assert!(wrong(&good.replace("use=\"signing\"", "use=\"encryption\"")).contains("certificates"));
    assert!(wrong(&good.replace("entityID=", "validUntil=\"2020-01-01T00:00:00Z\" entityID=")).contains("validUntil"));
    assert!(wrong(&format!("<!DOCTYPE x>{good}")).contains("document type"));
    assert!(wrong("{}").contains("well-formed"));
    let marked = format!("\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?>{good}");
    assert!(Metadata::read(marked.as_bytes(), NOW).is_ok());
    let (before, behind) = good.split_once("</ds:X509Data>").unwrap();
    let chain = format!("{before}<ds:X509Certificate>none</ds:X509Certificate></ds:X509Data>{behind}");
    assert_eq!(Metadata::read(chain.as_bytes(), NOW).unwrap().keys.len(), 1, "a chain is no key");
    let _ = template("_x", ECDSA, SHA256);
}

#[test]
fn response_that_another_program_has_signed_is_taken() {
    // By xmlsec1, with the key of the metadata beside the policies of the tests.
    let metadata = include_bytes!("../../../tests/data/policy/files/idp.xml");
    let metadata = super::metadata::Metadata::read(metadata, NOW).unwrap();
    for message in [
        &include_bytes!("../../../../fuzz/corpus/saml_response/signed_assertion")[..],
        &include_bytes!("../../../../fuzz/corpus/saml_response/signed_response")[..],
    ] {
        let expected = Expected {
            entity_id: "urn:site",
            acs: "https://app.example.com/acs",
            provider: &metadata.entity_id,
            keys: &metadata.keys,
            own_key: None,
            now: NOW,
        };
        assert_eq!(Vouched::read(message, expected).unwrap().subject.name, "ann");
    }
}
