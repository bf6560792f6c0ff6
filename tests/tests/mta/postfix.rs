//! Postfix.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use limiter_tests::{Node, OUTSIDE_MX, Place, Postfix, process::run, wait};
use limiter_user::mta::{HoldBook, MemoryBook, Places};

use crate::town::{
    Keeper, admin, arrived, keeper, letter, open_destination, settle, wait_for, well,
};

/// A node whose own Postfix hands everything to a server outside.
pub struct Town {
    pub postfix: Postfix,
    pub node: Node,
}

impl Town {
    pub fn new(main: &str) -> Self {
        let node = Node::new();
        let main = format!(
            "relayhost = [{OUTSIDE_MX}]:25
smtpd_authorized_xclient_hosts = 127.0.0.0/8
{main}"
        );
        let postfix = Postfix::of_node(&node, "127.0.0.1", (&main, ""));
        postfix.install(&node);
        Self { postfix, node }
    }

    pub fn places() -> Places {
        Places {
            exim: Vec::new(),
            ..Places::default()
        }
    }

    pub fn keeper(&self, book: MemoryBook) -> Keeper {
        keeper(&self.node, &Self::places(), book)
    }

    /// Submits as a web site does.
    pub fn submit(&self, uid: u32, subject: &str) {
        submit(&self.node.user(uid), subject);
    }

    /// Sends over SMTP, logged in.
    pub fn send_as(&self, login: &str, subject: &str) {
        const SCRIPT: &str = "
import smtplib, sys
login, message = sys.argv[1], sys.stdin.read()
with smtplib.SMTP('127.0.0.1', 25, local_hostname='web.example', timeout=10) as server:
    server.ehlo()
    if login:
        assert server.docmd('XCLIENT', 'LOGIN=' + login)[0] == 220
        server.ehlo()
    server.sendmail('x@node.example', ['somebody@outside.example'], message)
";
        let mut command = self.node.root().command("/usr/bin/python3");
        command.args(["-c", SCRIPT, login]);
        let _ = run(&mut command, &letter(subject)).success("smtplib");
    }

    /// The ids in one of the queues.
    pub fn ids(&self, queue: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        files(&self.queue().join(queue), &mut found);
        found
    }

    pub fn queue(&self) -> std::path::PathBuf {
        let configuration = self.postfix.configuration();
        configuration.parent().expect("it has one").join("queue")
    }

    /// Waits until so many messages have been tried in vain.
    pub fn wait_for_deferred(&self, count: usize) {
        wait::until_true("mail to be deferred", Duration::from_secs(20), || {
            self.ids("deferred").len() == count
                && self.ids("active").is_empty()
                && self.ids("incoming").is_empty()
        });
    }

    pub fn flush(&self) {
        let _ = admin(&self.node, &["postqueue", "-f"]).success("postqueue");
    }
}

pub fn submit(user: &Place, subject: &str) {
    let mut command = user.command("sendmail");
    command.args(["-i", "-f", "x@node.example", "somebody@outside.example"]);
    let _ = run(&mut command, &letter(subject)).success("sendmail");
}

fn files(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name().into_string().expect("ids are plain");
        if name.len() == 1 {
            files(&entry.path(), found);
        } else {
            found.insert(name);
        }
    }
}

#[test]
fn held_mail_stays_and_the_neighbours_goes() {
    let town = Town::new("");
    let node = &town.node;
    town.submit(2001, "alice, held by the administrator");
    town.wait_for_deferred(1);
    let by_admin = town.ids("deferred").pop_first().expect("one");
    let _ = admin(node, &["postsuper", "-h", &by_admin]).success("postsuper");
    town.submit(2001, "alice local");
    town.send_as("alice@host.example", "alice login");
    town.submit(2002, "bob local");
    town.send_as("bob@host.example", "bob login");
    town.send_as("", "nobody");
    town.wait_for_deferred(5);

    let mut keeper = town.keeper(MemoryBook::default());
    let report = well(node.inside().enter(|| keeper.hold("alice")));
    assert_eq!(report.held.get("alice"), Some(&2), "{report:?}");
    assert_eq!(report.unattributed, 1);
    assert_eq!(town.ids("hold").len(), 3);
    // Again changes nothing.
    let report = well(node.inside().enter(|| keeper.hold("alice")));
    assert!(report.is_quiet(), "{report:?}");

    let sink = open_destination(node);
    town.flush();
    wait_for(&sink, &["bob local", "bob login", "nobody"]);
    wait::stays_true("alice's mail is held", Duration::from_secs(1), || {
        arrived(&sink).len() == 3
    });
    // What she submits now is caught, or gone before anybody can look.
    town.submit(2002, "bob again");
    wait_for(&sink, &["bob local", "bob login", "nobody", "bob again"]);

    let report = well(node.inside().enter(|| keeper.release("alice")));
    assert_eq!(report.released.get("alice"), Some(&2), "{report:?}");
    let all = [
        "bob local",
        "bob login",
        "nobody",
        "bob again",
        "alice local",
        "alice login",
    ];
    wait_for(&sink, &all);
    assert_eq!(town.ids("hold"), BTreeSet::from([by_admin]));
    assert!(!keeper.is_needed());
}

#[test]
fn what_comes_while_held_is_held_by_the_next_look() {
    let town = Town::new("");
    let node = &town.node;
    let mut keeper = town.keeper(MemoryBook::default());
    let report = well(node.inside().enter(|| keeper.hold("alice")));
    assert!(report.is_quiet(), "{report:?}");
    town.submit(2001, "alice late");
    town.submit(2002, "bob late");
    town.wait_for_deferred(2);
    let report = node.inside().enter(|| keeper.sweep());
    assert_eq!(settle(node, &mut keeper, report), 1);
    // An administrator who lets it go does not lift the sanction.
    let _ = admin(node, &["postsuper", "-H", "ALL"]).success("postsuper");
    let report = node.inside().enter(|| keeper.sweep());
    assert_eq!(settle(node, &mut keeper, report), 1);
    let sink = open_destination(node);
    town.flush();
    wait_for(&sink, &["bob late"]);
    let report = well(node.inside().enter(|| keeper.release("alice")));
    assert_eq!(report.released.get("alice"), Some(&1));
    wait_for(&sink, &["bob late", "alice late"]);
}

#[test]
fn a_crash_changes_nothing() {
    let town = Town::new("");
    let node = &town.node;
    town.submit(2001, "alice");
    town.submit(2002, "bob");
    town.wait_for_deferred(2);
    let mut book = {
        // Written down and not held yet; and the book is all that is left of it.
        let mut keeper = town.keeper(MemoryBook::default());
        let report = well(node.inside().enter(|| keeper.hold("alice")));
        assert_eq!(report.held.get("alice"), Some(&1));
        keeper.into_book()
    };
    assert_eq!(book.held().expect("it is in memory").len(), 1);
    let mut keeper = town.keeper(book.clone());
    let both = BTreeSet::from(["alice".to_owned(), "bob".to_owned()]);
    let report = well(node.inside().enter(|| keeper.begin(both)));
    assert_eq!(report.held.get("bob"), Some(&1));
    assert_eq!(report.held.get("alice"), None);
    // The next life begins when bob alone is under a sanction.
    let mut keeper = town.keeper(keeper.into_book());
    let report = well(
        node.inside()
            .enter(|| keeper.begin(BTreeSet::from(["bob".to_owned()]))),
    );
    assert_eq!(report.released.get("alice"), Some(&1));
    let sink = open_destination(node);
    town.flush();
    wait_for(&sink, &["alice"]);
    let report = well(node.inside().enter(|| keeper.begin(BTreeSet::new())));
    assert_eq!(report.released.get("bob"), Some(&1));
    wait_for(&sink, &["alice", "bob"]);
}

#[test]
fn what_was_sent_through_again_is_still_known() {
    let town = Town::new("");
    let node = &town.node;
    town.submit(2001, "alice");
    town.send_as("alice@host.example", "alice login");
    town.wait_for_deferred(2);
    let before = town.ids("deferred");
    let _ = admin(node, &["postsuper", "-r", "ALL"]).success("postsuper");
    let _ = admin(node, &["postkick", "public", "pickup", "W"]).success("postkick");
    wait::until_true("new ids", Duration::from_secs(20), || {
        town.ids("deferred").is_disjoint(&before) && town.ids("deferred").len() == 2
    });
    let mut keeper = town.keeper(MemoryBook::default());
    let report = node.inside().enter(|| keeper.hold("alice"));
    assert_eq!(settle(node, &mut keeper, report), 2);
}

#[test]
fn a_name_that_is_written_into_a_submission_counts_for_nothing() {
    const SCRIPT: &str = r"
import subprocess
def record(kind, text):
    assert len(text) < 128
    return kind.encode() + bytes([len(text)]) + text.encode()
names = ['sasl_method=PLAIN', 'sasl_username=alice@host.example', 'client_address=192.0.2.1', 'client_port=33']
message = b''.join(record('A', name) for name in names)
message += record('S', 'e@x.example') + b''.join(record('A', name) for name in names)
message += record('R', 'somebody@outside.example') + record('M', '')
message += record('N', 'Subject: forged') + record('N', '') + record('N', 'x') + record('X', '')
message += b''.join(record('A', name) for name in names) + record('E', '')
subprocess.run(['postdrop', '-r'], input=message, check=True)
";
    let town = Town::new("");
    let node = &town.node;
    let mut command = node.user(2002).command("/usr/bin/python3");
    let _ = run(command.args(["-c", SCRIPT]), "").success("postdrop");
    town.wait_for_deferred(1);
    let mut keeper = town.keeper(MemoryBook::default());
    let report = well(node.inside().enter(|| keeper.hold("alice")));
    assert!(report.is_quiet(), "{report:?}");
    let report = well(node.inside().enter(|| keeper.hold("bob")));
    assert_eq!(report.held.get("bob"), Some(&1));
}

#[test]
fn what_is_older_than_the_queue_allows_begins_anew() {
    let town = Town::new("maximal_queue_lifetime = 6s\nminimal_backoff_time = 2s\n");
    let node = &town.node;
    town.submit(2001, "alice");
    town.wait_for_deferred(1);
    let mut keeper = town.keeper(MemoryBook::default());
    let report = node.inside().enter(|| keeper.hold("alice"));
    assert_eq!(settle(node, &mut keeper, report), 1);
    std::thread::sleep(Duration::from_secs(7));
    // Were it only released, the next failure would be the last.
    let report = well(node.inside().enter(|| keeper.release("alice")));
    assert_eq!(report.released.get("alice"), Some(&1));
    town.wait_for_deferred(1);
    let sink = open_destination(node);
    town.flush();
    wait_for(&sink, &["alice"]);
}

#[test]
fn without_postfix_running_mail_is_held_all_the_same() {
    let town = Town::new("");
    let node = town.node;
    submit(&node.user(2001), "alice");
    let places = Places {
        postfix: vec![town.postfix.configuration()],
        ..Town::places()
    };
    let mut keeper = keeper(&node, &places, MemoryBook::default());
    wait::until_true("mail to be deferred", wait::SOON, || {
        let said = admin(&node, &["postqueue", "-p"]).stdout;
        said.contains("refused")
    });
    drop(town.postfix);
    let report = well(node.inside().enter(|| keeper.hold("alice")));
    assert_eq!(report.held.get("alice"), Some(&1));
    let report = well(node.inside().enter(|| keeper.release("alice")));
    assert_eq!(report.released.get("alice"), Some(&1));
}
