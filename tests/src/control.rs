//! The control socket, spoken to without the product's own client.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
};

use serde_json::Value;

/// Sends a request with a JSON body: the status and the body of the answer.
#[must_use]
pub fn post(socket: &Path, path: &str, request: &Value) -> (u16, Value) {
    let body = request.to_string();
    let mut stream = UnixStream::connect(socket).expect("the agent listens");
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nhost: limiter\r\nconnection: close\r\ncontent-type: \
         application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("the agent reads");
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .expect("the agent answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("it speaks HTTP");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let body = serde_json::from_str(body).unwrap_or_else(|_| Value::String(body.to_owned()));
    (status.expect("it speaks HTTP"), body)
}
