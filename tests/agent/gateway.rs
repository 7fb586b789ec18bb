//! The gateway: accepts links and serves them as it is told.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use crate::patience::Watched;
use crate::peer::{Peer, Script};
use crate::site::Site;

/// What happens to a connection that was accepted.
#[derive(Clone)]
pub(crate) enum Behaviour {
    Serve(Script),
    /// Nobody reads it and nobody answers.
    Ignore,
}

pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    pub(crate) site: Site,
    links: Arc<Watched<Links>>,
}

struct Links {
    behaviour: Behaviour,
    accepted: usize,
    peers: Vec<Peer>,
    ignored: Vec<TcpStream>,
}

impl Gateway {
    /// A gateway of ours.
    pub(crate) fn adit() -> Self {
        Self::new(Behaviour::Serve(Script { adit: true, ..Script::default() }))
    }

    /// A gateway that does not know `Extra.Adit`.
    pub(crate) fn official() -> Self {
        Self::new(Behaviour::Serve(Script::default()))
    }

    pub(crate) fn new(behaviour: Behaviour) -> Self {
        Self::with(Site::new(), behaviour)
    }

    /// A gateway of ours with certificates of the test's.
    pub(crate) fn at(site: Site) -> Self {
        Self::with(site, Behaviour::Serve(Script { adit: true, ..Script::default() }))
    }

    fn with(site: Site, behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let links = Links { behaviour, accepted: 0, peers: Vec::new(), ignored: Vec::new() };
        let links = Arc::new(Watched::new(links));
        let (shared, config) = (Arc::clone(&links), Arc::clone(&site.server));
        thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                shared.with(|links| {
                    links.accepted += 1;
                    match links.behaviour.clone() {
                        Behaviour::Serve(script) => {
                            links.peers.push(Peer::serve(socket, Arc::clone(&config), script));
                        }
                        Behaviour::Ignore => links.ignored.push(socket),
                    }
                });
            }
        });
        Self { address, site, links }
    }

    /// From the next connection on.
    pub(crate) fn set(&self, behaviour: Behaviour) {
        self.links.with(|links| links.behaviour = behaviour);
    }

    /// The link with this number, counted from 0, once it was accepted.
    pub(crate) fn peer(&self, number: usize) -> Peer {
        self.links.wait("a connection of the agent", |links| links.peers.get(number).cloned())
    }

    pub(crate) fn wait_accepted(&self, count: usize) {
        self.links.wait("connections of the agent", |links| (links.accepted >= count).then_some(()));
    }

    pub(crate) fn accepted(&self) -> usize {
        self.links.with(|links| links.accepted)
    }
}
