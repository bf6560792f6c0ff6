//! The stream of events.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use limiter_user::{
    control::{
        client::{ClientError, Lines},
        server::Limits,
    },
    report::{event::EventRecord, store::EventFilter},
};
use tokio::time::timeout;

use crate::node::{Setup, event, start};

async fn next(lines: &mut Lines) -> EventRecord {
    let line = timeout(Duration::from_secs(5), lines.next())
        .await
        .expect("an event in time")
        .unwrap()
        .expect("an event");
    serde_json::from_slice(&line).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_recorded_comes_back_filtered() {
    let agent = start(Setup::default());
    for n in 1..=3 {
        agent.node.happen(event("alice", n));
        agent.node.happen(event("bob", n));
    }
    let mut old = event("alice", 9);
    old.time = Timestamp::now() - SignedDuration::from_hours(2);
    agent.node.happen(old);
    let filter = EventFilter {
        since: Some(Timestamp::now() - SignedDuration::from_hours(1)),
        tenant: Some("alice".into()),
    };
    let mut lines = agent.client().events(&filter, false).await.unwrap();
    for n in 1..=3 {
        let event = next(&mut lines).await;
        assert_eq!(
            (event.tenant.as_deref(), event.repeated),
            (Some("alice"), n)
        );
    }
    assert!(lines.next().await.unwrap().is_none(), "and no more");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn following_misses_nothing_and_repeats_nothing() {
    let agent = start(Setup::default());
    let node = agent.node.clone();
    let happening = tokio::spawn(async move {
        for n in 1..=500 {
            node.happen(event("alice", n));
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let filter = EventFilter {
        since: Some(Timestamp::now() - SignedDuration::from_hours(1)),
        tenant: Some("alice".into()),
    };
    let mut lines = agent.client().events(&filter, true).await.unwrap();
    for n in 1..=500 {
        assert_eq!(next(&mut lines).await.repeated, n);
    }
    happening.await.unwrap();
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn following_without_since_begins_now() {
    let agent = start(Setup::default());
    agent.node.happen(event("alice", 1));
    let mut lines = agent
        .client()
        .events(&EventFilter::default(), true)
        .await
        .unwrap();
    agent.node.happen(event("alice", 2));
    assert_eq!(next(&mut lines).await.repeated, 2);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_outlives_the_deadline_of_answers() {
    let agent = start(Setup {
        limits: Limits {
            total_time: Duration::from_millis(100),
            ..Limits::default()
        },
        ..Setup::default()
    });
    let mut lines = agent
        .client()
        .events(&EventFilter::default(), true)
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    agent.node.happen(event("alice", 1));
    assert_eq!(next(&mut lines).await.repeated, 1);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_leaves_frees_the_place() {
    let agent = start(Setup::default());
    for _ in 0..3 {
        let mut streams = Vec::new();
        for _ in 0..Limits::default().gate.per_uid {
            let stream = agent.client().events(&EventFilter::default(), true).await;
            streams.push(stream.unwrap());
        }
        let busy = agent.client().status(None).await.unwrap_err();
        assert!(
            matches!(busy, ClientError::Refused { status: 503, .. }),
            "every place is taken, and that is said: {busy:?}"
        );
        drop(streams);
        // No event is needed for the agent to notice.
        let noticed = async {
            while agent.node.live.receiver_count() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        timeout(Duration::from_secs(5), noticed).await.unwrap();
        agent.client().status(None).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    agent.stop().await;
}
