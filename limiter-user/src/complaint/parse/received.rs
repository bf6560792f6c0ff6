//! Received fields: who says to have taken a message from whom.

use std::net::IpAddr;

use super::{
    super::report::Hop,
    fields,
    text::{self, bounded, domain_name},
};

/// Reads the value of a Received field. What cannot be found is `None`.
///
/// The address is the one that the receiving side saw: in the comment behind the name that the
/// sending side gave itself, which may look like an address and be a lie.
pub(super) fn hop(value: &str) -> Hop {
    let (path, time) = value.rsplit_once(';').unwrap_or((value, ""));
    let words = words(path);
    let mut hop = Hop {
        time: fields::date(time),
        ..Hop::default()
    };
    let mut helo_address = None;
    let mut clause = "";
    for word in &words {
        match word {
            Word::Atom(atom) => match (clause, atom.to_ascii_lowercase().as_str()) {
                (_, next @ ("from" | "by" | "via" | "with" | "id" | "for")) => {
                    clause = match next {
                        "from" => "from",
                        "by" => "by",
                        "id" => "id",
                        _ => "other",
                    };
                }
                ("from", _) if hop.from.is_none() => {
                    helo_address = text::ip(atom);
                    hop.from = Some(bounded(atom));
                }
                ("by", _) if hop.by.is_none() => hop.by = Some(bounded(atom)),
                ("id", _) if hop.id.is_none() => {
                    hop.id = Some(bounded(atom.trim_matches(['<', '>'])));
                }
                _ => {}
            },
            Word::Comment(comment) if clause == "from" && hop.address.is_none() => {
                hop.address = seen_in(comment);
            }
            Word::Comment(_) => {}
        }
    }
    // Exim names a client without reverse name by its address, which it saw itself, and says what
    // the client called itself in the comment behind. Elsewhere a bare address in brackets is what
    // the client said, but there is nothing better.
    hop.address = hop.address.or(helo_address);
    hop
}

enum Word<'a> {
    Atom(&'a str),
    Comment(&'a str),
}

/// The words of a field, comments whole. A comment that does not end goes to the end.
fn words(value: &str) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let mut rest = value.trim_start();
    while !rest.is_empty() {
        let end = if let Some(inner) = rest.strip_prefix('(') {
            let close = comment_end(inner);
            words.push(Word::Comment(inner.get(..close).unwrap_or(inner)));
            (close + 2).min(rest.len())
        } else {
            let end = rest
                .find(|c: char| c.is_whitespace() || c == '(')
                .unwrap_or(rest.len())
                .max(1);
            words.push(Word::Atom(rest.get(..end).unwrap_or(rest)));
            end
        };
        rest = rest.get(end..).unwrap_or_default().trim_start();
    }
    words
}

/// Where the parenthesis closes that was opened before `text`.
fn comment_end(text: &str) -> usize {
    let mut depth = 1_u32;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// The address that the receiving side noted in a comment; what it only heard is left aside.
fn seen_in(comment: &str) -> Option<IpAddr> {
    let mut heard = false;
    let mut bare = None;
    let mut bracketed = None;
    for token in comment.split([' ', '\t', ',', ';']) {
        let lower = token.to_ascii_lowercase();
        if lower.starts_with("helo=") || lower.starts_with("ehlo=") {
            continue;
        }
        if matches!(lower.as_str(), "helo" | "ehlo") {
            heard = true;
            continue;
        }
        if std::mem::take(&mut heard) {
            continue;
        }
        // Sendmail: name [address]; Postfix: name [address]; qmail: name@address; Exchange: address.
        let address = token.rsplit('@').next().and_then(|token| {
            let token = token.split("]:").next().unwrap_or(token);
            text::ip(token)
        });
        match address {
            Some(address) if token.contains('[') => bracketed = Some(address),
            Some(address) => bare = bare.or(Some(address)),
            None => {}
        }
    }
    bracketed.or(bare)
}

/// The names of a hop in the form that domains are compared in.
pub(in crate::complaint) fn name(name: Option<&str>) -> Option<String> {
    domain_name(name?)
}
