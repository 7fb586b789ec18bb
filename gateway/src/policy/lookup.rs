//! Looks names up for requests to servers outside.
//!
//! The system's resolver cannot be interrupted: a thread of the gateway waits for it, also when nobody wants the answer any
//! more. So there are only so many look-ups at a time, and each keeps its place until the resolver has come back.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::time::timeout;

use crate::shares::Shares;

/// On whose account a name is looked up.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Payer<'a> {
    /// What keeps the gateway's own promises, such as the keys of issuers and the providers of log-ins.
    Gateway,
    /// A policy of this account.
    Account(&'a Arc<str>),
}

/// The addresses of a host, in the resolver's order.
///
/// # Errors
///
/// Why there is none, in words.
pub(super) async fn look_up(name: &str, port: u16, payer: Payer<'_>) -> Result<Vec<SocketAddr>, String> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let name = name.to_owned();
    let work = async move { tokio::net::lookup_host((name, port)).await.map(Iterator::collect) };
    let found = match payer {
        Payer::Gateway => in_turn(&OWN, &GATEWAY, work).await?,
        Payer::Account(account) => in_turn(&OF_ACCOUNTS, account, work).await?,
    };
    found.map_err(|error| format!("the host is not found: {error}"))
}

/// Does work when it is its turn. It goes on when the caller does not wait for it.
async fn in_turn<T: Send + 'static>(
    shares: &Shares,
    account: &Arc<str>,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, String> {
    let place = timeout(WAIT_TIME, shares.one(account)).await;
    let place = place.map_err(|_| "too many names are being looked up already".to_owned())?;
    let task = tokio::spawn(async move {
        let done = work.await;
        drop(place);
        done
    });
    task.await.map_err(|_| "the look-up of the host was given up".to_owned())
}

/// How long a look-up waits for its turn.
const WAIT_TIME: Duration = Duration::from_secs(2);
/// Look-ups of all accounts at a time: each takes a thread, of which tokio has 512.
const LOOKUPS_MAX: usize = 64;
/// And of one account: one that names a slow name server shall not keep the others waiting.
const LOOKUPS_PER_ACCOUNT: usize = 8;
/// And of the gateway itself.
const LOOKUPS_OWN: usize = 64;

static OF_ACCOUNTS: LazyLock<Shares> = LazyLock::new(|| Shares::new(LOOKUPS_MAX, LOOKUPS_PER_ACCOUNT));
static OWN: LazyLock<Shares> = LazyLock::new(|| Shares::new(LOOKUPS_OWN, LOOKUPS_OWN));
static GATEWAY: LazyLock<Arc<str>> = LazyLock::new(|| "".into());

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn account_with_too_many_slow_lookups_waits_alone_and_not_for_ever() {
        let shares = Arc::new(Shares::new(4, 2));
        let (slow, other): (Arc<str>, Arc<str>) = ("slow".into(), "other".into());
        let mut ends = Vec::new();
        for _ in 0..2 {
            let (end, ended) = oneshot::channel::<()>();
            ends.push(end);
            // Nobody waits for the answer any more: the resolver does not know.
            let given_up = timeout(Duration::from_millis(1), in_turn(&shares, &slow, ended)).await;
            assert!(given_up.is_err());
        }
        let refused = in_turn(&shares, &slow, async { 1 }).await;
        assert_eq!(refused.unwrap_err(), "too many names are being looked up already");
        assert_eq!(in_turn(&shares, &other, async { 2 }).await, Ok(2));
        ends.clear();
        assert_eq!(in_turn(&shares, &slow, async { 3 }).await, Ok(3));
    }

    #[tokio::test]
    async fn address_needs_no_lookup() {
        let found = look_up("2001:db8::1", 443, Payer::Account(&"a".into())).await;
        assert_eq!(found, Ok(vec!["[2001:db8::1]:443".parse().unwrap()]));
    }
}
