//! Why a log-in does not go on, for the visitor and for the log.

use http::StatusCode;

use super::super::super::phase::Step;
use super::super::super::{Refused, Verdict};

/// Why a log-in does not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flaw {
    pub(super) wrong: Wrong,
    /// For the log; never a token, a code or a secret.
    pub(super) reason: String,
}

/// What kind of thing is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// It is not logged in, and does not come as a page that could be sent to the provider.
    Anonymous,
    /// The visitor's own connection is not encrypted.
    Plain,
    /// `state` is missing, unreadable, or not that of the browser's cookie.
    State,
    /// The log-in took too long.
    Late,
    /// The log-in was used before.
    Reused,
    /// The person said no.
    Declined,
    /// The provider refused, and its settings or the policy's have to be mended.
    Provider,
    /// The provider could not be asked.
    Unreachable,
    /// The provider does not describe itself as it has to.
    Discovery,
    /// The ID token is missing.
    NoToken,
    /// The ID token's signature or form is wrong.
    Token,
    /// The ID token says something else than it has to.
    Claims,
    /// What is known of the person does not fit into a cookie.
    Large,
    /// The gateway itself cannot go on.
    Own,
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
    /// The number of its ERR_NGROK code, from the families 31xx and 52xx of the reference.
    pub(super) const fn code(self) -> u32 {
        match self {
            Self::Anonymous | Self::Plain => 3101,
            Self::State => 5200,
            Self::Late => 3119,
            Self::Reused => 3123,
            Self::Declined | Self::Provider => 5208,
            Self::Unreachable => 5201,
            Self::NoToken => 5202,
            Self::Token => 5204,
            Self::Claims => 5205,
            Self::Discovery => 5206,
            Self::Large | Self::Own => 2300,
        }
    }

    const fn status(self) -> StatusCode {
        match self {
            Self::Anonymous => StatusCode::UNAUTHORIZED,
            Self::Plain | Self::Declined | Self::Claims => StatusCode::FORBIDDEN,
            Self::State | Self::Late | Self::Reused => StatusCode::BAD_REQUEST,
            Self::Provider | Self::Unreachable | Self::Discovery | Self::NoToken | Self::Token => {
                StatusCode::BAD_GATEWAY
            }
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
            Self::Declined => {
                "You did not agree at the log-in provider, or it did not let you in. Log in again, or ask \
                               whoever runs this service for access."
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
            Self::NoToken | Self::Token => {
                "What the log-in provider says of you cannot be verified. Whoever runs this service has to look into the \
                 gateway's log."
            }
            Self::Claims => {
                "What the log-in provider says is not meant for this service, or is out of date. Log in again."
            }
            Self::Large => {
                "The log-in provider says more of you than a cookie holds. Whoever runs this service has to ask for \
                 fewer claims."
            }
            Self::Own => "The gateway cannot log you in at the moment. Whoever runs it has to look into its log.",
        }
    }
}
