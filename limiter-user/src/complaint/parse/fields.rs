//! A block of header fields: bounded, unfolded, and never quite as it should be.

use jiff::Timestamp;
use mail_parser::{ContentType, DateTime, HeaderValue, parsers::MessageStream};

use super::text;

/// The fields of a header block, in their order.
#[derive(Debug, Default)]
pub(super) struct Fields {
    fields: Vec<(String, String)>,
    /// Whether there were more.
    pub more: bool,
}

/// Where the header block of `bytes` ends, and where the body begins.
pub(super) fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    let mut start = 0;
    while let Some(rest) = bytes.get(start..)
        && !rest.is_empty()
    {
        let end = text::line_end(rest);
        let line = rest.get(..end).unwrap_or(rest);
        if text::is_blank(line) {
            return (
                bytes.get(..start).unwrap_or_default(),
                rest.get(end..).unwrap_or_default(),
            );
        }
        start += end;
    }
    (bytes, &[])
}

impl Fields {
    /// Reads at most `most` fields of `block`. Lines that are none are skipped.
    pub fn read(block: &[u8], most: usize) -> Self {
        let mut read = Self::default();
        let mut rest = block;
        while !rest.is_empty() {
            let (line, after) = rest.split_at(text::line_end(rest).min(rest.len()));
            rest = after;
            let line = text::clean(line);
            let line = line.trim_end();
            if line.starts_with([' ', '\t']) {
                if let Some((_, value)) = read.fields.last_mut() {
                    value.push(' ');
                    value.push_str(line.trim_start());
                }
                continue;
            }
            let Some((name, value)) = field(line) else {
                continue;
            };
            if read.fields.len() >= most {
                read.more = true;
                break;
            }
            read.fields.push((name, value.trim().to_owned()));
        }
        read
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The values of the fields called `name` (in lower case), in their order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let same = move |(field, _): &&(String, String)| field == name;
        self.fields
            .iter()
            .filter(same)
            .map(|(_, value)| value.as_str())
    }

    /// The first of them that is not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(field, value)| field == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }

    /// All fields, in their order.
    pub fn each(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// Name, in lower case, and value of an unfolded line that is a header field.
pub(super) fn field(line: &str) -> Option<(String, &str)> {
    let (name, value) = line.split_once(':')?;
    let name = name.trim_end();
    let fits = !name.is_empty()
        && name.len() <= 76
        && name
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'>' && byte != b'<');
    fits.then(|| (name.to_ascii_lowercase(), value))
}

/// A date as mail writes it, or as programs do that should write mail's.
pub(super) fn date(value: &str) -> Option<Timestamp> {
    let value = value.trim();
    if let Ok(time) = value.parse::<Timestamp>() {
        return Some(time);
    }
    let date = DateTime::parse_rfc822(value.get(..value.len().min(80)).unwrap_or(value))?;
    if !date.is_valid() {
        return None;
    }
    Timestamp::from_second(date.to_timestamp()).ok()
}

/// A Content-Type or Content-Disposition.
pub(super) fn content_type(value: &str) -> Option<ContentType<'static>> {
    let line = format!("{value}\n");
    let value = MessageStream::new(line.as_bytes()).parse_content_type();
    match value.into_owned() {
        HeaderValue::ContentType(content_type) => Some(content_type),
        _ => None,
    }
}

/// A text with encoded words in it (RFC 2047), decoded.
pub(super) fn unstructured(value: &str) -> String {
    let line = format!("{value}\n");
    match MessageStream::new(line.as_bytes()).parse_unstructured() {
        HeaderValue::Text(text) => text::clean(text.as_bytes()),
        HeaderValue::TextList(texts) => text::clean(texts.join(" ").as_bytes()),
        _ => value.to_owned(),
    }
}
