//! What is run on every kernel: all of it is listed here.

/// What the product says it lacks on the kernel, as JSON.
pub const DOCTOR: &str = "doctor";

/// The check without which no other is worth trying.
pub const LOAD: &str = "load";

/// Tests of one test program that are run on every kernel.
pub struct Check {
    /// How it is called.
    pub name: &'static str,
    /// The test program.
    pub program: &'static str,
    /// Only tests whose names contain one of these; all of them when there is none.
    pub filters: &'static [&'static str],
    /// How many run at once.
    pub threads: u32,
    /// How long they may take, seconds. Without hardware acceleration all takes ten times as long.
    pub limit_s: u32,
}

/// The tests, in their order.
pub const CHECKS: [Check; 3] = [
    // Every program loads. Nothing else is tried where one does not.
    Check {
        name: LOAD,
        program: "kernel",
        filters: &["verifier::"],
        threads: 1,
        limit_s: 150,
    },
    // They attach and count.
    Check {
        name: "kernel",
        program: "kernel",
        filters: &[
            "arithmetic::",
            "counting::",
            "senders::",
            "trees::",
            "errors::",
            "adoption::a_new_agent_finds_everything_as_it_was",
            "changes::a_shorter_maximum_holds_at_once_and_a_longer_window_remembers",
            "changes::whose_a_cgroup_is_is_known_while_claims_move_between_depths",
        ],
        threads: 1,
        limit_s: 200,
    },
    // The product as it is used: every way to send, for every kind of tenant.
    Check {
        name: "e2e",
        program: "e2e",
        filters: &[
            "ground::every_way_to_connect_reaches_the_outside",
            "ground::containers_reach_the_outside",
            "verdicts::",
            "who::",
            "matrix::",
        ],
        threads: 2,
        limit_s: 240,
    },
];

/// Everything that the machine runs, as a script for the shell in it.
pub fn script() -> String {
    let mut script = String::new();
    for check in &CHECKS {
        let Check {
            name,
            program,
            filters,
            threads,
            limit_s,
        } = check;
        script.push_str(&format!(
            "check {name} {limit_s} /limiter/deps/{program} --test-threads={threads} {}\n",
            filters.join(" ")
        ));
        if *name == LOAD {
            script.push_str(&format!(
                "loads=$status\n\
                 check {DOCTOR} 150 /limiter/limiter doctor --json\n\
                 [ \"$loads\" = 0 ] || return\n"
            ));
        }
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_shell_stumbles_over_a_filter() {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_:".contains(c);
        for check in &CHECKS {
            assert!(check.filters.iter().all(|filter| filter.chars().all(plain)));
        }
        let script = script();
        assert!(
            script.starts_with("check load 150 /limiter/deps/kernel"),
            "{script}"
        );
        assert!(script.contains("/limiter/deps/e2e --test-threads=2 ground::"));
    }
}
