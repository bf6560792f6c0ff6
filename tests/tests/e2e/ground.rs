//! Without limiter the way is open: whatever is refused in the other tests, limiter refused it.

use std::{net::IpAddr, time::Duration};

use limiter_tests::{
    Container, Exim, Letter, Mailer, NODE4, NODE6, Node, OUTSIDE_MX, OUTSIDE_MX6, Postfix, Reached,
    Sink, SmtpSink, machine, mx, orders::SocketOf, wait,
};

#[test]
fn every_way_to_connect_reaches_the_outside() {
    let node = Node::new();
    let sink = Sink::listen(node.outside(), &[25], "outside.example");
    let alice = node.sender(2001);
    let mut attempts = Vec::new();
    for how in machine::ways_to_connect() {
        for v6 in [false, true] {
            attempts.push(alice.attempt(mx(v6)).how(how));
        }
        attempts.push(alice.attempt(mx(false)).how(how).mapped());
    }
    attempts.push(alice.attempt(mx(false)).device("eth0"));
    attempts.push(alice.attempt(mx(true)).device("eth0"));
    attempts.push(alice.attempt(mx(false)).from(IpAddr::from(NODE4)));
    attempts.push(alice.attempt(mx(true)).from(IpAddr::from(NODE6)));
    let maker = node.cgroup().child("maker");
    for uid in [0, 2002] {
        for cgroup in [None, Some(maker.directory().to_path_buf())] {
            let before = SocketOf::Before {
                uid,
                cgroup: cgroup.clone(),
            };
            attempts.push(alice.attempt(mx(false)).socket(before));
            attempts.push(
                alice
                    .attempt(mx(true))
                    .socket(SocketOf::Other { uid, cgroup }),
            );
        }
    }
    let wanted = attempts.len();
    for attempt in attempts {
        assert_eq!(attempt.make_unexplained(), Reached::Outside);
    }
    assert_eq!(sink.settled(), wanted);
    assert!(
        sink.visits()
            .iter()
            .all(|visit| visit.from.ip() == IpAddr::from(NODE4)
                || visit.from.ip() == IpAddr::from(NODE6)),
        "{:?}",
        sink.visits()
    );
}

#[test]
fn containers_reach_the_outside() {
    let node = Node::new();
    let sink = Sink::listen(node.outside(), &[25], "outside.example");
    let shop = Container::rootful(&node, "shop");
    for uid in [0, 2001] {
        for v6 in [false, true] {
            let reached = shop.sender(uid).attempt(mx(v6)).make_unexplained();
            assert_eq!(reached, Reached::Outside);
        }
    }
    drop(shop);
    let shop = Container::unprivileged(&node, "shop2");
    for uid in [0, 2001] {
        let reached = shop.sender(uid).attempt(mx(false)).make_unexplained();
        assert_eq!(reached, Reached::Outside);
    }
    assert_eq!(sink.settled(), 6);
}

#[test]
fn a_flood_is_counted_exactly() {
    let node = Node::new();
    let sink = Sink::listen(node.outside(), &[25], "outside.example");
    let senders: Vec<_> = (0..8)
        .map(|_| {
            node.sender(2001)
                .flood(mx(false), 500, Duration::ZERO)
                .start()
        })
        .collect();
    let senders: Vec<_> = senders.into_iter().map(|sender| sender.go()).collect();
    for sender in senders {
        let report = sender.finish();
        assert_eq!(report.connected, 500, "{report:?}");
    }
    assert_eq!(sink.settled(), 4_000);
}

#[test]
fn every_mail_program_delivers_to_a_real_server() {
    let node = Node::new();
    let outside = outside_postfix(&node);
    for mailer in Mailer::ALL {
        for v6 in [false, true] {
            let letter = Letter::outside(&format!("{mailer:?} {v6}"));
            let sent = mailer.send(&node.user(2001), mx(v6), &letter);
            assert_eq!(sent.code, 0, "{mailer:?} {v6}: {sent:?}");
            let _ = outside.mailbox().wait_for(&letter.subject);
        }
    }
}

#[test]
fn smtp_sink_counts_messages() {
    let node = Node::new();
    let sink = SmtpSink::start(&node.elsewhere(), mx(false), node.directory());
    for number in 0..3 {
        let letter = Letter::outside(&format!("number {number}"));
        let sent = Mailer::Curl.send(&node.user(2001), mx(false), &letter);
        assert_eq!(sent.code, 0, "{sent:?}");
    }
    wait::until_true("three messages", wait::SOON, || {
        sink.messages() == 3 && sink.sessions() == 3
    });
}

#[test]
fn local_servers_relay_to_the_outside() {
    let node = Node::new();
    let outside = outside_postfix(&node);
    let local = Postfix::start(
        &node.root(),
        node.cgroup().child("mta"),
        node.directory(),
        "node.example",
        &["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()],
        (&format!("relayhost = [{OUTSIDE_MX}]:25\n"), ""),
    );
    let sent = Mailer::Python.send(
        &node.user(2001),
        "127.0.0.1:25".parse().unwrap(),
        &Letter::outside("through Postfix"),
    );
    assert_eq!(sent.code, 0, "{sent:?}");
    let _ = outside.mailbox().wait_for("through Postfix");
    drop(local);

    let exim = Exim::install(&node, OUTSIDE_MX6.into());
    let sent = exim.submit(
        &node.user(2001),
        "somebody@outside.example",
        "Subject: through Exim\n\nBuy now.\n",
    );
    assert_eq!(sent.code, 0, "{sent:?}");
    let _ = outside.mailbox().wait_for("through Exim");

    let cgroup = node.cgroup().child("exim");
    let _daemon = exim.daemon(&node.root(), &cgroup);
    let sent = Mailer::Python.send(
        &node.user(2001),
        "[::1]:25".parse().unwrap(),
        &Letter::outside("to Exim's daemon"),
    );
    assert_eq!(sent.code, 0, "{sent:?}");
    let _ = outside.mailbox().wait_for("to Exim's daemon");
}

/// A real mail server outside, on the addresses of [`mx`].
fn outside_postfix(node: &Node) -> Postfix {
    Postfix::start(
        &node.elsewhere(),
        limiter_tests::Cgroup::at_top(),
        node.directory(),
        "outside.example",
        &[OUTSIDE_MX.into(), OUTSIDE_MX6.into()],
        ("", ""),
    )
}
