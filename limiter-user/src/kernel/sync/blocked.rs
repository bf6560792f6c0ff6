//! The blocked prefixes, up to millions: only what changed is written, and what is blocked before
//! and after is blocked all the while.
//!
//! First the bits of the filter, then the new prefixes, then the old ones go, then their bits: a
//! program that reads in between finds either the old entry or the new one. What it looks up once
//! it may look up in an order of its own, so it is waited for before the old ones go.

use std::net::IpAddr;

use ipnet::IpNet;
use limiter_common::{
    address::{self, Address},
    blocked::{SHORT_V6_WORD, SHORTEST_V6, WORDS, v4_bit, v6_bit},
};

use super::Mirror;
use crate::{
    kernel::{Kernel, KernelError, identities::wire_net, maps::Maps, sys},
    policy::prefix_set::PrefixSet,
};

/// The length from which an IPv4 prefix has a bit of its own in the filter.
const V4_BITS: u8 = 24;
/// The same for IPv6.
const V6_BITS: u8 = 32;
/// How many bits short IPv6 prefixes are spread over in all; more would fill the filter anyway.
const MOST_SPREAD: u64 = 1 << 22;
/// The value of every entry.
const BLOCKED: u32 = 1;

/// What stands in the kernel.
#[derive(Debug)]
pub(super) struct Known {
    prefixes: PrefixSet,
    filter: Vec<u64>,
    /// Whether the filter is known to be that of the prefixes.
    exact: bool,
}

/// What is to be done.
#[derive(Debug)]
pub(super) struct Plan {
    wanted: PrefixSet,
    /// Gone before anything is written, because there is no room for it beside the new ones:
    /// what has no address in common with what is wanted.
    early: PrefixSet,
    new: PrefixSet,
    gone: PrefixSet,
}

impl Mirror {
    /// What has to be done so that the kernel holds `wanted`; none if it holds it.
    ///
    /// # Errors
    ///
    /// The maps cannot be read, or old and new do not fit side by side as far as they must.
    pub(super) fn plan_blocked(
        &mut self,
        wanted: &PrefixSet,
        maps: &Maps,
    ) -> Result<Option<Plan>, KernelError> {
        let known = match self.blocked.take() {
            Some(known) => known,
            None => Known::read(maps)?,
        };
        let known = self.blocked.insert(known);
        if known.prefixes == *wanted {
            known.exact = known.exact || known.filter == filter_of(wanted);
            if known.exact {
                return Ok(None);
            }
            // An agent that was killed left bits behind.
            return Ok(Some(Plan {
                wanted: wanted.clone(),
                early: PrefixSet::default(),
                new: PrefixSet::default(),
                gone: PrefixSet::default(),
            }));
        }
        let room = maps.blocked.room();
        let new = wanted.minus(&known.prefixes);
        let mut gone = known.prefixes.minus(wanted);
        let mut early = PrefixSet::default();
        if known.prefixes.len() + new.len() > room {
            (gone, early) = gone.split(|net| wanted.overlapping(net).is_some());
        }
        let needed = known.prefixes.len() - early.len() + new.len();
        if needed > room {
            return Err(KernelError::NoRoom {
                what: "blocked prefixes, old and new side by side,",
                needed,
                room,
            });
        }
        Ok(Some(Plan {
            wanted: wanted.clone(),
            early,
            new,
            gone,
        }))
    }

    /// Carries out a plan. Returns how many entries were written or removed.
    ///
    /// # Errors
    ///
    /// The kernel refuses; the next pass looks what stands there and goes on.
    pub(super) fn write_blocked(
        &mut self,
        plan: Plan,
        kernel: &mut Kernel,
    ) -> Result<usize, KernelError> {
        let maps = &mut kernel.maps;
        // Unknown until all of it is written.
        let mut filter = match self.blocked.take() {
            Some(known) => known.filter,
            None => maps.blocked_filter.all()?,
        };
        let Plan {
            wanted,
            early,
            new,
            gone,
        } = plan;
        let touched = early.len() + new.len() + gone.len();
        let exact = filter_of(&wanted);
        let both: Vec<u64> = filter.iter().zip(&exact).map(|(a, b)| a | b).collect();
        maps.blocked.remove_many(&keys(&early))?;
        write_filter(&mut filter, &both, maps)?;
        maps.blocked.insert_many(&keys(&new), BLOCKED)?;
        if !gone.is_empty() {
            if !new.is_empty() {
                sys::let_programs_finish();
            }
            maps.blocked.remove_many(&keys(&gone))?;
        }
        write_filter(&mut filter, &exact, maps)?;
        self.blocked = Some(Known {
            prefixes: wanted,
            filter,
            exact: true,
        });
        Ok(touched)
    }
}

impl Known {
    /// What stands in maps that nothing was written to.
    pub(super) fn nothing() -> Self {
        let prefixes = PrefixSet::default();
        Self {
            filter: filter_of(&prefixes),
            prefixes,
            exact: true,
        }
    }

    fn read(maps: &Maps) -> Result<Self, KernelError> {
        let entries = maps.blocked.entries()?;
        let prefixes = entries
            .into_iter()
            .filter_map(|(bits, data, _)| net_of(bits, data));
        Ok(Self {
            prefixes: PrefixSet::of(prefixes),
            filter: maps.blocked_filter.all()?,
            exact: false,
        })
    }
}

/// Writes the words of the filter that differ.
fn write_filter(now: &mut Vec<u64>, wanted: &[u64], maps: &mut Maps) -> Result<(), KernelError> {
    let differ: Vec<(u32, u64)> = (0_u32..)
        .zip(now.iter().zip(wanted))
        .filter(|(_, (now, wanted))| now != wanted)
        .map(|(index, (_, wanted))| (index, *wanted))
        .collect();
    maps.blocked_filter.set_many(&differ)?;
    now.clear();
    now.extend_from_slice(wanted);
    Ok(())
}

/// The keys of prefixes: length in bits and address.
fn keys(set: &PrefixSet) -> Vec<(u32, Address)> {
    set.iter().map(wire_net).collect()
}

/// The prefix behind a key; none for what this agent does not write.
fn net_of(bits: u32, data: Address) -> Option<IpNet> {
    let (address, length) = match address::as_v4(&data) {
        Some(octets) if bits >= 96 => (IpAddr::from(octets), bits - 96),
        _ => (IpAddr::from(data), bits),
    };
    IpNet::new(address, u8::try_from(length).ok()?).ok()
}

/// The filter that lets everything through to the prefixes that can match them.
fn filter_of(set: &PrefixSet) -> Vec<u64> {
    let words = usize::try_from(WORDS).unwrap_or(0);
    let mut filter = vec![0_u64; words];
    let mut set_bit = |word: u32, mask: u64| {
        if let Some(place) = usize::try_from(word).ok().and_then(|at| filter.get_mut(at)) {
            *place |= mask;
        }
    };
    for (first, length) in set.v4() {
        let start = first >> (32 - V4_BITS);
        let count = 1_u32 << V4_BITS.saturating_sub(*length);
        for network in start..start + count {
            let bit = v4_bit(network);
            set_bit(bit.word, bit.mask);
        }
    }
    let spread: u64 = set
        .v6()
        .iter()
        .filter(|(_, length)| (SHORTEST_V6..V6_BITS).contains(length))
        .map(|(_, length)| 1_u64 << (V6_BITS - length))
        .sum();
    for (first, length) in set.v6() {
        let short = *length < SHORTEST_V6 || (*length < V6_BITS && spread > MOST_SPREAD);
        if short {
            set_bit(SHORT_V6_WORD, 1);
            continue;
        }
        // The upper 32 of 128 bits.
        let start = u32::try_from(first >> (128 - u32::from(V6_BITS))).unwrap_or(0);
        let count = 1_u32 << V6_BITS.saturating_sub(*length);
        for offset in 0..count {
            let bit = v6_bit(start.wrapping_add(offset));
            set_bit(bit.word, bit.mask);
        }
    }
    filter
}

#[cfg(test)]
mod tests {
    use limiter_common::blocked::bit_of;
    use proptest::prelude::*;

    use super::*;
    use crate::kernel::identities::wire_address;

    fn passes(filter: &[u64], address: IpAddr) -> bool {
        let (bit, v6) = bit_of(&wire_address(address));
        let word = |at: u32| filter[usize::try_from(at).unwrap()];
        word(bit.word) & bit.mask != 0 || (v6 && word(SHORT_V6_WORD) != 0)
    }

    fn set(texts: &[&str]) -> PrefixSet {
        PrefixSet::merged(texts.iter().map(|text| text.parse().unwrap()))
    }

    #[test]
    fn only_neighbours_pass_the_filter_for_nothing() {
        let filter = filter_of(&set(&["203.0.113.7/32", "198.18.0.0/15", "2001:db8::/32"]));
        for inside in [
            "203.0.113.7",
            "203.0.113.9",
            "198.19.255.1",
            "2001:db8:ffff::1",
        ] {
            assert!(passes(&filter, inside.parse().unwrap()), "{inside}");
        }
        for outside in ["203.0.112.7", "198.20.0.0", "198.17.255.255", "2001:db9::1"] {
            assert!(!passes(&filter, outside.parse().unwrap()), "{outside}");
        }
        assert!(
            filter_of(&PrefixSet::default())
                .iter()
                .all(|word| *word == 0)
        );
    }

    #[test]
    fn short_prefixes_of_ipv6_let_all_of_it_through() {
        for texts in [&["4000::/2"][..], &["2001::/16", "3000::/15"]] {
            let filter = filter_of(&set(texts));
            assert!(texts.iter().all(|text| {
                let net: IpNet = text.parse().unwrap();
                passes(&filter, net.network()) && passes(&filter, net.broadcast())
            }));
        }
        assert!(!passes(
            &filter_of(&set(&["2001::/16"])),
            "2002::1".parse().unwrap()
        ));
        let many: Vec<IpNet> = (0_u16..100)
            .map(|n| IpNet::new(IpAddr::from([0x2000 + n, 0, 0, 0, 0, 0, 0, 0]), 16).unwrap())
            .collect();
        let filter = filter_of(&PrefixSet::merged(many));
        assert!(passes(&filter, "2042:9::1".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn a_key_is_its_prefix(v4 in any::<u32>(), bits in 0_u8..=32, v6 in any::<u128>(), long in 0_u8..=128) {
            for net in [
                IpNet::new(IpAddr::from(v4.to_be_bytes()), bits).unwrap().trunc(),
                IpNet::new(IpAddr::from(v6.to_be_bytes()), long).unwrap().trunc(),
            ] {
                let (bits, data) = wire_net(net);
                prop_assert_eq!(net_of(bits, data), Some(net));
                prop_assert!(passes(&filter_of(&PrefixSet::merged([net])), net.network()));
            }
        }
    }
}
