//! Who brought a message, by what Postfix wrote into its queue file.
//!
//! From SMTP: the attributes `sasl_username`, `client_address` and `client_port`. From `sendmail`:
//! there are none, but pickup(8) begins the message with
//!
//! ```text
//! Received: by HOST (Postfix, from userid UID)
//!         id QUEUE-ID; …
//! ```
//!
//! Milters may put other headers before, and an administrator may have this one removed
//! (`header_checks`), so that the first `Received` could be the sender's own. It counts only if it
//! names the message's queue id, which nobody knows before the message is there. `postsuper -r` sends a
//! message through pickup again, as Postfix's own user: then the next `Received` is the one.
//!
//! None of these attributes can be given with a local submission: pickup and postdrop ignore them.

use std::{
    fs::File,
    io,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use super::records::{self, Records, malformed};
use crate::mta::Origin;

/// More headers than this are not looked through.
const MOST_LINES: usize = 2000;
/// More records than this are not looked through before the recipients.
const MOST_ATTRIBUTES: usize = 1000;
/// More records than this are not looked through before the message, and more bytes not read, of a file
/// that is being written: a milter's message has far fewer recipients.
const MOST_ENVELOPE: usize = 1 << 20;
const MOST_UNFINISHED: usize = 64 << 20;

/// What a queue file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct QueueFile {
    /// Who brought it.
    pub(super) origin: Origin,
    /// When it arrived, microseconds since 1970.
    pub(super) arrived_us: i64,
    /// From when on the lifetime of the queue counts, seconds since 1970: `postsuper -r` begins it anew.
    pub(super) created_s: i64,
}

/// Reads the queue file of the message `id`. `mail_owner` is Postfix's own uid.
///
/// # Errors
/// When it cannot be read, or is no complete queue file.
pub(super) fn read(file: File, id: &str, mail_owner: u32) -> io::Result<QueueFile> {
    let mut records = Records::new(file, records::MOST_READ);
    let first = records.at(0)?;
    if first.kind != records::SIZE {
        return Err(malformed("its size where it should begin"));
    }
    let message = first
        .numbers()
        .nth(1)
        .filter(|&offset| offset > 0)
        .ok_or_else(|| malformed("the place where the message begins"))?;
    let next = first.next;
    let mut envelope = envelope(&mut records, next)?;
    if !envelope.from_smtp {
        envelope.found.origin.login = None;
        envelope.found.origin.uid = submitter(&mut records, message, id, Some(mail_owner))?;
    }
    Ok(envelope.found)
}

/// Who brought it, while cleanup(8) waits for its milters: everything is written but the end, and the place
/// where the message begins. What `postsuper -r` sends through again is not brought before milters.
///
/// # Errors
/// When it cannot be read, or is no queue file up to where the headers end.
pub(super) fn read_unfinished(file: File, id: &str) -> io::Result<Origin> {
    let mut records = Records::new(file, MOST_UNFINISHED);
    let first = records.at(0)?;
    if first.kind != records::SIZE {
        return Err(malformed("its size where it should begin"));
    }
    let next = first.next;
    let Envelope {
        found,
        from_smtp,
        end,
    } = envelope(&mut records, next)?;
    let mut origin = found.origin;
    if !from_smtp {
        let message = message(&mut records, end)?;
        origin.login = None;
        origin.uid = submitter(&mut records, message, id, None)?;
    }
    Ok(origin)
}

/// Where the message begins, from a record of the envelope on.
fn message(records: &mut Records, mut at: u64) -> io::Result<u64> {
    for _ in 0..MOST_ENVELOPE {
        let record = records.at(at)?;
        at = record.next;
        match record.kind {
            records::MESSAGE => return Ok(at),
            records::POINTER => {
                if let Some(to) = record.numbers().next().filter(|&to| to > 0) {
                    at = to;
                }
            }
            records::END => break,
            _ => {}
        }
    }
    Err(malformed("a message behind its envelope"))
}

/// What stands before the recipients.
struct Envelope {
    found: QueueFile,
    /// It came by SMTP.
    from_smtp: bool,
    /// Where the first record is that was not looked at.
    end: u64,
}

/// Reads the attributes of the message.
fn envelope(records: &mut Records, mut at: u64) -> io::Result<Envelope> {
    let mut found = QueueFile::default();
    let mut end = at;
    let (mut address, mut port) = (None::<IpAddr>, 0);
    let mut from_smtp = false;
    for _ in 0..MOST_ATTRIBUTES {
        end = at;
        let record = records.at(at)?;
        at = record.next;
        match record.kind {
            records::TIME => {
                let mut numbers = record.numbers();
                let seconds = numbers.next().and_then(|number| i64::try_from(number).ok());
                let micros = numbers.next().and_then(|number| i64::try_from(number).ok());
                let seconds = seconds.ok_or_else(|| malformed("a time of arrival"))?;
                found.arrived_us = seconds
                    .saturating_mul(1_000_000)
                    .saturating_add(micros.unwrap_or(0));
                if found.created_s == 0 {
                    found.created_s = seconds;
                }
            }
            records::ATTRIBUTE => {
                let text = String::from_utf8_lossy(record.text);
                let Some((name, value)) = text.split_once('=') else {
                    continue;
                };
                match name {
                    "create_time" => found.created_s = value.parse().unwrap_or(found.created_s),
                    "sasl_username" if !value.is_empty() => {
                        found.origin.login = Some(value.to_owned());
                    }
                    "client_address" => {
                        from_smtp = true;
                        address = IpAddr::from_str(value).ok();
                    }
                    "client_port" => port = value.parse().unwrap_or(0),
                    _ => {}
                }
            }
            records::POINTER => {
                if let Some(to) = record.numbers().next().filter(|&to| to > 0) {
                    at = to;
                }
            }
            records::MESSAGE | records::END => break,
            kind if records::RECIPIENTS.contains(&kind) => break,
            _ => {}
        }
    }
    found.origin.client = address.map(|address| SocketAddr::new(address.to_canonical(), port));
    Ok(Envelope {
        found,
        from_smtp,
        end,
    })
}

/// The user who submitted the message that begins at `at`, by the headers that pickup wrote. `mail_owner`
/// sends messages through again, if any were.
fn submitter(
    records: &mut Records,
    at: u64,
    id: &str,
    mail_owner: Option<u32>,
) -> io::Result<Option<u32>> {
    let mut headers = Headers {
        records,
        at,
        line: None,
        left: MOST_LINES,
    };
    let mut trusted = false;
    while let Some(header) = headers.next()? {
        let Some(received) = header.strip_prefix("Received:") else {
            continue;
        };
        let Some((uid, its_id)) = from_userid(received) else {
            return Ok(None);
        };
        if !trusted && its_id != id {
            return Ok(None);
        }
        if Some(uid) != mail_owner {
            return Ok(Some(uid));
        }
        // Postfix's own: it was sent through again, and what follows is what was written before.
        trusted = true;
    }
    Ok(None)
}

/// The uid and the queue id of pickup's header, whose name has been taken off.
fn from_userid(received: &str) -> Option<(u32, &str)> {
    let (first, second) = received.split_once('\n')?;
    let (_, uid) = first.strip_prefix(" by ")?.rsplit_once(", from userid ")?;
    let (id, _) = second.strip_prefix("\tid ")?.split_once(';')?;
    Some((uid.strip_suffix(')')?.parse().ok()?, id))
}

/// The headers of a message, continuation lines joined by line feeds.
struct Headers<'a> {
    records: &'a mut Records,
    at: u64,
    /// The beginning of the next header.
    line: Option<String>,
    left: usize,
}

impl Headers<'_> {
    fn next(&mut self) -> io::Result<Option<String>> {
        let mut header = match self.line.take() {
            Some(line) => line,
            None => match self.line()? {
                Some(line) => line,
                None => return Ok(None),
            },
        };
        while let Some(line) = self.line()? {
            if !line.starts_with([' ', '\t']) {
                self.line = Some(line);
                break;
            }
            header.push('\n');
            header.push_str(&line);
        }
        Ok(Some(header))
    }

    /// The next line; none at the end of the headers.
    fn line(&mut self) -> io::Result<Option<String>> {
        let mut line = String::new();
        loop {
            self.left = match self.left.checked_sub(1) {
                Some(left) => left,
                None => return Ok(None),
            };
            let record = self.records.at(self.at)?;
            self.at = record.next;
            match record.kind {
                records::PART => line.push_str(&String::from_utf8_lossy(record.text)),
                records::LINE => {
                    line.push_str(&String::from_utf8_lossy(record.text));
                    return Ok((!line.is_empty()).then_some(line));
                }
                records::POINTER => {
                    if let Some(to) = record.numbers().next().filter(|&to| to > 0) {
                        self.at = to;
                    }
                }
                records::EXTRA | records::END => return Ok(None),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const OWNER: u32 = 102;
    const ID: &str = "A53F8AC21F2";

    fn record(kind: u8, text: &str) -> Vec<u8> {
        let mut out = vec![kind];
        let mut length = text.len();
        loop {
            let byte = u8::try_from(length & 0x7f).unwrap();
            length >>= 7;
            if length == 0 {
                out.push(byte);
                break;
            }
            out.push(byte | 0x80);
        }
        out.extend_from_slice(text.as_bytes());
        out
    }

    fn read_file(attributes: &[&str], recipients: usize, lines: &[&str]) -> io::Result<QueueFile> {
        let mut envelope = record(b'T', "1795330951 647141");
        for attribute in attributes {
            envelope.extend(record(b'A', attribute));
        }
        envelope.extend(record(b'S', "a@b.c"));
        for number in 0..recipients {
            envelope.extend(record(b'R', &format!("somebody-{number}@outside.example")));
        }
        envelope.extend(record(b'M', ""));
        let start = 97 + envelope.len();
        let mut bytes = record(
            b'C',
            &format!(
                "{:15} {start:15} {recipients:15} {:15} {:15} {:15}",
                1, 0, 1, 0
            ),
        );
        assert_eq!(bytes.len(), 97);
        bytes.extend(envelope);
        for line in lines {
            bytes.extend(record(b'N', line));
        }
        bytes.extend(record(b'X', ""));
        bytes.extend(record(b'E', ""));
        read_bytes(&bytes)
    }

    fn read_bytes(bytes: &[u8]) -> io::Result<QueueFile> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        read(file, ID, OWNER)
    }

    fn received(uid: u32, id: &str) -> [String; 2] {
        [
            format!("Received: by node.example (Postfix, from userid {uid})"),
            format!("\tid {id}; Sun, 22 Nov 2026 07:02:31 +0000 (UTC)"),
        ]
    }

    fn uid_of(lines: &[String]) -> Option<u32> {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let found = read_file(&["rewrite_context=local"], 1, &lines).unwrap();
        assert_eq!(found.origin.login, None);
        found.origin.uid
    }

    #[test]
    fn pickup_says_who_submitted() {
        let real = received(2001, ID);
        let forged = received(2002, ID);
        assert_eq!(uid_of(&[real.clone(), forged.clone()].concat()), Some(2001));
        // A milter was first.
        let signed = ["DKIM-Signature: v=1;".to_owned(), "\tb=x".to_owned()];
        assert_eq!(
            uid_of(&[signed.to_vec(), real.to_vec()].concat()),
            Some(2001)
        );
    }

    #[test]
    fn where_pickups_header_was_removed_a_forged_one_does_not_count() {
        assert_eq!(uid_of(&received(2002, "FFFFFFFFFFF")), None);
        let other = ["Received: from evil.example; today".to_owned()];
        assert_eq!(
            uid_of(&[other.to_vec(), received(2002, ID).to_vec()].concat()),
            None
        );
        assert_eq!(uid_of(&["Subject: x".to_owned(), String::new()]), None);
        // In the body.
        let body = [vec![String::new()], received(2002, ID).to_vec()].concat();
        assert_eq!(uid_of(&body), None);
    }

    #[test]
    fn what_was_sent_through_again_is_still_whose_it_was() {
        let again = [
            received(OWNER, ID),
            received(OWNER, "B"),
            received(2001, "C"),
        ]
        .concat();
        assert_eq!(uid_of(&again), Some(2001));
        let forged = [received(OWNER, "B"), received(2001, ID)].concat();
        assert_eq!(uid_of(&forged), None);
    }

    #[test]
    fn a_client_is_known_by_attributes_alone() {
        let attributes = [
            "create_time=1795331011",
            "sasl_username=bob@host.example",
            "log_client_address=198.51.100.1",
            "client_address=192.0.2.7",
            "client_port=47224",
        ];
        let forged = received(2002, ID);
        let lines: Vec<&str> = forged.iter().map(String::as_str).collect();
        // So many recipients that the message is not in the first read.
        let found = read_file(&attributes, 500, &lines).unwrap();
        assert_eq!(found.origin.login.as_deref(), Some("bob@host.example"));
        assert_eq!(
            found.origin.client,
            Some("192.0.2.7:47224".parse().unwrap())
        );
        assert_eq!(found.origin.uid, None);
        assert_eq!(found.arrived_us, 1_795_330_951_647_141);
        assert_eq!(found.created_s, 1_795_331_011);
        // Without a client there was no login.
        let found = read_file(&attributes[1..2], 1, &[]).unwrap();
        assert!(found.origin.is_unknown());
    }

    #[test]
    fn what_a_milter_moved_is_followed() {
        let mut bytes = Vec::new();
        let real = received(2001, ID);
        let start = 97 + record(b'M', "").len();
        let heap = 1000;
        bytes.extend(record(b'C', &format!("{:15} {start:15} {:63}", 1, "")));
        bytes.extend(record(b'M', ""));
        bytes.extend(record(b'p', &format!("{heap:15}")));
        let back = bytes.len();
        bytes.extend(record(b'N', ""));
        bytes.resize(heap, 0);
        bytes.extend(record(b'N', "DKIM-Signature: x"));
        bytes.extend(record(b'N', &real[0]));
        bytes.extend(record(b'N', &real[1]));
        bytes.extend(record(b'p', &format!("{back:15}")));
        assert_eq!(read_bytes(&bytes).unwrap().origin.uid, Some(2001));
    }

    fn unfinished(attributes: &[&str], recipients: usize, lines: &[String]) -> Origin {
        let mut bytes = record(b'C', &format!("{:15} {:15} {:63}", 0, 0, 0));
        bytes.extend(record(b'T', "1795330951 647141"));
        for attribute in attributes {
            bytes.extend(record(b'A', attribute));
        }
        bytes.extend(record(b'S', "a@b.c"));
        for number in 0..recipients {
            let recipient = format!("somebody-{number}@outside.example");
            bytes.extend(record(b'A', &format!("dsn_orig_rcpt=rfc822;{recipient}")));
            bytes.extend(record(b'O', &recipient));
            bytes.extend(record(b'R', &recipient));
        }
        bytes.extend(record(b'p', &format!("{:15}", 0)));
        bytes.extend(record(b'M', ""));
        for line in lines {
            bytes.extend(record(b'N', line));
        }
        bytes.extend(record(b'X', ""));
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        read_unfinished(file, ID).unwrap()
    }

    #[test]
    fn a_file_that_is_being_written_says_it_too() {
        let with_body = |header: [String; 2]| {
            let body = [String::new(), "Buy.".to_owned()];
            [header, body].concat()
        };
        let real = with_body(received(2001, ID));
        let origin = unfinished(&["rewrite_context=local"], 20_000, &real);
        assert_eq!(origin.uid, Some(2001));
        let forged = with_body(received(2001, "B"));
        assert_eq!(unfinished(&[], 1, &forged).uid, None);
        // Whoever Postfix runs as sends nothing through again here.
        let anew = [received(OWNER, ID), received(2001, "B")].concat();
        assert_eq!(unfinished(&[], 1, &anew).uid, Some(OWNER));
        let attributes = ["client_address=192.0.2.7", "client_port=47224"];
        let origin = unfinished(&attributes, 1, &real);
        assert_eq!(origin.uid, None);
        assert_eq!(origin.client, Some("192.0.2.7:47224".parse().unwrap()));
    }

    #[test]
    fn damage_is_an_error_and_never_more() {
        assert!(read_bytes(b"").is_err());
        assert!(read_bytes(b"not a queue file").is_err());
        assert!(read_bytes(&record(b'C', "1 0 1")).is_err());
        // A pointer to itself.
        let mut endless = record(b'C', &format!("{:15} {:15} {:63}", 1, 97, ""));
        endless.extend(record(b'p', "97"));
        assert_eq!(read_bytes(&endless).unwrap().origin.uid, None);
        // A record longer than the file, and one longer than any.
        let mut long = record(b'C', "1 20 1");
        long.extend([b'A', 0xff, 0xff, 0xff, 0xff, 0xff]);
        assert!(read_bytes(&long).is_err());
        let mut short = record(b'C', "1 20 1");
        short.extend([b'A', 0x7f, b'x']);
        assert!(read_bytes(&short).is_err());
    }
}
