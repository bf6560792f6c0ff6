//! Postfix.

use std::{fs::OpenOptions, io::Write as _};

use limiter_tests::{Agent, Config, Node, OUTSIDE_MX, Postfix, SmtpSink, mx, post::Steps};

use super::{ALICE, CONFIG, Compared, Load, TENANTS, Then, compare, easy::Easy};

/// What Postfix is like at a port of its own, beside 25, where it is as limiter has it set up.
struct Arm {
    name: &'static str,
    port: u16,
    settings: &'static [&'static str],
}

const NOT_ASKING: &str = "smtpd_recipient_restrictions=permit_mynetworks,reject";
const NOT_ASKING_AT_THE_END: &str = "smtpd_end_of_data_restrictions=";

/// The server as it was, with the milter beside or alone, and with services that look at nothing.
const ARMS: [Arm; 5] = [
    Arm {
        name: "alone",
        port: 26,
        settings: &[NOT_ASKING, NOT_ASKING_AT_THE_END],
    },
    Arm {
        name: "limiter, and its milter",
        port: 27,
        settings: &["smtpd_milters=unix:limiter/milter.sock"],
    },
    Arm {
        name: "its milter alone",
        port: 28,
        settings: &[
            NOT_ASKING,
            NOT_ASKING_AT_THE_END,
            "smtpd_milters=unix:limiter/milter.sock",
        ],
    },
    Arm {
        name: "a policy service that looks at nothing",
        port: 29,
        settings: &[
            "smtpd_recipient_restrictions=check_policy_service,unix:@/policy,permit_mynetworks,reject",
            "smtpd_end_of_data_restrictions=check_policy_service,unix:@/policy",
        ],
    },
    Arm {
        name: "a milter that looks at nothing",
        port: 30,
        settings: &[
            NOT_ASKING,
            NOT_ASKING_AT_THE_END,
            "smtpd_milters=unix:@/milter",
        ],
    },
];

#[test]
fn being_asked_costs_postfix_little() {
    of_postfix(Then::Delivered);
}

#[test]
fn being_asked_costs_postfix_little_where_it_does_nothing_else() {
    of_postfix(Then::Discarded);
}

fn of_postfix(then: Then) {
    let node = Node::new();
    let easy = Easy::start(&node.directory().join("easy"));
    let _sink = SmtpSink::start(&node.elsewhere(), mx(false), node.directory());
    let transport = match then {
        Then::Discarded => "discard".to_owned(),
        Then::Delivered => format!("smtp:[{OUTSIDE_MX}]:25"),
    };
    let main = format!(
        "default_transport = {transport}
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
in_flow_delay = 0
initial_destination_concurrency = 20
smtp_connection_cache_on_demand = no
"
    );
    let postfix = Postfix::of_node(
        &node,
        "127.0.0.1",
        (&main, "discard unix - - n - - discard\n"),
    );
    postfix.install(&node);
    let agent = Agent::configured(&node, &Config::new(CONFIG, TENANTS));
    let ours = Steps::of(&agent, "postfix", &[]).for_limiter(&agent);
    agent.write_main(&format!("{CONFIG}{ours}"));
    agent.run();
    let steps = Steps::of(&agent, "postfix", &[]);
    steps.run(&node, "postconf");
    let mut arms = String::new();
    for Arm { port, settings, .. } in ARMS {
        arms += &format!("127.0.0.1:{port} inet n - n - - smtpd\n");
        for setting in settings {
            let setting = setting.replace('@', &easy.directory.display().to_string());
            arms += &format!("  -o {setting}\n");
        }
    }
    let master = postfix.configuration().join("master.cf");
    let mut master = OpenOptions::new()
        .append(true)
        .open(master)
        .expect("it is there");
    master.write_all(arms.as_bytes()).expect("there is room");
    steps.run(&node, "postfix");
    let limiter = ("limiter", 25);
    let arms: Vec<(&str, u16)> = ARMS.iter().map(|arm| (arm.name, arm.port)).collect();
    let arms = [vec![limiter], arms].concat();
    let queue = postfix.queue();
    let compared = Compared {
        what: &format!("Postfix, {then:?}"),
        load: Load {
            messages: 800,
            sessions: 10,
        },
        queues: &[queue.join("incoming"), queue.join("active")],
        arms: &arms,
        counting: 3,
    };
    compare(&node.user(ALICE), &agent, &compared);
}
