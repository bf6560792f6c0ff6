//! The keeper's thread, and commands that hang.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use limiter_user::mta::{KeeperThread, MemoryBook, MtaError, Places, QueueKeeper};

use crate::{
    postfix::{Town, submit},
    town::{People, open_destination, wait_for},
};

#[test]
fn the_thread_holds_what_comes_later() {
    let town = Town::new("");
    let node = &town.node;
    let (tell, told) = mpsc::channel();
    let keeper = town.keeper(MemoryBook::default());
    let thread = node.inside().enter(|| {
        KeeperThread::start(keeper, Duration::from_millis(200), move |report| {
            let _ = tell.send(report);
        })
    });
    let thread = thread.expect("there is room for a thread");
    thread.handle().hold("alice");
    submit(&node.user(2001), "alice");
    submit(&node.user(2002), "bob");
    let mut held = 0;
    while held == 0 {
        let report = told
            .recv_timeout(Duration::from_secs(20))
            .expect("a report");
        assert!(report.faults.is_empty(), "{report:?}");
        held += report.held.get("alice").copied().unwrap_or(0);
    }
    // What Postfix took in hand before goes on, to a door that is still closed.
    thread::sleep(Duration::from_secs(1));
    let sink = open_destination(node);
    town.flush();
    wait_for(&sink, &["bob"]);
    thread.handle().release("alice");
    wait_for(&sink, &["bob", "alice"]);
    drop(thread);
}

#[test]
fn what_does_not_work_is_said() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let program = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).expect("it is ours");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    };
    fs::write(directory.path().join("main.cf"), "").expect("it is ours");
    let places = Places {
        programs: vec![directory.path().to_path_buf()],
        postfix: vec![directory.path().to_path_buf()],
        exim: Vec::new(),
    };
    let servers = places.find();
    assert!(
        matches!(servers.faults[..], [MtaError::NotFound { .. }]),
        "{:?}",
        servers.faults
    );
    program("postconf", "#!/bin/sh\necho nonsense\n");
    program("exim", "#!/bin/sh\necho broken >&2; exit 1\n");
    let servers = places.find();
    assert!(
        matches!(
            servers.faults[..],
            [MtaError::Answer { .. }, MtaError::Failed { .. }]
        ),
        "{:?}",
        servers.faults
    );
    // Nobody's mail server: nothing to do, and nothing is wrong.
    let mut keeper = QueueKeeper::new(Vec::new(), People, MemoryBook::default());
    let start = Instant::now();
    assert!(keeper.hold("alice").is_quiet());
    assert!(start.elapsed() < Duration::from_secs(1));
}
