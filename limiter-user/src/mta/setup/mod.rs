//! What has to be put where, so that a mail server asks: for this node's configuration and for the mail
//! server as it is set up. Nothing is changed here; people do that.

mod dovecot;
mod exim;
mod forward;
mod postfix;
mod reinjection;

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Serialize;

pub use self::{dovecot::DovecotFacts, exim::EximFacts, forward::Forwards, postfix::PostfixFacts};
use crate::{
    policy::{
        model::Policy,
        services::{OnFailure, PaceAction, ServiceAddress, ServicePlaces, Services},
    },
    service::ask::MOST_WAIT,
};

/// How long a mail server waits for an answer that is not delayed.
const PATIENCE: Duration = Duration::from_secs(MOST_WAIT.as_secs() + 5);
/// The first port that every user can listen at.
const UNPRIVILEGED: u16 = 1024;

/// What has to be done, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Steps {
    /// One after the other.
    pub steps: Vec<Step>,
}

/// One thing that has to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What, in words.
    pub what: String,
    /// The file that it is about; none: these are commands.
    pub file: Option<PathBuf>,
    /// What to put there, or to run.
    pub lines: Vec<String>,
}

impl Steps {
    fn put(&mut self, file: &Path, what: impl Into<String>, lines: Vec<String>) {
        self.steps.push(Step {
            what: what.into(),
            file: Some(file.to_owned()),
            lines,
        });
    }

    fn run(&mut self, what: impl Into<String>, lines: Vec<String>) {
        self.steps.push(Step {
            what: what.into(),
            file: None,
            lines,
        });
    }

    /// What people should know.
    fn know(&mut self, what: impl Into<String>) {
        self.run(what, Vec::new());
    }
}

impl fmt::Display for Steps {
    /// Words are comments, so that a step can be copied whole.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, step) in self.steps.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            let mut what = format!("{}. {}", number + 1, step.what);
            if let Some(file) = &step.file {
                what = format!("{what}: {}", file.display());
            }
            writeln!(f, "# {what}")?;
            for line in &step.lines {
                writeln!(f, "{line}")?;
            }
        }
        Ok(())
    }
}

/// How a mail server reaches a service.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Way {
    /// Where it listens already.
    Listens(ServiceAddress),
    /// Where it has to listen too.
    Missing(ServiceAddress),
}

impl Way {
    fn address(&self) -> &ServiceAddress {
        match self {
            Self::Listens(address) | Self::Missing(address) => address,
        }
    }
}

/// A service: its key, where it listens, and how it is reached.
type Reached<'a> = (&'a str, &'a [ServiceAddress], &'a Way);

/// What both mail servers have in common.
struct Common<'p> {
    places: &'p ServicePlaces,
    services: &'p Services,
    config: &'p Path,
}

impl<'p> Common<'p> {
    fn of(policy: &'p Policy) -> Self {
        Self {
            places: &policy.places.services,
            services: &policy.node.services,
            config: &policy.places.config,
        }
    }

    fn fails_open(&self) -> bool {
        self.services.on_failure == OnFailure::Open
    }

    /// How long the mail server waits for an answer.
    fn patience(&self) -> Duration {
        match self.services.too_fast.action {
            PaceAction::Defer => PATIENCE,
            PaceAction::Delay => self.services.too_fast.cap + PATIENCE,
        }
    }

    /// Says what to add to the main file, where something is missing.
    fn complete(&self, ways: &[Reached<'_>], steps: &mut Steps) {
        let missing: Vec<String> = ways
            .iter()
            .filter(|(_, _, way)| matches!(way, Way::Missing(_)))
            .map(|(key, listens, way)| {
                let all = listens.iter().chain([way.address()]);
                let all: Vec<String> = all.map(|address| format!("\"{address}\"")).collect();
                format!("  {key}: [{}]", all.join(", "))
            })
            .collect();
        if missing.is_empty() {
            return;
        }
        let mut lines = vec!["services:".to_owned()];
        lines.extend(missing);
        steps.put(
            self.config,
            "where the mail server can reach limiter; into its `services`, if it has any",
            lines,
        );
        steps.run(
            "sockets are opened at the start; enforcement goes on meanwhile",
            vec!["systemctl restart limiter".to_owned()],
        );
    }

    /// Warns where the mail server expands what users write.
    fn warn_of(forwards: Option<Forwards>, steps: &mut Steps) {
        if let Some(Forwards { problem, remedy }) = forwards {
            steps.know(format!("beware: {problem}. {remedy}"));
        }
    }

    /// Warns where others could answer in the agent's place.
    fn warn(ways: &[Reached<'_>], steps: &mut Steps) {
        for (_, _, way) in ways {
            if let ServiceAddress::Inet(address) = way.address()
                && address.port() >= UNPRIVILEGED
            {
                steps.know(format!(
                    "beware: while limiter is away, any user of this node can listen at {address} and \
                     answer in its place; a port below {UNPRIVILEGED} or a UNIX socket is root's alone"
                ));
            }
        }
    }
}

/// A word for a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests;
