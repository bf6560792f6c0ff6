//! Deliveries, and what else can be found in a directory.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::fs::symlink,
    sync::{Arc, Mutex},
    time::Duration,
};

use tempfile::TempDir;

use super::*;
use crate::complaint::{Limits, Trust, parse};

#[derive(Default)]
struct Log {
    /// How often each id came.
    filed: BTreeMap<String, u32>,
    refused: Vec<(String, String)>,
    problem: Option<String>,
    full: bool,
}

#[derive(Clone, Default)]
struct Book(Arc<Mutex<Log>>);

impl Desk for Book {
    fn take(&mut self, mail: &Mail<'_>) -> Result<Verdict, Later> {
        let mut log = self.0.lock().unwrap();
        if log.full {
            return Err(Later("the disk is full".to_owned()));
        }
        match parse(mail.bytes, &Limits::default(), &Trust::default()) {
            Ok(report) => {
                *log.filed.entry(report.id).or_default() += 1;
                Ok(Verdict::Filed)
            }
            Err(refusal) => Ok(Verdict::Refused(refusal)),
        }
    }

    fn refused(&mut self, name: &str, why: &str) {
        let mut log = self.0.lock().unwrap();
        log.refused.push((name.to_owned(), why.to_owned()));
    }

    fn health(&mut self, problem: Option<&MaildirError>) {
        self.0.lock().unwrap().problem = problem.map(ToString::to_string);
    }
}

fn maildir() -> (TempDir, Maildir) {
    let directory = tempfile::tempdir().unwrap();
    for name in ["new", "cur", "tmp"] {
        fs::create_dir(directory.path().join(name)).unwrap();
    }
    let maildir = Maildir::new(directory.path().to_owned(), Limits::default());
    (directory, maildir)
}

fn deliver(directory: &TempDir, name: &str, bytes: &[u8]) {
    let tmp = directory.path().join("tmp").join(name);
    fs::write(&tmp, bytes).unwrap();
    fs::rename(tmp, directory.path().join("new").join(name)).unwrap();
}

fn files(directory: &TempDir, folder: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory.path().join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn report() -> Vec<u8> {
    crate::complaint::tests::sample("05-comcast.eml")
}

#[test]
fn reports_are_filed_and_others_are_refused_with_the_reason() {
    let (directory, maildir) = maildir();
    deliver(&directory, "1.a.host", &report());
    deliver(&directory, "2.b.host", b"Subject: hi\n\nNo report.\n");
    let mut book = Book::default();
    assert_eq!(maildir.look(&mut book).unwrap(), 2);
    assert_eq!(files(&directory, "new"), [""; 0]);
    assert_eq!(files(&directory, "cur"), ["1.a.host,limiter:2,S"]);
    assert_eq!(files(&directory, ".Refused/cur"), ["2.b.host,limiter:2,"]);
    let reason = directory.path().join(".Refused/reasons/2.b.host.txt");
    let reason = fs::read_to_string(reason).unwrap();
    assert!(reason.contains("no_report") && reason.contains("What to do"));
    assert_eq!(maildir.look(&mut book).unwrap(), 0);
}

#[test]
fn a_full_desk_leaves_mail_where_it_is() {
    let (directory, maildir) = maildir();
    for number in 0..3 {
        deliver(&directory, &format!("{number}.host"), &report());
    }
    let mut book = Book::default();
    book.0.lock().unwrap().full = true;
    let error = maildir.look(&mut book).unwrap_err().to_string();
    assert!(error.starts_with("3 mails wait in "), "{error}");
    assert_eq!(files(&directory, "new").len(), 3);
    book.0.lock().unwrap().full = false;
    assert_eq!(maildir.look(&mut book).unwrap(), 3);
    let log = book.0.lock().unwrap();
    assert_eq!(
        log.filed.values().collect::<Vec<_>>(),
        [&3],
        "one report, thrice"
    );
}

#[test]
fn killed_between_filing_and_moving_the_same_id_comes_again() {
    let (directory, maildir) = maildir();
    let mut book = Book::default();
    deliver(&directory, "1.host", &report());
    maildir.look(&mut book).unwrap();
    // As if the move had not been.
    fs::rename(
        directory.path().join("cur/1.host,limiter:2,S"),
        directory.path().join("new/1.host"),
    )
    .unwrap();
    maildir.look(&mut book).unwrap();
    assert_eq!(book.0.lock().unwrap().filed.len(), 1);
    assert_eq!(files(&directory, "cur"), ["1.host,limiter:2,S"]);
}

#[test]
fn nothing_is_overwritten() {
    let (directory, maildir) = maildir();
    fs::write(directory.path().join("cur/1.host,limiter:2,S"), "older").unwrap();
    deliver(&directory, "1.host", &report());
    maildir.look(&mut Book::default()).unwrap();
    assert_eq!(
        files(&directory, "cur"),
        ["1.host,1,limiter:2,S", "1.host,limiter:2,S"]
    );
    let kept = fs::read_to_string(directory.path().join("cur/1.host,limiter:2,S")).unwrap();
    assert_eq!(kept, "older");
}

#[test]
fn links_pipes_directories_and_giants_are_set_aside_unread() {
    let (directory, maildir) = maildir();
    let new = directory.path().join("new");
    let secret = directory.path().join("secret");
    fs::write(&secret, "root:x:0:0").unwrap();
    symlink(&secret, new.join("1.link")).unwrap();
    symlink("/nowhere", new.join("2.dangling")).unwrap();
    fs::create_dir(new.join("3.directory")).unwrap();
    nix::unistd::mkfifo(&new.join("4.pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    // 100 MB that take no room and no time.
    File::create(new.join("5.giant"))
        .unwrap()
        .set_len(100 << 20)
        .unwrap();
    let mut book = Book::default();
    let begun = std::time::Instant::now();
    assert_eq!(maildir.look(&mut book).unwrap(), 5);
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert_eq!(files(&directory, "new"), [""; 0]);
    assert_eq!(files(&directory, ".Refused/cur").len(), 5);
    assert_eq!(files(&directory, ".Refused/reasons").len(), 5);
    assert_eq!(fs::read_to_string(&secret).unwrap(), "root:x:0:0");
    let log = book.0.lock().unwrap();
    assert_eq!(log.refused.len(), 5);
    assert!(
        log.refused[4].1.contains("longer than"),
        "{:?}",
        log.refused
    );
    assert!(log.filed.is_empty());
}

#[test]
fn a_directory_that_leads_elsewhere_is_not_followed() {
    let (directory, maildir) = maildir();
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("passwd"), "root:x:0:0").unwrap();
    fs::remove_dir(directory.path().join("new")).unwrap();
    symlink(other.path(), directory.path().join("new")).unwrap();
    let error = maildir.look(&mut Book::default()).unwrap_err();
    assert!(matches!(error, MaildirError::Directory { .. }), "{error}");
    assert!(other.path().join("passwd").exists());
    // The same for where mails go.
    fs::remove_file(directory.path().join("new")).unwrap();
    fs::create_dir(directory.path().join("new")).unwrap();
    fs::remove_dir(directory.path().join("cur")).unwrap();
    symlink(other.path(), directory.path().join("cur")).unwrap();
    deliver(&directory, "1.host", &report());
    assert!(maildir.look(&mut Book::default()).is_err());
    assert_eq!(files(&directory, "new"), ["1.host"]);
}

#[test]
fn names_that_are_no_text_are_moved_under_a_name_that_is() {
    use std::os::unix::ffi::OsStrExt;
    let (directory, maildir) = maildir();
    let name = std::ffi::OsStr::from_bytes(b"1.\xff\n\x1b.host:2,S");
    fs::write(directory.path().join("new").join(name), report()).unwrap();
    assert_eq!(maildir.look(&mut Book::default()).unwrap(), 1);
    assert_eq!(files(&directory, "cur"), ["1.___.host,limiter:2,S"]);
}

async fn until(what: &str, mut is: impl FnMut() -> bool) {
    for _ in 0..400 {
        if is() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("not within ten seconds: {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_are_noticed_and_a_directory_that_comes_back_is_found() {
    let (directory, maildir) = maildir();
    let book = Book::default();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let watching = tokio::spawn(watch(maildir, book.clone(), stopped));
    deliver(&directory, "1.host", &report());
    until("the first is filed", || files(&directory, "cur").len() == 1).await;
    deliver(&directory, "2.host", &report());
    until("the second is filed", || {
        files(&directory, "cur").len() == 2
    })
    .await;
    // Moved away: said, and nobody listens to the old one.
    let away = directory.path().join("away");
    fs::rename(directory.path().join("new"), &away).unwrap();
    until("it is said", || book.0.lock().unwrap().problem.is_some()).await;
    stop.send(true).unwrap();
    let stopped = tokio::time::timeout(Duration::from_secs(10), watching).await;
    assert!(stopped.unwrap().unwrap().is_some());
}

#[test]
fn what_was_dealt_with_long_ago_is_removed_and_nothing_else() {
    const DAY: Duration = Duration::from_secs(86_400);
    let (directory, maildir) = maildir();
    let maildir = maildir.keeping(90 * DAY);
    let write = |name: &str| {
        let path = directory.path().join(name);
        fs::write(&path, "hello\n").unwrap();
        // As old as its maker says: that is not what counts.
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH)
            .unwrap();
    };
    // Refused, for it is no report; and what others put there.
    write("new/1.host");
    assert_eq!(maildir.look(&mut Book::default()).unwrap(), 1);
    for name in [
        "new/2.host",
        "cur/3.host,limiter:2,S",
        "cur/4.host,limiter:2,FS",
        "cur/5.host:2,S",
        "cur/6.host,S=6,limiter,1,limiter:2,RS",
    ] {
        write(name);
    }
    let now = std::time::SystemTime::now();
    assert_eq!(maildir.prune(now).unwrap(), 0);
    assert_eq!(maildir.prune(now + 89 * DAY).unwrap(), 0);
    // The refused one, why it was, and two that were filed.
    assert_eq!(maildir.prune(now + 91 * DAY).unwrap(), 4);
    assert_eq!(
        files(&directory, "cur"),
        ["4.host,limiter:2,FS", "5.host:2,S"]
    );
    assert_eq!(files(&directory, "new"), ["2.host"]);
    assert!(files(&directory, ".Refused/cur").is_empty());
    assert!(files(&directory, ".Refused/reasons").is_empty());
    assert_eq!(
        maildir
            .keeping(Duration::MAX)
            .prune(now + 900 * DAY)
            .unwrap(),
        0
    );
}
