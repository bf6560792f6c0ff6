//! What Exim's configuration asks over `${readsocket…}`: one line, and one line back.
//!
//! ```text
//! limiter 1 rcpt key=4711.1766 client=192.0.2.7 cport=40000 server=… sport=25 uid=0 login= sender=YQ== to=Yg==
//! limiter 1 data key=… id=…   … sender=… count=3
//! limiter 1 local key=… id=…  uid=2001 login= sender=… count=2 all=YUBiLCBjQGQ=
//! limiter 1 drop key=…
//! ```
//!
//! Answers are `ok`, `defer CODE STATUS TEXT` and `deny CODE STATUS TEXT`, so that all behind the first
//! word can be a `message` of Exim's. What senders choose is in base64 (`${base64:…}`): it cannot end a
//! line, or be another field. `limiter mta config exim` prints what asks like that.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use thiserror::Error;

use crate::submission::{Answer, Envelope, Key};

/// What every question begins with; no request of Postfix's does.
pub const GREETING: &[u8] = b"limiter ";
/// The longest question, bytes: 50,000 recipients, the most that Exim takes, of 60 characters.
pub const MOST_LINE: usize = 4 << 20;
/// Questions longer than this are read one by one, bytes.
pub const LONG_LINE: usize = 64 << 10;
/// The most recipients of one message.
const MOST_RECIPIENTS: usize = 100_000;
/// The longest key.
const MOST_KEY: usize = 64;

/// What Exim asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Whether a message may have one more recipient.
    Recipient {
        /// Which message.
        key: Key,
        /// What is known of it.
        envelope: Envelope,
        /// The recipient.
        recipient: String,
    },
    /// Whether a message may go in, whose recipients were asked for.
    Message {
        /// Which message.
        key: Key,
        /// What is known of it.
        envelope: Envelope,
        /// How many recipients it has.
        recipients: u32,
        /// Its name in the queue, where the configuration says it.
        queued: Option<Key>,
    },
    /// Whether a message from the command line may go in.
    Whole {
        /// Which message.
        key: Key,
        /// What is known of it.
        envelope: Envelope,
        /// Its recipients, as far as they can be told apart.
        recipients: Vec<String>,
        /// How many Exim says they are.
        count: u32,
    },
    /// The message does not go out.
    Drop {
        /// Which message.
        key: Key,
    },
}

/// Why a line is no question.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum QuestionError {
    /// It does not begin with `limiter 1` and a word that is known.
    #[error("not a question of this version")]
    Version,
    /// A part without `=`, or with a name that is none.
    #[error("a field that is none")]
    Field,
    /// A field twice.
    #[error("{0} twice")]
    Twice(&'static str),
    /// A field is missing, or empty.
    #[error("no {0}")]
    Missing(&'static str),
    /// A field is not what it should be.
    #[error("{0} is malformed")]
    Malformed(&'static str),
    /// More recipients than Exim takes.
    #[error("too many recipients")]
    TooMany,
}

const FIELDS: [&str; 12] = [
    "key", "client", "cport", "server", "sport", "uid", "login", "sender", "to", "count", "all",
    "id",
];

/// Reads a question, a line without its end.
///
/// # Errors
/// It is none.
pub fn question(line: &[u8]) -> Result<Question, QuestionError> {
    let line = std::str::from_utf8(line).map_err(|_| QuestionError::Field)?;
    let line = line.strip_suffix('\r').unwrap_or(line);
    let mut words = line.split(' ');
    if (words.next(), words.next()) != (Some("limiter"), Some("1")) {
        return Err(QuestionError::Version);
    }
    let verb = words.next().ok_or(QuestionError::Version)?;
    let fields = Fields::read(words)?;
    let key = fields.key()?;
    Ok(match verb {
        "rcpt" => Question::Recipient {
            recipient: Some(fields.decoded("to")?)
                .filter(|to| !to.is_empty())
                .ok_or(QuestionError::Missing("to"))?,
            envelope: fields.envelope()?,
            key,
        },
        "data" => Question::Message {
            envelope: fields.envelope()?,
            recipients: fields.count()?,
            queued: fields.queued()?,
            key,
        },
        "local" => Question::Whole {
            envelope: fields.envelope()?,
            recipients: fields.recipients()?,
            count: fields.count()?,
            key: fields.queued()?.unwrap_or(key),
        },
        "drop" => Question::Drop { key },
        _ => return Err(QuestionError::Version),
    })
}

/// The answer, a line without its end. [`Answer::Wait`] is none: whoever waits answers nothing.
#[must_use]
pub fn answer(answer: &Answer) -> String {
    let (word, reply) = match answer {
        Answer::Accept | Answer::Wait(_) => return "ok".to_owned(),
        Answer::Defer(reply) => ("defer", reply),
        Answer::Refuse(reply) => ("deny", reply),
    };
    let text = reply.text.replace(|c: char| !matches!(c, ' '..='~'), "?");
    format!("{word} {} {} {text}", reply.code(), reply.status)
}

/// The fields of a question.
struct Fields<'l>(HashMap<&'static str, &'l str>);

impl<'l> Fields<'l> {
    fn read(words: impl Iterator<Item = &'l str>) -> Result<Self, QuestionError> {
        let mut fields = HashMap::new();
        for word in words {
            let (name, value) = word.split_once('=').ok_or(QuestionError::Field)?;
            let name = FIELDS.iter().find(|known| **known == name);
            let name = *name.ok_or(QuestionError::Field)?;
            if fields.insert(name, value).is_some() {
                return Err(QuestionError::Twice(name));
            }
        }
        Ok(Self(fields))
    }

    /// A value that is not empty.
    fn get(&self, name: &str) -> Option<&'l str> {
        self.0.get(name).copied().filter(|value| !value.is_empty())
    }

    fn key(&self) -> Result<Key, QuestionError> {
        let key = self.get("key").ok_or(QuestionError::Missing("key"))?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
        if key.len() > MOST_KEY || !key.bytes().all(plain) {
            return Err(QuestionError::Malformed("key"));
        }
        Ok(Key::Exim(key.to_owned()))
    }

    /// Its name in the queue.
    fn queued(&self) -> Result<Option<Key>, QuestionError> {
        let Some(id) = self.get("id") else {
            return Ok(None);
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if id.len() > MOST_KEY || !id.bytes().all(plain) {
            return Err(QuestionError::Malformed("id"));
        }
        Ok(Some(Key::Queued(id.to_owned())))
    }

    /// Text in base64; empty where it is missing.
    fn decoded(&self, name: &'static str) -> Result<String, QuestionError> {
        let Some(value) = self.get(name) else {
            return Ok(String::new());
        };
        let bytes = STANDARD
            .decode(value)
            .map_err(|_| QuestionError::Malformed(name))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn number<T: std::str::FromStr>(&self, name: &'static str) -> Result<Option<T>, QuestionError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let digits = value.bytes().all(|byte| byte.is_ascii_digit());
        let number = value.parse().ok().filter(|_| digits);
        number.map(Some).ok_or(QuestionError::Malformed(name))
    }

    fn socket(
        &self,
        address: &'static str,
        port: &'static str,
    ) -> Result<Option<SocketAddr>, QuestionError> {
        let Some(text) = self.get(address) else {
            return Ok(None);
        };
        let address: IpAddr = text
            .parse()
            .map_err(|_| QuestionError::Malformed(address))?;
        let port = self.number(port)?.unwrap_or(0);
        Ok(Some(SocketAddr::new(address.to_canonical(), port)))
    }

    fn envelope(&self) -> Result<Envelope, QuestionError> {
        let client = self.socket("client", "cport")?;
        let login = Some(self.decoded("login")?).filter(|login| !login.is_empty());
        let uid = self.number("uid")?;
        // On the command line `$authenticated_id` is what `-oMai` says, or the name of who ran it: the uid
        // says that better. Where a client connected it is the daemon's; but who runs `exim -bs` himself
        // can make a client up. Whose the daemon's uid is, is known further on.
        let login = login.filter(|_| client.is_some());
        Ok(Envelope {
            login,
            client,
            server: self.socket("server", "sport")?,
            uid,
            sender: Some(self.decoded("sender")?),
        })
    }

    fn count(&self) -> Result<u32, QuestionError> {
        let count = self.number("count")?;
        let count: u32 = count.ok_or(QuestionError::Missing("count"))?;
        if usize::try_from(count).is_ok_and(|count| count <= MOST_RECIPIENTS) {
            return Ok(count);
        }
        Err(QuestionError::TooMany)
    }

    fn recipients(&self) -> Result<Vec<String>, QuestionError> {
        let recipients = split(&self.decoded("all")?);
        if recipients.len() > MOST_RECIPIENTS {
            return Err(QuestionError::TooMany);
        }
        Ok(recipients)
    }
}

/// Takes Exim's list of addresses apart: a comma and a blank between them, but not within quotes.
fn split(list: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut current = String::new();
    let (mut quoted, mut escaped) = (false, false);
    let mut rest = list.chars().peekable();
    while let Some(c) = rest.next() {
        if !quoted && c == ',' && rest.peek() == Some(&' ') {
            rest.next();
            found.push(std::mem::take(&mut current));
            continue;
        }
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        current.push(c);
    }
    found.push(current);
    found.retain(|address| !address.is_empty());
    found
}

#[cfg(test)]
mod tests;
