use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::PathBuf,
    time::{Duration, Instant},
};

use nix::unistd::Uid;
use tempfile::TempDir;

use super::*;
use crate::{
    notice::template::sample,
    offence::{Audience, How, NoticeEvent, Sanction},
};

const NOBODY: u32 = 65_534;

struct Hook {
    directory: TempDir,
    settings: ExecSettings,
}

impl Hook {
    /// A script below a directory that everybody may look into.
    fn new(script: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let path = directory.path().join("hook");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let own = directory.path().join("own");
        fs::create_dir(&own).unwrap();
        if root() {
            chown(&own, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let settings = ExecSettings {
            path,
            user: if root() { "nobody".to_owned() } else { me() },
            timeout: Duration::from_secs(20),
        };
        Self {
            directory,
            settings,
        }
    }

    /// A file in the directory that the hook may write.
    fn own(&self, name: &str) -> PathBuf {
        self.directory.path().join("own").join(name)
    }

    fn run(&self) -> Result<String, String> {
        let event = NoticeEvent::Lifted {
            sanction: Sanction::BlockSmtp,
            how: How::Reinstated,
            still: Vec::new(),
        };
        let mut facts = sample::facts(Audience::Contact, event, true);
        facts.tenant = "a$(touch /tmp/limiter-notice-was-here)`id`;'\"".to_owned();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let ended = runtime.block_on(run(&self.settings, &facts));
        ended.map_err(|failure| failure.error)
    }
}

fn root() -> bool {
    Uid::effective().is_root()
}

fn me() -> String {
    nix::unistd::User::from_uid(Uid::effective())
        .unwrap()
        .unwrap()
        .name
}

#[test]
fn it_gets_the_facts_as_variables_and_nothing_else() {
    let hook = Hook::new(
        "env | sort > \"${0%/*}/own/env\"; cat; echo $#; pwd; echo \"$LIMITER_EVENT\" >&2",
    );
    let printed = hook.run().unwrap();
    assert_eq!(printed, "0 | / | lifted");
    let env = fs::read_to_string(hook.own("env")).unwrap();
    for line in [
        "LIMITER_TENANT=a$(touch /tmp/limiter-notice-was-here)`id`;'\"",
        "LIMITER_SANCTION=block_smtp",
        "LIMITER_HOW=reinstated",
        "LIMITER_UNTIL=",
        "LIMITER_CASE=3",
    ] {
        assert!(
            env.lines().any(|found| found == line),
            "{line} is missing:\n{env}"
        );
    }
    assert!(!PathBuf::from("/tmp/limiter-notice-was-here").exists());
    for line in env.lines() {
        let name = line.split('=').next().unwrap();
        let shell = ["PWD", "_", "SHLVL", "OLDPWD"].contains(&name);
        assert!(
            shell || name == "PATH" || name == "LANG" || name.starts_with("LIMITER_"),
            "{line}"
        );
    }
    let json = env
        .lines()
        .find_map(|line| line.strip_prefix("LIMITER_JSON="))
        .unwrap();
    let facts: Facts = serde_json::from_str(json).unwrap();
    assert_eq!(facts.how, Some(How::Reinstated));
}

/// The privileges, groups, files and limits that the kernel says it has.
#[test]
fn it_keeps_nothing_of_root() {
    if !root() {
        return;
    }
    let hook = Hook::new(
        "cat /proc/self/status > \"${0%/*}/own/status\"; ls /proc/self/fd > \"${0%/*}/own/fds\"\n\
         cat /proc/self/limits > \"${0%/*}/own/limits\"\n\
         if cat /etc/shadow >/dev/null 2>&1; then echo read it; fi\n\
         if kill -0 1 2>/dev/null; then echo may kill; fi\n\
         su -c id root </dev/null >/dev/null 2>&1 && echo became root\n\
         exit 0",
    );
    assert_eq!(hook.run().unwrap(), "");
    let status = fs::read_to_string(hook.own("status")).unwrap();
    let value = |name: &str| -> Vec<&str> {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("{name}"))
            .split_whitespace()
            .collect()
    };
    let four = |id: u32| vec![id.to_string(); 4];
    assert_eq!(value("Uid"), four(NOBODY));
    assert_eq!(value("Gid"), four(NOBODY));
    assert!(
        value("Groups").is_empty() || value("Groups") == ["65534"],
        "{status}"
    );
    for caps in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(value(caps), ["0000000000000000"], "{caps}");
    }
    assert_eq!(value("NoNewPrivs"), ["1"]);
    assert_eq!(value("SigBlk"), ["0000000000000000"]);
    let fds = fs::read_to_string(hook.own("fds")).unwrap();
    // The fourth is the directory that ls reads.
    assert_eq!(
        fds.split_whitespace().collect::<Vec<_>>(),
        ["0", "1", "2", "3"]
    );
    let limits = fs::read_to_string(hook.own("limits")).unwrap();
    assert!(
        limits
            .lines()
            .any(|line| line.starts_with("Max open files") && line.contains(" 256 ")),
        "{limits}"
    );
}

#[test]
fn what_hangs_is_killed_with_all_its_children() {
    let mut hook = Hook::new(
        "(sleep 300) & echo $! > \"${0%/*}/own/pid\"\n(trap '' TERM; sleep 301) &\necho started\nsleep 302",
    );
    hook.settings.timeout = Duration::from_secs(2);
    let start = Instant::now();
    let error = hook.run().unwrap_err();
    assert!(
        start.elapsed() < Duration::from_secs(15),
        "{:?}",
        start.elapsed()
    );
    assert!(
        error.contains("took longer than 2 s; it printed: started"),
        "{error}"
    );
    gone(&hook);
}

/// A child that keeps the output open delays nobody, and does not outlive the hook.
#[test]
fn what_it_leaves_behind_is_killed() {
    let hook = Hook::new("(sleep 300) & echo $! > \"${0%/*}/own/pid\"; exit 3");
    let start = Instant::now();
    let error = hook.run().unwrap_err();
    assert!(error.ends_with("hook: failed with exit code 3"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(15));
    gone(&hook);
}

fn gone(hook: &Hook) {
    let pid = fs::read_to_string(hook.own("pid")).unwrap();
    let status = format!("/proc/{}/status", pid.trim());
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let status = fs::read_to_string(&status).unwrap_or_default();
        // Whoever reaps orphans may take its time.
        if status.is_empty() || status.contains("State:\tZ") {
            return;
        }
        assert!(Instant::now() < deadline, "{status}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_flood_of_output_is_read_and_dropped() {
    let hook = Hook::new("head -c 100000000 /dev/zero | tr '\\0' 'x'; echo; echo end >&2; exit 1");
    let error = hook.run().unwrap_err();
    assert!(
        error.contains("failed with exit code 1; it printed: xxxx"),
        "{error}"
    );
    assert!(
        error.chars().count() <= LINE_MAX && error.ends_with('…'),
        "{error}"
    );
    let hook = Hook::new("printf 'a\\033[2J\\n\\nb\\n'; kill -9 $$");
    let error = hook.run().unwrap_err();
    assert!(
        error.contains(r"was ended by signal 9; it printed: a\u{1b}[2J | b"),
        "{error}"
    );
}

const LINE_MAX: usize = crate::notice::harmless::LINE;

#[test]
fn only_what_root_alone_can_change_is_run() {
    let hook = Hook::new("exit 0");
    assert_eq!(hook.run(), Ok(String::new()));
    let set =
        |mode| fs::set_permissions(&hook.settings.path, fs::Permissions::from_mode(mode)).unwrap();
    set(0o777);
    assert!(hook.run().unwrap_err().contains("can be written by others"));
    set(0o644);
    assert!(hook.run().unwrap_err().contains("cannot be executed"));
    set(0o755);
    if root() {
        // A user of its own may have a program of its own; anybody else's is refused.
        chown(&hook.settings.path, Some(NOBODY), None).unwrap();
        assert_eq!(hook.run(), Ok(String::new()));
        chown(&hook.settings.path, Some(54_321), None).unwrap();
        assert!(hook.run().unwrap_err().contains("belongs to somebody else"));
        chown(&hook.settings.path, Some(0), None).unwrap();
        fs::set_permissions(hook.directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(hook.run().unwrap_err().contains("can be written by others"));
        fs::set_permissions(hook.directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let other = |change: &dyn Fn(&mut ExecSettings)| {
        let mut settings = hook.settings.clone();
        change(&mut settings);
        prepare(&settings, Vec::new()).unwrap_err().error
    };
    assert!(other(&|s| s.path = "/nowhere/hook".into()).contains("No such file"));
    assert!(other(&|s| s.path = "hook".into()).contains("not an absolute path"));
    assert!(other(&|s| s.path = "/usr".into()).contains("is not a file"));
    assert!(other(&|s| s.user = "no-such-user-here".into()).contains("no user"));
}
