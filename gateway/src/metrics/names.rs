//! The values that the labels of metrics have. Each set is closed.

use adit::endpoint_url::Scheme;

use super::labels::Label;

/// Makes an enumeration a label: its variants in order, each with its text.
macro_rules! label {
    ($(#[$about:meta])* $type:ident, $name:literal, $($(#[$meaning:meta])* $variant:ident => $text:literal),+ $(,)?) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $type {
            $($(#[$meaning])* $variant),+
        }

        impl Label for $type {
            const NAME: &'static str = $name;
            const ALL: &'static [Self] = &[$(Self::$variant),+];

            fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text),+
                }
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

label! {
    /// How a handshake of TLS ended, of an agent or a visitor.
    Handshake, "outcome",
    /// The connection is up.
    Done => "done",
    /// The ClientHello did not come in time.
    HelloLate => "hello_late",
    /// What came is no ClientHello.
    HelloInvalid => "hello_invalid",
    /// It took too long.
    Late => "late",
    /// The client went away, or it and the gateway have nothing in common.
    Failed => "failed",
    /// The client's certificate was refused.
    ClientRefused => "client_refused",
    /// The gateway has no usable certificate, or TLS could not be set up.
    NotSetUp => "not_set_up",
}

label! {
    /// Why a connection was closed before anything was done for it.
    Closed, "reason",
    /// As many visitors are there as `limits.connections_max` allows.
    Visitors => "connections_max",
    /// As many handshakes are under way as `limits.pending_max` allows.
    Pending => "pending_max",
    /// As many agents are there as `limits.sessions_max` allows.
    Agents => "sessions_max",
    /// TLS without a name, where endpoints are told apart by names.
    NoName => "no_name",
    /// TLS for a name that no endpoint has.
    UnknownName => "unknown_name",
    /// `acme-tls/1` for a name that is not being proved.
    NoProtocol => "no_protocol",
    /// A trusted proxy did not say whom the connection is from.
    NoProxyHeader => "no_proxy_header",
}

label! {
    /// Why an agent's connection ended.
    SessionEnd, "reason",
    /// The gateway ended it: a drain, a revoked credential, a newer connection, an operator.
    Told => "told",
    /// It did not log in in time.
    NoLogIn => "no_log_in",
    /// Its log-in was refused.
    Refused => "refused",
    /// The agent took its leave.
    GoAway => "go_away",
    /// The agent has been silent for too long.
    Silent => "silent",
    /// The agent closed the connection.
    Hung => "closed",
    /// The connection broke.
    Broken => "broken",
    /// The agent broke the protocol.
    Protocol => "protocol",
}

label! {
    /// Why no stream to an agent could be opened.
    OpenFailure, "reason",
    /// The session has ended since the look-up.
    Offline => "offline",
    /// All streams that the session may have are taken.
    Busy => "busy",
    /// A limit of the credential is reached.
    Limited => "limited",
    /// The session ended meanwhile.
    Lost => "lost",
}

label! {
    /// How a visitor speaks.
    Front, "scheme",
    /// `http://`
    Http => "http",
    /// `https://`
    Https => "https",
    /// `tls://`
    Tls => "tls",
    /// `tcp://`
    Tcp => "tcp",
}

label! {
    /// The first digit of an answer's status.
    Status, "status",
    /// Informational: another protocol follows.
    S1 => "1xx",
    /// Success.
    S2 => "2xx",
    /// Redirection.
    S3 => "3xx",
    /// The visitor's mistake.
    S4 => "4xx",
    /// The service's or the gateway's mistake.
    S5 => "5xx",
    /// The connection was closed without an answer.
    None => "none",
}

label! {
    /// A queue that drops what does not fit, so that traffic never waits for it.
    Queue, "queue",
    /// Lines of the access log.
    AccessLog => "access_log",
    /// Lines of the audit log.
    AuditLog => "audit_log",
}

label! {
    /// Who was not told of an event.
    Untold, "to",
    /// Nobody was: more happened at once than is kept, or a credential's agents named too many instances.
    Anybody => "anybody",
    /// The webhook.
    Webhook => "webhook",
    /// Those who follow along, each for itself.
    Followers => "tail",
}

impl From<Scheme> for Front {
    fn from(scheme: Scheme) -> Self {
        match scheme {
            Scheme::Http => Self::Http,
            Scheme::Https => Self::Https,
            Scheme::Tls => Self::Tls,
            Scheme::Tcp => Self::Tcp,
        }
    }
}

impl From<http::StatusCode> for Status {
    fn from(status: http::StatusCode) -> Self {
        match status.as_u16() / 100 {
            1 => Self::S1,
            2 => Self::S2,
            3 => Self::S3,
            4 => Self::S4,
            _ => Self::S5,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<L: Label>() {
        let mut texts: Vec<&str> = L::ALL.iter().map(|label| label.as_str()).collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), L::ALL.len(), "{texts:?}");
        assert!(
            texts.iter().all(|text| text.chars().all(|c| c == '_' || c.is_ascii_lowercase() || c.is_ascii_digit()))
        );
    }

    #[test]
    fn values_of_a_label_differ() {
        check::<Handshake>();
        check::<Closed>();
        check::<SessionEnd>();
        check::<OpenFailure>();
        check::<Front>();
        check::<Status>();
        check::<Queue>();
        check::<Untold>();
    }
}
