//! Where mail ends up: a directory with a file a message.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::wait;

/// A maildir.
#[derive(Clone, Debug)]
pub struct Maildir {
    directory: PathBuf,
}

impl Maildir {
    /// The maildir in `directory`, which need not exist yet.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_path_buf(),
        }
    }

    /// The messages that arrived so far, in the order in which they did.
    #[must_use]
    pub fn messages(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.directory.join("new")) else {
            return Vec::new();
        };
        let mut messages: Vec<_> = entries
            .flatten()
            .filter_map(|entry| {
                let arrived = entry.metadata().ok()?.modified().ok()?;
                Some((arrived, fs::read_to_string(entry.path()).ok()?))
            })
            .collect();
        messages.sort();
        messages.into_iter().map(|(_, message)| message).collect()
    }

    /// How many messages with this text arrived so far.
    #[must_use]
    pub fn count(&self, text: &str) -> usize {
        self.messages()
            .iter()
            .filter(|message| message.contains(text))
            .count()
    }

    /// Waits for a message with this text, and returns it.
    #[must_use]
    pub fn wait_for(&self, text: &str) -> String {
        wait::until(
            &format!("a message with {text:?} in {:?}", self.directory),
            Duration::from_secs(20),
            || {
                self.messages()
                    .into_iter()
                    .find(|message| message.contains(text))
            },
        )
    }
}
