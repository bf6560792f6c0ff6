//! What most tests need: a node, servers on both sides of its edge, and short names.

use std::time::Duration;

use limiter_tests::{
    Agent, Attempt, Cgroup, Config, Node, Reached, Running, Sink, mx, orders::Report,
};

/// The ports on which both servers listen: of every group, and of none.
const PORTS: [u16; 7] = [25, 80, 143, 465, 587, 993, 2525];

/// A node, a server outside that counts, and one on the node.
pub struct Stage {
    /// The node.
    pub node: Node,
    /// The server outside: it greets as `outside.example`.
    pub outside: Sink,
    /// The server on the node: it greets as `node.example`.
    pub local: Sink,
}

impl Stage {
    pub fn new() -> Self {
        let node = Node::new();
        Self {
            outside: Sink::listen(node.outside(), &PORTS, "outside.example"),
            local: Sink::listen(node.inside(), &PORTS, "node.example"),
            node,
        }
    }

    /// The product with these keys of limiter.yaml and these tenants.
    pub fn agent(&self, main: &str, tenants: &str) -> Agent<'_> {
        Agent::start(&self.node, &Config::new(main, tenants))
    }

    /// An attempt of a user of the node in a cgroup that nobody claims, to the IPv4 server.
    pub fn by_uid(&self, uid: u32) -> Attempt<'_> {
        self.node.sender(uid).attempt(mx(false))
    }

    /// An attempt of a user of the node in this cgroup, to the IPv4 server.
    pub fn in_cgroup(&self, cgroup: &Cgroup, uid: u32) -> Attempt<'_> {
        self.node
            .sender_at(self.node.user(uid).in_cgroup(cgroup))
            .attempt(mx(false))
    }
}

/// Makes the attempt and fails unless it leads to `reached`, for `tenant`.
#[track_caller]
pub fn expect(agent: &Agent, attempt: Attempt, tenant: &str, reached: Reached) {
    let (really, explanation) = attempt.judge(agent);
    assert_eq!(really, reached, "{explanation:#}");
    assert_eq!(explanation["tenant"], tenant, "{explanation:#}");
}

/// Makes the attempt `times` times, which leads to `reached` each time.
#[track_caller]
pub fn repeat(agent: &Agent, attempt: &Attempt, times: usize, reached: Reached) {
    for number in 1..=times {
        let (really, explanation) = attempt.clone().judge(agent);
        assert_eq!(really, reached, "attempt {number}: {explanation:#}");
    }
}

/// `senders` processes of this user at once, `each` attempts by each of them. How many attempts
/// connected, and how many were refused; nothing else may happen to one.
#[track_caller]
pub fn at_once(stage: &Stage, uid: u32, senders: u64, each: u64) -> (u64, u64) {
    let flood = |_| {
        stage
            .node
            .sender(uid)
            .flood(mx(false), each, Duration::ZERO)
    };
    let ready: Vec<Running> = (0..senders).map(|n| flood(n).start()).collect();
    let under_way: Vec<Running> = ready.into_iter().map(Running::go).collect();
    let reports: Vec<Report> = under_way.into_iter().map(Running::finish).collect();
    let connected: u64 = reports.iter().map(|report| report.connected).sum();
    let refused: u64 = reports.iter().map(Report::refused).sum();
    assert_eq!(connected + refused, senders * each, "{reports:?}");
    (connected, refused)
}
