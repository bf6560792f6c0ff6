//! Damage, of the kind that finds gaps: at the places that parsers look at.

use super::Rng;

/// Values that mean something somewhere.
const TELLING: [u8; 24] = [
    0, 1, 2, 4, 5, 6, 8, 17, 25, 41, 43, 44, 45, 47, 50, 51, 58, 59, 60, 0x45, 0x60, 0x81, 0xff,
    135,
];

/// Changes a frame in one to four ways.
pub fn mutate(rng: &mut Rng, frame: &mut Vec<u8>) {
    for _ in 0..=rng.below(4) {
        if frame.len() < 16 {
            frame.extend(rng.bytes(16));
        }
        // Headers are in front.
        let reach = if rng.once_in(4) {
            frame.len()
        } else {
            frame.len().min(80)
        };
        let at = rng.below(reach);
        match rng.below(9) {
            0 => frame[at] ^= 1 << rng.below(8),
            1 | 2 => frame[at] = rng.pick(&TELLING),
            3 => frame[at] = rng.byte(),
            4 => frame.truncate(at.max(15)),
            5 => {
                let extra = 1 + rng.below(40);
                let more = rng.bytes(extra);
                frame.extend(more);
            }
            6 => {
                // A header more, or a part of one.
                let to = (at + 4 + rng.below(20)).min(frame.len());
                let copy = frame[at..to].to_vec();
                frame.splice(at..at, copy);
            }
            7 => {
                let to = (at + 1 + rng.below(12)).min(frame.len());
                frame.drain(at..to);
            }
            _ => {
                if at + 2 <= frame.len() {
                    let kinds = [
                        0x0800, 0x86dd, 0x8100, 0x88a8, 0x8864, 25, 587, 40, 0x2000, 1,
                    ];
                    frame[at..at + 2].copy_from_slice(&rng.pick::<u16>(&kinds).to_be_bytes());
                }
            }
        }
    }
}
