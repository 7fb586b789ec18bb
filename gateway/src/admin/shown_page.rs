//! The status page, which is put together at most once a second for all who look for the same.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::Admin;
use crate::status_page;

/// The page that was put together last.
#[derive(Debug, Default)]
pub(super) struct ShownPage {
    last: Arc<Mutex<Option<Page>>>,
}

#[derive(Debug)]
struct Page {
    at: Instant,
    wanted: String,
    html: Bytes,
}

/// The page with what the query looks for: that of the last second, or a new one. `None`: it could not be put together.
pub(super) async fn page(admin: &Arc<Admin>, query: &str) -> Option<Bytes> {
    let wanted = status_page::wanted(query);
    let mut last = Arc::clone(&admin.page.last).lock_owned().await;
    if let Some(page) = &*last
        && page.wanted == wanted
        && page.at.elapsed() < PAUSE
    {
        return Some(page.html.clone());
    }
    let looker = Arc::clone(admin);
    let looking = admin.gateway.look(move |gateway| {
        let html = Bytes::from(status_page::html(gateway, &looker.history, &wanted));
        *last = Some(Page { at: Instant::now(), wanted, html: html.clone() });
        html
    });
    looking.await
}

/// The page asks anew every five seconds; whoever asks in a loop gets what there is.
const PAUSE: Duration = Duration::from_secs(1);
