//! What a virtual machine wrote, read.

use serde_json::Value;

use super::checks::{CHECKS, DOCTOR, LOAD};
use super::machine::Ran;

/// How many lines of a console are shown of a machine that did not get to its end.
const TAIL: usize = 40;

/// How much is shown of what a failed test said, from either end, characters.
const SAID: usize = 300;

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
    /// The tests that failed.
    pub failed: Vec<Failure>,
    /// Whatever else is wrong, in sentences.
    pub faults: Vec<String>,
}

/// A test that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its program and its name.
    pub test: String,
    /// What it said.
    pub why: String,
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
            Some(Section {
                text,
                status: Some(status),
            }) => match findings(text) {
                Some(findings) => outcome.findings = findings,
                None => outcome.fault(format!(
                    "`limiter doctor --json` ended with status {status}, and printed no JSON"
                )),
            },
            _ => outcome.fault("`limiter doctor` did not end"),
        }
        for check in &CHECKS {
            outcome.tests(check.name, &ran.report);
        }
        if section(&ran.report, LOAD).is_some_and(|load| load.status != Some(0)) {
            outcome.fault("the programs do not load here, so nothing else was tried");
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

    /// Reads what a test program wrote, also of one that did not get to its end.
    fn tests(&mut self, program: &str, report: &str) {
        let Some(section) = section(report, program) else {
            self.fault(format!("the tests of `{program}` were not run"));
            return;
        };
        let mut run = 0;
        for line in section.text.lines() {
            let Some((name, result)) = line
                .strip_prefix("test ")
                .and_then(|l| l.split_once(" ... "))
            else {
                continue;
            };
            match result.trim() {
                "ok" => self.passed += 1,
                "FAILED" => self.failed.push(Failure {
                    test: format!("{program} {name}"),
                    why: why(section.text, name),
                }),
                "" => self.fault(format!("{program} {name} did not end")),
                _ => continue,
            }
            run += 1;
        }
        match section.status {
            None => self.fault(format!("the tests of `{program}` did not end")),
            Some(KILLED) => self.fault(format!("the tests of `{program}` took too long")),
            Some(0) if run > 0 => {}
            Some(FAILED) if !self.failed.is_empty() => {}
            Some(0) => self.fault(format!("`{program}` ran no test")),
            Some(status) => self.fault(format!("`{program}` ended with status {status}")),
        }
    }
}

/// The status of what `timeout` killed.
const KILLED: i32 = 137;

/// The status of a test program in which a test failed.
const FAILED: i32 = 101;

/// What one check wrote, and how it ended, if it did.
struct Section<'a> {
    text: &'a str,
    status: Option<i32>,
}

fn section<'a>(report: &'a str, name: &str) -> Option<Section<'a>> {
    let (_, rest) = report.split_once(&format!("@begin {name} "))?;
    let (_, rest) = rest.split_once('\n')?;
    let Some((text, end)) = rest.split_once(&format!("@end {name} ")) else {
        return Some(Section {
            text: rest,
            status: None,
        });
    };
    let status = end.split_whitespace().next().and_then(|w| w.parse().ok());
    Some(Section { text, status })
}

/// What a failed test said: the beginning and the end of it, where a verifier says why.
fn why(text: &str, test: &str) -> String {
    let said = text
        .split_once(&format!("---- {test} stdout ----\n"))
        .map_or("", |(_, rest)| rest);
    let end = said.find("\n---- ").or_else(|| said.find("\nfailures:"));
    let said = said[..end.unwrap_or(said.len())].trim();
    let said = said.split("\nstack backtrace:").next().unwrap_or(said);
    let lines: Vec<&str> = said
        .lines()
        .filter(|line| !line.starts_with("note: "))
        .map(str::trim)
        .collect();
    let line = lines.join(" / ");
    let characters: Vec<char> = line.chars().collect();
    if characters.len() <= 2 * SAID {
        return line;
    }
    let start: String = characters[..SAID].iter().collect();
    let end: String = characters[characters.len() - SAID..].iter().collect();
    format!("{start} … {end}")
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
@begin load 3.26
test verifier::x ... ok

@end load 0 3.29
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
test a::b ... ok
test a::c ... ok

test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out

@end kernel 0 9.00
@begin e2e 9.00
test d::e ... ok

@end e2e 0 19.00
@done 19.00
"
        );
        let outcome = Outcome::read(&ran(&report, ""));
        assert!(outcome.good(), "{outcome:?}");
        assert_eq!(outcome.passed, 4);
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
test a::c ... ok

failures:

---- a::b stdout ----

thread 'a::b' panicked at place:1:2:
no such thing
stack backtrace:
   0: test something ... ok

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
        assert_eq!(outcome.passed, 2);
        assert_eq!(
            outcome.failed,
            [Failure {
                test: "kernel a::b".to_owned(),
                why: "thread 'a::b' panicked at place:1:2: / no such thing".to_owned(),
            }]
        );
        assert_eq!(outcome.faults, ["`e2e` ran no test"]);
    }

    #[test]
    fn a_machine_that_panics_or_hangs_is_a_failure() {
        let report = format!("{DOCTORED}@begin kernel 4.00\ntest a::b ... ");
        let console = "[    5.0] Kernel panic - not syncing: Fatal exception\n";
        let outcome = Outcome::read(&ran(&report, console));
        let faults = outcome.faults.join("\n");
        assert!(!outcome.good());
        for fault in [
            "kernel a::b did not end",
            "the tests of `kernel` did not end",
            "the tests of `e2e` were not run",
            "it ended before its tests did",
            "the kernel says: [    5.0] Kernel panic",
        ] {
            assert!(faults.contains(fault), "{faults}");
        }
        assert!(!Outcome::read(&ran("", "")).good());
    }
}
