//! What tells one report from another.

use std::fmt::Write as _;

use ring::digest;

use super::{super::report::Report, fields::Fields};

/// The id of `report`.
///
/// The same mail complained about again is the same complaint, however it is wrapped: where the
/// report holds the message's header, that is what counts, with what the report says about its
/// arrival. Whoever wants to make many complaints of one so has to forge many messages. Else the
/// report's own name counts, else all that it says.
pub(super) fn id(report: &Report, original: Option<&Fields>) -> String {
    let hops = report
        .original
        .as_ref()
        .is_some_and(|original| original.received.iter().any(|hop| hop.id.is_some()));
    let named = report
        .original
        .as_ref()
        .is_some_and(|original| original.message_id.is_some());
    if let Some(fields) = original
        && (hops || named)
    {
        let mut text = String::new();
        for (name, value) in fields.each() {
            line(&mut text, name, value);
        }
        // Without them one mail to many recipients looks the same to all.
        if !hops {
            said(&mut text, report);
        }
        return format!("mail:{}", hash(&text));
    }
    if let Some(name) = report
        .aliases
        .iter()
        .find(|alias| alias.starts_with("xarf:"))
        .or_else(|| {
            report
                .aliases
                .iter()
                .find(|alias| alias.starts_with("report:"))
        })
    {
        // Two senders may use one name, and must not be able to hide each other's reports.
        let mut text = String::new();
        line(&mut text, "name", name);
        said(&mut text, report);
        return format!("name:{}", hash(&text));
    }
    let mut text = String::new();
    said(&mut text, report);
    for (name, value) in original.into_iter().flat_map(Fields::each) {
        line(&mut text, name, value);
    }
    line(
        &mut text,
        "reporter",
        report.reporter.address.as_deref().unwrap_or(""),
    );
    line(&mut text, "type", report.feedback.as_str());
    for domain in &report.domains {
        line(&mut text, "domain", domain);
    }
    for uri in &report.uris {
        line(&mut text, "uri", uri);
    }
    format!("text:{}", hash(&text))
}

/// What a report says about the arrival of the mail.
fn said(text: &mut String, report: &Report) {
    let arrival = report.arrival.map(|time| time.as_second().to_string());
    line(text, "arrival", arrival.as_deref().unwrap_or(""));
    for recipient in &report.recipients {
        line(text, "recipient", recipient);
    }
    for alias in &report.aliases {
        if alias.starts_with("envelope:") {
            line(text, "envelope", alias);
        }
    }
}

/// Adds a line with white space in one form, so that a line that was folded anew is the same.
fn line(text: &mut String, name: &str, value: &str) {
    text.push_str(name);
    text.push(':');
    for word in value.split_whitespace() {
        text.push(' ');
        text.push_str(word);
    }
    text.push('\n');
}

fn hash(text: &str) -> String {
    let mut hex = String::new();
    for byte in digest::digest(&digest::SHA256, text.as_bytes())
        .as_ref()
        .iter()
        .take(20)
    {
        // Writing into a text cannot fail.
        let _never = write!(hex, "{byte:02x}");
    }
    hex
}
