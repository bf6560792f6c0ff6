//! Telling a machine: one POST for each notice, signed.
//!
//! The body is the JSON form of the [facts](super::facts). Headers: `Idempotency-Key` and
//! `X-Limiter-Delivery`, the id of the event, the same at each repeat; `X-Limiter-Event`; and with
//! `key_file`, `X-Limiter-Signature: t=UNIXTIME,v1=HEX`, where HEX is the HMAC-SHA256 of `UNIXTIME.BODY`
//! under the content of the file. A receiver compares it in constant time, refuses a `t` that is minutes
//! old, and answers 2xx when it has written the notice down. Anything else is tried again.

mod key;
mod request;
mod tls;

use jiff::Timestamp;

use super::{
    backoff::Failure,
    digest,
    facts::Facts,
    harmless::{self, LINE},
};
use crate::policy::notices::WebhookSettings;

pub(super) use key::read as read_key;

/// Posts `facts`. What the receiver said is returned.
///
/// # Errors
/// When the key cannot be read, or the receiver cannot be reached, hangs, or says no.
pub(super) async fn post(settings: &WebhookSettings, facts: &Facts) -> Result<String, Failure> {
    let posted = tokio::time::timeout(settings.timeout, post_slowly(settings, facts)).await;
    let error = match posted {
        Ok(Ok(receipt)) => return Ok(receipt),
        Ok(Err(error)) => error,
        Err(_) => format!("no answer within {} s", settings.timeout.as_secs_f32()),
    };
    // The address may hold a secret in its query: the host is told, no more.
    let uri: Option<hyper::Uri> = settings.url.parse().ok();
    let host = uri.as_ref().and_then(hyper::Uri::host).unwrap_or("?");
    let text = format!("the webhook at {host}: {error}");
    Err(Failure::again(harmless::line(&text, LINE)))
}

async fn post_slowly(settings: &WebhookSettings, facts: &Facts) -> Result<String, String> {
    let key = match settings.key_file.clone() {
        None => None,
        Some(file) => {
            let read = tokio::task::spawn_blocking(move || key::read(&file)).await;
            Some(read.map_err(|error| error.to_string())??)
        }
    };
    let body = serde_json::to_vec(facts).map_err(|error| error.to_string())?;
    let mut headers = vec![
        ("content-type", "application/json".to_owned()),
        (
            "user-agent",
            concat!("limiter/", env!("CARGO_PKG_VERSION")).to_owned(),
        ),
        ("idempotency-key", facts.event_id.clone()),
        ("x-limiter-delivery", facts.event_id.clone()),
        ("x-limiter-event", facts.event.as_str().to_owned()),
    ];
    if let Some(key) = key {
        let signature = signature(&key, Timestamp::now().as_second(), &body);
        headers.push(("x-limiter-signature", signature));
    }
    request::post(&settings.url, &headers, body).await
}

/// `t=…,v1=…`.
fn signature(key: &[u8], time: i64, body: &[u8]) -> String {
    let stamp = format!("{time}.");
    let mac = digest::hmac(key, &[stamp.as_bytes(), body]);
    format!("t={time},v1={mac}")
}

#[cfg(test)]
mod tests;
