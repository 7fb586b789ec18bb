//! The endpoint that a policy is for.

use adit::endpoint_url::{EndpointUrl, Scheme};

use super::own::{Lent, Own};

/// The endpoint that a policy is for, as far as it decides what the policy may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    scheme: Scheme,
    is_internal: bool,
    is_cloud: bool,
    may_go_outside: bool,
}

impl Place {
    /// An endpoint of the gateway's configuration. It has no upstream, so its policy has to end in a terminating action.
    pub fn cloud(url: &EndpointUrl) -> Self {
        Self { scheme: url.scheme(), is_internal: url.is_internal(), is_cloud: true, may_go_outside: false }
    }

    /// An endpoint that an agent binds.
    pub fn agent(url: &EndpointUrl) -> Self {
        Self { scheme: url.scheme(), is_internal: url.is_internal(), is_cloud: false, may_go_outside: false }
    }

    /// The same, where the gateway's configuration says whether policies may send requests to the public internet.
    #[must_use]
    pub fn going_outside(self, may_go_outside: bool) -> Self {
        Self { may_go_outside, ..self }
    }

    pub(super) fn may_go_outside(self) -> bool {
        self.may_go_outside
    }

    pub(super) fn scheme(self) -> Scheme {
        self.scheme
    }

    pub(super) fn is_internal(self) -> bool {
        self.is_internal
    }

    pub(super) fn is_cloud(self) -> bool {
        self.is_cloud
    }

    /// Agents borrow nothing.
    pub(super) fn lent(self, own: Option<&Own>) -> Lent<'_> {
        match own {
            Some(own) if self.is_cloud => Lent::All(own),
            None if self.is_cloud => Lent::Unknown,
            _ => Lent::Nothing,
        }
    }
}
