//! System users without a file.

use super::*;

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
