//! Interfaces without coverage: traffic of tenants can pass there, and nothing judges it.

use std::collections::BTreeMap;

use super::Finding;

const AREA: &str = "interfaces";
/// How many are named for each problem.
const MOST_NAMED: usize = 24;

/// The interfaces by which guests come in or traffic leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interfaces {
    /// How many have their program.
    pub covered: usize,
    /// Names of those that should have one and have none, each with what is wrong.
    pub uncovered: Vec<(String, String)>,
    /// What is odd about them, and what was done about it or is to be done.
    pub odd: Vec<(String, String)>,
}

/// Says which interfaces nothing covers, and what is odd.
pub(super) fn examine(interfaces: &Interfaces, findings: &mut Vec<Finding>) {
    let Interfaces {
        covered,
        uncovered,
        odd,
    } = interfaces;
    if uncovered.is_empty() && *covered > 0 {
        findings.push(Finding::ok(
            AREA,
            format!("all {covered} that lead out or to guests have their program"),
        ));
    }
    for (what, advice) in odd {
        findings.push(Finding::warning(AREA, what, capital(advice)));
    }
    let mut by_problem: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, problem) in uncovered {
        by_problem.entry(problem).or_default().push(name);
    }
    for (problem, names) in by_problem {
        let mut named = names[..names.len().min(MOST_NAMED)].join(", ");
        if names.len() > MOST_NAMED {
            named = format!("{named} and {} more", names.len() - MOST_NAMED);
        }
        findings.push(Finding::warning(
            AREA,
            format!("without coverage: {named}: {problem}"),
            "What passes there is judged by no layer. A running agent attaches within a second; \
             `limiter status` says why it does not.",
        ));
    }
}

/// A sentence of its own.
fn capital(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).chain(['.']).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_named_by_problem_until_there_are_too_many() {
        let mut findings = Vec::new();
        examine(&Interfaces::default(), &mut findings);
        assert_eq!(findings, []);
        let mut many: Vec<_> = (0..30)
            .map(|index| (format!("veth{index}"), "nothing is attached".to_owned()))
            .collect();
        many.push(("tap0".to_owned(), "it vanished".to_owned()));
        let many = Interfaces {
            uncovered: many,
            ..Interfaces::default()
        };
        examine(&many, &mut findings);
        let [vanished, attached] = &findings[..] else {
            panic!("{findings:?}")
        };
        assert_eq!(vanished.what, "without coverage: tap0: it vanished");
        let what = &attached.what;
        assert!(
            what.starts_with("without coverage: veth0, veth1, "),
            "{what}"
        );
        assert!(
            what.ends_with("veth23 and 6 more: nothing is attached"),
            "{what}"
        );
    }

    #[test]
    fn what_is_odd_is_said_and_what_is_well_too() {
        let mut findings = Vec::new();
        let interfaces = Interfaces {
            covered: 3,
            odd: vec![(
                "attach.guests: lxc0 looks like a guest's interface".to_owned(),
                "add a glob for it".to_owned(),
            )],
            ..Interfaces::default()
        };
        examine(&interfaces, &mut findings);
        let [well, odd] = &findings[..] else {
            panic!("{findings:?}")
        };
        assert_eq!(
            well.what,
            "all 3 that lead out or to guests have their program"
        );
        assert_eq!(odd.remedy.as_deref(), Some("Add a glob for it."));
    }
}
