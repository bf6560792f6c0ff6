//! The gate: has the kernel count each message once, and gives back what does not go out.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::{Duration, Instant},
};

use limiter_common::{
    limit::{Kind, Unit},
    verdict::Reason,
};
use log::{error, warn};

use super::{
    Answer, Envelope, Gate, Key, Reply,
    directory::{Directory, DistinctLimit, Owners, Payer, Whose},
    distinct::{Distinct, Recipient},
    reply::{self, Facts},
    till::Till,
};
use crate::{
    kernel::charge::{Charged, From, Load, Receipt, Refusal},
    policy::services::{
        DistinctRecipients, OnFailure, OverLimit, PaceAction, SenderMismatch, Text, TooFast,
    },
    report::duration::Seconds,
};

/// How long a message may be under way before nobody waits for its end any more.
const LONGEST: Duration = Duration::from_secs(3_600);
/// How many messages may be under way at once.
const MOST: usize = 65_536;
/// How many recipients of one message are told apart.
const MOST_RECIPIENTS: usize = 10_000;

/// The gate of this node.
pub struct NodeGate {
    till: Till,
    owners: Box<dyn Owners>,
    directory: RwLock<Arc<Directory>>,
    distinct: Mutex<Distinct>,
    /// The wall clock, since 1970: what months are counted by.
    wall: Box<dyn Fn() -> Duration + Send + Sync>,
    desk: Mutex<Desk>,
}

/// The messages under way.
#[derive(Default)]
struct Desk {
    messages: HashMap<Key, Arc<Mutex<Message>>>,
    /// Other keys of the same messages: Postfix's instance, once its queue id is known.
    also: HashMap<Key, Key>,
}

/// A message under way.
struct Message {
    whose: Whose,
    receipts: Vec<Receipt>,
    /// Who was counted already, and how many beyond those who can be told apart.
    recipients: HashSet<Recipient>,
    counted: u32,
    /// The message itself was counted.
    begun: bool,
    /// Somebody will say how it ends.
    watched: bool,
    since: Instant,
    /// Whom it adds to the different recipients, once it is taken.
    new: Vec<Recipient>,
}

impl NodeGate {
    /// A gate before the kernel behind `till`.
    pub fn new(
        till: Till,
        owners: Box<dyn Owners>,
        distinct: Distinct,
        wall: Box<dyn Fn() -> Duration + Send + Sync>,
    ) -> Self {
        Self {
            till,
            owners,
            directory: RwLock::default(),
            distinct: Mutex::new(distinct),
            wall,
            desk: Mutex::default(),
        }
    }

    /// Goes by this from now on. Messages under way are paid for by whom they were.
    pub fn set_directory(&self, directory: Directory) {
        let directory = Arc::new(directory);
        let is_limited = |owner: &str, window| directory.is_distinct(owner, window);
        self.lock_distinct().keep(is_limited);
        let mut place = self
            .directory
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *place = directory;
    }

    /// Looks at what is remembered of different recipients.
    pub fn distinct<T>(&self, look: impl FnOnce(&Distinct) -> T) -> T {
        look(&self.lock_distinct())
    }

    /// Lets go of messages of which nothing was heard for long.
    pub fn sweep(&self) {
        let old: Vec<Key> = {
            let desk = self.lock_desk();
            let all = desk.messages.iter();
            all.filter(|(_, message)| {
                message
                    .try_lock()
                    .is_ok_and(|message| message.since.elapsed() >= LONGEST)
            })
            .map(|(key, _)| key.clone())
            .collect()
        };
        for key in old {
            self.end(&key, false);
        }
    }

    fn lock_distinct(&self) -> MutexGuard<'_, Distinct> {
        self.distinct.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn directory(&self) -> Arc<Directory> {
        let directory = self.directory.read();
        Arc::clone(&directory.unwrap_or_else(PoisonError::into_inner))
    }

    /// The message under `key`, which begins now if nobody has heard of it.
    fn message_of(
        &self,
        key: &Key,
        envelope: &Envelope,
        directory: &Directory,
    ) -> Option<Arc<Mutex<Message>>> {
        {
            let desk = self.lock_desk();
            let key = desk.also.get(key).unwrap_or(key);
            if let Some(message) = desk.messages.get(key) {
                return Some(Arc::clone(message));
            }
        }
        // Looked up without the desk's lock: it asks the kernel.
        let whose = directory.whose(envelope, &*self.owners);
        let message = Arc::new(Mutex::new(Message {
            whose,
            receipts: Vec::new(),
            recipients: HashSet::new(),
            counted: 0,
            begun: false,
            watched: false,
            since: Instant::now(),
            new: Vec::new(),
        }));
        let mut desk = self.lock_desk();
        if desk.messages.len() >= MOST {
            return None;
        }
        let key = desk.also.get(key).unwrap_or(key).clone();
        let message = desk.messages.entry(key).or_insert(message);
        Some(Arc::clone(message))
    }

    /// Counts what is new of a message: itself, if it `begins`, and `recipients`, of whom `total` are
    /// there as far as is known.
    fn ask(
        &self,
        key: &Key,
        envelope: &Envelope,
        recipients: &[&str],
        total: Option<u32>,
        begins: bool,
    ) -> Answer {
        let directory = self.directory();
        let Some(message) = self.message_of(key, envelope, &directory) else {
            error!("{MOST} messages are under way at once: one more is not counted");
            return failed(&directory);
        };
        let mut message = message.lock().unwrap_or_else(PoisonError::into_inner);
        let payer = match &message.whose {
            Whose::Nobodys => return Answer::Accept,
            Whose::Unknown => return unknown(&directory),
            Whose::Payer(payer) => payer.clone(),
        };
        let from = From {
            uid: payer.uid,
            client: envelope.client,
        };
        if payer.mismatch
            && directory.rules.sender_mismatch == SenderMismatch::Refuse
            && !self.is_observed(&payer, from)
        {
            return refuse(&directory.rules.texts.mismatch, &payer, "sender_mismatch");
        }

        let new: Vec<Recipient> = {
            let distinct = self.lock_distinct();
            let mut seen = HashSet::new();
            recipients
                .iter()
                .map(|address| distinct.recipient(address))
                .filter(|it| !message.recipients.contains(it) && seen.insert(*it))
                .collect()
        };
        let mut more = u32::try_from(new.len()).unwrap_or(u32::MAX);
        if let Some(total) = total {
            more = more.max(total.saturating_sub(message.counted));
        }
        let load = Load {
            messages: u32::from(begins && !message.begun),
            recipients: more,
        };
        if load == Load::default() {
            return Answer::Accept;
        }
        if let Some(answer) = self.too_many(&directory, &payer, from, &message, &new) {
            return answer;
        }
        match self.till.count(payer.place, load, from) {
            Ok(Charged::Counted(receipt, _)) => {
                message.receipts.push(receipt);
                message.counted = message.counted.saturating_add(more);
                message.begun |= load.messages > 0;
                if !directory.distinct(payer.tenant).is_empty() {
                    message.new.extend(&new);
                }
                if message.recipients.len() < MOST_RECIPIENTS {
                    message.recipients.extend(new);
                }
                Answer::Accept
            }
            Ok(Charged::Refused(refusal)) => self.refused(&directory, &payer, load, &refusal),
            Err(error) => {
                error!("mail of {} cannot be counted: {error}", payer.name);
                failed(&directory)
            }
        }
    }

    /// Tells of a forged sender; whether refusals of the tenant are only observed.
    fn is_observed(&self, payer: &Payer, from: From) -> bool {
        match self.till.refused(payer.place, Reason::SenderMismatch, from) {
            Ok(enforced) => !enforced,
            Err(error) => {
                error!("{error}");
                false
            }
        }
    }

    /// Whether these recipients are too many different ones.
    fn too_many(
        &self,
        directory: &Directory,
        payer: &Payer,
        from: From,
        message: &Message,
        new: &[Recipient],
    ) -> Option<Answer> {
        let limits = directory.distinct(payer.tenant);
        if limits.is_empty() || new.is_empty() {
            return None;
        }
        let now = (self.wall)();
        let full = {
            let all: Vec<Recipient> = message.new.iter().chain(new).copied().collect();
            let mut distinct = self.lock_distinct();
            limits.iter().find(|limit| {
                let (before, with) = distinct.with(&limit.owner, limit.window, now, &all);
                with > before && with > limit.max as usize
            })
        }?;
        let refuses = directory.rules.distinct_recipients == DistinctRecipients::Refuse;
        match self.till.distinct(payer.place, full, from, refuses) {
            Ok(true) if refuses => {
                let limit = in_words(full);
                let facts = Facts {
                    tenant: &full.owner,
                    limit: &limit,
                    again: None,
                    reason: Reason::Limit.as_str(),
                };
                Some(Answer::Refuse(reply::reply(
                    "5.7.1",
                    &directory.rules.texts.limit,
                    &facts,
                )))
            }
            Ok(_) => None,
            Err(error) => {
                error!("{error}");
                None
            }
        }
    }

    /// What is told of a refusal by the kernel.
    fn refused(
        &self,
        directory: &Directory,
        payer: &Payer,
        load: Load,
        refusal: &Refusal,
    ) -> Answer {
        let rules = &directory.rules;
        let Some(full) = refusal.full else {
            return refuse(&rules.texts.sanction, payer, refusal.reason.as_str());
        };
        let units = if full.unit == Unit::Messages {
            load.messages
        } else {
            load.recipients
        };
        let again = self.till.again(&full, units, refusal.at_ns);
        let limit = full.in_words();
        let facts = Facts {
            tenant: directory.name_at(full.owner).unwrap_or(&payer.name),
            limit: &limit,
            again,
            reason: refusal.reason.as_str(),
        };
        if full.kind == Kind::Pace {
            let TooFast { action, cap } = rules.too_fast;
            if action == PaceAction::Delay
                && let Some(again) = again
                && again <= cap
            {
                return Answer::Wait(again);
            }
            return Answer::Defer(reply::reply("4.7.1", &rules.texts.pace, &facts));
        }
        // What never fits is no use to try again.
        if rules.over_limit == OverLimit::Permanent || units > full.max {
            Answer::Refuse(reply::reply("5.7.1", &rules.texts.limit, &facts))
        } else {
            Answer::Defer(reply::reply("4.7.1", &rules.texts.limit, &facts))
        }
    }

    /// Ends a message: `taken`, or not.
    fn end(&self, key: &Key, taken: bool) {
        let message = {
            let mut desk = self.lock_desk();
            let real = desk.also.remove(key);
            desk.messages.remove(real.as_ref().unwrap_or(key))
        };
        let Some(message) = message else {
            return;
        };
        let mut message = message.lock().unwrap_or_else(PoisonError::into_inner);
        let receipts = std::mem::take(&mut message.receipts);
        let Whose::Payer(payer) = &message.whose else {
            return;
        };
        if !taken {
            for receipt in receipts {
                if let Err(error) = self.till.give_back(receipt) {
                    warn!("what {} did not send stays counted: {error}", payer.name);
                }
            }
            return;
        }
        if let Err(error) = self.till.went(payer.place) {
            warn!("{error}");
        }
        let directory = self.directory();
        let now = (self.wall)();
        let mut distinct = self.lock_distinct();
        for limit in directory.distinct(payer.tenant) {
            for recipient in &message.new {
                distinct.add(&limit.owner, limit.window, now, *recipient);
            }
        }
    }
}

impl Gate for NodeGate {
    fn recipient(&self, key: &Key, envelope: &Envelope, recipient: &str) -> Answer {
        self.ask(key, envelope, &[recipient], None, false)
    }

    fn message(
        &self,
        key: &Key,
        envelope: &Envelope,
        recipients: Option<u32>,
        queued: Option<&Key>,
    ) -> Answer {
        if let Some(queued) = queued.filter(|queued| *queued != key) {
            let mut desk = self.lock_desk();
            if !desk.also.contains_key(key) {
                if let Some(message) = desk.messages.remove(key) {
                    desk.messages.insert(queued.clone(), message);
                }
                desk.also.insert(key.clone(), queued.clone());
            }
        }
        self.ask(key, envelope, &[], recipients, true)
    }

    fn whole(&self, key: &Key, envelope: &Envelope, recipients: &[String]) -> Answer {
        let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
        self.ask(key, envelope, &recipients, None, true)
    }

    fn watched(&self, key: &Key) {
        let desk = self.lock_desk();
        if let Some(message) = desk.messages.get(key) {
            let mut message = message.lock().unwrap_or_else(PoisonError::into_inner);
            message.watched = true;
        }
    }

    fn taken(&self, key: &Key) {
        self.end(key, true);
    }

    fn dropped(&self, key: &Key) {
        let taken = {
            let mut desk = self.lock_desk();
            let is_alias = desk.also.contains_key(key);
            let real = desk.also.get(key).unwrap_or(key);
            let Some(message) = desk.messages.get(real) else {
                desk.also.remove(key);
                return;
            };
            let message = message.lock().unwrap_or_else(PoisonError::into_inner);
            // Postfix's policy protocol does not say how a message ended. Whoever watches it will.
            if matches!(key, Key::Instance(_)) {
                if message.watched && is_alias {
                    drop(message);
                    desk.also.remove(key);
                    return;
                }
                message.begun
            } else {
                false
            }
        };
        self.end(key, taken);
    }
}

fn failed(directory: &Directory) -> Answer {
    if directory.rules.on_failure == OnFailure::Open {
        return Answer::Accept;
    }
    Answer::Defer(Reply {
        status: "4.3.0".to_owned(),
        text: "mail cannot be counted at present; try again later".to_owned(),
    })
}

fn unknown(directory: &Directory) -> Answer {
    let texts = &directory.rules.texts;
    Answer::Defer(reply::reply("4.7.1", &texts.unknown, &Facts::default()))
}

fn refuse(text: &Text, payer: &Payer, reason: &str) -> Answer {
    let facts = Facts {
        tenant: &payer.name,
        reason,
        ..Facts::default()
    };
    Answer::Refuse(reply::reply("5.7.1", text, &facts))
}

fn in_words(limit: &DistinctLimit) -> String {
    let window = Seconds(limit.window);
    format!("to {} different recipients in {window}", limit.max)
}
