//! One test for every rule.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use limiter_common::{
    abi::{MAX_CGROUP_DEPTH, MAX_TENANT_NAME},
    limit::{Kind, Unit},
    verdict::Permission,
};

use super::{
    testing::{located, located_at, policy, tenant},
    *,
};
use crate::{
    policy::{
        fault::Severity,
        image::{DEFAULT_NAME, Holder, ImageLimit, ImageTenant, NODE_NAME},
        model::{Accounts, Exempt, Limit, Pace, Rules, Tenant, UidRange},
    },
    system::{Cgroup, Warning},
};

const fn range(first: u32, last: u32) -> UidRange {
    UidRange { first, last }
}

fn system(users: &[(&str, u32)], sub_uids: &[(&str, UidRange)]) -> System {
    let mut system = System::default();
    for (name, uid) in users {
        system.users.insert(name, *uid);
    }
    for (owner, range) in sub_uids {
        system.users.insert_sub_uids(owner, *range);
    }
    system
}

fn with_users(name: &str, users: &[&str]) -> Tenant {
    let mut tenant = tenant(name);
    tenant.matches.users = users
        .iter()
        .map(|user| located_at((*user).to_owned(), &format!("{name}.yaml"), 4))
        .collect();
    tenant
}

fn with_uids(name: &str, uids: &[UidRange]) -> Tenant {
    let mut tenant = tenant(name);
    tenant.matches.uids = uids
        .iter()
        .map(|uids| located_at(*uids, &format!("{name}.yaml"), 5))
        .collect();
    tenant
}

fn with_cgroups(name: &str, cgroups: &[&str]) -> Tenant {
    let mut tenant = tenant(name);
    tenant.matches.cgroups = cgroups
        .iter()
        .map(|cgroup| located_at((*cgroup).to_owned(), &format!("{name}.yaml"), 6))
        .collect();
    tenant
}

fn with_tenants(tenants: Vec<Tenant>) -> Policy {
    Policy {
        tenants,
        ..policy()
    }
}

fn accounts(uids: &[UidRange]) -> Option<Accounts> {
    let rules = Rules {
        direct_smtp: Permission::Redirect,
        ..Rules::default()
    };
    Some(Accounts {
        uids: uids.to_vec(),
        rules,
        plan: Some("starter".to_owned()),
    })
}

/// The image of a policy without any fault.
fn image(policy: &Policy, system: &System) -> Image {
    let Compiled { image, faults } = compile(policy, system);
    assert_eq!(faults, []);
    image.expect("no fault, so an image")
}

/// The one fault of a policy.
fn fault(policy: &Policy, system: &System) -> Fault {
    let Compiled { image, mut faults } = compile(policy, system);
    assert_eq!(faults.len(), 1, "{faults:#?}");
    let fault = faults.remove(0);
    assert_eq!(image.is_some(), fault.severity == Severity::Warning);
    fault
}

/// The bindings for people: `2001 alice (user alice)`.
fn bindings(image: &Image) -> Vec<String> {
    image
        .uids
        .iter()
        .map(|binding| {
            let holder = match binding.holder {
                Holder::Mta => "MTA",
                Holder::Tenant(index) => &image.tenants[index].name,
            };
            format!("{} {holder} ({})", uids::Uids(binding.range), binding.by)
        })
        .collect()
}

#[test]
fn the_node_and_the_default_come_first() {
    let mut policy = policy();
    let limit = Limit {
        unit: Unit::Connections,
        max: 9,
        window: Duration::from_secs(60),
        groups: 2,
    };
    policy.node.limits = vec![limit];
    policy.node.mode = Mode::Enforce;
    policy.default = Rules {
        direct_smtp: Permission::Block,
        submission: Permission::Block,
        ..Rules::default()
    };
    let image = image(&policy, &System::default());
    assert!(image.enforce);
    let [node, default] = image.tenants.as_slice() else {
        panic!("{image:?}")
    };
    assert_eq!((node.name.as_str(), node.parent), (NODE_NAME, None));
    assert_eq!(
        (node.direct_smtp, node.submission),
        (Permission::Allow, Permission::Allow)
    );
    assert_eq!(node.limits.len(), 1);
    assert_eq!(
        (default.name.as_str(), default.parent),
        (DEFAULT_NAME, Some(0))
    );
    assert_eq!(
        (default.direct_smtp, default.submission),
        (Permission::Block, Permission::Block)
    );
    assert!(node.enforce && default.enforce);
}

#[test]
fn tenants_keep_their_order_parents_and_modes() {
    let mut child = tenant("child");
    child.parent = Some("reseller".to_owned());
    child.mode = Some(Mode::Enforce);
    let mut domain = tenant("child/example.org");
    domain.parent = Some("child".to_owned());
    domain.is_domain = true;
    let policy = with_tenants(vec![tenant("reseller"), child, domain]);
    let image = image(&policy, &System::default());
    assert!(!image.enforce);
    let found: Vec<(&str, Option<usize>, bool)> = image
        .tenants
        .iter()
        .skip(2)
        .map(|tenant| (tenant.name.as_str(), tenant.parent, tenant.enforce))
        .collect();
    let expected = [
        ("reseller", Some(0), false),
        ("child", Some(2), true),
        ("child/example.org", Some(3), false),
    ];
    assert_eq!(found, expected);
    assert_eq!((image.uids, image.cgroups), (vec![], vec![]));
}

#[test]
fn a_parent_that_does_not_stand_before_is_an_error() {
    let mut child = tenant("child");
    child.parent = Some("late".to_owned());
    let fault = fault(
        &with_tenants(vec![child, tenant("late")]),
        &System::default(),
    );
    assert_eq!(fault.severity, Severity::Error);
    assert!(fault.problem.contains("late"), "{fault}");
}

#[test]
fn limits_are_windows_then_paces_in_nanoseconds() {
    let mut one = tenant("one");
    one.rules.limits = vec![
        Limit {
            unit: Unit::Recipients,
            max: 300,
            window: Duration::from_secs(3600),
            groups: 2,
        },
        Limit {
            unit: Unit::Connections,
            max: 0,
            window: Duration::MAX,
            groups: 6,
        },
    ];
    one.rules.pace = vec![Pace {
        unit: Unit::Recipients,
        every: Duration::from_millis(15_500),
        burst: 3,
        groups: 2,
    }];
    let image = image(&with_tenants(vec![one]), &System::default());
    let expected = [
        ImageLimit {
            unit: Unit::Recipients,
            kind: Kind::Window,
            max: 300,
            span_ns: 3_600_000_000_000,
            groups: 2,
        },
        ImageLimit {
            unit: Unit::Connections,
            kind: Kind::Window,
            max: 0,
            span_ns: u64::MAX,
            groups: 6,
        },
        ImageLimit {
            unit: Unit::Recipients,
            kind: Kind::Pace,
            max: 3,
            span_ns: 15_500_000_000,
            groups: 2,
        },
    ];
    assert_eq!(image.tenants[2].limits, expected);
}

#[test]
fn what_is_copied() {
    let mut policy = policy();
    let exempt = |to: &str| Exempt {
        to: to.parse().unwrap(),
        ports: vec![25],
    };
    policy.node.exempt = vec![exempt("192.0.2.0/24")];
    policy.node.mta.listen = ["[::1]:26", "127.0.0.1:25", "127.0.0.2:25", "[::2]:25"]
        .map(|text| text.parse().unwrap())
        .to_vec();
    policy.node.mta.addresses = ["203.0.113.1", "192.0.2.9"]
        .map(|text| text.parse().unwrap())
        .to_vec();
    policy.node.ports.smtp = vec![25, 2525];
    let mut one = tenant("one");
    one.rules.exempt = vec![exempt("198.51.100.25/32")];
    policy.tenants.push(one);
    let mut system = System::default();
    system.own_addresses = ["2001:db8::1", "192.0.2.9"]
        .map(|text| text.parse().unwrap())
        .to_vec();

    let image = image(&policy, &system);
    assert_eq!(image.exempt, policy.node.exempt);
    assert_eq!(image.tenants[2].exempt, policy.tenants[0].rules.exempt);
    assert_eq!(image.redirect4, Some("127.0.0.1:25".parse().unwrap()));
    assert_eq!(image.redirect6, Some("[::1]:26".parse().unwrap()));
    let own: Vec<String> = image
        .own_addresses
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(own, ["192.0.2.9", "203.0.113.1", "2001:db8::1"]);
    assert_eq!(image.ports.len(), 8);
    for (port, group) in [
        (2525, PortGroup::Smtp),
        (587, PortGroup::Submission),
        (993, PortGroup::Mailbox),
    ] {
        assert!(image.ports.contains(&(port, group)), "{port}");
    }
}

#[test]
fn users_bring_their_sub_uids_and_narrower_claims_win() {
    let system = system(
        &[("alice", 2001), ("bob", 2150)],
        &[
            ("alice", range(100_000, 165_535)),
            ("2150", range(200_000, 200_000)),
        ],
    );
    let policy = with_tenants(vec![
        with_uids("wide", &[range(2000, 2999), range(90_000, 199_999)]),
        with_users("alice", &["alice"]),
        with_uids("middle", &[range(2100, 2199), range(120_000, 120_000)]),
        with_users("bob", &["bob"]),
    ]);
    let expected = [
        "2000 wide (uids 2000-2999)",
        "2001 alice (user alice)",
        "2002-2099 wide (uids 2000-2999)",
        "2100-2149 middle (uids 2100-2199)",
        "2150 bob (user bob)",
        "2151-2199 middle (uids 2100-2199)",
        "2200-2999 wide (uids 2000-2999)",
        "90000-99999 wide (uids 90000-199999)",
        "100000-119999 alice (sub-uids of alice)",
        "120000 middle (uids 120000)",
        "120001-165535 alice (sub-uids of alice)",
        "165536-199999 wide (uids 90000-199999)",
        "200000 bob (sub-uids of bob)",
    ];
    assert_eq!(bindings(&image(&policy, &system)), expected);
}

#[test]
fn the_same_uid_twice_in_one_tenant_is_no_conflict() {
    let mut one = with_users("one", &["alice", "alias", "alice"]);
    one.matches.uids = vec![located(range(2001, 2001))];
    let system = system(
        &[("alice", 2001), ("alias", 2001)],
        &[("alice", range(9000, 9001))],
    );
    let image = image(&with_tenants(vec![one]), &system);
    assert_eq!(
        bindings(&image),
        ["2001 one (user alice)", "9000-9001 one (sub-uids of alice)"]
    );
}

#[test]
fn the_same_uid_by_two_tenants_is_an_error_that_names_both() {
    let facts = system(&[("alice", 2001), ("alias", 2001)], &[]);
    for other in [
        with_uids("other", &[range(2001, 2001)]),
        with_users("other", &["alias"]),
        with_users("other", &["alice"]),
    ] {
        let fault = fault(
            &with_tenants(vec![with_users("one", &["alice"]), other]),
            &facts,
        );
        assert_eq!(fault.severity, Severity::Error);
        assert_eq!(fault.origin.file, PathBuf::from("other.yaml"));
        for part in [
            "uid 2001 ",
            "tenant one (user alice, one.yaml:4:3)",
            "tenant other (",
            "other.yaml:",
        ] {
            assert!(fault.problem.contains(part), "{part} in {fault}");
        }
    }
}

#[test]
fn overlapping_ranges_of_the_same_width_are_an_error() {
    let facts = system(
        &[("alice", 1), ("bob", 2)],
        &[
            ("alice", range(100_000, 165_535)),
            ("bob", range(165_000, 230_535)),
        ],
    );
    let two_users = vec![with_users("one", &["alice"]), with_users("two", &["bob"])];
    let found = fault(&with_tenants(two_users), &facts);
    assert_eq!(found.severity, Severity::Error);
    assert!(found.problem.contains("uid 165000-165535 "), "{found}");
    assert!(
        found.problem.contains("sub-uids of alice") && found.problem.contains("sub-uids of bob")
    );

    let ranges = vec![
        with_uids("one", &[range(10, 19)]),
        with_uids("two", &[range(15, 24)]),
        with_uids("in", &[range(15, 19)]),
    ];
    assert_eq!(
        fault(&with_tenants(ranges), &System::default()).severity,
        Severity::Error
    );
    let next_to_each_other = vec![
        with_uids("one", &[range(10, 19)]),
        with_uids("two", &[range(20, 29)]),
    ];
    image(&with_tenants(next_to_each_other), &System::default());
}

#[test]
fn users_that_do_not_exist_are_bound_later() {
    let found = fault(
        &with_tenants(vec![with_users("one", &["nobody-yet"])]),
        &System::default(),
    );
    assert_eq!(found.severity, Severity::Warning);
    assert_eq!(
        found.to_string(),
        "one.yaml:4:3: warning: match.users: there is no user nobody-yet (tenant one); it is bound when it appears"
    );
}

#[test]
fn root_belongs_to_no_tenant_and_is_not_the_mta() {
    let facts = system(&[("root", 0), ("toor", 0)], &[]);
    for one in [
        with_users("one", &["toor"]),
        with_uids("one", &[range(0, 0)]),
        with_uids("one", &[range(0, 999)]),
    ] {
        let found = fault(&with_tenants(vec![one]), &facts);
        assert_eq!(found.severity, Severity::Error);
        assert!(found.problem.contains("uid 0"), "{found}");
    }
    let mut policy = policy();
    policy.node.mta.users = Some(vec!["toor".to_owned()]);
    let found = fault(&policy, &facts);
    assert_eq!(found.severity, Severity::Error);
    assert_eq!(found.origin.to_string(), "/etc/limiter/limiter.yaml");
}

#[test]
fn mta_users_by_name() {
    let mut policy = with_tenants(vec![with_uids("wide", &[range(50, 200)])]);
    policy.node.mta.users = Some(vec!["postfix".to_owned(), "absent".to_owned()]);
    let facts = system(
        &[("postfix", 89), ("exim", 93)],
        &[("postfix", range(9000, 9100))],
    );
    let Compiled { image, faults } = compile(&policy, &facts);
    let expected = [
        "50-88 wide (uids 50-200)",
        "89 MTA (MTA user postfix)",
        "90-200 wide (uids 50-200)",
    ];
    assert_eq!(
        bindings(&image.unwrap()),
        expected,
        "and its sub-uids are not the MTA"
    );
    let [absent] = faults.as_slice() else {
        panic!("{faults:?}")
    };
    assert_eq!(absent.severity, Severity::Warning);
    assert!(absent.problem.contains("absent"));
}

#[test]
fn mta_users_found_on_the_system() {
    let mut policy = policy();
    policy.node.mta.users = None;
    let mut users: Vec<(&str, u32)> = KNOWN_MTA_USERS
        .iter()
        .zip(100..)
        .map(|(name, uid)| (*name, uid))
        .collect();
    users.extend([("mail", 8), ("smmsp", 51), ("alice", 1001)]);
    let found = image(&policy, &system(&users, &[]));
    assert_eq!(found.uids.len(), KNOWN_MTA_USERS.len());
    assert!(
        found
            .uids
            .iter()
            .all(|binding| binding.holder == Holder::Mta && binding.range.first >= 100)
    );

    // A customer that chose the name, and another name for root.
    let found = fault(&policy, &system(&[("exim", 1005), ("postfix", 0)], &[]));
    assert_eq!(found.severity, Severity::Warning);
    assert!(
        found.problem.contains("exim") && found.problem.contains("1005"),
        "{found}"
    );
}

#[test]
fn a_tenant_cannot_be_the_mta() {
    let mut policy = with_tenants(vec![with_users("one", &["postfix"])]);
    policy.node.mta.users = None;
    let found = fault(&policy, &system(&[("postfix", 89)], &[]));
    assert_eq!(found.severity, Severity::Error);
    assert_eq!(found.origin.file, PathBuf::from("one.yaml"));
    assert!(
        found.problem.contains("the MTA (MTA user postfix"),
        "{found}"
    );
}

#[test]
fn users_without_a_file_become_accounts() {
    let mut policy = with_tenants(vec![
        with_users("alice", &["alice"]),
        with_uids("some", &[range(1010, 1019), range(1030, 1030)]),
    ]);
    policy.accounts = accounts(&[range(0, 1999), range(60_000, 70_000)]);
    policy.node.mta.users = Some(vec!["mta".to_owned()]);
    policy.node.mode = Mode::Enforce;
    let facts = system(
        &[
            ("root", 0),
            ("zoe", 1050),
            ("zoe-too", 1050),
            ("alice", 1001),
            ("alias", 1001),
            ("by-range", 1015),
            ("by-uid", 1030),
            ("bob", 1002),
            ("mta", 1003),
            ("beyond", 2000),
            ("nobody", 65534),
            ("late", 65000),
        ],
        &[
            ("bob", range(100_000, 100_009)),
            ("alice", range(65_000, 65_009)),
        ],
    );
    let image = image(&policy, &facts);
    let names: Vec<&str> = image
        .tenants
        .iter()
        .skip(2)
        .map(|tenant| tenant.name.as_str())
        .collect();
    assert_eq!(
        names,
        ["alice", "some", "bob", "zoe", "late"],
        "files first, then by uid"
    );
    for account in &image.tenants[4..] {
        let ImageTenant {
            parent,
            enforce,
            direct_smtp,
            ..
        } = account;
        assert_eq!(
            (*parent, *enforce, *direct_smtp),
            (Some(0), true, Permission::Redirect)
        );
    }
    let expected = [
        "1001 alice (user alice)",
        "1002 bob (account)",
        "1003 MTA (MTA user mta)",
        "1010-1019 some (uids 1010-1019)",
        "1030 some (uids 1030)",
        "1050 zoe (account)",
        "65000 late (account)",
        "65001-65009 alice (sub-uids of alice)",
        "100000-100009 bob (sub-uids of bob)",
    ];
    assert_eq!(bindings(&image), expected);
}

#[test]
fn an_account_whose_name_is_taken_is_left_out() {
    let mut policy = with_tenants(vec![tenant("bob")]);
    policy.accounts = accounts(&[range(1000, 2000)]);
    let long = "x".repeat(MAX_TENANT_NAME + 1);
    let fits = "y".repeat(MAX_TENANT_NAME);
    let facts = system(&[("bob", 1002), (&long, 1003), (&fits, 1004)], &[]);
    let Compiled { image, faults } = compile(&policy, &facts);
    let image = image.unwrap();
    assert_eq!(image.tenants.len(), 4);
    assert_eq!(bindings(&image), [format!("1004 {fits} (account)")]);
    let [taken, too_long] = faults.as_slice() else {
        panic!("{faults:?}")
    };
    assert!(taken.problem.contains("the user bob (uid 1002)"), "{taken}");
    assert!(too_long.problem.contains("127 bytes"), "{too_long}");
    assert!(
        faults
            .iter()
            .all(|fault| fault.severity == Severity::Warning)
    );
}

#[test]
fn accounts_with_overlapping_sub_uids_do_not_stop_the_policy() {
    let mut policy = with_tenants(vec![with_uids("wide", &[range(100_000, 900_000)])]);
    policy.accounts = accounts(&[range(1000, 2000)]);
    let facts = system(
        &[("alice", 1001), ("bob", 1002)],
        &[
            ("alice", range(100_000, 100_009)),
            ("bob", range(100_005, 100_014)),
        ],
    );
    let Compiled { image, faults } = compile(&policy, &facts);
    let expected = [
        "1001 alice (account)",
        "1002 bob (account)",
        "100000-100004 alice (sub-uids of alice)",
        "100010-100014 bob (sub-uids of bob)",
        "100015-900000 wide (uids 100000-900000)",
    ];
    assert_eq!(bindings(&image.unwrap()), expected);
    let [overlap] = faults.as_slice() else {
        panic!("{faults:?}")
    };
    assert_eq!(overlap.severity, Severity::Warning);
    assert!(overlap.problem.contains("uid 100005-100009 "), "{overlap}");
}

fn cgroup(path: &str, id: u64) -> Cgroup {
    let depth = u32::try_from(path.matches('/').count()).unwrap();
    Cgroup {
        path: path.to_owned(),
        id,
        depth,
    }
}

fn with_cgroup_facts(matches: &[(&str, &str, u64)]) -> System {
    let mut system = System::default();
    for (pattern, path, id) in matches {
        system.cgroups.insert(pattern, cgroup(path, *id));
    }
    system
}

#[test]
fn cgroups_are_bound_and_a_path_beats_a_glob() {
    let facts = with_cgroup_facts(&[
        ("/u/*", "/u/b", 9),
        ("/u/*", "/u/a", 7),
        ("/u/a", "/u/a", 7),
        ("/u/a/x", "/u/a/x", 3),
        ("/u/?", "/u/a", 7),
    ]);
    let policy = with_tenants(vec![
        with_cgroups("globs", &["/u/*"]),
        with_cgroups("path", &["/u/a", "/u/a/x", "/u/?"]),
    ]);
    let image = image(&policy, &facts);
    let found: Vec<(u64, u32, &str, usize, &str)> = image
        .cgroups
        .iter()
        .map(|b| (b.id, b.depth, b.path.as_str(), b.tenant, b.by.as_str()))
        .collect();
    let expected = [
        (3, 3, "/u/a/x", 3, "cgroup /u/a/x"),
        (7, 2, "/u/a", 3, "cgroup /u/a"),
        (9, 2, "/u/b", 2, "cgroup /u/*"),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_cgroup_claimed_twice_is_an_error_that_names_both() {
    let facts = with_cgroup_facts(&[
        ("/u/*", "/u/a", 7),
        ("/u/?", "/u/a", 7),
        ("/u/a", "/u/a", 7),
    ]);
    for (one, two) in [("/u/*", "/u/?"), ("/u/a", "/u/a")] {
        let policy = with_tenants(vec![
            with_cgroups("one", &[one]),
            with_cgroups("two", &[two]),
        ]);
        let found = fault(&policy, &facts);
        assert_eq!(found.severity, Severity::Error);
        for part in ["cgroup /u/a ", "one.yaml:6:3", "two.yaml:6:3", one, two] {
            assert!(found.problem.contains(part), "{part} in {found}");
        }
    }
    let twice = with_tenants(vec![with_cgroups("one", &["/u/*", "/u/?"])]);
    assert_eq!(
        image(&twice, &facts).cgroups.len(),
        1,
        "by one tenant it is none"
    );
}

#[test]
fn only_paths_are_missed() {
    let policy = with_tenants(vec![with_cgroups("one", &["/absent", "/u/*"])]);
    let found = fault(&policy, &System::default());
    assert_eq!(found.severity, Severity::Warning);
    assert!(
        found.problem.contains("/absent") && found.allowed.contains("when it appears"),
        "{found}"
    );
}

#[test]
fn cgroups_too_deep_or_no_paths_at_all_are_errors() {
    let deep = |levels: u32| (0..levels).map(|_| "/x").collect::<String>();
    let (deepest, too_deep) = (deep(MAX_CGROUP_DEPTH), deep(MAX_CGROUP_DEPTH + 1));
    let facts = with_cgroup_facts(&[(&deepest, &deepest, 5)]);
    image(
        &with_tenants(vec![with_cgroups("one", &[&deepest])]),
        &facts,
    );
    for wrong in [too_deep.as_str(), "relative", "/", "/a/../b", "/[x"] {
        let found = fault(&with_tenants(vec![with_cgroups("one", &[wrong])]), &facts);
        assert_eq!(found.severity, Severity::Error, "{found}");
        assert_eq!(found.origin.to_string(), "one.yaml:6:3");
    }
}

#[test]
fn cgroups_outside_the_point_of_attachment_are_a_warning() {
    let facts = with_cgroup_facts(&[
        ("/a", "/a", 1),
        ("/a/b", "/a/b", 2),
        ("/a/b/c", "/a/b/c", 3),
        ("/a/bb", "/a/bb", 4),
    ]);
    let mut policy = with_tenants(vec![with_cgroups(
        "one",
        &["/a", "/a/b", "/a/b/c", "/a/bb"],
    )]);
    policy.places.cgroup = PathBuf::from("/a/b");
    let found = fault(&policy, &facts);
    assert_eq!(found.severity, Severity::Warning);
    assert!(
        found
            .problem
            .contains("/a/bb of tenant one is outside /a/b"),
        "{found}"
    );
}

#[test]
fn what_is_odd_about_the_system_is_told() {
    let mut system = System::default();
    system.warnings.push(Warning {
        origin: Origin {
            file: PathBuf::from("/etc/passwd"),
            line: 7,
            column: 1,
        },
        problem: "the line makes no sense".to_owned(),
        advice: "it has been skipped".to_owned(),
    });
    let found = fault(&policy(), &system);
    assert_eq!(found.severity, Severity::Warning);
    assert_eq!(found.origin.to_string(), "/etc/passwd:7:1");
}

#[test]
fn a_hundred_thousand_tenants() {
    let count = 100_000_u32;
    let mut users = System::default();
    let tenants: Vec<Tenant> = (0..count)
        .map(|number| {
            let name = format!("t{number}");
            if number % 2 == 0 {
                users.users.insert(&name, 2000 + number);
                with_users(&name, &[&name])
            } else {
                with_uids(&name, &[range(2000 + number, 2000 + number)])
            }
        })
        .collect();
    let policy = with_tenants(tenants);
    let start = Instant::now();
    let image = image(&policy, &users);
    let took = start.elapsed();
    assert_eq!(image.uids.len(), 100_000);
    assert_eq!(image.tenants.len(), 100_002);
    println!("{count} tenants compiled in {took:?}");
    // 200 ms optimised; without optimisation, on a busy machine, only what grows with the square
    // would take this long.
    let bound = if cfg!(debug_assertions) {
        Duration::from_secs(10)
    } else {
        Duration::from_millis(200)
    };
    assert!(took < bound, "{took:?}");
}
