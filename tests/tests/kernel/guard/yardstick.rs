//! What limiter's programs are measured by: a program whose work never changes. It takes about as long
//! as one of limiter's that judges mail, so that what interrupts one of them interrupts the other, too.

use std::os::fd::{AsRawFd as _, OwnedFd};

use crate::foreign;

/// How often it looks a number up in a hash.
const LOOK_UPS: u32 = 16;

/// A program of this kind for this hook (0 where the kernel does not want to know it), that ends with
/// `answer`.
pub fn program(kind: u32, hook: u32, answer: i32) -> OwnedFd {
    let map = foreign::hash(8, LOOK_UPS);
    for key in 0..LOOK_UPS {
        foreign::put(&map, key, &[0; 8]);
    }
    foreign::load(kind, hook, &code(&map, answer))
}

/// For each key: `map_lookup_elem(map, &key)`; then `return answer`.
fn code(map: &OwnedFd, answer: i32) -> Vec<u64> {
    /// `bpf_map_lookup_elem`.
    const LOOK_UP: i32 = 1;
    // Operation, registers (destination, source), offset, value.
    let insn = |op: u64, dst: u64, src: u64, off: i16, imm: i32| {
        op | dst << 8
            | src << 12
            | u64::from(off.cast_unsigned()) << 16
            | u64::from(imm.cast_unsigned()) << 32
    };
    let mut code = Vec::new();
    for key in 0..LOOK_UPS {
        code.extend([
            // *(u32 *)(r10 - 4) = key
            insn(0x62, 10, 0, -4, key.cast_signed()),
            // r2 = r10 - 4
            insn(0xbf, 2, 10, 0, 0),
            insn(0x07, 2, 0, 0, -4),
            // r1 = map
            insn(0x18, 1, 1, 0, map.as_raw_fd()),
            0,
            insn(0x85, 0, 0, 0, LOOK_UP),
        ]);
    }
    // r0 = answer; exit
    code.extend([insn(0xb7, 0, 0, 0, answer), insn(0x95, 0, 0, 0, 0)]);
    code
}
