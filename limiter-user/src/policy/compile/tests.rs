//! One test for every rule.

mod accounts;
mod cgroups;
mod uids;

use std::{
    path::{Path, PathBuf},
    time::Duration,
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

fn with_tenants(tenants: Vec<Tenant>) -> Policy {
    Policy {
        tenants,
        ..policy()
    }
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
            format!(
                "{} {holder} ({})",
                super::uids::Uids(binding.range),
                binding.by
            )
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
    let system = System {
        own_addresses: ["2001:db8::1", "192.0.2.9"]
            .map(|text| text.parse().unwrap())
            .to_vec(),
        ..System::default()
    };

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
fn what_is_odd_about_the_system_is_told() {
    let mut system = System::default();
    system.warnings.push(Warning {
        origin: Origin {
            file: Path::new("/etc/passwd").into(),
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
