//! Which deliveries a notice becomes.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    channel::{Channel, Planned},
    facts::{EventKind, Facts},
};
use crate::{
    offence::{Audience, Sanction},
    policy::notices::Notices,
};

/// The mail addresses of those who may be told about a tenant.
#[derive(Clone, Copy, Debug, Default)]
pub struct Contacts<'c> {
    /// The tenant's own; those of the account where the tenant is a domain.
    pub tenant: &'c [String],
    /// Those of the nearest above it that has any.
    pub parent: &'c [String],
    /// The tenant's own domains: with its mailboxes suspended nobody reads mail there.
    pub domains: &'c [String],
}

/// The deliveries that `notices`, all that came of one transaction, become. Webhook and program
/// hear of each event once, however many people are told. `contacts` gives the addresses for each
/// tenant.
#[must_use]
pub fn plan<'c>(
    notices: &[Facts],
    settings: &Notices,
    contacts: impl Fn(&Facts) -> Contacts<'c>,
) -> Vec<Planned> {
    let mut planned = Vec::new();
    let mut heard = BTreeSet::new();
    // The same person may be contact, reseller and operator: one mail, as whoever comes first.
    let mut told: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for facts in notices {
        if heard.insert(&facts.event_id) {
            let machines = [
                settings.webhook.as_ref().map(|_| Channel::Webhook),
                settings.exec.as_ref().map(|_| Channel::Exec),
            ];
            for channel in machines.into_iter().flatten() {
                planned.push(Planned {
                    channel,
                    facts: facts.clone(),
                });
            }
        }
        if settings.mail.is_none() {
            continue;
        }
        let event = facts.event_id.as_str();
        let told = told.entry(event).or_default();
        for (audience, addresses) in receivers(facts, contacts(facts), settings) {
            let facts = Facts {
                audience,
                in_place_of: (audience != facts.audience).then_some(facts.audience),
                ..facts.clone()
            };
            for address in addresses {
                if told.insert(address.to_lowercase()) {
                    planned.push(Planned {
                        channel: Channel::Mail {
                            to: address.clone(),
                        },
                        facts: facts.clone(),
                    });
                }
            }
        }
    }
    planned
}

/// Who is told in fact. Without an address that can be read a tenant's reseller is told too, and
/// without a reseller the operator: so that somebody tells the tenant.
fn receivers<'a>(
    facts: &Facts,
    contacts: Contacts<'a>,
    settings: &'a Notices,
) -> Vec<(Audience, &'a [String])> {
    let operator = (Audience::Operator, settings.operator.as_slice());
    let stand_in = match contacts.parent {
        [] => operator,
        parent => (Audience::Parent, parent),
    };
    match facts.audience {
        Audience::Contact if contacts.tenant.is_empty() => vec![stand_in],
        Audience::Contact => {
            let mut told = vec![(Audience::Contact, contacts.tenant)];
            let locked = facts.event == EventKind::Sanctioned
                && facts.sanction >= Some(Sanction::SuspendMail)
                && contacts
                    .tenant
                    .iter()
                    .all(|address| is_in(address, contacts.domains));
            if locked {
                told.push(stand_in);
            }
            told
        }
        // Whoever has nobody above it has nobody there to be told.
        Audience::Parent if facts.parent.is_none() => Vec::new(),
        Audience::Parent => vec![stand_in],
        Audience::Operator => vec![operator],
    }
}

/// Whether `address` is in one of `domains`, or below it.
fn is_in(address: &str, domains: &[String]) -> bool {
    let Some((_, host)) = address.rsplit_once('@') else {
        return false;
    };
    let host = host.to_lowercase();
    domains.iter().any(|domain| {
        let domain = domain.to_lowercase();
        host.strip_suffix(domain.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}
