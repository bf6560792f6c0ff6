//! What is said, and what is answered.

use super::*;
use crate::submission::Reply;

fn queued(id: &str) -> Key {
    Key::Queued(id.to_owned())
}

fn refuse() -> Answer {
    Answer::Refuse(Reply {
        status: "5.7.1".to_owned(),
        text: "alice is over 300 an hour".to_owned(),
    })
}

fn client() -> Envelope {
    Envelope {
        login: Some("alice".to_owned()),
        client: Some("192.0.2.7:4660".parse().unwrap()),
        server: Some("203.0.113.2:587".parse().unwrap()),
        uid: None,
        sender: Some("a@host.example".to_owned()),
    }
}

#[tokio::test]
async fn a_session_of_two_messages() {
    let gate = Recorder::saying(&[Answer::Accept, refuse()]);
    let milter = milter(&gate, OnFailure::Open, Limits::default());
    let (answers, result) = say(
        &milter,
        &[
            connect(),
            message("AAA", &["x@x.example", "y@y.example"]),
            end("AAA"),
            frame(b'A', b""),
            message("BBB", &["z@z.example"]),
            end("BBB"),
            frame(b'A', b""),
            frame(b'Q', b""),
        ],
    )
    .await;
    result.unwrap();
    let go_on = || (b'c', String::new());
    let no = (b'y', "550 5.7.1 alice is over 300 an hour\0".to_owned());
    assert_eq!(answers, [go_on(), go_on(), go_on(), no]);
    let first = ["x@x.example", "y@y.example"].map(str::to_owned).to_vec();
    let second = vec!["z@z.example".to_owned()];
    assert_eq!(
        gate.calls(),
        [
            Call::Watched(queued("AAA")),
            Call::Whole(queued("AAA"), client(), first),
            Call::Taken(queued("AAA")),
            Call::Watched(queued("BBB")),
            Call::Whole(queued("BBB"), client(), second),
            Call::Dropped(queued("BBB")),
        ]
    );
}

#[tokio::test]
async fn who_watches_says_so_again_when_the_message_begins() {
    let gate = Recorder::saying(&[]);
    let milter = milter(&gate, OnFailure::Open, Limits::default());
    let early = [
        frame(b'D', b"M"),
        frame(b'M', b"<>\0"),
        frame(b'D', b"Ri\0AAA\0"),
        frame(b'R', b"<x@x.example>\0"),
        frame(b'D', b"Ri\0AAA\0"),
        frame(b'R', b"<y@y.example>\0"),
        frame(b'D', b"Ti\0AAA\0"),
        frame(b'T', b""),
    ]
    .concat();
    say(&milter, &[connect(), early, end("AAA")])
        .await
        .1
        .unwrap();
    let calls = gate.calls();
    assert_eq!(calls.len(), 4, "{calls:?}");
    assert_eq!(
        calls[..2],
        [Call::Watched(queued("AAA")), Call::Watched(queued("AAA"))]
    );
    assert_eq!(calls[3], Call::Taken(queued("AAA")));
}

#[tokio::test]
async fn what_does_not_end_is_dropped() {
    for ending in [frame(b'A', b""), frame(b'Q', b""), frame(b'K', b""), vec![]] {
        let gate = Recorder::saying(&[]);
        let milter = milter(&gate, OnFailure::Open, Limits::default());
        let parts = [connect(), message("AAA", &["x@x.example"]), ending];
        say(&milter, &parts).await.1.unwrap();
        let expected = [Call::Watched(queued("AAA")), Call::Dropped(queued("AAA"))];
        assert_eq!(gate.calls(), expected);
    }
}

#[tokio::test]
async fn a_conversation_that_is_given_up_here_is_dropped_too() {
    let gate = Recorder::saying(&[]);
    let milter = Arc::new(milter(&gate, OnFailure::Open, Limits::default()));
    let (mut here, there) = duplex(1 << 16);
    let task = tokio::spawn(async move {
        milter
            .serve(there, &crate::service::listen::Caller::new(0, 1, "unix:/x"))
            .await
    });
    let parts = [offer(), connect(), message("AAA", &["x@x.example"])];
    here.write_all(&parts.concat()).await.unwrap();
    assert_eq!(answer(&mut here).await.0, b'O');
    assert_eq!(answer(&mut here).await.0, b'c');
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert_eq!(gate.calls(), goes_out());
}

/// Nobody answers, and it goes out all the same.
fn goes_out() -> [Call; 3] {
    let to = vec!["x@x.example".to_owned()];
    [
        Call::Watched(queued("AAA")),
        Call::Whole(queued("AAA"), client(), to),
        Call::Taken(queued("AAA")),
    ]
}

#[tokio::test]
async fn what_goes_out_without_an_answer_is_counted() {
    let dropped = [Call::Watched(queued("AAA")), Call::Dropped(queued("AAA"))];
    let nonsense = || frame(b'?', b"");
    let broken = || frame(b'B', b"x")[..5].to_vec();
    let early = || {
        [
            frame(b'D', b"Mi\0AAA\0"),
            frame(b'M', b"<a@host.example>\0"),
            frame(b'R', b"<x@x.example>\0"),
        ]
        .concat()
    };
    let whole = || message("AAA", &["x@x.example"]);
    for (on_failure, parts, expected) in [
        (OnFailure::Open, [whole(), vec![]], &goes_out()[..]),
        (OnFailure::Open, [whole(), nonsense()], &goes_out()),
        (OnFailure::Closed, [whole(), vec![]], &dropped),
        (OnFailure::Closed, [whole(), nonsense()], &dropped),
        // It did not come to DATA.
        (OnFailure::Open, [early(), vec![]], &dropped),
        (OnFailure::Open, [early(), nonsense()], &dropped),
        (OnFailure::Open, [whole(), broken()], &goes_out()),
    ] {
        let gate = Recorder::saying(&[refuse()]);
        let limits = Limits {
            idle: Duration::from_millis(200),
            frame: Duration::from_millis(200),
            ..Limits::default()
        };
        let milter = milter(&gate, on_failure, limits);
        let (mut here, there) = duplex(1 << 16);
        let said = [offer(), connect(), parts.concat()].concat();
        here.write_all(&said).await.unwrap();
        // The mail server stays, and says nothing more.
        let caller = crate::service::listen::Caller::new(0, 1, "unix:/x");
        milter.serve(there, &caller).await.unwrap_err();
        assert_eq!(gate.calls(), expected, "{on_failure:?} {parts:?}");
        drop(here);
    }
}

#[tokio::test]
async fn a_login_does_not_outlive_its_message() {
    let gate = Recorder::saying(&[]);
    let milter = milter(&gate, OnFailure::Open, Limits::default());
    let second = [
        frame(b'D', b"M"),
        frame(b'M', b"<>\0"),
        frame(b'R', b"<x@x.example>\0"),
        frame(b'E', b""),
    ]
    .concat();
    let parts = [
        connect(),
        message("AAA", &["x@x.example"]),
        end("AAA"),
        second,
    ];
    say(&milter, &parts).await.1.unwrap();
    let calls = gate.calls();
    let Call::Whole(key, envelope, _) = &calls[3] else {
        panic!("{calls:?}");
    };
    assert_eq!(*key, Key::Milter(0, 2));
    assert_eq!(envelope.login, None);
    assert_eq!(envelope.sender.as_deref(), Some(""));
    assert_eq!(calls[4], Call::Taken(Key::Milter(0, 2)));
}

#[tokio::test]
async fn who_ran_sendmail_is_said_by_the_mail_server() {
    let of = |uid, login: Option<&str>, client: Option<&str>| {
        let client = client.map(|client| client.parse().unwrap());
        Envelope {
            uid,
            login: login.map(str::to_owned),
            client,
            server: client.map(|_| "127.0.0.1:0".parse().unwrap()),
            sender: Some("web@host.example".to_owned()),
        }
    };
    for (id, expected) in [
        ("ALICE", of(Some(2001), None, None)),
        ("REMOTE", of(None, Some("bob"), Some("192.0.2.9:99"))),
        ("AWAY", of(Some(crate::submission::NO_USER), None, None)),
        ("UNKNOWN", of(Some(crate::submission::NO_USER), None, None)),
    ] {
        let gate = Recorder::saying(&[]);
        let open = milter(&gate, OnFailure::Open, Limits::default());
        let (answers, result) = say(&open, &[submitted(id)]).await;
        result.unwrap();
        assert_eq!(answers.last().unwrap().0, b'c');
        let calls = gate.calls();
        assert_eq!(calls.first(), Some(&Call::Watched(queued(id))));
        assert_eq!(calls.last(), Some(&Call::Taken(queued(id))));
        let asked = calls.iter().find_map(|call| match call {
            Call::Whole(_, envelope, _) => Some(envelope.clone()),
            _ => None,
        });
        assert_eq!(asked, Some(expected), "{id}");

        let gate = Recorder::saying(&[]);
        let closed = milter(&gate, OnFailure::Closed, Limits::default());
        let (answers, _) = say(&closed, &[submitted(id)]).await;
        let known = !matches!(id, "AWAY" | "UNKNOWN");
        let last = answers.last().unwrap();
        assert_eq!(last.0, if known { b'c' } else { b'y' }, "{id}");
        assert_eq!(last.1.starts_with("450 4.3.0 "), !known);
    }
}

#[tokio::test]
async fn what_nobody_can_read_is_never_let_through() {
    for on_failure in [OnFailure::Open, OnFailure::Closed] {
        let gate = Recorder::saying(&[]);
        let milter = milter(&gate, on_failure, Limits::default());
        let (answers, _) = say(&milter, &[submitted("BROKEN")]).await;
        let text = "450 4.3.0 cannot find out who submitted this; try again later\0";
        assert_eq!(answers.last(), Some(&(b'y', text.to_owned())));
        let expected = [
            Call::Watched(queued("BROKEN")),
            Call::Dropped(queued("BROKEN")),
        ];
        assert_eq!(gate.calls(), expected);
    }
}

#[tokio::test]
async fn who_goes_too_fast_waits() {
    let wait = Answer::Wait(Duration::from_millis(250));
    let gate = Recorder::saying(&[wait.clone(), wait, Answer::Accept]);
    let limits = Limits {
        progress: Duration::from_millis(100),
        ..Limits::default()
    };
    let milter = Arc::new(milter(&gate, OnFailure::Open, limits));
    let (mut here, there) = duplex(1 << 16);
    let serving = milter.clone();
    let task = tokio::spawn(async move {
        serving
            .serve(there, &crate::service::listen::Caller::new(0, 1, "unix:/x"))
            .await
    });
    let parts = [
        offer(),
        connect(),
        message("AAA", &["x@x.example"]),
        end("AAA"),
    ];
    let began = std::time::Instant::now();
    here.write_all(&parts.concat()).await.unwrap();
    let mut letters = Vec::new();
    for _ in 0..7 {
        letters.push(char::from(answer(&mut here).await.0));
    }
    assert_eq!(letters, ['O', 'c', 'p', 'p', 'p', 'p', 'c']);
    assert!(began.elapsed() >= Duration::from_millis(500));
    drop(here);
    task.await.unwrap().unwrap();
    assert_eq!(gate.calls().len(), 5);
}

#[tokio::test]
async fn nobody_waits_for_ever_and_sendmail_not_at_all() {
    let gate = Recorder::saying(&[Answer::Wait(Duration::from_millis(100))]);
    let limits = Limits {
        patience: Duration::from_millis(250),
        ..Limits::default()
    };
    let milter = milter(&gate, OnFailure::Open, limits);
    let text = "450 4.7.1 too fast; try again in 1 seconds\0";
    let (answers, _) = say(&milter, &[submitted("ALICE")]).await;
    assert_eq!(answers.last().unwrap().1, text);
    assert_eq!(gate.calls().last(), Some(&Call::Dropped(queued("ALICE"))));

    let (mut here, there) = duplex(1 << 16);
    let parts = [
        offer(),
        connect(),
        message("AAA", &["x@x.example"]),
        end("AAA"),
    ];
    here.write_all(&parts.concat()).await.unwrap();
    let talk = async {
        loop {
            let (letter, text) = answer(&mut here).await;
            if letter == b'y' {
                drop(here);
                return String::from_utf8(text).unwrap();
            }
        }
    };
    let began = std::time::Instant::now();
    let caller = crate::service::listen::Caller::new(0, 1, "unix:/x");
    let (said, served) = tokio::join!(talk, milter.serve(there, &caller));
    served.unwrap();
    assert_eq!(said, text);
    // Two pauses fit.
    assert!(began.elapsed() >= Duration::from_millis(200));
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn who_leaves_while_waiting_is_dropped() {
    let gate = Recorder::saying(&[Answer::Wait(Duration::from_secs(100)), Answer::Accept]);
    let milter = milter(&gate, OnFailure::Open, Limits::default());
    let parts = [connect(), message("AAA", &["x@x.example"]), end("AAA")];
    let (_, result) = say(&milter, &parts).await;
    assert_eq!(
        result.unwrap_err().to_string(),
        "milter: the mail server did not wait for the answer"
    );
    let calls = gate.calls();
    assert_eq!(calls.len(), 3, "{calls:?}");
    assert_eq!(calls.last(), Some(&Call::Dropped(queued("AAA"))));
}

#[tokio::test]
async fn too_many_recipients_are_refused_and_not_kept() {
    let limits = Limits {
        recipients: 2,
        ..Limits::default()
    };
    let gate = Recorder::saying(&[]);
    let milter = milter(&gate, OnFailure::Open, limits);
    let (answers, _) = say(
        &milter,
        &[
            connect(),
            message("AAA", &["a@x", "b@x", "c@x"]),
            end("AAA"),
        ],
    )
    .await;
    let text = "550 5.5.3 a message may have 2 recipients at most\0";
    assert_eq!(answers.last(), Some(&(b'y', text.to_owned())));
    let expected = [Call::Watched(queued("AAA")), Call::Dropped(queued("AAA"))];
    assert_eq!(gate.calls(), expected);
}

#[tokio::test]
async fn who_does_not_keep_to_the_protocol_is_left() {
    let gate = Recorder::saying(&[]);
    let milter = milter(&gate, OnFailure::Open, Limits::default());
    for (parts, error) in [
        (
            vec![frame(b'E', b"")],
            "milter: a message ended that never began",
        ),
        (vec![frame(b'?', b"")], "milter: the unknown command 0x3f"),
        (
            vec![frame(b'M', b"<a@x>")],
            "milter: the command 'M' is broken",
        ),
        (
            vec![b"\x7f\xff\xff\xffB".to_vec()],
            "milter: a frame of 2147483647 bytes",
        ),
    ] {
        let (_, result) = say(&milter, &parts).await;
        assert_eq!(result.unwrap_err().to_string(), error);
    }
    let (mut here, there) = duplex(1024);
    here.write_all(&connect()).await.unwrap();
    drop(here);
    let early = milter
        .serve(there, &crate::service::listen::Caller::new(0, 1, "unix:/x"))
        .await
        .unwrap_err()
        .to_string();
    assert_eq!(early, "milter: something was said before the negotiation");
    assert_eq!(gate.calls(), []);
}
