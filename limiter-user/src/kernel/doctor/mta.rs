//! The node's own mail server: whom limiter takes for it, and whether it listens where `redirect`
//! would send.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

use super::Finding;
use crate::{
    policy::{self, compile::KNOWN_MTA_USERS, model::Places},
    system::users::lookup_name,
};

const AREA: &str = "MTA";
/// The contract's default of `mta.listen`.
const DEFAULT_LISTEN: [&str; 2] = ["127.0.0.1:25", "[::1]:25"];

pub(super) fn examine(places: &Places, findings: &mut Vec<Finding>) {
    let mta = configured(&places.config, findings);
    let (users, listen) = match mta {
        Some(mta) => (mta.users, mta.listen),
        None => (
            None,
            DEFAULT_LISTEN.iter().flat_map(|at| at.parse()).collect(),
        ),
    };
    findings.push(users_finding(users));
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
    let listeners: Vec<SocketAddr> = tables
        .iter()
        .flatten()
        .flat_map(|table| listeners(table))
        .collect();
    for wanted in listen {
        findings.push(if listeners.iter().any(|at| serves(*at, wanted)) {
            Finding::ok(AREA, format!("something listens on {wanted} (mta.listen)"))
        } else {
            Finding::warning(
                AREA,
                format!(
                    "nothing listens on {wanted} (mta.listen): redirected connections of that \
                     family are refused instead"
                ),
                "Start the mail server, have it listen there, or take it out of mta.listen.",
            )
        });
    }
}

/// What the configuration says of the MTA; none if there is no configuration or it has faults.
fn configured(config: &Path, findings: &mut Vec<Finding>) -> Option<policy::model::Mta> {
    if !config.exists() {
        return None;
    }
    let loaded = policy::load(config);
    if loaded.policy.is_none() {
        findings.push(Finding::warning(
            AREA,
            format!(
                "{} has faults; the defaults are assumed here",
                config.display()
            ),
            "See them: limiter check",
        ));
    }
    loaded.policy.map(|policy| policy.node.mta)
}

fn users_finding(named: Option<Vec<String>>) -> Finding {
    let by_default = named.is_none();
    let names = named.unwrap_or_else(|| {
        KNOWN_MTA_USERS
            .iter()
            .map(|name| (*name).to_owned())
            .collect()
    });
    let found: Vec<String> = names
        .iter()
        .filter_map(|name| lookup_name(name).ok().flatten())
        .map(|user| format!("{} (uid {})", user.name, user.uid))
        .collect();
    if !found.is_empty() {
        return Finding::ok(AREA, format!("runs as {}", found.join(", ")));
    }
    if by_default {
        return Finding::note(
            AREA,
            "no user of a known mail server exists: nobody is taken for the MTA, and whatever \
             sends mail here is a tenant's or nobody's",
            "If a mail server delivers from this node, name its user in mta.users.",
        );
    }
    Finding::warning(
        AREA,
        format!("none of mta.users exists: {}", names.join(", ")),
        "Correct mta.users, or mail that the MTA delivers is refused once limiter enforces.",
    )
}

/// Whether a listener at `at` takes connections to `wanted`.
fn serves(at: SocketAddr, wanted: SocketAddr) -> bool {
    let every = match at.ip() {
        IpAddr::V4(ip) => ip.is_unspecified() && wanted.is_ipv4(),
        // One on [::] takes IPv4 too, unless it was told not to, which is not to be seen here.
        IpAddr::V6(ip) => ip.is_unspecified(),
    };
    at.port() == wanted.port() && (every || at.ip().to_canonical() == wanted.ip())
}

/// The listening sockets in a table like `/proc/net/tcp`.
fn listeners(table: &str) -> Vec<SocketAddr> {
    const LISTEN: &str = "0A";
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let local = fields.next()?;
            (fields.nth(1)? == LISTEN).then_some(local)
        })
        .filter_map(address)
        .collect()
}

/// An address as the kernel prints it: words in the machine's own order, then the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::new();
    for at in (0..ip.len()).step_by(8) {
        let word = u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    let ip = match bytes.len() {
        4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        _ => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn sockets_that_listen_are_found() {
        let v4 = TcpListener::bind("127.0.0.1:0").unwrap();
        let v6 = TcpListener::bind("[::1]:0");
        let text = fs::read_to_string("/proc/net/tcp").unwrap();
        let found = listeners(&text);
        assert!(found.contains(&v4.local_addr().unwrap()), "{text}");
        if let Ok(v6) = v6 {
            let text = fs::read_to_string("/proc/net/tcp6").unwrap();
            assert!(
                listeners(&text).contains(&v6.local_addr().unwrap()),
                "{text}"
            );
        }
        drop(v4);
        for nonsense in [
            "",
            "x",
            "0100007F",
            "0100007F:zz",
            "01:0019",
            "0100007F0:0019",
        ] {
            assert_eq!(address(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn a_wildcard_serves_every_address() {
        let serves = |at: &str, wanted: &str| serves(at.parse().unwrap(), wanted.parse().unwrap());
        assert!(serves("0.0.0.0:25", "127.0.0.1:25"));
        assert!(serves("[::]:25", "[::1]:25") && serves("[::]:25", "127.0.0.1:25"));
        assert!(!serves("0.0.0.0:25", "[::1]:25"));
        assert!(!serves("127.0.0.1:587", "127.0.0.1:25"));
        assert!(!serves("192.0.2.1:25", "127.0.0.1:25"));
    }
}
