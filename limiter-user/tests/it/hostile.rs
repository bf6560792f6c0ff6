//! Clients that mean no good, or know no better.

use std::time::{Duration, Instant};

use limiter_user::{control::server::Limits, report::store::EventFilter};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};

use crate::node::{Agent, Setup, event, start};

fn impatient() -> Setup {
    Setup {
        limits: Limits {
            head_time: Duration::from_millis(300),
            body_time: Duration::from_millis(300),
            stall_time: Duration::from_millis(300),
            total_time: Duration::from_secs(2),
            ..Limits::default()
        },
        ..Setup::default()
    }
}

/// Sends `bytes` and reads until the agent hangs up, at most five seconds.
async fn send(agent: &Agent, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(&agent.socket).await.unwrap();
    let mut answer = Vec::new();
    let talk = async {
        // The agent may hang up before everything is sent.
        let _ = stream.write_all(bytes).await;
        let _ = stream.read_to_end(&mut answer).await;
    };
    timeout(Duration::from_secs(5), talk)
        .await
        .expect("the agent hangs up");
    String::from_utf8_lossy(&answer).into_owned()
}

fn status_of(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_request_is_dropped() {
    let agent = start(impatient());
    let began = Instant::now();
    for half in [
        &b"GET /v1/sta"[..],
        b"GET /v1/status HTTP/1.1\r\nhost: x\r\n",
        b"",
    ] {
        let answer = send(&agent, half).await;
        assert!(["", "408"].contains(&status_of(&answer)), "{answer:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(4));
    let body = b"POST /v1/reload HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{";
    assert_eq!(status_of(&send(&agent, body).await), "400");
    assert!(agent.node.changes.lock().unwrap().is_empty());
    agent.client().status(None).await.unwrap();
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused() {
    let agent = start(impatient());
    let path = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(100_000));
    assert!(["414", "431"].contains(&status_of(&send(&agent, path.as_bytes()).await)));
    let field = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "a".repeat(10_000_000));
    assert_eq!(status_of(&send(&agent, field.as_bytes()).await), "431");
    let fields = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(1000));
    assert_eq!(status_of(&send(&agent, fields.as_bytes()).await), "431");
    let body = format!(
        "POST /v1/reload HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n{}",
        "a".repeat(1_000_000)
    );
    assert_eq!(status_of(&send(&agent, body.as_bytes()).await), "400");
    agent.client().status(None).await.unwrap();
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_answered_in_words() {
    let agent = start(impatient());
    for (request, status) in [
        ("GET /nothing HTTP/1.1", "404"),
        ("DELETE /v1/status HTTP/1.1", "405"),
        ("GET /v1/reload HTTP/1.1", "405"),
        ("GET /v1/status?tenant=a&tenant=b HTTP/1.1", "400"),
        ("GET /v1/status?tennant=a HTTP/1.1", "400"),
        ("GET /v1/explain?uid=-1&to=1.2.3.4:25 HTTP/1.1", "400"),
        ("GET /v1/explain?uid=1&pid=1&to=1.2.3.4:25 HTTP/1.1", "400"),
        ("GET /v1/explain?uid=1 HTTP/1.1", "400"),
        ("GET /v1/events?since=yesterday HTTP/1.1", "400"),
        ("GET /v1/events?follow=maybe HTTP/1.1", "400"),
        ("\u{1}\u{2}\u{3}", "400"),
    ] {
        let answer = send(&agent, format!("{request}\r\nhost: x\r\n\r\n").as_bytes()).await;
        assert_eq!(status_of(&answer), status, "{request}: {answer}");
        if request.contains("/v1/") {
            let body = answer.split("\r\n\r\n").nth(1).unwrap();
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            assert!(body["error"].is_string() && body["remedy"].is_string());
        }
    }
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_idle_connections_are_bounded() {
    // Long enough for all of them to come before the first is dropped.
    let agent = start(Setup {
        limits: Limits {
            head_time: Duration::from_secs(4),
            ..Limits::default()
        },
        ..Setup::default()
    });
    raise_descriptors();
    let began = Instant::now();
    let mut idle = Vec::new();
    for _ in 0..10_000 {
        // Where the socket's queue is full, the kernel turns them away itself.
        idle.extend(UnixStream::connect(&agent.socket).await.ok());
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert!(began.elapsed() < Duration::from_secs(4), "too slow to tell");
    let (mut inside, mut busy) = (0, 0);
    for stream in &idle {
        let mut answer = [0; 512];
        match stream.try_read(&mut answer) {
            Ok(length) if answer[..length].starts_with(b"HTTP/1.1 503") => busy += 1,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => inside += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(inside, Limits::default().gate.per_uid);
    assert_eq!(busy, idle.len() - inside, "and all others are told");
    drop(idle);
    let asked = async { while agent.client().status(None).await.is_err() {} };
    timeout(Duration::from_secs(5), asked).await.unwrap();
    agent.stop().await;
}

/// Each connection costs this process two descriptors.
fn raise_descriptors() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the structure is valid for both calls.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
        limit.rlim_cur = limit.rlim_max;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_follows_and_does_not_read_is_dropped() {
    let agent = start(impatient());
    let mut stream = UnixStream::connect(&agent.socket).await.unwrap();
    stream
        .write_all(b"GET /v1/events?follow=true HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    while agent.node.live.receiver_count() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // More than the socket's buffers hold; the store takes it all the while.
    let dropped = async {
        let mut n = 0;
        while agent.node.live.receiver_count() > 0 {
            n += 1;
            agent.node.happen(event("alice", n));
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), dropped)
        .await
        .expect("it is dropped");
    // Others are served, and follow.
    agent.client().status(None).await.unwrap();
    let other = agent.client().events(&EventFilter::default(), true).await;
    other.unwrap();
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_for_much_and_does_not_read_is_dropped() {
    let agent = start(Setup {
        tenants: 20_000,
        ..impatient()
    });
    let mut stream = UnixStream::connect(&agent.socket).await.unwrap();
    stream
        .write_all(b"GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut answer = Vec::new();
    let read = timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
    let _ = read.expect("the agent hung up");
    assert!(answer.len() < 4_000_000, "{}", answer.len());
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_thinks_long_holds_nobody_up() {
    let agent = start(Setup {
        thinking: Duration::from_secs(1),
        ..Setup::default()
    });
    let slow: Vec<_> = (0..10)
        .map(|_| {
            let client = agent.client();
            tokio::spawn(async move { client.status(None).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let began = Instant::now();
    let reload = agent.client().reload(&Default::default()).await.unwrap();
    assert!(reload.loaded && began.elapsed() < Duration::from_millis(500));
    for slow in slow {
        slow.await.unwrap().unwrap();
    }
    agent.stop().await;
}
