//! Addresses, prefixes and sockets as the files write them.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::item::{Parsed, Scalar, refuse};

/// How many bits of a v4-mapped IPv6 address are not the IPv4 address.
const MAPPED_BITS: u8 = 96;

/// An address, IPv4 also where it is written as IPv6 (`::ffff:203.0.113.7`).
pub(super) fn address(scalar: Scalar<'_>) -> Parsed<IpAddr> {
    match scalar.text.parse::<IpAddr>() {
        Ok(address) if address.is_unspecified() => refuse(
            "is no address of a host",
            "an address such as 203.0.113.7 or 2001:db8::7",
        ),
        Ok(address) => Ok(address.to_canonical()),
        Err(_) => refuse(
            "is not an address",
            "an address such as 203.0.113.7 or 2001:db8::7",
        ),
    }
}

/// A prefix without host bits, or an address as the prefix of one.
pub(super) fn prefix(scalar: Scalar<'_>) -> Parsed<IpNet> {
    let allowed = "an address or a prefix, such as 203.0.113.7, 203.0.113.0/24 or 2001:db8:7::/64";
    let (text, length) = match scalar.text.split_once('/') {
        Some((text, length)) => (text, Some(length)),
        None => (scalar.text, None),
    };
    let Ok(address) = text.parse::<IpAddr>() else {
        return refuse("is neither an address nor a prefix", allowed);
    };
    let most = if address.is_ipv4() { 32 } else { 128 };
    let length = match length {
        None => most,
        Some(digits) => {
            let number = digits
                .parse::<u8>()
                .ok()
                .filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()));
            match number {
                Some(number) if number <= most => number,
                _ => {
                    return refuse(
                        "has an impossible length",
                        format!("a length from 0 to {most} after the `/`"),
                    );
                }
            }
        }
    };
    let Ok(net) = IpNet::new(address, length) else {
        return refuse("has an impossible length", allowed);
    };
    if net.trunc() != net {
        return refuse(
            format!("has bits set beyond its length of {length}"),
            format!("{}, or {address} for the one address", net.trunc()),
        );
    }
    if let IpNet::V6(v6) = net
        && v6.prefix_len() < MAPPED_BITS
        && v6.contains(&MAPPED)
    {
        return refuse(
            "holds all IPv4 addresses too, in their form inside IPv6",
            "0.0.0.0/0 for all of IPv4 and 2000::/3 for IPv6 as the world uses it",
        );
    }
    Ok(folded(net))
}

/// The first of the IPv4 addresses inside IPv6.
const MAPPED: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0);

/// The IPv4 prefix where `net` holds v4-mapped addresses only: the kernel sees them as IPv4.
fn folded(net: IpNet) -> IpNet {
    if let IpNet::V6(v6) = net
        && v6.prefix_len() >= MAPPED_BITS
        && let Some(v4) = v6.addr().to_ipv4_mapped()
        && let Ok(v4) = Ipv4Net::new(v4, v6.prefix_len() - MAPPED_BITS)
    {
        return IpNet::V4(v4);
    }
    net
}

/// All addresses of each family that the world uses.
pub(super) const WORLD: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)),
    IpNet::V6(Ipv6Net::new_assert(
        Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0),
        3,
    )),
];

/// The prefix, unless it holds the whole internet.
pub(super) fn not_everything(net: IpNet) -> Parsed<IpNet> {
    if WORLD.iter().any(|world| net.contains(world)) {
        return refuse(
            "holds the whole internet",
            "prefixes that leave something out",
        );
    }
    Ok(net)
}

/// A prefix that can be a tenant's: of addresses that hosts have.
pub(super) fn tenant_prefix(scalar: Scalar<'_>) -> Parsed<IpNet> {
    let net = prefix(scalar).and_then(not_everything)?;
    let first = net.network();
    if first.is_loopback() || first.is_multicast() || first.is_unspecified() {
        return refuse(
            "holds addresses that are nobody's: loopback, multicast or unspecified",
            "addresses and prefixes that the tenant sends from",
        );
    }
    Ok(net)
}

/// A prefix, or the path of a file of prefixes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PrefixOrFile {
    /// A prefix.
    Prefix(IpNet),
    /// A path, as it is written.
    File(PathBuf),
}

/// A prefix, or the path of a file of prefixes. What looks like an address must be one.
pub(super) fn prefix_or_file(scalar: Scalar<'_>) -> Parsed<PrefixOrFile> {
    let text = scalar.text;
    let before = text.split('/').next().unwrap_or_default();
    let numeric = |c: char| c.is_ascii_digit() || matches!(c, '.' | ':');
    if before.contains(':') || (!before.is_empty() && before.chars().all(numeric)) {
        // `./list` and `../list` are paths.
        if !before.chars().all(|c| c == '.') {
            return prefix(scalar).map(PrefixOrFile::Prefix);
        }
    }
    if text.is_empty() || text.contains(char::is_control) {
        return refuse(
            "is neither a prefix nor a path",
            "a prefix such as 203.0.113.0/24, or the path of a file of prefixes",
        );
    }
    Ok(PrefixOrFile::File(PathBuf::from(text)))
}

/// An address and a port that something can listen on.
pub(super) fn socket(scalar: Scalar<'_>) -> Parsed<SocketAddr> {
    let allowed = "an address and a port, such as 127.0.0.1:25 or \"[::1]:25\"";
    let Ok(socket) = scalar.text.parse::<SocketAddr>() else {
        return refuse("is not an address and a port", allowed);
    };
    if socket.port() == 0 {
        return refuse("has port 0", "a port from 1 to 65535");
    }
    Ok(SocketAddr::new(socket.ip().to_canonical(), socket.port()))
}

/// Where connections can be redirected to: an address of one host.
pub(super) fn listener(scalar: Scalar<'_>) -> Parsed<SocketAddr> {
    let socket = socket(scalar)?;
    let ip = socket.ip();
    let broadcast = ip == IpAddr::from([255, 255, 255, 255]);
    if ip.is_unspecified() || ip.is_multicast() || broadcast {
        return refuse(
            "cannot be connected to",
            "the loopback address or one of this node's own, such as 127.0.0.1:25",
        );
    }
    Ok(socket)
}

/// `unix:/path`, or an address and a port.
pub(super) fn metrics(scalar: Scalar<'_>, allowed: &'static str) -> Parsed<()> {
    if let Some(path) = scalar.text.strip_prefix("unix:") {
        if path.is_empty() || path.contains(char::is_control) {
            return refuse("names no socket", allowed);
        }
        return Ok(());
    }
    match socket(scalar) {
        Ok(_) => Ok(()),
        Err(refusal) => refuse(refusal.what, allowed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> Scalar<'_> {
        Scalar { text, plain: true }
    }

    #[test]
    fn prefixes() {
        for (text, net) in [
            ("203.0.113.7", "203.0.113.7/32"),
            ("203.0.113.0/24", "203.0.113.0/24"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:db8:7::/64", "2001:db8:7::/64"),
            ("2001:db8::7", "2001:db8::7/128"),
            ("::ffff:203.0.113.0/120", "203.0.113.0/24"),
        ] {
            assert_eq!(prefix(plain(text)), Ok(net.parse().unwrap()), "{text}");
        }
        for text in [
            "",
            "203.0.113",
            "203.0.113.0/33",
            "203.0.113.0/",
            "203.0.113.0/+8",
            "2001:db8::/129",
            "010.0.0.1",
            "fe80::1%eth0",
            "203.0.113.0/24/24",
            "256.0.0.1",
        ] {
            assert!(prefix(plain(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn host_bits_name_the_right_prefix() {
        let refusal = prefix(plain("203.0.113.7/24")).unwrap_err();
        assert!(refusal.allowed.contains("203.0.113.0/24"), "{refusal:?}");
        let refusal = prefix(plain("2001:db8:7::1/64")).unwrap_err();
        assert!(refusal.allowed.contains("2001:db8:7::/64"), "{refusal:?}");
    }

    #[test]
    fn sockets() {
        assert_eq!(
            listener(plain("127.0.0.1:25")),
            Ok("127.0.0.1:25".parse().unwrap())
        );
        assert_eq!(listener(plain("[::1]:25")), Ok("[::1]:25".parse().unwrap()));
        for text in [
            "127.0.0.1",
            ":25",
            "127.0.0.1:0",
            "127.0.0.1:65536",
            "::1:25",
        ] {
            assert!(listener(plain(text)).is_err(), "{text}");
        }
        assert!(listener(plain("0.0.0.0:25")).is_err());
        assert!(listener(plain("[::]:25")).is_err());
        assert!(listener(plain("224.0.0.1:25")).is_err());
        assert!(metrics(plain("unix:/run/a.sock"), "").is_ok());
        assert!(metrics(plain("127.0.0.1:9477"), "").is_ok());
        assert!(metrics(plain("unix:"), "").is_err());
    }

    #[test]
    fn blocked_entries_are_prefixes_or_files() {
        for text in [
            "203.0.113.0/24",
            "2001:db8::/32",
            "drop.txt",
            "../lists/drop.txt",
            "/a",
        ] {
            assert!(prefix_or_file(plain(text)).is_ok(), "{text}");
        }
        for text in ["203.0.113.0/33", "2001:db8::/129", "203.0.113", ""] {
            assert!(prefix_or_file(plain(text)).is_err(), "{text}");
        }
    }
}
