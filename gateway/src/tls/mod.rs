//! TLS that ends at the gateway in the name of an endpoint: what the endpoint asks of it, and what is known of a
//! connection afterwards.

mod certificate_facts;
mod client_check;
mod session;
mod termination;

pub use certificate_facts::{CertificateFacts, DistinguishedName, Extension};
pub use client_check::{ClientCheck, ClientCheckError, Presented, Strategy};
pub use session::{ClientCertificate, Session};
pub use termination::{Prepared, Termination, Version, Versions};
