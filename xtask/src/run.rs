//! Running other programs: one place that decides what is shown, and how a failure reads.

use std::ffi::{OsStr, OsString};
use std::io::IsTerminal as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use anyhow::{Result, anyhow, bail};

/// Says on a terminal what happens next; a pipe gets nothing.
pub fn progress(what: &str) {
    if on_terminal() {
        eprintln!("==> {what}");
    }
}

/// Says something that a person must know wherever the output goes.
pub fn say(what: &str) {
    eprintln!("{what}");
}

/// Whether somebody watches.
pub fn on_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// What becomes of the output of a program that is run for its effect.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Show {
    /// Always shown: the output is what the caller asked for.
    Always,
    /// Shown on a terminal; in a pipe only when the program fails.
    WhenWatched,
}

/// A program to run, and what to tell somebody for whom it fails.
pub struct Run {
    command: Command,
    purpose: String,
    hint: Option<String>,
    show: Show,
}

impl Run {
    /// A program, and what it is run for (completes "… failed while …").
    pub fn new(program: impl AsRef<OsStr>, purpose: impl Into<String>) -> Self {
        let mut command = Command::new(program);
        command.stdin(Stdio::null());
        Self {
            command,
            purpose: purpose.into(),
            hint: None,
            show: Show::WhenWatched,
        }
    }

    /// Adds one argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds several arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable of the program's environment.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Takes a variable out of the program's environment.
    pub fn env_remove(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Runs in this directory instead of the caller's.
    pub fn dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// What to do when it fails, in a sentence.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Shows the output even in a pipe.
    pub fn shown(mut self) -> Self {
        self.show = Show::Always;
        self
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// When it cannot be started or does not succeed; the error names the command, what it was
    /// for and what to do, and carries its output where that was not shown.
    pub fn run(mut self) -> Result<()> {
        let started = Instant::now();
        if self.show == Show::Always || on_terminal() {
            let status = self
                .command
                .status()
                .map_err(|cause| self.not_started(&cause))?;
            if !status.success() {
                bail!("{}", self.failed(&status.to_string()));
            }
            if on_terminal() && started.elapsed().as_secs() >= 2 {
                eprintln!(
                    "    {} took {} s",
                    self.purpose,
                    started.elapsed().as_secs()
                );
            }
            return Ok(());
        }
        let output = self
            .command
            .output()
            .map_err(|cause| self.not_started(&cause))?;
        if !output.status.success() {
            eprint!("{}", String::from_utf8_lossy(&output.stdout));
            eprint!("{}", String::from_utf8_lossy(&output.stderr));
            bail!("{}", self.failed(&output.status.to_string()));
        }
        Ok(())
    }

    fn not_started(&self, cause: &std::io::Error) -> anyhow::Error {
        anyhow!(
            "cannot start `{}`, needed for {}: {cause}",
            line(&self.command),
            self.purpose
        )
    }

    fn failed(&self, status: &str) -> String {
        let hint = self
            .hint
            .as_deref()
            .map(|hint| format!("\n{hint}"))
            .unwrap_or_default();
        format!(
            "`{}` failed ({status}) while {}{hint}",
            line(&self.command),
            self.purpose
        )
    }
}

/// What a program prints, or nothing when it is not there or does not succeed: for finding out
/// facts, where a failure is a fact too.
pub fn ask(program: impl AsRef<OsStr>, args: &[&str]) -> Option<String> {
    let output: Output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        // Asking for a tool chain must not install it.
        .env("RUSTUP_AUTO_INSTALL", "0")
        .env("LC_ALL", "C.UTF-8")
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command as somebody would type it.
fn line(command: &Command) -> String {
    let mut words = vec![quoted(command.get_program())];
    words.extend(command.get_args().map(quoted));
    words.join(" ")
}

fn quoted(word: &OsStr) -> String {
    let text = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,+@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// The cargo that runs this very program, so that everything is built by the same tool chain.
pub fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_command_purpose_and_hint() {
        let error = Run::new("sh", "trying it")
            .args(["-c", "exit 3"])
            .hint("do this instead")
            .run()
            .unwrap_err()
            .to_string();
        assert!(error.contains("`sh -c 'exit 3'` failed"), "{error}");
        assert!(
            error.contains("while trying it\ndo this instead"),
            "{error}"
        );
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = Run::new("/nowhere/tool", "trying it")
            .run()
            .unwrap_err()
            .to_string();
        let expected = "cannot start `/nowhere/tool`, needed for trying it: No such file";
        assert!(error.starts_with(expected), "{error}");
        assert_eq!(ask("/nowhere/tool", &[]), None);
    }

    #[test]
    fn arguments_are_quoted_so_that_they_can_be_pasted() {
        assert_eq!(quoted(OsStr::new("--a=b")), "--a=b");
        assert_eq!(quoted(OsStr::new("it's")), r"'it'\''s'");
        assert_eq!(quoted(OsStr::new("")), "''");
    }
}
