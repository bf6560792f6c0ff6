//! A node with a mail server, and a destination that comes and goes.

use std::{collections::BTreeSet, fs, time::Duration};

use limiter_tests::{Node, Output, SmtpSink, mx, process::run, wait};
use limiter_user::mta::{Mail, MemoryBook, Places, QueueKeeper, Report, Tenants};

/// alice and bob, by uid and by login.
#[derive(Clone, Copy, Debug)]
pub struct People;

impl Tenants for People {
    fn tenant_of(&self, mail: &Mail) -> Option<String> {
        let origin = &mail.origin;
        let name = match (origin.login.as_deref(), origin.uid) {
            (Some("alice@host.example"), _) | (None, Some(2001)) => "alice",
            (Some("bob@host.example"), _) | (None, Some(2002)) => "bob",
            _ => return None,
        };
        Some(name.to_owned())
    }
}

/// The keeper under test.
pub type Keeper = QueueKeeper<People, MemoryBook>;

/// A keeper of what is found at `places`, on the node.
pub fn keeper(node: &Node, places: &Places, book: MemoryBook) -> Keeper {
    let servers = node.inside().enter(|| places.find());
    assert!(servers.faults.is_empty(), "{:?}", servers.faults);
    assert_eq!(servers.queues.len(), 1);
    QueueKeeper::new(servers.queues, People, book)
}

/// Fails the test where the keeper found something wrong.
#[track_caller]
pub fn well(report: Report) -> Report {
    assert!(report.faults.is_empty(), "{:?}", report.faults);
    report
}

/// Sweeps until nothing is being delivered; what was held in all.
pub fn settle(node: &Node, keeper: &mut Keeper, first: Report) -> usize {
    let mut held: usize = well(first).held.values().sum();
    wait::until_true("nothing to be in delivery", wait::SOON, || {
        let report = well(node.inside().enter(|| keeper.sweep()));
        held += report.held.values().sum::<usize>();
        report.busy == 0
    });
    held
}

/// A message as programs submit it.
pub fn letter(subject: &str) -> String {
    // As forged as can be.
    format!(
        "Received: by node.example (Postfix, from userid 2003)\n\tid 0; today\nSubject: {subject}\n\nBuy.\n"
    )
}

/// The destination comes back.
pub fn open_destination(node: &Node) -> SmtpSink {
    SmtpSink::start(&node.elsewhere(), mx(false), node.directory())
}

/// The subjects that arrived, each once.
pub fn arrived(sink: &SmtpSink) -> BTreeSet<String> {
    let files = fs::read_dir(sink.dumps()).expect("the directory is ours");
    files
        .flatten()
        .filter_map(|file| fs::read_to_string(file.path()).ok())
        .filter_map(|text| {
            let subject = text
                .lines()
                .find_map(|line| line.strip_prefix("Subject: "))?;
            Some(subject.to_owned())
        })
        .collect()
}

/// Waits until exactly these have arrived.
pub fn wait_for(sink: &SmtpSink, subjects: &[&str]) {
    let wanted: BTreeSet<String> = subjects.iter().map(|&subject| subject.to_owned()).collect();
    wait::until_true(&format!("{wanted:?}"), Duration::from_secs(20), || {
        arrived(sink).is_superset(&wanted)
    });
    assert_eq!(arrived(sink), wanted);
}

/// Runs an administrator's command on the node.
pub fn admin(node: &Node, words: &[&str]) -> Output {
    let (program, arguments) = words.split_first().expect("a program");
    run(node.root().command(program).args(arguments), "")
}
