//! Real files, real cgroups, real interfaces.

use std::{fs, path::Path, time::Duration};

use tokio::time::{Instant, timeout};

use super::*;
use crate::{
    policy::compile::testing::{located, policy, tenant},
    system::testing::{TestCgroup, in_own_netns, remove_cgroups},
};

const SOON: Duration = Duration::from_secs(5);
const A_WHILE: Duration = Duration::from_millis(150);
const USERS: Changes = Changes {
    users: true,
    cgroups: false,
    addresses: false,
};
const CGROUPS: Changes = Changes {
    users: false,
    cgroups: true,
    addresses: false,
};
const ADDRESSES: Changes = Changes {
    users: false,
    cgroups: false,
    addresses: true,
};

/// Files of users in a directory, which stands for the mount of the cgroups too.
fn sources(directory: &Path) -> Sources {
    let sources = Sources {
        passwd: directory.join("passwd"),
        subuid: directory.join("subuid"),
        cgroup_mount: directory.join("cgroup"),
    };
    fs::write(&sources.passwd, "").unwrap();
    fs::create_dir(&sources.cgroup_mount).unwrap();
    sources
}

/// A policy that claims cgroups.
fn claiming(patterns: &[&str]) -> Policy {
    let mut policy = policy();
    policy.tenants.push(tenant("t"));
    policy.tenants[0].matches.cgroups = patterns
        .iter()
        .map(|pattern| located((*pattern).to_owned()))
        .collect();
    policy
}

async fn next(watcher: &mut Watcher) -> Changes {
    timeout(SOON, watcher.changes())
        .await
        .expect("a change in time")
        .expect("no error")
}

async fn silent(watcher: &mut Watcher) {
    let changes = timeout(A_WHILE, watcher.changes()).await;
    assert!(changes.is_err(), "nothing was to be reported: {changes:?}");
}

#[tokio::test]
async fn users_written_in_place_or_renamed_over() {
    let directory = tempfile::tempdir().unwrap();
    let sources = sources(directory.path());
    let mut watcher = Watcher::start(&policy(), &sources).unwrap();

    fs::write(&sources.passwd, "alice:x:1:1:::\n").unwrap();
    assert_eq!(next(&mut watcher).await, USERS);
    silent(&mut watcher).await;

    let new = directory.path().join("passwd+");
    fs::write(&new, "bob:x:2:2:::\n").unwrap();
    silent(&mut watcher).await;
    fs::rename(&new, &sources.passwd).unwrap();
    assert_eq!(next(&mut watcher).await, USERS);

    fs::write(&sources.subuid, "bob:100000:65536\n").unwrap();
    assert_eq!(next(&mut watcher).await, USERS);
    fs::remove_file(&sources.subuid).unwrap();
    assert_eq!(next(&mut watcher).await, USERS);
}

#[tokio::test]
async fn users_behind_a_link() {
    let directory = tempfile::tempdir().unwrap();
    let sources = sources(directory.path());
    let real = directory.path().join("real");
    fs::create_dir(&real).unwrap();
    fs::write(real.join("users"), "").unwrap();
    fs::remove_file(&sources.passwd).unwrap();
    std::os::unix::fs::symlink(real.join("users"), &sources.passwd).unwrap();
    let mut watcher = Watcher::start(&policy(), &sources).unwrap();
    fs::write(real.join("users"), "alice:x:1:1:::\n").unwrap();
    assert_eq!(next(&mut watcher).await, USERS);
}

#[tokio::test]
async fn a_burst_is_one_change_and_never_late() {
    let directory = tempfile::tempdir().unwrap();
    let sources = sources(directory.path());
    let mut watcher = Watcher::start(&policy(), &sources).unwrap();

    for _ in 0..500 {
        fs::write(&sources.passwd, "alice:x:1:1:::\n").unwrap();
    }
    assert_eq!(next(&mut watcher).await, USERS);
    silent(&mut watcher).await;

    // Without a pause: reported all the same, though the burst goes on.
    let passwd = sources.passwd.clone();
    let writer = std::thread::spawn(move || {
        let end = std::time::Instant::now() + Duration::from_millis(600);
        while std::time::Instant::now() < end {
            fs::write(&passwd, "alice:x:1:1:::\n").unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    let start = Instant::now();
    let mut reports = 0;
    while start.elapsed() < Duration::from_millis(500) {
        assert_eq!(next(&mut watcher).await, USERS);
        reports += 1;
    }
    writer.join().unwrap();
    assert!(
        (3..=60).contains(&reports),
        "{reports} reports in half a second"
    );
}

#[tokio::test]
async fn nothing_is_lost_when_waiting_is_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let sources = sources(directory.path());
    let mut watcher = Watcher::start(&policy(), &sources).unwrap();
    fs::write(&sources.passwd, "alice:x:1:1:::\n").unwrap();
    let early = timeout(Duration::from_millis(1), watcher.changes()).await;
    if early.is_err() {
        assert_eq!(next(&mut watcher).await, USERS);
    }
}

#[tokio::test]
async fn a_lost_directory_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let inner = directory.path().join("etc");
    fs::create_dir(&inner).unwrap();
    let sources = sources(&inner);
    let mut watcher = Watcher::start(&policy(), &sources).unwrap();
    fs::rename(&inner, directory.path().join("away")).unwrap();
    let error = timeout(SOON, watcher.changes()).await.unwrap().unwrap_err();
    assert!(
        matches!(&error, WatchError::Lost { path } if *path == inner),
        "{error}"
    );

    let missing = Sources {
        passwd: "/no/such/place/passwd".into(),
        ..sources
    };
    let error = Watcher::start(&policy(), &missing).unwrap_err();
    assert!(error.to_string().contains("/no/such/place"), "{error}");
}

#[tokio::test]
async fn an_overflow_means_everything() {
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let sources = sources(directory.path());
    let mut watcher = Watcher::start(&claiming(&["/a/*"]), &sources).unwrap();
    // Two events each, in a directory that is watched and by a name that is not.
    let names = [directory.path().join("x"), directory.path().join("y")];
    fs::write(&names[0], "").unwrap();
    for turn in 0..=limit / 2 {
        fs::rename(&names[turn % 2], &names[(turn + 1) % 2]).unwrap();
    }
    // Its event is lost.
    fs::create_dir_all(sources.cgroup_mount.join("a")).unwrap();
    assert_eq!(next(&mut watcher).await, Changes::ALL);
    // What was made meanwhile is watched.
    fs::create_dir(sources.cgroup_mount.join("a/b")).unwrap();
    assert_eq!(next(&mut watcher).await, CGROUPS);
}

#[tokio::test]
async fn cgroups_that_can_match_and_no_others() {
    let Some(top) = TestCgroup::reserve() else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let sources = Sources {
        cgroup_mount: top.mount.clone(),
        ..sources(directory.path())
    };
    let below = |path: &str| format!("/{}/{path}", top.name);
    let policy = claiming(&[&below("a/b/c"), &below("user-*.slice")]);
    let mut watcher = Watcher::start(&policy, &sources).unwrap();
    assert_eq!(
        watcher.directories.count(),
        2,
        "the files and the root of the tree"
    );

    // Its parent does not exist yet: the nearest ancestor is watched.
    fs::create_dir(top.path()).unwrap();
    assert_eq!(next(&mut watcher).await, CGROUPS);
    assert_eq!(watcher.directories.count(), 3);
    fs::create_dir(top.path().join("system.slice")).unwrap();
    fs::create_dir(top.path().join("system.slice/a")).unwrap();
    silent(&mut watcher).await;

    // Made in one go: the watches are a step behind, and miss nothing.
    fs::create_dir_all(top.path().join("a/b")).unwrap();
    assert_eq!(next(&mut watcher).await, CGROUPS);
    assert_eq!(watcher.directories.count(), 5);
    fs::create_dir(top.path().join("a/b/c")).unwrap();
    assert_eq!(next(&mut watcher).await, CGROUPS);
    fs::create_dir(top.path().join("a/b/c/d")).unwrap();
    fs::create_dir(top.path().join("a/other")).unwrap();
    silent(&mut watcher).await;

    // A container restarts: removed and made again under the same name.
    for _ in 0..3 {
        fs::create_dir(top.path().join("user-7.slice")).unwrap();
        assert_eq!(next(&mut watcher).await, CGROUPS);
        fs::remove_dir(top.path().join("user-7.slice")).unwrap();
        assert_eq!(next(&mut watcher).await, CGROUPS);
    }
    remove_cgroups(&top.path().join("a"));
    assert_eq!(next(&mut watcher).await, CGROUPS);
    silent(&mut watcher).await;
    assert_eq!(
        watcher.directories.count(),
        3,
        "watches of removed cgroups are gone"
    );
    fs::create_dir_all(top.path().join("a/b/c")).unwrap();
    assert_eq!(next(&mut watcher).await, CGROUPS);
    assert_eq!(watcher.directories.count(), 5);
}

#[tokio::test]
async fn the_watched_cgroups_follow_the_policy() {
    let Some(top) = TestCgroup::make() else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let sources = Sources {
        cgroup_mount: top.mount.clone(),
        ..sources(directory.path())
    };
    fs::create_dir(top.path().join("a")).unwrap();
    fs::create_dir(top.path().join("b")).unwrap();
    let below = |path: &str| format!("/{}/{path}", top.name);
    let mut watcher = Watcher::start(&claiming(&[&below("a/*")]), &sources).unwrap();
    fs::create_dir(top.path().join("b/1")).unwrap();
    silent(&mut watcher).await;

    watcher.follow(&claiming(&[&below("b/*")])).unwrap();
    assert_eq!(watcher.directories.count(), 4);
    fs::create_dir(top.path().join("a/1")).unwrap();
    silent(&mut watcher).await;
    fs::create_dir(top.path().join("b/2")).unwrap();
    assert_eq!(next(&mut watcher).await, CGROUPS);

    watcher.follow(&claiming(&[])).unwrap();
    assert_eq!(watcher.directories.count(), 1, "nobody asks for cgroups");
    fs::create_dir(top.path().join("b/3")).unwrap();
    silent(&mut watcher).await;
}

#[test]
fn addresses_that_come_and_go() {
    in_own_netns(|ip| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let directory = tempfile::tempdir().unwrap();
            ip("link add dummy0 type dummy");
            let mut watcher = Watcher::start(&policy(), &sources(directory.path())).unwrap();
            for command in [
                "addr add 192.0.2.7/24 dev dummy0",
                "addr add 2001:db8::7/64 dev dummy0 nodad",
                "addr del 192.0.2.7/24 dev dummy0",
                "link set dummy0 up",
                "link del dummy0",
            ] {
                ip(command);
                assert_eq!(next(&mut watcher).await, ADDRESSES, "{command}");
                // The link-local address appears a moment after the link is up.
                while timeout(A_WHILE, watcher.changes()).await.is_ok() {}
            }
        });
    });
}
