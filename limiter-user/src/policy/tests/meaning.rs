//! What correct configurations mean.

use std::time::Duration;

use limiter_common::verdict::Permission;

use super::*;
use crate::policy::model::{Mode, Rules};

#[test]
fn an_empty_file_is_all_defaults() {
    let config = Config::new("");
    let policy = config.policy();
    assert_eq!(policy.node.mode, Mode::Observe);
    assert_eq!(policy.default, Rules::default());
    assert_eq!(
        policy.node.name,
        read(Path::new("/proc/sys/kernel/hostname")).trim()
    );
    assert_eq!(policy.node.ports.smtp, [25]);
    assert_eq!(policy.node.ports.submission, [465, 587]);
    assert_eq!(policy.node.mta.users, None);
    assert_eq!(policy.node.mta.listen.len(), 2);
    assert_eq!(
        policy.node.retention.events,
        Duration::from_secs(30 * 86_400)
    );
    assert_eq!(policy.accounts, None);
    assert!(policy.tenants.is_empty());
    assert_eq!(policy.places.cgroup, Path::new("/"));
    assert_eq!(policy.places.pin_dir, Path::new("/sys/fs/bpf/limiter"));
    assert_eq!(policy.places.state_dir, Path::new("/var/lib/limiter"));
    assert_eq!(
        policy.places.control,
        Path::new("/run/limiter/control.sock")
    );
    assert_eq!(policy.places.uplinks, None);
}

#[test]
fn relative_paths_start_at_the_file() {
    let config = Config::new("state_dir: ./state\ncontrol: run/c.sock\npin_dir: /p\n");
    let policy = config.policy();
    assert_eq!(policy.places.state_dir, config.path("state"));
    assert_eq!(policy.places.control, config.path("run/c.sock"));
    assert_eq!(policy.places.pin_dir, Path::new("/p"));
}

#[test]
fn own_keys_replace_the_plans() {
    let config = Config::new(
        "plans:\n  p:\n    direct_smtp: allow\n    submission: block\n    exempt: [{to: 192.0.2.1}]\n    \
         limits: [{unit: connections, max: 5, window: 1h}]\n    pace: [{unit: connections, every: 1s}]\n\
         default: {plan: p, direct_smtp: redirect}\naccounts: {uids: [1000-2000, 3000], plan: p}\n",
    )
    .write(
        "tenants.d/t.yaml",
        "{tenant: same, plan: p}\n---\n{tenant: off, plan: p, limits: [], pace: null, exempt: null}\n\
         ---\n{tenant: own, plan: p, direct_smtp: block, limits: [{unit: connections, max: 0, \
         window: 1d, ports: [submission, smtp]}]}\n---\n{tenant: none}\n---\n{tenant: nul, plan: null}\n",
    );
    let policy = config.policy();
    let rules = |name: &str| policy.by_name()[name].rules.clone();
    let plan = rules("same");
    assert_eq!(
        (plan.direct_smtp, plan.submission),
        (Permission::Allow, Permission::Block)
    );
    assert_eq!(
        (plan.limits.len(), plan.pace.len(), plan.exempt.len()),
        (1, 1, 1)
    );
    assert_eq!(plan.pace[0].burst, 1);
    assert!(plan.exempt[0].ports.is_empty(), "every port");
    assert_eq!(
        rules("off"),
        Rules {
            limits: Vec::new(),
            pace: Vec::new(),
            exempt: Vec::new(),
            ..plan.clone()
        }
    );
    let own = rules("own");
    assert_eq!(own.direct_smtp, Permission::Block);
    assert_eq!((own.limits[0].max, own.limits[0].groups), (0, 0b110));
    assert_eq!(own.pace, plan.pace);
    assert_eq!(rules("none"), Rules::default());
    assert_eq!(rules("nul"), Rules::default());
    assert_eq!(
        policy.default,
        Rules {
            direct_smtp: Permission::Redirect,
            ..plan.clone()
        }
    );
    let accounts = policy.accounts.unwrap();
    assert_eq!((accounts.uids.len(), accounts.rules), (2, plan));
}

#[test]
fn a_port_that_moves_leaves_its_default_group() {
    let policy = Config::new("ports: {smtp: [25, 587]}\n").policy();
    assert_eq!(policy.node.ports.smtp, [25, 587]);
    assert_eq!(policy.node.ports.submission, [465]);
}

#[test]
fn parents_stand_before_children_and_domains_behind_their_tenant() {
    let config = Config::tenants(
        "{tenant: c, parent: b, domains: [{name: C.example}]}\n---\n{tenant: x}\n---\n\
         {tenant: b, parent: a, domains: [{name: b1.example}, {name: b2.example}]}\n---\n\
         {tenant: d, parent: a}\n---\n{tenant: a}\n",
    );
    assert_eq!(
        names(&config.policy()),
        [
            "x",
            "a",
            "b",
            "b/b1.example",
            "b/b2.example",
            "c",
            "c/c.example",
            "d"
        ]
    );
}

#[test]
fn odd_places_are_legal() {
    let dir = tempfile::tempdir().unwrap();
    let odd = dir.path().join("a [b]*");
    fs::create_dir_all(odd.join("tenants.d")).unwrap();
    fs::write(odd.join("l.yaml"), "").unwrap();
    fs::write(odd.join("tenants.d/t.yaml"), "tenant: ünïcode name\n").unwrap();
    for name in ["l.yaml", "tenants.d/t.yaml"] {
        fs::set_permissions(odd.join(name), fs::Permissions::from_mode(0o644)).unwrap();
    }
    let loaded = load(&odd.join("l.yaml"));
    assert_eq!(names(&loaded.policy.unwrap()), ["ünïcode name"]);
}
