//! Who gets which uids, the MTA among them.

use super::*;

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
        assert_eq!(*fault.origin.file, *Path::new("other.yaml"));
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
    assert_eq!(*found.origin.file, *Path::new("one.yaml"));
    assert!(
        found.problem.contains("the MTA (MTA user postfix"),
        "{found}"
    );
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
    let start = cpu_time();
    let image = image(&policy, &users);
    let took = cpu_time() - start;
    assert_eq!(image.uids.len(), 100_000);
    assert_eq!(image.tenants.len(), 100_002);
    println!("{count} tenants compiled in {took:?} of CPU time");
    // Without optimisation, what grows with the square would take minutes.
    let bound = if cfg!(debug_assertions) {
        Duration::from_secs(10)
    } else {
        Duration::from_millis(200)
    };
    assert!(took < bound, "{took:?}");
}

/// The CPU time of this thread: what else the machine does is left out.
fn cpu_time() -> Duration {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
    Duration::from(now)
}
