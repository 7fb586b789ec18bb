//! Log-outs that begin at the identity provider (SAML Profiles, 4.4.3): whose session is to end, once it is known that the
//! provider says so.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uppsala::NodeId;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::metadata::Metadata;
use super::plain_xml::Comments;
use super::request::Message;
use super::tree::Tree;
use super::{ASSERTION, LEEWAY_SECS, PROTOCOL, Refusal, SUCCESS, shape, signature as xml};

/// Whose sessions are to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedLogOut {
    /// The message's ID, which must not come again and which the answer names.
    pub id: String,
    /// The person, as the provider names it.
    pub name: String,
    /// The sessions at the provider; all of the person when it is empty.
    pub sessions: Vec<String>,
    /// From when on the message counts no more, in seconds since 1970.
    pub expires: i64,
}

/// What has to say that a message is the provider's.
#[derive(Clone, Copy, Debug)]
pub enum Proof<'q> {
    /// A signature in its XML: it came with a form.
    InMessage,
    /// A signature in the query that it came in (SAML Bindings, 3.4.4.1).
    InQuery(&'q str),
}

impl AskedLogOut {
    /// Verifies a message and reads it. `place` is where it came to.
    ///
    /// # Errors
    ///
    /// [`Refusal`], with the first thing that is wrong.
    pub fn read(
        message: &[u8],
        proof: Proof<'_>,
        provider: &Metadata,
        (place, now): (&str, i64),
    ) -> Result<Self, Refusal> {
        match proof {
            Proof::InQuery(query) => {
                verify_query(query, &provider.certificates)?;
                Self::of(&parse(message)?, provider, place, now)
            }
            Proof::InMessage => {
                let tree = parse(message)?;
                shape::check_ids(&tree)?;
                shape::check_signatures(&tree, &[tree.root()])?;
                if !xml::verify_all(&tree, &provider.keys)?.contains(&tree.root()) {
                    return Err(Refusal::signature("the LogoutRequest is not signed"));
                }
                let verified = xml::signed_bytes(&tree, tree.root())?;
                Self::of(&parse(&verified)?, provider, place, now)
            }
        }
    }

    fn of(tree: &Tree<'_>, provider: &Metadata, place: &str, now: i64) -> Result<Self, Refusal> {
        let root = tree.root();
        if !tree.is(root, PROTOCOL, "LogoutRequest") || tree.attribute(root, "Version") != Some("2.0") {
            return Err(Refusal::form("the message is no LogoutRequest of SAML 2.0"));
        }
        let id = tree.attribute(root, "ID").filter(|id| !id.is_empty() && id.len() <= ID_BYTES_MAX);
        let id = id.ok_or_else(|| Refusal::form("the LogoutRequest has no ID that could be remembered"))?;
        if tree.attribute(root, "Destination") != Some(place) {
            return Err(Refusal::claims("the LogoutRequest is for another address (Destination)"));
        }
        let issuer = tree.required(root, ASSERTION, "Issuer").map_err(Refusal::form)?;
        if tree.content(issuer).as_deref() != Some(provider.entity_id.as_str()) {
            return Err(Refusal::claims("the LogoutRequest's Issuer is not the provider"));
        }
        let expires = window(tree, root, now)?;
        let name = tree.required(root, ASSERTION, "NameID");
        let name = name.map_err(|_| Refusal::form("the LogoutRequest has no NameID; encrypted ones are not taken"))?;
        let name = tree.content(name).filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| Refusal::form("the NameID is not a text"))?;
        let sessions: Vec<String> =
            tree.named(root, PROTOCOL, "SessionIndex").filter_map(|node| tree.content(node)).collect();
        if sessions.len() > SESSIONS_MAX {
            return Err(Refusal::form(format!("the LogoutRequest has more than {SESSIONS_MAX} sessions in it")));
        }
        Ok(Self { id: id.to_owned(), name, sessions, expires })
    }
}

/// When a message counts; gives the time from which on it does not.
fn window(tree: &Tree<'_>, root: NodeId, now: i64) -> Result<i64, Refusal> {
    let instant = |name: &str| {
        let time = tree.attribute(root, name).map(|text| OffsetDateTime::parse(text, &Rfc3339)).transpose();
        let time = time.map_err(|_| Refusal::form(format!("{name} is not a time with its zone")))?;
        Ok::<_, Refusal>(time.map(OffsetDateTime::unix_timestamp))
    };
    let issued = instant("IssueInstant")?.ok_or_else(|| Refusal::form("the LogoutRequest has no IssueInstant"))?;
    let end = issued.saturating_add(TIME_SECS);
    let end = instant("NotOnOrAfter")?.map_or(end, |until| until.min(end)).saturating_add(LEEWAY_SECS);
    if now < issued.saturating_sub(LEEWAY_SECS) || now >= end {
        return Err(Refusal::claims("the LogoutRequest is out of date (IssueInstant, NotOnOrAfter)"));
    }
    Ok(end)
}

/// The answer to a log-out that was asked for.
#[derive(Clone, Copy, Debug)]
pub struct LogOutAnswer<'r> {
    /// Random.
    pub id: &'r str,
    /// The ID of the question.
    pub to: &'r str,
    /// Where it is going.
    pub destination: &'r str,
    /// Our name.
    pub entity_id: &'r str,
    /// Whether no session of the person is left.
    pub outcome: Outcome,
    /// In seconds since 1970.
    pub now: i64,
}

/// What became of a log-out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every session that is known here has ended.
    Whole,
    /// Some have not.
    Partial,
}

impl LogOutAnswer<'_> {
    /// The message (SAML Core, 3.7.2).
    #[must_use]
    pub fn message(&self) -> Message {
        let status = match self.outcome {
            Outcome::Whole => format!("<samlp:StatusCode Value=\"{SUCCESS}\"/>"),
            Outcome::Partial => format!(
                "<samlp:StatusCode Value=\"{RESPONDER}\"><samlp:StatusCode Value=\"{PARTIAL}\"/></samlp:StatusCode>"
            ),
        };
        let inside = format!("<samlp:Status>{status}</samlp:Status>");
        let answers = format!(" InResponseTo=\"{}\"", super::request::escaped(self.to));
        let about = (self.destination, self.entity_id, self.now);
        Message::new("LogoutResponse", self.id, about, &answers, &inside).answer()
    }
}

/// Verifies the signature of a query, which is about the parameters as they stand there, in this order.
fn verify_query(query: &str, certificates: &[Vec<u8>]) -> Result<(), Refusal> {
    let unsigned = || Refusal::signature("the query is not signed");
    let raw = |name: &str| {
        let mut found = query.split('&').filter_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        match (found.next(), found.next()) {
            (value, None) => Ok(value),
            (_, Some(_)) => Err(Refusal::form("a parameter is there more than once")),
        }
    };
    let text = |value: &str| percent_decode_str(value).decode_utf8_lossy().into_owned();
    let message = raw("SAMLRequest")?.ok_or_else(|| Refusal::form("there is no SAMLRequest"))?;
    let (method, value) = (raw("SigAlg")?.ok_or_else(unsigned)?, raw("Signature")?.ok_or_else(unsigned)?);
    let relay = raw("RelayState")?.map_or_else(String::new, |relay| format!("&RelayState={relay}"));
    let signed = format!("SAMLRequest={message}{relay}&SigAlg={method}");
    let algorithm = METHODS.iter().find(|(name, _)| *name == text(method));
    let (_, algorithm) = algorithm.ok_or_else(|| Refusal::signature("the signature's algorithm is not taken"))?;
    let value: String = text(value).split_ascii_whitespace().collect();
    let value = STANDARD.decode(value).map_err(|_| Refusal::signature("the signature is not base64"))?;
    let is_by = |certificate: &Vec<u8>| {
        let parsed = X509Certificate::from_der(certificate).ok();
        parsed.is_some_and(|(_, parsed)| {
            let key = &parsed.public_key().subject_public_key.data;
            UnparsedPublicKey::new(*algorithm, key).verify(signed.as_bytes(), &value).is_ok()
        })
    };
    if certificates.iter().any(is_by) {
        return Ok(());
    }
    Err(Refusal::signature("no key of the provider's metadata has made the signature"))
}

fn parse(text: &[u8]) -> Result<Tree<'_>, Refusal> {
    Tree::parse(text, Comments::Refused).map_err(|reason| Refusal::form(format!("the message is not taken: {reason}")))
}

/// As for XML: no SHA-1.
const METHODS: &[(&str, &dyn VerificationAlgorithm)] = &[
    ("http://www.w3.org/2001/04/xmldsig-more#rsa-sha256", &signature::RSA_PKCS1_2048_8192_SHA256),
    ("http://www.w3.org/2001/04/xmldsig-more#rsa-sha384", &signature::RSA_PKCS1_2048_8192_SHA384),
    ("http://www.w3.org/2001/04/xmldsig-more#rsa-sha512", &signature::RSA_PKCS1_2048_8192_SHA512),
    ("http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256", &signature::ECDSA_P256_SHA256_FIXED),
    ("http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384", &signature::ECDSA_P384_SHA384_FIXED),
];
const RESPONDER: &str = "urn:oasis:names:tc:SAML:2.0:status:Responder";
const PARTIAL: &str = "urn:oasis:names:tc:SAML:2.0:status:PartialLogout";
/// It is remembered.
const ID_BYTES_MAX: usize = 256;
/// Sessions of one person at a provider; one message has one or a few.
const SESSIONS_MAX: usize = 100;
/// A browser brings the message at once. So long it is remembered, because it must not end later sessions as well.
const TIME_SECS: i64 = 5 * 60;

#[cfg(test)]
mod tests {
    use super::super::Fault;
    use super::super::pretend::{NOW, Provider, SLO, ToldLogOut};
    use super::*;

    fn metadata(provider: &Provider) -> Metadata {
        Metadata::read(provider.metadata().as_bytes(), NOW).unwrap()
    }

    fn by_query(provider: &Provider, told: &ToldLogOut) -> Result<AskedLogOut, Refusal> {
        let message = told.message("");
        let query = provider.query(&message, "relay");
        AskedLogOut::read(message.as_bytes(), Proof::InQuery(&query), &metadata(provider), (SLO, NOW))
    }

    fn by_form(message: &str, provider: &Provider) -> Result<AskedLogOut, Refusal> {
        AskedLogOut::read(message.as_bytes(), Proof::InMessage, &metadata(provider), (SLO, NOW))
    }

    #[test]
    fn log_out_that_is_signed_by_the_provider_is_read() {
        let expected = AskedLogOut {
            id: "_l1".into(),
            name: "ann".into(),
            sessions: vec!["s1".into()],
            expires: NOW + TIME_SECS + LEEWAY_SECS,
        };
        let (rsa, ecdsa) = (Provider::rsa(), Provider::new());
        assert_eq!(by_query(&rsa, &ToldLogOut::default()), Ok(expected.clone()));
        for provider in [rsa, ecdsa] {
            assert_eq!(by_form(&provider.log_out(&ToldLogOut::default()), &provider), Ok(expected.clone()));
        }
    }

    #[test]
    fn log_out_that_is_not_signed_by_the_provider_is_refused() {
        let (provider, other) = (Provider::rsa(), Provider::rsa());
        let fault = |query: &str| {
            let message = ToldLogOut::default().message("");
            let read = AskedLogOut::read(message.as_bytes(), Proof::InQuery(query), &metadata(&provider), (SLO, NOW));
            read.map_err(|refusal| refusal.fault)
        };
        let message = ToldLogOut::default().message("");
        let good = provider.query(&message, "relay");
        assert!(fault(&good).is_ok());
        assert!(fault(&format!("x=y&{good}&z")).is_ok(), "what is not signed does not count");
        let unsigned = good.split_once("&SigAlg").unwrap().0;
        let sha1 = good.replace("xmldsig-more%23rsa-sha256", "xmldsig%23rsa-sha1");
        assert_ne!(sha1, good);
        for bad in [
            unsigned,
            good.split_once("&Signature").unwrap().0,
            &good.replace("RelayState=relay", "RelayState=other"),
            &good.replace("&RelayState=relay", ""),
            &good.replace("SAMLRequest=", "SAMLRequest=A"),
            &sha1.replace("2001/04/xmldsig-more", "2000/09/xmldsig"),
            &other.query(&message, "relay"),
            &format!("{}&Signature=%21", good.split_once("&Signature").unwrap().0),
        ] {
            assert_eq!(fault(bad), Err(Fault::Signature), "{bad}");
        }
        for twice in ["SAMLRequest=x", "RelayState=relay", "SigAlg=x", "Signature=x"] {
            assert_eq!(fault(&format!("{good}&{twice}")), Err(Fault::Form), "{twice}");
        }
        let unsigned = by_form(&message, &provider).unwrap_err();
        assert_eq!(unsigned.fault, Fault::Signature);
        let told = ToldLogOut::default();
        assert_eq!(by_form(&other.log_out(&told), &provider).unwrap_err().fault, Fault::Signature);
        let changed = provider.log_out(&told).replace(">ann<", ">bob<");
        assert_eq!(by_form(&changed, &provider).unwrap_err().fault, Fault::Signature);
    }

    #[test]
    fn log_out_for_others_or_out_of_date_is_refused() {
        let provider = Provider::rsa();
        let refused = |told: ToldLogOut, fault: Fault, reason: &str| {
            let refusal = by_query(&provider, &told).unwrap_err();
            assert!(refusal.fault == fault && refusal.reason.contains(reason), "{reason}: {refusal:?}");
        };
        let told = ToldLogOut::default;
        refused(ToldLogOut { destination: "https://other.example/slo".into(), ..told() }, Fault::Claims, "Destination");
        refused(ToldLogOut { issuer: "https://evil.example".into(), ..told() }, Fault::Claims, "Issuer");
        let late = NOW - TIME_SECS - LEEWAY_SECS;
        refused(ToldLogOut { now: late, ..told() }, Fault::Claims, "out of date");
        refused(ToldLogOut { now: NOW + LEEWAY_SECS + 1, ..told() }, Fault::Claims, "out of date");
        assert!(by_query(&provider, &ToldLogOut { now: late + 1, ..told() }).is_ok());
        let until = |at: i64| format!(" NotOnOrAfter=\"{}\"", super::super::pretend::instant(at));
        refused(ToldLogOut { more: until(NOW - LEEWAY_SECS), ..told() }, Fault::Claims, "out of date");
        let soon = by_query(&provider, &ToldLogOut { more: until(NOW + 1), ..told() }).unwrap();
        assert_eq!(soon.expires, NOW + 1 + LEEWAY_SECS);
        assert!(by_query(&provider, &ToldLogOut { id: "_".repeat(ID_BYTES_MAX), ..told() }).is_ok());
        refused(ToldLogOut { id: "_".repeat(ID_BYTES_MAX + 1), ..told() }, Fault::Form, "ID");
        refused(ToldLogOut { name: String::new(), ..told() }, Fault::Form, "NameID");
        let sessions = |count: usize| (0..count).map(|index| index.to_string()).collect();
        assert!(by_query(&provider, &ToldLogOut { sessions: sessions(SESSIONS_MAX), ..told() }).is_ok());
        refused(ToldLogOut { sessions: sessions(SESSIONS_MAX + 1), ..told() }, Fault::Form, "more than 100");
    }

    #[test]
    fn answer_says_what_became_of_the_log_out() {
        let answer = LogOutAnswer {
            id: "_a",
            to: "_l1\"",
            destination: "https://idp.example.com/slo",
            entity_id: "urn:x",
            outcome: Outcome::Whole,
            now: NOW,
        };
        let text = |answer: LogOutAnswer<'_>| {
            let field = answer.message().field(None).unwrap();
            String::from_utf8(STANDARD.decode(field).unwrap()).unwrap()
        };
        let whole = text(answer);
        assert!(whole.contains("InResponseTo=\"_l1&quot;\"") && whole.contains(SUCCESS), "{whole}");
        let partial = text(LogOutAnswer { outcome: Outcome::Partial, ..answer });
        assert!(partial.contains(PARTIAL) && !partial.contains(SUCCESS), "{partial}");
        let url = answer.message().redirect("https://idp.example.com/slo", "relay", None).unwrap();
        assert!(url.starts_with("https://idp.example.com/slo?SAMLResponse="), "{url}");
    }
}
