//! What came of all kernels, for somebody who reads only this.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::report::{Failure, Finding, Outcome, Program};

/// How much of a finding is shown, characters. All of it is in the log.
const MOST: usize = 400;

/// A kernel that was asked for, and what became of that.
pub struct Row {
    /// As it was asked for.
    pub wanted: String,
    /// What came of it.
    pub result: Result<Outcome, NotRun>,
    /// Where all that it wrote is kept.
    pub logs: PathBuf,
}

/// Why a kernel was not tried.
#[derive(Debug)]
pub enum NotRun {
    /// Its packages could not be had.
    NotFetched(String),
    /// No machine could be made of them.
    NotStarted(String),
}

impl Row {
    /// Whether this kernel was tried and all is well.
    pub fn good(&self) -> bool {
        self.result.as_ref().is_ok_and(Outcome::good)
    }

    fn name(&self) -> &str {
        let release = self.result.as_ref().ok().and_then(|o| o.release.as_deref());
        release.unwrap_or(&self.wanted)
    }

    fn line(&self) -> [String; 4] {
        let (boot, tests, verdict) = match &self.result {
            Ok(outcome) => (
                outcome
                    .boot_s
                    .map_or_else(|| "never".to_owned(), |time| format!("{time:.1} s")),
                format!(
                    "{} passed, {} failed in {:.0} s",
                    outcome.passed.len(),
                    outcome.failed.len(),
                    outcome.took_s
                ),
                if outcome.good() { "ok" } else { "FAILED" },
            ),
            Err(NotRun::NotFetched(_)) => ("-".into(), "none".into(), "NOT FETCHED"),
            Err(NotRun::NotStarted(_)) => ("-".into(), "none".into(), "NOT STARTED"),
        };
        [self.name().to_owned(), boot, tests, verdict.to_owned()]
    }

    fn details(&self, text: &mut String) {
        // Writing to a string does not fail.
        let _ = writeln!(text, "\n{}", self.name());
        match &self.result {
            Ok(outcome) => {
                if outcome.findings.is_empty() {
                    let _ = writeln!(text, "  lacks nothing that the product uses");
                }
                for Finding {
                    level,
                    what,
                    remedy,
                } in &outcome.findings
                {
                    let _ = writeln!(text, "  {level}: {}", shortened(what));
                    if !remedy.is_empty() {
                        let _ = writeln!(text, "    -> {}", shortened(remedy));
                    }
                }
                for what in &outcome.left_out {
                    let _ = writeln!(text, "  not tried here: {what}");
                }
                if let Some(line) = verified(&outcome.programs) {
                    let _ = writeln!(text, "  {line}");
                }
                if let Some((test, seconds)) = outcome
                    .passed
                    .iter()
                    .max_by(|(_, one), (_, other)| one.total_cmp(other))
                {
                    let _ = writeln!(text, "  slowest test: {test}, {seconds:.0} s");
                }
                for Failure { test, why } in &outcome.failed {
                    let _ = writeln!(
                        text,
                        "  FAILED: {test}\n    {}",
                        why.replace('\n', "\n    ")
                    );
                }
                for fault in &outcome.faults {
                    let _ = writeln!(text, "  FAILED: {}", fault.replace('\n', "\n    "));
                }
                let _ = writeln!(text, "  all it wrote: {}", self.logs.display());
            }
            Err(NotRun::NotFetched(why)) => {
                let _ = writeln!(text, "  NOT FETCHED, and so not tried: {why}");
            }
            Err(NotRun::NotStarted(why)) => {
                let _ = writeln!(text, "  NOT STARTED: {why}");
            }
        }
    }
}

/// A table, and below it what each kernel lacks and what failed.
pub fn text(rows: &[Row]) -> String {
    let heading = ["kernel", "user space", "tests", "verdict"].map(str::to_owned);
    let lines: Vec<[String; 4]> = std::iter::once(heading)
        .chain(rows.iter().map(Row::line))
        .collect();
    let width = |column: usize| {
        lines
            .iter()
            .map(|line| line[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths = [width(0), width(1), width(2)];
    let mut text = String::new();
    for [name, boot, tests, verdict] in &lines {
        let [first, second, third] = widths;
        let _ = writeln!(
            text,
            "{name:first$}  {boot:second$}  {tests:third$}  {verdict}"
        );
    }
    for row in rows {
        row.details(&mut text);
    }
    text
}

/// What the verifier had to do, in a line.
fn verified(programs: &[Program]) -> Option<String> {
    let time: f64 = programs.iter().map(|program| program.took_s).sum();
    let slowest = programs
        .iter()
        .max_by(|one, other| one.took_s.total_cmp(&other.took_s))?;
    let most = programs
        .iter()
        .filter_map(|program| Some((program.instructions?, &program.name)))
        .max();
    let most = most.map_or_else(String::new, |(instructions, name)| {
        format!("; most instructions: {name}, {instructions}")
    });
    Some(format!(
        "programs: {} loaded in {time:.0} s, the slowest {} in {:.1} s{most}",
        programs.len(),
        slowest.name,
        slowest.took_s
    ))
}

/// On one line, and not too long.
fn shortened(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    if line.chars().count() <= MOST {
        return line;
    }
    let start: String = line.chars().take(MOST).collect();
    format!("{start} …")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_out() {
        let row = |wanted: &str, result| Row {
            wanted: wanted.to_owned(),
            result,
            logs: PathBuf::from("target/vm/logs/x"),
        };
        let rows = [
            row(
                "6.1",
                Ok(Outcome {
                    release: Some("6.1.0-56".to_owned()),
                    boot_s: Some(3.0),
                    passed: vec![("kernel c::d".to_owned(), 7.0)],
                    took_s: 9.0,
                    programs: vec![Program {
                        name: "limiter_x".to_owned(),
                        instructions: Some(1234),
                        took_s: 2.5,
                    }],
                    left_out: vec!["a row".to_owned()],
                    findings: vec![Finding {
                        level: "note".to_owned(),
                        what: "no TCX".to_owned(),
                        remedy: "clsact\ninstead".to_owned(),
                    }],
                    ..Outcome::default()
                }),
            ),
            row(
                "6.12",
                Ok(Outcome {
                    failed: vec![Failure {
                        test: "e2e a::b".to_owned(),
                        why: "because".to_owned(),
                    }],
                    ..Outcome::default()
                }),
            ),
            row("5.10", Err(NotRun::NotFetched("gone".to_owned()))),
        ];
        let text = text(&rows);
        assert_eq!(rows.iter().filter(|row| row.good()).count(), 1);
        for part in [
            "kernel    user space  tests               verdict\n",
            "6.1.0-56  3.0 s       1 passed, 0 failed in 9 s  ok\n",
            "6.12      never       0 passed, 1 failed in 0 s   FAILED\n",
            "  not tried here: a row\n",
            "  programs: 1 loaded in 2 s, the slowest limiter_x in 2.5 s; most instructions: limiter_x, 1234\n",
            "  slowest test: kernel c::d, 7 s\n",
            "5.10      -           none                 NOT FETCHED\n",
            "  note: no TCX\n    -> clsact instead\n",
            "  FAILED: e2e a::b\n    because\n",
            "  NOT FETCHED, and so not tried: gone\n",
        ] {
            let squeezed = |text: &str| text.replace(' ', "");
            assert!(squeezed(&text).contains(&squeezed(part)), "{part}\n{text}");
        }
    }
}
