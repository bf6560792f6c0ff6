//! Exim.

use std::fs;

use limiter_tests::{Agent, Config, Exim, Node, OUTSIDE_MX, post::Steps};

use super::{ALICE, CONFIG, Compared, Load, TENANTS, compare};

/// Where it is as it was before limiter.
const ALONE: u16 = 26;

#[test]
fn being_asked_costs_exim_little() {
    let node = Node::new();
    // Nothing is delivered.
    let exim = Exim::install_with(
        &node,
        OUTSIDE_MX.into(),
        &format!("127.0.0.1.25 ; 127.0.0.1.{ALONE}"),
        "smtp_accept_max = 100\nsmtp_accept_queue_per_connection = 0\nqueue_only\n",
        "",
    );
    let agent = Agent::start(&node, &Config::new(CONFIG, TENANTS));
    let program = exim.program().display().to_string();
    let steps = Steps::of(&agent, "exim", &["--program", &program]);
    steps.into_exim(&node, "exim4/exim4.conf");
    let path = node.directory().join("etc/exim4/exim4.conf");
    let text = fs::read_to_string(&path).expect("it is there");
    let at_both: Vec<String> = text
        .lines()
        .map(|line| match line.split_once(" = limiter_") {
            Some((hook, ours)) if hook.starts_with("acl_smtp_") => {
                format!(
                    "{hook} = ${{if eq{{$received_port}}{{{ALONE}}}{{accept_rcpt}}{{limiter_{ours}}}}}"
                )
            }
            _ => line.to_owned(),
        })
        .collect();
    node.etc()
        .write("exim4/exim4.conf", &(at_both.join("\n") + "\n"));
    let cgroup = node.cgroup().child("mta");
    let _daemon = (exim.daemon(&node.root(), &cgroup), cgroup);
    let compared = Compared {
        what: "Exim, queued",
        // It takes its time for each.
        load: Load {
            messages: 100,
            sessions: 10,
        },
        queues: &[],
        arms: &[("limiter", 25), ("alone", ALONE)],
        counting: 1,
    };
    compare(&node.user(ALICE), &agent, &compared);
}
