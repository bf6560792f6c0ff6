//! What is asked of the mail server: as little as possible.
//!
//! No headers and no body, so that a message of any size costs two answers; no changes to messages.
//! DATA is answered, because that answer is what makes the mail server send everything before it: by
//! then the queue id has been heard.

use super::command::{Offer, Step};

/// The newest version that is spoken here.
const VERSION: u32 = 6;

/// Actions: choosing the macros.
const CHOOSE_MACROS: u32 = 0x100;

/// Steps that are not sent.
const NO_HELO: u32 = 0x02;
const NO_BODY: u32 = 0x10;
const NO_HEADERS: u32 = 0x20;
const NO_END_OF_HEADERS: u32 = 0x40;
const NO_UNKNOWN: u32 = 0x100;
/// Steps that are sent and need no answer.
const SILENT_HEADER: u32 = 0x80;
const SILENT_CONNECT: u32 = 0x1000;
const SILENT_HELO: u32 = 0x2000;
const SILENT_MAIL: u32 = 0x4000;
const SILENT_RECIPIENT: u32 = 0x8000;
const SILENT_UNKNOWN: u32 = 0x2_0000;
const SILENT_END_OF_HEADERS: u32 = 0x4_0000;
const SILENT_BODY: u32 = 0x8_0000;

const WANTED: u32 = NO_HELO
    | NO_BODY
    | NO_HEADERS
    | NO_END_OF_HEADERS
    | NO_UNKNOWN
    | SILENT_HEADER
    | SILENT_CONNECT
    | SILENT_HELO
    | SILENT_MAIL
    | SILENT_RECIPIENT
    | SILENT_UNKNOWN
    | SILENT_END_OF_HEADERS
    | SILENT_BODY;

/// The macros for each step, so that no administrator has to choose them. A queue id at the connection
/// says that there is no client: the mail server made the connection up for mail of its own machine.
const MACROS: [(u32, &str); 5] = [
    (
        0,
        "i {client_addr} {client_port} {daemon_addr} {daemon_port}",
    ),
    (2, "i {auth_authen}"),
    (3, "i"),
    (4, "i"),
    (5, "i"),
];

/// What was agreed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Agreed {
    steps: u32,
}

impl Agreed {
    /// Answers an offer; the answer's contents beside.
    pub(super) fn on(offer: Offer) -> (Self, Vec<u8>) {
        let steps = WANTED & offer.steps;
        let actions = CHOOSE_MACROS & offer.actions;
        let mut answer = Vec::with_capacity(160);
        for number in [VERSION.min(offer.version), actions, steps] {
            answer.extend(number.to_be_bytes());
        }
        if actions != 0 {
            for (step, names) in MACROS {
                answer.extend(step.to_be_bytes());
                answer.extend(names.as_bytes());
                answer.push(0);
            }
        }
        (Self { steps }, answer)
    }

    /// Whether a new connection waits for an answer.
    pub(super) fn answers_connect(self) -> bool {
        self.steps & SILENT_CONNECT == 0
    }

    /// Whether MAIL waits for an answer.
    pub(super) fn answers_mail(self) -> bool {
        self.steps & SILENT_MAIL == 0
    }

    /// Whether RCPT waits for an answer.
    pub(super) fn answers_recipient(self) -> bool {
        self.steps & SILENT_RECIPIENT == 0
    }

    /// Whether a step waits for an answer.
    pub(super) fn answers(self, step: Step) -> bool {
        let silent = match step {
            Step::Helo => SILENT_HELO,
            Step::Data => 0,
            Step::Header => SILENT_HEADER,
            Step::EndOfHeaders => SILENT_END_OF_HEADERS,
            Step::Body => SILENT_BODY,
            Step::Unknown => SILENT_UNKNOWN,
        };
        self.steps & silent == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_mail_server_is_asked_for_what_it_offers() {
        let offer = Offer {
            version: 2,
            actions: 0x1f,
            steps: 0x7f,
        };
        let (agreed, answer) = Agreed::on(offer);
        let steps = (NO_HELO | NO_BODY | NO_HEADERS | NO_END_OF_HEADERS).to_be_bytes();
        assert_eq!(
            answer,
            [vec![0, 0, 0, 2, 0, 0, 0, 0], steps.to_vec()].concat()
        );
        assert!(agreed.answers_connect() && agreed.answers_mail() && agreed.answers_recipient());
        assert!(agreed.answers(Step::Body) && agreed.answers(Step::Data));
    }

    #[test]
    fn a_new_one_chooses_macros_and_leaves_answers_out() {
        let offer = Offer {
            version: 7,
            actions: 0x1ff,
            steps: 0x1f_ffff,
        };
        let (agreed, answer) = Agreed::on(offer);
        assert_eq!(answer[..8], [0, 0, 0, 6, 0, 0, 1, 0]);
        assert_eq!(answer[8..12], WANTED.to_be_bytes());
        assert!(answer.ends_with(b"\0\0\0\x05i\0"));
        assert!(!agreed.answers_connect() && !agreed.answers_mail());
        assert!(!agreed.answers_recipient() && !agreed.answers(Step::Unknown));
        assert!(agreed.answers(Step::Data));
    }
}
