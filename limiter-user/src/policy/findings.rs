//! Where faults are gathered while all files are read.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use super::{
    fault::{Fault, Severity},
    model::Origin,
    node::Mark,
};

/// How many faults of each severity are kept; the rest is counted.
const MAX_KEPT: usize = 10_000;

/// A part of the configuration that is checked, kept, and not enforced yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NotYet {
    /// What it is: `limits that count messages`.
    pub part: &'static str,
    /// What that means: `connections are limited, messages are not`.
    pub means: &'static str,
}

/// The faults found so far, and the file that is being read.
#[derive(Clone, Debug)]
pub(super) struct Findings {
    /// The file that marks refer to.
    file: Arc<Path>,
    faults: Vec<Fault>,
    /// How many there are of each, kept or not.
    errors: usize,
    warnings: usize,
    /// First place and number of places of what is not enforced yet.
    not_yet: BTreeMap<NotYet, (Origin, usize)>,
    /// Where `redirect` is first asked for.
    redirect: Option<Origin>,
    /// Whether some file or document could not be read at all: names may be missing.
    pub incomplete: bool,
}

impl Default for Findings {
    fn default() -> Self {
        Self {
            file: Path::new("").into(),
            faults: Vec::new(),
            errors: 0,
            warnings: 0,
            not_yet: BTreeMap::new(),
            redirect: None,
            incomplete: false,
        }
    }
}

impl Findings {
    /// Marks are from here on places in `file`.
    pub fn enter(&mut self, file: Arc<Path>) {
        self.file = file;
    }

    /// The place `mark` in the file that is being read.
    pub fn origin(&self, mark: Mark) -> Origin {
        Origin {
            file: Arc::clone(&self.file),
            line: mark.line,
            column: mark.column,
        }
    }

    /// An error at `mark`.
    pub fn error(&mut self, mark: Mark, problem: impl Into<String>, allowed: impl Into<String>) {
        let fault = Fault::error(&self.origin(mark), problem, allowed);
        self.add(fault);
    }

    /// A warning at `mark`.
    pub fn warning(&mut self, mark: Mark, problem: impl Into<String>, allowed: impl Into<String>) {
        let fault = Fault::warning(&self.origin(mark), problem, allowed);
        self.add(fault);
    }

    /// A fault that knows its place.
    pub fn add(&mut self, fault: Fault) {
        let count = match fault.severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
        };
        *count += 1;
        if *count <= MAX_KEPT {
            self.faults.push(fault);
        }
    }

    /// Adds what `later` found in what stands behind all that was read so far.
    pub fn absorb(&mut self, later: Self) {
        let Self {
            file: _,
            faults,
            errors,
            warnings,
            not_yet,
            redirect,
            incomplete,
        } = later;
        // Those that `later` counted and did not keep stay counted.
        let (kept_errors, kept_warnings) = (self.errors + errors, self.warnings + warnings);
        for fault in faults {
            self.add(fault);
        }
        (self.errors, self.warnings) = (kept_errors, kept_warnings);
        for (part, (origin, count)) in not_yet {
            self.not_yet.entry(part).or_insert((origin, 0)).1 += count;
        }
        if self.redirect.is_none() {
            self.redirect = redirect;
        }
        self.incomplete |= incomplete;
    }

    /// Notes that the file uses `part` at `mark`: one warning for all places.
    pub fn not_yet(&mut self, mark: Mark, part: NotYet) {
        let Some((_, count)) = self.not_yet.get_mut(&part) else {
            let origin = self.origin(mark);
            self.not_yet.insert(part, (origin, 1));
            return;
        };
        *count += 1;
    }

    /// Notes that something is to be redirected at `mark`.
    pub fn redirects(&mut self, mark: Mark) {
        if self.redirect.is_none() {
            self.redirect = Some(self.origin(mark));
        }
    }

    /// The first place that asks for `redirect`.
    pub fn first_redirect(&self) -> Option<&Origin> {
        self.redirect.as_ref()
    }

    /// Whether there was an error.
    pub fn any_error(&self) -> bool {
        self.errors > 0
    }

    /// Everything found, by file, line and column.
    pub fn finish(mut self) -> Vec<Fault> {
        for (part, (origin, count)) in std::mem::take(&mut self.not_yet) {
            let more = match count - 1 {
                0 => String::new(),
                1 => " (and in one more place)".to_owned(),
                more => format!(" (and in {more} more places)"),
            };
            self.faults.push(Fault::warning(
                &origin,
                format!("{}: not enforced by this version{more}", part.part),
                part.means,
            ));
        }
        self.faults.sort_by(|a, b| {
            (&a.origin, b.severity, &a.problem).cmp(&(&b.origin, a.severity, &b.problem))
        });
        self.faults.dedup();
        for (count, severity) in [
            (self.errors, Severity::Error),
            (self.warnings, Severity::Warning),
        ] {
            if count > MAX_KEPT {
                self.faults.push(Fault {
                    severity,
                    origin: Origin {
                        file: Arc::clone(&self.file),
                        ..Origin::default()
                    },
                    problem: format!("{} more faults are not listed", count - MAX_KEPT),
                    allowed: "correct those above first".to_owned(),
                });
            }
        }
        self.faults
    }
}
