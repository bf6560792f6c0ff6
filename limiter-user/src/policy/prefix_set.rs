//! Sets of prefixes, up to millions of them: sorted, a few bytes each, shared instead of copied.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// How many prefixes a debugging line shows.
const SHOWN: usize = 8;

/// A set of prefixes. Copies share their memory.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PrefixSet(Arc<Lists>);

/// Both families, each sorted by address and then by length, every prefix once.
#[derive(Default, PartialEq, Eq)]
struct Lists {
    v4: Vec<(u32, u8)>,
    v6: Vec<(u128, u8)>,
}

impl PrefixSet {
    /// The prefixes as they are, each once: those inside others too.
    #[must_use]
    pub fn of(prefixes: impl IntoIterator<Item = IpNet>) -> Self {
        let mut lists = Lists::default();
        for net in prefixes {
            match net {
                IpNet::V4(net) => lists.v4.push((net.network().to_bits(), net.prefix_len())),
                IpNet::V6(net) => lists.v6.push((net.network().to_bits(), net.prefix_len())),
            }
        }
        sort(&mut lists.v4);
        sort(&mut lists.v6);
        Self(Arc::new(lists))
    }

    /// The same addresses in as few of these prefixes as hold them: those inside others are left
    /// out.
    #[must_use]
    pub fn merged(prefixes: impl IntoIterator<Item = IpNet>) -> Self {
        let Self(lists) = Self::of(prefixes);
        let Lists { v4, v6 } = &*lists;
        Self(Arc::new(Lists {
            v4: without_inner(v4),
            v6: without_inner(v6),
        }))
    }

    /// How many prefixes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.v4.len() + self.0.v6.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.v4.is_empty() && self.0.v6.is_empty()
    }

    /// The IPv4 prefixes: first address and length.
    #[must_use]
    pub fn v4(&self) -> &[(u32, u8)] {
        &self.0.v4
    }

    /// The IPv6 prefixes: first address and length.
    #[must_use]
    pub fn v6(&self) -> &[(u128, u8)] {
        &self.0.v6
    }

    /// The prefixes, IPv4 before IPv6, by address.
    pub fn iter(&self) -> impl Iterator<Item = IpNet> {
        let v4 = self.0.v4.iter().map(|prefix| v4_net(*prefix));
        v4.chain(self.0.v6.iter().map(|prefix| v6_net(*prefix)))
    }

    /// The prefixes that `other` has not, as they are: one inside a prefix of `other` counts.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        Self(Arc::new(Lists {
            v4: minus(&self.0.v4, &other.0.v4),
            v6: minus(&self.0.v6, &other.0.v6),
        }))
    }

    /// Splits the prefixes into those for which `chosen` holds and the others.
    #[must_use]
    pub fn split(&self, chosen: impl Fn(IpNet) -> bool) -> (Self, Self) {
        let (yes, no): (Vec<IpNet>, Vec<IpNet>) = self.iter().partition(|net| chosen(*net));
        (Self::of(yes), Self::of(no))
    }

    /// The first prefix that has an address in common with `net`. For [`merged`](Self::merged)
    /// sets.
    #[must_use]
    pub fn overlapping(&self, net: IpNet) -> Option<IpNet> {
        match net {
            IpNet::V4(net) => {
                overlapping(&self.0.v4, (net.network().to_bits(), net.prefix_len())).map(v4_net)
            }
            IpNet::V6(net) => {
                overlapping(&self.0.v6, (net.network().to_bits(), net.prefix_len())).map(v6_net)
            }
        }
    }

    /// The prefix that holds `address`. For [`merged`](Self::merged) sets.
    #[must_use]
    pub fn holding(&self, address: IpAddr) -> Option<IpNet> {
        self.overlapping(IpNet::from(address))
    }

    /// Whether the prefixes together hold all of `net`. For [`merged`](Self::merged) sets.
    #[must_use]
    pub fn holds_all_of(&self, net: IpNet) -> bool {
        if self
            .overlapping(net)
            .is_some_and(|found| found.contains(&net))
        {
            return true;
        }
        // In units of one address; all of IPv6 is never asked for without its first bits.
        let size = |length: u8, most: u8| 1_u128 << (most - length).min(127);
        let most = net.max_prefix_len();
        let inside: u128 = self
            .iter()
            .filter(|inner| net.contains(inner))
            .map(|inner| size(inner.prefix_len(), most))
            .sum();
        inside == size(net.prefix_len(), most)
    }
}

/// An address as a number.
trait Bits: Copy + Ord {
    /// The last address of a prefix.
    fn last(self, length: u8) -> Self;
}

impl Bits for u32 {
    fn last(self, length: u8) -> Self {
        self | Self::MAX.checked_shr(u32::from(length)).unwrap_or(0)
    }
}

impl Bits for u128 {
    fn last(self, length: u8) -> Self {
        self | Self::MAX.checked_shr(u32::from(length)).unwrap_or(0)
    }
}

fn sort<T: Bits>(prefixes: &mut Vec<(T, u8)>) {
    if !prefixes.is_sorted() {
        prefixes.sort_unstable();
    }
    prefixes.dedup();
    prefixes.shrink_to_fit();
}

/// What is not inside a wider one. In a sorted list the wider stands before what is inside it.
fn without_inner<T: Bits>(sorted: &[(T, u8)]) -> Vec<(T, u8)> {
    let mut kept: Vec<(T, u8)> = Vec::with_capacity(sorted.len());
    for prefix in sorted {
        let inner = kept
            .last()
            .is_some_and(|(first, length)| prefix.0 <= first.last(*length));
        if !inner {
            kept.push(*prefix);
        }
    }
    kept
}

fn minus<T: Bits>(all: &[(T, u8)], other: &[(T, u8)]) -> Vec<(T, u8)> {
    let mut other = other.iter().peekable();
    let mut left = Vec::new();
    for prefix in all {
        while other.next_if(|known| *known < prefix).is_some() {}
        if other.peek() != Some(&prefix) {
            left.push(*prefix);
        }
    }
    left
}

fn overlapping<T: Bits>(merged: &[(T, u8)], (first, length): (T, u8)) -> Option<(T, u8)> {
    let after = merged.partition_point(|(start, _)| *start <= first);
    let before = after.checked_sub(1).and_then(|at| merged.get(at)).copied();
    if let Some((start, wide)) = before
        && first <= start.last(wide)
    {
        return Some((start, wide));
    }
    merged
        .get(after)
        .copied()
        .filter(|(start, _)| *start <= first.last(length))
}

fn v4_net((first, length): (u32, u8)) -> IpNet {
    let address = Ipv4Addr::from_bits(first);
    // The length came out of a prefix.
    IpNet::V4(Ipv4Net::new(address, length).unwrap_or_else(|_| Ipv4Net::from(address)))
}

fn v6_net((first, length): (u128, u8)) -> IpNet {
    let address = Ipv6Addr::from_bits(first);
    IpNet::V6(Ipv6Net::new(address, length).unwrap_or_else(|_| Ipv6Net::from(address)))
}

impl fmt::Debug for PrefixSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} prefixes ", self.len())?;
        f.debug_list().entries(self.iter().take(SHOWN)).finish()
    }
}

/// As a file keeps it: a text of hexadecimal digits for each family, ten for an IPv4 prefix
/// (address, length) and 34 for an IPv6 prefix. A million of them are one value, not a million.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Packed {
    v4: String,
    v6: String,
}

const V4_DIGITS: usize = 10;
const V6_DIGITS: usize = 34;

impl Serialize for PrefixSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use fmt::Write as _;
        let mut packed = Packed {
            v4: String::with_capacity(self.0.v4.len() * V4_DIGITS),
            v6: String::with_capacity(self.0.v6.len() * V6_DIGITS),
        };
        // Writing to a string cannot fail.
        for (first, length) in &self.0.v4 {
            let _ = write!(packed.v4, "{first:08x}{length:02x}");
        }
        for (first, length) in &self.0.v6 {
            let _ = write!(packed.v6, "{first:032x}{length:02x}");
        }
        packed.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for PrefixSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Packed { v4, v6 } = Packed::deserialize(deserializer)?;
        let unpacked = unpack(&v4, V4_DIGITS, 32, |first| {
            u32::from_str_radix(first, 16).ok()
        })
        .zip(unpack(&v6, V6_DIGITS, 128, |first| {
            u128::from_str_radix(first, 16).ok()
        }));
        let Some((mut v4, mut v6)) = unpacked else {
            return Err(D::Error::custom("a set of prefixes is damaged"));
        };
        sort(&mut v4);
        sort(&mut v6);
        Ok(Self(Arc::new(Lists { v4, v6 })))
    }
}

/// The prefixes in a packed text of `digits` each; `None` if it is none.
fn unpack<T>(
    text: &str,
    digits: usize,
    most: u8,
    first: impl Fn(&str) -> Option<T>,
) -> Option<Vec<(T, u8)>> {
    if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) || !text.len().is_multiple_of(digits) {
        return None;
    }
    let mut found = Vec::with_capacity(text.len() / digits);
    for start in (0..text.len()).step_by(digits) {
        let (address, length) = text.get(start..start + digits)?.split_at(digits - 2);
        let length = u8::from_str_radix(length, 16).ok()?;
        if length > most {
            return None;
        }
        found.push((first(address)?, length));
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn merged(texts: &[&str]) -> PrefixSet {
        PrefixSet::merged(texts.iter().map(|text| net(text)))
    }

    #[test]
    fn what_is_inside_another_goes() {
        let set = merged(&[
            "10.1.0.0/16",
            "10.0.0.0/8",
            "10.0.0.0/8",
            "10.255.255.255/32",
            "11.0.0.0/32",
            "2001:db8::/32",
            "2001:db8:7::/48",
        ]);
        let left: Vec<String> = set.iter().map(|net| net.to_string()).collect();
        assert_eq!(left, ["10.0.0.0/8", "11.0.0.0/32", "2001:db8::/32"]);
        assert_eq!(
            set.holding("10.9.9.9".parse().unwrap()),
            Some(net("10.0.0.0/8"))
        );
        assert_eq!(set.holding("11.0.0.1".parse().unwrap()), None);
        assert_eq!(set.overlapping(net("11.0.0.0/8")), Some(net("11.0.0.0/32")));
        assert_eq!(
            set.overlapping(net("2001:db8::1/128")),
            Some(net("2001:db8::/32"))
        );
        assert_eq!(set.overlapping(net("12.0.0.0/8")), None);
    }

    #[test]
    fn halves_are_the_whole() {
        let all = net("0.0.0.0/0");
        assert!(merged(&["0.0.0.0/1", "128.0.0.0/1"]).holds_all_of(all));
        assert!(merged(&["0.0.0.0/0"]).holds_all_of(all));
        assert!(!merged(&["0.0.0.0/1", "128.0.0.0/2"]).holds_all_of(all));
        let world = net("2000::/3");
        assert!(merged(&["2000::/4", "3000::/4"]).holds_all_of(world));
        assert!(merged(&["2000::/2"]).holds_all_of(world));
        assert!(!merged(&["2000::/4", "::/4"]).holds_all_of(world));
        assert!(!PrefixSet::default().holds_all_of(world));
    }

    #[test]
    fn damaged_texts_are_refused() {
        for text in [
            r#"{"v4":"cb007100","v6":""}"#,
            r#"{"v4":"cb00710021","v6":""}"#,
            r#"{"v4":"+b00710018","v6":""}"#,
            r#"{"v4":"€€€","v6":"00"}"#,
        ] {
            assert!(serde_json::from_str::<PrefixSet>(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn packing_loses_nothing(v4 in prop::collection::vec((any::<u32>(), 0_u8..=32), 0..50),
                                 v6 in prop::collection::vec((any::<u128>(), 0_u8..=128), 0..50)) {
            let nets = v4.iter().map(|(bits, length)| {
                IpNet::new(IpAddr::from(Ipv4Addr::from_bits(*bits)), *length).unwrap().trunc()
            }).chain(v6.iter().map(|(bits, length)| {
                IpNet::new(IpAddr::from(Ipv6Addr::from_bits(*bits)), *length).unwrap().trunc()
            }));
            let set = PrefixSet::of(nets);
            let text = serde_json::to_string(&set).unwrap();
            prop_assert_eq!(serde_json::from_str::<PrefixSet>(&text).unwrap(), set);
        }

        /// Small numbers, so that prefixes meet.
        #[test]
        fn as_the_slow_way_says(all in prop::collection::vec((0_u32..64, 26_u8..=32), 0..20),
                                other in prop::collection::vec((0_u32..64, 26_u8..=32), 0..20),
                                asked in (0_u32..64, 26_u8..=32)) {
            let nets = |list: &[(u32, u8)]| -> Vec<IpNet> {
                list.iter().map(|(bits, length)| v4_net((*bits, *length)).trunc()).collect()
            };
            let (all, other) = (nets(&all), nets(&other));
            let asked = nets(&[asked])[0];
            let set = PrefixSet::merged(all.clone());
            for host in 0..64 {
                let address = IpAddr::from(Ipv4Addr::from_bits(host));
                prop_assert_eq!(set.holding(address).is_some(),
                                all.iter().any(|net| net.contains(&address)));
            }
            let meets = |net: &IpNet| net.contains(&asked) || asked.contains(net);
            prop_assert_eq!(set.overlapping(asked).is_some(), all.iter().any(meets));
            let inside = (0..64).map(|host| IpAddr::from(Ipv4Addr::from_bits(host)))
                .filter(|address| asked.contains(address))
                .all(|address| set.holding(address).is_some());
            prop_assert_eq!(set.holds_all_of(asked), inside);
            let left = PrefixSet::of(all.clone()).minus(&PrefixSet::of(other.clone()));
            prop_assert_eq!(left, PrefixSet::of(all.into_iter().filter(|net| !other.contains(net))));
        }
    }
}
