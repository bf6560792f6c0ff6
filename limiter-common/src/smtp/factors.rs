//! By what a session that cannot be read is estimated.

use crate::assert_layout;

/// What a message costs at least, and what is free. Volumes are powers of two: the kernel divides
/// by shifting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Factors {
    /// Answers that the client waited for, for each message: 1 to 1000. Four without pipelining
    /// (MAIL, RCPT, DATA, the text), two or one with it.
    pub turnarounds_per_message: u32,
    /// Bytes of the server's answers for each message, as a power of two: 4 to 20. Four answers
    /// are 60 to 350 bytes, and 30 more each under TLS.
    pub reply_bytes_shift: u32,
    /// Bytes of the client for each message, as a power of two: 20 to 31. For those who do not
    /// acknowledge the answers; larger than any server takes as one message.
    pub payload_shift: u32,
    /// Turnarounds that are free: greeting, EHLO, authentication, the first message, QUIT. At
    /// most 1000.
    pub free_turnarounds: u32,
    /// Bytes of answers that are free: TLS tickets, greeting, EHLO, authentication, the first
    /// message, QUIT. At most 1 MiB.
    pub free_reply_bytes: u32,
    /// Further turnarounds that are free where a TLS handshake may pass unseen. At most 1000.
    pub blind_turnarounds: u32,
    /// Further bytes of answers that are free where a TLS handshake may pass unseen. At most
    /// 1 MiB.
    pub blind_reply_bytes: u32,
    /// Zero.
    pub reserved: u32,
}
assert_layout!(Factors, 32, 4);

impl Factors {
    /// What fits the servers of the world. See each field.
    pub const DEFAULT: Self = Self {
        turnarounds_per_message: 3,
        reply_bytes_shift: 8,
        payload_shift: 26,
        free_turnarounds: 9,
        free_reply_bytes: 2048,
        blind_turnarounds: 4,
        blind_reply_bytes: 8192,
        reserved: 0,
    };

    /// Whether all are within their bounds. Outside them nothing breaks, but estimates are
    /// useless.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        const MIB: u32 = 1 << 20;
        self.turnarounds_per_message >= 1
            && self.turnarounds_per_message <= 1000
            && self.reply_bytes_shift >= 4
            && self.reply_bytes_shift <= 20
            && self.payload_shift >= 20
            && self.payload_shift <= 31
            && self.free_turnarounds <= 1000
            && self.free_reply_bytes <= MIB
            && self.blind_turnarounds <= 1000
            && self.blind_reply_bytes <= MIB
            && self.reserved == 0
    }
}

impl Default for Factors {
    fn default() -> Self {
        Self::DEFAULT
    }
}
