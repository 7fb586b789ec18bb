//! The TCP ports that are open for agents' public endpoints: each as long as an endpoint has it, or is given time to come
//! back to it.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::Gateway;

/// Listens on ports and hands what comes to the gateway.
pub trait TcpPorts: Send + Sync {
    /// Begins to listen on `port` on all addresses of `tcp` endpoints; on a port that is free on all of them when there
    /// is none. Gives the port. It must not call the gateway while it is being called.
    ///
    /// # Errors
    ///
    /// What the operating system says, such as that another program has the port.
    fn open(&self, port: Option<u16>) -> io::Result<u16>;

    /// Listens no more on `port`. Connections that were accepted go on.
    fn close(&self, port: u16);
}

/// The ports and who opens them.
#[derive(Default)]
pub(super) struct Ports {
    opener: OnceLock<Box<dyn TcpPorts>>,
    open: Mutex<BTreeSet<u16>>,
}

impl Gateway {
    /// Says who listens on ports; before that, agents get no public `tcp` endpoints. Only the first call counts.
    pub fn set_tcp_ports(&self, opener: Box<dyn TcpPorts>) {
        let _ = self.ports.opener.set(opener);
    }

    /// Opens the port of an endpoint that is in the registry already.
    pub(crate) fn open_port(&self, port: u16) -> io::Result<()> {
        let mut open = self.ports.lock();
        if !open.contains(&port) {
            self.ports.opener()?.open(Some(port))?;
            open.insert(port);
        }
        Ok(())
    }

    /// Opens whatever port is free, for an endpoint that is entered in the registry next; if it is not,
    /// [`Gateway::close_free_ports`] closes the port.
    pub(crate) fn open_any_port(&self) -> Option<u16> {
        let mut open = self.ports.lock();
        let port = self.ports.opener().and_then(|opener| opener.open(None)).ok()?;
        open.insert(port);
        Some(port)
    }

    /// Closes the ports that no endpoint has or is given time to come back to.
    pub(crate) fn close_free_ports(&self, now: Instant) {
        let mut open = self.ports.lock();
        if open.is_empty() {
            return;
        }
        let mut state = self.state();
        state.registry.expire(now);
        let (taken, free) = open.iter().copied().partition(|port| state.registry.has_tcp_port(*port));
        *open = taken;
        let free: BTreeSet<u16> = free;
        drop(state);
        for port in free {
            if let Ok(opener) = self.ports.opener() {
                opener.close(port);
            }
        }
    }

    /// Does so when `hold` has passed: a quiet gateway has no other occasion to notice that nobody came back.
    pub(super) fn close_ports_after(self: &Arc<Self>, hold: Duration) {
        if self.ports.lock().is_empty() {
            return;
        }
        let gateway = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(hold).await;
            if let Some(gateway) = gateway.upgrade() {
                gateway.close_free_ports(tokio::time::Instant::now().into_std());
            }
        });
    }
}

impl Ports {
    fn opener(&self) -> io::Result<&dyn TcpPorts> {
        self.opener.get().map(AsRef::as_ref).ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<u16>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
