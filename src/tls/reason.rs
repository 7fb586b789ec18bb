//! Why TLS failed, in words that say who can mend it.

use rustls::{CertificateError, Error};

use super::clock::Clock;
use super::verifier::Refusal;
use crate::wall_time::WallTime;

/// Whether a certificate was refused for its time and nothing else: a clock that is set, or a new certificate, mends it.
pub(crate) fn is_about_time(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidCertificate(
            CertificateError::NotValidYetContext { .. } | CertificateError::ExpiredContext { .. }
        )
    )
}

/// The error for a log line. One about time names the time that was taken, where it came from, and the time from or to
/// which the certificate is valid.
pub(crate) fn in_words(error: &Error) -> String {
    in_words_by(error, Clock::REAL)
}

pub(super) fn in_words_by(error: &Error, clock: Clock) -> String {
    let wall = |time: &rustls::pki_types::UnixTime| WallTime::from_unix(time.as_secs());
    match error {
        Error::InvalidCertificate(CertificateError::NotValidYetContext { time, not_before }) => {
            not_valid_yet(wall(time), wall(not_before), clock)
        }
        Error::InvalidCertificate(CertificateError::ExpiredContext { time, not_after }) => {
            expired(wall(time), wall(not_after), clock)
        }
        Error::InvalidCertificate(CertificateError::Other(other)) => match other.0.downcast_ref::<Refusal>() {
            Some(refusal) => refusal.to_string(),
            None => error.to_string(),
        },
        _ => error.to_string(),
    }
}

fn not_valid_yet(time: WallTime, not_before: WallTime, clock: Clock) -> String {
    if time == clock.build {
        let system = (clock.system)();
        return format!(
            "the certificate is not valid before {not_before}; the system clock says {system}, so {time} was taken, when \
             this adit was built: set this machine's clock"
        );
    }
    format!(
        "the certificate is not valid before {not_before}, and the system clock says {time}: set this machine's clock"
    )
}

fn expired(time: WallTime, not_after: WallTime, clock: Clock) -> String {
    if time == clock.build {
        return format!(
            "the certificate expired at {not_after}, before this adit was built ({time}), so no clock is to blame: renew \
             the certificate"
        );
    }
    format!(
        "the certificate expired at {not_after}, and the system clock says {time}: renew the certificate, or set this \
         machine's clock if it is ahead"
    )
}
