//! One POST over one connection.

use std::convert::Infallible;

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request, Uri,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::HOST,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use super::tls;

/// How much of an answer is read, in bytes: it is for people only.
const MAX_ANSWER: usize = 2 << 10;
/// The most that the headers of an answer may take, in bytes.
const MAX_HEADERS: usize = 16 << 10;

/// Posts `body` to `url`; no redirect is followed. The status and the beginning of the answer.
///
/// # Errors
/// Whatever is not an answer with a status of 2xx.
pub(super) async fn post(
    url: &str,
    headers: &[(&str, String)],
    body: Vec<u8>,
) -> Result<String, String> {
    let uri: Uri = url.parse().map_err(|_| "the URL is none".to_owned())?;
    let authority = uri.authority().ok_or("the URL names no host")?;
    let host = authority.host().trim_matches(['[', ']']).to_owned();
    let secure = uri.scheme_str() == Some("https");
    let port = authority
        .port_u16()
        .unwrap_or(if secure { 443 } else { 80 });
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let mut request = Request::post(target).header(HOST, authority.as_str());
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let request = request
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| error.to_string())?;
    let stream = TcpStream::connect((host.as_str(), port))
        .await
        .map_err(|error| format!("cannot connect to port {port}: {error}"))?;
    if secure {
        send(tls::over(stream, &host).await?, request).await
    } else {
        send(stream, request).await
    }
}

async fn send(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
) -> Result<String, String> {
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEADERS)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| chain(&error))?;
    let answer = async move {
        let response = sender.send_request(request).await;
        let response = response?;
        let status = response.status();
        let text = beginning(response.into_body()).await;
        Ok::<_, hyper::Error>((status, text))
    };
    // The connection is driven for as long as the answer takes, and ends with it. A receiver that
    // breaks it off right behind its answer has answered.
    let mut broken = None;
    let driver = async {
        broken = connection.await.err();
        std::future::pending::<Infallible>().await
    };
    let answer = tokio::select! {
        biased;
        answer = answer => answer,
        never = driver => match never {},
    };
    let (status, text) = answer.map_err(|error| chain(broken.as_ref().unwrap_or(&error)))?;
    let said = format!("{} {text}", status.as_u16());
    if status.is_success() {
        Ok(crate::notice::harmless::line(
            &said,
            crate::notice::harmless::LINE,
        ))
    } else {
        Err(format!("it answered {said}"))
    }
}

/// What went wrong, and why.
fn chain(error: &hyper::Error) -> String {
    use std::error::Error as _;
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

async fn beginning(body: Incoming) -> String {
    let mut body = Limited::new(body, MAX_ANSWER);
    let mut text = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        if let Ok(data) = frame.into_data() {
            text.extend_from_slice(&data);
        }
    }
    String::from_utf8_lossy(&text).trim().to_owned()
}
