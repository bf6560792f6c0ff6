//! Which deliveries a notice becomes.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    channel::{Channel, Planned},
    facts::Facts,
};
use crate::{offence::Audience, policy::notices::Notices};

/// The mail addresses of those who may be told about a tenant.
#[derive(Clone, Copy, Debug, Default)]
pub struct Contacts<'c> {
    /// The tenant's own; those of the account where the tenant is a domain.
    pub tenant: &'c [String],
    /// Those of the nearest above it that has any.
    pub parent: &'c [String],
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
        let (audience, addresses) = receivers(facts.audience, contacts(facts), settings);
        let facts = Facts {
            audience,
            in_place_of: (audience != facts.audience).then_some(facts.audience),
            ..facts.clone()
        };
        let told = told.entry(event).or_default();
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
    planned
}

/// Who is told in fact: without addresses of its own a tenant's reseller is, and else the operator.
fn receivers<'a>(
    audience: Audience,
    contacts: Contacts<'a>,
    settings: &'a Notices,
) -> (Audience, &'a [String]) {
    let order = match audience {
        Audience::Contact => &[Audience::Contact, Audience::Parent][..],
        Audience::Parent => &[Audience::Parent][..],
        Audience::Operator => &[][..],
    };
    let addresses = |audience| match audience {
        Audience::Contact => contacts.tenant,
        Audience::Parent => contacts.parent,
        Audience::Operator => settings.operator.as_slice(),
    };
    order
        .iter()
        .map(|audience| (*audience, addresses(*audience)))
        .find(|(_, addresses)| !addresses.is_empty())
        .unwrap_or((Audience::Operator, settings.operator.as_slice()))
}
