//! Conversations as mail servers have them, before a gate that writes down what it is asked.

mod hostile;
mod spoken;

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::{Limits, Milter, MilterError, OnFailure};
use crate::{
    mta::{Origin, Submissions},
    policy::services::Services,
    service::ask::Settings,
    submission::{Answer, Envelope, Gate, Key},
};

/// What a gate was asked or told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Watched(Key),
    Whole(Key, Envelope, Vec<String>),
    Taken(Key),
    Dropped(Key),
}

/// A gate that says what it was told to, the last of it for ever, and writes down what it was asked.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    pub(super) answers: Mutex<Vec<Answer>>,
    pub(super) calls: Mutex<Vec<Call>>,
}

impl Recorder {
    fn saying(answers: &[Answer]) -> Arc<Self> {
        Arc::new(Self {
            answers: Mutex::new(answers.iter().rev().cloned().collect()),
            ..Self::default()
        })
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    fn note(&self, call: Call) {
        self.calls.lock().unwrap().push(call);
    }
}

impl Gate for Recorder {
    fn recipient(&self, _: &Key, _: &Envelope, _: &str) -> Answer {
        panic!("a milter asks about whole messages");
    }

    fn message(&self, _: &Key, _: &Envelope, _: Option<u32>, _: Option<&Key>) -> Answer {
        panic!("a milter asks about whole messages");
    }

    fn whole(
        &self,
        key: &Key,
        envelope: &Envelope,
        recipients: &[String],
        _: Option<u32>,
    ) -> Answer {
        self.note(Call::Whole(
            key.clone(),
            envelope.clone(),
            recipients.to_vec(),
        ));
        let mut answers = self.answers.lock().unwrap();
        if answers.len() > 1 {
            answers.pop().unwrap()
        } else {
            answers.last().cloned().unwrap_or(Answer::Accept)
        }
    }

    fn watched(&self, key: &Key) {
        self.note(Call::Watched(key.clone()));
    }

    fn taken(&self, key: &Key) {
        self.note(Call::Taken(key.clone()));
    }

    fn dropped(&self, key: &Key) {
        self.note(Call::Dropped(key.clone()));
    }
}

/// Knows of messages: alice's, one that a client brought, and two that cannot be read.
struct Books;

impl Submissions for Books {
    fn submitted(&self, queue_id: &str) -> io::Result<Option<Origin>> {
        match queue_id {
            "ALICE" => Ok(Some(Origin {
                uid: Some(2001),
                ..Origin::default()
            })),
            "REMOTE" => Ok(Some(Origin {
                client: Some("192.0.2.9:99".parse().unwrap()),
                login: Some("bob".to_owned()),
                uid: None,
            })),
            "BROKEN" => Err(io::ErrorKind::InvalidData.into()),
            "AWAY" => Err(io::ErrorKind::PermissionDenied.into()),
            _ => Ok(None),
        }
    }
}

fn milter(gate: &Arc<Recorder>, on_failure: OnFailure, limits: Limits) -> Milter {
    let gate: Arc<dyn Gate> = gate.clone();
    let rules = Services {
        on_failure,
        ..Services::default()
    };
    let settings = Arc::new(Settings::new(rules));
    Milter::new(gate, Arc::new(Books), settings, limits)
}

/// A frame.
fn frame(letter: u8, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len() + 1).unwrap();
    [&length.to_be_bytes()[..], &[letter], data].concat()
}

/// What Postfix 3 offers.
fn offer() -> Vec<u8> {
    frame(b'O', b"\0\0\0\x06\0\0\x01\xff\0\x1f\xff\xff")
}

/// A client at 192.0.2.7:4660.
fn connect() -> Vec<u8> {
    [
        frame(
            b'D',
            b"C{client_addr}\x00192.0.2.7\0{client_port}\x004660\0{daemon_addr}\x00203.0.113.2\0{daemon_port}\x00587\0",
        ),
        frame(b'C', b"host.example\x004\x12\x34192.0.2.7\0"),
    ]
    .concat()
}

/// A message as smtpd(8) has it: its id is known from DATA on.
fn message(id: &str, recipients: &[&str]) -> Vec<u8> {
    let mut bytes = frame(b'D', b"M{auth_authen}\0alice\0");
    bytes.extend(frame(b'M', b"<a@host.example>\0SIZE=3\0"));
    for recipient in recipients {
        bytes.extend(frame(b'D', b"R"));
        bytes.extend(frame(b'R', format!("<{recipient}>\0").as_bytes()));
    }
    bytes.extend(frame(b'D', format!("Ti\0{id}\0").as_bytes()));
    bytes.extend(frame(b'T', b""));
    bytes
}

fn end(id: &str) -> Vec<u8> {
    [
        frame(b'D', format!("Ei\0{id}\0").as_bytes()),
        frame(b'E', b""),
    ]
    .concat()
}

/// A message as cleanup(8) has it for `sendmail`.
fn submitted(id: &str) -> Vec<u8> {
    let id = format!("i\0{id}\0");
    let at = |stage: char| format!("{stage}{id}").into_bytes();
    let loopback = b"{client_addr}\x00127.0.0.1\0{client_port}\x000\0{daemon_addr}\x00127.0.0.1\0";
    [
        frame(b'D', &[&at('C')[..], loopback].concat()),
        frame(b'C', b"localhost\x004\0\x00127.0.0.1\0"),
        frame(b'D', &at('M')),
        frame(b'M', b"web@host.example\0"),
        frame(b'D', &at('R')),
        frame(b'R', b"x@outside.example\0"),
        frame(b'D', &at('T')),
        frame(b'T', b""),
        frame(b'D', &at('E')),
        frame(b'E', b""),
    ]
    .concat()
}

async fn answer(stream: &mut DuplexStream) -> (u8, Vec<u8>) {
    let length = stream.read_u32().await.unwrap();
    let letter = stream.read_u8().await.unwrap();
    let mut data = vec![0; usize::try_from(length - 1).unwrap()];
    stream.read_exact(&mut data).await.unwrap();
    (letter, data)
}

/// Says all of it at once, leaves, and what was answered after the negotiation.
async fn say(milter: &Milter, parts: &[Vec<u8>]) -> (Vec<(u8, String)>, Result<(), MilterError>) {
    let (mut here, there) = duplex(1 << 20);
    here.write_all(&offer()).await.unwrap();
    here.write_all(&parts.concat()).await.unwrap();
    here.shutdown().await.unwrap();
    let result = tokio::time::timeout(
        Duration::from_secs(20),
        milter.serve(there, &crate::service::listen::Caller::new(0, 1, "unix:/x")),
    )
    .await
    .unwrap();
    let mut said = Vec::new();
    here.read_to_end(&mut said).await.unwrap();
    let mut answers = Vec::new();
    let mut rest = said.as_slice();
    while let Some((length, tail)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap();
        let (frame, tail) = tail.split_at(length);
        answers.push((frame[0], String::from_utf8_lossy(&frame[1..]).into_owned()));
        rest = tail;
    }
    assert_eq!(answers.remove(0).0, b'O');
    (answers, result)
}
