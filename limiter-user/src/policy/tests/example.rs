//! The configuration that the documentation shows.

use std::time::Duration;

use limiter_common::{limit::Unit, verdict::Permission};

use super::*;
use crate::policy::{
    describe::summary,
    model::{Limit, Mode, Pace, UidRange},
};

const MAIN: &str = include_str!("../fixtures/limiter.yaml");
const ALICE: &str = include_str!("../fixtures/alice.yaml");
const RESELLER: &str = "tenant: reseller-7\n";

fn example() -> Config {
    Config::new(MAIN)
        .write("tenants.d/alice.yaml", ALICE)
        .write("tenants.d/reseller.yaml", RESELLER)
}

#[test]
fn it_loads_and_says_what_is_not_enforced() {
    all(
        &example(),
        &["limiter.yaml:36:10: warning: metrics: not enforced by this version;…"],
    );
}

#[test]
fn it_means_what_it_says() {
    let config = example();
    let policy = config.policy();
    assert_eq!(policy.node.name, "web-17");
    assert_eq!(policy.node.mode, Mode::Observe);
    assert_eq!(policy.places.config, config.path("limiter.yaml"));
    assert_eq!(
        policy.places.tenants,
        config.path("tenants.d/*.yaml").to_str().unwrap()
    );
    let accounts = policy.accounts.as_ref().unwrap();
    assert_eq!(
        accounts.uids,
        [UidRange {
            first: 1_000,
            last: 60_000
        }]
    );
    let per_hour = Limit {
        unit: Unit::Recipients,
        max: 300,
        window: Duration::from_secs(3_600),
        groups: 0b10,
    };
    assert_eq!(accounts.rules.limits, [per_hour]);
    assert_eq!(
        names(&policy),
        ["reseller-7", "alice", "alice/alice.example"]
    );

    let alice = &policy.tenants[1];
    assert_eq!(alice.parent.as_deref(), Some("reseller-7"));
    assert_eq!(alice.mode, Some(Mode::Enforce));
    assert_eq!(alice.rules.direct_smtp, Permission::Block);
    assert_eq!(
        alice.rules.limits,
        [Limit {
            unit: Unit::Connections,
            ..per_hour
        }],
        "its own limits replace its plan's"
    );
    assert_eq!(
        alice.rules.pace,
        [Pace {
            unit: Unit::Recipients,
            every: Duration::from_secs(15),
            burst: 1,
            groups: 0b10
        }]
    );
    assert_eq!(alice.matches.uids.len(), 2);
    assert_eq!(
        alice.matches.addresses[1].value,
        "2001:db8:7::/64".parse().unwrap()
    );
    assert_eq!(alice.origin.line, 1);
    let domain = &policy.tenants[2];
    assert!(domain.is_domain);
    assert_eq!(domain.parent.as_deref(), Some("alice"));
    assert_eq!(domain.rules.limits, [per_hour]);
}

#[test]
fn it_survives_json() {
    let policy = example().policy();
    let json = serde_json::to_string(&policy).unwrap();
    assert_eq!(serde_json::from_str::<Policy>(&json).unwrap(), policy);
}

#[test]
fn the_summary_names_what_counts() {
    let text = summary(&example().policy());
    for expected in [
        "node web-17: observe",
        "mta users: postfix, Debian-exim",
        "redirect to: 127.0.0.1:25, [::1]:25",
        "accounts of uids: 1000-60000",
        "tenants: 2 (1 enforced, 1 observed, 1 with limits), 1 domain\n",
        "plan starter: 1 tenant\n",
        "alice (enforce, below reseller-7, plan starter, 1 interface glob, 2 address\n      prefixes)\n",
        "    300 connections per 1h\n",
        "300 recipients per 1h\n",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
}

#[test]
fn the_summary_of_many_is_short() {
    let tenants: String = (0..3_000)
        .map(|n| {
            format!("---\ntenant: t{n}\nlimits: [{{unit: connections, max: {n}, window: 1h}}]\n")
        })
        .collect();
    let text = summary(&Config::tenants(&tenants).policy());
    assert!(text.lines().count() < 80, "{text}");
    assert!(text.contains("… and 2980 more tenants"), "{text}");
}
