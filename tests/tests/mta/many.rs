//! Ten thousand messages: what a look costs, and that nothing is lost on the way.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::Path,
    time::{Duration, Instant},
};

use limiter_tests::{Exim, Node, OUTSIDE_MX};
use limiter_user::mta::{HOLD_QUEUE, MemoryBook, Places};

use crate::{
    postfix::Town,
    town::{Keeper, keeper, letter, well},
};

const MANY: usize = 10_000;
/// Of each of two people, with the one that was copied.
const HALF: usize = MANY / 2 + 1;

/// Says how long it took, and fails where that is far from what it should be.
fn timed<T>(what: &str, at_most: Duration, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    let took = start.elapsed();
    eprintln!("{what}: {:.1} ms", took.as_secs_f64() * 1e3);
    let at_most = limiter_tests::machine::patience(at_most);
    assert!(took < at_most, "{what}: {took:?}");
    result
}

/// Holds and releases half of what is there.
fn measure(node: &Node, mut keeper: Keeper, directory: &Path) {
    let inside = node.inside();
    let report = timed("10,002 messages read", Duration::from_secs(10), || {
        well(inside.enter(|| keeper.hold("carol")))
    });
    assert!(report.is_quiet() && report.unattributed == 0, "{report:?}");
    std::thread::sleep(Duration::from_millis(100));
    let _ = inside.enter(|| keeper.sweep());
    timed(
        "a look where nothing changed",
        Duration::from_millis(100),
        || well(inside.enter(|| keeper.sweep())),
    );
    fs::write(directory.join("x-not-mail"), "").expect("it is ours");
    fs::remove_file(directory.join("x-not-mail")).expect("it is ours");
    timed(
        "a look where something changed",
        Duration::from_secs(2),
        || well(inside.enter(|| keeper.sweep())),
    );
    let report = timed("5,001 held", Duration::from_secs(120), || {
        well(inside.enter(|| keeper.hold("alice")))
    });
    assert_eq!(report.held.get("alice"), Some(&HALF));
    let report = timed("5,001 released", Duration::from_secs(120), || {
        well(inside.enter(|| keeper.release("alice")))
    });
    assert_eq!(report.released.get("alice"), Some(&HALF));
}

#[test]
fn postfix_with_ten_thousand_messages() {
    let town = Town::new("");
    town.submit(2001, "alice");
    town.submit(2002, "bob");
    town.wait_for_deferred(2);
    let deferred = town.queue().join("deferred");
    // Copies of the two, under ids of their own as Postfix would give them.
    let originals = town.ids("deferred");
    for (number, id) in (0..MANY).zip(originals.iter().cycle()) {
        let hashed = |id: &str| deferred.join(&id[..1]).join(id);
        let bytes = fs::read(hashed(id)).expect("it is there");
        let new = format!("{:05X}{number:06X}", number * 97 % 0xf_ffff);
        assert_eq!(new.len(), id.len());
        let text = String::from_utf8(bytes).expect("its letters are plain");
        put(
            &hashed(&new),
            &text.replace(id.as_str(), &new),
            0o700,
            &deferred,
        );
    }
    measure(&town.node, town.keeper(MemoryBook::default()), &deferred);
    assert_eq!(town.ids("hold").len(), 0);
}

#[test]
fn exim_with_ten_thousand_messages() {
    let node = Node::new();
    let _exim = Exim::install(&node, OUTSIDE_MX.into());
    let program = node.setuid_directory().join("exim4");
    for uid in [2001, 2002] {
        let mut command = node.user(uid).command(&program);
        command.args(["-odq", "-i", "--", "somebody@outside.example"]);
        let _ = limiter_tests::process::run(&mut command, &letter("many")).success("exim");
    }
    let input = node.directory().join("exim/spool/input");
    let originals: Vec<String> = fs::read_dir(&input)
        .expect("it is there")
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            Some(name.strip_suffix("-H")?.to_owned())
        })
        .collect();
    assert_eq!(originals.len(), 2);
    for (number, id) in (0..MANY).zip(originals.iter().cycle()) {
        // The middle of an id is the process that received it.
        let new = format!("{}-zz{number:04}-{}", &id[..6], &id[id.len() - 2..]);
        assert_eq!(new.len(), id.len());
        for kind in ["H", "D"] {
            let text = fs::read_to_string(input.join(format!("{id}-{kind}")));
            let text = text.expect("it is there").replace(id.as_str(), &new);
            put(&input.join(format!("{new}-{kind}")), &text, 0o640, &input);
        }
    }
    let places = Places {
        programs: vec![node.setuid_directory()],
        postfix: Vec::new(),
        exim: Vec::new(),
    };
    measure(&node, keeper(&node, &places, MemoryBook::default()), &input);
    let held = node
        .directory()
        .join("exim/spool")
        .join(HOLD_QUEUE)
        .join("input");
    assert_eq!(fs::read_dir(held).expect("it was made").count(), 0);
}

/// Writes a file that belongs to whom `like` belongs.
fn put(path: &Path, text: &str, mode: u32, like: &Path) {
    let like = fs::metadata(like).expect("it is there");
    let parent = path.parent().expect("a file is in a directory");
    if !parent.is_dir() {
        fs::create_dir(parent).expect("the queue is ours");
        chown(parent, Some(like.uid()), Some(like.gid())).expect("root may give files away");
    }
    fs::write(path, text).expect("the queue is ours");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
    chown(path, Some(like.uid()), Some(like.gid())).expect("root may give files away");
}
