//! Why a SAML log-in does not go on, for the visitor and for the log.

use http::StatusCode;

use super::super::super::super::phase::Step;
use super::super::super::super::{Refused, Verdict};
use crate::login::saml::{Fault, Refusal};

/// Why a log-in does not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flaw {
    pub(super) wrong: Wrong,
    /// For the log; never an assertion or what it says of a person.
    pub(super) reason: String,
}

/// What kind of thing is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// It is not logged in, and does not come as a page that could be sent to the provider.
    Anonymous,
    /// The visitor's own connection is not encrypted.
    Plain,
    /// No log-in of this browser is the one that is answered.
    State,
    /// The log-in took too long.
    Late,
    /// The log-in was used before.
    Reused,
    /// What came is no response of SAML.
    Form,
    /// What came is not signed by the provider.
    Signature,
    /// What came is meant for others, or out of date.
    Claims,
    /// It is not said that somebody logged in.
    Statement,
    /// Nobody asked for what came.
    Unsolicited,
    /// The provider refused, or the person said no.
    Declined,
    /// The person is in none of the groups that may pass.
    Group,
    /// The provider's description cannot be had.
    Metadata,
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

    /// What the visitor gets; `retry` is the path at which it can try again.
    pub(super) fn into_step(self, retry: &str) -> Step {
        let mut refused = Refused::new(self.wrong.status(), self.wrong.code(), self.wrong.message());
        refused.reason = Some(self.reason);
        refused.retry = Some(retry.to_owned()).filter(|_| self.wrong.helps_to_retry());
        Step::End(Verdict::Refuse(Box::new(refused)))
    }
}

impl Wrong {
    /// The number of its ERR_NGROK code: the family 53xx of the reference, of which 5300, 5302, 5311 and 5312 are known.
    pub(super) const fn code(self) -> u32 {
        match self {
            Self::Anonymous | Self::Plain => 3101,
            Self::State => 5300,
            Self::Form => 5301,
            Self::Unsolicited => 5302,
            Self::Signature => 5303,
            Self::Claims => 5304,
            Self::Reused => 5305,
            Self::Late => 5306,
            Self::Declined => 5307,
            Self::Metadata => 5308,
            Self::Statement => 5311,
            Self::Group => 5312,
            Self::Large | Self::Own => 2300,
        }
    }

    const fn status(self) -> StatusCode {
        match self {
            Self::Anonymous => StatusCode::UNAUTHORIZED,
            Self::Plain | Self::Declined | Self::Claims | Self::Unsolicited | Self::Group => StatusCode::FORBIDDEN,
            Self::State | Self::Late | Self::Reused | Self::Form => StatusCode::BAD_REQUEST,
            Self::Signature | Self::Statement | Self::Metadata => StatusCode::BAD_GATEWAY,
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
            Self::Form => {
                "What came from the identity provider cannot be read. Log in again; if it does not help, whoever runs \
                 this service has to look into the gateway's log."
            }
            Self::Signature | Self::Statement => {
                "What the identity provider says of you cannot be verified. Whoever runs this service has to look into \
                 the gateway's log."
            }
            Self::Claims => {
                "What the identity provider says is not meant for this service, or is out of date. Log in again."
            }
            Self::Unsolicited => {
                "Log-ins that begin at the identity provider are not possible here. Open the address of the service \
                 itself, and log in from there."
            }
            Self::Declined => {
                "The identity provider did not let you in. Log in again, or ask whoever runs this service for access."
            }
            Self::Group => {
                "You are logged in, but in none of the groups that may use this service. Ask whoever runs it for access."
            }
            Self::Metadata => {
                "The identity provider cannot be asked how it is reached. Try again in a little while; if it does not \
                 help, whoever runs this service has to look into the gateway's log."
            }
            Self::Large => {
                "The identity provider says more of you than a cookie holds. Whoever runs this service has to ask for \
                 fewer claims."
            }
            Self::Own => "The gateway cannot log you in at the moment. Whoever runs it has to look into its log.",
        }
    }
}
