//! What a virtual machine wrote, read.

use serde_json::Value;

use super::checks::{CHECKS, DOCTOR};
use super::machine::Ran;

/// How many lines of a console are shown of a machine that did not get to its end.
const TAIL: usize = 40;

/// What came of one kernel.
#[derive(Debug, Default, PartialEq)]
pub struct Outcome {
    /// The kernel's own name.
    pub release: Option<String>,
    /// How long it took to user space, seconds.
    pub boot_s: Option<f64>,
    /// What the product says of the kernel.
    pub findings: Vec<Finding>,
    /// The tests that passed.
    pub passed: usize,
    /// The tests that failed, by name.
    pub failed: Vec<String>,
    /// Whatever else is wrong, in sentences.
    pub faults: Vec<String>,
}

/// One thing that the product says of the kernel it runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub level: String,
    /// What the kernel lacks.
    pub what: String,
    /// What follows from it.
    pub remedy: String,
}

impl Outcome {
    /// Whether all that was to be run was run and passed.
    pub fn good(&self) -> bool {
        self.failed.is_empty() && self.faults.is_empty() && self.passed > 0
    }

    /// Reads what the machine wrote.
    pub fn read(ran: &Ran) -> Self {
        let mut outcome = Self::default();
        if let Some(words) = marked(&ran.report, "@up ") {
            outcome.release = words.first().map(|release| (*release).to_owned());
            outcome.boot_s = words.get(1).and_then(|time| time.parse().ok());
        } else {
            outcome.fault("it did not come up");
        }
        match section(&ran.report, DOCTOR) {
            Some(section) => match findings(section.text) {
                Some(findings) => outcome.findings = findings,
                None => outcome.fault("`limiter doctor --json` printed something else than that"),
            },
            None => outcome.fault("`limiter doctor` did not end"),
        }
        for check in &CHECKS {
            outcome.tests(check.program, &ran.report);
        }
        if marked(&ran.report, "@done ").is_none() {
            let how = if ran.overdue {
                "stopped: it took too long"
            } else {
                "it ended before its tests did"
            };
            outcome.fault(format!("{how}; the console's end:\n{}", tail(&ran.console)));
        }
        for line in ran.console.lines() {
            if ["BUG:", "Oops", "Kernel panic", "WARNING: CPU"]
                .iter()
                .any(|sign| line.contains(sign))
            {
                outcome.fault(format!("the kernel says: {}", line.trim()));
            }
        }
        outcome
    }

    fn fault(&mut self, what: impl Into<String>) {
        self.faults.push(what.into());
    }

    /// Reads what a test program wrote.
    fn tests(&mut self, program: &str, report: &str) {
        let Some(section) = section(report, program) else {
            let begun = report.contains(&format!("@begin {program} "));
            self.fault(if begun {
                format!("the tests of `{program}` did not end")
            } else {
                format!("the tests of `{program}` did not begin")
            });
            return;
        };
        let passed = self.passed;
        let failed = self.failed.len();
        let mut listing = false;
        for line in section.text.lines() {
            if let Some(result) = line.strip_prefix("test result: ") {
                self.passed += count(result, " passed");
                listing = false;
            } else if line == "failures:" {
                // It comes twice: before what the tests wrote, and before their names.
                listing = true;
            } else if let Some(name) = line.strip_prefix("    ").filter(|_| listing) {
                if !name.contains(' ') && name.contains("::") {
                    self.failed.push(format!("{program} {name}"));
                }
            } else if line.starts_with("---- ") {
                listing = false;
            }
        }
        if section.status == KILLED {
            self.fault(format!("the tests of `{program}` took too long"));
        } else if section.status != 0 && self.failed.len() == failed {
            self.fault(format!(
                "the tests of `{program}` failed with status {}",
                section.status
            ));
        } else if section.status == 0 && self.passed == passed {
            self.fault(format!("`{program}` ran no test"));
        }
    }
}

/// The status of what `timeout` killed.
const KILLED: i32 = 137;

/// What one check wrote, and how it ended.
struct Section<'a> {
    text: &'a str,
    status: i32,
}

fn section<'a>(report: &'a str, name: &str) -> Option<Section<'a>> {
    let (_, rest) = report.split_once(&format!("@begin {name} "))?;
    let (_, rest) = rest.split_once('\n')?;
    let (text, end) = rest.split_once(&format!("@end {name} "))?;
    let status = end.split_whitespace().next()?.parse().ok()?;
    Some(Section { text, status })
}

/// The words behind a mark at the beginning of a line.
fn marked<'a>(report: &'a str, mark: &str) -> Option<Vec<&'a str>> {
    report
        .lines()
        .find_map(|line| line.strip_prefix(mark))
        .map(|rest| rest.split_whitespace().collect())
}

/// What is said about the kernel and the layers, unless all is well.
fn findings(text: &str) -> Option<Vec<Finding>> {
    let said: Value = serde_json::from_str(text.trim()).ok()?;
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    Some(
        said["findings"]
            .as_array()?
            .iter()
            .filter(|finding| finding["area"] == "kernel" || finding["area"] == "layers")
            .filter(|finding| finding["level"] != "ok")
            .map(|finding| Finding {
                level: text(finding, "level"),
                what: text(finding, "what"),
                remedy: text(finding, "remedy"),
            })
            .collect(),
    )
}

/// The number before these words.
fn count(text: &str, words: &str) -> usize {
    text.split_once(words)
        .and_then(|(before, _)| before.rsplit(' ').next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn ran(report: &str, console: &str) -> Ran {
        Ran {
            report: report.to_owned(),
            console: console.to_owned(),
            overdue: false,
            took: Duration::from_secs(1),
        }
    }

    const DOCTORED: &str = "@up 6.1.0-56-cloud-amd64 3.25
@begin doctor 3.30
{\"healthy\":false,\"findings\":[
{\"area\":\"kernel\",\"level\":\"ok\",\"what\":\"Linux\",\"remedy\":null},
{\"area\":\"MTA\",\"level\":\"warning\",\"what\":\"none\",\"remedy\":null},
{\"area\":\"kernel\",\"level\":\"note\",\"what\":\"no TCX\",\"remedy\":\"clsact instead\"}]}

@end doctor 1 4.00
";

    #[test]
    fn what_passed_is_counted_and_what_the_kernel_lacks_is_kept() {
        let report = format!(
            "{DOCTORED}@begin kernel 4.00

running 2 tests
test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out

@end kernel 0 9.00
@begin e2e 9.00
test result: ok. 40 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out

@end e2e 0 19.00
@done 19.00
"
        );
        let outcome = Outcome::read(&ran(&report, ""));
        assert!(outcome.good(), "{outcome:?}");
        assert_eq!(outcome.passed, 42);
        assert_eq!(outcome.boot_s, Some(3.25));
        assert_eq!(
            outcome.findings,
            [Finding {
                level: "note".to_owned(),
                what: "no TCX".to_owned(),
                remedy: "clsact instead".to_owned(),
            }]
        );
    }

    #[test]
    fn what_failed_is_named() {
        let report = format!(
            "{DOCTORED}@begin kernel 4.00

running 2 tests
test a::b ... FAILED

failures:

---- a::b stdout ----
    at place::with::colons

failures:
    a::b

test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 3 filtered out

@end kernel 101 9.00
@begin e2e 9.00
test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 43 filtered out

@end e2e 0 19.00
@done 19.00
"
        );
        let outcome = Outcome::read(&ran(&report, ""));
        assert!(!outcome.good());
        assert_eq!(outcome.failed, ["kernel a::b"]);
        assert_eq!(outcome.faults, ["`e2e` ran no test"]);
    }

    #[test]
    fn a_machine_that_panics_or_hangs_is_a_failure() {
        let report = format!("{DOCTORED}@begin kernel 4.00\nrunning 2 tests\n");
        let console = "[    5.0] Kernel panic - not syncing: Fatal exception\n";
        let outcome = Outcome::read(&ran(&report, console));
        let faults = outcome.faults.join("\n");
        assert!(!outcome.good());
        for fault in [
            "the tests of `kernel` did not end",
            "the tests of `e2e` did not begin",
            "it ended before its tests did",
            "the kernel says: [    5.0] Kernel panic",
        ] {
            assert!(faults.contains(fault), "{faults}");
        }
        assert!(!Outcome::read(&ran("", "")).good());
    }
}
