//! What connect says to the uplink of a connection on its way: that it was judged, and who paid.

use crate::assert_layout;

/// How many marks there are. A place is taken for the moment between connect and the first packet.
pub const MARKS: u32 = 4096;
/// For how long a mark that nobody took holds its place, ns. A first packet that waits longer, for a
/// neighbour's address, is sent together with its repetition, which needs none.
pub const FRESH_NS: u64 = 5_000_000_000;

/// A connection that connect let go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Mark {
    /// The cookie of its socket, which no other ever has; 0 for none.
    pub cookie: u64,
    /// When connect judged it, ns of the kernel's clock.
    pub since_ns: u64,
    /// Who paid for it; [`NOBODY`](crate::abi::NOBODY) where nothing is to be told of it any more.
    pub tenant: u32,
    /// 1 once the uplink has seen it: another may have the place.
    pub taken: u32,
}
assert_layout!(Mark, 24, 8);

/// The place of a socket's mark. Cookies are given out one after the other.
#[must_use]
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "masked")]
pub const fn place_of(cookie: u64) -> u32 {
    cookie as u32 & (MARKS - 1)
}

impl Mark {
    /// Whether the socket with this cookie may leave its mark here at `now_ns`.
    #[must_use]
    #[inline(always)]
    pub const fn gives_way_to(&self, cookie: u64, now_ns: u64) -> bool {
        self.taken != 0
            || self.cookie == 0
            || self.cookie == cookie
            || now_ns.wrapping_sub(self.since_ns) >= FRESH_NS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_held_until_it_is_taken_or_forgotten() {
        let mark = Mark {
            cookie: 7,
            since_ns: 100,
            tenant: 3,
            taken: 0,
        };
        assert!(Mark::default().gives_way_to(7, 0), "nobody's");
        assert!(mark.gives_way_to(7, 101), "its own");
        assert!(!mark.gives_way_to(8, 101), "on its way");
        assert!(!mark.gives_way_to(8, 99 + FRESH_NS));
        assert!(mark.gives_way_to(8, 100 + FRESH_NS));
        assert!(Mark { taken: 1, ..mark }.gives_way_to(8, 101));
    }

    #[test]
    fn neighbouring_cookies_have_places_of_their_own() {
        let places: std::collections::BTreeSet<u32> =
            (1..=u64::from(MARKS)).map(place_of).collect();
        assert_eq!(places.len(), MARKS as usize);
        assert!(places.iter().all(|place| *place < MARKS));
    }
}
