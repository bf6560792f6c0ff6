//! Logins by account, asked about by a real Dovecot.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use limiter_tests::{Dovecot, NODE4, Node};
use limiter_user::{
    policy::model::{LoginLimit, Mode},
    service::dovecot::{self, Locks},
};
use tokio::runtime::Runtime;

const LIMIT: LoginLimit = LoginLimit {
    max: 30,
    window: Duration::from_secs(3_600),
    lock: Duration::from_secs(3_600),
};
/// Where clients come from.
const OUTSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));
/// Asked once a login, after the password turned out to be right.
const ASKED_AFTER: &str = "auth_policy_check_before_auth = no
auth_policy_check_after_auth = yes
auth_policy_report_after_auth = no";

#[derive(Debug, Default)]
struct Locked(Mutex<Vec<(IpAddr, Duration)>>);

impl Locks for Locked {
    fn lock(&self, address: IpAddr, lock: Duration) {
        let mut locked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        locked.push((address, lock));
    }
}

/// A node whose Dovecot asks about logins.
struct Post {
    node: Node,
    service: Arc<dovecot::Dovecot>,
    locked: Arc<Locked>,
    _dovecot: Dovecot,
    _runtime: Option<Runtime>,
}

impl Post {
    /// With these settings, and nobody who answers unless `answered`.
    fn new(settings: &str, answered: bool) -> Self {
        let node = Node::new();
        let locked = Arc::new(Locked::default());
        let locks = Arc::clone(&locked) as Arc<dyn Locks>;
        let service = Arc::new(dovecot::Dovecot::new(
            locks,
            limiter_user::kernel::clock::monotonic_ns,
        ));
        service.set(Some(LIMIT), Mode::Enforce);
        let runtime = answered.then(|| serve(&node, &service));
        let users = node.directory().join("users");
        let names = ["alice@host.example", "bob@host.example"];
        let lines: String = names
            .map(|name| format!("{name}:{{PLAIN}}right\n"))
            .concat();
        fs::write(&users, lines).expect("the directory is ours");
        let settings = format!(
            "passdb {{
  driver = passwd-file
  args = {users}
}}
auth_policy_server_url = http://127.0.0.1:10041/
auth_policy_hash_nonce = not-a-secret
auth_failure_delay = 0
mail_max_userip_connections = 100
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
{settings}",
            users = users.display()
        );
        let dovecot = Dovecot::start_with(
            &node.root(),
            node.cgroup().child("dovecot"),
            node.directory(),
            &settings,
        );
        Self {
            node,
            service,
            locked,
            _dovecot: dovecot,
            _runtime: runtime,
        }
    }

    /// Logs in by IMAP or POP3, and what was answered.
    fn login(&self, port: u16, name: &str, password: &str) -> String {
        let server = SocketAddr::new(NODE4.into(), port);
        let connect = || TcpStream::connect(server).expect("Dovecot listens");
        let mut stream = self.node.outside().enter(connect);
        let patience = Some(Duration::from_secs(20));
        stream.set_read_timeout(patience).expect("it is not zero");
        let mut lines = BufReader::new(stream.try_clone().expect("it is a socket")).lines();
        let mut line = || {
            lines
                .next()
                .map_or_else(String::new, |line| line.expect("an answer"))
        };
        let _greeting = line();
        let imap = port == 143;
        let said = if imap {
            format!("a LOGIN {name} {password}\r\n")
        } else {
            format!("USER {name}\r\nPASS {password}\r\n")
        };
        stream.write_all(said.as_bytes()).expect("it is connected");
        let answer = if imap {
            let mut answer = line();
            while answer.starts_with('*') {
                answer = line();
            }
            answer
        } else {
            let _user = line();
            line()
        };
        // Who leaves too early is not seen to have logged in.
        let bye = if imap { "b LOGOUT\r\n" } else { "QUIT\r\n" };
        let _ = stream.write_all(bye.as_bytes());
        let _ = line();
        answer
    }

    fn imap(&self, name: &str, password: &str) -> String {
        self.login(143, &format!("{name}@host.example"), password)
    }

    fn locked(&self) -> Vec<(IpAddr, Duration)> {
        let locked = self.locked.0.lock().unwrap_or_else(PoisonError::into_inner);
        locked.clone()
    }
}

fn serve(node: &Node, service: &Arc<dovecot::Dovecot>) -> Runtime {
    let runtime = Runtime::new().expect("a runtime can be made");
    let bind = || TcpListener::bind("127.0.0.1:10041").expect("the node is new");
    let listener = node.inside().enter(bind);
    listener.set_nonblocking(true).expect("it is a socket");
    let _inside = runtime.enter();
    let listener = tokio::net::TcpListener::from_std(listener).expect("a runtime is there");
    let service = Arc::clone(service);
    runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = Arc::clone(&service);
            tokio::spawn(async move {
                if let Err(error) = service
                    .serve(
                        stream,
                        &limiter_user::service::listen::Caller::new(0, 1, "unix:/x"),
                    )
                    .await
                {
                    eprintln!("{error}");
                }
            });
        }
    });
    runtime
}

fn is_in(answer: &str) -> bool {
    answer.starts_with("a OK") || answer.starts_with("+OK")
}

#[test]
fn the_31st_login_is_refused() {
    let post = Post::new(ASKED_AFTER, true);
    // Guessing uses up nothing.
    for _ in 0..5 {
        let answer = post.imap("alice", "wrong");
        assert!(answer.contains("AUTHENTICATIONFAILED"), "{answer}");
    }
    for number in 0..30 {
        // Mail clients use both, and write names as they like.
        let (port, name) = match number % 3 {
            0 => (110, "alice@host.example"),
            1 => (143, "alice@host.example"),
            _ => (143, "ALICE@Host.Example"),
        };
        let answer = post.login(port, name, "right");
        assert!(is_in(&answer), "login {number}: {answer}");
    }
    assert_eq!(post.locked(), []);
    let answer = post.imap("alice", "right");
    assert!(answer.starts_with("a NO "), "{answer}");
    assert!(
        answer.contains("too many logins; try again in 60 minutes"),
        "{answer}"
    );
    assert_eq!(post.locked(), [(OUTSIDE, LIMIT.lock)]);
    let answer = post.login(110, "alice@host.example", "right");
    assert!(answer.starts_with("-ERR"), "{answer}");
    assert!(is_in(&post.imap("bob", "right")));
    assert!(post.service.release("alice@host.example"));
    assert!(is_in(&post.imap("alice", "right")));
}

#[test]
fn many_at_once_are_counted_one_by_one() {
    let post = Post::new(ASKED_AFTER, true);
    let answers: Vec<String> = thread::scope(|scope| {
        let talks: Vec<_> = (0..45)
            .map(|_| scope.spawn(|| post.imap("alice", "right")))
            .collect();
        let joined = talks.into_iter().map(|talk| talk.join());
        joined
            .map(|answer| answer.expect("it only talks"))
            .collect()
    });
    let count = answers.iter().filter(|answer| is_in(answer)).count();
    assert_eq!(count, 30, "{answers:?}");
    assert_eq!(post.locked().len(), 15);
}

#[test]
fn a_dovecot_that_asks_as_it_does_by_default_is_understood() {
    let post = Post::new("", true);
    for _ in 0..5 {
        let answer = post.imap("alice", "wrong");
        assert!(answer.contains("AUTHENTICATIONFAILED"), "{answer}");
    }
    for number in 0..30 {
        let answer = post.imap("alice", "right");
        assert!(is_in(&answer), "login {number}: {answer}");
    }
    assert!(!is_in(&post.imap("alice", "right")));
    assert!(is_in(&post.imap("bob", "right")));
    // Without a wrong password before, it asks twice for each.
    let post = Post::new("", true);
    for number in 0..30 {
        let answer = post.imap("alice", "right");
        assert!(is_in(&answer), "login {number}: {answer}");
    }
    assert!(!is_in(&post.imap("alice", "right")));
}

#[test]
fn without_an_answer_dovecot_does_as_it_is_told() {
    let open = Post::new(
        &format!("{ASKED_AFTER}\nauth_policy_reject_on_fail = no"),
        false,
    );
    assert!(is_in(&open.imap("alice", "right")));
    drop(open);
    let closed = Post::new(
        &format!("{ASKED_AFTER}\nauth_policy_reject_on_fail = yes"),
        false,
    );
    assert!(!is_in(&closed.imap("alice", "right")));
}
