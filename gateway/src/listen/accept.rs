//! Accepts connections for as long as it is wanted, whatever goes wrong meanwhile.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::house::House;
use super::socket;
use crate::http::reach::Visitor;

/// Accepts until `stop` says so, and gives every connection to `serve`. With `is_gated` it waits while as many connections
/// as allowed have not said yet what they want; those that come meanwhile wait in the listen queue.
pub(super) async fn accept(
    listener: TcpListener,
    house: Arc<House>,
    is_gated: bool,
    mut stop: watch::Receiver<bool>,
    serve: impl Fn(TcpStream, Visitor),
) {
    let accept = async {
        let mut failing = false;
        loop {
            if is_gated {
                house.room().await;
            }
            match listener.accept().await {
                Ok((tcp, peer)) => {
                    failing = false;
                    socket::prepare(&tcp);
                    // Without a local address the connection is over already.
                    if let Some(visitor) = visitor(&house, &tcp, peer) {
                        serve(tcp, visitor);
                    }
                }
                Err(error) if is_of_connection(&error) => tracing::debug!("a connection was gone at once: {error}"),
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::error!("no connection can be accepted now: {error}");
                    }
                    tokio::time::sleep(FAILURE_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = accept => {}
        // Who would say so being gone says the same.
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

fn visitor(house: &House, tcp: &TcpStream, peer: SocketAddr) -> Option<Visitor> {
    let local = tcp.local_addr().ok()?;
    let number = house.gateway.ledger().next_number();
    Some(Visitor { peer: socket::canonical(peer), local: socket::canonical(local), number })
}

/// Errors of the one connection that was being accepted, not of the listener.
fn is_of_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// When descriptors or memory have run out, trying at once only costs time; they come back as connections end.
const FAILURE_PAUSE: Duration = Duration::from_millis(100);
