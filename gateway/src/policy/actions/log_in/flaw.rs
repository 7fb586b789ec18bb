//! Why a log-in does not go on, for the visitor and for the log.

use http::StatusCode;

use super::super::super::phase::Step;
use super::super::super::{NOT_LOGGED_IN, Refused, Verdict};
use crate::login::saml::{Fault, Refusal};

/// Why a log-in does not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flaw {
    pub(super) wrong: Wrong,
    /// For the log; never a token, a code, a secret, or what an assertion says of a person.
    pub(super) reason: String,
}

/// Which numbers of the reference tell what is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// `oauth` and `openid-connect`: 31xx and 52xx.
    OpenId,
    /// `saml`: 53xx, of which 5300, 5302, 5311 and 5312 are known.
    Saml,
}

/// What kind of thing is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// It is not logged in, and does not come as a page that could be sent to the provider.
    Anonymous,
    /// The visitor's own connection is not encrypted.
    Plain,
    /// No log-in of this browser is the one that comes back.
    State,
    /// The log-in took too long.
    Late,
    /// The log-in was used before.
    Reused,
    /// Nobody asked for the response.
    Unsolicited,
    /// The provider did not let the person in, or the person said no.
    Declined,
    /// The provider refused, and its settings or the policy's have to be mended.
    Provider,
    /// The provider could not be asked.
    Unreachable,
    /// The provider does not describe itself as it has to.
    Discovery,
    /// The metadata of an identity provider cannot be had.
    Metadata,
    /// The ID token is missing.
    NoToken,
    /// What came is no message of SAML.
    Form,
    /// A signature is wrong, or an ID token is none.
    Signature,
    /// What is signed says something else than it has to, or is out of date.
    Claims,
    /// It is not said that somebody logged in.
    Statement,
    /// The person is in none of the groups that may pass.
    Group,
    /// What is known of the person does not fit into a cookie.
    Large,
    /// The gateway itself cannot go on.
    Own,
}

impl From<Refusal> for Flaw {
    fn from(refusal: Refusal) -> Self {
        let wrong = match refusal.fault {
            Fault::Form => Wrong::Form,
            Fault::Signature => Wrong::Signature,
            Fault::Claims => Wrong::Claims,
            Fault::Unsolicited => Wrong::Unsolicited,
            Fault::Statement => Wrong::Statement,
            Fault::Status => Wrong::Declined,
        };
        Self::new(wrong, refusal.reason)
    }
}

impl Flaw {
    pub(super) fn new(wrong: Wrong, reason: impl Into<String>) -> Self {
        Self { wrong, reason: reason.into() }
    }

    /// The operating system gave no random bytes.
    pub(super) fn no_random() -> Self {
        Self::new(Wrong::Own, "the operating system gave no random bytes")
    }

    /// What the visitor gets; `retry` is the path at which it can try again.
    pub(super) fn into_step(self, family: Family, retry: &str) -> Step {
        let mut refused = Refused::new(self.wrong.status(), self.wrong.code(family), self.wrong.message());
        refused.reason = Some(self.reason);
        refused.retry = Some(retry.to_owned()).filter(|_| self.wrong.helps_to_retry());
        Step::End(Verdict::Refuse(Box::new(refused)))
    }
}

impl Wrong {
    /// The number of its ERR_NGROK code.
    pub(super) const fn code(self, family: Family) -> u32 {
        let (open_id, saml) = match self {
            Self::Anonymous | Self::Plain => (NOT_LOGGED_IN, NOT_LOGGED_IN),
            Self::State => (5200, 5300),
            Self::Late => (3119, 5306),
            Self::Reused => (3123, 5305),
            Self::Declined => (5208, 5307),
            Self::Signature => (5204, 5303),
            Self::Claims => (5205, 5304),
            Self::Provider => (5208, 5208),
            Self::Unreachable => (5201, 5201),
            Self::NoToken => (5202, 5202),
            Self::Discovery => (5206, 5206),
            Self::Form => (5301, 5301),
            Self::Unsolicited => (5302, 5302),
            Self::Metadata => (5308, 5308),
            Self::Statement => (5311, 5311),
            Self::Group => (5312, 5312),
            Self::Large | Self::Own => (2300, 2300),
        };
        match family {
            Family::OpenId => open_id,
            Family::Saml => saml,
        }
    }

    const fn status(self) -> StatusCode {
        match self {
            Self::Anonymous => StatusCode::UNAUTHORIZED,
            Self::Plain | Self::Declined | Self::Claims | Self::Unsolicited | Self::Group => StatusCode::FORBIDDEN,
            Self::State | Self::Late | Self::Reused | Self::Form => StatusCode::BAD_REQUEST,
            Self::Provider
            | Self::Unreachable
            | Self::Discovery
            | Self::Metadata
            | Self::NoToken
            | Self::Signature
            | Self::Statement => StatusCode::BAD_GATEWAY,
            Self::Large | Self::Own => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    const fn helps_to_retry(self) -> bool {
        !matches!(self, Self::Plain | Self::Large)
    }

    const fn message(self) -> &'static str {
        match self {
            Self::Anonymous => "You have to log in first. Open this address in a browser, not from within a page.",
            Self::Plain => "Log-ins need an encrypted connection: open this address with https://.",
            Self::State => {
                "This log-in does not belong to your browser, or its cookies are turned off. Allow cookies for this \
                 address and log in again."
            }
            Self::Late => "The log-in took more than 15 minutes. Log in again.",
            Self::Reused => "This log-in was used before. Log in again.",
            Self::Unsolicited => {
                "This browser has begun no log-in here, or its cookies are turned off. Allow cookies for this address and \
                 log in from here: log-ins that begin at the log-in provider are not possible."
            }
            Self::Declined => {
                "You did not agree at the log-in provider, or it did not let you in. Log in again, or ask whoever runs \
                 this service for access."
            }
            Self::Provider => {
                "The log-in provider refused. Whoever runs this service has to look into the gateway's log: the \
                 client's name, its secret, its scopes or its redirect address do not fit what the provider knows."
            }
            Self::Unreachable => "The log-in provider does not answer at the moment. Try again in a little while.",
            Self::Discovery => {
                "The log-in provider does not describe itself as it has to. Whoever runs this service has to look into \
                 the gateway's log."
            }
            Self::Metadata => {
                "The log-in provider cannot be asked how it is reached. Try again in a little while; if it does not \
                 help, whoever runs this service has to look into the gateway's log."
            }
            Self::Form => {
                "What came from the log-in provider cannot be read. Log in again; if it does not help, whoever runs \
                 this service has to look into the gateway's log."
            }
            Self::NoToken | Self::Signature | Self::Statement => {
                "What the log-in provider says of you cannot be verified. Whoever runs this service has to look into the \
                 gateway's log."
            }
            Self::Claims => {
                "What the log-in provider says is not meant for this service, or is out of date. Log in again."
            }
            Self::Group => {
                "You are logged in, but in none of the groups that may use this service. Ask whoever runs it for access."
            }
            Self::Large => {
                "The log-in provider says more of you than a cookie holds. Whoever runs this service has to ask for \
                 fewer claims."
            }
            Self::Own => "The gateway cannot log you in at the moment. Whoever runs it has to look into its log.",
        }
    }
}
