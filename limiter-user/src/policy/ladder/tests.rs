//! Policy files that are wrong: each fault with its place and what is allowed, all in one pass.

use std::{fs, os::unix::fs::PermissionsExt as _};

use super::*;

/// What is wrong with a policy file that holds `text`.
fn faults(text: &str) -> Vec<String> {
    let dir = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir()
        .unwrap();
    let path = dir.path().join("p.yaml");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let loaded = load_ladder(&path);
    assert_eq!(loaded.ladder.is_none(), any_error(&loaded.faults));
    let shown = loaded.faults.iter().map(ToString::to_string);
    let prefix = format!("{}/", dir.path().display());
    shown.map(|fault| fault.replace(&prefix, "")).collect()
}

#[test]
fn the_smallest_policy_is_a_name() {
    assert_eq!(faults("policy: nothing\n"), [""; 0]);
}

#[test]
fn all_faults_are_found_in_one_pass() {
    let text = "\
policy: p
forget_afer: 1d
offences:
  - {when: {violations: {at_least: 0, in: 1h}}, severity: minor}
  - {when: {violations: {reasons: [limits], at_least: 5, in: 1s}}, severity: minor}
  - {when: {complaint_rate: {above: 0.1, of_at_least: 100, in: 24h}}, severity: moderate}
  - {when: {listing: any, operator: minor}, severity: severe}
  - {when: {}, severity: severe}
  - {when: {spread: {in: 1h}}, severity: grave}
steps:
  - {sanction: warn}
  - {severity: minor, sanction: block_smtp}
  - {severity: moderate, sanction: block_smtp, lift: {any: [time]}}
  - {severity: severe, sanction: suspend_mail, for: 30d-7d}
  - {severity: critical, sanction: terminate, then: {sanction: warn, after: 0s}}
  - {offence: 0, sanction: terminate}
charges:
  - {per: mail, amount: 1, currency: USD}
  - {per: complaint, amount: 1.005, currency: usd}
  - {per: complaint}
";
    let found = faults(text);
    let expected = [
        "p.yaml:2:1: error: forget_afer: unknown key; did you mean `forget_after`?",
        "p.yaml:4:36: error: offences[0].when.violations.at_least: 0 is too small;",
        "p.yaml:5:36: error: offences[1].when.violations.reasons[0]: limits is not known;",
        "p.yaml:5:62: error: offences[1].when.violations.in: 1s is too short;",
        "p.yaml:6:37: error: offences[2].when.complaint_rate.above: 0.1 is not a percentage;",
        "p.yaml:7:12: error: offences[3].when: a map holds more than one condition;",
        "p.yaml:8:12: error: offences[4].when: a map holds no condition;",
        "p.yaml:9:21: error: offences[5].when.spread: a map says not what is spread;",
        "p.yaml:9:42: error: offences[5].severity: grave is not known;",
        "p.yaml:11:5: error: steps[0]: a map says not when it is taken;",
        "p.yaml:12:5: error: steps[1]: a map does not say how it ends;",
        "p.yaml:13:54: error: steps[2].lift: a map waits for a time that is not named;",
        "p.yaml:14:53: error: steps[3].for: 30d-7d ends before it starts;",
        "p.yaml:15:53: error: steps[4].then: a map leads to warn, which is not stronger;",
        "p.yaml:16:15: error: steps[5].offence: 0 is too small;",
        "p.yaml:18:11: error: charges[0].per: mail is not known;",
        "p.yaml:19:30: error: charges[1].amount: 1.005 is not an amount;",
        "p.yaml:19:47: error: charges[1].currency: usd is not a currency;",
        "p.yaml:20:5: error: charges[2]: a map charges nothing;",
    ];
    let fits = |(found, expected): (&String, &&str)| found.starts_with(expected);
    assert!(
        found.len() == expected.len() && found.iter().zip(&expected).all(fits),
        "{found:#?}"
    );
}

#[test]
fn what_only_shows_in_the_whole_is_found_too() {
    let text = "\
policy: p
offences: [{when: {listing: any}, severity: minor}]
steps:
  - {severity: severe, sanction: terminate, meanwhile: null_route}
  - {severity: severe, sanction: terminate}
  - {severity: critical, sanction: suspend_network, lift: {all: [review]}, meanwhile: warn}
";
    assert_eq!(
        faults(text),
        [
            "p.yaml:2:12: error: offences: nothing follows an offence that is minor; add a step \
             with `severity: minor` or a lower one",
            "p.yaml:4:5: error: steps[0].meanwhile: null_route waits for a confirmation itself; \
             a sanction that is not in `confirm`",
            "p.yaml:5:5: error: steps[1]: stands for the same as an earlier step; keep one; the \
             other is at line 4",
            "p.yaml:6:5: warning: steps[2].meanwhile: has no effect, suspend_network needs no \
             confirmation; leave it out, or add the sanction to `confirm`",
        ]
    );
}

#[test]
fn a_step_that_cannot_be_read_is_not_missed() {
    let text = "\
policy: p
offences: [{when: {listing: any}, severity: minor}]
steps: [{severity: minor, sanction: wran}]
";
    let found = faults(text);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("p.yaml:3:37: error: steps[0].sanction: wran is not known"));
}

#[test]
fn a_file_is_one_policy() {
    let found = faults("policy: p\n---\npolicy: q\n");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("second document"), "{found:?}");
    for nothing in ["", "# nothing\n", "[]", "policy: ''\n"] {
        let found = faults(nothing);
        assert_eq!(found.len(), 1, "{nothing:?}: {found:?}");
    }
    let missing = load_ladder(Path::new("/nonexistent/p.yaml"));
    assert!(missing.ladder.is_none());
    assert!(missing.faults[0].problem.contains("does not exist"));
}

#[test]
fn the_example_of_the_design_is_a_policy() {
    let text = "\
policy: hostup
plan: {direct_smtp: block, submission: allow}
offences:
  - {when: {violations: {reasons: [limit, pace], at_least: 100, in: 1h}}, severity: minor}
  - {when: {complaint_rate: {above: 0.1%, of_at_least: 1000, in: 24h}}, severity: moderate}
  - {when: {hard_bounce_rate: {above: 2%, of_at_least: 200, in: 24h}}, severity: moderate}
  - {when: {listing: any}, severity: severe}
  - {when: {operator: critical}, severity: critical}
forget_after: 365d
steps:
  - {severity: minor, sanction: warn, within: 24h, tell: [contact]}
  - {severity: moderate, sanction: block_smtp, within: 4h, lift: {all: [review]}, tell: [contact, operator]}
  - {severity: severe, sanction: suspend_network, within: 2h, lift: {all: [review]}}
  - {severity: critical, sanction: null_route, within: 1h, then: {sanction: terminate, after: 0s}}
  - {again_after_reinstatement: true, sanction: terminate}
charges:
  - {per: complaint, amount: 3000, currency: USD}
confirm: [null_route, terminate]
";
    assert_eq!(faults(text), [""; 0]);
}
