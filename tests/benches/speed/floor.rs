//! The least that any program costs: one that does nothing, and one that only touches what has to be touched,
//! the account of the uid and a state of its own.

use std::os::fd::{AsRawFd as _, OwnedFd};

use crate::{
    accounts::Accounts,
    contender::Contender,
    foreign::{self, CONNECT4, CONNECT6, SOCK_ADDR},
    net::{Bench, Net},
};

/// The one that does nothing.
pub const EMPTY: &str = "empty program";
/// The one that touches what has to be touched.
pub const COLD: &str = "empty program, cold maps";

/// Bytes of a state.
const STATE: u32 = 64;

/// It says yes.
pub fn empty(bench: &Bench) -> Contender {
    let pair = [CONNECT4, CONNECT6].map(|hook| foreign::program_for(SOCK_ADDR, hook, 1));
    let programs = (pair, Box::new(()) as _);
    Contender::at_connect(EMPTY, bench, Net::new(), false, programs)
}

/// It looks the uid up in an array, and counts in the state that this names.
pub fn cold(bench: &Bench, accounts: Accounts) -> Contender {
    let last = accounts.uids().last().unwrap();
    let places = foreign::array(4, last + 1);
    let states = foreign::array(STATE, u32::try_from(accounts.count).unwrap());
    for (place, uid) in accounts.uids().enumerate() {
        let place = u32::try_from(place).unwrap();
        foreign::put(&places, uid, &place.to_ne_bytes());
    }
    // They hold the maps.
    let code = code(&places, &states);
    let pair = [CONNECT4, CONNECT6].map(|hook| foreign::load(SOCK_ADDR, hook, &code));
    Contender::at_connect(COLD, bench, Net::new(), false, (pair, Box::new(())))
}

/// `*states[*places[uid]] += 1; return 1`
fn code(places: &OwnedFd, states: &OwnedFd) -> Vec<u64> {
    // Operation, registers (destination, source), offset, value.
    let insn = |op: u64, dst: u64, src: u64, off: i16, imm: i32| {
        op | dst << 8
            | src << 12
            | u64::from(off.cast_unsigned()) << 16
            | u64::from(imm.cast_unsigned()) << 32
    };
    let call = |helper| insn(0x85, 0, 0, 0, helper);
    let map = |register, map: &OwnedFd| {
        // BPF_PSEUDO_MAP_FD
        [insn(0x18, register, 1, 0, map.as_raw_fd()), 0]
    };
    let look_up = |in_map: &OwnedFd| {
        let [first, second] = map(1, in_map);
        [
            // *(u32 *)(r10 - 4) = r0
            insn(0x63, 10, 0, -4, 0),
            // r2 = r10 - 4
            insn(0xbf, 2, 10, 0, 0),
            insn(0x07, 2, 0, 0, -4),
            first,
            second,
            call(1),
        ]
    };
    let mut code = vec![call(15)];
    code.extend(look_up(places));
    // If there is none, to the end: over the load, six of looking up, and three.
    code.push(insn(0x15, 0, 0, 10, 0));
    // r0 = *(u32 *)r0
    code.push(insn(0x61, 0, 0, 0, 0));
    code.extend(look_up(states));
    code.push(insn(0x15, 0, 0, 2, 0));
    // r1 = 1; lock *(u64 *)r0 += r1
    code.push(insn(0xb7, 1, 0, 0, 1));
    code.push(insn(0xdb, 0, 1, 0, 0));
    // r0 = 1; exit
    code.push(insn(0xb7, 0, 0, 0, 1));
    code.push(insn(0x95, 0, 0, 0, 0));
    code
}
