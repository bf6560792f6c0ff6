//! Findings, and how they read.

use std::fmt;

use serde::Serialize;

/// How wide a line is at most, columns.
const WIDTH: usize = 80;
/// Where the text of a finding begins, columns.
const INDENT: usize = 11;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Good to know.
    Note,
    /// It works, and something is not as it should be.
    Warning,
    /// Without it limiter does not work.
    Missing,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about: the heading it stands under.
    pub area: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub what: String,
    /// What to do about it; null if nothing is to be done.
    pub remedy: Option<String>,
}

impl Finding {
    /// Something is as it should be.
    pub(super) fn ok(area: &'static str, what: impl Into<String>) -> Self {
        Self::new(area, Level::Ok, what, None)
    }

    /// Something good to know, and what follows from it; empty if nothing does.
    pub(super) fn note(
        area: &'static str,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let remedy = Some(remedy.into()).filter(|remedy| !remedy.is_empty());
        Self::new(area, Level::Note, what, remedy)
    }

    /// Something is not as it should be.
    pub(super) fn warning(
        area: &'static str,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(area, Level::Warning, what, Some(remedy.into()))
    }

    /// Something without which limiter does not work.
    pub(super) fn missing(
        area: &'static str,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(area, Level::Missing, what, Some(remedy.into()))
    }

    fn new(
        area: &'static str,
        level: Level,
        what: impl Into<String>,
        remedy: Option<String>,
    ) -> Self {
        Self {
            area,
            level,
            what: what.into(),
            remedy,
        }
    }
}

/// What was found. Displays as lines for people, none wider than 80 columns.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether every layer has what it needs.
    pub healthy: bool,
    /// Everything that was looked at, in order, by area.
    pub findings: Vec<Finding>,
}

impl Report {
    pub(super) fn new(findings: Vec<Finding>) -> Self {
        Self {
            healthy: findings.iter().all(|one| one.level != Level::Missing),
            findings,
        }
    }

    fn count(&self, level: Level) -> usize {
        self.findings
            .iter()
            .filter(|one| one.level == level)
            .count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing = self.count(Level::Missing);
        let warnings = several(self.count(Level::Warning), "warning");
        if self.healthy {
            writeln!(f, "All that limiter needs is there; {warnings}.")?;
        } else {
            writeln!(f, "NOT READY: {missing} missing, {warnings}.")?;
        }
        let mut area = "";
        for finding in &self.findings {
            if finding.area != area {
                area = finding.area;
                writeln!(f, "\n{area}")?;
            }
            let level = match finding.level {
                Level::Ok => "ok",
                Level::Note => "note",
                Level::Warning => "WARNING",
                Level::Missing => "MISSING",
            };
            paragraph(f, level, &finding.what)?;
            if let Some(remedy) = &finding.remedy {
                paragraph(f, "", &format!("-> {remedy}"))?;
            }
        }
        Ok(())
    }
}

/// `1 rule`, `2 rules`.
pub(super) fn several(count: usize, what: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {what}{ending}")
}

/// Writes words in lines of at most [`WIDTH`], behind a label. What has lines of its own keeps them.
fn paragraph(f: &mut fmt::Formatter<'_>, label: &str, text: &str) -> fmt::Result {
    let lines = text.lines().flat_map(|line| wrap(line, WIDTH - INDENT));
    for (at, line) in lines.enumerate() {
        let label = if at == 0 { label } else { "" };
        writeln!(f, "  {label:<8} {line}")?;
    }
    Ok(())
}

/// Breaks text between words; a word that is wider than a line is broken where the line ends.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in crate::report::text::printable(text).split_whitespace() {
        let mut left: Vec<char> = word.chars().collect();
        if used > 0 && used + 1 + left.len() > width {
            lines.push(String::new());
            used = 0;
        }
        while !left.is_empty() {
            if used > 0 && used == width {
                lines.push(String::new());
                used = 0;
            }
            if let Some(line) = lines.last_mut() {
                if used > 0 && left.len() == word.chars().count() {
                    line.push(' ');
                    used += 1;
                }
                let fits = left.len().min(width - used);
                line.extend(left.drain(..fits));
                used += fits;
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words_and_long_words_anywhere() {
        assert_eq!(wrap("aa bb cc", 5), ["aa bb", "cc"]);
        assert_eq!(wrap("aa bbbbbbb cc", 5), ["aa", "bbbbb", "bb cc"]);
        assert_eq!(wrap("", 5), [""]);
        assert_eq!(wrap("aaaaa bbbbb", 5), ["aaaaa", "bbbbb"]);
    }

    #[test]
    fn what_has_lines_keeps_them() {
        let findings = vec![Finding::missing("kernel", "refused:\nr1 = r2\nwhy", "x")];
        let text = Report::new(findings).to_string();
        let lines = "  MISSING  refused:\n           r1 = r2\n           why\n";
        assert!(text.contains(lines), "{text}");
    }

    #[test]
    fn a_report_says_first_whether_it_is_well() {
        let mut findings = vec![Finding::ok("kernel", "x")];
        assert!(Report::new(findings.clone()).healthy);
        findings.push(Finding::missing("places", "y ".repeat(60), "do z"));
        let report = Report::new(findings);
        assert!(!report.healthy);
        let text = report.to_string();
        assert!(text.starts_with("NOT READY: 1 missing, 0 warnings.\n\nkernel\n"));
        assert!(text.contains("  MISSING  y y"), "{text}");
        assert!(text.ends_with("           -> do z\n"), "{text}");
        assert!(text.lines().all(|line| line.len() <= 80));
    }
}
