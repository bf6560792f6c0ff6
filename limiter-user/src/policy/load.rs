//! All files of a configuration → the policy, or everything that is wrong with them.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    check,
    expand::expand,
    fault::Fault,
    findings::Findings,
    item::Item,
    kept::{Kept, KeptFile, KeptPart, SafeDirectories, Stamp, Sum},
    model::{Origin, Policy},
    node::{Mark, Node},
    parallel,
    policy_files::PolicyFiles,
    read::{self, ReadError},
    section_node::{self, RawNode},
    section_tenant::{self, RawTenant},
    yaml::{self, Documents},
};

/// Larger files are read in parts of about so many bytes, side by side.
const PART: usize = 1 << 16;

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
    loaded(config, None)
}

/// As [`load`], but of the tenant files only what is not as it was when `kept` was filled; it is
/// filled anew.
#[must_use]
pub fn load_changed(config: &Path, kept: &mut Kept) -> Loaded {
    loaded(config, Some(kept))
}

fn loaded(config: &Path, kept: Option<&mut Kept>) -> Loaded {
    let mut out = Findings::default();
    let mut files = Vec::new();
    let policy = read_all(config, kept, &mut files, &mut out);
    Loaded {
        policy: policy.filter(|_| !out.any_error()),
        faults: out.finish(),
        files,
    }
}

fn read_all(
    config: &Path,
    kept: Option<&mut Kept>,
    files: &mut Vec<PathBuf>,
    out: &mut Findings,
) -> Option<Policy> {
    let config = match std::path::absolute(config) {
        Ok(absolute) => absolute,
        Err(error) => {
            file_error(config, ReadError::Io(error), out);
            return None;
        }
    };
    out.enter(config.as_path().into());
    files.push(config.clone());
    if config.to_str().is_none() {
        let problem = "the path of the main file is not UTF-8";
        out.error(Mark::default(), problem, "rename it");
        return None;
    }
    let mut raw = match read::text(&config) {
        Ok(text) => main_file(&text, &config, out),
        Err(error) => {
            file_error(&config, error, out);
            return None;
        }
    };

    files.extend(raw.blocked.files().cloned());
    let blocked = std::mem::take(&mut raw.blocked).read(out);

    let mut tenants = Vec::new();
    let found = expand(&raw.places.tenants);
    let listed = found.is_ok();
    match found {
        Ok(mut found) => {
            if found.contains(&config) {
                out.add(Fault::error(
                    &raw.tenants_origin,
                    format!("tenants: {} matches the main file", raw.places.tenants),
                    "a glob that matches tenant files only, such as tenants.d/*.yaml",
                ));
                found.retain(|path| *path != config);
            }
            tenants = tenant_files(found, kept, files, out);
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
    let named = tenants.iter().flat_map(|tenant| &tenant.policies);
    let policies = PolicyFiles::read(raw.policies.iter().chain(named), files, out);
    if listed {
        overlooked(&raw.places.tenants, files, out);
    }
    Some(check::policy(raw, blocked, tenants, policies, out))
}

/// The most overlooked files that are named.
const MOST_OVERLOOKED: usize = 10;

/// Says which files look like tenants and are none: `alice.yml` beside `*.yaml` would leave alice
/// without a policy, and nobody would know.
fn overlooked(pattern: &str, read: &[PathBuf], out: &mut Findings) {
    let Some(directory) = Path::new(pattern).parent() else {
        return;
    };
    let Ok(entries) = std::fs::read_dir(directory) else {
        return;
    };
    let read: HashSet<&OsStr> = read.iter().map(|path| path.as_os_str()).collect();
    let mut files: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| {
            let extension = path
                .extension()
                .map(|extension| extension.to_ascii_lowercase());
            let looks = extension.is_some_and(|e| e == "yml" || e == "yaml");
            let hidden = path
                .file_name()
                .is_some_and(|n| n.as_encoded_bytes().starts_with(b"."));
            looks && !hidden && !read.contains(path.as_os_str())
        })
        .collect();
    files.sort();
    for file in files.iter().take(MOST_OVERLOOKED) {
        let origin = Origin {
            file: file.as_path().into(),
            line: 0,
            column: 0,
        };
        out.add(Fault::warning(
            &origin,
            format!("this file is not loaded: it does not match `tenants: {pattern}`"),
            "rename it, or change `tenants`",
        ));
    }
}

pub(super) fn file_error(path: &Path, error: ReadError, out: &mut Findings) {
    out.incomplete = true;
    let line = match error {
        ReadError::Binary { line, .. } => line,
        _ => 0,
    };
    let origin = Origin {
        file: path.into(),
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

/// What came of a file.
struct ReadFile {
    tenants: Vec<RawTenant>,
    findings: Findings,
    /// To be kept; none where nothing is kept, or it could not be read.
    file: Option<Arc<KeptFile>>,
}

impl ReadFile {
    /// What was read before, and is as it was.
    fn again(file: &Arc<KeptFile>) -> Self {
        let mut read = Self::nothing(Findings::default());
        for part in &file.parts {
            read.tenants.extend_from_slice(&part.read.0);
            read.findings.absorb(part.read.1.clone());
        }
        read.file = Some(Arc::clone(file));
        read
    }

    /// No tenants.
    const fn nothing(findings: Findings) -> Self {
        Self {
            tenants: Vec::new(),
            findings,
            file: None,
        }
    }
}

/// The tenants of all files, in their order.
fn tenant_files(
    found: Vec<PathBuf>,
    kept: Option<&mut Kept>,
    files: &mut Vec<PathBuf>,
    out: &mut Findings,
) -> Vec<RawTenant> {
    let safe = SafeDirectories::default();
    let before = kept.as_deref();
    let read = parallel::map(&found, |path| tenant_file(path, before, &safe));
    let mut tenants = Vec::with_capacity(read.len());
    let mut keep = HashMap::new();
    for (path, read) in found.into_iter().zip(read) {
        let Some(mut read) = read else {
            continue;
        };
        tenants.append(&mut read.tenants);
        out.absorb(read.findings);
        if let Some(file) = read.file {
            keep.insert(path.clone(), file);
        }
        files.push(path);
    }
    if let Some(kept) = kept {
        kept.replace(keep);
    }
    tenants
}

/// The tenants of the file at `path`, and what is wrong with them. `None`: the file is gone.
fn tenant_file(path: &Path, kept: Option<&Kept>, safe: &SafeDirectories) -> Option<ReadFile> {
    match try_tenant_file(path, kept, safe) {
        Ok(read) => Some(read),
        // It was removed after it was listed.
        Err(ReadError::Missing) if path.symlink_metadata().is_err() => None,
        Err(error) => {
            let mut out = Findings::default();
            file_error(path, error, &mut out);
            Some(ReadFile::nothing(out))
        }
    }
}

fn try_tenant_file(
    path: &Path,
    kept: Option<&Kept>,
    safe: &SafeDirectories,
) -> Result<ReadFile, ReadError> {
    let metadata = read::metadata(path, safe)?;
    let before = kept.and_then(|kept| kept.file(path));
    if let Some(before) = before
        && before.stamp.is_some()
        && before.stamp == Stamp::of(&metadata)
    {
        return Ok(ReadFile::again(before));
    }
    let (text, metadata) = read::opened(path)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let parts = yaml::split(text, PART);
    let name: Arc<Path> = path.into();
    if kept.is_none() {
        let mut read = ReadFile::nothing(Findings::default());
        for (mut tenants, findings) in parallel::map(&parts, |(lines, text)| {
            tenant_documents(&name, Documents::after(*lines, text))
        }) {
            read.tenants.append(&mut tenants);
            read.findings.absorb(findings);
        }
        return Ok(read);
    }
    let known = before.map(|before| before.by_sum()).unwrap_or_default();
    let parts = parallel::map(&parts, |(lines, text)| {
        let sum = Sum::of(*lines, text);
        match known.get(&sum) {
            Some(part) => (*part).clone(),
            None => KeptPart {
                sum,
                read: Arc::new(tenant_documents(&name, Documents::after(*lines, text))),
            },
        }
    });
    let file = KeptFile {
        stamp: Stamp::of(&metadata),
        parts,
    };
    Ok(ReadFile::again(&Arc::new(file)))
}

fn tenant_documents(path: &Arc<Path>, mut documents: Documents<'_>) -> (Vec<RawTenant>, Findings) {
    let mut out = Findings::default();
    out.enter(Arc::clone(path));
    let mut tenants = Vec::new();
    while let Some(document) = documents.next_document() {
        report(&mut documents, &mut out);
        if document.is_null() {
            continue;
        }
        let known = tenants.len();
        tenants.extend(section_tenant::tenant(&Item::document(&document), &mut out));
        // A tenant without a name may be anybody's parent.
        out.incomplete |= tenants.len() == known;
    }
    report(&mut documents, &mut out);
    out.incomplete |= documents.is_broken();
    (tenants, out)
}

pub(super) fn report(documents: &mut Documents<'_>, out: &mut Findings) {
    for fault in documents.take_faults() {
        out.error(fault.mark, fault.problem, fault.allowed);
    }
}
