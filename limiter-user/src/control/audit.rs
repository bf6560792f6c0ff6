//! Who changed what, when and why: `audit.jsonl` in the state directory, kept for good.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::peer::Peer;
use crate::{report::problem::Problem, system::patience};

/// How long an action waits until it is recorded.
const PATIENCE: Duration = Duration::from_secs(2);

/// The file's name in the state directory.
pub const FILE: &str = "audit.jsonl";

/// One action of a person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// When it was done.
    pub time: Timestamp,
    /// By whom.
    pub by: Peer,
    /// The command: `reload`, `observe`, `suspend`, `reinstate`, `detach`.
    pub action: String,
    /// Its arguments.
    pub arguments: serde_json::Value,
    /// Why, in the person's words.
    pub reason: Option<String>,
    /// Whether it was carried out.
    pub done: bool,
    /// What came of it: the outcome, or the error.
    pub outcome: String,
}

/// The log. A line that cannot be written goes to the agent's own log instead: a full disk must
/// not keep an administrator from acting.
#[derive(Debug)]
pub struct Audit {
    path: PathBuf,
    failing: Mutex<Option<String>>,
}

impl Audit {
    /// The log in `state_dir`.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self {
            path: state_dir.join(FILE),
            failing: Mutex::new(None),
        }
    }

    /// Records an action, on the disk before this returns; a disk that does not answer is not waited for
    /// any longer than seconds.
    pub fn record(&self, record: &AuditRecord) {
        let line = serde_json::to_string(record).unwrap_or_else(|error| error.to_string());
        log::info!("audit: {line}");
        let (path, written) = (self.path.clone(), line.clone());
        let outcome = patience::within(PATIENCE, move || append(&path, &written))
            .unwrap_or_else(|| Err(io::Error::new(io::ErrorKind::TimedOut, "the disk hangs")));
        if let Err(error) = &outcome {
            log::error!(
                "cannot record an action in {}: {error}; it was: {line}",
                self.path.display()
            );
        }
        *self.failing.lock().unwrap_or_else(PoisonError::into_inner) =
            outcome.err().map(|error| error.to_string());
    }

    /// What is wrong with the log, for `status`.
    #[must_use]
    pub fn problem(&self) -> Option<Problem> {
        let failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let why = failing.as_ref()?;
        let path = self.path.display();
        Some(Problem::error(
            format!("the last action of an administrator could not be recorded in {path}: {why}"),
            "make room or repair the file; the action stands in the agent's own log",
        ))
    }
}

fn append(path: &Path, line: &str) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
    }
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
    // One write of a whole line: `limiter detach` appends without an agent.
    // What a crash cut off gets a line of its own.
    let torn = if torn(&mut file)? { "\n" } else { "" };
    let text = format!("{torn}{line}\n");
    file.write_all(text.as_bytes())?;
    file.sync_data()
}

/// Whether the file ends in the middle of a line.
fn torn(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn record(action: &str) -> AuditRecord {
        AuditRecord {
            time: Timestamp::now(),
            by: Peer::own(),
            action: action.into(),
            arguments: serde_json::Value::Null,
            reason: None,
            done: true,
            outcome: String::new(),
        }
    }

    #[test]
    fn a_torn_line_costs_only_itself() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        fs::write(&path, "{\"time\": \"2026-").unwrap();
        let audit = Audit::new(directory.path());
        audit.record(&record("reload"));
        audit.record(&record("detach"));
        assert_eq!(audit.problem(), None);
        let text = fs::read_to_string(&path).unwrap();
        let actions: Vec<String> = text
            .lines()
            .filter_map(|line| serde_json::from_str::<AuditRecord>(line).ok())
            .map(|record| record.action)
            .collect();
        assert_eq!(actions, ["reload", "detach"]);
    }

    #[test]
    fn what_cannot_be_recorded_is_a_problem() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("no-directory");
        fs::write(&file, "").unwrap();
        let audit = Audit::new(&file);
        audit.record(&record("reload"));
        let problem = audit.problem().unwrap();
        assert!(problem.problem.contains("audit.jsonl"), "{problem:?}");
    }
}
