//! One milter conversation: what was heard of the client and of the message under way.
//!
//! Whatever is told to the gate under a key is ended under it too: taken or dropped, also when the
//! conversation breaks off. Where the mail server breaks it off, its message does not go out. Where this
//! side does, the mail server does as it was told to do without an answer.

use std::net::SocketAddr;

use super::{
    command::{self, Macros},
    limits::Limits,
};
use crate::{
    policy::services::OnFailure,
    service::ask::Settings,
    submission::{Envelope, Gate, Key, NO_USER},
};

/// Longer queue ids and logins are none.
const MOST_NAME: usize = 512;

/// A conversation, which is about one connection of a client, and one message after the other.
pub(super) struct Conversation<'g> {
    gate: &'g dyn Gate,
    limits: &'g Limits,
    settings: &'g Settings,
    /// Tells conversations apart.
    number: u64,
    /// Messages that began.
    messages: u64,
    client: Option<SocketAddr>,
    server: Option<SocketAddr>,
    /// A queue id came with the connection.
    made_up: bool,
    /// What came ahead of the message, or with it.
    queue_id: Option<String>,
    login: Option<String>,
    message: Option<Message>,
    /// The message came to DATA.
    begun: bool,
    /// What the gate was told about, and not yet how it ended.
    open: Option<Key>,
}

/// The message under way.
#[derive(Debug)]
pub(super) struct Message {
    sender: String,
    recipients: Vec<String>,
    bytes: usize,
    too_many: bool,
}

/// A message that waits for its answer.
#[derive(Debug)]
pub(super) struct Whole {
    /// What it is called.
    pub(super) key: Key,
    /// Its id in the queue.
    pub(super) queue_id: Option<String>,
    /// Everything but the recipients.
    pub(super) envelope: Envelope,
    /// The recipients.
    pub(super) recipients: Vec<String>,
    /// There were more of them than are kept.
    pub(super) too_many: bool,
    /// No client brought it: it was submitted on this machine.
    pub(super) local: bool,
}

impl<'g> Conversation<'g> {
    pub(super) fn new(
        gate: &'g dyn Gate,
        limits: &'g Limits,
        settings: &'g Settings,
        number: u64,
    ) -> Self {
        Self {
            gate,
            limits,
            settings,
            number,
            messages: 0,
            client: None,
            server: None,
            made_up: false,
            queue_id: None,
            login: None,
            message: None,
            begun: false,
            open: None,
        }
    }

    /// Another client.
    pub(super) fn connect(&mut self, client: Option<SocketAddr>) {
        self.drop_message();
        // The macros came before, and say the same where they say anything.
        self.client = client.or(self.client);
    }

    /// Forgets the client.
    pub(super) fn disconnect(&mut self) {
        self.drop_message();
        self.client = None;
        self.server = None;
        self.made_up = false;
    }

    /// Names and values from the mail server.
    pub(super) fn hear(&mut self, macros: Macros<'_>) {
        let (mut client, mut server) = ((None, 0), (None, 0));
        let stage = macros.stage;
        for (name, value) in macros {
            let number = || std::str::from_utf8(value).ok()?.parse().ok();
            match name {
                b"i" => self.queue_id = queue_id(value).or(self.queue_id.take()),
                b"auth_authen" => {
                    let login = (1..=MOST_NAME).contains(&value.len());
                    self.login = login.then(|| String::from_utf8_lossy(value).into_owned());
                }
                b"client_addr" => client.0 = command::address(value),
                b"client_port" => client.1 = number().unwrap_or(0),
                b"daemon_addr" => server.0 = command::address(value),
                b"daemon_port" => server.1 = number().unwrap_or(0),
                _ => {}
            }
        }
        if stage == b'C' {
            self.made_up = self.queue_id.is_some();
        }
        if let (Some(ip), port) = client {
            self.client = Some(SocketAddr::new(ip, port));
        }
        if let (Some(ip), port) = server {
            self.server = Some(SocketAddr::new(ip, port));
        }
        // By DATA what was asked about it over another protocol is known under this name too: it may not
        // have been when the name was first heard.
        self.watch(stage == b'T' && !self.made_up);
    }

    /// MAIL.
    pub(super) fn mail(&mut self, sender: String) {
        // What came ahead belongs to this one, unless there was a message before.
        if self.message.is_some() {
            let (queue_id, login) = (self.queue_id.take(), self.login.take());
            self.drop_message();
            (self.queue_id, self.login) = (queue_id, login);
        }
        self.messages += 1;
        self.begun = false;
        self.message = Some(Message {
            sender,
            recipients: Vec::new(),
            bytes: 0,
            too_many: false,
        });
        self.watch(false);
    }

    /// DATA, or what comes after it.
    pub(super) fn begin(&mut self) {
        self.begun = self.message.is_some();
    }

    /// RCPT. More of them than are kept are refused at the end; without a message it is nothing.
    pub(super) fn recipient(&mut self, recipient: &[u8]) {
        let Some(message) = &mut self.message else {
            return;
        };
        let bytes = message.bytes.saturating_add(recipient.len());
        if message.recipients.len() >= self.limits.recipients || bytes > self.limits.recipient_bytes
        {
            message.too_many = true;
            return;
        }
        message.bytes = bytes;
        message.recipients.push(bare(recipient));
    }

    /// The message is there; none if none began. From here on the gate is asked under its key.
    pub(super) fn whole(&mut self) -> Option<Whole> {
        let message = self.message.take()?;
        let queue_id = self.queue_id.take();
        let key = match &queue_id {
            Some(id) => Key::Queued(id.clone()),
            None => Key::Milter(self.number, self.messages),
        };
        self.open = Some(key.clone());
        let local = self.made_up || self.client.is_none_or(|client| client.port() == 0);
        Some(Whole {
            key,
            queue_id,
            envelope: Envelope {
                login: self.login.take(),
                client: self.client,
                server: self.server,
                uid: None,
                sender: Some(message.sender),
            },
            recipients: message.recipients,
            too_many: message.too_many,
            local,
        })
    }

    /// The message goes out.
    pub(super) fn take_message(&mut self) {
        if let Some(key) = self.open.take() {
            self.gate.taken(&key);
        }
    }

    /// Nobody will say how the message ends, as nobody listens here any more. Where the mail server goes
    /// on without an answer, it goes out, and is counted as far as that is possible.
    fn give_up(&mut self) {
        if self.begun && self.settings.now().on_failure == OnFailure::Open {
            if let Some(mut whole) = self.whole() {
                if whole.local {
                    whole.is_unfound();
                }
                // There is nobody to tell the answer to.
                let Whole {
                    key,
                    envelope,
                    recipients,
                    ..
                } = &whole;
                self.gate.whole(key, envelope, recipients, None);
            }
            self.take_message();
        }
        self.drop_message();
    }

    /// The message does not go out.
    pub(super) fn drop_message(&mut self) {
        self.message = None;
        self.begun = false;
        self.queue_id = None;
        self.login = None;
        if let Some(key) = self.open.take() {
            self.gate.dropped(&key);
        }
    }

    /// Tells the gate that somebody looks after the message, as soon as its name is known, or `again`.
    fn watch(&mut self, again: bool) {
        let (Some(_), Some(id)) = (&self.message, &self.queue_id) else {
            return;
        };
        let key = Key::Queued(id.clone());
        let known = self.open.as_ref() == Some(&key);
        if known && !again {
            return;
        }
        if let Some(other) = self.open.replace(key.clone()).filter(|_| !known) {
            self.gate.dropped(&other);
        }
        self.gate.watched(&key);
    }
}

impl Drop for Conversation<'_> {
    /// Also when the agent stops. Who heard the mail server end it, has dropped the message before.
    fn drop(&mut self) {
        self.give_up();
    }
}

impl Whole {
    /// It was submitted on this machine, and nobody knows by whom: whoever pays for what no tenant claims
    /// pays for it.
    pub(super) fn is_unfound(&mut self) {
        self.envelope.client = None;
        self.envelope.server = None;
        self.envelope.uid = Some(NO_USER);
    }
}

/// A queue id, if it is one: letters and digits.
fn queue_id(value: &[u8]) -> Option<String> {
    let plain =
        (1..=MOST_NAME).contains(&value.len()) && value.iter().all(u8::is_ascii_alphanumeric);
    plain.then(|| String::from_utf8_lossy(value).into_owned())
}

/// An address without what is around it.
pub(super) fn bare(address: &[u8]) -> String {
    let inner = address
        .strip_prefix(b"<")
        .and_then(|inner| inner.strip_suffix(b">"))
        .unwrap_or(address);
    String::from_utf8_lossy(inner).into_owned()
}
