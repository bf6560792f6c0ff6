//! The estimate, and what is to be counted after a packet.

use super::{Due, Factors, Session, session::flags};

impl Session {
    /// One turnaround more.
    #[inline(always)]
    pub(super) fn count_turnaround(&mut self, factors: &Factors) {
        let mut goal = factors.turnarounds_per_message;
        if self.by_turnarounds == 0 {
            goal = goal.saturating_add(factors.free_turnarounds);
            if self.flags & flags::BLIND != 0 {
                goal = goal.saturating_add(factors.blind_turnarounds);
            }
        }
        self.turnarounds = self.turnarounds.saturating_add(1);
        if self.turnarounds >= goal {
            self.turnarounds = 0;
            self.by_turnarounds = self.by_turnarounds.saturating_add(1);
        }
    }

    /// Messages that must have been sent beside the first: by turnarounds, by the bytes of the
    /// answers or by the client's own bytes, whichever says more.
    #[inline(always)]
    fn estimate(&self, factors: &Factors) -> u32 {
        let mut free = factors.free_reply_bytes;
        if self.flags & flags::BLIND != 0 {
            free = free.saturating_add(factors.blind_reply_bytes);
        }
        let by_replies = self.reply_bytes.saturating_sub(free) >> (factors.reply_bytes_shift & 31);
        let by_payload = self.payload >> (factors.payload_shift & 31);
        let mut most = self.by_turnarounds;
        if by_replies > most {
            most = by_replies;
        }
        if by_payload > most {
            most = by_payload;
        }
        most
    }

    /// What is newly to be counted after a packet: what was found in it, and what the estimate
    /// grew by. Nothing is counted twice: where the reading ends, what was found is what the
    /// estimate starts from.
    ///
    /// A session in doubt is held against its estimate: where that says more than twice the
    /// messages and recipients found (and a few), what was read was a lie, and the estimate counts
    /// from the session's beginning.
    #[inline(always)]
    pub fn due(&mut self, factors: &Factors) -> Due {
        let mut due = Due {
            messages: self.found_messages as u32,
            recipients: self.found_recipients as u32,
            estimated: false,
        };
        self.found_messages = 0;
        self.found_recipients = 0;
        self.messages = self.messages.saturating_add(due.messages);
        self.recipients = self.recipients.saturating_add(due.recipients);

        if self.is_exact() {
            if self.flags & flags::DOUBT == 0 {
                return due;
            }
            let found = self.messages.saturating_add(self.recipients);
            if self.estimate(factors) <= found.saturating_mul(2).saturating_add(DOUBTFUL) {
                return due;
            }
            self.distrust();
        }
        due.estimated = true;
        if self.flags & flags::SPOKE == 0 {
            return due;
        }
        let total = if self.flags & flags::SETTLED == 0 {
            self.flags |= flags::SETTLED;
            self.settle(factors)
        } else {
            self.base.saturating_add(self.estimate(factors))
        };
        let more = total.saturating_sub(self.messages);
        self.messages = self.messages.saturating_add(more);
        due.messages = due.messages.saturating_add(more);
        self.recipients = self.recipients.saturating_add(more);
        due.recipients = due.recipients.saturating_add(more);
        due
    }

    /// The reading ended: what the estimate starts from.
    #[inline(always)]
    fn settle(&mut self, factors: &Factors) -> u32 {
        // Set by a handshake that began and ended in one packet.
        let after_handshake = self.base;
        let mut base = self.messages;
        if self.flags & flags::HANDSHAKE == 0 && after_handshake == 0 {
            let estimate = self.estimate(factors);
            if estimate > base {
                base = estimate;
            }
            if base == 0 {
                base = 1;
            }
        }
        base = base.saturating_add(after_handshake);
        self.base = base;
        if self.flags & flags::HANDSHAKE == 0 {
            // In a handshake it still says how far back a packet may reach.
            self.payload = 0;
        }
        self.reply_bytes = 0;
        self.turnarounds = 0;
        self.by_turnarounds = 0;
        base
    }
}

/// By how many messages an estimate may be off before a session in doubt is disbelieved.
const DOUBTFUL: u32 = 4;
