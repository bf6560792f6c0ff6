//! The machine-readable part of an ARF report (RFC 5965, RFC 6591, RFC 6692).

use std::net::IpAddr;

use super::{
    super::{
        limits::Limits,
        refusal::Refusal,
        report::{AuthFailure, Feedback, Report, SourceFrom},
    },
    fields::{self, Fields},
    mime::Leaf,
    text,
};

/// Ports at which mail is received: never the one that it was sent from.
const MAIL_PORTS: [u16; 4] = [25, 465, 587, 2525];

/// Puts what `leaf`, a message/feedback-report, says into `report`.
pub(super) fn read(leaf: &Leaf<'_>, report: &mut Report, limits: &Limits) -> Result<(), Refusal> {
    let refusal = Refusal::TooManyHeaders {
        fields: limits.header_fields,
        bytes: limits.header_bytes,
    };
    if leaf.len() > limits.header_bytes {
        return Err(refusal);
    }
    let content = leaf.content();
    // Some leave blank lines between groups of fields.
    let fields = Fields::read(&content, limits.header_fields);
    if fields.more {
        return Err(refusal);
    }
    let kind = once(&fields, "feedback-type", "Feedback-Type")?.ok_or(Refusal::NoFeedbackType)?;
    report.feedback = feedback(kind);
    if let Some(version) = fields.get("version")
        && !matches!(version, "1" | "0.1" | "1.0")
    {
        report
            .remarks
            .insert(format!("its version is {}", text::shown(version)));
    }
    report.reporter.agent = fields
        .get("user-agent")
        .map(text::bounded)
        .or_else(|| report.reporter.agent.take());
    envelope(&fields, report, limits)?;
    report.domains.extend(
        fields
            .all("reported-domain")
            .filter_map(text::domain_name)
            .take(limits.listed),
    );
    report.uris.extend(
        fields
            .all("reported-uri")
            .take(limits.listed)
            .map(text::bounded),
    );
    report.feedback_id = fields.get("feedback-id").map(text::bounded);
    if let Some(incidents) = fields.get("incidents") {
        report.incidents = incidents.parse().unwrap_or(1).max(1);
    }
    if report.feedback == Feedback::AuthFailure || fields.get("auth-failure").is_some() {
        let bounded = |name: &str| fields.get(name).map(text::bounded);
        report.auth_failure = Some(AuthFailure {
            failure: bounded("auth-failure"),
            delivery: bounded("delivery-result"),
            dkim_domain: fields.get("dkim-domain").and_then(text::domain_name),
            dkim_selector: bounded("dkim-selector"),
            identity_alignment: bounded("identity-alignment"),
            results: fields
                .all("authentication-results")
                .take(limits.listed)
                .map(text::bounded)
                .collect(),
        });
    }
    Ok(())
}

fn envelope(fields: &Fields, report: &mut Report, limits: &Limits) -> Result<(), Refusal> {
    if let Some(value) = once(fields, "source-ip", "Source-IP")? {
        match text::ip(value) {
            Some(address) => {
                report.source = Some(address);
                report.source_from = SourceFrom::Stated;
            }
            None => {
                let shown = text::shown(value);
                report
                    .remarks
                    .insert(format!("its Source-IP is no address: {shown}"));
            }
        }
    }
    let port = ["source-port", "x-source-port", "x-originating-port"]
        .iter()
        .find_map(|name| fields.get(name));
    report.source_port = port
        .and_then(|port| port.parse().ok())
        .and_then(source_port);
    let arrival = fields
        .get("arrival-date")
        .or_else(|| fields.get("received-date"));
    if let Some(value) = arrival {
        report.arrival = fields::date(value);
        if report.arrival.is_none() {
            let shown = text::shown(value);
            report
                .remarks
                .insert(format!("its Arrival-Date is no date: {shown}"));
        }
    }
    report.destination = fields
        .get("reporting-mta")
        .and_then(text::ip)
        .filter(|address: &IpAddr| text::is_public(*address));
    report.mail_from = fields
        .get("original-mail-from")
        .map(text::unbracketed)
        .map(text::bounded);
    report.recipients = fields
        .all("original-rcpt-to")
        .take(limits.listed)
        .map(text::unbracketed)
        .map(text::bounded)
        .collect();
    if let Some(envelope_id) = fields.get("original-envelope-id") {
        report
            .aliases
            .insert(format!("envelope:{}", text::bounded(envelope_id)));
    }
    Ok(())
}

/// A port as one that mail is sent from.
pub(super) fn source_port(port: u16) -> Option<u16> {
    (port != 0 && !MAIL_PORTS.contains(&port)).then_some(port)
}

/// The value of a field that can stand only once; twice the same is once.
fn once<'f>(
    fields: &'f Fields,
    name: &'static str,
    shown: &'static str,
) -> Result<Option<&'f str>, Refusal> {
    let mut values = fields.all(name).filter(|value| !value.is_empty());
    let first = values.next();
    if values.any(|value| Some(value) != first) {
        return Err(Refusal::Contradiction { field: shown });
    }
    Ok(first)
}

fn feedback(kind: &str) -> Feedback {
    match kind.to_ascii_lowercase().as_str() {
        "abuse" => Feedback::Abuse,
        "fraud" => Feedback::Fraud,
        "virus" => Feedback::Virus,
        "not-spam" => Feedback::NotSpam,
        "opt-out" | "opt-out-list" => Feedback::OptOut,
        "auth-failure" => Feedback::AuthFailure,
        // An early word for failed signatures.
        "dkim" => Feedback::AuthFailure,
        _ => Feedback::Other(text::shown(kind)),
    }
}
