//! Questions and answers.

use std::time::Duration;

use limiter_common::verdict::Verdict;
use limiter_user::{
    control::{
        client::ClientError,
        routes::{ObserveRequest, ReinstateRequest, ReloadRequest, SanctionRequest},
    },
    offence,
    report::{
        duration::Seconds,
        explain::{ExplainQuery, Subject},
    },
};

use crate::node::{Setup, fault, start};

#[tokio::test(flavor = "multi_thread")]
async fn status_of_all_one_and_none() {
    let agent = start(Setup::default());
    let client = agent.client();
    let all = client.status(None).await.unwrap();
    assert!(all.healthy);
    assert_eq!(all.tenants.len(), 3);
    let one = client.status(Some("t2")).await.unwrap();
    assert_eq!(one.tenants[0].denied, 2);
    let error = client.status(Some("no/body & co")).await.unwrap_err();
    let ClientError::Refused {
        status,
        error,
        remedy,
    } = error
    else {
        panic!("{error:?}")
    };
    assert_eq!(status, 404);
    assert!(error.contains("no/body & co"), "{error}");
    assert!(remedy.contains("limiter status"), "{remedy}");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_subject_travels() {
    let agent = start(Setup::default());
    for (subject, text) in [
        (Subject::Uid(2001), "uid 2001"),
        (Subject::Pid(7), "process 7"),
        (Subject::Cgroup("/a b/c&d".into()), "cgroup /a b/c&d"),
        (Subject::Interface("tap101i0".into()), "interface tap101i0"),
        (
            Subject::From("2001:db8::7".parse().unwrap()),
            "address 2001:db8::7",
        ),
    ] {
        let question = ExplainQuery {
            subject,
            to: "[2001:db8::5]:25".parse().unwrap(),
        };
        let answer = agent.client().explain(&question).await.unwrap();
        assert_eq!(answer.subject, text);
        assert_eq!(answer.destination.to_string(), "[2001:db8::5]:25");
        assert_eq!(answer.verdict, Verdict::WouldDeny);
        assert_eq!(answer.enforced_verdict, Verdict::Denied);
    }
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_recorded_with_who_and_why() {
    let agent = start(Setup::default());
    let client = agent.client();
    let because = ReloadRequest {
        reason: Some("new customer".into()),
    };
    assert!(client.reload(&because).await.unwrap().loaded);
    agent.node.faults.lock().unwrap().push_back(fault());
    let refused = client.reload(&ReloadRequest::default()).await.unwrap();
    assert!(!refused.loaded);
    assert_eq!(refused.faults, [fault()]);
    let open = |seconds| ObserveRequest {
        tenant: Some("t1".into()),
        duration: Some(Seconds(Duration::from_secs(seconds))),
        reason: Some("testing".into()),
    };
    let outcome = client.observe(&open(1800)).await.unwrap();
    assert!(outcome.until.is_some());
    assert_eq!(client.observe(&open(0)).await.unwrap().until, None);
    let error = client.observe(&open(32 * 86_400)).await.unwrap_err();
    assert!(
        matches!(error, ClientError::Refused { status: 400, .. }),
        "{error:?}"
    );

    // SAFETY: geteuid cannot fail.
    let uid = unsafe { libc::geteuid() };
    let changes = agent.node.changes.lock().unwrap().clone();
    assert_eq!(changes.len(), 4, "what is refused never reaches the node");
    for (_, peer) in &changes {
        assert_eq!(peer.uid, uid);
        assert_eq!(peer.pid, Some(std::process::id()));
    }
    assert_eq!(changes[2].0, r#"observe Some("t1") Some(1800s)"#);
    assert_eq!(changes[3].0, r#"observe Some("t1") None"#);

    let audit = agent.audit();
    assert_eq!(audit.len(), 4);
    assert_eq!(audit[0]["action"], "reload");
    assert_eq!(audit[0]["by"]["uid"], uid);
    assert_eq!(audit[0]["reason"], "new customer");
    assert_eq!(audit[0]["done"], true);
    assert_eq!(audit[1]["done"], false);
    assert_eq!(audit[1]["outcome"], "refused: 1 error");
    assert_eq!(audit[2]["arguments"]["tenant"], "t1");
    assert_eq!(audit[2]["arguments"]["for"], 1800);
    assert_eq!(audit[2]["reason"], "testing");
    use std::os::unix::fs::PermissionsExt;
    let meta = std::fs::metadata(agent.state_dir().join("audit.jsonl")).unwrap();
    assert_eq!(meta.permissions().mode() & 0o7777, 0o600);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sanctions_travel_and_are_recorded() {
    let agent = start(Setup::default());
    let client = agent.client();
    let mut request = SanctionRequest {
        tenant: "t2".into(),
        sanction: offence::Sanction::SuspendMail,
        duration: Some(Seconds(Duration::from_secs(60))),
        reason: " spam ".into(),
    };
    let outcome = client.sanction(&request).await.unwrap();
    assert_eq!(outcome.sanction, offence::Sanction::SuspendMail);
    assert_eq!(outcome.cut.unwrap().sessions, 3);
    let mut back = ReinstateRequest {
        tenant: "t2".into(),
        sanction: None,
        overriding: false,
        reason: "cleaned".into(),
    };
    let outcome = client.reinstate(&back).await.unwrap();
    assert_eq!(outcome.lifted, [offence::Sanction::SuspendNetwork]);

    // Who may not be is refused by the node, and recorded; no reason never reaches it.
    request.tenant = "(node)".into();
    let refused = client.sanction(&request).await.unwrap_err();
    assert!(
        matches!(refused, ClientError::Refused { status: 400, .. }),
        "{refused:?}"
    );
    request.reason = " ".into();
    back.reason = String::new();
    for refused in [
        client.sanction(&request).await.unwrap_err(),
        client.reinstate(&back).await.unwrap_err(),
    ] {
        let said = refused.to_string();
        assert!(said.contains("say why"), "{said}");
    }
    let changes = agent.node.changes.lock().unwrap().clone();
    assert_eq!(changes.len(), 2);
    assert_eq!(changes[0].0, "suspend t2 suspend_mail Some(60s)");
    assert_eq!(changes[1].0, "reinstate t2 None false");

    let audit = agent.audit();
    let done: Vec<_> = audit.iter().map(|line| line["done"] == true).collect();
    assert_eq!(done, [true, true, false]);
    assert_eq!(audit[0]["action"], "suspend");
    assert_eq!(audit[0]["reason"], "spam");
    assert_eq!(audit[0]["arguments"]["sanction"], "suspend_mail");
    assert_eq!(audit[1]["action"], "reinstate");
    assert_eq!(audit[1]["outcome"], "lifted suspend_network");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_tenants_travel() {
    let agent = start(Setup {
        tenants: 100_000,
        ..Setup::default()
    });
    let status = agent.client().status(None).await.unwrap();
    assert_eq!(status.tenants.len(), 100_000);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_said_with_the_socket() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("control.sock");
    let client = limiter_user::control::client::Client::new(&socket);
    let missing = client.status(None).await.unwrap_err();
    assert!(matches!(missing, ClientError::NotRunning { .. }));
    assert!(missing.to_string().contains(socket.to_str().unwrap()));
    // A socket that a dead agent left behind.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let stale = client.status(None).await.unwrap_err();
    assert!(matches!(stale, ClientError::NotRunning { .. }));
    // An agent that is stopped (SIGSTOP): connects, never answers.
    std::fs::remove_file(&socket).unwrap();
    let _silent = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let client = client.patient(Duration::from_millis(200));
    let silent = client.status(None).await.unwrap_err();
    assert!(matches!(silent, ClientError::Silent { .. }), "{silent:?}");
}
