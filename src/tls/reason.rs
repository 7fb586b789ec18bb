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

/// Why a visitor was refused whose TLS ends here. It chose its certificate: nothing of that is repeated, so that the words
/// are few, and the same for all that come again.
pub(crate) fn of_visitor(error: &Error) -> String {
    let words = match error {
        Error::NoCertificatesPresented => "it showed no certificate",
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "its certificate is of no authority that this endpoint trusts"
        }
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "its certificate has expired, by this machine's clock"
        }
        Error::InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
            "its certificate is not valid yet, by this machine's clock"
        }
        Error::InvalidCertificate(
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
        ) => "its certificate is not for clients (extended key usage)",
        _ => return error.to_string().chars().take(VISITOR_WORDS_MAX).collect(),
    };
    words.to_owned()
}

/// Characters of an error that a visitor may have had a part in.
const VISITOR_WORDS_MAX: usize = 160;

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

#[cfg(test)]
mod tests {
    use rustls::pki_types::UnixTime;
    use std::time::Duration;

    use super::*;

    #[test]
    fn words_about_a_visitor_repeat_nothing_that_it_chose() {
        let at = |secs| UnixTime::since_unix_epoch(Duration::from_secs(secs));
        let expired = |time, not_after| {
            of_visitor(&Error::InvalidCertificate(CertificateError::ExpiredContext {
                time: at(time),
                not_after: at(not_after),
            }))
        };
        assert_eq!(expired(2_000_000_000, 1), expired(2_000_000_007, 2));
        let endless = Error::General("x".repeat(30_000));
        assert_eq!(of_visitor(&endless).chars().count(), VISITOR_WORDS_MAX);
    }
}
