//! OAuth providers, which say who somebody is each in their own way.

use http::Uri;
use serde_json::Value as Json;

use super::super::jwt_validation::fetch::{self, Reach};
use super::exchange::{self, NoAnswer};
use super::flaw::{Flaw, Wrong};
use super::settings::{Client, Wanted};
use crate::login::session::Identity;

/// What is published of a provider.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) name: &'static str,
    authorize: &'static str,
    token: &'static str,
    userinfo: &'static str,
    /// The least that tells who somebody is.
    pub(super) scopes: &'static [&'static str],
    /// Where the answer has it, as JSON pointers: the first that is there counts.
    subject: &'static [&'static str],
    email: &'static [&'static str],
    person: &'static [&'static str],
    /// A list of addresses of mail, where the answer itself has none.
    emails: Option<&'static str>,
    /// Gives only addresses of mail that it has verified, by its documentation, so that it need not say so each time.
    verifies_email: bool,
    /// Asks for the client's name in this header.
    client_header: Option<&'static str>,
}

/// Where an `oauth` action's provider is.
#[derive(Debug)]
pub(super) struct OAuth {
    known: &'static Known,
    pub(super) authorize: Uri,
    pub(super) token: Uri,
    userinfo: Uri,
    emails: Option<Uri>,
    pub(super) reach: Reach,
}

/// Finds a provider by its name in documents.
pub(super) fn known(name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.name == name)
}

/// All names, for an error message.
pub(super) fn names() -> String {
    KNOWN.iter().map(|known| known.name).collect::<Vec<_>>().join(", ")
}

impl OAuth {
    /// A provider at its own addresses, or at others. The message comes with the field that is wrong.
    pub(super) fn new(
        known: &'static Known,
        [authorize, token, userinfo]: [Option<&str>; 3],
        reach: Reach,
    ) -> Result<Self, (&'static str, &'static str)> {
        let read = |field, own: Option<&str>, published: &str| {
            let url = own.unwrap_or(published);
            if url.is_empty() {
                return Err((field, "is missing: a provider that is not known here needs its addresses"));
            }
            fetch::check(url, reach).map_err(|message| (field, message))
        };
        // Of a provider of one's own, whose list of addresses of mail is somewhere else.
        let emails = known.emails.filter(|_| userinfo.is_none());
        Ok(Self {
            known,
            authorize: read("authorize_url", authorize, known.authorize)?,
            token: read("token_url", token, known.token)?,
            userinfo: read("userinfo_url", userinfo, known.userinfo)?,
            emails: emails.map(|url| read("userinfo_url", None, url)).transpose()?,
            reach,
        })
    }

    /// All that decides who people are.
    pub(super) fn identity_text(&self) -> String {
        format!("oauth {} {} {} {}", self.known.name, self.authorize, self.token, self.userinfo)
    }

    /// Asks who somebody is.
    pub(super) async fn identity(&self, access: &str, client: &Client, wanted: &Wanted) -> Result<Identity, NoAnswer> {
        let more = self.known.client_header.map(|name| (name, &*client.id));
        let answer = exchange::about(&self.userinfo, self.reach, access, more).await?;
        let mut identity = self.known.read(&answer, wanted).map_err(NoAnswer::Flaw)?;
        if let Some(emails) = self.emails.as_ref().filter(|_| identity.email.is_empty()) {
            let list = exchange::about(emails, self.reach, access, None).await?;
            identity.email = primary_email(&list).unwrap_or_default();
        }
        Ok(identity)
    }
}

impl Known {
    fn read(&self, answer: &Json, wanted: &Wanted) -> Result<Identity, Flaw> {
        let first = |pointers: &[&str]| pointers.iter().find_map(|pointer| text(answer.pointer(pointer)?));
        let subject = first(self.subject);
        let subject = subject.ok_or_else(|| Flaw::new(Wrong::Provider, "userinfo: it does not say who it is"))?;
        // An address that anybody can enter must not open what is for its owner.
        let is_assumed = self.verifies_email || wanted.trusts_email;
        let is_verified = answer.get("email_verified").map_or(is_assumed, is_true);
        let email = first(self.email).filter(|_| is_verified).unwrap_or_default();
        let kept = wanted.claims.iter().filter_map(|name| Some((name.to_string(), answer.get(&**name)?.clone())));
        Ok(Identity {
            subject,
            email,
            name: first(self.person).unwrap_or_default(),
            provider_session: String::new(),
            claims: kept.collect(),
            saml: None,
        })
    }
}

/// Some write it as a text.
pub(super) fn is_true(value: &Json) -> bool {
    value.as_bool() == Some(true) || value.as_str() == Some("true")
}

/// A text, or a number as one.
fn text(value: &Json) -> Option<String> {
    match value {
        Json::String(text) if !text.is_empty() => Some(text.clone()),
        Json::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// As GitHub lists them.
fn primary_email(list: &Json) -> Option<String> {
    let is = |entry: &Json, name: &str| entry.get(name).and_then(Json::as_bool) == Some(true);
    let primary = list.as_array()?.iter().find(|entry| is(entry, "primary") && is(entry, "verified"))?;
    text(primary.get("email")?)
}

const OPENID: (&[&str], &[&str], &[&str]) = (&["/sub"], &["/email"], &["/name", "/preferred_username"]);

const KNOWN: &[Known] = &[
    Known {
        name: "amazon",
        authorize: "https://www.amazon.com/ap/oa",
        token: "https://api.amazon.com/auth/o2/token",
        userinfo: "https://api.amazon.com/user/profile",
        scopes: &["profile"],
        subject: &["/user_id"],
        email: &["/email"],
        person: &["/name"],
        emails: None,
        verifies_email: true,
        client_header: None,
    },
    Known {
        name: "facebook",
        authorize: "https://www.facebook.com/dialog/oauth",
        token: "https://graph.facebook.com/oauth/access_token",
        userinfo: "https://graph.facebook.com/me?fields=id,name,email",
        scopes: &["email"],
        subject: &["/id"],
        email: &["/email"],
        person: &["/name"],
        emails: None,
        verifies_email: true,
        client_header: None,
    },
    Known {
        name: "github",
        authorize: "https://github.com/login/oauth/authorize",
        token: "https://github.com/login/oauth/access_token",
        userinfo: "https://api.github.com/user",
        scopes: &["read:org", "read:user", "user:email"],
        subject: &["/id"],
        email: &["/email"],
        person: &["/name", "/login"],
        emails: Some("https://api.github.com/user/emails"),
        verifies_email: true,
        client_header: None,
    },
    Known {
        name: "gitlab",
        authorize: "https://gitlab.com/oauth/authorize",
        token: "https://gitlab.com/oauth/token",
        userinfo: "https://gitlab.com/oauth/userinfo",
        scopes: &["openid", "profile", "email"],
        subject: OPENID.0,
        email: OPENID.1,
        person: OPENID.2,
        emails: None,
        verifies_email: false,
        client_header: None,
    },
    Known {
        name: "google",
        authorize: "https://accounts.google.com/o/oauth2/v2/auth",
        token: "https://oauth2.googleapis.com/token",
        userinfo: "https://openidconnect.googleapis.com/v1/userinfo",
        scopes: &[
            "openid",
            "https://www.googleapis.com/auth/userinfo.email",
            "https://www.googleapis.com/auth/userinfo.profile",
        ],
        subject: OPENID.0,
        email: OPENID.1,
        person: OPENID.2,
        emails: None,
        verifies_email: false,
        client_header: None,
    },
    Known {
        name: "linkedin",
        authorize: "https://www.linkedin.com/oauth/v2/authorization",
        token: "https://www.linkedin.com/oauth/v2/accessToken",
        userinfo: "https://api.linkedin.com/v2/userinfo",
        scopes: &["openid", "profile", "email"],
        subject: OPENID.0,
        email: OPENID.1,
        person: OPENID.2,
        emails: None,
        verifies_email: false,
        client_header: None,
    },
    Known {
        name: "microsoft",
        authorize: "https://login.microsoftonline.com/common/oauth2/v2.0/authorize",
        token: "https://login.microsoftonline.com/common/oauth2/v2.0/token",
        userinfo: "https://graph.microsoft.com/v1.0/me",
        scopes: &["User.Read"],
        subject: &["/id"],
        // Not `/mail`, which the administrators of any tenant can set to whatever they like.
        email: &["/userPrincipalName"],
        person: &["/displayName"],
        emails: None,
        verifies_email: true,
        client_header: None,
    },
    Known {
        name: "twitch",
        authorize: "https://id.twitch.tv/oauth2/authorize",
        token: "https://id.twitch.tv/oauth2/token",
        userinfo: "https://api.twitch.tv/helix/users",
        scopes: &["user:read:email"],
        subject: &["/data/0/id"],
        email: &["/data/0/email"],
        person: &["/data/0/display_name"],
        emails: None,
        verifies_email: true,
        client_header: Some("client-id"),
    },
    Known {
        name: "custom",
        authorize: "",
        token: "",
        userinfo: "",
        scopes: &["openid", "profile", "email"],
        subject: &["/sub", "/id"],
        email: OPENID.1,
        person: OPENID.2,
        emails: None,
        verifies_email: false,
        client_header: None,
    },
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(provider: &str, answer: &Json) -> (String, String, String) {
        let identity = known(provider).unwrap().read(answer, &Wanted::default()).unwrap();
        (identity.subject, identity.email, identity.name)
    }

    fn who(subject: &str, email: &str, name: &str) -> (String, String, String) {
        (subject.into(), email.into(), name.into())
    }

    #[test]
    fn each_provider_is_understood_as_its_documentation_has_it() {
        let github = json!({"login": "octocat", "id": 1, "name": "monalisa octocat", "email": "octocat@github.com"});
        assert_eq!(read("github", &github), who("1", "octocat@github.com", "monalisa octocat"));
        let quiet = json!({"login": "octocat", "id": 1, "name": null, "email": null});
        assert_eq!(read("github", &quiet), who("1", "", "octocat"));
        let openid = json!({"sub": "1", "name": "A", "email": "a@example.com", "email_verified": true});
        for provider in ["gitlab", "google", "linkedin", "custom"] {
            assert_eq!(read(provider, &openid), who("1", "a@example.com", "A"), "{provider}");
        }
        let microsoft =
            json!({"displayName": "A", "mail": "boss@example.com", "userPrincipalName": "a@example.com", "id": "48d3"});
        assert_eq!(read("microsoft", &microsoft), who("48d3", "a@example.com", "A"));
        let twitch = json!({"data": [{"id": "1", "login": "a", "display_name": "A", "email": "a@example.com"}]});
        assert_eq!(read("twitch", &twitch), who("1", "a@example.com", "A"));
        let amazon = json!({"user_id": "amzn1.account.K2", "email": "a@example.com", "name": "A"});
        assert_eq!(read("amazon", &amazon), who("amzn1.account.K2", "a@example.com", "A"));
        assert_eq!(read("facebook", &json!({"id": "1", "name": "A"})), who("1", "", "A"));
    }

    #[test]
    fn address_that_is_not_verified_is_none() {
        for verified in [json!(false), json!("false"), json!(0), Json::Null] {
            let answer = json!({"sub": "1", "email": "boss@example.com", "email_verified": verified});
            assert_eq!(read("google", &answer), who("1", "", ""));
            let trusting = Wanted { trusts_email: true, ..Wanted::default() };
            assert_eq!(known("google").unwrap().read(&answer, &trusting).unwrap().email, "");
        }
        // Who says nothing has not verified anything, as far as anybody knows.
        let silent = json!({"sub": "1", "email": "boss@example.com"});
        for provider in ["gitlab", "google", "linkedin", "custom"] {
            assert_eq!(read(provider, &silent), who("1", "", ""), "{provider}");
            let trusting = Wanted { trusts_email: true, ..Wanted::default() };
            assert_eq!(known(provider).unwrap().read(&silent, &trusting).unwrap().email, "boss@example.com");
        }
        let list = json!([
            {"email": "a@example.com", "primary": false, "verified": true},
            {"email": "b@example.com", "primary": true, "verified": false},
        ]);
        assert_eq!(primary_email(&list), None);
        let list = json!([{"email": "c@example.com", "primary": true, "verified": true}]);
        assert_eq!(primary_email(&list), Some("c@example.com".into()));
    }

    #[test]
    fn answer_without_a_person_is_refused() {
        for answer in [json!({}), json!([]), json!({"sub": ""}), json!({"sub": null}), json!({"sub": {"a": 1}})] {
            assert!(known("google").unwrap().read(&answer, &Wanted::default()).is_err(), "{answer}");
        }
    }

    #[test]
    fn published_addresses_are_usable() {
        for known in KNOWN.iter().filter(|known| known.name != "custom") {
            assert!(OAuth::new(known, [None; 3], Reach::Public).is_ok(), "{}", known.name);
        }
        let custom = known("custom").unwrap();
        assert_eq!(OAuth::new(custom, [None; 3], Reach::Public).unwrap_err().0, "authorize_url");
    }
}
