//! Mail through the node's own mail server.

use std::{path::Path, time::Duration};

use lettre::{
    AsyncSmtpTransport, AsyncTransport, Tokio1Executor,
    address::Envelope,
    transport::smtp::{self, extension::ClientId, response::Response},
};

use super::{
    backoff::Failure,
    exec::child::{self, Job},
    facts::Facts,
    harmless::{self, LINE},
    message,
    template::Templates,
};
use crate::policy::notices::{MailSettings, Smtp};

/// How long it may take to connect.
const CONNECT: Duration = Duration::from_secs(30);
/// How long the whole mail may take: a server that hangs, or drips its answers, is left then.
/// (Of its own accord lettre bounds the time to connect, and nothing after that.)
const WHOLE: Duration = Duration::from_secs(120);

/// Sends `notices` to `to`, as one mail. What the server said is returned.
///
/// # Errors
/// When the server cannot be reached, hangs, or says no.
pub(super) async fn send(
    settings: &MailSettings,
    templates: &Templates,
    node: &str,
    notices: Vec<Facts>,
    to: &str,
) -> Result<String, Failure> {
    let from = settings
        .from
        .clone()
        .unwrap_or_else(|| message::default_from(node));
    let templates = templates.clone();
    let owned_to = to.to_owned();
    // Templates are read from the disk.
    let built = tokio::task::spawn_blocking(move || {
        let (text, fault) = match notices.as_slice() {
            [one] => templates.render(one),
            many => templates.digest(many),
        };
        if let Some(fault) = fault {
            log::error!("{fault}");
        }
        message::mail(&notices, text, &from, &owned_to)
    });
    let (envelope, message) = built
        .await
        .map_err(|error| Failure::again(format!("cannot build the mail: {error}")))??;
    match &settings.smtp {
        Smtp::Server { host, port } => {
            let server = (host.as_str(), *port);
            smtp(server, node, &envelope, &message, WHOLE).await
        }
        Smtp::Sendmail(path) => sendmail(path, &envelope, message).await,
    }
}

async fn smtp(
    (host, port): (&str, u16),
    node: &str,
    envelope: &Envelope,
    message: &[u8],
    patience: Duration,
) -> Result<String, Failure> {
    let transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)
        .port(port)
        .timeout(Some(CONNECT.min(patience)))
        .hello_name(ClientId::Domain(message::domain(node)))
        .build();
    let sent = tokio::time::timeout(patience, transport.send_raw(envelope, message)).await;
    let server = format!("the mail server {host}:{port}");
    match sent {
        Ok(Ok(response)) => Ok(said(&response)),
        Ok(Err(error)) => Err(failure(&server, &error)),
        Err(_) => Err(Failure::again(format!(
            "{server} did not take the mail within {} s",
            patience.as_secs()
        ))),
    }
}

fn said(response: &Response) -> String {
    let text: Vec<&str> = response.message().collect();
    harmless::line(&format!("{} {}", response.code(), text.join(" ")), LINE)
}

fn failure(server: &str, error: &smtp::Error) -> Failure {
    use std::error::Error as _;
    let mut text = error.to_string();
    if let Some(source) = error.source()
        && !text.contains(&source.to_string())
    {
        text = format!("{text}: {source}");
    }
    Failure {
        refused: error.is_permanent(),
        error: harmless::line(&format!("{server}: {text}"), LINE),
    }
}

/// Through a program that takes a message as `sendmail` does. It keeps the agent's identity, and
/// its set-group-id bit, which is how Postfix's takes mail.
async fn sendmail(path: &Path, envelope: &Envelope, message: Vec<u8>) -> Result<String, Failure> {
    let mut arguments = vec!["-i".to_owned()];
    if let Some(from) = envelope.from() {
        arguments.extend(["-f".to_owned(), from.to_string()]);
    }
    arguments.push("--".to_owned());
    arguments.extend(envelope.to().iter().map(ToString::to_string));
    // Mail programs on a node read and write lines that end as the system's do.
    let message = String::from_utf8_lossy(&message).replace("\r\n", "\n");
    let job = Job {
        program: path.to_owned(),
        arguments,
        environment: Vec::new(),
        input: message.into_bytes(),
        user: None,
        timeout: WHOLE,
    };
    child::run_async(job).await
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::notice::tests::smtp_server::{Mood, SmtpServer};

    #[tokio::test(flavor = "multi_thread")]
    async fn a_server_that_hangs_is_left() {
        let server = SmtpServer::start(&[Mood::Hangs]);
        let address = |text: &str| text.parse().unwrap();
        let envelope = Envelope::new(Some(address("a@b.example")), vec![address("c@d.example")]);
        let host = server.address.ip().to_string();
        let start = Instant::now();
        let failure = smtp(
            (&host, server.address.port()),
            "web-17",
            &envelope.unwrap(),
            b"Subject: a\r\n\r\nb\r\n",
            Duration::from_secs(1),
        )
        .await
        .unwrap_err();
        assert!(!failure.refused, "{failure}");
        assert!(
            failure.error.starts_with("the mail server 127.0.0.1:"),
            "{failure}"
        );
        assert!(start.elapsed() < Duration::from_secs(20));
    }
}
