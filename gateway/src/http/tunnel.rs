//! Connections that have changed from HTTP to another protocol: bytes both ways until both sides have ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::limits::TUNNEL_BUFFER_BYTES;
use super::stay::Stay;
use super::upstream::Lease;
use crate::access_log::{Ending, Visit};

/// Copies between the visitor and the agent once both have switched. Each side's end is passed on while the other direction
/// goes on; an abort of one side aborts the other, for which `cut` is set. The end of the visitor's stay aborts both.
pub(super) fn spawn(visitor: OnUpgrade, upstream: OnUpgrade, lease: Lease, stay: Stay, cut: Arc<AtomicBool>) {
    tokio::spawn(async move {
        let visit = lease.visit();
        // From the beginning: a side may take its time over the switch as well.
        tokio::select! {
            () = join(visitor, upstream, lease, &cut) => {}
            () = stay.over() => {
                cut.store(true, Ordering::Relaxed);
                tracing::info!("an upgraded connection was ended: the session that let it through is over");
                note(visit.as_deref(), Ending::Aborted);
            }
        }
    });
}

async fn join(visitor: OnUpgrade, upstream: OnUpgrade, lease: Lease, cut: &AtomicBool) {
    let (visitor, upstream) = match tokio::try_join!(visitor, upstream) {
        Ok(both) => both,
        Err(error) => {
            tracing::debug!(%error, "an upgrade was not completed");
            return;
        }
    };
    // The task that led the HTTP exchange has handed its stream over; only now it may be dropped.
    let visit = lease.visit();
    drop(lease);
    let (mut visitor, mut upstream) = (TokioIo::new(visitor), TokioIo::new(upstream));
    let copied =
        tokio::io::copy_bidirectional_with_sizes(&mut visitor, &mut upstream, TUNNEL_BUFFER_BYTES, TUNNEL_BUFFER_BYTES);
    match copied.await {
        Ok((sent, received)) => {
            note(visit.as_deref(), Ending::Done);
            tracing::debug!(sent, received, "an upgraded connection ended");
        }
        Err(error) => {
            cut.store(true, Ordering::Relaxed);
            note(visit.as_deref(), Ending::Aborted);
            tracing::debug!(%error, "an upgraded connection was aborted");
        }
    }
}

fn note(visit: Option<&Visit>, ending: Ending) {
    if let Some(visit) = visit {
        visit.ended(ending);
    }
}
