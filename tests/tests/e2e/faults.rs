//! Bad configuration through the product's own `check`: every fault where it stands.

use std::{
    fs,
    io::{Seek, SeekFrom, Write},
};

use limiter_tests::{Agent, Config, Node};

/// What `check` says of these files: its exit code and everything it prints.
fn check(agent: &Agent, main: &str, tenants: &str) -> (i32, String) {
    agent.write_main(main);
    agent.write_tenants("tenants.yaml", tenants);
    let out = agent.cli(&["check"]);
    (out.code, format!("{}{}", out.stdout, out.stderr))
}

#[test]
fn every_kind_of_fault_names_its_place_and_value() {
    let node = Node::new();
    let agent = Agent::configured(&node, &Config::new("", ""));
    let deep: String = (0..6)
        .map(|n| {
            let parent = if n == 0 {
                String::new()
            } else {
                format!("parent: t{}\n", n - 1)
            };
            format!("tenant: t{n}\n{parent}---\n")
        })
        .collect();
    for (what, tenants, wanted) in [
        ("unknown key", "tenant: a\ncolour: red\n", ":2:1"),
        ("wrong type", "tenant: a\nlimits: many\n", ":2:9"),
        (
            "zero window",
            "tenant: a\nlimits: [{unit: connections, max: 1, window: 0s}]\n",
            "0s",
        ),
        (
            "negative",
            "tenant: a\nlimits: [{unit: connections, max: -1, window: 1h}]\n",
            "-1",
        ),
        (
            "overflow",
            "tenant: a\nlimits: [{unit: connections, max: 4294967296, window: 1h}]\n",
            "4294967296",
        ),
        (
            "bad duration",
            "tenant: a\nlimits: [{unit: connections, max: 1, window: soon}]\n",
            "soon",
        ),
        (
            "bad prefix",
            "tenant: a\nexempt: [{to: 203.0.113.0/33}]\n",
            "203.0.113.0/33",
        ),
        (
            "port 0",
            "tenant: a\nexempt: [{to: 203.0.113.1, ports: [0]}]\n",
            ":2:",
        ),
        (
            "claimed twice",
            "tenant: a\nmatch: {uids: [5000]}\n---\ntenant: b\nmatch: {uids: [5000]}\n",
            "5000",
        ),
        ("duplicate", "tenant: a\n---\ntenant: a\n", ":3:"),
        ("no parent", "tenant: a\nparent: nobody\n", "nobody"),
        (
            "cycle",
            "tenant: a\nparent: b\n---\ntenant: b\nparent: a\n",
            "a → b → a",
        ),
        ("too deep", &deep, "t4"),
        ("no YAML", "tenant: [a\n", "tenants.yaml:"),
        ("binary", "\u{0}\u{1}\u{2}\u{3}", "tenants.yaml"),
    ] {
        let (code, said) = check(&agent, "", tenants);
        assert_eq!(code, 2, "{what}: {said}");
        assert!(said.contains("tenants.yaml"), "{what}: {said}");
        assert!(
            said.contains(wanted),
            "{what}: {wanted:?} is missing in: {said}"
        );
    }
}

#[test]
fn what_is_unusual_and_legal() {
    let node = Node::new();
    let agent = Agent::configured(&node, &Config::new("", ""));
    for (what, tenants) in [
        ("empty file", ""),
        ("only a comment", "# nobody yet\n"),
        ("several documents", "tenant: a\n---\ntenant: b\n---\n"),
        (
            "narrower in wider",
            "tenant: a\nmatch: {uids: [5000-5999]}\n---\ntenant: b\nmatch: {uids: [5001]}\n",
        ),
        (
            "no match",
            "tenant: a\nlimits: [{unit: connections, max: 1, window: 1h}]\n",
        ),
        (
            "anchors",
            "tenant: a\nlimits: &l\n  - {unit: connections, max: 1, window: 1h}\npace: []\nmatch: &m {uids: [5000]}\n",
        ),
        (
            "limit of nothing",
            "tenant: a\nlimits: [{unit: connections, max: 0, window: 31d}]\n",
        ),
    ] {
        let (code, said) = check(&agent, "", tenants);
        assert_eq!(code, 0, "{what}: {said}");
    }
    // Not there yet: a warning, by name and place.
    let (code, said) = check(
        &agent,
        "",
        "tenant: a\nmatch: {users: [nosuchuser], cgroups: [/no/such/cgroup]}\n",
    );
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("nosuchuser") && said.contains("/no/such/cgroup"),
        "{said}"
    );
}

#[test]
fn files_that_no_one_should_read() {
    let node = Node::new();
    let agent = Agent::configured(&node, &Config::new("", "tenant: a\n"));
    let file = agent.tenant_file("zz-huge.yaml");
    // 100 MB, most of it not even on the disk.
    let mut huge = fs::File::create(&file).expect("the directory is ours");
    huge.seek(SeekFrom::Start(100 << 20))
        .expect("files can be long");
    huge.write_all(b"x").expect("the directory is ours");
    drop(huge);
    let out = agent.cli(&["check"]);
    let said = format!("{}{}", out.stdout, out.stderr);
    assert_eq!(out.code, 2, "{said}");
    assert!(said.contains("zz-huge.yaml"), "{said}");
    fs::remove_file(&file).expect("it is there");
    // A directory where a file should be cannot be read, even by root.
    fs::create_dir(&file).expect("the directory is ours");
    let out = agent.cli(&["check"]);
    let said = format!("{}{}", out.stdout, out.stderr);
    assert_eq!(out.code, 2, "{said}");
    assert!(said.contains("zz-huge.yaml"), "{said}");
    fs::remove_dir(&file).expect("it is there");
    fs::remove_file(agent.main_file()).expect("it is there");
    assert_eq!(agent.cli(&["check"]).code, 2);
}
