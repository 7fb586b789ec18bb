//! What is printed once everything runs.

use std::fmt::Write as _;
use std::io::{self, Write};

use adit::endpoint_url::{EndpointUrl, Scheme};
use serde_json::json;

use super::setup::Setup;

/// Writes to standard output. A reader that has gone away is no reason to stop.
pub(super) fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// One line for programs.
pub(super) fn ready_json(setup: &Setup) -> String {
    let endpoints: Vec<_> = setup
        .offers
        .iter()
        .flat_map(|offer| offer.public.iter().map(|url| (url.to_string(), &offer.forwards_to)))
        .map(|(url, forwards_to)| json!({"url": url, "forwards_to": forwards_to}))
        .collect();
    json!({
        "connect_url": setup.connect_url(),
        "ca_file": setup.ca_file,
        "authtoken": setup.authtoken(),
        "https": setup.ports.https,
        "http": setup.ports.http,
        "tls": setup.ports.tls,
        "endpoints": endpoints,
    })
    .to_string()
}

/// The same for people: commands to copy.
pub(super) fn for_people(setup: &Setup) -> String {
    let mut text = String::from("Gateway and agent are running. Try:\n");
    for offer in &setup.offers {
        // Writing to a String does not fail.
        let _ = writeln!(text, "\n  # {}", offer.forwards_to);
        for url in &offer.public {
            let _ = writeln!(text, "  {}", attempt(setup, url));
        }
    }
    let _ = write!(
        text,
        "\nAnother agent, or an SDK, can join and bind names below .localhost, tcp:// on a free port, and .internal:\n\n  \
         connect_url: {}\n  connect_cas: {}\n  authtoken:   {}\n  https: {}   http: {}   tls: {}\n\n\
         Ctrl-C ends all of it and leaves nothing behind.",
        setup.connect_url(),
        setup.ca_file.display(),
        setup.authtoken(),
        setup.ports.https,
        setup.ports.http,
        setup.ports.tls,
    );
    text
}

/// A command that reaches the endpoint. The names are not left to the resolver: not every one knows that all below
/// `localhost` is this machine.
fn attempt(setup: &Setup, url: &EndpointUrl) -> String {
    let host = url.host();
    match url.scheme() {
        Scheme::Https => {
            let (port, ca) = (setup.ports.https.port(), quoted(&setup.ca_file.display().to_string()));
            format!("curl --cacert {ca} --resolve {host}:{port}:127.0.0.1 https://{host}:{port}/")
        }
        Scheme::Http => {
            let port = setup.ports.http.port();
            format!("curl --resolve {host}:{port}:127.0.0.1 http://{host}:{port}/")
        }
        // The certificate is the upstream's own, of which nothing is known here.
        Scheme::Tls => format!("openssl s_client -connect {} -servername {host}", setup.ports.tls),
        Scheme::Tcp => format!("nc 127.0.0.1 {}", url.port()),
    }
}

/// For a shell: temporary directories may have any name.
fn quoted(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte);
    if text.bytes().all(is_plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_survive_the_shell() {
        assert_eq!(quoted("/tmp/adit-dev-1/ca.crt"), "/tmp/adit-dev-1/ca.crt");
        assert_eq!(quoted("/tmp/it's here/ca.crt"), r"'/tmp/it'\''s here/ca.crt'");
    }
}
