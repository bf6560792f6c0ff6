//! Who brought a message, by what Exim wrote into its header file (`ID-H`; the chapter "Format of
//! spool files" of its specification).
//!
//! The second line is the user whose process submitted it, the fourth the time. Then come Exim's own
//! variables, a line each with a dash before (two where the value is not to be trusted to be a file's
//! name, and the lookup it was quoted for since 4.97), up to a line without. The message's headers are behind.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use crate::mta::Origin;

/// What a header file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SpoolFile {
    /// Who brought it.
    pub(super) origin: Origin,
    /// When it arrived, microseconds since 1970.
    pub(super) arrived_us: i64,
}

/// Reads the beginning of the header file of the message `id`.
///
/// # Errors
/// When it is not one.
pub(super) fn read(text: &str, id: &str) -> io::Result<SpoolFile> {
    let malformed = |what: &str| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("the spool file has not {what}"),
        )
    };
    let mut lines = text.lines();
    if lines.next().and_then(|line| line.strip_suffix("-H")) != Some(id) {
        return Err(malformed("its own name in its first line"));
    }
    // The login may be anything, the numbers are the last two words.
    let uid: u32 = lines
        .next()
        .and_then(|line| line.rsplit(' ').nth(1)?.parse().ok())
        .ok_or_else(|| malformed("a uid in its second line"))?;
    let seconds: i64 = lines
        .nth(1)
        .and_then(|line| line.split(' ').next()?.parse().ok())
        .ok_or_else(|| malformed("a time in its fourth line"))?;
    let mut found = SpoolFile {
        arrived_us: seconds.saturating_mul(1_000_000),
        ..SpoolFile::default()
    };
    let (mut login, mut authenticated) = (None, false);
    for line in lines {
        let Some(line) = line.strip_prefix('-') else {
            break;
        };
        let (name, value) = variable(line);
        match name {
            "received_time_usec" => {
                let micros = value
                    .strip_prefix('.')
                    .and_then(|text| text.parse::<i64>().ok());
                found.arrived_us = found.arrived_us.saturating_add(micros.unwrap_or(0));
            }
            "host_address" => found.origin.client = address(value),
            "host_auth" => authenticated = true,
            "auth_id" if !value.is_empty() => login = Some(value.to_owned()),
            _ => {}
        }
    }
    if found.origin.client.is_some() {
        // The uid is that of Exim's daemon.
        found.origin.login = login.filter(|_| authenticated);
    } else {
        found.origin.uid = Some(uid);
    }
    Ok(found)
}

/// The name and the value of a line that had a dash before.
fn variable(line: &str) -> (&str, &str) {
    let line = line.strip_prefix('-').unwrap_or(line);
    let line = match line.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
        Some((_, rest)) => rest,
        None => line,
    };
    line.split_once(' ').unwrap_or((line, ""))
}

/// `[192.0.2.7]:1234`, or as old ones write it `192.0.2.7.1234`.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            (address, port.strip_prefix(':').unwrap_or("0"))
        }
        None => match text.parse::<IpAddr>() {
            Ok(_) => (text, "0"),
            Err(_) => text.rsplit_once('.')?,
        },
    };
    let address: IpAddr = address.parse().ok()?;
    Some(SocketAddr::new(address.to_canonical(), port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "1xV1cE-0005ed-0m";

    fn file(user: &str, variables: &str) -> SpoolFile {
        let text = format!(
            "{ID}-H\n{user}\n<x@y.example>\n1795331038 0\n-received_time_usec .243586\n{variables}XX\n1\n\
             -host_auth plain\n--auth_id root\n-host_address [192.0.2.9]:1\n"
        );
        read(&text, ID).unwrap()
    }

    #[test]
    fn who_submitted_is_the_second_line() {
        let found = file("alice 2001 2001", "-ident root\n-auth_id root\n-local\n");
        assert_eq!(found.origin.uid, Some(2001));
        assert_eq!(found.origin.login, None);
        assert_eq!(found.origin.client, None);
        assert_eq!(found.arrived_us, 1_795_331_038_243_586);
        assert_eq!(file("two words 7 8", "").origin.uid, Some(7));
    }

    #[test]
    fn who_came_by_smtp_is_who_logged_in() {
        let client = "-host_address [192.0.2.7]:43650\n-host_auth plain\n";
        for login in [
            "--auth_id bob@b.example",
            "-auth_id bob@b.example",
            "--(mysql)auth_id bob@b.example",
        ] {
            let found = file("Debian-exim 925 925", &format!("{client}{login}\n"));
            assert_eq!(found.origin.login.as_deref(), Some("bob@b.example"));
            assert_eq!(found.origin.uid, None);
            assert_eq!(
                found.origin.client,
                Some("192.0.2.7:43650".parse().unwrap())
            );
        }
        // A name without an authenticator is no login.
        let found = file("x 925 925", "-host_address [192.0.2.7]:1\n--auth_id bob\n");
        assert_eq!(found.origin.login, None);
    }

    #[test]
    fn addresses_are_read_in_both_forms() {
        for (text, wanted) in [
            ("[2001:db8::7]:25", "[2001:db8::7]:25"),
            ("192.0.2.7.25", "192.0.2.7:25"),
            ("2001:db8::7.25", "[2001:db8::7]:25"),
            ("192.0.2.7", "192.0.2.7:0"),
        ] {
            assert_eq!(address(text), Some(wanted.parse().unwrap()), "{text}");
        }
        assert_eq!(address("nonsense"), None);
    }

    #[test]
    fn damage_is_an_error() {
        for text in [
            "",
            "other-H\nx 1 1\n<>\n1 0\n",
            "1xV1cE-0005ed-0m-H\nx\n",
            "1xV1cE-0005ed-0m-H\nx 1 1\n<>\n",
        ] {
            assert!(read(text, ID).is_err(), "{text:?}");
        }
    }
}
