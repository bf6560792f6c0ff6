//! The messages that a log tells of, from the moment they come in until they leave the queue, and whose
//! their bounces are.

use std::collections::{BTreeSet, HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use ring::digest;
use serde::{Deserialize, Serialize};

use super::{Failure, Heard, Said, Source};
use crate::{complaint::log::Account, submission::Envelope};

/// How many messages of a log are known at once. Beyond that the oldest are forgotten.
const MOST: usize = 1 << 18;
/// How many recipients of a message are told apart.
const MOST_RECIPIENTS: usize = 10_000;
/// How long a message is remembered of which nothing is heard. Mail servers give up after days.
const LONGEST: SignedDuration = SignedDuration::from_hours(24 * 31);

/// Knows whose mail is.
pub trait Whose {
    /// Who was charged for this message when it came in.
    fn charged(&self, queue_id: &str) -> Option<String>;
    /// The tenant that this envelope belongs to, by what nobody can forge.
    fn tenant(&self, envelope: &Envelope) -> Option<String>;
}

/// A message, as far as the log told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Message {
    /// When it came in, or was first heard of.
    arrived: Timestamp,
    /// When it was last heard of.
    seen: Timestamp,
    /// The tenant that was charged for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    charged: Option<String>,
    /// Who brought it.
    #[serde(skip_serializing_if = "Option::is_none")]
    brought: Option<Brought>,
    /// Its envelope sender; empty for bounces.
    #[serde(skip_serializing_if = "Option::is_none")]
    sender: Option<String>,
    /// Who was not reached yet.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    deferred: BTreeSet<u64>,
    /// Whose failure was counted, or is not to be.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    failed: BTreeSet<u64>,
}

/// Who brought a message, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Brought {
    Uid(u32),
    /// A login, or a system user.
    Login(String),
    Client(std::net::IpAddr),
    /// Somebody on the node.
    Node,
}

/// What a line comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Nothing.
    Nothing,
    /// Bounces of a tenant's message.
    Bounces {
        /// Whose.
        tenant: String,
        /// How many hard ones.
        hard: u64,
        /// How many others.
        soft: u64,
        /// When the message came in.
        arrived: Timestamp,
        /// Whether somebody was charged for it, so that it was counted when it was sent.
        charged: bool,
    },
    /// So many bounces that are no tenant's, or of whom nobody knows whose.
    Nobodys(u64),
}

/// The messages of one log.
#[derive(Debug, Default)]
pub struct Messages {
    known: HashMap<String, Message>,
    /// Those that are on the disk.
    kept: HashSet<String>,
    /// Those that changed since.
    changed: HashSet<String>,
}

impl Messages {
    /// Those that were kept.
    #[must_use]
    pub fn of(kept: impl IntoIterator<Item = (String, Message)>) -> Self {
        let known: HashMap<String, Message> = kept.into_iter().collect();
        Self {
            kept: known.keys().cloned().collect(),
            known,
            changed: HashSet::new(),
        }
    }

    /// Takes down what a line says, and counts.
    pub fn hear(&mut self, said: Said, whose: &dyn Whose) -> Counted {
        let Said { id, time, heard } = said;
        match heard {
            Heard::Nothing => Counted::Nothing,
            Heard::Brought(source) => {
                self.begin(id, time, source, None, whose);
                Counted::Nothing
            }
            Heard::Accepted { source, sender } => {
                self.begin(id, time, source, Some(sender), whose);
                Counted::Nothing
            }
            Heard::From(sender) => {
                let charged = whose.charged(&id);
                let message = self.message(&id, time);
                message.sender = Some(sender);
                message.charged = charged.or(message.charged.take());
                Counted::Nothing
            }
            Heard::Deferred(to) => {
                let message = self.message(&id, time);
                if message.deferred.len() < MOST_RECIPIENTS {
                    message.deferred.insert(tag(&to));
                }
                Counted::Nothing
            }
            Heard::Delivered(to) => {
                // Most were never deferred: nothing is to be written down of them.
                let to = tag(&to);
                let waits = self
                    .known
                    .get(&id)
                    .is_some_and(|it| it.deferred.contains(&to));
                if waits {
                    self.message(&id, time).deferred.remove(&to);
                }
                Counted::Nothing
            }
            Heard::Failed { to, failure } => {
                let to = tag(&to);
                let message = self.message(&id, time);
                message.deferred.remove(&to);
                let is_new = if message.failed.len() < MOST_RECIPIENTS {
                    message.failed.insert(to)
                } else {
                    !message.failed.contains(&to)
                };
                match failure.filter(|_| is_new) {
                    None => Counted::Nothing,
                    Some(Failure::Hard) => self.count(&id, (1, 0), whose),
                    Some(Failure::Other) => self.count(&id, (0, 1), whose),
                }
            }
            Heard::Expired => {
                let message = self.message(&id, time);
                let deferred = std::mem::take(&mut message.deferred);
                let new = deferred.difference(&message.failed).count();
                message.failed.extend(deferred);
                match u64::try_from(new).unwrap_or(u64::MAX) {
                    0 => Counted::Nothing,
                    new => self.count(&id, (0, new), whose),
                }
            }
            Heard::Gone => {
                self.known.remove(&id);
                self.changed.insert(id);
                Counted::Nothing
            }
        }
    }

    /// A message of this name comes in: names are used again.
    fn begin(
        &mut self,
        id: String,
        time: Timestamp,
        source: Source,
        sender: Option<String>,
        whose: &dyn Whose,
    ) {
        let before = match &source {
            Source::Message(before) => self.known.get(before).cloned(),
            Source::By(_) | Source::Node => None,
        };
        let charged = whose.charged(&id);
        let mut message = Message {
            arrived: time,
            seen: time,
            sender,
            ..Message::default()
        };
        match (source, before) {
            (Source::Message(_), Some(before)) => {
                message.charged = charged.or(before.charged);
                message.brought = before.brought;
                message.arrived = before.arrived;
            }
            (source, _) => {
                message.charged = charged;
                message.brought = Some(Brought::of(source));
            }
        }
        self.make_room();
        self.changed.insert(id.clone());
        self.known.insert(id, message);
    }

    /// The message of this name, which is new if it was not heard of.
    fn message(&mut self, id: &str, time: Timestamp) -> &mut Message {
        if !self.known.contains_key(id) {
            self.make_room();
        }
        self.changed.insert(id.to_owned());
        let message = self.known.entry(id.to_owned()).or_insert_with(|| Message {
            arrived: time,
            ..Message::default()
        });
        message.seen = time;
        message
    }

    fn count(&self, id: &str, (hard, soft): (u64, u64), whose: &dyn Whose) -> Counted {
        let Some(message) = self.known.get(id) else {
            return Counted::Nobodys(hard.saturating_add(soft));
        };
        if message.sender.as_deref() == Some("") {
            return Counted::Nothing;
        }
        let charged = message.charged.clone().or_else(|| whose.charged(id));
        let was_charged = charged.is_some();
        let tenant = charged.or_else(|| whose.tenant(&message.envelope()?));
        match tenant {
            Some(tenant) => Counted::Bounces {
                tenant,
                hard,
                soft,
                arrived: message.arrived,
                charged: was_charged,
            },
            None => Counted::Nobodys(hard.saturating_add(soft)),
        }
    }

    /// Forgets the oldest eighth, where there are too many.
    fn make_room(&mut self) {
        if self.known.len() < MOST {
            return;
        }
        let mut times: Vec<Timestamp> = self.known.values().map(|it| it.seen).collect();
        times.sort_unstable();
        if let Some(oldest) = times.get(MOST / 8).copied() {
            self.forget(oldest);
        }
    }

    /// Forgets of what nothing was heard for so long that no mail server keeps it.
    pub fn tidy(&mut self, now: Timestamp) {
        if let Ok(oldest) = now.checked_sub(LONGEST) {
            self.forget(oldest);
        }
    }

    fn forget(&mut self, until: Timestamp) {
        let changed = &mut self.changed;
        self.known.retain(|id, message| {
            let stays = message.seen > until;
            if !stays {
                changed.insert(id.clone());
            }
            stays
        });
    }

    /// How many are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// What is different from what is on the disk: each message's new state, `None` if it is gone.
    #[must_use]
    pub fn changes(&self) -> Vec<(String, Option<Message>)> {
        let changed = self.changed.iter();
        changed
            .filter_map(|id| match self.known.get(id) {
                Some(message) => Some((id.clone(), Some(message.clone()))),
                // What came and went in between was never kept.
                None => self.kept.contains(id).then(|| (id.clone(), None)),
            })
            .collect()
    }

    /// All changes are on the disk.
    pub fn were_kept(&mut self) {
        for id in self.changed.drain() {
            if self.known.contains_key(&id) {
                self.kept.insert(id);
            } else {
                self.kept.remove(&id);
            }
        }
    }
}

impl Message {
    /// What is known of who sent it.
    fn envelope(&self) -> Option<Envelope> {
        let mut envelope = Envelope {
            sender: self.sender.clone(),
            ..Envelope::default()
        };
        match self.brought.as_ref()? {
            Brought::Uid(uid) => envelope.uid = Some(*uid),
            Brought::Login(login) => envelope.login = Some(login.clone()),
            Brought::Client(address) => envelope.client = Some((*address, 0).into()),
            // Which socket it was, only who asked at the time knows.
            Brought::Node => return None,
        }
        Some(envelope)
    }
}

impl Brought {
    fn of(source: Source) -> Self {
        match source {
            Source::By(Account::Uid(uid)) => Self::Uid(uid),
            Source::By(Account::User(name) | Account::Login(name)) => Self::Login(name),
            Source::By(Account::Address(address)) => Self::Client(address),
            Source::Node | Source::Message(_) => Self::Node,
        }
    }
}

/// What tells a recipient from others, by the letters of its address in lower case.
fn tag(address: &str) -> u64 {
    let address = address.to_ascii_lowercase();
    let whole = digest::digest(&digest::SHA256, address.as_bytes());
    let mut tag = [0; 8];
    for (to, from) in tag.iter_mut().zip(whole.as_ref()) {
        *to = *from;
    }
    u64::from_be_bytes(tag)
}
