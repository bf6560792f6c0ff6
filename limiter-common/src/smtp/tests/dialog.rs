//! A connection: two peers that talk, one packet layer that sees the client's side.

use std::vec::Vec;

use crate::smtp::{Due, Factors, Session};

/// A connection under test.
pub(super) struct Wire {
    pub session: Session,
    pub factors: Factors,
    /// The client's next sequence number.
    pub seq: u32,
    /// What the client acknowledges.
    pub ack: u32,
    /// The largest segment, bytes.
    pub mss: usize,
    /// Everything counted so far.
    pub total: Due,
    /// All that was sent, with its sequence number.
    pub sent: Vec<(u32, Vec<u8>)>,
}

impl Wire {
    /// A connection whose SYN had the number `isn`.
    pub(super) fn new(session: Session, isn: u32) -> Self {
        let mut wire = Self {
            session,
            factors: Factors::DEFAULT,
            seq: isn.wrapping_add(1),
            ack: isn.wrapping_mul(2_654_435_761),
            mss: 1448,
            total: Due::default(),
            sent: Vec::new(),
        };
        wire.packet(wire.seq, &[]);
        wire
    }

    pub(super) fn open(isn: u32) -> Self {
        Self::new(Session::open(isn), isn)
    }

    /// A packet of the client's as the kernel would take it.
    pub(super) fn packet(&mut self, seq: u32, payload: &[u8]) -> Due {
        let length = u32::try_from(payload.len()).unwrap();
        let scan = self.session.segment(seq, self.ack, length, &self.factors);
        assert!(scan.skip + scan.len <= length, "{scan:?} of {length}");
        let mut at = scan.skip as usize;
        let end = at + scan.len as usize;
        while at < end {
            let left = (self.session.body_left() as usize).min(end - at);
            // Every other time byte by byte: both ways must agree.
            if left > 0 && at % 2 == 0 {
                self.session.skip(u32::try_from(left).unwrap());
                at += left;
            } else {
                self.session.byte(payload[at]);
                at += 1;
            }
        }
        let due = self.session.due(&self.factors);
        assert_eq!(due.estimated, !self.session.is_exact());
        self.total.messages += due.messages;
        self.total.recipients += due.recipients;
        self.total.estimated = due.estimated;
        due
    }

    /// The client says this, in segments.
    pub(super) fn say(&mut self, payload: impl AsRef<[u8]>) {
        for part in payload.as_ref().chunks(self.mss) {
            let seq = self.seq;
            self.sent.push((seq, part.to_vec()));
            self.packet(seq, part);
            self.seq = seq.wrapping_add(u32::try_from(part.len()).unwrap());
        }
    }

    /// The server sent this many bytes, which the client acknowledges with its next segment.
    pub(super) fn hear(&mut self, bytes: usize) {
        self.ack = self.ack.wrapping_add(u32::try_from(bytes).unwrap());
    }

    /// The server sent this, which the client acknowledges at once.
    pub(super) fn hear_and_ack(&mut self, bytes: usize) {
        self.hear(bytes);
        self.packet(self.seq, &[]);
    }

    /// One step of a dialog: the client speaks, the server answers.
    pub(super) fn ask(&mut self, line: &str, answer: &str) {
        self.say(line);
        self.hear_and_ack(answer.len());
    }

    pub(super) fn counted(&self) -> (u32, u32, bool) {
        (
            self.total.messages,
            self.total.recipients,
            self.total.estimated,
        )
    }
}
