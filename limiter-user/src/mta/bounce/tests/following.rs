//! Files, rotated in all the ways there are, while they are read and while they are not.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use super::super::follow::*;

struct Log {
    directory: tempfile::TempDir,
    written: usize,
}

impl Log {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            written: 0,
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("mail.log")
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write_to(&mut self, path: &Path, lines: usize) {
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .unwrap();
        for _ in 0..lines {
            writeln!(file, "line {}", self.written).unwrap();
            self.written += 1;
        }
    }

    fn write(&mut self, lines: usize) {
        self.write_to(&self.path(), lines);
    }
}

/// Reads until nothing comes for a while longer than a rotation takes.
fn read_all(follower: &mut Follower, seen: &mut Vec<String>) -> bool {
    let mut lost = false;
    for _ in 0..3 {
        loop {
            let progress = follower
                .read(1 << 20, |line| seen.push(line.to_owned()))
                .unwrap();
            lost |= progress.lost;
            if !progress.more {
                break;
            }
        }
        thread::sleep(Duration::from_millis(550));
    }
    lost
}

fn expected(lines: std::ops::Range<usize>) -> Vec<String> {
    lines.map(|line| format!("line {line}")).collect()
}

#[test]
fn it_begins_with_what_comes() {
    let mut log = Log::new();
    log.write(5);
    let mut follower = Follower::new(&log.path(), None);
    let mut seen = Vec::new();
    assert!(
        !follower
            .read(1 << 20, |_| panic!("that was before"))
            .unwrap()
            .lost
    );
    log.write(3);
    read_all(&mut follower, &mut seen);
    assert_eq!(seen, expected(5..8));
    // A file that comes only now is new from its first line on.
    let path = log.at("other.log");
    let mut follower = Follower::new(&path, None);
    assert_eq!(follower.read(1 << 20, |_| {}).unwrap(), Progress::default());
    // Also to whoever comes after one who was killed.
    let mut later = Follower::new(&path, follower.position());
    log.write_to(&path, 2);
    for follower in [&mut follower, &mut later] {
        let mut seen = Vec::new();
        read_all(follower, &mut seen);
        assert_eq!(seen, expected(8..10));
    }
}

#[test]
fn a_rename_loses_nothing_even_of_a_late_writer() {
    let mut log = Log::new();
    log.write(1);
    let mut follower = Follower::new(&log.path(), None);
    let mut seen = Vec::new();
    follower.read(1 << 20, |_| {}).unwrap();
    log.write(2);
    fs::rename(log.path(), log.at("mail.log.1")).unwrap();
    // logrotate makes the new one before the writer knows.
    fs::write(log.path(), "").unwrap();
    read_all(&mut follower, &mut seen);
    let old = log.at("mail.log.1");
    log.write_to(&old, 2);
    read_all(&mut follower, &mut seen);
    assert_eq!(seen, expected(1..5));
    log.write(2);
    read_all(&mut follower, &mut seen);
    assert_eq!(seen, expected(1..7));
    assert_eq!(follower.position().unwrap().offset, 14);
}

#[test]
fn a_last_line_without_an_end_is_one() {
    let mut log = Log::new();
    log.write(1);
    let mut follower = Follower::new(&log.path(), None);
    follower.read(1 << 20, |_| {}).unwrap();
    let mut seen = Vec::new();
    fs::write(log.path(), "line 0\nhalf").unwrap();
    read_all(&mut follower, &mut seen);
    assert!(seen.is_empty(), "it may go on: {seen:?}");
    fs::rename(log.path(), log.at("mail.log.1")).unwrap();
    log.write(1);
    read_all(&mut follower, &mut seen);
    assert_eq!(seen, ["half", "line 1"]);
}

#[test]
fn what_is_copied_and_cut_off_loses_nothing() {
    let mut log = Log::new();
    log.write(1);
    let mut follower = Follower::new(&log.path(), None);
    let mut seen = Vec::new();
    follower.read(1 << 20, |_| {}).unwrap();
    log.write(3);
    fs::copy(log.path(), log.at("mail.log.1")).unwrap();
    OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(log.path())
        .unwrap();
    // More than there was before.
    log.write(20);
    assert!(!read_all(&mut follower, &mut seen));
    assert_eq!(seen, expected(1..24));
    // And cut off without a copy: that is said.
    log.write(2);
    fs::write(log.path(), "").unwrap();
    log.write(1);
    assert!(read_all(&mut follower, &mut seen));
    assert_eq!(seen.last().unwrap(), "line 26");
}

#[test]
fn whoever_was_away_goes_on_where_he_was() {
    for copied in [false, true] {
        let mut log = Log::new();
        log.write(2);
        let mut follower = Follower::new(&log.path(), None);
        follower.read(1 << 20, |_| {}).unwrap();
        let mut seen = Vec::new();
        log.write(2);
        follower
            .read(1 << 20, |line| seen.push(line.to_owned()))
            .unwrap();
        let kept = serde_json::to_string(&follower.position().unwrap()).unwrap();
        drop(follower);
        // Two rotations, by date and by number.
        log.write(3);
        let rotate = |log: &mut Log, name: &str, lines| {
            if copied {
                fs::copy(log.path(), log.at(name)).unwrap();
                OpenOptions::new()
                    .write(true)
                    .truncate(true)
                    .open(log.path())
                    .unwrap();
            } else {
                fs::rename(log.path(), log.at(name)).unwrap();
            }
            thread::sleep(Duration::from_millis(30));
            log.write(lines);
        };
        rotate(&mut log, "mail.log-20261120", 4);
        rotate(&mut log, "mail.log.1", 5);
        fs::write(log.at("mail.log.2.gz"), "nothing to read").unwrap();
        fs::write(log.at("mail.log.bak"), "").unwrap();
        fs::write(log.at("mail.logs"), "line of another\n").unwrap();
        let from = serde_json::from_str(&kept).unwrap();
        let mut follower = Follower::new(&log.path(), Some(from));
        let mut lost = false;
        for _ in 0..2 {
            lost |= read_all(&mut follower, &mut seen);
        }
        assert!(!lost);
        assert_eq!(seen, expected(2..16), "copied: {copied}");
    }
}

#[test]
fn what_was_compressed_meanwhile_is_said_to_be_lost() {
    let mut log = Log::new();
    log.write(2);
    let mut follower = Follower::new(&log.path(), None);
    follower.read(1 << 20, |_| {}).unwrap();
    let from = follower.position();
    drop(follower);
    thread::sleep(Duration::from_millis(20));
    log.write(2);
    fs::rename(log.path(), log.at("mail.log.1.gz")).unwrap();
    log.write(2);
    let mut follower = Follower::new(&log.path(), from);
    let mut seen = Vec::new();
    assert!(read_all(&mut follower, &mut seen));
    assert_eq!(seen, expected(4..6));
}

#[test]
fn long_lines_are_skipped_and_strange_ones_read() {
    let log = Log::new();
    fs::write(log.path(), "").unwrap();
    let mut follower = Follower::new(&log.path(), None);
    follower.read(1 << 20, |_| {}).unwrap();
    let mut bytes = b"one\n".to_vec();
    for length in [20_000, 70_000, 200_000] {
        bytes.extend(vec![b'x'; length]);
        bytes.push(b'\n');
    }
    bytes.extend(b"\xff\xfe\0\n\n\ntwo\n");
    fs::write(log.path(), bytes).unwrap();
    let mut seen = Vec::new();
    read_all(&mut follower, &mut seen);
    assert_eq!(seen, ["one", "\u{fffd}\u{fffd}\0", "two"]);
}

#[test]
fn what_is_no_file_is_said() {
    let log = Log::new();
    fs::create_dir(log.path()).unwrap();
    let mut follower = Follower::new(&log.path(), None);
    let error = follower.read(1 << 20, |_| {}).unwrap_err();
    assert!(matches!(error, FollowError::NoFile { .. }), "{error}");
    let pipe = log.at("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let error = Follower::new(&pipe, None).read(1, |_| {}).unwrap_err();
    assert!(matches!(error, FollowError::NoFile { .. }), "{error}");
}
