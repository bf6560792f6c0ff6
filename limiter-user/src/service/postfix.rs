//! Postfix's SMTP access policy delegation protocol: lines `name=value`, ended by an empty one; the
//! answer is `action=…` and an empty line.
//! <http://www.postfix.org/SMTPD_POLICY_README.html>

use std::net::{IpAddr, SocketAddr};

use thiserror::Error;

use crate::submission::{Answer, Envelope, Key};

/// The longest line, bytes. Postfix takes SMTP commands of up to 2048.
pub const MOST_LINE: usize = 8 << 10;
/// The longest request, bytes.
const MOST_BYTES: usize = 64 << 10;
/// The most attributes of a request; Postfix 3.9 sends 33.
const MOST_ATTRIBUTES: usize = 256;

/// A request as far as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    values: [Option<String>; ATTRIBUTES.len()],
    bytes: usize,
    attributes: usize,
}

/// The attributes that matter here.
const ATTRIBUTES: [&str; 12] = [
    "request",
    "protocol_state",
    "instance",
    "queue_id",
    "sender",
    "recipient",
    "recipient_count",
    "client_address",
    "client_port",
    "server_address",
    "server_port",
    "sasl_username",
];

/// What Postfix asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Whether a message may have one more recipient.
    Recipient {
        /// Which message.
        instance: String,
        /// What is known of it.
        envelope: Envelope,
        /// The recipient.
        recipient: String,
    },
    /// Whether a message may go in.
    Message {
        /// Which message.
        instance: String,
        /// What is known of it.
        envelope: Envelope,
        /// How many recipients it has.
        recipients: Option<u32>,
        /// Its id in the queue.
        queued: Option<Key>,
    },
    /// Something at another stage of a session.
    Other {
        /// Which message it would become.
        instance: String,
    },
}

/// Why a request is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RequestError {
    /// A line without `=`.
    #[error("a line without `=`")]
    NoAttribute,
    /// An attribute that matters, twice.
    #[error("{0} twice")]
    Twice(&'static str),
    /// More than is ever asked.
    #[error("more than a request holds")]
    TooMuch,
    /// It is not `smtpd_access_policy`.
    #[error("a request of another kind")]
    Kind,
    /// An attribute is missing.
    #[error("no {0}")]
    Missing(&'static str),
}

impl Request {
    /// Takes a line that is not empty.
    ///
    /// # Errors
    /// It is no attribute, or one too many.
    pub fn take(&mut self, line: &[u8]) -> Result<(), RequestError> {
        self.bytes = self.bytes.saturating_add(line.len() + 1);
        self.attributes += 1;
        if self.bytes > MOST_BYTES || self.attributes > MOST_ATTRIBUTES {
            return Err(RequestError::TooMuch);
        }
        let split = line
            .iter()
            .position(|byte| *byte == b'=')
            .ok_or(RequestError::NoAttribute)?;
        let (name, value) = line.split_at(split);
        let value = value.get(1..).unwrap_or_default();
        for (known, place) in ATTRIBUTES.iter().zip(&mut self.values) {
            if known.as_bytes() == name {
                if place.is_some() {
                    return Err(RequestError::Twice(known));
                }
                *place = Some(String::from_utf8_lossy(value).into_owned());
            }
        }
        Ok(())
    }

    /// What is asked, when the empty line has come.
    ///
    /// # Errors
    /// It is no request, or says too little.
    pub fn question(self) -> Result<Question, RequestError> {
        if self.text("request") != Some("smtpd_access_policy") {
            return Err(RequestError::Kind);
        }
        let required = |name| self.text(name).ok_or(RequestError::Missing(name));
        let instance = required("instance")?.to_owned();
        let envelope = || Envelope {
            login: self.text("sasl_username").map(str::to_owned),
            client: self.socket("client_address", "client_port"),
            server: self.socket("server_address", "server_port"),
            uid: None,
            // Empty: the sender of bounces.
            sender: self.value("sender").map(str::to_owned),
        };
        Ok(match required("protocol_state")? {
            "RCPT" => Question::Recipient {
                recipient: required("recipient")?.to_owned(),
                envelope: envelope(),
                instance,
            },
            "DATA" | "BDAT" | "END-OF-MESSAGE" => Question::Message {
                envelope: envelope(),
                recipients: self.text("recipient_count").and_then(|n| n.parse().ok()),
                queued: self.text("queue_id").map(|id| Key::Queued(id.to_owned())),
                instance,
            },
            _ => Question::Other { instance },
        })
    }

    fn value(&self, name: &str) -> Option<&str> {
        let at = ATTRIBUTES.iter().position(|known| *known == name)?;
        self.values.get(at)?.as_deref()
    }

    /// The value where it is not empty.
    fn text(&self, name: &str) -> Option<&str> {
        self.value(name).filter(|value| !value.is_empty())
    }

    fn socket(&self, address: &str, port: &str) -> Option<SocketAddr> {
        let address: IpAddr = self.text(address)?.parse().ok()?;
        let port = self.text(port).and_then(|port| port.parse().ok());
        Some(SocketAddr::new(address.to_canonical(), port.unwrap_or(0)))
    }
}

/// The answer, as Postfix reads it. [`Answer::Wait`] is none: whoever waits answers nothing.
#[must_use]
pub fn answer(answer: &Answer) -> String {
    match answer {
        Answer::Accept | Answer::Wait(_) => "action=DUNNO\n\n".to_owned(),
        Answer::Defer(reply) | Answer::Refuse(reply) => {
            // A newline in a text would end the answer.
            let text = reply.text.replace(|c: char| !matches!(c, ' '..='~'), "?");
            format!("action={} {} {text}\n\n", reply.code(), reply.status)
        }
    }
}

#[cfg(test)]
mod tests;
