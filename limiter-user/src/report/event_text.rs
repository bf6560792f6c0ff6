//! One line for people for each event.

use std::{fmt::Write as _, time::Duration};

use jiff::{Timestamp, tz::TimeZone};

use super::{
    duration::Seconds,
    episode::Episode,
    event::{EventLimit, EventRecord},
    text::{fit, printable},
    time,
};

/// Writes events as lines.
#[derive(Debug)]
pub struct Lines {
    zone: TimeZone,
}

impl Lines {
    /// Lines on the clock of `zone`.
    #[must_use]
    pub fn new(zone: TimeZone) -> Self {
        Self { zone }
    }

    /// The line of one event: `2026-11-21T12:03:11Z alice denied direct_smtp → 203.0.113.5:25 uid
    /// 2001 php(4711) ×184`.
    #[must_use]
    pub fn event(&self, record: &EventRecord) -> String {
        self.line(record, None, &Seen::default())
    }

    /// The line of an episode: also how long it went on, and how many addresses were dialled.
    #[must_use]
    pub fn episode(&self, episode: &Episode) -> String {
        let until = (episode.records > 1).then_some(episode.until);
        let seen = Seen {
            records: episode.records,
            more: episode.destinations.saturating_sub(1),
            ports: episode.ports.iter().copied().collect(),
        };
        self.line(&episode.first, until, &seen)
    }

    fn line(&self, record: &EventRecord, until: Option<Timestamp>, seen: &Seen) -> String {
        let mut out = time::stamp(record.time, &self.zone);
        if let Some(until) = until {
            let seconds = record.time.duration_until(until).unsigned_abs().as_secs();
            let _ = write!(out, " for {}", Seconds(Duration::from_secs(seconds)));
        }
        let _ = writeln!(out, " {}", body(record, seen));
        out
    }
}

/// What was seen of those that a line sums up.
#[derive(Default)]
struct Seen {
    /// How many records; 0: the line is one record.
    records: u64,
    /// How many addresses beside the one that is told.
    more: usize,
    /// To which ports.
    ports: Vec<u16>,
}

/// Everything but the time.
fn body(record: &EventRecord, seen: &Seen) -> String {
    let mut out = record
        .tenant
        .as_deref()
        .map_or_else(|| "(unknown)".to_owned(), printable);
    let (verdict, reason) = (record.verdict.as_str(), record.reason.as_str());
    let _ = write!(out, " {verdict} {reason} → {}", record.destination);
    if seen.more > 0 {
        let _ = write!(out, " and {} more", seen.more);
    }
    if seen.ports.len() > 1 {
        let ports: Vec<String> = seen.ports.iter().map(ToString::to_string).collect();
        let _ = write!(out, " (ports {})", ports.join(", "));
    }
    if let Some(limit) = &record.limit {
        let _ = write!(out, " {}", limit_words(limit, record.tenant.as_deref()));
    }
    if let Some(uid) = record.uid {
        let _ = write!(out, " uid {uid}");
    }
    if let Some(comm) = &record.comm {
        let _ = write!(out, " {}", printable(comm));
        if let Some(pid) = record.pid {
            let _ = write!(out, "({pid})");
        }
    }
    if let Some(interface) = &record.interface {
        let _ = write!(out, " via {}", fit(interface, 16));
    }
    if record.uid.is_none()
        && let Some(source) = &record.source
    {
        let _ = write!(out, " from {source}");
    }
    if record.estimated {
        out.push_str(" estimated");
    }
    if record.repeated > 1 {
        let _ = write!(out, " ×{}", record.repeated);
        // Of the others the kernel told only how many: they may have gone elsewhere.
        let told = seen.records.max(1);
        if told < record.repeated {
            let _ = write!(out, " ({told} told)");
        }
    }
    out
}

/// `(300 connections per 1h)`, with the owner where it is not the tenant.
fn limit_words(limit: &EventLimit, tenant: Option<&str>) -> String {
    let unit = limit.unit.as_str();
    let mut out = match (limit.window, limit.every) {
        (Some(window), _) => format!("({} {unit} per {window}", limit.max),
        (None, Some(every)) => format!("(1 of {unit} every {every}"),
        (None, None) => format!("({} {unit}", limit.max),
    };
    if let Some(owner) = &limit.owner
        && Some(owner.as_str()) != tenant
    {
        let _ = write!(out, " of {}", printable(owner));
    }
    out.push(')');
    out
}
