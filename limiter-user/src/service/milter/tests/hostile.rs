//! Conversations that are broken in every way.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::submission::Reply;

/// What is done to a conversation.
#[derive(Clone, Debug)]
enum Damage {
    Set(usize, u8),
    Cut(usize),
    Remove(usize, usize),
    Repeat(usize, usize),
    Insert(usize, Vec<u8>),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = 0..600_usize;
    prop_oneof![
        (at.clone(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        at.clone().prop_map(Damage::Cut),
        (at.clone(), 1..40_usize).prop_map(|(at, count)| Damage::Remove(at, count)),
        (at.clone(), 1..200_usize).prop_map(|(at, count)| Damage::Repeat(at, count)),
        (at, prop::collection::vec(any::<u8>(), 1..30))
            .prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
    ]
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let length = bytes.len();
        let within = |at: usize, count: usize| at.min(length)..(at + count).min(length);
        match self {
            Self::Set(at, byte) => {
                if let Some(place) = bytes.get_mut(*at) {
                    *place = *byte;
                }
            }
            Self::Cut(at) => bytes.truncate(*at),
            Self::Remove(at, count) => drop(bytes.drain(within(*at, *count))),
            Self::Repeat(at, count) => {
                let part = bytes[within(*at, *count)].to_vec();
                bytes.splice(within(*at, 0), part);
            }
            Self::Insert(at, more) => drop(bytes.splice(within(*at, 0), more.iter().copied())),
        }
    }
}

/// Whole frames in any order.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let data = prop_oneof![
        Just(b"".to_vec()),
        Just(b"<a@x.example>\0".to_vec()),
        Just(b"Mi\0AAA\0".to_vec()),
        Just(b"Ci\0BBB\0{client_port}\x000\0".to_vec()),
        Just(b"\0\0\0\x02\0\0\0\0\0\0\0\0".to_vec()),
        prop::collection::vec(any::<u8>(), 0..40),
    ];
    let letter = prop::sample::select(b"ODCHMRTLNBEAQKU".to_vec());
    prop::collection::vec((letter, data), 0..40).prop_map(|frames| {
        let frames = frames.iter().map(|(letter, data)| frame(*letter, data));
        [offer(), frames.collect::<Vec<_>>().concat()].concat()
    })
}

/// Has the conversation, and whatever happened: everything that the gate was told of ended, once.
fn survive(bytes: &[u8], answers: &[Answer]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let gate = Recorder::saying(answers);
    let milter = milter(&gate, OnFailure::Closed, Limits::default());
    runtime.block_on(async {
        let (mut here, there) = duplex(1 << 20);
        here.write_all(bytes).await.unwrap();
        here.shutdown().await.unwrap();
        let served = tokio::time::timeout(
            Duration::from_secs(60),
            milter.serve(there, &crate::service::listen::Caller::new(0, 1, "unix:/x")),
        )
        .await;
        assert!(served.is_ok(), "it goes on for ever");
    });
    let mut open = BTreeMap::new();
    for call in gate.calls() {
        match call {
            Call::Watched(key) | Call::Whole(key, ..) => {
                open.insert(key, true);
            }
            Call::Taken(key) | Call::Dropped(key) => {
                // A message that was refused before the gate was asked was never told of.
                assert_ne!(open.insert(key, false), Some(false), "it ended twice");
            }
        }
    }
    assert!(open.values().all(|open| !open), "{open:?}");
}

fn answers() -> impl Strategy<Value = Vec<Answer>> {
    let refusal = Reply {
        status: "4.7.1".to_owned(),
        text: "no".to_owned(),
    };
    let answer = prop::sample::select(vec![
        Answer::Accept,
        Answer::Defer(refusal),
        Answer::Wait(Duration::from_millis(3)),
        Answer::Wait(Duration::ZERO),
    ]);
    prop::collection::vec(answer, 0..4)
}

proptest! {
    #[test]
    fn a_damaged_conversation_ends(
        damages in prop::collection::vec(damage(), 1..5),
        answers in answers(),
    ) {
        let mut bytes = [
            offer(),
            connect(),
            message("AAA", &["x@x.example", "y@y.example"]),
            end("AAA"),
            frame(b'A', b""),
            submitted("ALICE"),
            frame(b'A', b""),
            frame(b'Q', b""),
        ]
        .concat();
        for damage in damages {
            damage.apply(&mut bytes);
        }
        survive(&bytes, &answers);
    }

    #[test]
    fn commands_in_any_order_end(bytes in frames(), answers in answers()) {
        survive(&bytes, &answers);
    }

    #[test]
    fn anything_ends(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        survive(&bytes, &[]);
    }
}
