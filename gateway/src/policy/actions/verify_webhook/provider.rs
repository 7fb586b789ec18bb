//! The providers, and how each of them signs.

use adit::endpoint_url::Scheme;
use http::HeaderName;
use http::request::Parts;
use subtle::ConstantTimeEq;

use super::super::super::error::{CONFIG, CONFIG_VALUE, HEADER_NAME};
use super::super::super::fields::Fields;
use super::signature::{Encoding, Form, Hash, KeyForm, Layout, Piece, Signed, Time, single};
use super::{Flaw, twilio};

/// A provider of webhooks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Provider {
    name: &'static str,
    method: Method,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Method {
    Hmac(Box<Form>),
    /// The secret itself stands in this header.
    Token(&'static str),
    Twilio,
}

/// What a request brings to show that it is from its provider.
#[derive(Debug)]
pub(super) enum Claim {
    Hmac(Signed),
    Token(String),
    Twilio(twilio::Signed),
}

impl Provider {
    /// Reads the provider, and for the generic one how it signs.
    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let name = fields.required_text("provider", "github")?;
        if name == GENERIC {
            return Self::generic(fields);
        }
        let found = Self::named(name);
        if found.is_none() {
            let known: Vec<_> =
                SIMPLE.iter().map(|(name, ..)| *name).chain(TIMED.iter().map(|(name, ..)| *name)).collect();
            let message = format!("must be {GENERIC}, gitlab, twilio, {}", known.join(", "));
            fields.wrong("provider", CONFIG_VALUE, message);
        }
        found
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "gitlab" => return Some(Self { name: "gitlab", method: Method::Token("x-gitlab-token") }),
            "twilio" => return Some(Self { name: "twilio", method: Method::Twilio }),
            _ => {}
        }
        let simple = SIMPLE.iter().copied().find(|(known, ..)| *known == name);
        if let Some((name, header, prefix, hash, encoding)) = simple {
            let layout = match prefix {
                "v1=*" => Layout::Pairs("v1"),
                prefix => Layout::Prefixed(prefix.into()),
            };
            let form = Form {
                header: header.into(),
                layout,
                hash,
                encoding,
                message: &[Piece::Body],
                time: Time::Unsigned,
                key: KeyForm::Text,
            };
            return Some(Self { name, method: Method::Hmac(Box::new(form)) });
        }
        let (name, header, style) = TIMED.iter().copied().find(|(known, ..)| *known == name)?;
        Some(Self { name, method: Method::Hmac(Box::new(style.form(header))) })
    }

    /// The generic form: a header with the keyed hash of the body.
    fn generic(fields: &mut Fields<'_>) -> Option<Self> {
        let header = fields.text("header").unwrap_or("x-signature");
        if HeaderName::from_bytes(header.as_bytes()).is_err() {
            fields.wrong("header", HEADER_NAME, "is not the name of a header: letters, digits and - are possible");
        }
        let prefix = fields.text("prefix").unwrap_or_default();
        if prefix.len() > PREFIX_BYTES_MAX {
            fields.wrong("prefix", CONFIG, format!("must have {PREFIX_BYTES_MAX} bytes at most"));
        }
        let hash = match fields.choice("algorithm", &["sha256", "sha1", "sha512"]) {
            Some("sha1") => Hash::Sha1,
            Some("sha512") => Hash::Sha512,
            _ => Hash::Sha256,
        };
        let encoding = match fields.choice("encoding", &["hex", "base64"]) {
            Some("base64") => Encoding::Base64,
            _ => Encoding::Hex,
        };
        let form = Form {
            header: header.to_ascii_lowercase().into(),
            layout: Layout::Prefixed(prefix.into()),
            hash,
            encoding,
            message: &[Piece::Body],
            time: Time::Unsigned,
            key: KeyForm::Text,
        };
        Some(Self { name: GENERIC, method: Method::Hmac(Box::new(form)) })
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn is_xero(&self) -> bool {
        self.name == "xero"
    }

    /// What the head of a request brings; a request that brings nothing is refused before its body is read.
    pub(super) fn claim(&self, head: &Parts, scheme: Scheme, now: i64) -> Result<Claim, Flaw> {
        match &self.method {
            Method::Hmac(form) => form.read(&head.headers, now).map(Claim::Hmac),
            Method::Token(header) => Ok(Claim::Token(single(&head.headers, header)?.to_owned())),
            Method::Twilio => twilio::Signed::read(head, scheme).map(Claim::Twilio),
        }
    }
}

impl Claim {
    /// Whether it is true of the body.
    pub(super) fn holds(&self, secret: &[u8], body: &[u8]) -> Result<bool, Flaw> {
        match self {
            Self::Hmac(signed) => signed.holds(secret, body),
            Self::Token(token) => Ok(bool::from(token.as_bytes().ct_eq(secret))),
            Self::Twilio(signed) => Ok(signed.holds(secret, body)),
        }
    }
}

/// Ways of signing a time together with the body.
#[derive(Clone, Copy, Debug)]
enum Style {
    /// `t=TIME,v1=HEX` of `TIME.BODY`.
    Pairs,
    /// `v0=HEX` of `v0:TIME:BODY`, with the time in this header.
    V0(&'static str),
    /// `v1,BASE64` of `ID.TIME.BODY`, with both in headers.
    Svix,
}

impl Style {
    fn form(self, header: &str) -> Form {
        let form = |layout, encoding, message, time, key| Form {
            header: header.into(),
            layout,
            hash: Hash::Sha256,
            encoding,
            message,
            time,
            key,
        };
        match self {
            Self::Pairs => {
                let message = &[Piece::Time, Piece::Text("."), Piece::Body];
                form(Layout::Pairs("v1"), Encoding::Hex, message, Time::Pair("t"), KeyForm::Text)
            }
            Self::V0(time) => {
                let message = &[Piece::Text("v0:"), Piece::Time, Piece::Text(":"), Piece::Body];
                form(Layout::Prefixed("v0=".into()), Encoding::Hex, message, Time::Header(time), KeyForm::Text)
            }
            Self::Svix => {
                const MESSAGE: &[Piece] =
                    &[Piece::Header("svix-id"), Piece::Text("."), Piece::Time, Piece::Text("."), Piece::Body];
                let time = Time::Header("svix-timestamp");
                form(Layout::Versions("v1"), Encoding::Base64, MESSAGE, time, KeyForm::Whsec)
            }
        }
    }
}

/// The generic form, which ngrok's reference does not have.
const GENERIC: &str = "hmac";

/// A header holds it in front of the signature.
const PREFIX_BYTES_MAX: usize = 64;

/// Those that sign the body alone: name, header, what stands in front of the signature, hash, and how it is written.
/// `v1=*` means pairs of which several may be signatures.
const SIMPLE: &[(&str, &str, &str, Hash, Encoding)] = &[
    ("bitbucket", "x-hub-signature", "sha256=", Hash::Sha256, Encoding::Hex),
    ("circleci", "circleci-signature", "v1=*", Hash::Sha256, Encoding::Hex),
    ("dropbox", "x-dropbox-signature", "", Hash::Sha256, Encoding::Hex),
    ("facebook_graph_api", "x-hub-signature-256", "sha256=", Hash::Sha256, Encoding::Hex),
    ("facebook_messenger", "x-hub-signature-256", "sha256=", Hash::Sha256, Encoding::Hex),
    ("github", "x-hub-signature-256", "sha256=", Hash::Sha256, Encoding::Hex),
    ("heroku", "heroku-webhook-hmac-sha256", "", Hash::Sha256, Encoding::Base64),
    ("instagram", "x-hub-signature-256", "sha256=", Hash::Sha256, Encoding::Hex),
    ("intercom", "x-hub-signature", "sha1=", Hash::Sha1, Encoding::Hex),
    ("launch_darkly", "x-ld-signature", "", Hash::Sha256, Encoding::Hex),
    ("linear", "linear-signature", "", Hash::Sha256, Encoding::Hex),
    ("pagerduty", "x-pagerduty-signature", "v1=*", Hash::Sha256, Encoding::Hex),
    ("sentry", "sentry-hook-signature", "", Hash::Sha256, Encoding::Hex),
    ("shopify", "x-shopify-hmac-sha256", "", Hash::Sha256, Encoding::Base64),
    ("twitter", "x-twitter-webhooks-signature", "sha256=", Hash::Sha256, Encoding::Base64),
    ("typeform", "typeform-signature", "sha256=", Hash::Sha256, Encoding::Base64),
    ("worldline", "x-gcs-signature", "", Hash::Sha256, Encoding::Base64),
    ("xero", "x-xero-signature", "", Hash::Sha256, Encoding::Base64),
];

/// Those that sign the time as well.
const TIMED: &[(&str, &str, Style)] = &[
    ("calendly", "calendly-webhook-signature", Style::Pairs),
    ("clerk", "svix-signature", Style::Svix),
    ("mux", "mux-signature", Style::Pairs),
    ("slack", "x-slack-signature", Style::V0("x-slack-request-timestamp")),
    ("stripe", "stripe-signature", Style::Pairs),
    ("zoom", "x-zm-signature", Style::V0("x-zm-request-timestamp")),
];
