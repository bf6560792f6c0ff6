//! The policy files that the main file and the tenants name: each read once, however many name it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, hash_map},
    path::{Path, PathBuf},
};

use super::{
    fault::Fault,
    findings::Findings,
    item::{nearest, shown},
    ladder::{ReadLadder, ladder_file},
    load::file_error,
    model::{Located, Origin},
    read::{self, ReadError},
    section_rules::RawRules,
};
use crate::offence::Ladder;

/// What came of reading them.
#[derive(Debug, Default)]
pub(super) struct PolicyFiles {
    /// The policies, by name.
    pub ladders: BTreeMap<String, Ladder>,
    /// The plans that their steps name, and where.
    plans: Vec<Located<String>>,
    /// The policies that speak of bounces, and where they are named first.
    bounces: Vec<Located<String>>,
    /// The name of the policy in each file, by the path as it was named; `None`: it is broken.
    names: HashMap<PathBuf, Option<String>>,
}

/// A path and who names it.
struct Named<'a> {
    path: &'a Path,
    /// The first place.
    origin: &'a Origin,
    /// How many places.
    places: usize,
}

impl PolicyFiles {
    /// Reads the files that are `named`, reports what is wrong with them, and adds them to
    /// `files`.
    pub fn read<'a>(
        named: impl Iterator<Item = &'a Located<PathBuf>>,
        files: &mut Vec<PathBuf>,
        out: &mut Findings,
    ) -> Self {
        // That a policy cannot be read hides no tenant.
        let incomplete = out.incomplete;
        let mut read = Self::default();
        // Behind links and `..`, by the file that is meant.
        let mut real: HashMap<PathBuf, Option<String>> = HashMap::new();
        let mut origins: HashMap<String, &Path> = HashMap::new();
        for Named {
            path,
            origin,
            places,
        } in each_once(named)
        {
            let key = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
            let name = match real.entry(key) {
                hash_map::Entry::Occupied(known) => {
                    // Whoever can change the way to a file chooses the policy.
                    if let Err(error) = read::check_path(path) {
                        file_error(path, error, out);
                    }
                    known.get().clone()
                }
                hash_map::Entry::Vacant(new) => {
                    files.push(path.to_owned());
                    let found = one(path, origin, places, out);
                    let name = found.as_ref().map(|found| found.ladder.name.clone());
                    if let Some(ReadLadder { ladder, plans }) = found {
                        read.add(ladder, path, origin, &mut origins, out);
                        read.plans.extend(plans);
                    }
                    new.insert(name).clone()
                }
            };
            read.names.insert(path.to_owned(), name);
        }
        out.incomplete = incomplete;
        read
    }

    fn add<'a>(
        &mut self,
        ladder: Ladder,
        path: &'a Path,
        origin: &Origin,
        first: &mut HashMap<String, &'a Path>,
        out: &mut Findings,
    ) {
        if let Some(other) = first.get(&ladder.name) {
            let problem = format!(
                "policies: {} is the policy {}, and so is {}",
                path.display(),
                shown(&ladder.name),
                other.display()
            );
            let allowed = "give one of them another name, or name one file only";
            out.add(Fault::error(origin, problem, allowed));
            return;
        }
        first.insert(ladder.name.clone(), path);
        if ladder.has_bounce_rates() {
            self.bounces.push(Located {
                value: ladder.name.clone(),
                origin: origin.clone(),
            });
        }
        self.ladders.insert(ladder.name.clone(), ladder);
    }

    /// Reports plans that steps name and this node has not. A slip of the pen is an error: the step
    /// would pass by those whom it is for. What is like none of its plans may be meant for other
    /// nodes that share the file.
    pub fn check_plans(&self, plans: &HashMap<String, RawRules>, out: &mut Findings) {
        let known = || plans.keys().map(String::as_str);
        for Located { value, origin } in &self.plans {
            if plans.contains_key(value) {
                continue;
            }
            let problem = format!("steps: plans: this node has no plan {}", shown(value));
            out.add(match nearest(value, known()) {
                Some(near) => {
                    let allowed = format!(
                        "did you mean {}? Else define it under `plans` of the main file",
                        shown(near)
                    );
                    Fault::error(origin, problem, allowed)
                }
                None => {
                    let allowed = "the step is for nobody here; if it should be for somebody, \
                                   define the plan under `plans` of the main file and name it in \
                                   the tenants";
                    Fault::warning(origin, problem, allowed)
                }
            });
        }
    }

    /// Warns of policies that speak of bounces where none are read.
    pub fn check_bounces(&self, out: &mut Findings) {
        for Located { value, origin } in &self.bounces {
            out.add(Fault::warning(
                origin,
                format!(
                    "policies: {} speaks of bounces, and nothing says where they are read",
                    shown(value)
                ),
                "name the mail server's log: bounces: {logs: [/var/log/exim4/mainlog]} or \
                 bounces: {journal: true}; until then only those of `limiter offence add` count",
            ));
        }
    }

    /// The names of the policies in the files `named`.
    pub fn names(&self, named: &[Located<PathBuf>]) -> BTreeSet<String> {
        named
            .iter()
            .filter_map(|file| self.names.get(&file.value)?.clone())
            .collect()
    }
}

/// Each path once, in the order in which they are named first.
fn each_once<'a>(named: impl Iterator<Item = &'a Located<PathBuf>>) -> Vec<Named<'a>> {
    let mut found: Vec<Named<'a>> = Vec::new();
    let mut index: HashMap<&Path, usize> = HashMap::new();
    for Located { value, origin } in named {
        match index.entry(value) {
            hash_map::Entry::Occupied(at) => found[*at.get()].places += 1,
            hash_map::Entry::Vacant(new) => {
                new.insert(found.len());
                found.push(Named {
                    path: value,
                    origin,
                    places: 1,
                });
            }
        }
    }
    found
}

/// The policy in the file at `path`; none if something is wrong with it, which is reported.
fn one(path: &Path, origin: &Origin, places: usize, out: &mut Findings) -> Option<ReadLadder> {
    match ladder_file(path) {
        Ok((read, findings)) => {
            let broken = findings.any_error();
            out.absorb(findings);
            read.filter(|_| !broken)
        }
        // The name may be wrong as well as the file.
        Err(ReadError::Missing) => {
            let more = match places - 1 {
                0 => String::new(),
                1 => " (named in one more place)".to_owned(),
                more => format!(" (named in {more} more places)"),
            };
            let problem = format!("policies: {} does not exist{more}", path.display());
            let allowed = "the path of a policy file, relative to the file that names it";
            out.add(Fault::error(origin, problem, allowed));
            None
        }
        Err(error) => {
            file_error(path, error, out);
            None
        }
    }
}
