use std::time::Duration;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::*;

const LIMIT: LoginLimit = LoginLimit {
    max: 3,
    window: Duration::from_secs(3_600),
    lock: Duration::from_secs(600),
};

#[derive(Debug, Default)]
struct Locked(Mutex<Vec<(IpAddr, Duration)>>);

impl Locks for Locked {
    fn lock(&self, address: IpAddr, lock: Duration) {
        self.0.lock().unwrap().push((address, lock));
    }
}

fn still() -> u64 {
    99_000_000_000_000
}

fn service(mode: Mode) -> (Arc<Dovecot>, Arc<Locked>) {
    let locked = Arc::new(Locked::default());
    let locks = Arc::clone(&locked) as Arc<dyn Locks>;
    let service = Arc::new(Dovecot::new(locks, still));
    service.set(Some(LIMIT), mode);
    (service, locked)
}

fn post(command: &str, body: &str) -> String {
    format!(
        "POST /?command={command} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn login(name: &str, remote: &str, protocol: &str) -> String {
    post(
        "allow",
        &format!("{{\"login\":\"{name}\",\"remote\":\"{remote}\",\"protocol\":\"{protocol}\"}}"),
    )
}

/// Says all of it over one connection, and what came back.
async fn say(service: &Arc<Dovecot>, bytes: &[u8]) -> String {
    let (mut here, there) = duplex(1 << 20);
    here.write_all(bytes).await.unwrap();
    here.shutdown().await.unwrap();
    // What is no HTTP ends with an error.
    let served = time::timeout(
        Duration::from_secs(20),
        service.serve(there, &Caller::new(0, 1, "unix:/x")),
    )
    .await;
    assert!(served.is_ok(), "it goes on for ever");
    let mut said = Vec::new();
    here.read_to_end(&mut said).await.unwrap();
    String::from_utf8_lossy(&said).into_owned()
}

/// The statuses of the answers to these questions.
async fn statuses(service: &Arc<Dovecot>, questions: &[String]) -> Vec<i64> {
    let said = say(service, questions.concat().as_bytes()).await;
    said.split("{\"status\":")
        .skip(1)
        .map(|rest| rest.split(',').next().unwrap().parse().unwrap())
        .collect()
}

#[tokio::test]
async fn the_fourth_of_three_is_refused_and_its_client_locked() {
    let (service, locked) = service(Mode::Enforce);
    let mut questions = vec![login("alice", "192.0.2.7", "imap"); 3];
    questions.push(login("ALICE", "192.0.2.8", "pop3"));
    questions.push(login("alice", "127.0.0.1", "imap"));
    questions.push(login("alice", "", "imap"));
    questions.push(login("alice", "192.0.2.9", "smtp"));
    questions.push(login("bob", "192.0.2.7", "imap"));
    let said = statuses(&service, &questions).await;
    assert_eq!(said, [0, 0, 0, -1, -1, -1, 0, 0]);
    let address = "192.0.2.8".parse().unwrap();
    assert_eq!(*locked.0.lock().unwrap(), [(address, LIMIT.lock)]);
    assert_eq!(service.locked(), [("alice".to_owned(), LIMIT.lock)]);
    let again = say(&service, login("alice", "", "imap").as_bytes()).await;
    assert!(again.starts_with("HTTP/1.1 200 OK\r\n"), "{again}");
    assert!(again.ends_with("\"too many logins; try again in 10 minutes\"}"));
    assert!(service.release("Alice"));
    assert_eq!(statuses(&service, &questions[..1]).await, [0]);
}

#[tokio::test]
async fn who_only_observes_refuses_nobody() {
    let (service, locked) = service(Mode::Observe);
    let questions = vec![login("alice", "192.0.2.7", "imap"); 9];
    assert_eq!(statuses(&service, &questions).await, [0; 9]);
    assert!(locked.0.lock().unwrap().is_empty());
    service.set(None, Mode::Enforce);
    assert_eq!(statuses(&service, &questions).await, [0; 9]);
    service.set(Some(LIMIT), Mode::Enforce);
    let said = statuses(&service, &questions[..4]).await;
    assert_eq!(said, [0, 0, 0, -1]);
}

#[tokio::test]
async fn reports_are_heard() {
    let (service, _) = service(Mode::Enforce);
    let body =
        "{\"login\":\"alice\",\"session_id\":\"s\",\"success\":false,\"policy_reject\":false}";
    let pair = [post("allow", body), post("report", body)];
    for _ in 0..5 {
        assert_eq!(statuses(&service, &pair).await, [0, 0]);
    }
    assert!(service.locked().is_empty());
}

#[tokio::test]
async fn what_is_no_question_is_an_error() {
    let (service, _) = service(Mode::Enforce);
    let long = post("allow", &"x".repeat(MOST_BYTES + 1));
    for (bytes, status) in [
        (post("allow", "no"), "400"),
        (post("allow", "{}"), "400"),
        (post("else", "{}"), "404"),
        (post("allow", "{}").replace("?command=allow", ""), "404"),
        (post("allow", "{}").replace("POST", "GET"), "405"),
        (long, "400"),
        ("nonsense\r\n\r\n".to_owned(), "400"),
        (format!("POST /{} HTTP/1.1\r\n\r\n", "x".repeat(9_000)), "4"),
    ] {
        let said = say(&service, bytes.as_bytes()).await;
        assert!(said.starts_with(&format!("HTTP/1.1 {status}")), "{said}");
    }
}

proptest! {
    #[test]
    fn whatever_is_said_ends(
        at in 0..200_usize,
        remove in 0..40_usize,
        insert in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut bytes = [login("alice", "192.0.2.7", "imap"), login("bob", "", "pop3")].concat().into_bytes();
        let end = (at + remove).min(bytes.len());
        bytes.splice(at.min(end)..end, insert);
        let (service, _) = service(Mode::Enforce);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let said = runtime.block_on(say(&service, &bytes));
        prop_assert!(said.is_empty() || said.starts_with("HTTP/1.1 "));
    }
}
