//! The state of a session, and which bytes of a packet are new.

use super::{Factors, stream::state};
use crate::assert_layout;

/// Bits of [`Session::flags`].
pub(super) mod flags {
    /// No longer read: estimated.
    pub const INEXACT: u16 = 1;
    /// What was found so far was settled against the estimate.
    pub const SETTLED: u16 = 1 << 1;
    /// What was read may not be what the server got: held against the estimate.
    pub const DOUBT: u16 = 1 << 2;
    /// In a TLS handshake that is read: its answers are free.
    pub const HANDSHAKE: u16 = 1 << 3;
    /// First seen in the middle, or in a kernel that cannot read: a handshake may pass unseen.
    pub const BLIND: u16 = 1 << 4;
    /// `acked` is set.
    pub const ACKED: u16 = 1 << 5;
    /// The server sent something since the client's last payload.
    pub const ANSWERED: u16 = 1 << 6;
    /// The client sent payload.
    pub const SPOKE: u16 = 1 << 7;
    /// The last byte of the command was a CR.
    pub const CR: u16 = 1 << 8;
    /// The command line began with a blank.
    pub const INDENTED: u16 = 1 << 9;
    /// A recipient was named for the message to come.
    pub const RECIPIENT: u16 = 1 << 10;
    /// A chunk of the present message was sent: further ones are the same message.
    pub const CHUNKED: u16 = 1 << 11;
    /// The present chunk is the last of its message.
    pub const LAST: u16 = 1 << 12;
}

/// The most bytes that a client sends in a TLS handshake: hellos, certificates, key.
const HANDSHAKE_PAYLOAD: u16 = 16_384;
/// The most answers that a client waits for in a TLS handshake.
const HANDSHAKE_TURNAROUNDS: u8 = 4;
/// The most bytes that a server sends in a TLS handshake: certificates, names of authorities.
const HANDSHAKE_REPLY_BYTES: u32 = 65_536;

/// The state of one session. The all-zero state is a session that expects sequence number 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Session {
    /// The verb of the present line, or the last bytes of the body.
    pub(super) word: u64,
    /// The next sequence number expected.
    pub next_seq: u32,
    /// The highest acknowledgement number seen.
    pub acked: u32,
    /// Payload bytes since the beginning, or since the session is estimated. Saturates.
    pub(super) payload: u32,
    /// What is left of a chunk or of a TLS record; the number while it is read.
    pub(super) left: u32,
    /// Bytes of answers that were acknowledged, those of a TLS handshake left out. Saturates.
    pub(super) reply_bytes: u32,
    /// Turnarounds towards the next estimated message.
    pub(super) turnarounds: u32,
    /// Messages estimated by turnarounds.
    pub(super) by_turnarounds: u32,
    /// Messages that the estimate starts from.
    pub(super) base: u32,
    /// Messages reported by [`due`](Self::due).
    pub(super) messages: u32,
    /// Recipients reported by [`due`](Self::due).
    pub(super) recipients: u32,
    /// Bytes of answers in a TLS handshake.
    pub(super) handshake_bytes: u32,
    /// Messages found in the present packet.
    pub(super) found_messages: u16,
    /// Recipients found in the present packet.
    pub(super) found_recipients: u16,
    /// Bytes of the present line, of the body (saturates), or of the TLS record's header.
    pub(super) line: u16,
    /// [`flags`].
    pub(super) flags: u16,
    /// Payload bytes in a TLS handshake.
    pub(super) handshake_payload: u16,
    /// [`state`].
    pub(super) state: u8,
    /// Turnarounds in a TLS handshake.
    pub(super) handshake_turnarounds: u8,
}
assert_layout!(Session, 64, 8);

/// Which part of a payload is new, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// Bytes to pass over: they were seen before.
    pub skip: u32,
    /// Bytes to read behind them; 0 where nothing is to be read.
    pub len: u32,
}

/// What is to be counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Messages.
    pub messages: u32,
    /// Recipients.
    pub recipients: u32,
    /// Whether the session is estimated by now.
    pub estimated: bool,
}

impl Session {
    /// A session whose first packet, the SYN with sequence number `isn`, was seen: it is read.
    #[must_use]
    #[inline(always)]
    pub fn open(isn: u32) -> Self {
        Self {
            next_seq: isn.wrapping_add(1),
            ..Self::default()
        }
    }

    /// A session first seen in the middle, or in a kernel that cannot read payload.
    #[must_use]
    #[inline(always)]
    pub fn unknown() -> Self {
        Self {
            flags: flags::INEXACT | flags::BLIND,
            state: state::UNREAD,
            ..Self::default()
        }
    }

    /// A session on a port that speaks TLS from its first byte, whose SYN with sequence number
    /// `isn` was seen. Its handshake is read, to tell what is free.
    #[must_use]
    #[inline(always)]
    pub fn implicit_tls(isn: u32) -> Self {
        Self {
            next_seq: isn.wrapping_add(1),
            flags: flags::INEXACT | flags::SETTLED | flags::HANDSHAKE,
            state: state::HEADER,
            ..Self::default()
        }
    }

    /// Whether all that was sent so far was read.
    #[must_use]
    #[inline(always)]
    pub const fn is_exact(&self) -> bool {
        self.flags & flags::INEXACT == 0
    }

    /// What is said cannot be read or not be believed: estimated from here on, for good. To be
    /// called too where a packet layer cannot read all of what [`segment`](Self::segment) named.
    #[inline(always)]
    pub fn distrust(&mut self) {
        self.end_handshake();
        self.flags |= flags::INEXACT;
        self.state = state::UNREAD;
    }

    /// The handshake is over: mail may follow, one message at least.
    #[inline(always)]
    pub(super) fn end_handshake(&mut self) {
        if self.flags & flags::HANDSHAKE != 0 {
            self.flags &= !flags::HANDSHAKE;
            self.state = state::UNREAD;
            self.base = self.base.saturating_add(1);
            self.payload = 0;
        }
    }

    /// Takes a first packet that carries `payload_len` bytes. Whether the server takes them with it,
    /// later or never is not known: they are estimated, and so is all that follows. It acknowledges
    /// nothing.
    #[inline(always)]
    pub fn first_words(&mut self, payload_len: u32) {
        self.distrust();
        self.flags |= flags::SPOKE;
        self.payload = self.payload.saturating_add(payload_len);
    }

    /// Takes a packet of the client's: `seq` and `ack` as in its header, `payload_len` bytes. Says
    /// which part of the payload is to be read; it must then be read completely.
    ///
    /// A client can send the same sequence numbers twice with different content, of which the
    /// server gets only one (a wrong checksum, a short life). What was read first is kept, but from
    /// the first payload sent again the session is in doubt: should the answers of the server show
    /// more than twice what was found (see [`due`](Self::due)), it counts as estimated. An honest
    /// client on a bad line never comes near. Whatever else a liar could do to be read at another
    /// place than the server reads (a gap, data from before the beginning, acknowledgements from
    /// before the first) ends the reading at once.
    #[inline(always)]
    pub fn segment(&mut self, seq: u32, ack: u32, payload_len: u32, factors: &Factors) -> Scan {
        let advanced = self.acknowledge(ack);
        if advanced {
            if self.state == state::BODY && self.line > 0 {
                // Servers are silent between 354 and the end of the text: this is no text for it.
                self.distrust();
            }
            if self.state == state::CHUNK {
                // Replies to what was sent before the chunk, or it is no chunk for the server.
                self.flags |= flags::DOUBT;
            }
        }
        if payload_len == 0 {
            return Scan::default();
        }
        self.flags |= flags::SPOKE;
        let before = self.payload;
        self.payload = before.saturating_add(payload_len);
        self.turnaround(payload_len, factors);
        if self.state == state::UNREAD {
            return Scan::default();
        }

        let seen = self.next_seq.wrapping_sub(seq);
        if seen > before || seen > u32::MAX / 2 {
            // Beyond what was expected (then it is huge), or from before the beginning.
            self.distrust();
            return Scan::default();
        }
        if seen > 0 {
            self.flags |= flags::DOUBT;
        }
        if seen >= payload_len {
            return Scan::default();
        }
        self.next_seq = seq.wrapping_add(payload_len);
        Scan {
            skip: seen,
            len: payload_len - seen,
        }
    }

    /// Counts what the server sent. Whether it sent something new.
    #[inline(always)]
    fn acknowledge(&mut self, ack: u32) -> bool {
        if self.flags & flags::ACKED == 0 {
            self.flags |= flags::ACKED;
            self.acked = ack;
            return false;
        }
        let ahead = ack.wrapping_sub(self.acked);
        if ahead == 0 {
            return false;
        }
        if ahead > u32::MAX / 2 {
            let behind = ahead.wrapping_neg();
            if behind <= self.reply_bytes.saturating_add(self.handshake_bytes) {
                return false;
            }
            // From before the first: one of them was a lie.
            self.distrust();
        } else if self.flags & flags::HANDSHAKE != 0 {
            self.handshake_bytes = self.handshake_bytes.saturating_add(ahead);
            if self.handshake_bytes > HANDSHAKE_REPLY_BYTES {
                self.end_handshake();
            }
        } else {
            self.reply_bytes = self.reply_bytes.saturating_add(ahead);
        }
        self.acked = ack;
        self.flags |= flags::ANSWERED;
        true
    }

    /// Counts a turnaround if the server answered since the client's last payload.
    #[inline(always)]
    fn turnaround(&mut self, payload_len: u32, factors: &Factors) {
        let answered = self.flags & flags::ANSWERED != 0;
        self.flags &= !flags::ANSWERED;
        if self.flags & flags::HANDSHAKE != 0 {
            let length = u16::try_from(payload_len).unwrap_or(u16::MAX);
            self.handshake_payload = self.handshake_payload.saturating_add(length);
            if answered {
                self.handshake_turnarounds = self.handshake_turnarounds.saturating_add(1);
            }
            if self.handshake_payload > HANDSHAKE_PAYLOAD
                || self.handshake_turnarounds > HANDSHAKE_TURNAROUNDS
            {
                self.end_handshake();
            }
        } else if answered {
            self.count_turnaround(factors);
        }
    }
}
