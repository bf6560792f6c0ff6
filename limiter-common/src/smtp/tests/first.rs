//! Words in the first packet: nobody who only sees the client knows whether the server takes them.

use crate::smtp::{Factors, Session};

#[test]
fn words_in_the_first_packet_are_one_message_at_least() {
    for (mut session, isn) in [(Session::open(7), 7), (Session::unknown(), 7)] {
        session.first_words(1_400);
        let due = session.due(&Factors::DEFAULT);
        assert_eq!((due.messages, due.recipients, due.estimated), (1, 1, true));
        // The first real acknowledgement is no answer of two thousand million bytes.
        let scan = session.segment(isn + 1_401, 0x9000_0000, 0, &Factors::DEFAULT);
        assert_eq!(scan.len, 0);
        assert_eq!(session.due(&Factors::DEFAULT).messages, 0);
    }
}
