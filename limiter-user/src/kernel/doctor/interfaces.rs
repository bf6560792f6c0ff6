//! Interfaces without coverage: traffic of tenants can pass there, and nothing judges it.

use std::collections::BTreeMap;

use super::Finding;

const AREA: &str = "interfaces";
/// How many are named for each problem.
const MOST_NAMED: usize = 24;

/// Says which interfaces nothing covers: names, each with what is wrong.
pub(super) fn examine(uncovered: &[(String, String)], findings: &mut Vec<Finding>) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_named_by_problem_until_there_are_too_many() {
        let mut findings = Vec::new();
        examine(&[], &mut findings);
        assert_eq!(findings, []);
        let mut many: Vec<_> = (0..30)
            .map(|index| (format!("veth{index}"), "nothing is attached".to_owned()))
            .collect();
        many.push(("tap0".to_owned(), "it vanished".to_owned()));
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
}
