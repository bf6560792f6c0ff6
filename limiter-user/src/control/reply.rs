//! What the server sends back.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::{Either, Full, channel::Channel};
use hyper::{Response, StatusCode, header};
use serde::{Deserialize, Serialize};

use super::node::NodeError;

/// A body: whole, or a stream of lines.
pub type Body = Either<Full<Bytes>, Channel<Bytes, Infallible>>;

/// An error as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: String,
    /// What to do about it.
    pub remedy: String,
}

/// What goes out verbatim to a connection for which there is no place.
pub const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    content-type: application/json\r\nconnection: close\r\ncontent-length: 94\r\n\r\n\
    {\"error\":\"too many connections to the agent\",\"remedy\":\"close some (limiter events \
    --follow?)\"}";

/// A value as JSON.
pub fn json<T: Serialize>(status: StatusCode, value: &T) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(bytes) => whole(status, bytes),
        // Only a model that has no JSON form; none of ours.
        Err(error) => whole(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!(
                "{{\"error\":\"no JSON form: {}\",\"remedy\":\"\"}}",
                error.line()
            )
            .into_bytes(),
        ),
    }
}

/// An error with the status that fits it.
pub fn error(error: &NodeError) -> Response<Body> {
    let status = match error {
        NodeError::NeedsAgent { .. } | NodeError::Refused { .. } => StatusCode::CONFLICT,
        NodeError::UnknownTenant { .. } | NodeError::NotFound { .. } => StatusCode::NOT_FOUND,
        NodeError::Invalid { .. } => StatusCode::BAD_REQUEST,
        NodeError::Failed { .. } => StatusCode::INTERNAL_SERVER_ERROR,
    };
    refuse(status, error.to_string(), error.remedy())
}

/// An error of the request itself.
pub fn refuse(
    status: StatusCode,
    error: impl Into<String>,
    remedy: impl Into<String>,
) -> Response<Body> {
    json(
        status,
        &ErrorBody {
            error: error.into(),
            remedy: remedy.into(),
        },
    )
}

/// A stream of JSON lines.
pub fn lines(body: Channel<Bytes, Infallible>) -> Response<Body> {
    let mut response = Response::new(Either::Right(body));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/x-ndjson"),
    );
    response
}

fn whole(status: StatusCode, bytes: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::new(Bytes::from(bytes))));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_canned_answer_is_well_formed() {
        let text = std::str::from_utf8(BUSY).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains(&format!("content-length: {}", body.len())),
            "{}",
            body.len()
        );
        serde_json::from_str::<ErrorBody>(body).unwrap();
    }
}
