//! What the agent is told while it runs: by signals, or by another thread of its process.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mio::net::UnixStream;
use mio::{Interest, Registry, Token, Waker};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};

/// Speaks to a running [`super::Agent`].
#[derive(Clone)]
pub struct Handle {
    orders: Arc<Orders>,
    waker: Arc<Waker>,
}

impl Handle {
    /// Ends the agent: its endpoints go offline, its streams may end within the drain time. A second call ends it at
    /// once.
    pub fn drain(&self) {
        if self.orders.drain.swap(true, Ordering::SeqCst) {
            self.orders.quit.store(true, Ordering::SeqCst);
        }
        self.wake();
    }

    /// Ends the present session, or the wait for the next one, and connects now.
    pub fn reconnect(&self) {
        self.orders.reconnect.store(true, Ordering::SeqCst);
        self.wake();
    }

    fn wake(&self) {
        // The loop looks at its orders in every turn; without a wake-up only later.
        let _ = self.waker.wake();
    }
}

#[derive(Default)]
struct Orders {
    drain: Arc<AtomicBool>,
    quit: Arc<AtomicBool>,
    reconnect: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
}

/// The loop's end of it.
pub(super) struct Control {
    handle: Handle,
    signals: Option<UnixStream>,
    drained: bool,
}

/// An order, taken once.
pub(super) enum Order {
    Drain,
    Quit,
    Reconnect,
    Reload,
}

impl Control {
    pub(super) fn new(waker: Arc<Waker>) -> Self {
        Self { handle: Handle { orders: Arc::default(), waker }, signals: None, drained: false }
    }

    pub(super) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    pub(super) fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.handle.waker)
    }

    pub(super) fn watch_signals(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let (sender, receiver) = std::os::unix::net::UnixStream::pair()?;
        receiver.set_nonblocking(true)?;
        let mut receiver = UnixStream::from_std(receiver);
        registry.register(&mut receiver, token, Interest::READABLE)?;
        let orders = &self.handle.orders;
        for signal in [SIGTERM, SIGINT] {
            // The second one finds `drain` set and ends the process at once: this action has to come first.
            signal_hook::flag::register_conditional_shutdown(signal, SECOND_SIGNAL_STATUS, Arc::clone(&orders.drain))?;
            signal_hook::flag::register(signal, Arc::clone(&orders.drain))?;
        }
        signal_hook::flag::register(SIGUSR1, Arc::clone(&orders.reconnect))?;
        signal_hook::flag::register(SIGHUP, Arc::clone(&orders.reload))?;
        for signal in [SIGTERM, SIGINT, SIGUSR1, SIGHUP] {
            signal_hook::low_level::pipe::register(signal, sender.try_clone()?)?;
        }
        self.signals = Some(receiver);
        Ok(())
    }

    /// Empties the pipe that woke the loop; the orders say which signals there were.
    pub(super) fn clear_signals(&mut self) {
        let mut bytes = [0; 64];
        if let Some(signals) = &mut self.signals {
            while matches!(signals.read(&mut bytes), Ok(len) if len > 0) {}
        }
    }

    pub(super) fn take(&mut self) -> Option<Order> {
        let orders = &self.handle.orders;
        if orders.quit.load(Ordering::SeqCst) {
            return Some(Order::Quit);
        }
        if orders.drain.load(Ordering::SeqCst) && !std::mem::replace(&mut self.drained, true) {
            return Some(Order::Drain);
        }
        if orders.reconnect.swap(false, Ordering::SeqCst) {
            return Some(Order::Reconnect);
        }
        orders.reload.swap(false, Ordering::SeqCst).then_some(Order::Reload)
    }
}

/// Exit status after a second SIGTERM or SIGINT: the drain was cut short.
const SECOND_SIGNAL_STATUS: i32 = 1;
