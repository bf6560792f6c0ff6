//! Other programs on connect() in the same cgroup tree: they may rewrite what we judge, or keep
//! us from attaching.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use aya_obj::generated::{BPF_F_ALLOW_MULTI, BPF_F_ALLOW_OVERRIDE};

use super::{Finding, report::several};
use crate::{
    kernel::{
        attach::{CGROUP, pinned_programs},
        pins::Pins,
        sys,
    },
    policy::model::Places,
    system::mounts,
};

const AREA: &str = "other programs";
/// Larger trees are looked at in part.
const MOST_CGROUPS: usize = 4_096;
/// How many cgroups are named.
const MOST_NAMED: usize = 8;

/// Where a cgroup stands to ours.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Above,
    Same,
    Below,
}

pub(super) fn examine(places: &Places, cgroup: &Path, findings: &mut Vec<Finding>) {
    let pins = Pins::new(&places.pin_dir);
    let ours = pinned_programs(&pins);
    let mut tree = vec![(cgroup.to_owned(), Place::Same)];
    if let Ok(mount) = mounts::find_cgroup2() {
        let above = cgroup.ancestors().skip(1);
        let above = above.take_while(|path| path.starts_with(&mount));
        tree.extend(above.map(|path| (path.to_owned(), Place::Above)));
    }
    let complete = descendants(cgroup, &mut tree);

    let mut below: Vec<PathBuf> = Vec::new();
    let mut names: Option<BTreeMap<u32, String>> = None;
    let before = findings.len();
    for (path, place) in &tree {
        let Ok(directory) = File::open(path) else {
            continue;
        };
        for (_, _, kind) in &CGROUP[..2] {
            let query = match sys::prog_query(directory.as_fd(), *kind) {
                Ok(query) => query,
                Err(error) => {
                    findings.push(Finding::note(
                        AREA,
                        format!("cannot ask what is attached at {}: {error}", path.display()),
                        "Run doctor as root.",
                    ));
                    return;
                }
            };
            let others: Vec<u32> = query
                .programs
                .iter()
                .filter(|id| !ours.contains(id))
                .copied()
                .collect();
            if others.is_empty() {
                continue;
            }
            let names = names.get_or_insert_with(loaded_names);
            let what = others
                .iter()
                .map(|id| {
                    names
                        .get(id)
                        .map_or_else(|| format!("program {id}"), Clone::clone)
                })
                .collect::<Vec<_>>()
                .join(", ");
            match judge(*place, query.flags, &path.display().to_string(), &what) {
                Some(finding) if !findings.contains(&finding) => findings.push(finding),
                Some(_) => {}
                None if !below.contains(path) => below.push(path.clone()),
                None => {}
            }
        }
    }
    if !below.is_empty() {
        let named: Vec<String> = below
            .iter()
            .take(MOST_NAMED)
            .map(|path| path.display().to_string())
            .collect();
        findings.push(Finding::warning(
            AREA,
            format!(
                "connect programs of their own, which run before limiter's and may rewrite the \
                 destination, are in {} below: {}",
                several(below.len(), "cgroup"),
                named.join(", ")
            ),
            "Make sure that no tenant may load BPF programs (CAP_BPF, CAP_NET_ADMIN).",
        ));
    }
    if findings.len() == before {
        findings.push(Finding::ok(
            AREA,
            "no other program on connect() in this cgroup tree",
        ));
    }
    if !complete {
        let what = format!("only the first {MOST_CGROUPS} cgroups were looked at");
        findings.push(Finding::note(AREA, what, ""));
    }
}

/// What programs of others mean at a cgroup above or at ours; none for those below, which are
/// summed up.
fn judge(place: Place, flags: u32, path: &str, what: &str) -> Option<Finding> {
    let multi = flags & BPF_F_ALLOW_MULTI != 0;
    let overridable = flags & BPF_F_ALLOW_OVERRIDE != 0;
    match (place, multi, overridable) {
        (Place::Below, ..) => None,
        (Place::Same, true, _) => Some(Finding::warning(
            AREA,
            format!("{what} is attached at {path} beside limiter: it may rewrite destinations"),
            "Find out whose it is (bpftool cgroup tree) and whether it touches mail ports.",
        )),
        (Place::Above, true, _) => Some(Finding::note(
            AREA,
            format!("{what} is attached at {path}, above limiter, and runs after it"),
            "",
        )),
        // There every cgroup can replace what it inherits, ours included.
        (Place::Above, false, true) => Some(Finding::warning(
            AREA,
            format!("{what} is attached at {path} with ALLOW_OVERRIDE: limiter below replaces it"),
            "Have it attached with ALLOW_MULTI or by a link, or attach limiter at the root.",
        )),
        (Place::Same | Place::Above, false, _) => Some(Finding::missing(
            AREA,
            format!(
                "{what} is attached at {path} so that nothing else may be: the kernel will \
                 refuse limiter's programs"
            ),
            "Have its owner attach it with ALLOW_MULTI or by a link (bpftool cgroup tree).",
        )),
    }
}

/// Adds the cgroups below; false if there are too many.
fn descendants(of: &Path, tree: &mut Vec<(PathBuf, Place)>) -> bool {
    let mut open = vec![of.to_owned()];
    while let Some(path) = open.pop() {
        let Ok(entries) = fs::read_dir(&path) else {
            continue;
        };
        for entry in entries.flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if tree.len() >= MOST_CGROUPS {
                return false;
            }
            tree.push((entry.path(), Place::Below));
            open.push(entry.path());
        }
    }
    true
}

/// The names of all loaded programs, by id.
fn loaded_names() -> BTreeMap<u32, String> {
    aya::programs::loaded_programs()
        .flatten()
        .map(|program| {
            let name = program.name_as_str().unwrap_or("").to_owned();
            (program.id(), format!("program {} ({name})", program.id()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::doctor::Level;

    #[test]
    fn only_what_keeps_us_out_is_missing() {
        let level = |place, flags| judge(place, flags, "/", "x").map(|finding| finding.level);
        assert_eq!(level(Place::Same, BPF_F_ALLOW_MULTI), Some(Level::Warning));
        assert_eq!(
            level(Place::Same, BPF_F_ALLOW_OVERRIDE),
            Some(Level::Missing)
        );
        assert_eq!(level(Place::Same, 0), Some(Level::Missing));
        assert_eq!(level(Place::Above, 0), Some(Level::Missing));
        assert_eq!(
            level(Place::Above, BPF_F_ALLOW_OVERRIDE),
            Some(Level::Warning)
        );
        assert_eq!(level(Place::Above, BPF_F_ALLOW_MULTI), Some(Level::Note));
        assert_eq!(level(Place::Below, 0), None);
    }
}
