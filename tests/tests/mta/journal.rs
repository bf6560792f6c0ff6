//! A real journal: what the mail server says to syslog is read with who it was that said it.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command},
    time::{Duration, Instant},
};

use limiter_user::mta::bounce::{
    Heard,
    journal::{Entry, Journal, is_mail_server},
    read_entry,
};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// Nobody: who is not the mail server.
const STRANGER: u32 = 65_534;

/// journald in a mount namespace of its own, with a /run of its own. Dropping it ends both.
struct Journald {
    daemon: Child,
    directory: tempfile::TempDir,
}

impl Journald {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let script = "mount --make-rprivate / && mount -t tmpfs run /run && mkdir -p /run/systemd \
                      /run/log/journal && touch \"$0/ready\" && exec /lib/systemd/systemd-journald";
        let mut command = Command::new("unshare");
        command
            .args(["-m", "sh", "-c", script])
            .arg(directory.path());
        let log = fs::File::create(directory.path().join("log")).expect("it is ours");
        let daemon = command
            .stderr(log)
            .spawn()
            .expect("util-linux is installed");
        let journald = Self { daemon, directory };
        let socket = PathBuf::from(format!(
            "/proc/{}/root/run/systemd/journal/dev-log",
            journald.daemon.id()
        ));
        let begun = Instant::now();
        while !(journald.directory.path().join("ready").exists() && socket.exists()) {
            let log = fs::read_to_string(journald.directory.path().join("log"));
            assert!(
                begun.elapsed() < PATIENCE,
                "journald does not start: {log:?}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        journald
    }

    /// Runs a program in there.
    fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.daemon.id()));
        command.arg(program);
        command
    }

    fn say(&self, uid: u32, tag: &str, text: &str) {
        let mut command = self.inside("setpriv");
        let uid = format!("--reuid={uid}");
        command.args([&uid, "--clear-groups", "logger"]);
        command.args([
            "-u",
            "/run/systemd/journal/dev-log",
            "-p",
            "mail.info",
            "-t",
            tag,
            text,
        ]);
        // `logger` reads no more than it is given.
        command.process_group(0);
        assert!(command.status().expect("util-linux is installed").success());
    }

    /// A journalctl that looks in there.
    fn journalctl(&self) -> PathBuf {
        let path = self.directory.path().join("journalctl");
        let text = format!(
            "#!/bin/sh\nexec nsenter --mount=/proc/{}/ns/mnt journalctl \"$@\"\n",
            self.daemon.id()
        );
        fs::write(&path, text).expect("it is ours");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
        path
    }
}

impl Drop for Journald {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

fn follow(program: &Path, cursor: Option<&str>) -> Journal {
    Journal::follow(program, cursor).expect("it runs")
}

fn read(journal: &mut Journal, count: usize) -> Vec<Entry> {
    let (mut found, begun) = (Vec::new(), Instant::now());
    while found.len() < count {
        assert!(begun.elapsed() < PATIENCE, "only {found:?}");
        journal
            .read(100, |entry| found.push(entry))
            .expect("it goes on");
        std::thread::sleep(Duration::from_millis(20));
    }
    found
}

#[test]
fn a_real_journal_knows_who_spoke_and_goes_on_where_it_was_left() {
    let journald = Journald::start();
    let program = journald.journalctl();
    journald.say(0, "postfix/qmgr", "AAAAA0: removed");
    let mut journal = follow(&program, None);
    // Until it follows: what was there before does not come.
    let begun = Instant::now();
    let mut first = Vec::new();
    while first.is_empty() {
        assert!(begun.elapsed() < PATIENCE, "nothing comes");
        journald.say(0, "postfix/qmgr", "AAAAA1: removed");
        std::thread::sleep(Duration::from_millis(200));
        journal
            .read(100, |entry| first.push(entry))
            .expect("it goes on");
    }
    assert!(
        first.iter().all(|entry| entry.text == "AAAAA1: removed"),
        "{first:?}"
    );
    drop(journal);
    // While nobody reads: the mail server, somebody who says he is, and something else.
    journald.say(0, "postfix/qmgr", "AAAAA2: removed");
    journald.say(STRANGER, "postfix/qmgr", "AAAAA3: removed");
    journald.say(
        0,
        "postfix/smtp",
        "AAAAA4: to=<\u{e9}@a.test>, relay=none, dsn=5.4.4, status=bounced (x)",
    );
    let cursor = first.last().map(|entry| entry.cursor.clone());
    let mut journal = follow(&program, cursor.as_deref());
    let mut entries = read(&mut journal, 3);
    // What the last round of the first journal said too late.
    entries.retain(|entry| entry.text != "AAAAA1: removed");
    let more = 3 - entries.len();
    entries.extend(read(&mut journal, more));
    let users = BTreeSet::new();
    let said: Vec<_> = entries
        .iter()
        .filter(|entry| is_mail_server(entry, &users))
        .filter_map(|entry| read_entry(&entry.tag, &entry.text, entry.time))
        .map(|said| (said.id, said.heard == Heard::Gone))
        .collect();
    assert_eq!(
        said,
        [("AAAAA2".to_owned(), true), ("AAAAA4".to_owned(), false)],
        "{entries:?}"
    );
}
