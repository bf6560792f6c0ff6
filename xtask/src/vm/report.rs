//! What a virtual machine wrote, read.

use serde_json::Value;

use super::checks::{DOCTOR, LOAD, Test};
use super::machine::Ran;

/// How many lines of a console are shown of a machine that did not get to its end.
const TAIL: usize = 40;

/// How much is shown of what a failed test said, characters.
const SAID: usize = 1_500;

/// The status of what `timeout` killed.
const KILLED: i32 = 137;

/// What came of one kernel.
#[derive(Debug, Default, PartialEq)]
pub struct Outcome {
    /// The kernel's own name.
    pub release: Option<String>,
    /// How long it took to user space, seconds.
    pub boot_s: Option<f64>,
    /// How long it took in all, seconds.
    pub took_s: f64,
    /// What the verifier had to look at.
    pub programs: Vec<Program>,
    /// What the product says of the kernel.
    pub findings: Vec<Finding>,
    /// The tests that passed, and how long they took, seconds.
    pub passed: Vec<(String, f64)>,
    /// What tests said they left out here, and why.
    pub left_out: Vec<String>,
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

/// A program that the kernel took.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    /// Its name in the object.
    pub name: String,
    /// How many instructions the verifier followed, where the kernel says so.
    pub instructions: Option<u32>,
    /// How long that took, seconds.
    pub took_s: f64,
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
        self.failed.is_empty() && self.faults.is_empty() && !self.passed.is_empty()
    }

    /// Reads what the machine wrote that was to run these tests.
    pub fn read(ran: &Ran, tests: &[Test]) -> Self {
        let mut outcome = Self {
            took_s: ran.took.as_secs_f64(),
            ..Self::default()
        };
        if let Some(words) = marked(&ran.report, "@up ") {
            outcome.release = words.first().map(|release| (*release).to_owned());
            outcome.boot_s = words.get(1).and_then(|time| time.parse().ok());
        } else {
            outcome.fault("it did not come up");
        }
        outcome.examined(&ran.report);
        outcome.loaded(&ran.report);
        let mut missing = 0;
        for test in tests {
            missing += usize::from(!outcome.test(*test, &ran.report));
        }
        if missing > 0 {
            outcome.fault(format!("{missing} of {} tests were not run", tests.len()));
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

    /// What the product says of the kernel.
    fn examined(&mut self, report: &str) {
        match section(report, DOCTOR) {
            Some(Section {
                text,
                status: Some(status),
                ..
            }) => match findings(text) {
                Some(findings) => self.findings = findings,
                None => self.fault(format!(
                    "`limiter doctor --json` ended with status {status}, and printed no JSON"
                )),
            },
            _ => self.fault("`limiter doctor` did not end"),
        }
    }

    /// What the verifier had to look at.
    fn loaded(&mut self, report: &str) {
        let Some(section) = section(report, &LOAD.title()) else {
            self.fault("whether the programs load was not tried");
            return;
        };
        self.programs = section
            .text
            .lines()
            .filter_map(|line| line.split_once("@program "))
            .filter_map(|(_, rest)| {
                let mut words = rest.split_whitespace();
                Some(Program {
                    name: words.next()?.to_owned(),
                    instructions: words.next()?.parse().ok(),
                    took_s: words.next()?.parse().ok()?,
                })
            })
            .collect();
        if section.status != Some(0) {
            self.fault("the programs do not load here, so nothing else was tried");
        }
        self.test(LOAD, report);
    }

    /// Reads what came of a test; whether it was run.
    fn test(&mut self, test: Test, report: &str) -> bool {
        let title = test.title();
        let Some(section) = section(report, &title) else {
            return false;
        };
        let left_out = section.text.lines().filter_map(|line| {
            let (_, what) = line.split_once("@left-out ")?;
            Some(what.trim().to_owned())
        });
        for what in left_out {
            if !self.left_out.contains(&what) {
                self.left_out.push(what);
            }
        }
        let why = match section.status {
            Some(0) if section.text.contains("test result: ok. 1 passed") => {
                self.passed.push((title, section.took_s));
                return true;
            }
            Some(0) => "there is no test of this name".to_owned(),
            None => format!("it did not end; {}", said(section.text)),
            Some(KILLED) => format!("it took too long; {}", said(section.text)),
            Some(_) => said(section.text),
        };
        self.failed.push(Failure { test: title, why });
        true
    }
}

/// What one check wrote, and how it ended, if it did.
struct Section<'a> {
    text: &'a str,
    status: Option<i32>,
    took_s: f64,
}

fn section<'a>(report: &'a str, name: &str) -> Option<Section<'a>> {
    let (_, rest) = report.split_once(&format!("@begin {name} at "))?;
    let (began, rest) = rest.split_once('\n')?;
    let Some((text, end)) = rest.split_once(&format!("@end {name} ")) else {
        return Some(Section {
            text: rest,
            status: None,
            took_s: 0.0,
        });
    };
    let mut words = end.split_whitespace();
    let status = words.next().and_then(|word| word.parse().ok());
    let ended: Option<f64> = words.nth(1).and_then(|word| word.parse().ok());
    let began: Option<f64> = began.trim().parse().ok();
    Some(Section {
        text,
        status,
        took_s: ended.zip(began).map_or(0.0, |(ended, began)| ended - began),
    })
}

/// What a failed test said: from where it panicked last, the beginning and the end of it.
fn said(text: &str) -> String {
    let text = text
        .rfind("panicked at ")
        .map_or(text, |place| &text[place..]);
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("failures:"))
        .filter(|line| !line.is_empty() && *line != "FAILED" && !line.starts_with("note: "))
        .collect();
    let text = lines.join("\n");
    let characters: Vec<char> = text.chars().collect();
    if characters.len() <= SAID {
        return text;
    }
    let start: String = characters[..SAID / 2].iter().collect();
    let end: String = characters[characters.len() - SAID / 2..].iter().collect();
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

    const TEST: Test = Test {
        program: "e2e",
        name: "a::b",
    };

    const DOCTORED: &str = "@up 6.1.0-56-cloud-amd64 3.25
@begin kernel verifier::the_verifier_has_room at 3.26
running 1 test
test verifier::the_verifier_has_room ... @program limiter_x 1234 2.5
@program limiter_y ? 0.5
ok

test result: ok. 1 passed; 0 failed

@end kernel verifier::the_verifier_has_room 0 at 5.26
@begin doctor at 5.30
{\"healthy\":false,\"findings\":[
{\"area\":\"kernel\",\"level\":\"ok\",\"what\":\"Linux\",\"remedy\":null},
{\"area\":\"MTA\",\"level\":\"warning\",\"what\":\"none\",\"remedy\":null},
{\"area\":\"kernel\",\"level\":\"note\",\"what\":\"no TCX\",\"remedy\":\"clsact instead\"}]}

@end doctor 1 at 6.00
";

    fn e2e(text: &str, status: i32) -> Outcome {
        let report = format!(
            "{DOCTORED}@begin e2e a::b at 6.00\n{text}\n@end e2e a::b {status} at 16.50\n@done 17\n"
        );
        Outcome::read(&ran(&report, ""), &[TEST])
    }

    #[test]
    fn what_passed_is_counted_and_what_the_kernel_lacks_is_kept() {
        let outcome = e2e(
            "test a::b ... @left-out a row: no such thing\nok\ntest result: ok. 1 passed",
            0,
        );
        assert!(outcome.good(), "{outcome:?}");
        let passed: Vec<&str> = outcome.passed.iter().map(|(name, _)| &name[..]).collect();
        assert_eq!(
            passed,
            ["kernel verifier::the_verifier_has_room", "e2e a::b"]
        );
        assert!((outcome.passed[1].1 - 10.5).abs() < 0.01, "{outcome:?}");
        assert_eq!(outcome.boot_s, Some(3.25));
        assert_eq!(outcome.left_out, ["a row: no such thing"]);
        let program = |name: &str, instructions, took_s| Program {
            name: name.to_owned(),
            instructions,
            took_s,
        };
        assert_eq!(
            outcome.programs,
            [
                program("limiter_x", Some(1234), 2.5),
                program("limiter_y", None, 0.5)
            ]
        );
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
        let outcome = e2e(
            "much ado\nthread 'a::b' (7) panicked at place:1:2:\nno such thing\n\
             note: run with\nFAILED\n\nfailures:\n\nfailures:\n    a::b\n\n\
             test result: FAILED. 0 passed; 1 failed",
            101,
        );
        assert!(!outcome.good());
        assert_eq!(outcome.passed.len(), 1);
        assert_eq!(outcome.failed.len(), 1);
        assert_eq!(outcome.failed[0].test, "e2e a::b");
        let why = &outcome.failed[0].why;
        assert!(why.contains("place:1:2:\nno such thing"), "{why}");
        assert!(
            !why.contains("much ado") && !why.contains("failures"),
            "{why}"
        );
    }

    #[test]
    fn a_test_that_is_not_there_or_takes_too_long_failed() {
        let outcome = e2e("running 0 tests\ntest result: ok. 0 passed", 0);
        assert_eq!(outcome.failed[0].why, "there is no test of this name");
        let outcome = e2e("test a::b ... it waits", 137);
        let why = &outcome.failed[0].why;
        assert!(why.starts_with("it took too long; "), "{why}");
    }

    #[test]
    fn a_machine_that_panics_or_hangs_is_a_failure() {
        let report = format!("{DOCTORED}@begin e2e a::b at 6.00\ntest a::b ... ");
        let console = "[    5.0] Kernel panic - not syncing: Fatal exception\n";
        let other = Test {
            name: "c::d",
            ..TEST
        };
        let outcome = Outcome::read(&ran(&report, console), &[TEST, other]);
        assert!(!outcome.good());
        assert!(outcome.failed[0].why.starts_with("it did not end"));
        let faults = outcome.faults.join("\n");
        for fault in [
            "1 of 2 tests were not run",
            "it ended before its tests did",
            "the kernel says: [    5.0] Kernel panic",
        ] {
            assert!(faults.contains(fault), "{faults}");
        }
        assert!(!Outcome::read(&ran("", ""), &[TEST]).good());
    }
}
