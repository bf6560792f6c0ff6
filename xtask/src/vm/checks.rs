//! What is run on every kernel: all of it is listed here.

/// What the product says it lacks on the kernel, as JSON.
pub const DOCTOR: &str = "doctor";

/// The test without which no other is worth trying: the kernel takes every program.
pub const LOAD: Test = Test {
    program: "kernel",
    name: "verifier::the_verifier_has_room",
};

/// How long a test may take, seconds; without hardware acceleration all takes ten times as long.
const TEST_S: u32 = 300;

/// How long doctor may take, seconds: it has the verifier look at all programs.
const DOCTOR_S: u32 = 120;

/// A test that is run on every kernel, in a process of its own: what it says is there even if the
/// machine does not get to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Test {
    /// The test program.
    pub program: &'static str,
    /// The test, in full.
    pub name: &'static str,
}

/// The tests behind [`LOAD`], in their order.
const TESTS: [(&str, &[&str]); 2] = [
    // They attach and count.
    (
        "kernel",
        &[
            "arithmetic::every_decision_is_the_models",
            "counting::forty_thousand_attempts_on_all_cpus_and_exactly_a_thousand_go_out",
            "frames::the_kernel_reads_as_the_host_does",
            "sanctions::a_sanction_holds_below_and_nowhere_else",
        ],
    ),
    // The product as it is used: every layer, every kind of tenant.
    (
        "e2e",
        &[
            "matrix::everything_gets_through_where_nobody_stops_it",
            "matrix::every_way_is_stopped",
            "matrix::a_limit_holds_for_every_kind_of_tenant",
            "charged::whoever_is_seen_by_every_layer_is_counted_once",
            "mailbox::too_many_logins_lock_the_client_out_in_the_driver",
        ],
    ),
];

impl Test {
    /// How it is called in the report, and by people.
    pub fn title(self) -> String {
        format!("{} {}", self.program, self.name)
    }

    fn line(self) -> String {
        let Self { program, name } = self;
        format!(
            "check '{}' {TEST_S} /limiter/deps/{program} --exact --nocapture --test-threads=1 {name}\n",
            self.title()
        )
    }
}

/// The tests behind [`LOAD`] that are wanted: those whose titles contain `only`.
pub fn tests(only: &str) -> Vec<Test> {
    TESTS
        .iter()
        .flat_map(|(program, names)| names.iter().map(|name| Test { program, name }))
        .filter(|test| test.title().contains(only))
        .collect()
}

/// Everything that the machine runs, as a script for the shell in it.
pub fn script(tests: &[Test]) -> String {
    let mut script = LOAD.line();
    script.push_str(&format!(
        "loads=$status\n\
         check {DOCTOR} {DOCTOR_S} /limiter/limiter doctor --json\n\
         [ \"$loads\" = 0 ] || return\n"
    ));
    script.extend(tests.iter().map(|test| test.line()));
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_shell_stumbles_over_a_test() {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_:".contains(c);
        let all = tests("");
        assert!(all.iter().all(|test| test.name.chars().all(plain)));
        let script = script(&all);
        assert!(
            script.starts_with(
                "check 'kernel verifier::the_verifier_has_room' 300 /limiter/deps/kernel --exact"
            ),
            "{script}"
        );
        assert!(script.contains("\ncheck 'e2e matrix::every_way_is_stopped' "));
    }

    #[test]
    fn some_can_be_chosen() {
        let chosen = tests("matrix::");
        assert!(!chosen.is_empty() && chosen.len() < tests("").len());
        assert!(tests("no such test").is_empty());
    }
}
