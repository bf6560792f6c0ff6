//! Exim.

use std::{fs, time::Duration};

use limiter_tests::{Exim, Node, OUTSIDE_MX, process::run, wait};
use limiter_user::mta::{HOLD_QUEUE, MemoryBook, Places};

use crate::town::{Keeper, admin, arrived, keeper, letter, open_destination, wait_for, well};

struct Town {
    exim: String,
    _exim: Exim,
    node: Node,
}

impl Town {
    fn new() -> Self {
        let node = Node::new();
        let exim = Exim::install(&node, OUTSIDE_MX.into());
        let program = node.setuid_directory().join("exim4");
        Self {
            exim: program.to_str().expect("it is plain").to_owned(),
            _exim: exim,
            node,
        }
    }

    fn keeper(&self, book: MemoryBook) -> Keeper {
        let places = Places {
            programs: vec![self.node.setuid_directory()],
            postfix: Vec::new(),
            exim: Vec::new(),
        };
        keeper(&self.node, &places, book)
    }

    /// Puts a message into the queue.
    fn submit(&self, uid: u32, subject: &str) {
        let mut command = self.node.user(uid).command(&self.exim);
        command.args([
            "-odq",
            "-i",
            "-oMai",
            "carol",
            "--",
            "somebody@outside.example",
        ]);
        let _ = run(&mut command, &letter(subject)).success("exim");
    }

    fn ids(&self, queue: &str) -> Vec<String> {
        let directory = self
            .node
            .directory()
            .join("exim/spool")
            .join(queue)
            .join("input");
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names
            .filter_map(|name| Some(name.strip_suffix("-H")?.to_owned()))
            .collect()
    }

    /// Delivers whatever can be, frozen or not, retry time or not.
    fn run_queue(&self) {
        let _ = admin(&self.node, &[&self.exim, "-qff"]).success("exim -qff");
    }
}

#[test]
fn held_mail_stays_and_the_neighbours_goes() {
    let town = Town::new();
    let node = &town.node;
    town.submit(2001, "alice frozen by the administrator");
    let frozen = town.ids("").pop().expect("one");
    let _ = admin(node, &[&town.exim, "-Mf", &frozen]).success("exim -Mf");
    town.submit(2001, "alice");
    town.submit(2002, "bob");
    town.submit(0, "root");

    let mut keeper = town.keeper(MemoryBook::default());
    let report = well(node.inside().enter(|| keeper.hold("alice")));
    assert_eq!(report.held.get("alice"), Some(&2), "{report:?}");
    assert_eq!(report.unattributed, 1);
    assert_eq!(town.ids(HOLD_QUEUE).len(), 2);
    let report = well(node.inside().enter(|| keeper.hold("alice")));
    assert!(report.is_quiet(), "{report:?}");

    let sink = open_destination(node);
    town.run_queue();
    wait_for(&sink, &["bob", "root"]);
    wait::stays_true("alice's mail is held", Duration::from_secs(1), || {
        arrived(&sink).len() == 2
    });
    town.submit(2001, "alice late");
    let report = well(node.inside().enter(|| keeper.sweep()));
    assert_eq!(report.held.get("alice"), Some(&1), "{report:?}");

    // The agent starts again, and she may send.
    let mut keeper = town.keeper(keeper.into_book());
    let report = well(
        node.inside()
            .enter(|| keeper.begin(std::collections::BTreeSet::new())),
    );
    assert_eq!(report.released.get("alice"), Some(&3), "{report:?}");
    assert_eq!(town.ids(HOLD_QUEUE).len(), 0);
    let _ = admin(node, &[&town.exim, "-q"]).success("exim -q");
    wait_for(&sink, &["bob", "root", "alice", "alice late"]);
    // What the administrator froze still is.
    assert_eq!(town.ids(""), [frozen]);
}
