//! Policy files: what is an offence, and what follows. Read and checked like all other files; what
//! they mean is in [`crate::offence`].

mod amounts;
mod check;
mod section_charges;
mod section_complaints;
mod section_steps;
mod section_when;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::{
    fault::{Fault, any_error},
    findings::Findings,
    item::{Fields, Item, Parsed, Scalar, refuse},
    load::{file_error, report},
    model::Located,
    node::Mark,
    read::{self, ReadError},
    section_rules::RawRules,
    value,
    yaml::Documents,
};
use crate::offence::{Ladder, RefusedAttempts, Sanction, Span};

/// The keys of a policy file.
const KEYS: [&str; 10] = [
    "policy",
    "plan",
    "offences",
    "refused_attempts",
    "forget_after",
    "steps",
    "charges",
    "confirm",
    "complaints",
    "keep_records",
];

/// What came of reading a policy file.
#[derive(Clone, Debug)]
pub struct LoadedLadder {
    /// The policy; none if there is a fault of severity error.
    pub ladder: Option<Ladder>,
    /// All faults, by line and column.
    pub faults: Vec<Fault>,
    /// The file.
    pub file: PathBuf,
}

/// Reads the policy file at `path` and checks it.
#[must_use]
pub fn load_ladder(path: &Path) -> LoadedLadder {
    let (read, out) = ladder_file(path).unwrap_or_else(|error| {
        let mut out = Findings::default();
        out.enter(path.into());
        if matches!(error, ReadError::Missing) {
            let problem = format!("{} does not exist", path.display());
            let allowed = "create it, or name another policy file";
            out.error(Mark::default(), problem, allowed);
        } else {
            file_error(path, error, &mut out);
        }
        (None, out)
    });
    let faults = out.finish();
    LoadedLadder {
        ladder: read.map(|read| read.ladder).filter(|_| !any_error(&faults)),
        faults,
        file: path.to_owned(),
    }
}

/// A policy as it was read.
pub(super) struct ReadLadder {
    /// The policy.
    pub ladder: Ladder,
    /// The plans that its steps name, and where: whether there are any such, the node says.
    pub plans: Vec<Located<String>>,
}

/// The policy in the file at `path`, and what is wrong with it. If there is an error among that,
/// the policy is of no use.
///
/// # Errors
///
/// The file cannot be used.
pub(super) fn ladder_file(path: &Path) -> Result<(Option<ReadLadder>, Findings), ReadError> {
    let text = read::text(path)?;
    let mut out = Findings::default();
    out.enter(path.into());
    let ladder = document(&text, &mut out);
    Ok((ladder, out))
}

fn document(text: &str, out: &mut Findings) -> Option<ReadLadder> {
    let mut documents = Documents::new(text);
    let first = documents.next_document();
    report(&mut documents, out);
    let ladder = match &first {
        Some(node) => ladder(&Item::document(node), out),
        None => {
            if !documents.is_broken() {
                out.error(Mark::default(), "the file is empty", "add `policy: NAME`");
            }
            None
        }
    };
    let mut more = false;
    while let Some(next) = documents.next_document() {
        if !more {
            let problem = "the policy file holds a second document";
            out.error(next.mark, problem, "one document, one policy, one file");
        }
        more = true;
    }
    report(&mut documents, out);
    ladder
}

fn ladder(item: &Item<'_>, out: &mut Findings) -> Option<ReadLadder> {
    let fields = item.fields(out, &KEYS)?;
    let name = fields
        .require(out, "policy", "add `policy`, its name")
        .and_then(|item| item.parse(out, "the name of the policy", value::line));
    let plan = fields.set("plan").and_then(|item| {
        let fields = item.fields(out, &RawRules::KEYS)?;
        Some(RawRules::read(&fields, out).bounds())
    });
    let offences = section_when::offences(&fields, out);
    let refused_attempts = fields
        .get("refused_attempts")
        .and_then(|item| word(&item, out, RefusedAttempts::WORDS))
        .unwrap_or(RefusedAttempts::Warn);
    let forget_after = span(&fields, out, "forget_after", Span::days(1), FOREVER);
    let mut plans = Vec::new();
    let steps = section_steps::steps(&fields, &mut plans, out);
    let charges = fields
        .get("charges")
        .map(|item| section_charges::charges(&item, out, true))
        .unwrap_or_default();
    let confirm = match fields.get("confirm") {
        None => BTreeSet::from([Sanction::NullRoute, Sanction::Terminate]),
        Some(item) => words(&item, out, Sanction::WORDS),
    };
    let complaints = fields
        .set("complaints")
        .and_then(|item| section_complaints::complaints(&item, out))
        .unwrap_or_default();
    let keep_records = span(&fields, out, "keep_records", Span::days(1), FOREVER);
    check::check(&offences, &steps, &confirm, out);
    let ladder = Ladder {
        name: name?,
        plan,
        offences: offences.into_iter().map(|(rule, _)| rule).collect(),
        refused_attempts,
        forget_after,
        steps: steps.into_iter().flatten().map(|(step, _)| step).collect(),
        charges,
        confirm,
        complaints,
        keep_records,
    };
    Some(ReadLadder { ladder, plans })
}

/// The longest span that a policy can name.
const FOREVER: Span = Span::days(100 * 365);

/// The span that `key` names, if it is there and not null.
fn span(fields: &Fields<'_>, out: &mut Findings, key: &str, min: Span, max: Span) -> Option<Span> {
    let item = fields.set(key)?;
    item.parse(out, "a duration such as 24h or 30d", |scalar| {
        value::duration(scalar, min.into(), max.into()).map(Span::from)
    })
}

/// One of several words.
fn word<T: Copy>(item: &Item<'_>, out: &mut Findings, words: &[(&'static str, T)]) -> Option<T> {
    let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
    item.parse(out, &names.join(" | "), |scalar| value::word(scalar, words))
}

/// A list of words.
fn words<T: Copy + Ord>(
    item: &Item<'_>,
    out: &mut Findings,
    words: &[(&'static str, T)],
) -> BTreeSet<T> {
    let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
    let allowed = format!("a list of {}", names.join(", "));
    let mut found = BTreeSet::new();
    for item in item.list(out, &allowed) {
        found.extend(item.parse(out, &allowed, |scalar| value::word(scalar, words)));
    }
    found
}

/// A list of texts on one line.
fn lines(item: &Item<'_>, out: &mut Findings, allowed: &str) -> Vec<String> {
    let mut found = Vec::new();
    for item in item.list(out, allowed) {
        found.extend(item.parse(out, allowed, value::line));
    }
    found
}

/// A whole number from 1 on.
fn count(scalar: Scalar<'_>) -> Parsed<u64> {
    value::whole(scalar, 1, u32::MAX).map(u64::from)
}

/// `yes` and `no` of YAML, as a fact that can only be stated.
fn stated(scalar: Scalar<'_>) -> Parsed<bool> {
    match scalar.text {
        "true" if scalar.plain => Ok(true),
        "false" if scalar.plain => Ok(false),
        _ => refuse("is neither true nor false", "true | false"),
    }
}

#[cfg(test)]
mod tests;
