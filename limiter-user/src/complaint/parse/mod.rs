//! From bytes to a [`Report`], or to the reason why not.

mod arf;
mod fields;
mod forwarded;
mod identity;
mod mime;
mod original;
mod received;
mod reporter;
mod text;
mod xarf;

use std::{collections::BTreeSet, panic};

use self::{
    fields::Fields,
    mime::{Leaf, Mail},
};
use super::{
    limits::Limits,
    refusal::Refusal,
    report::{Feedback, Format, Hop, Report, Reporter, SourceFrom},
};
use crate::offence::Part;

pub(super) use self::received::name as host_name;

/// Whom a report's own header is believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// The names by which this node's mail server signs Authentication-Results (RFC 8601). Without
    /// any, no reporter is verified. The server must remove such fields from mail that comes in, and
    /// must be the one that delivers the reports.
    pub authserv_ids: Vec<String>,
    /// The domains of reporters who are known to tell the truth: anybody can sign for a domain of
    /// their own. Subdomains are meant too.
    pub reporters: Vec<String>,
}

/// Reads a report.
///
/// Never panics, and takes time and memory in proportion to `bytes`, of which there are at most
/// `limits.bytes`.
///
/// # Errors
/// Why these bytes are no report that can be handled without a person.
pub fn parse(bytes: &[u8], limits: &Limits, trust: &Trust) -> Result<Report, Refusal> {
    if bytes.len() > limits.bytes {
        return Err(Refusal::TooLarge {
            limit: limits.bytes,
        });
    }
    // Strangers write what is read here, and crates read it: whatever fault there is must not end
    // the agent.
    panic::catch_unwind(|| read(bytes, limits, trust)).unwrap_or(Err(Refusal::Internal))
}

fn read(bytes: &[u8], limits: &Limits, trust: &Trust) -> Result<Report, Refusal> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let start = bytes.iter().position(|byte| !byte.is_ascii_whitespace());
    let bytes = start.and_then(|start| bytes.get(start..));
    let bytes = bytes.ok_or(Refusal::Empty)?;
    if bytes.first() == Some(&b'{') {
        return xarf(bytes, blank(), limits);
    }
    let bytes = match bytes.strip_prefix(b"From ") {
        // The line that stands between mails in a mailbox file.
        Some(_) => bytes.get(text::line_end(bytes)..).unwrap_or_default(),
        None => bytes,
    };
    let mail = mime::read(bytes, 0, limits)?;
    if mail.fields.is_empty() {
        return Err(Refusal::NotMail);
    }
    let mut report = blank();
    report.reporter = reporter::read(&mail.fields, trust);
    report.sent = mail.fields.get("date").and_then(fields::date);
    if let Some(id) = mail.fields.get("message-id") {
        let id = text::bounded(text::unbracketed(id));
        report.aliases.insert(format!("report:{id}"));
    }
    by_kind(&mail, report, limits)
}

fn by_kind(mail: &Mail<'_>, report: Report, limits: &Limits) -> Result<Report, Refusal> {
    let of = |kind: &'static str| move |leaf: &&Leaf<'_>| leaf.kind == kind;
    let mut machine = mail.leaves.iter().filter(of("message/feedback-report"));
    if let Some(leaf) = machine.next() {
        // Whoever forwards a mail with what was attached to it forwards the spammer's parts, which
        // may look like a report about somebody else.
        if mail.kind != "multipart/report" {
            return Err(Refusal::Nested);
        }
        if machine.next().is_some() {
            return Err(Refusal::Several { count: 2 });
        }
        return arf_report(mail, leaf, report, limits);
    }
    if mail.report_type.as_deref() == Some("feedback-report") {
        return Err(Refusal::NoFeedbackType);
    }
    let notice = |leaf: &Leaf<'_>| {
        matches!(
            leaf.kind.as_str(),
            "message/delivery-status"
                | "message/global-delivery-status"
                | "message/disposition-notification"
        )
    };
    if mail.leaves.iter().any(notice)
        || matches!(
            mail.report_type.as_deref(),
            Some("delivery-status" | "disposition-notification")
        )
    {
        return Err(Refusal::DeliveryNotice);
    }
    let messages: Vec<&Leaf<'_>> = mail
        .leaves
        .iter()
        .filter(|leaf| leaf.is_message())
        .collect();
    if messages.is_empty() {
        if let Some(json) = xarf_in(mail)? {
            return xarf(&json, report, limits);
        }
        if is_aggregate(mail) {
            return Err(Refusal::Aggregate);
        }
    }
    forwarded_mail(mail, &messages, report, limits)
}

fn arf_report(
    mail: &Mail<'_>,
    machine: &Leaf<'_>,
    mut report: Report,
    limits: &Limits,
) -> Result<Report, Refusal> {
    report.format = Format::Arf;
    arf::read(machine, &mut report, limits)?;
    let messages: Vec<&Leaf<'_>> = mail
        .leaves
        .iter()
        .filter(|leaf| leaf.is_message())
        .collect();
    let whole = messages.iter().filter(|leaf| !leaf.is_headers()).count();
    if whole > 1 {
        return Err(Refusal::Several { count: whole });
    }
    let original = messages
        .iter()
        .find(|leaf| !leaf.is_headers())
        .or(messages.first())
        .and_then(|leaf| original::read(&leaf.content(), leaf.is_headers(), limits));
    Ok(finish(report, original, true))
}

/// The XARF report in a mail: the one part that is one.
fn xarf_in(mail: &Mail<'_>) -> Result<Option<Vec<u8>>, Refusal> {
    let mut found = None;
    for leaf in &mail.leaves {
        let may_be = leaf.kind.ends_with("json")
            || leaf.kind.starts_with("text/")
            || leaf
                .name
                .as_deref()
                .is_some_and(|name| name.to_ascii_lowercase().ends_with(".json"));
        if !may_be {
            continue;
        }
        let content = leaf.content();
        if !xarf::looks_like(&content) {
            continue;
        }
        if found.is_some() {
            return Err(Refusal::Several { count: 2 });
        }
        found = Some(content.into_owned());
    }
    Ok(found)
}

fn xarf(bytes: &[u8], mut report: Report, limits: &Limits) -> Result<Report, Refusal> {
    report.format = Format::Xarf;
    let original = xarf::read(bytes, &mut report, limits)?;
    Ok(finish(report, original, true))
}

fn forwarded_mail(
    mail: &Mail<'_>,
    messages: &[&Leaf<'_>],
    mut report: Report,
    limits: &Limits,
) -> Result<Report, Refusal> {
    report.format = Format::Mail;
    let texts = || {
        let texts = mail.leaves.iter();
        texts.filter(|leaf| leaf.kind == "text/plain" && leaf.name.is_none())
    };
    let original = match messages {
        [] => {
            let inline = texts()
                .find_map(|leaf| forwarded::find(&leaf.text()))
                .ok_or(Refusal::NoReport)?;
            if let Some((address, time)) = forwarded::stated(&inline.above) {
                report.source = Some(address);
                report.source_from = SourceFrom::Stated;
                report.arrival = time;
            }
            if !inline.above.is_empty() {
                report.parts.insert(Part::Violated);
            }
            original::read(inline.message.as_bytes(), false, limits)
        }
        [message] => {
            if texts().any(|leaf| !text::is_blank(&leaf.content())) {
                report.parts.insert(Part::Violated);
            }
            let content = message.content();
            let original = original::read(&content, message.is_headers(), limits);
            // A report that somebody passed on, or a spam that was made to look like one: its
            // sender is the forwarder, and nobody else is proved.
            let is_report = original.as_ref().is_some_and(|original| {
                let kind = original.fields.get("content-type");
                kind.is_some_and(|kind| kind.to_ascii_lowercase().contains("feedback-report"))
            });
            if is_report {
                return Err(Refusal::Nested);
            }
            original
        }
        several => {
            return Err(Refusal::Several {
                count: several.len(),
            });
        }
    };
    let original = original.ok_or(Refusal::NoReport)?;
    Ok(finish(report, Some(original), false))
}

/// Zipped XML about a domain, from a day's mail.
fn is_aggregate(mail: &Mail<'_>) -> bool {
    let subject = mail.fields.get("subject").unwrap_or_default();
    let zipped = mail.leaves.iter().any(|leaf| {
        leaf.kind.contains("zip")
            || leaf.name.as_deref().is_some_and(|name| {
                let name = name.to_ascii_lowercase();
                name.ends_with(".gz") || name.ends_with(".zip")
            })
    });
    zipped && (subject.contains("Report Domain:") || subject.contains("Report-ID:"))
}

/// Joins what the report says with what its original says.
fn finish(mut report: Report, original: Option<original::Read>, machine: bool) -> Report {
    let mut kept: Option<Fields> = None;
    if let Some(original::Read { original, fields }) = original {
        if report.source.is_none()
            && let Some((address, from)) = original::source(&original, &fields)
        {
            report.source = Some(address);
            report.source_from = from;
        }
        if report.arrival.is_none() {
            report.arrival = original.received.iter().find_map(|hop: &Hop| hop.time);
        }
        if report.feedback_id.is_none() {
            report.feedback_id = fields.get("feedback-id").map(text::bounded);
        }
        let seen = original.received.iter().any(|hop| hop.address.is_some());
        let named = original.message_id.is_some() || !original.from_domains.is_empty();
        if seen && named {
            report.parts.insert(Part::Headers);
            if original.whole {
                report.parts.insert(Part::Message);
            }
        }
        if original.truncated {
            report
                .remarks
                .insert("the headers in it are too long to be kept whole".to_owned());
        }
        report.original = Some(original);
        kept = Some(fields);
    }
    if report.arrival.is_some() {
        report.parts.insert(Part::Received);
    }
    if machine && !matches!(report.feedback, Feedback::Other(_)) {
        report.parts.insert(Part::Violated);
    }
    report.id = identity::id(&report, kept.as_ref());
    report
}

fn blank() -> Report {
    Report {
        id: String::new(),
        aliases: BTreeSet::new(),
        format: Format::Mail,
        feedback: Feedback::Abuse,
        reporter: Reporter::default(),
        sent: None,
        arrival: None,
        source: None,
        source_port: None,
        source_from: SourceFrom::Nowhere,
        destination: None,
        mail_from: None,
        recipients: Vec::new(),
        domains: BTreeSet::new(),
        uris: Vec::new(),
        feedback_id: None,
        incidents: 1,
        auth_failure: None,
        original: None,
        parts: BTreeSet::new(),
        remarks: BTreeSet::new(),
    }
}
