//! Holds the mail of tenants that may not send, and releases it again.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{HeldMail, HoldBook, Mail, MailKey, MailQueue, MtaError, Tenants};

/// What one look at the queues did. Counts are of messages.
#[derive(Debug, Default)]
pub struct Report {
    /// Put on hold now, by tenant.
    pub held: BTreeMap<String, usize>,
    /// Released now, by tenant.
    pub released: BTreeMap<String, usize>,
    /// To be held, but being delivered, or gone when it was tried; looked at again soon.
    pub busy: usize,
    /// Waiting, and nobody knows whose: left alone. As of the last look at each queue.
    pub unattributed: usize,
    /// What went wrong. Everything is tried again by the next [`QueueKeeper::sweep`].
    pub faults: Vec<MtaError>,
}

impl Report {
    /// Whether nothing happened and nothing is wrong.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.held.is_empty() && self.released.is_empty() && self.busy == 0 && self.faults.is_empty()
    }
}

/// Keeps the mail of some tenants on hold. Every call runs commands of the mail servers, each with a
/// time limit: not to be called where enforcement waits for it ([`super::KeeperThread`]).
///
/// All of it can be repeated: whoever crashed in between calls [`Self::begin`] and goes on.
pub struct QueueKeeper<T, B> {
    queues: Vec<Queue>,
    tenants: T,
    book: B,
    held: BTreeSet<String>,
    /// Tenants whose mail is not all released yet.
    releasing: BTreeSet<String>,
    /// Held, and not written down yet.
    unwritten: HashMap<MailKey, HeldMail>,
}

struct Queue {
    queue: Box<dyn MailQueue>,
    /// To be listed, whether it changed or not.
    again: bool,
    unattributed: usize,
}

impl<T: Tenants, B: HoldBook> QueueKeeper<T, B> {
    /// A keeper that holds nobody's mail yet.
    #[must_use]
    pub fn new(queues: Vec<Box<dyn MailQueue>>, tenants: T, book: B) -> Self {
        let queues = queues
            .into_iter()
            .map(|queue| Queue {
                queue,
                again: true,
                unattributed: 0,
            })
            .collect();
        Self {
            queues,
            tenants,
            book,
            held: BTreeSet::new(),
            releasing: BTreeSet::new(),
            unwritten: HashMap::new(),
        }
    }

    /// Goes on with exactly these tenants on hold: everybody else's mail that was held is released.
    pub fn begin(&mut self, held: BTreeSet<String>) -> Report {
        // Whether or not the book can be read: whoever was on hold until now is in here.
        let before = std::mem::replace(&mut self.held, held);
        self.releasing.extend(before);
        let unwritten = self.unwritten.values().map(|mail| mail.tenant.clone());
        self.releasing.extend(unwritten);
        let mut report = Report::default();
        match self.book.held() {
            Ok(mails) => {
                let others = mails.into_iter().map(|mail| mail.tenant);
                self.releasing.extend(others);
            }
            Err(source) => report.faults.push(book_fault("all queues", source)),
        }
        let held = &self.held;
        self.releasing.retain(|tenant| !held.contains(tenant));
        self.look_again();
        self.sweep_into(report)
    }

    /// Holds what `tenant` has in the queues, and from now on whatever comes.
    pub fn hold(&mut self, tenant: &str) -> Report {
        self.releasing.remove(tenant);
        self.held.insert(tenant.to_owned());
        self.look_again();
        self.sweep()
    }

    /// Releases what was held of `tenant`.
    pub fn release(&mut self, tenant: &str) -> Report {
        self.held.remove(tenant);
        self.releasing.insert(tenant.to_owned());
        self.sweep()
    }

    /// Whether [`Self::sweep`] has anything to look for.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        !self.held.is_empty() || !self.releasing.is_empty() || !self.unwritten.is_empty()
    }

    /// Holds what came meanwhile, and does what could not be done before. To be called every few
    /// seconds at least; where no queue changed it costs a few system calls.
    pub fn sweep(&mut self) -> Report {
        self.sweep_into(Report::default())
    }

    /// Other tenants, or others of their identities: whose is what is asked again.
    pub fn set_tenants(&mut self, tenants: T) {
        self.tenants = tenants;
        self.look_again();
    }

    /// Other queues, where mail servers came or went.
    pub fn set_queues(&mut self, queues: Vec<Box<dyn MailQueue>>) {
        self.queues = queues
            .into_iter()
            .map(|queue| Queue {
                queue,
                again: true,
                unattributed: 0,
            })
            .collect();
    }

    /// The book, when nothing is to be kept any more; what is held stays so.
    #[must_use]
    pub fn into_book(self) -> B {
        self.book
    }

    fn look_again(&mut self) {
        for queue in &mut self.queues {
            queue.again = true;
        }
    }

    fn sweep_into(&mut self, mut report: Report) -> Report {
        self.write(&mut report);
        self.release_all(&mut report);
        if !self.held.is_empty() {
            for index in 0..self.queues.len() {
                self.hold_in(index, &mut report);
            }
        }
        report.unattributed = self.queues.iter().map(|queue| queue.unattributed).sum();
        report
    }

    fn hold_in(&mut self, index: usize, report: &mut Report) {
        let Some(queue) = self.queues.get_mut(index) else {
            return;
        };
        if !queue.again && !queue.queue.changed() {
            return;
        }
        // Until it is done.
        queue.again = true;
        let mails = match queue.queue.list() {
            Ok(mails) => mails,
            Err(error) => return report.faults.push(error),
        };
        let mut wanted: Vec<(&Mail, String)> = Vec::new();
        queue.unattributed = 0;
        for mail in &mails {
            match self.tenants.tenant_of(mail) {
                None => queue.unattributed += 1,
                Some(tenant) if self.held.contains(&tenant) => wanted.push((mail, tenant)),
                Some(_) => {}
            }
        }
        if wanted.is_empty() {
            queue.again = false;
            return;
        }
        // Written down first: a crash leaves a record too many, never mail that nobody releases.
        let records: Vec<HeldMail> = wanted
            .iter()
            .map(|(mail, tenant)| HeldMail {
                key: mail.key.clone(),
                tenant: tenant.clone(),
                place: mail.place.clone(),
            })
            .collect();
        if let Err(source) = self.book.note(&records) {
            report.faults.push(book_fault(queue.queue.name(), source));
            let unwritten = records.into_iter().map(|mail| (mail.key.clone(), mail));
            self.unwritten.extend(unwritten);
        }
        let list: Vec<&Mail> = wanted.iter().map(|(mail, _)| *mail).collect();
        match queue.queue.hold(&list) {
            Ok(held) => {
                let held: BTreeSet<MailKey> = held.into_iter().collect();
                queue.again = false;
                for (mail, tenant) in wanted {
                    if held.contains(&mail.key) {
                        *report.held.entry(tenant).or_default() += 1;
                    } else {
                        report.busy += 1;
                        queue.again = true;
                    }
                }
            }
            Err(error) => report.faults.push(error),
        }
    }

    /// Releases what is left of those who may send again.
    fn release_all(&mut self, report: &mut Report) {
        if self.releasing.is_empty() {
            return;
        }
        let mut mails = match self.book.held() {
            Ok(mails) => mails,
            Err(source) => return report.faults.push(book_fault("all queues", source)),
        };
        mails.extend(self.unwritten.values().cloned());
        mails.retain(|mail| self.releasing.contains(&mail.tenant));
        let mut left: BTreeMap<MailKey, String> = mails
            .iter()
            .map(|mail| (mail.key.clone(), mail.tenant.clone()))
            .collect();
        let mut done = Vec::new();
        for Queue { queue, .. } in &mut self.queues {
            let name = queue.name().to_owned();
            let of_queue: Vec<HeldMail> = mails
                .iter()
                .filter(|mail| mail.key.queue == name)
                .cloned()
                .collect();
            if of_queue.is_empty() {
                continue;
            }
            match queue.release(&of_queue) {
                Ok(released) => {
                    for key in released.done {
                        if let Some(tenant) = left.remove(&key) {
                            *report.released.entry(tenant).or_default() += 1;
                        }
                        done.push(key);
                    }
                    for key in released.gone {
                        left.remove(&key);
                        done.push(key);
                    }
                }
                Err(error) => report.faults.push(error),
            }
        }
        for key in &done {
            self.unwritten.remove(key);
        }
        if let Err(source) = self.book.forget(&done) {
            report.faults.push(book_fault("all queues", source));
            return;
        }
        // What is in a queue that is not there now waits for it to return.
        let known: BTreeSet<&str> = self.queues.iter().map(|queue| queue.queue.name()).collect();
        let waiting: BTreeSet<&String> = left
            .iter()
            .filter(|(key, _)| known.contains(key.queue.as_str()))
            .map(|(_, tenant)| tenant)
            .collect();
        report.busy += waiting.len();
        self.releasing.retain(|tenant| waiting.contains(tenant));
    }

    fn write(&mut self, report: &mut Report) {
        if self.unwritten.is_empty() {
            return;
        }
        let mails: Vec<HeldMail> = self.unwritten.values().cloned().collect();
        match self.book.note(&mails) {
            Ok(()) => self.unwritten.clear(),
            Err(source) => report.faults.push(book_fault("all queues", source)),
        }
    }
}

fn book_fault(queue: &str, source: super::BookError) -> MtaError {
    MtaError::Book {
        queue: queue.to_owned(),
        source,
    }
}
