//! Lines of Exim's main log.

use std::net::IpAddr;

use jiff::Timestamp;

use super::{Account, Said, What, time};

/// Reads a line, if it says that a message came in or went out.
///
/// Quoted strings (a subject, the name in a certificate) are left out, and what stands behind `id=`
/// is not looked at: a sender chooses it.
pub(super) fn read(line: &str) -> Option<Said> {
    let (time, queue_id, rest) = head(line)?;
    let (arrow, rest) = rest.split_once(' ')?;
    let what = match arrow {
        "<=" => accepted(&without_quoted(rest)),
        "=>" | "->" => What::Delivered(host_address(&without_quoted(rest))),
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

fn accepted(rest: &str) -> What {
    let (account, message_id) = account(rest);
    What::Accepted {
        account,
        message_id,
    }
}

/// Who brought a message, and its Message-ID, by what stands behind `<=` without quoted strings.
pub(crate) fn account(rest: &str) -> (Option<Account>, Option<String>) {
    let (known, chosen) = match rest.split_once(" id=") {
        Some((known, chosen)) => (known, Some(chosen)),
        None => (rest, None),
    };
    // The first word is the sender's address.
    let words = || known.split(' ').skip(1);
    let word = |key: &str| words().find_map(|word| word.strip_prefix(key));
    let local = word("P=").is_some_and(|protocol| protocol.starts_with("local"));
    let account = if let Some(login) = word("A=") {
        login
            .split_once(':')
            .map(|(_, login)| Account::Login(login.to_owned()))
    } else if local && word("H=").is_none() {
        word("U=").map(|user| Account::User(user.to_owned()))
    } else {
        // `U=` of a remote client is what that client says.
        host_address(known)
            .filter(|address| !address.is_loopback())
            .map(Account::Address)
    };
    let message_id = chosen.and_then(|chosen| chosen.split(' ').next());
    (account, message_id.map(str::to_owned))
}

/// The address in `H=name (helo) [192.0.2.1]:25`: the last word in brackets before the protocol.
pub(crate) fn host_address(rest: &str) -> Option<IpAddr> {
    let before = rest.split(" P=").next().unwrap_or(rest);
    let (_, host) = before.split_once(" H=")?;
    let words = host
        .split(' ')
        .take_while(|word| !word.contains('=') || word.starts_with('('));
    let bracketed = words.filter_map(|word| {
        let inner = word.strip_prefix('[')?;
        inner.split(']').next()?.parse::<IpAddr>().ok()
    });
    bracketed.last().map(|address| address.to_canonical())
}

/// `text` without what stands in double quotes.
pub(crate) fn without_quoted(text: &str) -> String {
    let mut bare = String::with_capacity(text.len());
    let (mut quoted, mut escaped) = (false, false);
    for c in text.chars() {
        if std::mem::take(&mut escaped) {
            continue;
        }
        match c {
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            c if !quoted => bare.push(c),
            _ => {}
        }
    }
    bare
}
