//! Templates: what a notice says in plain text.
//!
//! Each has a default inside the binary; a file of the same name in the directory `notices.templates`
//! takes its place, and is read each time anew. A file that is wrong is said to be, and the default
//! stands in for it: a slip of the pen keeps nobody from being told.
//!
//! A template is `Subject: …`, an empty line, and the text, in the language of Jinja. It sees the keys
//! of [`Facts`](super::Facts) in their JSON form, times as people read them, and `sanction_name`,
//! `meanwhile_name`, `then.name`, `how_words` and `reference`. It can read no other file.

mod check;
mod engine;
mod kind;
pub(super) mod sample;
mod view;

use std::{
    fs::OpenOptions,
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde_json::json;

pub use check::check;
pub use engine::Rendered;
pub use kind::Kind;

use super::facts::Facts;

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 64 << 10;

/// What is wrong with a file of the administrator's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("template {path}:{line}: {problem}; the built-in text is used instead", path = path.display())]
pub struct TemplateFault {
    /// The file.
    pub path: PathBuf,
    /// The line; 0: the whole file.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
}

/// The templates in force.
#[derive(Clone, Debug, Default)]
pub struct Templates {
    directory: Option<PathBuf>,
}

impl Templates {
    /// Those in `directory`, and the defaults for all that is not there.
    #[must_use]
    pub const fn new(directory: Option<PathBuf>) -> Self {
        Self { directory }
    }

    /// What the notice `facts` says, and what is wrong with the file that should have said it.
    #[must_use]
    pub fn render(&self, facts: &Facts) -> (Rendered, Option<TemplateFault>) {
        self.of_kind(Kind::of(facts), &view::of(facts))
    }

    /// Several notices about one tenant in one.
    #[must_use]
    pub fn digest(&self, notices: &[Facts]) -> (Rendered, Option<TemplateFault>) {
        let mut view = notices.first().map(view::of).unwrap_or_default();
        let mut fault = None;
        let rendered = notices.iter().map(|facts| {
            let (one, wrong) = self.render(facts);
            fault = fault.take().or(wrong);
            json!({"subject": one.subject, "body": one.body})
        });
        view["notices"] = rendered.collect();
        view["count"] = notices.len().into();
        let (rendered, wrong) = self.of_kind(Kind::Digest, &view);
        (rendered, wrong.or(fault))
    }

    fn of_kind(&self, kind: Kind, view: &serde_json::Value) -> (Rendered, Option<TemplateFault>) {
        let mut fault = None;
        if let Some(path) = self.directory.as_ref().map(|dir| dir.join(kind.file())) {
            let wrong = |line, problem| TemplateFault {
                path: path.clone(),
                line,
                problem,
            };
            match read(&path) {
                Ok(text) => match engine::render(&text, view) {
                    Ok(rendered) => return (rendered, None),
                    Err(bad) => fault = Some(wrong(bad.line, bad.problem)),
                },
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => fault = Some(wrong(0, error.to_string())),
            }
        }
        let rendered = engine::render(kind.default_text(), view).unwrap_or_else(|bad| {
            // The tests render each of them; should it ever fail all the same, people are told.
            log::error!("the built-in template {}: {}", kind.file(), bad.problem);
            plain(kind, view)
        });
        (rendered, fault)
    }
}

/// The facts as they are.
fn plain(kind: Kind, view: &serde_json::Value) -> Rendered {
    Rendered {
        subject: format!("limiter: {}", kind.file().trim_end_matches(".txt")),
        body: format!("{view:#}\n"),
    }
}

/// The text of a template. Whatever is no ordinary file of a decent size is an error.
fn read(path: &Path) -> io::Result<String> {
    // A pipe in its place keeps nobody waiting.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("is not a file"));
    }
    if meta.len() > MAX_FILE {
        return Err(io::Error::other(format!(
            "is larger than {} KiB",
            MAX_FILE >> 10
        )));
    }
    let mut text = String::new();
    file.take(MAX_FILE).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests;
