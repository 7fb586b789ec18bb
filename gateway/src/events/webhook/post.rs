//! One delivery: a request, and what the receiver says.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use http::{HeaderValue, Method, Request};
use http_body_util::Full;
use tokio::time::timeout;

use super::Webhook;
use crate::policy::{OutsideFault, Payer, Reach, ask_trusting};

/// What came of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::events) enum Answer {
    /// The receiver has it.
    Taken,
    /// The receiver has answered something else.
    Refused(String, Option<Duration>),
    /// There is no answer that makes sense.
    Failed(String),
}

/// Sends one event. Everything about it is bounded: the time, the bytes of the answer; redirects are no answer.
pub(in crate::events) async fn post(webhook: &Webhook, id: &str, unix: i64, body: String) -> Answer {
    let request = match request(webhook, id, unix, body) {
        Ok(request) => request,
        Err(reason) => return Answer::Failed(reason.to_owned()),
    };
    let asking = ask_trusting(&webhook.trust, &webhook.url, Reach::Anywhere, Payer::Gateway, request, ANSWER_BYTES_MAX);
    match timeout(webhook.timeout, asking).await {
        Err(_) => Answer::Failed(format!("no answer within {} s", webhook.timeout.as_secs_f32())),
        Ok(Err(OutsideFault::TooLong)) => Answer::Failed(format!("the answer is longer than {ANSWER_BYTES_MAX} bytes")),
        Ok(Err(OutsideFault::Failed(reason))) => Answer::Failed(reason),
        Ok(Ok((answer, _))) if answer.status().is_success() => Answer::Taken,
        Ok(Ok((answer, _))) => {
            let seconds = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
            let reason = format!("the answer has status {}", answer.status().as_u16());
            Answer::Refused(reason, seconds.map(Duration::from_secs))
        }
    }
}

fn request(webhook: &Webhook, id: &str, unix: i64, body: String) -> Result<Request<Full<Bytes>>, &'static str> {
    let path = webhook.url.path_and_query().map_or("/", |path| path.as_str());
    let host = webhook.url.authority().map(|authority| authority.as_str()).unwrap_or_default();
    let signature = webhook.keys.sign(id, unix, &body);
    let value = |text: &str| HeaderValue::from_str(text).map_err(|_| "a header is not valid");
    let mut request = Request::new(Full::new(Bytes::from(body)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = path.parse().map_err(|_| "the path is not valid")?;
    let headers = request.headers_mut();
    headers.insert(HOST, value(host)?);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("adit-gateway/", env!("CARGO_PKG_VERSION"))));
    headers.insert("webhook-id", value(id)?);
    headers.insert("webhook-timestamp", HeaderValue::from(unix));
    headers.insert("webhook-signature", value(&signature)?);
    Ok(request)
}

/// Nobody reads it: only its status counts.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::super::sign::SigningKeys;
    use super::*;
    use crate::policy::public_trust;

    async fn receiver() -> (TcpListener, Webhook) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap()).parse().unwrap();
        let keys = SigningKeys::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        (listener, Webhook { url, keys, timeout: Duration::from_secs(20), trust: public_trust(), kinds: None })
    }

    /// What comes of a delivery that is answered with these bytes.
    async fn answered(bytes: Vec<u8>) -> Answer {
        let (listener, webhook) = receiver().await;
        let answer = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"{}") {
                head.push(stream.read_u8().await.unwrap());
            }
            // The gateway may have heard enough.
            let _ = stream.write_all(&bytes).await;
            String::from_utf8(head).unwrap()
        };
        let (answer, head) = tokio::join!(post(&webhook, "evt_1", 1_614_265_330, "{}".to_owned()), answer);
        assert!(head.starts_with("POST /hook HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("\r\nwebhook-id: evt_1\r\nwebhook-timestamp: 1614265330\r\n"), "{head}");
        assert!(head.contains("\r\nwebhook-signature: v1,"), "{head}");
        answer
    }

    #[tokio::test]
    async fn only_success_is_taken_and_a_redirect_is_not_followed() {
        let with = |head: &str| format!("HTTP/1.1 {head}\r\ncontent-length: 0\r\n\r\n").into_bytes();
        assert_eq!(answered(with("204 No Content")).await, Answer::Taken);
        let refused = |status, wait| Answer::Refused(format!("the answer has status {status}"), wait);
        assert_eq!(answered(with("302 Found\r\nlocation: http://127.0.0.1:1/")).await, refused(302, None));
        let wait = Some(Duration::from_secs(7));
        assert_eq!(answered(with("503 No\r\nretry-after: 7")).await, refused(503, wait));
    }

    #[tokio::test]
    async fn garbage_and_answers_without_end_are_failures() {
        let is_failed = |answer| matches!(answer, Answer::Failed(_));
        assert!(is_failed(answered(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()).await));
        assert!(is_failed(answered(Vec::new()).await));
        let long = [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b'x'; ANSWER_BYTES_MAX + 1]].concat();
        assert_eq!(answered(long).await, Answer::Failed("the answer is longer than 16384 bytes".to_owned()));
        let fits = [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b'x'; ANSWER_BYTES_MAX]].concat();
        assert_eq!(answered(fits).await, Answer::Taken);
    }

    #[tokio::test]
    async fn receiver_that_does_not_answer_or_is_not_there_is_a_failure() {
        let (listener, mut webhook) = receiver().await;
        webhook.timeout = Duration::from_millis(50);
        let slow = post(&webhook, "evt_1", 0, String::new()).await;
        assert_eq!(slow, Answer::Failed("no answer within 0.05 s".to_owned()));
        drop(listener);
        assert!(matches!(post(&webhook, "evt_1", 0, String::new()).await, Answer::Failed(_)));
    }
}
