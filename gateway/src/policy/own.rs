//! What the gateway's operator lends to the policies of the gateway's own configuration: secrets.
//! Policies that agents send get nothing of it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::mask::Mask;

/// Secrets by vault and name.
#[derive(Clone, Default)]
pub struct Own {
    vaults: Vaults,
    mask: Mask,
}

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Own").field("vaults", &self.vaults.len()).finish_non_exhaustive()
    }
}

/// Secrets of vaults by name.
pub type Vaults = BTreeMap<String, BTreeMap<String, Arc<str>>>;

impl Own {
    /// Lends these secrets.
    #[must_use]
    pub fn new(vaults: Vaults) -> Self {
        let values = vaults.values().flat_map(BTreeMap::values).map(|secret| secret.to_string());
        let mask = Mask::new(values);
        Self { vaults, mask }
    }

    /// Hides the secrets.
    pub(super) fn mask(&self) -> &Mask {
        &self.mask
    }

    /// A secret, or which there are instead.
    pub(super) fn secret(&self, vault: &str, name: &str) -> Result<&Arc<str>, String> {
        let list = |names: Vec<&str>| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        let Some(secrets) = self.vaults.get(vault) else {
            let known = list(self.vaults.keys().map(String::as_str).collect());
            return Err(format!(
                "names the vault {vault:?}, which the gateway's configuration does not have: there are {known}"
            ));
        };
        secrets.get(name).ok_or_else(|| {
            let known = list(secrets.keys().map(String::as_str).collect());
            format!("names the secret {name:?}, which the vault {vault:?} does not have: there are {known}")
        })
    }
}

/// What a policy may have of what the operator lends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lent<'a> {
    /// Nothing: an agent has sent the policy.
    Nothing,
    /// It could have some, but nobody has said which configuration it is for.
    Unknown,
    /// This.
    All(&'a Own),
}

impl<'a> Lent<'a> {
    /// The whole of it.
    ///
    /// # Errors
    ///
    /// Why there is nothing; `what` is what was asked for.
    pub(super) fn get(self, what: &str) -> Result<&'a Own, String> {
        match self {
            Self::All(own) => Ok(own),
            Self::Nothing => Err(format!("{what}, which only policies of the gateway's own configuration may")),
            Self::Unknown => {
                Err(format!("{what}, for which the gateway's configuration is needed: name it with --config"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_is_found_by_vault_and_name_and_never_shown() {
        let secrets = BTreeMap::from([("key".to_owned(), Arc::from("s3cret"))]);
        let own = Own::new(BTreeMap::from([("crm".to_owned(), secrets)]));
        assert_eq!(own.secret("crm", "key").map(|secret| &**secret), Ok("s3cret"));
        assert!(own.secret("crm", "kee").unwrap_err().ends_with("there are key"));
        assert!(own.secret("cmr", "key").unwrap_err().ends_with("there are crm"));
        assert!(!format!("{own:?}").contains("s3cret"));
        assert_eq!(own.mask().hide("a s3cret"), "a (hidden)");
    }
}
