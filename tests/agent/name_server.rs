//! A name server on loopback that answers as it is told.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread;

use crate::patience::Watched;

/// What is said to a question for IPv4 addresses; to one for IPv6 addresses there are none.
#[derive(Clone)]
pub(crate) enum Says {
    Addresses(Vec<Ipv4Addr>),
    ServerFailure,
    Nothing,
}

pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    state: Arc<Watched<State>>,
}

struct State {
    says: Says,
    /// Questions for IPv4 addresses.
    asked: usize,
}

impl NameServer {
    pub(crate) fn new(says: Says) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = socket.local_addr().unwrap();
        let state = Arc::new(Watched::new(State { says, asked: 0 }));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            let mut bytes = [0; 512];
            while let Ok((len, client)) = socket.recv_from(&mut bytes) {
                let question = &bytes[..len];
                let for_v4 = question.ends_with(&[0, 1, 0, 1]);
                let says = shared.with(|state| {
                    state.asked += usize::from(for_v4);
                    state.says.clone()
                });
                let answer = match says {
                    Says::Addresses(addresses) if for_v4 => answer(question, 0, &addresses),
                    Says::Addresses(_) => answer(question, 0, &[]),
                    Says::ServerFailure => answer(question, 2, &[]),
                    Says::Nothing => continue,
                };
                let _ = socket.send_to(&answer, client);
            }
        });
        Self { address, state }
    }

    /// From the next question on.
    pub(crate) fn say(&self, says: Says) {
        self.state.with(|state| state.says = says);
    }

    pub(crate) fn asked(&self) -> usize {
        self.state.with(|state| state.asked)
    }

    pub(crate) fn wait_asked(&self, count: usize) {
        self.state.wait("questions to the name server", |state| (state.asked >= count).then_some(()));
    }
}

fn answer(question: &[u8], code: u8, addresses: &[Ipv4Addr]) -> Vec<u8> {
    let mut bytes = question[..2].to_vec();
    bytes.extend([0x81, 0x80 | code, 0, 1, 0, u8::try_from(addresses.len()).unwrap(), 0, 0, 0, 0]);
    bytes.extend(&question[12..]);
    for address in addresses {
        bytes.extend([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        bytes.extend(address.octets());
    }
    bytes
}
