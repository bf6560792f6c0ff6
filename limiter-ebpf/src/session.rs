//! Counting messages and recipients in direct sessions.

use aya_ebpf::helpers::generated;
use core::ffi::c_void;
use limiter_common::{
    event,
    packet::{Packet, tcp},
    settings::{self, Settings},
    smtp::{Due, Scan, Session},
    verdict::PortGroup,
};

use crate::{
    judge::{self, Decision},
    kernel,
    seen::{self, Seen},
    skb::Skb,
};

/// How many bytes are fetched at once.
const CHUNK: usize = 32;
/// How many bytes are read in one round. The verifier looks at each apart.
const BYTES: u32 = 4;
/// The most rounds for one packet: with any number of bytes that a packet can have.
const ROUNDS: u32 = 1 << 17;

/// Whether this packet is part of a session whose mail is counted.
#[inline(always)]
pub fn counts(settings: &Settings, seen: &Seen) -> bool {
    settings.flags & settings::flags::COUNTS_MAIL != 0
        && matches!(seen.group(), PortGroup::Smtp | PortGroup::Submission)
        && may_say(&seen.packet)
        && judge::counts_mail(seen.payer())
}

/// Whether a segment may carry a part of the session: a first one can, too.
#[inline(always)]
fn may_say(packet: &Packet) -> bool {
    if packet.opens() {
        packet.payload_len != 0
    } else {
        packet.flags & (tcp::ACK | tcp::SYN | tcp::RST) == tcp::ACK
    }
}

/// Reads what a packet adds to a session, and counts it. Whether the session has to be cut. Without
/// `READS` nothing is read and everything is estimated: before 5.17 the kernel has no loops that are
/// long enough, and refuses every program that so much as mentions one.
#[inline(always)]
pub fn count<const READS: bool>(
    skb: Skb,
    settings: &Settings,
    seen: &mut Seen,
    session: *mut Session,
    now_ns: u64,
) -> bool {
    let due = read::<READS>(skb, settings, &seen.packet, session);
    let (messages, recipients) = ((due & 0xffff) as u32, (due >> 32) as u32);
    if messages == 0 && recipients == 0 {
        return false;
    }
    if due & ESTIMATED != 0 {
        seen.flags |= event::flags::ESTIMATED;
    }
    let group = seen.group();
    let payer = seen.payer();
    let mut judgement = judge::mail(settings, payer, group, messages, recipients, now_ns);
    kernel::forget(&mut judgement);
    if judgement.kind() == Decision::Admit {
        return false;
    }
    seen::tell(seen, judgement, now_ns);
    judgement.refuses()
}

/// Beside the numbers of [`read`]: they are an estimate.
const ESTIMATED: u64 = 1 << 31;

/// Reads what a packet adds to a session: messages, recipients in the upper half. A frame of its
/// own.
#[inline(never)]
fn read<const READS: bool>(
    skb: Skb,
    settings: &Settings,
    packet: &Packet,
    session: *mut Session,
) -> u64 {
    // SAFETY: looked up by the caller. Packets of one connection on two CPUs at once can disturb
    // each other's numbers: then they do not fit, and the session is estimated.
    let state = unsafe { &mut *session };
    if !READS || packet.truncated {
        state.distrust();
    }
    let part = if packet.opens() {
        state.first_words(packet.payload_len);
        Scan::default()
    } else {
        state.segment(
            packet.seq,
            packet.ack,
            packet.payload_len,
            &settings.factors,
        )
    };
    if READS && part.len != 0 {
        let mut reader = Reader {
            skb,
            session,
            at: packet.payload.wrapping_add(part.skip),
            left: part.len,
            fetched: 0,
            next: 0,
            chunk: [0; CHUNK],
        };
        // SAFETY: the callback takes what is handed over here, which outlives the call.
        unsafe {
            generated::bpf_loop(
                ROUNDS,
                read_some as *mut c_void,
                (&raw mut reader).cast(),
                0,
            );
        }
        if reader.left != 0 {
            state.distrust();
        }
    }
    let Due {
        messages,
        recipients,
        estimated,
    } = state.due(&settings.factors);
    let messages = if messages > 0xffff { 0xffff } else { messages };
    u64::from(messages) | u64::from(recipients) << 32 | if estimated { ESTIMATED } else { 0 }
}

/// Where reading stands.
struct Reader {
    skb: Skb,
    session: *mut Session,
    /// Where the next byte is in the packet.
    at: u32,
    /// How many bytes are left, those that were fetched included.
    left: u32,
    /// How many of the bytes that are left were fetched.
    fetched: u32,
    /// Where the first of these is in `chunk`.
    next: u32,
    /// What was fetched.
    chunk: [u8; CHUNK],
}

/// Done.
const STOP: i64 = 1;
const GO_ON: i64 = 0;

/// One round: passes over what need not be read, or reads a few bytes.
#[inline(never)]
extern "C" fn read_some(_round: u32, reader: *mut Reader) -> i64 {
    // SAFETY: what `read` handed over; the session was looked up.
    let (reader, session) = unsafe { (&mut *reader, &mut *(*reader).session) };
    if reader.left == 0 {
        return STOP;
    }
    let pass = session.body_left();
    if pass != 0 {
        let pass = if pass < reader.left {
            pass
        } else {
            reader.left
        };
        session.skip(pass);
        reader.at = reader.at.wrapping_add(pass);
        reader.left -= pass;
        reader.fetched = 0;
        return GO_ON;
    }
    if reader.fetched == 0 && !reader.fetch() {
        return STOP;
    }
    let mut read = 0;
    while read < BYTES {
        if reader.fetched == 0 || session.body_left() != 0 {
            break;
        }
        session.byte(reader.next());
        read += 1;
    }
    GO_ON
}

impl Reader {
    /// Fetches bytes; `false` if they are not there.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "thirty-one at most")]
    fn fetch(&mut self) -> bool {
        const LAST: u32 = CHUNK as u32 - 1;
        let last = self.left - 1;
        let last = if last < LAST { last } else { LAST };
        // From one to all, in the verifier's eyes too.
        let len = (u32::from(kernel::bounded(last as u16)) & LAST) + 1;
        self.next = 0;
        self.fetched = len;
        self.skb.load_some(self.at, &mut self.chunk, len)
    }

    /// The next byte of those that were fetched.
    #[inline(always)]
    fn next(&mut self) -> u8 {
        let place = self.next as usize % CHUNK;
        self.next = self.next.wrapping_add(1);
        self.fetched -= 1;
        self.left -= 1;
        self.at = self.at.wrapping_add(1);
        // SAFETY: below the array's length. Volatile: it stays in memory.
        unsafe { core::ptr::read_volatile(self.chunk.as_ptr().add(place)) }
    }
}
