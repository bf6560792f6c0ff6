//! Who is told what by which ways, and where it waits until it is.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, OnceLock, PoisonError, RwLock},
};

use jiff::Timestamp;

use crate::{
    court::{Court, Herald, Told},
    ledger::Page,
    notice::{
        Backlog, Channel, Contacts, Context, Delivery, Facts, LONGEST_WAIT, Lane, Outbox,
        OutboxError, Planned,
        evidence::{self, Telling},
        plan,
    },
    offence::{Book, Moment, NoticeEvent, Sanction, Span},
    policy::{model::Policy, notices::Notices},
};

/// Says until when nothing of a tenant is refused, because it or the node is opened.
type Opened = Box<dyn Fn(&str) -> Option<Timestamp> + Send + Sync>;

/// Whom the node's notices go to.
#[derive(Clone, Default)]
pub struct Directory {
    addresses: Arc<RwLock<Addresses>>,
    opened: Arc<OnceLock<Opened>>,
}

#[derive(Debug, Default)]
struct Addresses {
    node: String,
    notices: Notices,
    /// The ports that mail is sent to.
    mail_ports: Vec<u16>,
    /// Mail addresses, by tenant.
    contacts: HashMap<String, Vec<String>>,
    /// Domains, by the tenant whose they are.
    domains: HashMap<String, Vec<String>>,
}

impl Directory {
    /// Asks `opened` from now on, with no lock of its own held.
    pub fn ask(&self, opened: impl Fn(&str) -> Option<Timestamp> + Send + Sync + 'static) {
        // It is set once.
        let _ = self.opened.set(Box::new(opened));
    }

    /// Until when nothing of whoever is told of a sanction is refused.
    fn opened(&self, told: &Told<'_>) -> Option<Timestamp> {
        match told.notice.event {
            NoticeEvent::Sanctioned { sanction, .. } if sanction > Sanction::Warn => {
                self.opened.get()?(&told.notice.tenant)
            }
            _ => None,
        }
    }

    /// Goes by this policy.
    pub fn follow(&self, policy: &Policy) {
        let mut contacts = HashMap::new();
        let mut domains: HashMap<String, Vec<String>> = HashMap::new();
        for tenant in &policy.tenants {
            if tenant.is_domain {
                let whole = tenant.parent.as_deref().unwrap_or_default();
                let name = tenant.name.strip_prefix(whole).unwrap_or(&tenant.name);
                let name = name.trim_start_matches('/').to_owned();
                domains.entry(whole.to_owned()).or_default().push(name);
                // A domain's people are its account's.
                if let Some(people) = contacts.get(whole).cloned() {
                    contacts.insert(tenant.name.clone(), people);
                }
            } else if !tenant.contact.is_empty() {
                contacts.insert(tenant.name.clone(), tenant.contact.clone());
            }
        }
        let addresses = Addresses {
            node: policy.node.name.clone(),
            notices: policy.node.notices.clone(),
            mail_ports: [&policy.node.ports.smtp[..], &policy.node.ports.submission].concat(),
            contacts,
            domains,
        };
        *self
            .addresses
            .write()
            .unwrap_or_else(PoisonError::into_inner) = addresses;
    }
}

impl Addresses {
    fn of(&self, tenant: &str) -> &[String] {
        self.contacts.get(tenant).map_or(&[], Vec::as_slice)
    }

    /// The nearest above `tenant` who has an address.
    fn above(&self, tenant: &str, book: &Book) -> &[String] {
        let mut above = book.above(tenant).into_iter().map(|above| self.of(above));
        above.find(|addresses| !addresses.is_empty()).unwrap_or(&[])
    }
}

impl Herald for Directory {
    fn plan(&self, told: &[Told<'_>], book: &Book) -> Vec<(i64, Planned)> {
        let opened: Vec<Option<Timestamp>> = told.iter().map(|told| self.opened(told)).collect();
        let addresses = self
            .addresses
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let mut numbers = BTreeMap::new();
        let facts: Vec<Facts> = told
            .iter()
            .zip(opened)
            .map(|(told, opened_until)| {
                let time = told.wall.timestamp();
                // Also where the record book begins anew.
                let id = format!("{}-{}-{}", addresses.node, told.wall.0, told.number);
                let telling = Telling {
                    at: told.at,
                    time,
                    mail_ports: &addresses.mail_ports,
                };
                let lines = told.evidence.map(|it| evidence::of_case(it, &telling));
                let lines = lines.unwrap_or_default();
                let context = Context {
                    id: &id,
                    sequence: u64::try_from(told.number).unwrap_or_default(),
                    node: &addresses.node,
                    parent: book.parent(&told.notice.tenant),
                    operator: &addresses.notices.operator,
                    evidence: &lines,
                    at: told.at,
                    time,
                };
                let facts = Facts {
                    opened_until,
                    ..Facts::new(told.notice, &context)
                };
                numbers.insert(facts.id.clone(), told.number);
                facts
            })
            .collect();
        let planned = plan(&facts, &addresses.notices, |facts| Contacts {
            tenant: addresses.of(&facts.tenant),
            parent: addresses.above(&facts.tenant, book),
            domains: addresses
                .domains
                .get(&facts.tenant)
                .map_or(&[], Vec::as_slice),
        });
        planned
            .into_iter()
            .filter_map(|planned| Some((*numbers.get(&planned.facts.id)?, planned)))
            .collect()
    }
}

/// The deliveries in the court's record book.
pub struct CourtOutbox(pub Arc<Court>);

impl CourtOutbox {
    fn write(
        &self,
        write: impl FnOnce(&Page<'_>) -> Result<(), crate::ledger::LedgerError>,
    ) -> Result<(), OutboxError> {
        Ok(self.0.write(write)?)
    }
}

impl Outbox for CourtOutbox {
    fn due(&self, lane: Lane, now: Timestamp, limit: usize) -> Result<Vec<Delivery>, OutboxError> {
        let due = self
            .0
            .due(lane, Moment::from(now), Span::from(LONGEST_WAIT), limit)?;
        Ok(due
            .into_iter()
            .map(|due| Delivery {
                id: due.id,
                created: due.created.timestamp(),
                attempts: due.attempts,
                planned: due.planned,
            })
            .collect())
    }

    fn done(&self, ids: &[i64], now: Timestamp, receipt: &str) -> Result<(), OutboxError> {
        let now = Moment::from(now);
        Ok(self
            .0
            .ledger(|ledger| ledger.delivered(ids, now, receipt))?)
    }

    fn failed(&self, id: i64, error: &str, next_try: Timestamp) -> Result<(), OutboxError> {
        let next = Moment::from(next_try);
        Ok(self
            .0
            .ledger(|ledger| ledger.failed_delivery(id, next, error))?)
    }

    fn postponed(&self, ids: &[i64], until: Timestamp, why: &str) -> Result<(), OutboxError> {
        let until = Moment::from(until);
        Ok(self.0.ledger(|ledger| ledger.postponed(ids, until, why))?)
    }

    fn backlog(&self, lane: Lane) -> Result<Backlog, OutboxError> {
        Ok(self.0.ledger(|ledger| ledger.backlog(lane))?)
    }

    fn mailed(&self, since: Timestamp) -> Result<Vec<(Channel, String, Timestamp)>, OutboxError> {
        let since = Moment::from(since);
        let mailed = self.0.ledger(|ledger| ledger.mailed(since))?.into_iter();
        Ok(mailed
            .map(|(channel, tenant, at)| (channel, tenant, at.timestamp()))
            .collect())
    }

    fn gave_up(
        &self,
        id: i64,
        now: Timestamp,
        error: &str,
        also: &[Planned],
    ) -> Result<(), OutboxError> {
        self.write(|page| page.give_up(id, error, also, Moment::from(now)))
    }
}
