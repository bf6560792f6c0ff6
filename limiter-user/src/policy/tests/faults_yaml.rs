//! What can be wrong with the YAML itself, and what it may contain.

use super::*;
use crate::policy::yaml::split;

#[test]
fn bad_yaml_says_where_and_the_other_documents_are_read() {
    let config = Config::tenants(
        "tenant: a\nmatch: {users: [a\n---\ntenant: b\nmode: on\n---\ntenant: c\n\tmode: x\n---\n\
         tenant: d\nplam: x\n",
    );
    let faults = config.faults();
    let starts = |at: usize, start: &str| assert!(faults[at].starts_with(start), "{faults:#?}");
    starts(0, "tenants.d/t.yaml:3:1: error: not YAML: ");
    starts(1, "tenants.d/t.yaml:5:7: error: mode: on is not known;");
    starts(
        2,
        "tenants.d/t.yaml:7:9: error: not YAML: while scanning a plain scalar, found a tab",
    );
    starts(3, "tenants.d/t.yaml:11:1: error: plam: unknown key;");
    assert_eq!(faults.len(), 4, "{faults:#?}");
    assert!(
        faults[0].ends_with("correct the YAML near here; nothing more of this document was read")
    );
}

#[test]
fn bad_yaml_in_the_main_file_hides_no_fault_of_the_tenants() {
    let config = Config::new("plans: {a: {}\nmode: [\n")
        .write("tenants.d/t.yaml", "tenant: a\nplan: starter\nmode: on\n");
    let faults = config.faults();
    assert_eq!(
        faults.len(),
        2,
        "plans are unknown, so none is missing: {faults:#?}"
    );
    assert!(faults[0].starts_with("limiter.yaml:"), "{faults:#?}");
    assert!(
        faults[1].starts_with("tenants.d/t.yaml:3:7: error: mode: on"),
        "{faults:#?}"
    );
}

#[test]
fn a_parent_may_be_in_what_could_not_be_read() {
    let config =
        Config::tenants("tenant: a\nparent: reseller\n").write("tenants.d/u.yaml", "tenant: [\n");
    let faults = config.faults();
    assert_eq!(
        faults[0],
        "tenants.d/t.yaml:2:9: error: parent: reseller does not exist; the name of a tenant; it \
         may be in a part of the files that could not be read"
    );
}

#[test]
fn keys_stand_once() {
    only(
        &Config::tenants(
            "tenant: a\nmode: observe\nmatch: {uids: [1], users: [a], uids: [2]}\nmode: enforce\n",
        )
        .write(
            "tenants.d/t.yaml",
            "tenant: a\nmode: observe\ncontact: []\nmode: enforce\n",
        ),
        "tenants.d/t.yaml:4:1: error: mode: the key is there twice; keep one; the other is on line 2",
    );
    only(
        &Config::tenants(
            "tenant: a\nlimits:\n  - {max: 1, unit: connections, max: 2, window: 1h}\n",
        ),
        "tenants.d/t.yaml:3:33: error: limits[0].max: the key is there twice; keep one; the other \
         is on line 3",
    );
    let many: String = (0..40).map(|n| format!("  p{n}: {{}}\n")).collect();
    only(
        &Config::new(&format!("plans:\n{many}  p7: {{}}\n")),
        "limiter.yaml:42:3: error: plans.p7: the key is there twice; keep one; the other is on \
         line 9",
    );
}

#[test]
fn odd_keys_and_tags() {
    all(
        &Config::tenants("tenant: a\n? [x, y]\n: 1\n"),
        &[
            "tenants.d/t.yaml:2:3: error: document: a list or a map cannot be a key; write the key \
           as plain text",
        ],
    );
    all(
        &Config::tenants("tenant: !foo a\n"),
        &["tenants.d/t.yaml:1:9: error: tenant: the tag \"!foo\" means nothing here; remove it"],
    );
    assert_eq!(
        names(&Config::tenants("tenant: !!str 2001\n").policy()),
        ["2001"]
    );
}

#[test]
fn anchors_aliases_and_merge_keys() {
    let config = Config::new(
        "plans:\n  base: &base\n    direct_smtp: allow\n    limits: &limits\n      - {unit: \
         connections, max: 5, window: 1h}\n  more:\n    <<: *base\n    submission: block\n  less:\n    \
         <<: [{direct_smtp: block}, *base]\n    limits: *limits\n",
    )
    .write(
        "tenants.d/t.yaml",
        "{tenant: a, plan: base}\n---\n{tenant: b, plan: more}\n---\n{tenant: c, plan: less}\n",
    );
    let policy = config.policy();
    let rules: Vec<_> = policy.tenants.iter().map(|t| &t.rules).collect();
    assert_eq!(rules[0].limits, rules[1].limits);
    assert_eq!(rules[0].limits, rules[2].limits);
    assert_eq!(rules[0].limits[0].max, 5);
    let words = |at: usize| {
        (
            rules[at].direct_smtp.as_str(),
            rules[at].submission.as_str(),
        )
    };
    assert_eq!(words(0), ("allow", "allow"));
    assert_eq!(words(1), ("allow", "block"));
    assert_eq!(
        words(2),
        ("block", "allow"),
        "the earlier of the merged maps wins"
    );
}

#[test]
fn bad_aliases() {
    let faults = Config::tenants("tenant: a\ncontact: *nobody\n").faults();
    assert!(
        faults[0].starts_with("tenants.d/t.yaml:2:10: error: not YAML: "),
        "{faults:?}"
    );
    all(
        &Config::tenants("tenant: a\ncontact: &a [*a]\n"),
        &[
            "tenants.d/t.yaml:2:14: error: contact[0]: the alias names an anchor that it is itself a \
           part of;…",
        ],
    );
    all(
        &Config::tenants("tenant: a\n<<: [1]\n"),
        &["tenants.d/t.yaml:2:5: error: <<: only maps can be merged;…"],
    );
}

#[test]
fn what_is_aliased_is_reported_where_it_is_written() {
    all(
        &Config::new(
            "plans:\n  a: {limits: &l [{unit: x, max: 1, window: 1h}]}\n  b: {limits: *l}\n",
        ),
        &[
            "limiter.yaml:2:26: error: plans.a.limits[0].unit: x is not known;…",
            "limiter.yaml:2:26: error: plans.b.limits[0].unit: x is not known;…",
        ],
    );
}

#[test]
fn nothing_at_all_is_legal() {
    for text in [
        "",
        "\n",
        "# nothing\n",
        "---\n",
        "---\n...\n",
        "\u{feff}",
        "{}",
        "null\n",
    ] {
        let config = Config::new(text).write("tenants.d/t.yaml", text.replace("{}", ""));
        assert_eq!(config.faults(), Vec::<String>::new(), "{text:?}");
        assert!(config.policy().tenants.is_empty());
    }
    assert_eq!(
        names(&Config::tenants("---\n---\ntenant: a\n---\n# no\n---\ntenant: b\n...\n").policy()),
        ["a", "b"]
    );
}

#[test]
fn windows_line_ends_are_lines() {
    only(
        &Config::tenants("tenant: a\r\nmode: observe\r\nplam: x\r\n"),
        &Config::tenants("tenant: a\nmode: observe\nplam: x\n").faults()[0],
    );
}

#[test]
fn a_file_read_in_parts_is_one_file() {
    // Three megabytes: places count from the start of the file, whatever part they are in.
    let mut text = String::new();
    for n in 0..30_000 {
        text += &format!("---\ntenant: t{n}\n# {}\n...\n", "-".repeat(80));
    }
    text += "---\ntenant: t7\nmode: on\n";
    let config = Config::tenants(&text);
    all(
        &config,
        &[
            "tenants.d/t.yaml:120002:9: error: tenant: t7 is there twice; keep one; the other is at \
             tenants.d/t.yaml:30:9",
            "tenants.d/t.yaml:120003:7: error: mode: on is not known; observe | enforce",
        ],
    );
}

#[test]
fn parts_end_where_documents_do() {
    let text = "a: |\n  ---\n---x\n---\nb\n--- c\nd\n";
    assert_eq!(
        split(text, 1),
        [
            (0, "a: |\n  ---\n---x\n"),
            (3, "---\nb\n"),
            (5, "--- c\nd\n")
        ]
    );
    assert_eq!(split("a\n%TAG\n---\nb\n", 1).len(), 1);
    assert_eq!(split("", 1), [(0, "")]);
}
