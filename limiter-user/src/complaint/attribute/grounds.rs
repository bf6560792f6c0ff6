//! What speaks for a tenant.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    Vouched,
    facts::{About, Facts, Owner, Sighting},
};
use crate::{
    complaint::{
        log::{LogEntry, LogQuery},
        parse::host_name,
        report::{Feedback, Report, SourceFrom},
    },
    report::event::Endpoint,
};

/// How long before its arrival a mail may have left: connections last, and clocks differ.
const BEFORE: SignedDuration = SignedDuration::from_mins(15);
/// How long after its arrival it may have left, by clocks that differ.
const AFTER: SignedDuration = SignedDuration::from_mins(5);
/// How long before its arrival it may have been handed to the mail server: queues wait for days.
const QUEUED: SignedDuration = SignedDuration::from_hours(5 * 24);
/// More candidates by the hour alone tell a person nothing.
const MOST_BY_HOUR: usize = 20;

/// What speaks for a tenant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ground {
    /// The kernel saw it send from that address and port then.
    Port,
    /// The kernel saw it connect to the host that received the mail then, and somebody stands behind
    /// the report.
    Destination,
    /// The kernel saw it connect to the host that received the mail then: who invents reports can guess
    /// where others send to.
    DestinationUnproved,
    /// The mail server's own log says that it handed the message in.
    Log {
        /// The message's name in the queue.
        queue_id: String,
    },
    /// The address is its own, it sent then, and somebody stands behind the report.
    Address,
    /// The address is its own.
    AddressUnproved,
    /// It sent directly from the shared address then.
    Hour,
    /// A log that others can write to says that it handed the message in; or the log's word does
    /// not fit the report.
    LogUnproved {
        /// The message's name in the queue.
        queue_id: String,
    },
    /// The mail was in the name of this domain of its.
    Domain {
        /// Which.
        domain: String,
    },
}

impl Ground {
    /// Whether it is a proof.
    #[must_use]
    pub const fn proves(&self) -> bool {
        match self {
            Self::Port | Self::Destination | Self::Log { .. } | Self::Address => true,
            Self::DestinationUnproved
            | Self::AddressUnproved
            | Self::Hour
            | Self::LogUnproved { .. }
            | Self::Domain { .. } => false,
        }
    }

    /// Whether it makes it doubtful that another tenant sent the mail. Whatever a sender or a
    /// stranger can write does not: else spammers could shelter behind a neighbour's name.
    pub(super) const fn speaks_against_others(&self) -> bool {
        match self {
            Self::Port
            | Self::Destination
            | Self::DestinationUnproved
            | Self::Log { .. }
            | Self::Address
            | Self::AddressUnproved
            | Self::Hour => true,
            Self::LogUnproved { .. } | Self::Domain { .. } => false,
        }
    }
}

impl fmt::Display for Ground {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port => f.write_str("it sent from that address and port at that time"),
            Self::Destination | Self::DestinationUnproved => {
                f.write_str("it connected to the host that received the mail at that time")
            }
            Self::Log { queue_id } => {
                write!(f, "the mail server's log names it for message {queue_id}")
            }
            Self::Address => f.write_str("the address is its own, and it sent at that time"),
            Self::AddressUnproved => f.write_str("the address is its own"),
            Self::Hour => f.write_str("it sent from the shared address at that time"),
            Self::LogUnproved { queue_id } => write!(
                f,
                "a log names it for message {queue_id}, which is no proof"
            ),
            Self::Domain { domain } => write!(f, "the mail was in the name of {domain}"),
        }
    }
}

/// All that was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub grounds: BTreeSet<(String, Ground)>,
    /// When the mail left, by the node's records.
    pub happened: Option<Timestamp>,
    /// Why things are no proof.
    pub why: Vec<String>,
}

/// Gathers all that speaks for anybody.
pub(super) fn gather(report: &Report, facts: &dyn Facts, vouched: Vouched) -> Found {
    let mut found = Found::default();
    let owner = report.source.map(|address| facts.owner(address));
    let is_of_node = owner.as_ref().is_some_and(|owner| *owner != Owner::Foreign);
    // A stranger's report about somebody else's address is worth no search.
    let is_worth_it = is_of_node || owner.is_none() || is_known(report, vouched);
    let seen = seen(report, facts, is_of_node, &mut found);
    // Without this nothing is a proof.
    let ours = match (&owner, report.source_from) {
        (None, _) => {
            found
                .why
                .push("it does not say which address the mail came from".to_owned());
            false
        }
        (Some(Owner::Foreign), _) => {
            if let Some(address) = report.source {
                found
                    .why
                    .push(format!("{address} is no address of this node"));
            }
            false
        }
        (Some(_), SourceFrom::Deeper) => {
            found.why.push(
                "the address stands in a Received field that the mail's sender may have forged"
                    .to_owned(),
            );
            false
        }
        (Some(_), _) => true,
    };
    if let Some(owner) = &owner {
        by_port(report, owner, &seen, ours, vouched, &mut found);
        by_address(report, owner, &seen, ours, vouched, &mut found);
    }
    if is_worth_it {
        by_log(report, owner.as_ref(), facts, ours, &mut found);
    }
    by_domain(report, facts, &mut found);
    found
}

/// What the kernel saw about the time of arrival, of mail from an address of this node.
fn seen(report: &Report, facts: &dyn Facts, is_of_node: bool, found: &mut Found) -> Vec<Sighting> {
    let Some(arrival) = report.arrival else {
        found
            .why
            .push("it does not say when the mail was received".to_owned());
        return Vec::new();
    };
    if !is_of_node {
        return Vec::new();
    }
    let (from, until) = around(arrival, BEFORE);
    let about = About {
        port: report.source_port,
        destination: report.destination,
    };
    facts
        .sightings((from, until), &about)
        .unwrap_or_else(|error| {
            found
                .why
                .push(format!("the history does not help: {error}"));
            Vec::new()
        })
}

fn around(time: Timestamp, before: SignedDuration) -> (Timestamp, Timestamp) {
    (
        time.checked_sub(before).unwrap_or(Timestamp::MIN),
        time.checked_add(AFTER).unwrap_or(Timestamp::MAX),
    )
}

fn by_port(
    report: &Report,
    owner: &Owner,
    seen: &[Sighting],
    ours: bool,
    vouched: Vouched,
    found: &mut Found,
) {
    let Some(address) = report.source.filter(|_| ours) else {
        return;
    };
    let same_port = |sighting: &&Sighting| {
        sighting
            .source
            .is_some_and(|source| source.address == address && source.port == report.source_port)
    };
    if report.source_port.is_some() {
        for sighting in seen.iter().filter(same_port) {
            add_sighting(sighting, Ground::Port, found);
        }
    }
    let Some(destination) = report.destination else {
        return;
    };
    let other_port = |source: &Endpoint| {
        report.source_port.is_some() && source.port.is_some() && source.port != report.source_port
    };
    // A tenant with addresses of its own does not send from another's.
    let fits = |sighting: &&Sighting| {
        sighting.destination.address == destination
            && sighting
                .source
                .is_none_or(|source| source.address == address && !other_port(&source))
            && match owner {
                Owner::Tenant(owner) => sighting.tenant.as_ref() == Some(owner),
                Owner::Node => true,
                Owner::Foreign => false,
            }
    };
    let ground = if is_known(report, vouched) {
        Ground::Destination
    } else {
        Ground::DestinationUnproved
    };
    let before = found.grounds.len();
    for sighting in seen.iter().filter(fits) {
        add_sighting(sighting, ground.clone(), found);
    }
    if !ground.proves() && found.grounds.len() > before {
        let why = "nobody known stands behind the report, and anybody can guess where mail goes to";
        found.why.push(why.to_owned());
    }
}

/// Whether somebody stands behind a report who does not invent it.
fn is_known(report: &Report, vouched: Vouched) -> bool {
    vouched == Vouched::Operator || report.reporter.trusted
}

fn add_sighting(sighting: &Sighting, ground: Ground, found: &mut Found) {
    if let Some(tenant) = &sighting.tenant {
        found.grounds.insert((tenant.clone(), ground));
        found.happened = found.happened.or(Some(sighting.time));
    }
}

fn by_address(
    report: &Report,
    owner: &Owner,
    seen: &[Sighting],
    ours: bool,
    vouched: Vouched,
    found: &mut Found,
) {
    match owner {
        Owner::Foreign => {}
        Owner::Tenant(tenant) => {
            let sent = seen
                .iter()
                .find(|sighting| sighting.tenant.as_ref() == Some(tenant));
            let ground = match (ours, sent, is_known(report, vouched)) {
                (true, Some(sighting), true) => {
                    found.happened = found.happened.or(Some(sighting.time));
                    Ground::Address
                }
                (true, None, _) => {
                    found.why.push(format!(
                        "nothing is recorded that {tenant} sent at that time"
                    ));
                    Ground::AddressUnproved
                }
                (true, Some(_), false) => {
                    found
                        .why
                        .push("nobody known stands behind the report".to_owned());
                    Ground::AddressUnproved
                }
                (false, ..) => Ground::AddressUnproved,
            };
            found.grounds.insert((tenant.clone(), ground));
        }
        Owner::Node => by_hour(report, seen, found),
    }
}

/// Who else may have sent from the shared address: those that were seen, unless it is known that
/// they went elsewhere.
fn by_hour(report: &Report, seen: &[Sighting], found: &mut Found) {
    let elsewhere = |sighting: &Sighting| {
        let other = |end: Option<IpAddr>, known: Option<IpAddr>| match (end, known) {
            (Some(end), Some(known)) => end != known,
            _ => false,
        };
        let source = sighting.source;
        let port = source.and_then(|source| source.port);
        other(Some(sighting.destination.address), report.destination)
            || other(source.map(|source| source.address), report.source)
            || (report.source_port.is_some() && port.is_some() && port != report.source_port)
    };
    // Where the port itself is proved, whoever sent from nobody knows where is no rival.
    let by_port = |(_, ground): &(String, Ground)| *ground == Ground::Port;
    let proved = found.grounds.iter().any(by_port);
    let rivals = seen
        .iter()
        .filter(|sighting| !elsewhere(sighting) && (sighting.source.is_some() || !proved));
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for sighting in rivals {
        if let Some(tenant) = &sighting.tenant {
            *counts.entry(tenant).or_default() += 1;
        }
    }
    if counts.len() > 1 {
        found.why.push(format!(
            "{} tenants sent from the shared address at that time",
            counts.len()
        ));
    }
    // Each of them makes the others doubtful, so all count; only so many are shown.
    for tenant in counts.into_keys().take(MOST_BY_HOUR) {
        found.grounds.insert((tenant.to_owned(), Ground::Hour));
    }
}

fn by_log(
    report: &Report,
    owner: Option<&Owner>,
    facts: &dyn Facts,
    ours: bool,
    found: &mut Found,
) {
    let Some(original) = &report.original else {
        return;
    };
    let own = |host: Option<&str>| host_name(host).is_some_and(|host| facts.is_own_name(&host));
    let own_hops = original
        .received
        .iter()
        .filter(|hop| own(hop.by.as_deref()));
    let time = report.arrival.or(report.sent);
    let Some(time) = time else { return };
    let (from, until) = around(time, QUEUED);
    let query = LogQuery {
        queue_ids: own_hops.filter_map(|hop| hop.id.clone()).take(8).collect(),
        message_id: original.message_id.clone(),
        from,
        until,
    };
    let log = match facts.log(&query) {
        Ok(log) => log,
        Err(error) => {
            found.why.push(error.to_string());
            return;
        }
    };
    if log.partial {
        found
            .why
            .push("the mail log is too long to be searched whole".to_owned());
    }
    for entry in &log.entries {
        let accounts = entry.accounts.iter();
        for tenant in accounts.filter_map(|account| facts.tenant_of_account(account)) {
            let sent = sent_at(entry, report.arrival);
            let fits = ours
                && entry.direct
                && !log.partial
                && sent.is_some()
                && shared(owner, &tenant, facts);
            let queue_id = entry.queue_id.clone();
            let ground = if fits {
                found.happened = found.happened.or(sent);
                Ground::Log { queue_id }
            } else {
                Ground::LogUnproved { queue_id }
            };
            found.grounds.insert((tenant, ground));
        }
        if !entry.direct {
            found.why.push(
                "the mail log is written by syslog, as any local user can; have the mail server \
                 write it (maillog_file)"
                    .to_owned(),
            );
        }
    }
    found.why.dedup();
}

/// Whether mail of `tenant` can have left from the address: it is shared, or the tenant's own.
fn shared(owner: Option<&Owner>, tenant: &str, facts: &dyn Facts) -> bool {
    match owner {
        Some(Owner::Node) => true,
        Some(Owner::Tenant(owner)) => super::related(owner, tenant, facts),
        Some(Owner::Foreign) | None => false,
    }
}

/// When the mail server passed a message on, about the time of its arrival elsewhere.
fn sent_at(entry: &LogEntry, arrival: Option<Timestamp>) -> Option<Timestamp> {
    let (from, until) = around(arrival?, BEFORE);
    let mut times = entry.deliveries.iter().map(|delivery| delivery.time);
    times.find(|time| (from..=until).contains(time))
}

fn by_domain(report: &Report, facts: &dyn Facts, found: &mut Found) {
    // The domain of a mail that failed authentication is the one that was forged.
    if report.feedback == Feedback::AuthFailure {
        return;
    }
    for domain in domains(report) {
        if let Some(tenant) = facts.tenant_of_domain(&domain) {
            found.grounds.insert((tenant, Ground::Domain { domain }));
        }
    }
}

/// The domains that a report names, in whose name the mail was.
pub(super) fn domains(report: &Report) -> BTreeSet<String> {
    let mut domains = report.domains.clone();
    if let Some(original) = &report.original {
        domains.extend(original.from_domains.iter().cloned());
        domains.extend(original.dkim_domains.iter().cloned());
    }
    let envelope = report.mail_from.as_deref();
    let domain = envelope.and_then(|address| host_name(address.rsplit('@').next()));
    domains.extend(domain);
    domains
}
