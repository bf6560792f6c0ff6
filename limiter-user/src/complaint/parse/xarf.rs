//! XARF 4: a report as JSON.

use std::fmt;

use mail_parser::decoders::base64::base64_decode;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, SeqAccess, Visitor},
};

use super::{
    super::{
        limits::Limits,
        refusal::Refusal,
        report::{Feedback, Report, SourceFrom},
    },
    arf, fields, original, text,
};

/// The most pieces of evidence, by the schema.
const MOST_EVIDENCE: usize = 50;
/// The longest that an id may be; a UUID has 36 characters.
const LONGEST_ID: usize = 100;

/// The fields that are needed. Others are checked to be JSON and forgotten: the schema allows
/// more, and may grow.
#[derive(Debug, Deserialize)]
struct Document {
    xarf_version: Option<String>,
    report_id: Option<String>,
    timestamp: Option<String>,
    reporter: Option<Contact>,
    source_identifier: Option<String>,
    source_port: Option<u16>,
    destination_ip: Option<String>,
    /// The name of `category` in the first drafts.
    class: Option<String>,
    category: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    smtp_from: Option<String>,
    smtp_to: Option<String>,
    message_id: Option<String>,
    #[serde(default)]
    evidence: Bounded<Evidence>,
    #[serde(default)]
    urls: Bounded<String>,
    url: Option<String>,
    /// What version 3 begins with.
    #[serde(rename = "Version")]
    version: Option<String>,
    #[serde(rename = "ReporterInfo")]
    reporter_info: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
struct Contact {
    org: Option<String>,
    contact: Option<String>,
    domain: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Evidence {
    content_type: Option<String>,
    payload: Option<String>,
}

/// A list of which the first are kept.
#[derive(Debug)]
struct Bounded<T>(Vec<T>);

impl<T> Default for Bounded<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Bounded<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
            type Value = Bounded<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Bounded::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut kept = Vec::new();
                while kept.len() < MOST_EVIDENCE {
                    match list.next_element()? {
                        Some(value) => kept.push(value),
                        None => return Ok(Bounded(kept)),
                    }
                }
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Bounded(kept))
            }
        }
        deserializer.deserialize_any(List(std::marker::PhantomData))
    }
}

/// Whether a text looks like XARF: JSON that names it.
pub(super) fn looks_like(text: &[u8]) -> bool {
    let start = text
        .iter()
        .position(|byte| !byte.is_ascii_whitespace())
        .unwrap_or(text.len());
    let Some(text) = text.get(start..) else {
        return false;
    };
    let head = text.get(..text.len().min(64 << 10)).unwrap_or(text);
    let holds = |needle: &[u8]| head.windows(needle.len()).any(|window| window == needle);
    text.first() == Some(&b'{') && (holds(b"\"xarf_version\"") || holds(b"\"ReporterInfo\""))
}

/// Puts what the JSON in `bytes` says into `report`; the message in it comes back, if there is one.
pub(super) fn read(
    bytes: &[u8],
    report: &mut Report,
    limits: &Limits,
) -> Result<Option<original::Read>, Refusal> {
    let document: Document = serde_json::from_slice(bytes).map_err(|error| Refusal::Xarf {
        problem: text::shown(&error.to_string()),
    })?;
    check_version(&document)?;
    let id = required(document.report_id, "report_id")?;
    if id.len() > LONGEST_ID || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(bad("report_id", &id, "is no UUID"));
    }
    report.aliases.insert(format!("xarf:{}", id.to_lowercase()));
    let time = required(document.timestamp, "timestamp")?;
    report.arrival = fields::date(&time);
    if report.arrival.is_none() {
        return Err(bad("timestamp", &time, "is no time"));
    }
    reporter(document.reporter, report)?;
    let source = required(document.source_identifier, "source_identifier")?;
    match (text::ip(&source), text::domain_name(&source)) {
        (Some(address), _) => {
            report.source = Some(address);
            report.source_from = SourceFrom::Stated;
        }
        (None, Some(domain)) => {
            report.domains.insert(domain);
        }
        (None, None) => {
            return Err(bad(
                "source_identifier",
                &source,
                "is neither an address nor a domain",
            ));
        }
    }
    report.source_port = document.source_port.and_then(arf::source_port);
    report.destination = document.destination_ip.as_deref().and_then(text::ip);
    let category = required(document.category.or(document.class), "category")?;
    if category != "messaging" {
        return Err(Refusal::NotAboutMail {
            category: text::shown(&category),
        });
    }
    report.feedback = match required(document.kind, "type")?.as_str() {
        "spam" | "bulk_messaging" | "unsolicited_mail" => Feedback::Abuse,
        "phishing" => Feedback::Fraud,
        "malware" => Feedback::Virus,
        other => Feedback::Other(text::shown(other)),
    };
    report.mail_from = document.smtp_from.as_deref().map(text::bounded);
    report
        .recipients
        .extend(document.smtp_to.as_deref().map(text::bounded));
    let uris = document.urls.0.iter().chain(document.url.as_ref());
    report
        .uris
        .extend(uris.take(limits.listed).map(|uri| text::bounded(uri)));
    if let Some(id) = document.message_id {
        let id = text::bounded(text::unbracketed(&id));
        report.aliases.insert(format!("original:{id}"));
    }
    Ok(evidence(&document.evidence.0, limits))
}

fn check_version(document: &Document) -> Result<(), Refusal> {
    match document.xarf_version.as_deref() {
        Some(version) if version.starts_with("4.") || version == "4" => Ok(()),
        Some(version) => Err(Refusal::XarfVersion {
            found: text::shown(version),
        }),
        None if document.reporter_info.is_some() => Err(Refusal::XarfVersion {
            found: text::shown(document.version.as_deref().unwrap_or("3 or older")),
        }),
        None => Err(missing("xarf_version")),
    }
}

fn reporter(contact: Option<Contact>, report: &mut Report) -> Result<(), Refusal> {
    let contact = contact.ok_or_else(|| missing("reporter"))?;
    let address = contact.contact.as_deref().and_then(text::mailbox);
    if contact.org.is_none() && address.is_none() {
        return Err(missing("reporter.contact"));
    }
    let domain = address
        .as_deref()
        .and_then(text::domain_of)
        .or_else(|| contact.domain.as_deref().and_then(text::domain_name));
    // Who filed it is proved, but may file in the name of anybody.
    if let (Some(verified), Some(domain)) = (&report.reporter.verified, &domain)
        && verified != domain
        && !domain.ends_with(&format!(".{verified}"))
    {
        report
            .remarks
            .insert(format!("it was sent by {verified} in the name of {domain}",));
        report.reporter.verified = None;
        report.reporter.trusted = false;
    }
    report.reporter.organisation = contact.org.as_deref().map(text::bounded);
    report.reporter.address = address.or_else(|| report.reporter.address.take());
    Ok(())
}

/// The message among the evidence.
fn evidence(items: &[Evidence], limits: &Limits) -> Option<original::Read> {
    items.iter().find_map(|item| {
        let kind = item.content_type.as_deref()?.to_ascii_lowercase();
        let kind = kind.split(';').next()?.trim();
        let headers_only = kind == "text/rfc822-headers";
        if !headers_only && !matches!(kind, "message/rfc822" | "text/email" | "message/global") {
            return None;
        }
        let payload = item.payload.as_deref()?;
        let decoded = base64_decode(payload.as_bytes())
            .filter(|decoded| !decoded.is_empty())
            .unwrap_or_else(|| payload.as_bytes().to_vec());
        original::read(&decoded, headers_only, limits)
    })
}

fn required(value: Option<String>, field: &str) -> Result<String, Refusal> {
    value
        .filter(|value| !value.trim().is_empty())
        .ok_or_else(|| missing(field))
}

fn missing(field: &str) -> Refusal {
    Refusal::Xarf {
        problem: format!("{field} is missing"),
    }
}

fn bad(field: &str, value: &str, what: &str) -> Refusal {
    Refusal::Xarf {
        problem: format!("{field} {what}: {}", text::shown(value)),
    }
}
