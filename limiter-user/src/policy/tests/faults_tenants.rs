//! What can be wrong in and between tenants.

use super::*;

#[track_caller]
fn table(cases: &[(&str, &str)]) {
    for (tenants, expected) in cases {
        let faults = Config::tenants(tenants).faults();
        assert_eq!(
            faults,
            [format!("tenants.d/t.yaml:{expected}")],
            "{tenants}"
        );
    }
}

#[test]
fn limits_of_domains_alone_are_warned_of() {
    let limits = "limits: [{unit: recipients, max: 10, window: 1h}]";
    let of = |domains: &str, own: &str| {
        Config::tenants(&format!("tenant: a\ndomains: [{domains}]\n{own}")).faults()
    };
    let one = format!("{{name: x.example, {limits}}}");
    let two = format!("{one}, {{name: y.example}}");
    assert_eq!(of(&one, ""), Vec::<String>::new());
    assert_eq!(of(&two, limits), Vec::<String>::new());
    assert_eq!(
        of("{name: x.example}, {name: y.example}", ""),
        Vec::<String>::new()
    );
    let connections = "limits: [{unit: connections, max: 10, window: 1h}]";
    for own in ["", connections] {
        let faults = of(&two, own);
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(
            faults[0].ends_with(
                "warning: a has domains with limits and none of its own, so mail from senders in none of \
                 them is not limited; give a limits of messages or recipients too"
            ),
            "{faults:?}"
        );
    }
}

#[test]
fn names_of_tenants() {
    let rule = "a name of 1 to 127 bytes, without `/`, control characters, or blanks at either end";
    for (name, what) in [
        ("(node)", "(node) is reserved; any other name"),
        ("(default)", "(default) is reserved; any other name"),
        ("a/b", &format!("a/b is not a name; {rule}")),
        ("\"a\\tb\"", &format!("\"a\\tb\" is not a name; {rule}")),
        ("\" a\"", &format!("\" a\" is not a name; {rule}")),
        ("\"\"", &format!("\"\" is empty; {rule}")),
        ("null", "null is no value; the name of the account"),
    ] {
        let faults = Config::tenants(&format!("tenant: {name}\n")).faults();
        assert_eq!(
            faults,
            [format!("tenants.d/t.yaml:1:9: error: tenant: {what}")]
        );
    }
    let long = "x".repeat(128);
    let faults = Config::tenants(&format!("tenant: {long}\n")).faults();
    assert!(
        faults[0].contains("is 128 bytes long; a name of 1 to 127 bytes"),
        "{faults:?}"
    );
    only(
        &Config::tenants("mode: enforce\n"),
        "tenants.d/t.yaml:1:1: error: tenant: is missing; add `tenant`, the name of the account",
    );
}

#[test]
fn every_fault_of_every_document_is_found_at_once() {
    let config = Config::new("plans: {starter: {limit: []}}\n")
        .write(
            "tenants.d/a.yaml",
            "tenant: a\nplam: x\n---\ntenant: b\nmode: on\n",
        )
        .write(
            "tenants.d/b.yaml",
            "tenant: c\nmatch: {user: [c], uids: [x]}\nparent: nobody\n",
        );
    all(
        &config,
        &[
            "limiter.yaml:1:19: error: plans.starter.limit: unknown key; did you mean `limits`?…",
            "tenants.d/a.yaml:2:1: error: plam: unknown key; did you mean `plan`?…",
            "tenants.d/a.yaml:5:7: error: mode: on is not known; observe | enforce",
            "tenants.d/b.yaml:2:9: error: match.user: unknown key; did you mean `users`?…",
            "tenants.d/b.yaml:2:27: error: match.uids[0]: x is neither a uid nor a range of uids;…",
            "tenants.d/b.yaml:3:9: error: parent: nobody does not exist; the name of a tenant;…",
        ],
    );
}

#[test]
fn matches_are_checked() {
    table(&[
        (
            "tenant: a\nmatch: {users: [root]}\n",
            "2:17: error: match.users[0]: root is the node itself, not a tenant; any other user; \
             root's connections are nobody's",
        ),
        (
            "tenant: a\nmatch: {users: [1001]}\n",
            "2:17: error: match.users[0]: 1001 is a number; a user name; numbers belong under \
             `uids`",
        ),
        (
            "tenant: a\nmatch: {uids: [0]}\n",
            "2:16: error: match.uids[0]: 0 holds uid 0: root is the node itself, not a tenant; a \
             uid from 1 to 4294967294, or a range such as 2100-2199",
        ),
        (
            "tenant: a\nmatch: {uids: [4294967295]}\n",
            "2:16: error: match.uids[0]: 4294967295 is too large for a uid; a uid from 1 to \
             4294967294, or a range such as 2100-2199",
        ),
        (
            "tenant: a\nmatch: {cgroups: [/]}\n",
            "2:19: error: match.cgroups[0]: / would claim the whole node; a path below the cgroup \
             v2 mount, such as /user.slice/user-2001.slice; `*`, `?` and `[…]` stand for a part \
             of one level, and everything below a match is matched too",
        ),
        (
            "tenant: a\nmatch: {cgroups: [/a/../..]}\n",
            "2:19: error: match.cgroups[0]: /a/../.. holds `.` or `..`; a path below the cgroup \
             v2 mount, such as /user.slice/user-2001.slice; `*`, `?` and `[…]` stand for a part \
             of one level, and everything below a match is matched too",
        ),
    ]);
    let deep = format!("tenant: a\nmatch: {{cgroups: [{}]}}\n", "/x".repeat(64));
    let faults = Config::tenants(&deep).faults();
    assert!(
        faults[0].ends_with("is too deep; a path of at most 63 levels"),
        "{faults:?}"
    );
    let network = "tenant: a\nmatch: {addresses: [10.0.0.1/8], interfaces: [waytoolongname0]}\n";
    all(
        &Config::tenants(&network.replace("name0", "name0x")),
        &[
            "tenants.d/t.yaml:2:21: error: match.addresses[0]: 10.0.0.1/8 has bits set beyond its \
             length of 8; 10.0.0.0/8, or 10.0.0.1 for the one address",
            "tenants.d/t.yaml:2:47: error: match.interfaces[0]: waytoolongname0x is not the name…",
        ],
    );
}

#[test]
fn contacts_and_domains() {
    table(&[
        (
            "tenant: a\ncontact: [owner]\n",
            "2:11: error: contact[0]: owner is not a mail address; an address such as \
             owner@example.org",
        ),
        (
            "tenant: a\ndomains: [a.example]\n",
            "2:11: error: domains[0]: a.example is not a map; a map with the keys name, limits, pace",
        ),
        (
            "tenant: a\ndomains: [{name: a b}]\n",
            "2:18: error: domains[0].name: \"a b\" is not a domain; a domain such as example.org; \
             other alphabets in their xn-- form",
        ),
        (
            "tenant: a\ndomains: [{limits: []}]\n",
            "2:11: error: domains[0].name: is missing; add `name`, the domain",
        ),
    ]);
    let config = Config::tenants("tenant: a\ndomains: [{name: x.example}]\n").write(
        "tenants.d/u.yaml",
        "tenant: b\ndomains: [{name: X.Example.}]\n",
    );
    let first = config.path("tenants.d/t.yaml");
    let faults = config.load().faults;
    assert_eq!(faults.len(), 1);
    assert_eq!(faults[0].problem, "domains: x.example is there twice");
    assert_eq!(
        faults[0].allowed,
        format!("keep one; the other is at {}:2:18", first.display())
    );
}

#[test]
fn a_tenant_stands_once() {
    let config = Config::tenants("tenant: a\n---\ntenant: b\n")
        .write("tenants.d/u.yaml", "mode: enforce\ntenant: a\n");
    only(
        &config,
        "tenants.d/u.yaml:2:9: error: tenant: a is there twice; keep one; the other is at \
         tenants.d/t.yaml:1:9",
    );
}

#[test]
fn parents() {
    all(
        &Config::tenants("tenant: alice\n---\ntenant: bob\nparent: alcie\n"),
        &["tenants.d/t.yaml:4:9: error: parent: alcie does not exist; did you mean alice?"],
    );
    only(
        &Config::tenants("tenant: a\nparent: a\n"),
        "tenants.d/t.yaml:2:9: error: parent: the parents run in a circle: a → a; a tree: take \
         `parent` out of one of them",
    );
    let circle = "tenant: d\nparent: c\n---\ntenant: a\nparent: b\n---\ntenant: b\nparent: c\n---\n\
                  tenant: c\nparent: a\n---\ntenant: e\n";
    only(
        &Config::tenants(circle),
        "tenants.d/t.yaml:5:9: error: parent: the parents run in a circle: a → b → c → a; a tree: \
         take `parent` out of one of them",
    );
}

#[test]
fn trees_are_four_deep() {
    let chain = "tenant: a\n---\n{tenant: b, parent: a}\n---\n{tenant: c, parent: b}\n---\n\
                 {tenant: d, parent: c}\n";
    assert_eq!(
        names(&Config::tenants(chain).policy()),
        ["a", "b", "c", "d"]
    );
    only(
        &Config::tenants(&format!("{chain}---\n{{tenant: e, parent: d}}\n")),
        "tenants.d/t.yaml:9:21: error: parent: this is level 5 of the tree: e → d → c → b → a; at \
         most 4 levels, domains included",
    );
    only(
        &Config::tenants(&chain.replace("parent: c}", "parent: c, domains: [{name: x.example}]}")),
        "tenants.d/t.yaml:7:41: error: domains: x.example is level 5 of the tree, below d → c → b \
         → a; at most 4 levels, domains included",
    );
}

#[test]
fn an_identity_has_one_owner() {
    for (key, value, column) in [
        ("users", "alice", 30),
        ("uids", "2001", 29),
        ("uids", "2001-2100", 29),
        ("cgroups", "/user.slice/u", 32),
        ("cgroups", "/user.slice/u-*", 32),
    ] {
        let tenants = format!(
            "{{tenant: a, match: {{{key}: [{value}]}}}}\n---\n{{tenant: bb, match: {{{key}: \
             [{value}]}}}}\n"
        );
        let config = Config::tenants(&tenants);
        only(
            &config,
            &format!(
                "tenants.d/t.yaml:3:{column}: error: match.{key}: {value} is claimed by bb and by \
                 a; take it out of one; the other is at tenants.d/t.yaml:1:{}",
                column - 1
            ),
        );
    }
    for (key, one, other) in [
        ("interfaces", "\"tap1*\"", "tap1*"),
        ("addresses", "10.0.0.0/8", "\"::ffff:10.0.0.0/104\""),
        ("addresses", "2001:db8::1", "2001:DB8::1/128"),
    ] {
        let tenants = format!(
            "{{tenant: a, match: {{{key}: [{one}]}}}}\n---\n{{tenant: b, match: {{{key}: \
             [{other}]}}}}\n"
        );
        let faults = Config::tenants(&tenants).faults();
        let errors: Vec<_> = faults.iter().filter(|f| f.contains(": error: ")).collect();
        assert_eq!(errors.len(), 1, "{faults:?}");
        assert!(
            errors[0].contains("is claimed by b and by a; take it out of one"),
            "{errors:?}"
        );
    }
}

#[test]
fn overlaps_of_one_width_are_ambiguous() {
    only(
        &Config::tenants(
            "{tenant: a, match: {uids: [150-249]}}\n---\n{tenant: b, match: {uids: [100-199]}}\n",
        ),
        "tenants.d/t.yaml:3:28: error: match.uids: 100-199 and 150-249 are equally wide and \
         overlap; they are claimed by b and by a; take it out of one; the other is at \
         tenants.d/t.yaml:1:28",
    );
    for legal in [
        "{tenant: a, match: {uids: [100-199, 150]}}\n---\n{tenant: b, match: {uids: [151, 190-250]}}\n",
        "{tenant: a, match: {uids: [7, 7, 5-9, 6-10], users: [x, x]}}\n",
        "{tenant: a, match: {cgroups: [/m]}}\n---\n{tenant: b, match: {cgroups: [/m/n]}}\n",
        "{tenant: a, match: {uids: [100-199]}}\n---\n{tenant: b, match: {uids: [200-299]}}\n",
    ] {
        assert_eq!(
            Config::tenants(legal).faults(),
            Vec::<String>::new(),
            "{legal}"
        );
    }
}

#[test]
fn the_mtas_user_is_no_tenant() {
    let config = Config::new("mta: {users: [postfix]}\n")
        .write("tenants.d/t.yaml", "tenant: a\nmatch: {users: [postfix]}\n");
    only(
        &config,
        "tenants.d/t.yaml:2:17: error: match.users: postfix is the node's MTA; take it out here or \
         from mta.users at limiter.yaml:1:15",
    );
}

#[test]
fn ten_thousand_faults_are_enough() {
    let config = Config::tenants(&"---\n{tenant: a, x: 1}\n".repeat(15_000));
    let loaded = config.load();
    assert!(loaded.policy.is_none());
    assert_eq!(loaded.faults.len(), 10_001);
    assert_eq!(
        loaded.faults[10_000].problem,
        "19999 more faults are not listed"
    );
}
