//! What the kernel's messages say, and what is no message.

use proptest::prelude::*;

use super::{
    super::{
        netlink::{Attributes, Cut, Messages},
        snapshot::{is_outward, link},
    },
    *,
};

/// An attribute, with its padding.
fn attribute(number: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = u16::try_from(4 + value.len())
        .unwrap()
        .to_ne_bytes()
        .to_vec();
    bytes.extend(number.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// What follows the header of a message about an interface.
fn about(device: u16, index: u32, attributes: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![0; 2];
    bytes.extend(device.to_ne_bytes());
    bytes.extend(index.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend(attributes.concat());
    bytes
}

fn kind(name: &str, device: u16) -> (Kind, bool) {
    let info = attribute(18, &attribute(1, name.as_bytes()));
    let found = link(&about(device, 5, &[attribute(3, b"x0\0"), info])).unwrap();
    (found.kind, found.is_ethernet)
}

/// A route's family, prefix, type and flags.
fn route(family: u8, length: u8, kind: u8, flags: u32, destination: &[u8]) -> Vec<u8> {
    let mut bytes = vec![family, length, 0, 0, 0, 0, 0, kind];
    bytes.extend(flags.to_ne_bytes());
    if !destination.is_empty() {
        bytes.extend(attribute(1, destination));
    }
    bytes
}

#[test]
fn kinds_that_this_kernel_may_not_have() {
    for (name, device, expected) in [
        ("vlan", 1, (Kind::Vlan, true)),
        ("bond", 1, (Kind::Bond, true)),
        ("team", 1, (Kind::Team, true)),
        ("dummy", 1, (Kind::Dummy, true)),
        ("vrf", 1, (Kind::Vrf, true)),
        ("netkit", 1, (Kind::Netkit, true)),
        ("ipvlan", 1, (Kind::Ipvlan, true)),
        ("ipvtap", 1, (Kind::Macvtap, true)),
        ("openvswitch", 1, (Kind::OpenVswitch, true)),
        ("tun", 65_534, (Kind::Tun, false)),
        (
            "wireguard",
            65_534,
            (Kind::Tunnel("wireguard".into()), false),
        ),
        ("ipip", 768, (Kind::Tunnel("ipip".into()), false)),
        ("sit", 776, (Kind::Tunnel("sit".into()), false)),
        ("gre", 778, (Kind::Tunnel("gre".into()), false)),
        ("gretap", 1, (Kind::Tunnel("gretap".into()), true)),
        ("ppp", 512, (Kind::Tunnel("ppp".into()), false)),
        ("new-thing", 1, (Kind::Other("new-thing".into()), true)),
    ] {
        assert_eq!(kind(name, device), expected, "{name}");
    }
    let plain = |device| {
        link(&about(device, 5, &[attribute(3, b"eth0\0")]))
            .unwrap()
            .kind
    };
    assert_eq!((plain(1), plain(772)), (Kind::Physical, Kind::Loopback));
}

#[test]
fn an_odd_attribute_hides_nothing_else() {
    let odd = [
        // Not six bytes: a hardware address as InfiniBand has it.
        attribute(1, &[7; 20]),
        // Too short for a number.
        attribute(10, &[1]),
        // Marked as nested, and of a kind that does not exist yet.
        attribute(0x8000 | 999, &[1, 2, 3]),
        attribute(3, b"ib0\0"),
    ];
    let found = link(&about(32, 5, &odd)).unwrap();
    assert_eq!(
        (found.name.as_str(), found.mac, found.master),
        ("ib0", None, None)
    );
    assert!(!found.is_ethernet);
    // Without a name or an index it is no interface.
    assert_eq!(link(&about(1, 5, &[])), None);
    assert_eq!(link(&about(1, 0, &[attribute(3, b"x\0")])), None);
    // The other end's number counts here only if the other end is here: whichever comes first.
    for attributes in [
        [
            attribute(5, &9_u32.to_ne_bytes()),
            attribute(37, &[0; 4]),
            attribute(3, b"v\0"),
        ],
        [
            attribute(37, &[0; 4]),
            attribute(5, &9_u32.to_ne_bytes()),
            attribute(3, b"v\0"),
        ],
    ] {
        assert_eq!(link(&about(1, 5, &attributes)).unwrap().lower, None);
    }
}

#[test]
fn which_routes_lead_to_the_world() {
    for (bytes, expected) in [
        (route(2, 0, 1, 0, &[]), true),
        (route(10, 0, 1, 0, &[]), true),
        (route(2, 1, 1, 0, &[128, 0, 0, 0]), true),
        (route(10, 3, 1, 0, &[0x20; 16]), true),
        (route(2, 4, 1, 0, &[224, 0, 0, 0]), false),
        (route(2, 8, 1, 0, &[10, 0, 0, 0]), false),
        (route(10, 7, 1, 0, &[0xfc; 16]), false),
        // Unreachable; learnt about one destination; another family.
        (route(2, 0, 7, 0, &[]), false),
        (route(10, 0, 1, 0x200, &[]), false),
        (route(28, 0, 1, 0, &[]), false),
        (vec![2, 0, 0], false),
    ] {
        assert_eq!(is_outward(&bytes), expected, "{bytes:?}");
    }
}

proptest! {
    #[test]
    fn nonsense_ends(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut cut = 0;
        for message in Messages(&bytes) {
            prop_assert_eq!(cut, 0, "what is cut is the last");
            match message {
                Ok(message) => {
                    let _ = link(message.body);
                    let _ = is_outward(message.body);
                }
                Err(Cut) => cut += 1,
            }
        }
        prop_assert!(Attributes(&bytes).count() <= bytes.len() / 4);
        let _ = link(&bytes);
        let _ = is_outward(&bytes);
    }

    #[test]
    fn attributes_come_out_as_they_went_in(
        values in proptest::collection::vec(
            (0_u16..0x4000, proptest::collection::vec(any::<u8>(), 0..20)), 0..8)
    ) {
        let bytes: Vec<u8> = values.iter().flat_map(|(n, value)| attribute(*n, value)).collect();
        let read: Vec<(u16, Vec<u8>)> =
            Attributes(&bytes).map(|(n, value)| (n, value.to_vec())).collect();
        prop_assert_eq!(read, values);
    }
}
