//! The gate: has the kernel count each message once, and gives back what does not go out.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use limiter_common::{
    limit::{Kind, Unit},
    verdict::Reason,
};
use log::{error, warn};

use super::{
    Answer, Envelope, Gate, Key, NO_USER, Reply,
    directory::{Directory, Owners, Payer, Whose},
    distinct::{Distinct, DistinctLimit, Recipient, Tagger},
    message::{Held, LONGEST, Message},
    payers::Payers,
    reply::{self, Facts},
    till::Till,
};
use crate::{
    kernel::charge::{Charged, From, Load, Refusal},
    policy::services::{
        DistinctRecipients, OnFailure, OverLimit, PaceAction, SenderMismatch, Text, TooFast,
    },
    report::duration::Seconds,
};

/// After how long Postfix tries again what `sendmail` left.
const PICKUP: Duration = Duration::from_secs(60);
/// How many messages may be under way at once.
const MOST: usize = 65_536;

/// The gate of this node.
pub struct NodeGate {
    till: Till,
    owners: Box<dyn Owners>,
    directory: RwLock<Arc<Directory>>,
    distinct: Mutex<Distinct>,
    tagger: Tagger,
    /// The wall clock, since 1970: what months are counted by.
    wall: Box<dyn Fn() -> Duration + Send + Sync>,
    desk: Mutex<Desk>,
    payers: Payers,
    /// How many messages were asked about at their recipients alone since one was asked about whole.
    halves: AtomicU64,
    /// Of tenants that went too fast with `sendmail`: until when, and what is said.
    put_off: Mutex<HashMap<u32, (Instant, Reply)>>,
}

/// How a message came in, as far as it matters to what is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// By Postfix's `sendmail`, which is over: Postfix itself waits for the answer, and tries again.
    Pickup,
    /// Whoever sends it waits for the answer.
    Awaited,
}

impl Way {
    fn of(key: &Key, envelope: &Envelope) -> Self {
        match key {
            Key::Queued(_) if envelope.uid.is_some() => Self::Pickup,
            _ => Self::Awaited,
        }
    }
}

/// The messages under way.
#[derive(Default)]
struct Desk {
    messages: HashMap<Key, Arc<Mutex<Message>>>,
    /// Other keys of the same messages: Postfix's instance, once its queue id is known.
    also: HashMap<Key, Key>,
}

/// What is asked about a message.
#[derive(Clone, Copy, Debug)]
enum Question<'q> {
    /// Whether it may have one more recipient. Others may refuse that one after us.
    Recipient(&'q str),
    /// Whether it may begin, to so many as the mail server says, whom others refused left out.
    Begins(Option<u32>),
    /// Whether it may go to all of these and nobody else, who are as many as the mail server says.
    Whole(&'q [String], Option<u32>),
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
            tagger: distinct.tagger(),
            distinct: Mutex::new(distinct),
            wall,
            desk: Mutex::default(),
            halves: AtomicU64::new(0),
            put_off: Mutex::default(),
            payers: Payers::default(),
        }
    }

    /// Goes by this from now on. Messages under way are paid for by whom they were.
    pub fn set_directory(&self, directory: Directory) {
        let directory = Arc::new(directory);
        {
            let limited = directory.all_distinct();
            let is_limited = |owner: &str, window| limited.contains(&(owner, window));
            self.lock_distinct().keep(is_limited);
        }
        let mut place = self
            .directory
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *place = directory;
    }

    /// Whether the mailboxes that this login belongs to are closed by a sanction, of the account or of the
    /// domain.
    #[must_use]
    pub fn is_suspended(&self, login: &str) -> bool {
        let directory = self.directory();
        let mut places = directory.places_of_login(login);
        places.any(|place| self.till.closes_mailboxes(place))
    }

    /// How many messages a mail server asked about at their recipients and then no more, since it asked
    /// about one when it was there: none of them is counted in the end.
    #[must_use]
    pub fn halves(&self) -> u64 {
        self.halves.load(Ordering::Relaxed)
    }

    /// Looks at what is remembered of different recipients.
    pub fn distinct<T>(&self, look: impl FnOnce(&mut Distinct) -> T) -> T {
        look(&mut self.lock_distinct())
    }

    /// What is remembered of different recipients, if it changed since this was asked last. Nobody waits
    /// for more than one tenant's to be copied.
    #[must_use]
    pub fn changed_distinct(&self) -> Option<Distinct> {
        let (mut copy, tenants) = {
            let mut distinct = self.lock_distinct();
            if !distinct.take_changed() {
                return None;
            }
            (distinct.like(), distinct.tenants())
        };
        for tenant in tenants {
            copy.copy_of(&self.lock_distinct(), &tenant);
        }
        Some(copy)
    }

    /// The tenant that was charged for a message, by its name in the queue; for about an hour.
    #[must_use]
    pub fn payer_of(&self, queue_id: &str) -> Option<String> {
        self.payers.of(queue_id)
    }

    /// Remembers who paid for a message that may go in, where its name in the queue is known.
    fn remember(&self, key: &Key, answer: &Answer) {
        if *answer != Answer::Accept {
            return;
        }
        let (queue_id, message) = {
            let desk = self.lock_desk();
            let Key::Queued(queue_id) = desk.also.get(key).unwrap_or(key) else {
                return;
            };
            let message = desk.messages.get(&Key::Queued(queue_id.clone()));
            let Some(message) = message.map(Arc::clone) else {
                return;
            };
            (queue_id.clone(), message)
        };
        let message = message.lock().unwrap_or_else(PoisonError::into_inner);
        self.payers.note(&queue_id, &message.payer.name);
    }

    /// Lets go of messages of which nothing was heard for long.
    pub fn sweep(&self) {
        let now = Instant::now();
        self.lock_put_off().retain(|_, (until, _)| *until > now);
        self.payers.sweep();
        let old: Vec<(Key, bool)> = {
            let desk = self.lock_desk();
            let all = desk.messages.iter();
            all.filter_map(|(key, message)| {
                let message = message.try_lock().ok()?;
                let is_old = message.since.elapsed() >= LONGEST;
                is_old.then(|| (key.clone(), message.begun))
            })
            .collect()
        };
        for (key, begun) in old {
            // What came to DATA may have gone out: it stays counted.
            self.end(&key, begun);
        }
    }

    fn lock_distinct(&self) -> MutexGuard<'_, Distinct> {
        self.distinct.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_put_off(&self) -> MutexGuard<'_, HashMap<u32, (Instant, Reply)>> {
        self.put_off.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn directory(&self) -> Arc<Directory> {
        let directory = self.directory.read();
        Arc::clone(&directory.unwrap_or_else(PoisonError::into_inner))
    }

    /// The message under `key`, which begins now if nobody has heard of it; else what to say at once.
    fn message_of(
        &self,
        key: &Key,
        envelope: &Envelope,
        directory: &Directory,
    ) -> Result<Arc<Mutex<Message>>, Answer> {
        {
            let desk = self.lock_desk();
            let key = desk.also.get(key).unwrap_or(key);
            if let Some(message) = desk.messages.get(key) {
                return Ok(Arc::clone(message));
            }
        }
        // A server's own uid says nothing of its clients.
        let nobodys_uid = envelope.uid.filter(|uid| directory.is_servers(*uid));
        let of_client = (envelope.client.is_some() && nobodys_uid.is_some()).then(|| Envelope {
            uid: None,
            ..envelope.clone()
        });
        let envelope = of_client.as_ref().unwrap_or(envelope);
        // Looked up without the desk's lock: it asks the kernel. Of what nobody pays for nothing is
        // remembered.
        let payer = match directory.whose(envelope, &*self.owners) {
            Whose::Payer(payer) => payer,
            Whose::Nobodys => return Err(Answer::Accept),
            Whose::Unknown(reason) => return Err(unknown(directory, reason)),
            Whose::Later(wait) => return Err(Answer::Wait(wait)),
        };
        let message = Arc::new(Mutex::new(Message::new(payer)));
        let mut desk = self.lock_desk();
        if desk.messages.len() >= MOST {
            error!("{MOST} messages are under way at once: one more is put off");
            return Err(busy());
        }
        let key = desk.also.get(key).unwrap_or(key).clone();
        Ok(Arc::clone(desk.messages.entry(key).or_insert(message)))
    }

    /// Counts what is new of a message: itself, if it begins, and its recipients. Whom others refused
    /// after us is given back as soon as that is known.
    fn ask(&self, key: &Key, envelope: &Envelope, question: Question<'_>) -> Answer {
        let directory = self.directory();
        let message = match self.message_of(key, envelope, &directory) {
            Ok(message) => message,
            Err(answer) => return answer,
        };
        let mut message = message.lock().unwrap_or_else(PoisonError::into_inner);
        message.since = Instant::now();
        // Numbers of tenants are given to others when these are gone.
        if !directory.follow(&mut message.payer) {
            let name = &message.payer.name;
            warn!("{name} is gone while its mail is under way: it is put off");
            let facts = Facts {
                reason: "no_tenant",
                ..Facts::default()
            };
            return Answer::Defer(reply::reply(
                "4.7.1",
                &directory.rules.texts.unknown,
                &facts,
            ));
        }
        let payer = message.payer.clone();
        let from = From {
            uid: payer.uid.filter(|uid| *uid != NO_USER),
            client: envelope.client,
        };
        if payer.mismatch
            && directory.rules.sender_mismatch == SenderMismatch::Refuse
            && !self.is_observed(&payer, from)
        {
            return refuse(&directory.rules.texts.mismatch, &payer, "sender_mismatch");
        }

        if let Some(answer) = self.held_back(&directory, &payer, from) {
            return answer;
        }

        let mut seen = HashSet::new();
        let tags: Vec<Recipient> = match question {
            Question::Recipient(address) => vec![self.tagger.tag(address)],
            Question::Begins(_) => Vec::new(),
            Question::Whole(addresses, _) => {
                let tags = addresses.iter().map(|address| self.tagger.tag(address));
                tags.filter(|it| seen.insert(*it)).collect()
            }
        };
        let due = match question {
            Question::Recipient(_) => message.with(&tags),
            Question::Begins(total) => message.said(total).unwrap_or(message.counted),
            Question::Whole(_, total) => {
                self.remove_distinct(&message.only(&seen));
                let all = u32::try_from(tags.len()).unwrap_or(u32::MAX);
                all.max(message.said(total).unwrap_or(0))
            }
        };
        self.give_back_beyond(&mut message, due);
        let new: Vec<Recipient> = tags
            .into_iter()
            .filter(|it| !message.recipients.contains(it))
            .collect();
        let more = due.saturating_sub(message.counted);
        let begins = !matches!(question, Question::Recipient(_));
        let load = Load {
            messages: u32::from(begins && !message.begun),
            recipients: more,
        };
        // Postfix tries again what `sendmail` left, each minute under another name: that is no refusal more.
        let way = Way::of(key, envelope);
        if way == Way::Pickup
            && let Some((until, said)) = self.lock_put_off().get(&payer.place)
            && *until > Instant::now()
        {
            return Answer::Defer(said.clone());
        }
        let added = match self.add_distinct(&directory, &payer, from, &new) {
            Ok(added) => added,
            Err(answer) => return answer,
        };
        if load == Load::default() {
            message.remember(new);
            message.held.extend(added);
            return Answer::Accept;
        }
        let charged = self.till.count(payer.place, load, from);
        if !matches!(charged, Ok(Charged::Counted(..))) {
            self.remove_distinct(&added);
        }
        match charged {
            Ok(Charged::Counted(receipt, _)) => {
                message.receipts.push(receipt);
                message.counted = message.counted.saturating_add(more);
                message.begun |= load.messages > 0;
                message.held.extend(added);
                message.remember(new);
                Answer::Accept
            }
            Ok(Charged::Refused(refusal)) => self.refused(&directory, &payer, load, way, &refusal),
            Err(error) => {
                error!("mail of {} cannot be counted: {error}", payer.name);
                failed(&directory)
            }
        }
    }

    /// What is said to mail that may be any of an account's domains' while one of them is under a sanction:
    /// its users would else only leave out whose they are.
    fn held_back(&self, directory: &Directory, payer: &Payer, from: From) -> Option<Answer> {
        let sanctions = payer
            .any_of
            .iter()
            .map(|domain| self.till.sanction(*domain));
        let reason = sanctions.flatten().next()?;
        // Sanctions hold in observe mode too.
        if let Err(error) = self.till.refused(payer.place, reason, from) {
            error!("{error}");
        }
        Some(refuse(
            &directory.rules.texts.sanction,
            payer,
            reason.as_str(),
        ))
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

    /// Remembers these recipients where there are limits of different ones. Gives whom the message then
    /// holds; or what to say if they are too many.
    fn add_distinct(
        &self,
        directory: &Directory,
        payer: &Payer,
        from: From,
        new: &[Recipient],
    ) -> Result<Held, Answer> {
        let limits = directory.distinct(payer.tenant);
        let mut added = Held::new();
        if new.is_empty() || limits.is_empty() {
            return Ok(added);
        }
        let refuses = directory.rules.distinct_recipients == DistinctRecipients::Refuse;
        let now = (self.wall)();
        for limit in limits {
            // An ancestor that is only observed holds nobody back.
            let refuses = refuses && limit.enforced;
            let (fits, held) = self.lock_distinct().add(limit, now, new, !refuses);
            if fits {
                added.push((limit.clone(), held));
                continue;
            }
            let told = self.till.distinct(payer.place, limit, from, refuses);
            if refuses && told.is_ok_and(|enforced| enforced) {
                self.remove_distinct(&added);
                let limit_in_words = in_words(limit);
                let facts = Facts {
                    tenant: &limit.owner,
                    limit: &limit_in_words,
                    again: None,
                    reason: Reason::Limit.as_str(),
                };
                let text = &directory.rules.texts.limit;
                return Err(Answer::Refuse(reply::reply("5.7.1", text, &facts)));
            }
            added.push((limit.clone(), held));
        }
        Ok(added)
    }

    fn remove_distinct(&self, held: &[(DistinctLimit, Vec<Recipient>)]) {
        let mut distinct = self.lock_distinct();
        for (limit, recipients) in held {
            distinct.remove(limit, recipients);
        }
    }

    /// What is told of a refusal by the kernel.
    fn refused(
        &self,
        directory: &Directory,
        payer: &Payer,
        load: Load,
        way: Way,
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
                && way == Way::Awaited
                && let Some(again) = again
                && again <= cap
            {
                return Answer::Wait(again);
            }
            let said = reply::reply("4.7.1", &rules.texts.pace, &facts);
            if let (Way::Pickup, Some(again)) = (way, again) {
                let until = Instant::now() + again.min(PICKUP);
                self.lock_put_off()
                    .insert(payer.place, (until, said.clone()));
            }
            return Answer::Defer(said);
        }
        // What never fits is no use to try again. What `sendmail` left would be tried again each minute,
        // in front of everybody else's: its sender gets a bounce instead.
        if rules.over_limit == OverLimit::Permanent || units > full.max || way == Way::Pickup {
            Answer::Refuse(reply::reply("5.7.1", &rules.texts.limit, &facts))
        } else {
            Answer::Defer(reply::reply("4.7.1", &rules.texts.limit, &facts))
        }
    }

    /// Gives back what was counted of a message beyond `due` recipients, the oldest first: what stays
    /// counted stays so for longest.
    fn give_back_beyond(&self, message: &mut Message, due: u32) {
        let name = message.payer.name.clone();
        let mut surplus = message.counted.saturating_sub(due);
        message.counted -= surplus;
        for receipt in &mut message.receipts {
            if surplus == 0 {
                return;
            }
            let (part, recipients) = receipt.split(surplus);
            if recipients == 0 {
                continue;
            }
            surplus -= recipients;
            if let Err(error) = self.till.give_back(part) {
                warn!("whom {name} did not send to stays counted: {error}");
            }
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
        let name = &message.payer.name;
        if taken {
            let mut payer = message.payer.clone();
            if self.directory().follow(&mut payer)
                && let Err(error) = self.till.went(payer.place, message.counted)
            {
                warn!("{error}");
            }
            let mut distinct = self.lock_distinct();
            for (limit, recipients) in &message.held {
                distinct.taken(limit, recipients);
            }
            return;
        }
        self.remove_distinct(&message.held);
        for receipt in receipts {
            if let Err(error) = self.till.give_back(receipt) {
                warn!("what {name} did not send stays counted: {error}");
            }
        }
    }
}

impl Gate for NodeGate {
    fn recipient(&self, key: &Key, envelope: &Envelope, recipient: &str) -> Answer {
        self.ask(key, envelope, Question::Recipient(recipient))
    }

    fn message(
        &self,
        key: &Key,
        envelope: &Envelope,
        recipients: Option<u32>,
        queued: Option<&Key>,
    ) -> Answer {
        self.halves.store(0, Ordering::Relaxed);
        if let Some(queued) = queued.filter(|queued| *queued != key) {
            let mut desk = self.lock_desk();
            if !desk.also.contains_key(key) {
                if let Some(message) = desk.messages.remove(key) {
                    desk.messages.insert(queued.clone(), message);
                }
                desk.also.insert(key.clone(), queued.clone());
            }
        }
        let answer = self.ask(key, envelope, Question::Begins(recipients));
        self.remember(key, &answer);
        answer
    }

    fn whole(
        &self,
        key: &Key,
        envelope: &Envelope,
        recipients: &[String],
        total: Option<u32>,
    ) -> Answer {
        self.halves.store(0, Ordering::Relaxed);
        let answer = self.ask(key, envelope, Question::Whole(recipients, total));
        self.remember(key, &answer);
        answer
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
                if !message.begun && message.counted > 0 {
                    self.halves.fetch_add(1, Ordering::Relaxed);
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

fn busy() -> Answer {
    Answer::Defer(Reply {
        status: "4.3.2".to_owned(),
        text: "too many messages are under way; try again later".to_owned(),
    })
}

fn unknown(directory: &Directory, reason: &str) -> Answer {
    if !directory.enforces() {
        return Answer::Accept;
    }
    let facts = Facts {
        reason,
        ..Facts::default()
    };
    let texts = &directory.rules.texts;
    Answer::Defer(reply::reply("4.7.1", &texts.unknown, &facts))
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
