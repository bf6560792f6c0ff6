//! Taking a report apart, in bounds.
//!
//! The crate that decodes mail has no bounds of its own on parts and depth, and what it builds from
//! a message of many levels can overflow the stack when it is dropped. So the structure is walked
//! here, which is short, and only what is inside a part is decoded by it.

use std::borrow::Cow;

use mail_parser::decoders::{
    base64::base64_decode, charsets::map::charset_decoder,
    quoted_printable::quoted_printable_decode,
};

use super::{
    super::{limits::Limits, refusal::Refusal},
    fields::{self, Fields},
    text,
};

/// A mail: its own fields, and its parts that are no multiparts, in their order.
#[derive(Debug)]
pub(super) struct Mail<'a> {
    pub fields: Fields,
    /// Type and subtype of the whole, lower case.
    pub kind: String,
    /// `report-type` of a multipart/report, lower case.
    pub report_type: Option<String>,
    pub leaves: Vec<Leaf<'a>>,
}

/// A part that is no multipart. A message inside is one.
#[derive(Debug)]
pub(super) struct Leaf<'a> {
    /// Type and subtype, lower case.
    pub kind: String,
    charset: Option<String>,
    /// The name of the file, where it is an attachment.
    pub name: Option<String>,
    encoding: Encoding,
    body: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Plain,
    Base64,
    QuotedPrintable,
}

/// Takes `bytes` apart; `depth` levels are above it.
pub(super) fn read<'a>(
    bytes: &'a [u8],
    depth: usize,
    limits: &Limits,
) -> Result<Mail<'a>, Refusal> {
    let (fields, body) = block(bytes, limits)?;
    let mut leaves = Vec::new();
    let top = Head::read(&fields, "text/plain");
    let (kind, report_type) = (top.kind.clone(), top.report_type.clone());
    walk(top, body, depth, limits, &mut leaves)?;
    Ok(Mail {
        fields,
        kind,
        report_type,
        leaves,
    })
}

/// The fields of a header block within bounds, and what is behind it.
fn block<'a>(bytes: &'a [u8], limits: &Limits) -> Result<(Fields, &'a [u8]), Refusal> {
    let (block, body) = fields::split(bytes);
    let refusal = Refusal::TooManyHeaders {
        fields: limits.header_fields,
        bytes: limits.header_bytes,
    };
    if block.len() > limits.header_bytes {
        return Err(refusal);
    }
    let fields = Fields::read(block, limits.header_fields);
    if fields.more {
        return Err(refusal);
    }
    Ok((fields, body))
}

/// What the fields of a part say about its body.
struct Head {
    kind: String,
    boundary: Option<String>,
    report_type: Option<String>,
    charset: Option<String>,
    name: Option<String>,
    encoding: Encoding,
}

impl Head {
    fn read(fields: &Fields, default: &str) -> Self {
        let content_type = fields.get("content-type").and_then(fields::content_type);
        let disposition = fields
            .get("content-disposition")
            .and_then(fields::content_type);
        let attribute = |name: &str| {
            let content_type = content_type.as_ref()?;
            content_type.attribute(name).map(text::bounded)
        };
        let kind = content_type.as_ref().map(|content_type| {
            let subtype = content_type.subtype().unwrap_or_default();
            format!("{}/{subtype}", content_type.ctype()).to_ascii_lowercase()
        });
        let name = disposition
            .as_ref()
            .and_then(|disposition| disposition.attribute("filename"))
            .map(text::bounded)
            .or_else(|| attribute("name"));
        let encoding = fields
            .get("content-transfer-encoding")
            .map(str::to_ascii_lowercase);
        Self {
            kind: kind.unwrap_or_else(|| default.to_owned()),
            boundary: attribute("boundary").filter(|boundary| !boundary.is_empty()),
            report_type: attribute("report-type").map(|kind| kind.to_ascii_lowercase()),
            charset: attribute("charset"),
            name,
            encoding: match encoding.as_deref().map(str::trim) {
                Some("base64") => Encoding::Base64,
                Some("quoted-printable") => Encoding::QuotedPrintable,
                _ => Encoding::Plain,
            },
        }
    }
}

fn walk<'a>(
    head: Head,
    body: &'a [u8],
    depth: usize,
    limits: &Limits,
    leaves: &mut Vec<Leaf<'a>>,
) -> Result<(), Refusal> {
    if depth >= limits.depth {
        return Err(Refusal::TooDeep {
            limit: limits.depth,
        });
    }
    let (true, Some(boundary)) = (head.kind.starts_with("multipart/"), &head.boundary) else {
        // A multipart without a boundary is read as what it looks like.
        let kind = if head.kind.starts_with("multipart/") {
            "text/plain".to_owned()
        } else {
            head.kind
        };
        if leaves.len() >= limits.parts {
            return Err(Refusal::TooManyParts {
                limit: limits.parts,
            });
        }
        leaves.push(Leaf {
            kind,
            charset: head.charset,
            name: head.name,
            encoding: head.encoding,
            body,
        });
        return Ok(());
    };
    let default = if head.kind == "multipart/digest" {
        "message/rfc822"
    } else {
        "text/plain"
    };
    let mut parts = 0;
    for part in Parts::new(body, boundary) {
        parts += 1;
        if parts > limits.parts {
            return Err(Refusal::TooManyParts {
                limit: limits.parts,
            });
        }
        let (fields, body) = block(part, limits)?;
        walk(
            Head::read(&fields, default),
            body,
            depth + 1,
            limits,
            leaves,
        )?;
    }
    Ok(())
}

/// The parts of a multipart: between lines `--boundary`, up to `--boundary--` or the end.
struct Parts<'a> {
    rest: &'a [u8],
    delimiter: Vec<u8>,
}

impl<'a> Parts<'a> {
    fn new(body: &'a [u8], boundary: &str) -> Self {
        let mut parts = Self {
            rest: body,
            delimiter: [b"--", boundary.as_bytes()].concat(),
        };
        // What stands before the first delimiter is for readers of the last century.
        let (_, last) = parts.until_delimiter();
        if last {
            parts.rest = &[];
        }
        parts
    }

    /// What comes before the next delimiter, and whether that was the last. The rest begins behind
    /// it.
    fn until_delimiter(&mut self) -> (&'a [u8], bool) {
        let all = self.rest;
        let mut at = 0;
        while let Some(rest) = all.get(at..)
            && !rest.is_empty()
        {
            let end = text::line_end(rest);
            let line = rest.get(..end).unwrap_or(rest);
            if let Some(behind) = line.strip_prefix(self.delimiter.as_slice()) {
                let (last, behind) = match behind.strip_prefix(b"--") {
                    Some(behind) => (true, behind),
                    None => (false, behind),
                };
                if text::is_blank(behind) {
                    self.rest = all.get(at + end..).unwrap_or_default();
                    let part = all.get(..at).unwrap_or_default();
                    // The line break belongs to the delimiter.
                    let part = part.strip_suffix(b"\n").unwrap_or(part);
                    return (part.strip_suffix(b"\r").unwrap_or(part), last);
                }
            }
            at += end;
        }
        self.rest = &[];
        (all, true)
    }
}

impl<'a> Iterator for Parts<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let (part, last) = self.until_delimiter();
        if last {
            self.rest = &[];
        }
        Some(part)
    }
}

impl<'a> Leaf<'a> {
    /// Its content. What is badly encoded is taken as far as it goes, or as it stands.
    pub fn content(&self) -> Cow<'a, [u8]> {
        let decoded = match self.encoding {
            Encoding::Plain => None,
            // Some that say base64 hold plain text: a message may not be encoded at all.
            Encoding::Base64 => base64_decode(self.body).filter(|decoded| !decoded.is_empty()),
            Encoding::QuotedPrintable => quoted_printable_decode(self.body),
        };
        decoded.map_or(Cow::Borrowed(self.body), Cow::Owned)
    }

    /// Its content as text, whatever charset it says.
    pub fn text(&self) -> String {
        let content = self.content();
        let decoder = self
            .charset
            .as_deref()
            .filter(|charset| !charset.eq_ignore_ascii_case("utf-8"))
            .and_then(|charset| charset_decoder(charset.as_bytes()));
        match decoder {
            Some(decode) => text::clean(decode(&content).as_bytes()),
            None => text::clean(&content),
        }
    }

    /// How long it is as it stands, bytes.
    pub const fn len(&self) -> usize {
        self.body.len()
    }

    /// Whether it is a mail, or the header of one.
    pub fn is_message(&self) -> bool {
        self.is_whole_message() || self.is_headers()
    }

    fn is_whole_message(&self) -> bool {
        let named = self.name.as_deref().is_some_and(|name| {
            let name = name.to_ascii_lowercase();
            name.ends_with(".eml")
        });
        matches!(
            self.kind.as_str(),
            "message/rfc822" | "message/global" | "text/rfc822" | "text/email"
        ) || (named
            && matches!(
                self.kind.as_str(),
                "application/octet-stream" | "text/plain" | "application/rfc822"
            ))
    }

    /// Whether it is the header of a mail alone.
    pub fn is_headers(&self) -> bool {
        matches!(
            self.kind.as_str(),
            "text/rfc822-headers" | "message/rfc822-headers" | "message/global-headers"
        )
    }
}
