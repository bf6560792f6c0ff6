//! The engine: text and view → subject and body, within bounds.

use std::io;

use minijinja::{
    Environment, UndefinedBehavior,
    syntax::SyntaxConfig,
    value::{Serde, Value},
};

use crate::notice::harmless::{self, SUBJECT};

/// How many instructions a template may take.
const FUEL: u64 = 100_000;
/// The most that a template may say, in bytes.
const MAX_OUTPUT: usize = 128 << 10;

/// What became of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// One line, without control characters.
    pub subject: String,
    /// Plain text; lines end in `\n`.
    pub body: String,
}

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// In which line; 0: in the whole.
    pub line: usize,
    /// What.
    pub problem: String,
}

/// Renders `source`: `Subject: …`, an empty line, the body.
///
/// Both are rendered on their own, so that nothing in one becomes a part of the other, whatever
/// the values hold.
pub(super) fn render(source: &str, view: &serde_json::Value) -> Result<Rendered, Wrong> {
    let at = |line, problem: &str| Wrong {
        line,
        problem: problem.to_owned(),
    };
    let source = source.strip_prefix('\u{feff}').unwrap_or(source);
    let head: Vec<&str> = source
        .lines()
        .take_while(|line| !line.trim().is_empty())
        .collect();
    let subject = head
        .first()
        .and_then(|first| first.split_at_checked("subject:".len()))
        .filter(|(name, _)| name.eq_ignore_ascii_case("subject:"))
        .map(|(_, subject)| subject)
        .ok_or_else(|| at(1, "does not start with `Subject: `"))?;
    let folded = head.get(1..).unwrap_or_default();
    if let Some(line) = folded
        .iter()
        .position(|line| !line.starts_with([' ', '\t']))
    {
        let problem = "there is no empty line between the subject and the text";
        return Err(at(line + 2, problem));
    }
    let subject = [&[subject], folded].concat().join("\n");
    let subject = text(&subject, view)?;
    let subject: Vec<&str> = subject.split_whitespace().collect();
    if subject.is_empty() {
        return Err(at(1, "the subject is empty"));
    }
    // Empty lines in place of the head: faults are told with the line of the file.
    let body = source.lines().skip(head.len());
    let body: Vec<&str> = head.iter().map(|_| "").chain(body).collect();
    let body = tidy(text(&body.join("\n"), view)?.lines());
    if body.is_empty() {
        return Err(at(0, "there is no text below the subject"));
    }
    Ok(Rendered {
        subject: harmless::line(&subject.join(" "), SUBJECT),
        body,
    })
}

fn text(source: &str, view: &serde_json::Value) -> Result<String, Wrong> {
    let mut environment = Environment::new();
    // A name that does not exist is a slip of the pen, and is to be found.
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    // Lines of nothing but a tag leave nothing behind.
    if let Ok(syntax) = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()
    {
        environment.set_syntax(syntax);
    }
    let template = environment.template_from_str(source).map_err(wrong)?;
    let mut output = Bounded(Vec::new());
    template
        .render_captured_to(Value::from(Serde(view)), &mut output)
        .map_err(wrong)?;
    Ok(String::from_utf8_lossy(&output.0).into_owned())
}

fn wrong(error: minijinja::Error) -> Wrong {
    use std::error::Error as _;
    let detail = match (error.source(), error.detail()) {
        (Some(source), _) => format!(": {source}"),
        (None, Some(detail)) => format!(": {detail}"),
        (None, None) => String::new(),
    };
    Wrong {
        line: error.line().unwrap_or(0),
        problem: format!("{}{detail}", error.kind()),
    }
}

/// The lines without control characters and trailing blanks, never two empty ones in a row.
fn tidy<'t>(lines: impl Iterator<Item = &'t str>) -> String {
    let mut body = String::new();
    let mut empty = true;
    for line in lines {
        let line: String = line
            .trim_end()
            .chars()
            .filter(|c| !c.is_control())
            .collect();
        if line.is_empty() && empty {
            continue;
        }
        empty = line.is_empty();
        body.push_str(&line);
        body.push('\n');
    }
    body.truncate(body.trim_end().len());
    if !body.is_empty() {
        body.push('\n');
    }
    body
}

/// A buffer that refuses to grow without end.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len().saturating_add(bytes.len()) > MAX_OUTPUT {
            let problem = format!("the text is longer than {} KiB", MAX_OUTPUT >> 10);
            return Err(io::Error::other(problem));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
