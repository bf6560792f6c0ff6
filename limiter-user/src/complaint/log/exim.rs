//! Lines of Exim's main log, by the grammar that Exim documents for them ("Log files" in its
//! specification).
//!
//! Much in such a line is chosen by whoever sends: the sender's address, the name in HELO, what an
//! ident server answers, subjects, names in certificates, Message-IDs. So a field counts only where
//! Exim writes it: after the whole address, in Exim's order, once. A line that does not fit names
//! nobody; a person decides then.

use std::net::IpAddr;

use jiff::Timestamp;

use super::{Account, Said, What, time};

/// Reads a line, if it says that a message came in or went out.
pub(super) fn read(line: &str) -> Option<Said> {
    let (time, queue_id, rest) = head(line)?;
    let (arrow, rest) = rest.split_once(' ')?;
    let what = match arrow {
        "<=" => accepted(rest),
        "=>" | "->" => What::Delivered(delivered(rest)),
        _ => return None,
    };
    Some(Said {
        queue_id: queue_id.to_owned(),
        time,
        what,
        own_format: true,
    })
}

/// The time of a line, the message that it is about, and what it says.
pub(crate) fn head(line: &str) -> Option<(Timestamp, &str, &str)> {
    let (time, rest) = time::exim(line)?;
    // `[pid]`, where the server is told to.
    let rest = match rest.strip_prefix('[') {
        Some(pid) => pid.split_once("] ")?.1,
        None => rest,
    };
    let (queue_id, rest) = rest.split_once(' ')?;
    is_queue_id(queue_id).then_some((time, queue_id, rest))
}

/// `1vMabc-0001xy-2Q`, and since 4.97 `1vMabc-000000001xy-2QAB`.
fn is_queue_id(id: &str) -> bool {
    let lengths: Vec<usize> = id.split('-').map(str::len).collect();
    matches!(lengths.as_slice(), [6, 6, 2] | [6, 11, 4])
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// The fields of a line of arrival that say who brought the message.
#[derive(Debug, Default)]
struct Arrival<'l> {
    host: Option<IpAddr>,
    user: Option<&'l str>,
    protocol: Option<&'l str>,
    login: Option<&'l str>,
    message_id: Option<&'l str>,
}

/// `SENDER R=… H=… I=… U=… P=… X=… CV=… DN="…" A=… S=… id=… T="…" from <…> for …`.
fn accepted(rest: &str) -> What {
    let (account, message_id) = account(rest);
    What::Accepted {
        account,
        message_id,
    }
}

/// Who brought a message, and its Message-ID, by what stands behind `<=`.
pub(crate) fn account(rest: &str) -> (Option<Account>, Option<String>) {
    let Some(arrival) = arrival(rest) else {
        return (None, None);
    };
    let protocol = arrival.protocol.unwrap_or_default();
    let account = if let Some(login) = arrival.login {
        let login = login.split_once(':');
        login.map(|(_, login)| Account::Login(login.to_owned()))
    } else if arrival.host.is_none() {
        let local = protocol.starts_with("local");
        let user = arrival.user.filter(|_| local);
        user.map(|user| Account::User(user.to_owned()))
    } else {
        // `U=` of a remote client is what that client says.
        let remote = arrival.host.filter(|address| !address.is_loopback());
        remote.map(Account::Address)
    };
    (account, arrival.message_id.map(str::to_owned))
}

/// Where a field stands among the others; each of these comes once.
fn rank(key: &str) -> Option<u8> {
    ["R", "H", "I", "U", "P", "A", "S"]
        .iter()
        .position(|known| *known == key)
        .and_then(|at| u8::try_from(at).ok())
}

/// `None` if the line does not fit.
fn arrival(rest: &str) -> Option<Arrival<'_>> {
    let mut words = Words(rest);
    words.address()?;
    let mut arrival = Arrival::default();
    let mut last = None;
    while let Some(key) = words.key()? {
        if key == "id" {
            // What follows is the sender's choice, and nothing of it is needed.
            arrival.message_id = words.0.split(' ').next();
            break;
        }
        let place = rank(key);
        if place.is_some() {
            if place <= last {
                return None;
            }
            last = place;
        } else if arrival.protocol.is_none() {
            // Before the protocol there is nothing else.
            return None;
        }
        match key {
            "H" => arrival.host = Some(words.host()?),
            "U" => arrival.user = Some(words.value()?),
            "P" => arrival.protocol = Some(words.value()?),
            "A" => arrival.login = Some(words.value()?),
            _ => {
                words.value()?;
            }
        }
    }
    // Protocols say whether somebody logged in: `esmtpa`, `esmtpsa`.
    let logged_in = arrival.protocol.is_some_and(|it| it.ends_with('a'));
    (arrival.login.is_none() || logged_in).then_some(arrival)
}

/// The address in `ADDRESS (PARENT) <ORIGINAL> Q=… F=<…> P=<…> R=… T=… S=… H=name [192.0.2.1]:25 …`.
fn delivered(rest: &str) -> Option<IpAddr> {
    let mut words = Words(rest);
    words.address()?;
    host(words.0)
}

/// The address of the host in what follows a recipient: `(PARENT) <ORIGINAL> Q=… F=<…> … H=…`.
pub(crate) fn host(rest: &str) -> Option<IpAddr> {
    let mut words = Words(rest.trim_start());
    while words.0.starts_with(['<', '(']) {
        words.address()?;
    }
    let mut last = None;
    loop {
        let key = words.key()??;
        let place = ["Q", "F", "P", "R", "T", "S", "H"]
            .iter()
            .position(|known| *known == key);
        if place.is_none() || place <= last {
            return None;
        }
        last = place;
        match key {
            "H" => return words.host(),
            "F" | "P" => words.address()?,
            _ => words.value()?,
        };
    }
}

/// What is left of a line.
struct Words<'l>(&'l str);

impl<'l> Words<'l> {
    /// Takes what is before byte `end`, and the space behind it.
    fn take(&mut self, end: usize) -> Option<&'l str> {
        let (taken, rest) = self.0.split_at_checked(end)?;
        self.0 = match rest.strip_prefix(' ') {
            Some(rest) => rest,
            None if rest.is_empty() => rest,
            None => return None,
        };
        Some(taken)
    }

    /// Takes an address, whose local part may be a quoted string with anything in it: up to the first
    /// space outside of one.
    fn address(&mut self) -> Option<&'l str> {
        let mut before = None;
        let (mut quoted, mut escaped) = (false, false);
        for (at, c) in self.0.char_indices() {
            if std::mem::take(&mut escaped) {
                continue;
            }
            match c {
                '\\' if quoted => escaped = true,
                '"' if quoted => quoted = false,
                // A quoted string begins where a word of a local part does.
                '"' if matches!(before, None | Some('<' | '(' | '.' | ':' | ',')) => quoted = true,
                ' ' if !quoted => return if at > 0 { self.take(at) } else { None },
                _ => {}
            }
            before = Some(c);
        }
        if quoted || self.0.is_empty() {
            return None;
        }
        self.take(self.0.len())
    }

    /// Takes `KEY=`, and the words without a value before it: `L` (pipelining), `K` (chunking), `PRDR`
    /// and `TFO`. `Some(None)` at the end of the line, `None` where something else stands.
    #[expect(clippy::option_option, reason = "the end is not a fault")]
    fn key(&mut self) -> Option<Option<&'l str>> {
        loop {
            if self.0.is_empty() {
                return Some(None);
            }
            let word = self.0.split(' ').next()?;
            if matches!(word, "L" | "L*" | "L-" | "K" | "PRDR" | "TFO" | "TFO*") {
                self.take(word.len())?;
                continue;
            }
            let (key, _) = word.split_once('=')?;
            let is_key = (1..=8).contains(&key.len())
                && key.bytes().all(|byte| byte.is_ascii_alphanumeric());
            if !is_key {
                return None;
            }
            self.0 = self.0.get(key.len() + 1..)?;
            return Some(Some(key));
        }
    }

    /// Takes a value: a quoted string, or what is before the next space, with quoted strings behind
    /// `=` in it (`TLS1.3:DN="CN=a b"`).
    fn value(&mut self) -> Option<&'l str> {
        let mut before = '=';
        let (mut quoted, mut escaped) = (false, false);
        for (at, c) in self.0.char_indices() {
            if std::mem::take(&mut escaped) {
                continue;
            }
            match c {
                '\\' if quoted => escaped = true,
                '"' if quoted => quoted = false,
                '"' if before == '=' => quoted = true,
                '"' => return None,
                ' ' if !quoted => return self.take(at),
                _ => {}
            }
            before = c;
        }
        if quoted {
            return None;
        }
        self.take(self.0.len())
    }

    /// Takes `name (helo) [192.0.2.1]:25`, of which the name, the helo and the port may be missing.
    fn host(&mut self) -> Option<IpAddr> {
        if !self.0.starts_with(['(', '[']) {
            let name = self.0.split(' ').next()?;
            self.take(name.len())?;
        }
        if let Some(helo) = self.0.strip_prefix('(') {
            let (_, rest) = helo.split_once(") ")?;
            self.0 = rest;
        }
        let (address, rest) = self.0.strip_prefix('[')?.split_once(']')?;
        let address: IpAddr = address.parse().ok()?;
        self.0 = rest;
        if let Some(port) = self.0.strip_prefix(':') {
            let digits = port.bytes().take_while(u8::is_ascii_digit).count();
            self.0 = port.get(digits..)?;
        }
        self.take(0)?;
        Some(address.to_canonical())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(rest: &str) -> Option<Account> {
        let line = format!("2026-11-20 10:00:00 1vMabc-0001xy-2Q <= {rest}");
        match read(&line).unwrap().what {
            What::Accepted { account, .. } => account,
            other => panic!("{other:?}"),
        }
    }

    fn relay(rest: &str) -> Option<IpAddr> {
        let line = format!("2026-11-20 10:00:00 1vMabc-0001xy-2Q => {rest}");
        match read(&line).unwrap().what {
            What::Delivered(address) => address,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_exim_writes_is_read() {
        let user = |name: &str| Some(Account::User(name.to_owned()));
        let login = |name: &str| Some(Account::Login(name.to_owned()));
        let address = |text: &str| Some(Account::Address(text.parse().unwrap()));
        for (line, expected) in [
            (
                "a@b.test U=alice P=local S=812 id=x@y T=\"Hello\" for z@z.test",
                user("alice"),
            ),
            ("a@b.test U=alice P=local-esmtp S=812", user("alice")),
            (
                "<> R=1vMabe-0001y0-4S U=Debian-exim P=local S=1",
                user("Debian-exim"),
            ),
            ("\"a b\"@b.test U=alice P=local S=1", user("alice")),
            (
                "a@b.test H=home.test (me) [192.0.2.9]:5000 I=[203.0.113.1]:587 P=esmtpsa L \
                 X=TLS1.3:TLS_AES_256_GCM_SHA384:256 CV=no DN=\"C=XX,CN=a \\\"b\\\"\" SNI=\"mx\" \
                 A=plain:bob@b.test K S=1 DKIM=b.test id=x@y",
                login("bob@b.test"),
            ),
            (
                "a@b.test H=(me) [2001:db8::9]:5000 P=esmtp PRDR S=1",
                address("2001:db8::9"),
            ),
            ("a@b.test H=[192.0.2.9] P=smtp S=1", address("192.0.2.9")),
            ("a@b.test H=localhost [127.0.0.1] P=esmtp S=1", None),
        ] {
            assert_eq!(account(line), expected, "{line}");
        }
        let to = Some("198.51.100.12".parse().unwrap());
        for line in [
            "x@m.test R=dnslookup T=remote_smtp H=mx1.m.test [198.51.100.12]:25 X=TLS1.3 C=\"250 OK\"",
            "x@m.test <y@b.test> F=<a@b.test> P=<a@b.test> R=r T=t S=9 H=mx [198.51.100.12] C=\"x\"",
        ] {
            assert_eq!(relay(line), to, "{line}");
        }
        assert_eq!(relay("alice <alice@b.test> R=local T=maildir"), None);
    }

    /// Whatever a sender writes, nobody but himself is named.
    #[test]
    fn a_forged_field_names_nobody_else() {
        let own = |account: &Option<Account>| {
            let own = Account::Address("192.0.2.9".parse().unwrap());
            account.is_none() || *account == Some(own)
        };
        for line in [
            // In the address.
            "\"x P=local U=victim\"@evil.test H=(me) [192.0.2.9]:5 P=esmtp S=1",
            "\"x\\\" P=local U=victim\"@evil.test H=(me) [192.0.2.9]:5 P=esmtp S=1",
            "x\" P=local U=victim \"@evil.test H=(me) [192.0.2.9]:5 P=esmtp S=1",
            "x A=plain:victim@evil.test H=(me) [192.0.2.9]:5 P=esmtpa A=plain:me S=1",
            // In the name in HELO, quotes that swallow what follows included.
            "x@evil.test H=(me P=local U=victim) [192.0.2.9]:5 P=esmtp S=1",
            "x@evil.test H=(me) [203.0.113.7]:5 P=esmtp S=1) [192.0.2.9]:5 P=esmtp S=1",
            "x@evil.test H=(me) [203.0.113.7] P=esmtp T=\") [192.0.2.9]:5 P=esmtp S=1 T=\"hi\"",
            "x@evil.test H=(me) [203.0.113.7] P=esmtp DN=\") [192.0.2.9]:5 P=esmtps DN=\"CN=a\" S=1",
            "x@evil.test H=(me\") [192.0.2.9]:5 P=esmtp S=1 T=\"x A=plain:victim\"",
            // What an ident server answers.
            "x@evil.test H=(me) [192.0.2.9]:5 U=x A=plain:victim P=esmtp S=1",
            "x@evil.test H=(me) [192.0.2.9]:5 U=x P=esmtpa A=plain:victim P=esmtp S=1",
            // In a certificate or a server's name, quotes that nobody escaped included.
            "x@evil.test H=(me) [192.0.2.9]:5 P=esmtps DN=\"CN=x A=plain:victim\" S=1",
            "x@evil.test H=(me) [192.0.2.9]:5 P=esmtps SNI=\"x\" A=plain:victim Z=\"\" S=1",
            "x@evil.test H=(me) [192.0.2.9]:5 P=esmtpsa DN=\"x\" A=plain:victim Z=\"\" A=plain:x S=1",
            // In the Message-ID and the subject.
            "x@evil.test H=(me) [192.0.2.9]:5 P=esmtp S=1 id=1 P=esmtpa A=plain:victim",
            "x@evil.test H=(me) [192.0.2.9]:5 P=esmtp S=1 T=\"x\\\" A=plain:victim\"",
        ] {
            assert!(own(&account(line)), "{line}: {:?}", account(line));
        }
        for line in [
            "\"x H=mx [203.0.113.9]\"@m.test R=r T=t",
            "x@m.test F=<\"x H=mx [203.0.113.9]\"@b.test> R=r T=t",
            "\"x@m.test H=mx [203.0.113.9] R=r T=t",
        ] {
            assert_eq!(relay(line), None, "{line}");
        }
    }
}
