//! Who is bound by which policy.

use super::*;
use crate::{
    offence::Subject,
    policy::{book::book, compile::compile},
    system::System,
};

fn subject(parent: Option<&str>, plan: Option<&str>, observe: bool, policies: &[&str]) -> Subject {
    Subject {
        parent: parent.map(str::to_owned),
        plan: plan.map(str::to_owned),
        observe,
        policies: policies.iter().map(|name| (*name).to_owned()).collect(),
    }
}

#[test]
fn tenants_domains_and_accounts_are_in_it() {
    let config = Config::new(
        "mode: enforce\nplans: {starter: {}}\naccounts: {uids: 1000-1999, plan: starter}\n\
         policies: [n.yaml]\n",
    )
    .write("n.yaml", "policy: n\n")
    .write("r.yaml", "policy: r\n")
    .write("a.yaml", "policy: a\n")
    .write(
        "tenants.d/t.yaml",
        "tenant: alice\nparent: reseller\nplan: starter\nmode: observe\npolicies: [../a.yaml]\n\
         match: {uids: [1001]}\ndomains: [{name: example.org}]\n---\n\
         tenant: reseller\npolicies: [../r.yaml]\n",
    );
    let policy = config.policy();
    let mut system = System::default();
    for (name, uid) in [("alice-the-user", 1001), ("bob", 1002), ("beyond", 2000)] {
        system.users.insert(name, uid);
    }
    let image = compile(&policy, &system).image.unwrap();
    let book = book(&policy, &image);
    assert!(
        book.tenants
            .keys()
            .eq(["alice", "alice/example.org", "bob", "reseller"])
    );
    let starter = Some("starter");
    for (name, expected) in [
        ("reseller", subject(None, None, false, &["r"])),
        ("alice", subject(Some("reseller"), starter, true, &["a"])),
        (
            "alice/example.org",
            subject(Some("alice"), starter, true, &[]),
        ),
        ("bob", subject(None, starter, false, &[])),
    ] {
        assert_eq!(book.tenants[name], expected, "{name}");
    }
    assert_eq!(book.ladders, policy.ladders);
    assert_eq!(book.missing(), [""; 0].into());
    for (name, expected) in [
        ("alice/example.org", &["a", "n", "r"][..]),
        ("alice", &["a", "n", "r"]),
        ("reseller", &["n", "r"]),
        ("bob", &["n"]),
    ] {
        let names = |ladders: Vec<&crate::offence::Ladder>| -> Vec<String> {
            ladders.iter().map(|ladder| ladder.name.clone()).collect()
        };
        assert_eq!(names(book.binding(name)), expected, "{name}");
        assert_eq!(names(policy.binding(name)), expected, "{name}");
    }
    for nobody in ["(default)", "(node)"] {
        assert!(policy.binding(nobody).is_empty());
        assert!(book.binding(nobody).is_empty());
    }
    // The record of a customer who left goes on.
    assert_eq!(book.binding("gone").len(), 1);
}
