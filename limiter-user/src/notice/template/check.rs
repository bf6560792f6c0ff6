//! What is wrong with a directory of templates, before anybody has to be told.

use std::{fs, io, path::Path};

use super::{Kind, engine, read, sample};
use crate::policy::{fault::Fault, model::Origin};

/// Every fault of the templates in `directory`. Each is a warning: the built-in texts stand in.
#[must_use]
pub fn check(directory: &Path) -> Vec<Fault> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => {
            let problem = format!("notices.templates: cannot read the directory: {error}");
            return vec![warning(
                directory,
                0,
                problem,
                "make it, or leave the key out",
            )];
        }
    };
    let mut faults = Vec::new();
    for kind in Kind::ALL {
        faults.extend(check_file(*kind, &directory.join(kind.file())));
    }
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| name.ends_with(".txt")) else {
            continue;
        };
        if Kind::ALL.iter().all(|kind| kind.file() != name) {
            let known: Vec<&str> = Kind::ALL.iter().map(|kind| kind.file()).collect();
            let near = known
                .iter()
                .map(|file| (strsim::osa_distance(file, name), file))
                .filter(|(distance, _)| *distance <= 2)
                .min();
            let advice = near.map_or_else(
                || format!("the templates are {}", known.join(", ")),
                |(_, file)| format!("did you mean {file}?"),
            );
            let problem = "no notice uses this file";
            faults.push(warning(&entry.path(), 0, problem.to_owned(), &advice));
        }
    }
    faults.sort_by(|one, other| one.origin.cmp(&other.origin));
    faults
}

fn check_file(kind: Kind, path: &Path) -> Option<Fault> {
    const ADVICE: &str = "correct it; the built-in text is used instead";
    let text = match read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => return Some(warning(path, 0, error.to_string(), ADVICE)),
    };
    sample::views(kind).iter().find_map(|view| {
        let bad = engine::render(&text, view).err()?;
        Some(warning(path, bad.line, bad.problem, ADVICE))
    })
}

fn warning(path: &Path, line: usize, problem: String, advice: &str) -> Fault {
    let origin = Origin {
        file: path.into(),
        line,
        column: usize::from(line > 0),
    };
    Fault::warning(&origin, problem, advice)
}
