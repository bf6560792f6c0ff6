//! The key `policies`: which files bind whom, and what is wrong with them.

use std::path::PathBuf;

use super::*;
use crate::policy::last_good;

/// The text of a policy that comes with the product.
fn shipped(name: &str) -> String {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../policies");
    read(&directory.join(format!("{name}.yaml")))
}

const SHIPPED: [&str; 5] = ["crux", "hostup", "ix-cm", "mvmcloud", "strict"];

fn with_shipped(main: &str) -> Config {
    SHIPPED.iter().fold(Config::new(main), |config, name| {
        config.write(&format!("{name}.yaml"), shipped(name))
    })
}

#[test]
fn all_that_are_shipped_load_at_once() {
    let main = "policies: [crux.yaml, hostup.yaml, ix-cm.yaml, mvmcloud.yaml, ./strict.yaml, crux.yaml]\n\
         plans: {dedicated: {}}\nbounces: {journal: true}\n";
    let config = with_shipped(main);
    let loaded = config.load();
    let policy = loaded.policy.as_ref().unwrap();
    assert!(policy.node.policies.iter().eq(SHIPPED), "{policy:?}");
    assert!(policy.ladders.keys().eq(SHIPPED));
    assert_eq!(
        loaded.files.len(),
        6,
        "each is read once: {:?}",
        loaded.files
    );
    let json = serde_json::to_string(&policy).unwrap();
    assert_eq!(
        &serde_json::from_str::<Policy>(&json).unwrap(),
        policy,
        "as it is kept"
    );
    all(&config, &[]);
}

#[test]
fn tenants_name_them_beside_their_own_file() {
    let config =
        with_shipped("policies: [crux.yaml]\nplans: {dedicated: {}}\nbounces: {journal: true}\n")
            .write(
                "tenants.d/t.yaml",
                "tenant: r\npolicies: [../hostup.yaml]\n---\n\
         tenant: alice\nparent: r\npolicies: [../ix-cm.yaml, ../tenants.d/../crux.yaml]\n\
         domains: [{name: example.org}]\n---\ntenant: bob\n",
            );
    assert_eq!(config.faults(), [""; 0]);
    let policy = config.policy();
    assert!(policy.node.policies.iter().eq(["crux"]));
    assert!(policy.ladders.keys().eq(["crux", "hostup", "ix-cm"]));
    let of = |name: &str| -> Vec<&str> {
        let tenants = policy.by_name();
        tenants[name].policies.iter().map(String::as_str).collect()
    };
    assert_eq!(of("r"), ["hostup"]);
    assert_eq!(of("alice"), ["crux", "ix-cm"]);
    assert_eq!(of("alice/example.org"), [""; 0], "its tenant's bind it");
    assert_eq!(of("bob"), [""; 0]);
}

#[test]
fn what_is_wrong_with_them_is_found_with_all_the_rest() {
    all(
        &Config::new("mode: obsrve\npolicies: [a.yaml, none.yaml, '', b.yaml]\n")
            .write("a.yaml", "policy: p\nsteps: 1\n")
            .write("b.yaml", "policy: q\n")
            .write("c.yaml", "policy: q\n")
            .write(
                "tenants.d/t.yaml",
                "tenant: a\npolicies: [../c.yaml, ../none.yaml]\n---\n\
                 tenant: b\npolicies: [/nonexistent/p.yaml]\n---\n\
                 tenant: c\npolicies: [/nonexistent/p.yaml]\nparent: d\n",
            ),
        &[
            "a.yaml:2:8: error: steps: 1 is not a list;…",
            "limiter.yaml:1:7: error: mode: obsrve is not known;…",
            "limiter.yaml:2:20: error: policies: none.yaml does not exist; the path of a policy \
             file, relative to the file that names it",
            "limiter.yaml:2:31: error: policies[2]: \"\" is not a name;…",
            "tenants.d/t.yaml:2:12: error: policies: tenants.d/../c.yaml is the policy q, and so \
             is b.yaml; give one of them another name, or name one file only",
            "tenants.d/t.yaml:2:23: error: policies: tenants.d/../none.yaml does not exist;…",
            "tenants.d/t.yaml:5:12: error: policies: /nonexistent/p.yaml does not exist (named in \
             one more place);…",
            "tenants.d/t.yaml:9:9: error: parent: d does not exist; the name of a tenant;…",
        ],
    );
}

#[test]
fn a_way_that_others_can_change_is_refused() {
    let config = Config::new("policies: [p.yaml]\n")
        .write("p.yaml", "policy: p\n")
        .write(
            "tenants.d/t.yaml",
            "tenant: a\npolicies: [../open/p.yaml]\n",
        );
    let open = config.path("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    std::os::unix::fs::symlink("../p.yaml", open.join("p.yaml")).unwrap();
    all(
        &config,
        &[
            "tenants.d/../open/p.yaml: error: its directory tenants.d/../open can be written by \
             others (mode 0777); chmod o-w tenants.d/../open",
        ],
    );
}

#[test]
fn a_broken_one_leaves_the_last_good_policy() {
    let config = Config::new("policies: [p.yaml]\nstate_dir: state\n")
        .write("p.yaml", "policy: p\nforget_after: 7d\n");
    let good = config.policy();
    last_good::keep(&good).unwrap();
    let config = config.write("p.yaml", "policy: p\nforget_after: soon\n");
    only(
        &config,
        "p.yaml:2:15: error: forget_after: soon is not a duration; a duration from 1d to 36500d, \
         written like 90s, 15m, 1h or 30d",
    );
    let kept = last_good::load(&good.places.state_dir).unwrap().unwrap();
    assert_eq!(kept, good);
    assert!(kept.ladders["p"].forget_after.is_some());
}

#[test]
fn steps_are_for_plans_that_there_are() {
    let steps = "policy: p\noffences:\n  - {severity: minor, when: {operator: minor}}\nsteps:\n\
                 \x20 - {severity: minor, sanction: warn}\n\
                 \x20 - severity: minor\n    plans: [basic, dedicatd, colocation]\n    sanction: \
                 block_smtp\n    for: 1h\n";
    let config = Config::new("policies: [p.yaml]\nplans: {basic: {}, dedicated: {}}\n")
        .write("p.yaml", steps);
    all(
        &config,
        &[
            "p.yaml:7:20: error: steps: plans: this node has no plan dedicatd; did you mean \
             dedicated? Else define it under `plans` of the main file",
            "p.yaml:7:30: warning: steps: plans: this node has no plan colocation; the step is \
             for nobody here; if it should be for somebody, define the plan under `plans` of the \
             main file and name it in the tenants",
        ],
    );
    // What is read alone says nothing of any node.
    let alone = crate::policy::load_ladder(&config.path("p.yaml"));
    assert!(alone.ladder.is_some(), "{:?}", alone.faults);
}

#[test]
fn whoever_speaks_of_bounces_is_told_where_none_are_read() {
    let config = with_shipped("policies: [crux.yaml, strict.yaml]\nplans: {dedicated: {}}\n");
    let faults = config.faults();
    assert_eq!(faults.len(), 1, "{faults:?}");
    let fault =
        "limiter.yaml:1:23: warning: policies: strict speaks of bounces, and nothing says where";
    assert!(faults[0].starts_with(fault), "{faults:?}");
}
