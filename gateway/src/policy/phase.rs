//! The phases of a policy, and running them.

use std::fmt;

use adit::endpoint_url::{EndpointUrl, Scheme};

use super::actions::Action;
use super::{Connection, Request, Verdict};

/// When rules run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Once a connection has come, before anything of it is read.
    OnTcpConnect,
    /// Once the head of an HTTP request has been read.
    OnHttpRequest,
}

impl Phase {
    /// Its key in a document.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::OnTcpConnect => "on_tcp_connect",
            Self::OnHttpRequest => "on_http_request",
        }
    }

    /// The phase in which an endpoint of this scheme has to make up its mind at the latest.
    pub(super) const fn last_of(scheme: Scheme) -> Self {
        match scheme {
            Scheme::Http | Scheme::Https => Self::OnHttpRequest,
            Scheme::Tls | Scheme::Tcp => Self::OnTcpConnect,
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the actions of a phase work on.
#[derive(Debug)]
pub(super) enum Subject<'a, 'b> {
    /// In [`Phase::OnTcpConnect`].
    #[expect(dead_code, reason = "no action looks at the connection yet")]
    Connection(Connection<'a>),
    /// In [`Phase::OnHttpRequest`].
    #[expect(dead_code, reason = "no action looks at the request yet")]
    Request(&'a mut Request<'b>),
}

/// What an action did to the run.
#[derive(Debug)]
#[must_use]
pub(super) enum Step {
    /// The next action follows.
    #[expect(dead_code, reason = "all actions so far are terminating")]
    Next,
    /// The run ends here.
    End(Verdict),
}

/// A checked and compiled policy. It is immutable and shared by everything that runs it.
#[derive(Debug, Default)]
pub struct Policy {
    pub(super) on_tcp_connect: Vec<Rule>,
    pub(super) on_http_request: Vec<Rule>,
}

/// Actions that run together.
#[derive(Debug)]
pub(super) struct Rule {
    /// The label that the document gives it.
    pub(super) name: Option<Box<str>>,
    /// In order; at least one.
    pub(super) actions: Vec<Box<dyn Action>>,
}

impl Policy {
    /// Decides about a connection before anything of it is read.
    ///
    /// For `tls` and `tcp` endpoints [`Verdict::Continue`] means the endpoint's own agent; for HTTP it means that
    /// [`Policy::on_http_request`] comes next. [`Verdict::Respond`] is not possible here.
    pub fn on_tcp_connect(&self, connection: Connection<'_>) -> Verdict {
        run(Phase::OnTcpConnect, &self.on_tcp_connect, &mut Subject::Connection(connection))
    }

    /// Decides about an HTTP request, whose head the actions may change.
    ///
    /// It is a future because actions that ask others (a key server, an identity provider) will wait here.
    pub async fn on_http_request(&self, request: &mut Request<'_>) -> Verdict {
        run(Phase::OnHttpRequest, &self.on_http_request, &mut Subject::Request(request))
    }

    /// The internal endpoints that it may hand traffic to.
    pub fn forwards_to(&self) -> impl Iterator<Item = &EndpointUrl> {
        let rules = self.on_tcp_connect.iter().chain(&self.on_http_request);
        rules.flat_map(|rule| &rule.actions).filter_map(|action| action.forwards_to())
    }

    /// True when no traffic gets past the rules of this phase.
    pub(super) fn surely_ends(&self, phase: Phase) -> bool {
        let rules = match phase {
            Phase::OnTcpConnect => &self.on_tcp_connect,
            Phase::OnHttpRequest => &self.on_http_request,
        };
        rules.iter().any(Rule::surely_ends)
    }
}

impl Rule {
    /// True when no traffic gets past this rule.
    pub(super) fn surely_ends(&self) -> bool {
        self.actions.iter().any(|action| action.is_terminating())
    }
}

fn run(phase: Phase, rules: &[Rule], subject: &mut Subject<'_, '_>) -> Verdict {
    for (index, rule) in rules.iter().enumerate() {
        for action in &rule.actions {
            match action.run(subject) {
                Step::Next => {}
                Step::End(verdict) => {
                    let name = rule.name.as_deref().unwrap_or_default();
                    tracing::debug!(%phase, rule = index, name, verdict = %Short(&verdict), "policy ended");
                    return verdict;
                }
            }
        }
    }
    Verdict::Continue
}

/// A verdict for the log: without bodies and headers.
struct Short<'a>(&'a Verdict);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Verdict::Continue => f.write_str("continue"),
            Verdict::Forward(url) => write!(f, "forward to {url}"),
            Verdict::Deny { status } => write!(f, "deny with {}", status.as_u16()),
            Verdict::Respond(response) => write!(f, "respond with {}", response.status.as_u16()),
        }
    }
}
