//! One order at an authority, from the account to the certificate (RFC 8555).

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeHandle, ChallengeType, Error, Identifier, NewAccount,
    NewOrder, Order, OrderStatus, Problem,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use super::challenges::{Challenges, Pending};
use super::http::Client;
use super::issued::Issued;
use super::renewal::Cause;
use super::state::State;
use crate::config::acme::{AcmeConfig, ChallengeKind};

/// Issues certificates.
pub(crate) trait Authority: Send + Sync + 'static {
    /// Proves one name and gets a certificate for it. It ends within [`ISSUE_TIME`].
    fn issue(&self, name: &str) -> impl Future<Output = Result<Issued, IssueError>> + Send;
}

/// Why there is no certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IssueError {
    /// When another try has a chance.
    pub(crate) cause: Cause,
    /// What the authority said about that.
    pub(crate) retry_after: Option<Duration>,
    /// In words, on one line and not long: much of it is what others say.
    pub(crate) text: String,
}

/// The authority of a configuration.
pub(crate) struct AcmeAuthority {
    config: Arc<AcmeConfig>,
    state: State,
    challenges: Arc<Challenges>,
    /// Held while an account is made: there must be one only.
    account: Mutex<()>,
}

impl AcmeAuthority {
    pub(crate) fn new(config: Arc<AcmeConfig>, state: State, challenges: Arc<Challenges>) -> Self {
        Self { config, state, challenges, account: Mutex::new(()) }
    }

    async fn issue_in_time(&self, name: &str, client: &Client) -> Result<Issued, IssueError> {
        let account = self.account(client).await?;
        let identifiers = [Identifier::Dns(name.to_owned())];
        let order = account.new_order(&NewOrder::new(&identifiers)).await;
        let mut order = order.map_err(|error| self.of_account(error, client))?;
        let pending = self.prepare(name, &mut order).await.map_err(|error| error.told(client))?;
        if !matches!(order.state().status, OrderStatus::Ready | OrderStatus::Valid) {
            self.wait_for(&mut order, OrderStatus::Ready, client).await?;
        }
        drop(pending);
        let (key, request) = key_and_request(name)?;
        let failed = |error| IssueError::of("the authority does not take the request", error).told(client);
        order.finalize_csr(&request).await.map_err(failed)?;
        if order.state().status != OrderStatus::Valid {
            self.wait_for(&mut order, OrderStatus::Valid, client).await?;
        }
        let failed = |error| IssueError::of("the certificate cannot be fetched", error).told(client);
        let chain = order.certificate().await.map_err(failed)?;
        let chain = chain.ok_or_else(|| IssueError::refusal("the authority issued nothing"))?;
        Issued::new(name, &key, &chain)
            .map_err(|error| IssueError::refusal(format!("what was issued is of no use: {error}")))
    }

    /// The account that is kept, or a new one.
    async fn account(&self, client: &Client) -> Result<Account, IssueError> {
        let _one = self.account.lock().await;
        let url = &self.config.directory_url;
        let kept = self.state.account().unwrap_or_else(|error| {
            tracing::warn!("{}: the account is not usable, a new one is made: {error}", self.state.folder().display());
            None
        });
        let builder = Account::builder_with_http(Box::new(client.clone()));
        if let Some(kept) = kept {
            match serde_json::from_str::<AccountCredentials>(&kept) {
                Ok(credentials) => {
                    let account = builder.from_credentials(credentials).await;
                    return account
                        .map_err(|error| IssueError::of("the authority cannot be asked", error).told(client));
                }
                Err(_) => {
                    let folder = self.state.folder().display();
                    tracing::warn!("{folder}: the account is not usable, a new one is made: it is no account");
                }
            }
        }
        let builder = Account::builder_with_http(Box::new(client.clone()));
        let contact: Vec<&str> = self.config.contact.iter().map(String::as_str).collect();
        // The configuration is void without the consent.
        let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let (account, credentials) = builder
            .create(&new, url.clone(), None)
            .await
            .map_err(|error| IssueError::of("the authority gives no account", error).told(client))?;
        let text = serde_json::to_string(&credentials).map_err(|error| IssueError::refusal(error.to_string()))?;
        if let Err(error) = self.state.keep_account(&text) {
            let folder = self.state.folder().display();
            tracing::error!("{folder}: the account cannot be kept, so the next start makes another one: {error}");
        } else {
            tracing::info!(authority = %url, "an account was made");
        }
        Ok(account)
    }

    /// The error of a request that shows the account. One that the authority does not know is forgotten: the next try
    /// makes a new one.
    fn of_account(&self, error: Error, client: &Client) -> IssueError {
        let is_unknown = |problem: &Problem| {
            problem.r#type.as_deref().is_some_and(|kind| kind.ends_with("error:accountDoesNotExist"))
        };
        let is_unknown = matches!(&error, Error::Api(problem) if is_unknown(problem));
        let mut failed = IssueError::of("the authority takes no order", error).told(client);
        if is_unknown {
            // It is an order of magnitude sooner than what has to be mended by somebody.
            failed.cause = Cause::Authority;
            if let Err(error) = self.state.forget_account() {
                failed.text.push_str(&format!("; nor can the account be forgotten: {error}"));
            }
        }
        failed
    }

    /// Prepares the answers for everything that the authority wants proved, and says that they are ready.
    async fn prepare(&self, name: &str, order: &mut Order) -> Result<Vec<Pending>, IssueError> {
        let mut pending = Vec::new();
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            if pending.len() >= AUTHORIZATIONS_MAX {
                return Err(IssueError::refusal("the authority wants more proved than one name"));
            }
            let mut authorization =
                authorization.map_err(|error| IssueError::of("the authority does not say what to prove", error))?;
            match authorization.status {
                AuthorizationStatus::Pending => {}
                AuthorizationStatus::Valid => continue,
                other => return Err(IssueError::refusal(format!("the name's authorization is {other:?} already"))),
            }
            let (kind, word) = match self.config.challenge {
                ChallengeKind::TlsAlpn => (ChallengeType::TlsAlpn01, "tls-alpn-01"),
                ChallengeKind::Http => (ChallengeType::Http01, "http-01"),
            };
            let mut challenge = authorization
                .challenge(kind)
                .ok_or_else(|| IssueError::refusal(format!("the authority does not offer {word} for this name")))?;
            pending.push(self.answer(name, &challenge)?);
            let ready = challenge.set_ready().await;
            ready.map_err(|error| IssueError::of("the authority does not take the challenge", error))?;
        }
        Ok(pending)
    }

    fn answer(&self, name: &str, challenge: &ChallengeHandle<'_>) -> Result<Pending, IssueError> {
        let proof = challenge.key_authorization();
        let pending = match self.config.challenge {
            ChallengeKind::Http => self.challenges.answer_http(name, &challenge.token, proof.as_str()),
            ChallengeKind::TlsAlpn => {
                let digest: [u8; 32] = proof.digest().as_ref().try_into().unwrap_or_default();
                self.challenges.answer_tls(name, &digest)
            }
        };
        pending.map_err(|error| IssueError::refusal(error.to_string()))
    }

    /// Waits until the order has got that far.
    async fn wait_for(&self, order: &mut Order, wanted: OrderStatus, client: &Client) -> Result<(), IssueError> {
        let mut pause = POLL_FIRST;
        loop {
            let asked = client.retry_after().unwrap_or_default().min(POLL_MAX);
            sleep(pause.max(asked)).await;
            pause = (pause * 2).min(POLL_MAX);
            let failed = |error| IssueError::of("the authority does not say how the order is", error).told(client);
            let state = order.refresh().await.map_err(failed)?;
            match state.status {
                status if status == wanted => return Ok(()),
                OrderStatus::Valid | OrderStatus::Invalid => {
                    let of_order = state.error.as_ref().map(ToString::to_string);
                    let reason = reason(order).await.or(of_order).unwrap_or_else(|| "it does not say why".to_owned());
                    return Err(IssueError::refusal(format!("the authority refuses the name: {reason}")));
                }
                OrderStatus::Pending | OrderStatus::Ready | OrderStatus::Processing => {}
            }
        }
    }
}

impl Authority for AcmeAuthority {
    async fn issue(&self, name: &str) -> Result<Issued, IssueError> {
        let client = Client::new(&self.config.directory_ca).map_err(|error| IssueError::refusal(error.to_string()))?;
        let late = || IssueError::authority(format!("it took more than {} s", ISSUE_TIME.as_secs()));
        timeout(ISSUE_TIME, self.issue_in_time(name, &client)).await.map_err(|_| late())?
    }
}

/// Why a challenge failed, as the authority saw it.
async fn reason(order: &mut Order) -> Option<String> {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let state = authorization.refresh().await.ok()?;
        let error = state.challenges.iter().find_map(|challenge| challenge.error.as_ref());
        if let Some(problem) = error {
            return Some(problem.to_string());
        }
    }
    None
}

/// A fresh key, as PEM, and the request for a certificate of it.
fn key_and_request(name: &str) -> Result<(String, Vec<u8>), IssueError> {
    let failed = |error: rcgen::Error| IssueError::refusal(format!("no request can be made: {error}"));
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = CertificateParams::new(vec![name.to_owned()]).map_err(failed)?;
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key).map_err(failed)?;
    Ok((key.serialize_pem(), request.der().to_vec()))
}

impl IssueError {
    /// Somebody has to mend something.
    pub(crate) fn refusal(text: impl fmt::Display) -> Self {
        Self { cause: Cause::Refusal, retry_after: None, text: one_line(&text.to_string()) }
    }

    /// The authority is not well.
    pub(crate) fn authority(text: impl fmt::Display) -> Self {
        Self { cause: Cause::Authority, retry_after: None, text: one_line(&text.to_string()) }
    }

    fn of(what: &str, error: Error) -> Self {
        match error {
            Error::Api(problem) if problem.status.is_some_and(|status| status < 500) => {
                Self::refusal(format!("{what}: {problem}"))
            }
            Error::Api(problem) => Self::authority(format!("{what}: {problem}")),
            // What it answers is no ACME: a proxy in front of it, or a page about maintenance.
            Error::Json(error) => Self::authority(format!("{what}: its answer cannot be read: {error}")),
            error => {
                let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
                Self::authority(format!("{what}: {error}{cause}"))
            }
        }
    }

    /// Takes what the last answer said about when to come back.
    fn told(self, client: &Client) -> Self {
        Self { retry_after: client.retry_after(), ..self }
    }
}

/// Nothing that others say makes more than one line of a log, or a long one.
fn one_line(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let mut line: String = text.chars().map(plain).take(TEXT_CHARS_MAX).collect();
    if line.len() < text.len() && text.chars().count() > TEXT_CHARS_MAX {
        line.push('…');
    }
    line
}

impl fmt::Display for IssueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for IssueError {}

/// Authorities look from several places and take some seconds for each step.
pub(crate) const ISSUE_TIME: Duration = Duration::from_secs(180);
/// The first look at an order comes when a fast authority is done.
const POLL_FIRST: Duration = Duration::from_millis(250);
const POLL_MAX: Duration = Duration::from_secs(8);
/// An order for one name has one.
const AUTHORIZATIONS_MAX: usize = 4;
/// An authority's problem with its details.
const TEXT_CHARS_MAX: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(status: u16, detail: &str) -> Error {
        let text = format!(r#"{{"type": "urn:ietf:params:acme:error:x", "detail": "{detail}", "status": {status}}}"#);
        Error::Api(serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn refusals_and_failures_of_the_authority_are_told_apart() {
        for (status, cause) in [
            (400, Cause::Refusal),
            (403, Cause::Refusal),
            (429, Cause::Refusal),
            (500, Cause::Authority),
            (503, Cause::Authority),
        ] {
            let error = IssueError::of("it takes no order", problem(status, "because"));
            assert_eq!(error.cause, cause, "{status}");
            assert_eq!(error.to_string(), "it takes no order: API error: because (urn:ietf:params:acme:error:x)");
        }
        let html = serde_json::from_str::<u8>("<html>").unwrap_err();
        assert_eq!(IssueError::of("x", Error::Json(html)).cause, Cause::Authority);
    }

    #[test]
    fn words_of_others_stay_on_one_line_of_bounded_length() {
        let text = IssueError::of("x", problem(400, "a\\nb\\u001b[31m")).to_string();
        assert!(!text.contains(char::is_control) && text.contains("a b [31m"), "{text:?}");
        let at = IssueError::refusal("ä".repeat(TEXT_CHARS_MAX)).to_string();
        assert_eq!(at.chars().count(), TEXT_CHARS_MAX);
        assert!(!at.ends_with('…'));
        let beyond = IssueError::refusal("ä".repeat(TEXT_CHARS_MAX + 1)).to_string();
        assert_eq!(beyond.chars().count(), TEXT_CHARS_MAX + 1);
        assert!(beyond.ends_with('…'));
    }
}
