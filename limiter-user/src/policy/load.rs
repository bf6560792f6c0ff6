//! All files of a configuration → the policy, or everything that is wrong with them.

use std::path::{Path, PathBuf};

use super::{
    check,
    expand::expand,
    fault::Fault,
    findings::Findings,
    item::Item,
    model::{Origin, Policy},
    node::{Mark, Node},
    read::{self, ReadError},
    section_node::{self, RawNode},
    section_tenant::{self, RawTenant},
    yaml::Documents,
};

/// Everything that came of reading a configuration.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The policy; none if there is a fault of severity error.
    pub policy: Option<Policy>,
    /// All faults, by file, line and column.
    pub faults: Vec<Fault>,
    /// The files that were read or should have been, the main file first.
    pub files: Vec<PathBuf>,
}

/// Reads the main file at `config` and the tenant files that it names, and checks all of them.
#[must_use]
pub fn load(config: &Path) -> Loaded {
    let mut out = Findings::default();
    let mut files = Vec::new();
    let policy = read_all(config, &mut files, &mut out);
    Loaded {
        policy: policy.filter(|_| !out.any_error()),
        faults: out.finish(),
        files,
    }
}

fn read_all(config: &Path, files: &mut Vec<PathBuf>, out: &mut Findings) -> Option<Policy> {
    let config = match std::path::absolute(config) {
        Ok(absolute) => absolute,
        Err(error) => {
            file_error(config, ReadError::Io(error), out);
            return None;
        }
    };
    out.enter(config.clone());
    files.push(config.clone());
    if config.to_str().is_none() {
        let problem = "the path of the main file is not UTF-8";
        out.error(Mark::default(), problem, "rename it");
        return None;
    }
    let raw = match read::text(&config) {
        Ok(text) => main_file(&text, &config, out),
        Err(error) => {
            file_error(&config, error, out);
            return None;
        }
    };

    let mut tenants = Vec::new();
    match expand(&raw.places.tenants) {
        Ok(found) => {
            for path in found {
                if path == config {
                    out.add(Fault::error(
                        &raw.tenants_origin,
                        format!("tenants: {} matches the main file", raw.places.tenants),
                        "a glob that matches tenant files only, such as tenants.d/*.yaml",
                    ));
                    continue;
                }
                tenant_file(path, files, &mut tenants, out);
            }
        }
        Err(error) => {
            out.incomplete = true;
            out.add(Fault::error(
                &raw.tenants_origin,
                format!("tenants: {error}"),
                "a glob of readable files with UTF-8 names",
            ));
        }
    }
    Some(check::policy(raw, tenants, out))
}

fn file_error(path: &Path, error: ReadError, out: &mut Findings) {
    out.incomplete = true;
    let line = match error {
        ReadError::Binary { line, .. } => line,
        _ => 0,
    };
    let origin = Origin {
        file: path.to_owned(),
        line,
        column: usize::from(line > 0),
    };
    let problem = match error {
        ReadError::Missing => format!("{} does not exist", path.display()),
        ref other => other.to_string(),
    };
    out.add(Fault::error(&origin, problem, error.remedy()));
}

fn main_file(text: &str, config: &Path, out: &mut Findings) -> RawNode {
    let mut documents = Documents::new(text);
    let first = documents.next_document();
    report(&mut documents, out);
    let nothing = Node::null(Mark::default());
    let mut raw = section_node::node(
        &Item::document(first.as_ref().unwrap_or(&nothing)),
        config,
        out,
    );
    let mut more = false;
    while let Some(next) = documents.next_document() {
        report(&mut documents, out);
        if !more {
            out.error(
                next.mark,
                "the main file holds a second document",
                "one document; several are legal in tenant files only",
            );
        }
        more = true;
    }
    report(&mut documents, out);
    if documents.is_broken() {
        out.incomplete = true;
        // What could not be read may have defined any of them.
        raw.plans = None;
    }
    raw
}

fn tenant_file(
    path: PathBuf,
    files: &mut Vec<PathBuf>,
    tenants: &mut Vec<RawTenant>,
    out: &mut Findings,
) {
    files.push(path.clone());
    out.enter(path.clone());
    let text = match read::text(&path) {
        Ok(text) => text,
        // It was removed after it was listed.
        Err(ReadError::Missing) if path.symlink_metadata().is_err() => {
            files.pop();
            return;
        }
        Err(error) => {
            file_error(&path, error, out);
            return;
        }
    };
    let mut documents = Documents::new(&text);
    while let Some(document) = documents.next_document() {
        report(&mut documents, out);
        if document.is_null() {
            continue;
        }
        let known = tenants.len();
        tenants.extend(section_tenant::tenant(&Item::document(&document), out));
        // A tenant without a name may be anybody's parent.
        out.incomplete |= tenants.len() == known;
    }
    report(&mut documents, out);
    out.incomplete |= documents.is_broken();
}

fn report(documents: &mut Documents<'_>, out: &mut Findings) {
    for fault in documents.take_faults() {
        out.error(fault.mark, fault.problem, fault.allowed);
    }
}
