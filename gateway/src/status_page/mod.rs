//! The status page: what whoever runs the gateway sees in a browser. It changes nothing, loads nothing from elsewhere, and
//! its tables are there without JavaScript; with it they follow along.

mod history;
mod page;
mod sites;
mod sparkline;
mod words;

use http::{HeaderName, HeaderValue, Response, header};
use percent_encoding::percent_decode_str;

pub use history::History;
use page::Facts;

use crate::fleet::report::{self, Filter};
use crate::gateway::Gateway;

/// The page, with what is looked for (see [`wanted`]).
#[must_use]
pub(crate) fn html(gateway: &Gateway, history: &History, wanted: &str) -> String {
    let filter = Filter::default();
    let facts = Facts {
        sites: report::sites(gateway, &filter),
        endpoints: report::endpoints(gateway, &filter),
        events: gateway.events().recent(),
        samples: history.samples(),
        losses: gateway.events().losses(),
        waiting: gateway.events().waiting(),
        wanted: wanted.to_owned(),
    };
    page::page(&facts).into_string()
}

/// Forbids everything that the page does not need.
pub fn protect<B>(response: &mut Response<B>) {
    const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
                          form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
    let headers: [(HeaderName, &'static str); 3] = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
}

/// The words to look for (`q=`), in lower case, as a form sends them.
pub(crate) fn wanted(query: &str) -> String {
    let value = query.split('&').find_map(|pair| pair.strip_prefix("q=")).unwrap_or_default();
    let text = value.replace('+', " ");
    let text = percent_decode_str(&text).decode_utf8_lossy().into_owned();
    text.trim().chars().take(WANTED_CHARS_MAX).collect::<String>().to_lowercase()
}

/// How the page looks.
pub const STYLE: &str = include_str!("status.css");
/// Lets the page follow along.
pub const SCRIPT: &str = include_str!("status.js");
/// Names are shorter.
const WANTED_CHARS_MAX: usize = 200;

#[cfg(test)]
mod tests;
