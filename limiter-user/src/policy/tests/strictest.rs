//! Of several policies on one tenant, and its own rules, the strictest holds in each dimension.

use std::time::Duration;

use limiter_common::{
    limit::Unit,
    verdict::{Permission, PortGroup},
};

use super::*;
use crate::policy::{
    Amount,
    compile::compile,
    describe::summary,
    model::{Limit, Pace, Rules},
};

const SMTP: u8 = PortGroup::Smtp.bit();
const SUBMISSION: u8 = PortGroup::Submission.bit();

const fn limit(max: u32, hours: u64, groups: u8) -> Limit {
    Limit {
        unit: Unit::Connections,
        max,
        window: Duration::from_secs(hours * 3_600),
        groups,
    }
}

const fn pace(every: u64, burst: u32) -> Pace {
    Pace {
        unit: Unit::Connections,
        every: Duration::from_secs(every),
        burst,
        groups: SMTP,
    }
}

/// A tenant with `own` keys, bound by policies with these plans: p, q, r…
fn bound(own: &str, plans: &[&str]) -> Config {
    let names: Vec<String> = ('p'..='z').map(String::from).collect();
    let named: Vec<String> = names
        .iter()
        .zip(plans)
        .map(|(name, _)| format!("../{name}.yaml"))
        .collect();
    let tenant = format!("tenant: a\npolicies: [{}]\n{own}", named.join(", "));
    let config = Config::tenants(&tenant);
    names
        .iter()
        .zip(plans)
        .fold(config, |config, (name, plan)| {
            config.write(
                &format!("{name}.yaml"),
                format!("policy: {name}\nplan: {{{plan}}}\n"),
            )
        })
}

#[track_caller]
fn rules(own: &str, plans: &[&str]) -> Rules {
    bound(own, plans).policy().tenants.remove(0).rules
}

#[test]
fn the_stricter_permission_holds() {
    for (own, plans, smtp, submission) in [
        ("allow", &["direct_smtp: block"][..], "block", "allow"),
        ("allow", &["direct_smtp: redirect"], "redirect", "allow"),
        ("redirect", &["direct_smtp: allow"], "redirect", "allow"),
        (
            "allow",
            &["direct_smtp: redirect", "direct_smtp: block"],
            "block",
            "allow",
        ),
        ("block", &["direct_smtp: redirect"], "block", "allow"),
        // What a policy does not say binds nobody.
        ("allow", &["submission: block"], "allow", "block"),
        ("allow", &["limits: []", ""], "allow", "allow"),
    ] {
        let rules = rules(&format!("direct_smtp: {own}\n"), plans);
        assert_eq!(rules.direct_smtp.as_str(), smtp, "{own} {plans:?}");
        assert_eq!(rules.submission.as_str(), submission, "{own} {plans:?}");
    }
}

#[test]
fn limits_alike_become_the_smaller_one_and_others_stand_beside() {
    let own = "limits: [{unit: connections, max: 300, window: 1h}, \
               {unit: connections, max: 5, window: 1h, ports: [submission]}]\n\
               pace: [{unit: connections, every: 10s, burst: 2}]\n";
    let p = "limits: [{unit: connections, max: 200, window: 1h}, \
             {unit: connections, max: 1000, window: 24h}], \
             pace: [{unit: connections, every: 15s, burst: 9}]";
    let q = "limits: [{unit: connections, max: 250, window: 1h}, \
             {unit: connections, max: 9, window: 1h, ports: [submission]}], \
             pace: [{unit: connections, every: 12s, burst: 1}]";
    let config = bound(own, &[p, q]);
    let policy = config.policy();
    let rules = &policy.tenants[0].rules;
    let [hour, other, day] = [
        limit(200, 1, SMTP),
        limit(5, 1, SUBMISSION),
        limit(1_000, 24, SMTP),
    ];
    assert_eq!(rules.limits, [hour, other, day]);
    assert_eq!(rules.pace, [pace(15, 1)]);
    let asking = |amount| policy.asking_for("a", amount);
    assert_eq!(asking(Amount::Limit(hour)), ["p"]);
    assert_eq!(asking(Amount::Limit(other)), [""; 0]);
    assert_eq!(asking(Amount::Limit(day)), ["p"]);
    assert_eq!(asking(Amount::Pace(pace(15, 1))), ["p", "q"]);

    let image = compile(&policy, &crate::system::System::default())
        .image
        .unwrap();
    assert_eq!(image.tenants[2].limits.len(), 4, "the kernel has them");
}

#[test]
fn check_says_which_policy_asks_for_what() {
    let config = Config::new(
        "policies: [p.yaml]\naccounts: {uids: 1000-1999}\ndefault: {direct_smtp: allow}\n",
    )
    .write(
        "p.yaml",
        "policy: p\nplan: {direct_smtp: block, limits: [{unit: connections, max: 7, window: 1h}]}\n",
    )
    .write("q.yaml", "policy: q\nplan: {submission: block}\n")
    .write(
        "tenants.d/t.yaml",
        "tenant: a\ndirect_smtp: allow\npolicies: [../q.yaml]\n\
         limits: [{unit: connections, max: 3, window: 30s}]\n",
    );
    let text = summary(&config.policy());
    let expected = "\
accounts of uids: 1000-1999
  direct SMTP block (policy p), submission allow
  7 connections per 1h (policy p)
whatever nobody claims:
  direct SMTP allow, submission allow
tenants: 1 (0 enforced, 1 observed, 1 with limits), 0 domains
  a (observe)
    policies besides the node's: q
    direct SMTP block (policy p), submission block (policy q)
    3 connections per 30s
    7 connections per 1h (policy p)
";
    assert!(text.ends_with(expected), "{text}");
    assert!(text.contains("policies for every tenant: p\n  and 1 policy that tenants name\n"));
    assert!(summary(&Config::new("").policy()).contains("policies: none (nobody is sanctioned"));
}

#[test]
fn what_is_exempt_for_a_tenant_stays_unless_the_policy_lists_what_may_be() {
    let own = "exempt: [{to: 198.51.100.0/24, ports: [25, 26]}, {to: 192.0.2.1}]\n";
    let exempt = |plans: &[&str]| -> Vec<String> {
        let rules = rules(own, plans);
        let shown = |it: &crate::policy::model::Exempt| format!("{} {:?}", it.to, it.ports);
        rules.exempt.iter().map(shown).collect()
    };
    let both = ["198.51.100.0/24 [25, 26]", "192.0.2.1/32 []"];
    assert_eq!(exempt(&["direct_smtp: block"]), both);
    assert_eq!(exempt(&["exempt: []"]), [""; 0]);
    assert_eq!(
        exempt(&[
            "exempt: [{to: 198.51.100.7, ports: [25, 465]}, {to: 192.0.2.0/24, ports: [25]}, \
             {to: 203.0.113.1}]"
        ]),
        ["198.51.100.7/32 [25]", "192.0.2.1/32 [25]"],
        "and a policy exempts nothing by itself"
    );
}

#[test]
fn those_that_others_imply_make_room_and_more_than_the_kernel_takes_is_an_error() {
    let own = "limits: [{unit: connections, max: 100, window: 1h}, \
               {unit: connections, max: 2400, window: 24h}, \
               {unit: connections, max: 50, window: 1h, ports: [submission]}, \
               {unit: connections, max: 10000, window: 30d}]\n";
    let more = "limits: [{unit: connections, max: 40, window: 1h, ports: [smtp, submission]}]";
    assert_eq!(
        rules(own, &[more]).limits,
        [
            limit(100, 1, SMTP),
            limit(2_400, 24, SMTP),
            limit(10_000, 720, SMTP),
            limit(40, 1, SMTP | SUBMISSION),
        ],
        "50 for submission never are reached"
    );
    let tight = "limits: [{unit: connections, max: 60, window: 1m}, \
                 {unit: connections, max: 100, window: 1h}, \
                 {unit: connections, max: 1000, window: 24h}, \
                 {unit: connections, max: 5000, window: 30d}]\n";
    only(
        &bound(
            tight,
            &["limits: [{unit: connections, max: 2000, window: 7d}]"],
        ),
        "tenants.d/t.yaml:1:9: error: a: limits: with its policies there are 5: 60 connections \
         per 1m; 100 connections per 1h; 1000 connections per 1d; 5000 connections per 30d; 2000 \
         connections per 7d (policy p); at most 4 limits and 4 paces: leave one out of the tenant \
         or its plan, or give it the port groups and the window of a policy's, so that the two \
         become one",
    );
    // One message for all who have the same; the accounts too.
    let plan = tight.replace('\n', "");
    let tenants: String = (0..3)
        .map(|n| format!("---\ntenant: t{n}\nplan: s\n"))
        .collect();
    let config = Config::new(&format!(
        "plans: {{s: {{{plan}}}}}\naccounts: {{uids: 1000-1999, plan: s}}\npolicies: [p.yaml]\n"
    ))
    .write("tenants.d/t.yaml", tenants)
    .write(
        "p.yaml",
        "policy: p\nplan: {limits: [{unit: connections, max: 2000, window: 7d}]}\n",
    );
    all(
        &config,
        &["limiter.yaml: error: accounts (and 3 more): limits: with its policies there are 5: …"],
    );
}

#[test]
fn limits_are_for_each_account_and_not_for_those_who_only_hold_customers() {
    let plan = "policy: p\nplan: {direct_smtp: block, \
                limits: [{unit: connections, max: 7, window: 1h}]}\n";
    let tenants = "tenant: holds\ndirect_smtp: allow\n---\n\
                   tenant: sends\nmatch: {uids: [2000]}\n---\n\
                   tenant: mails\ndomains: [{name: example.org}]\n---\n\
                   tenant: idle\n---\n\
                   tenant: a\nparent: holds\n---\n\
                   tenant: b\nparent: sends\n---\n\
                   tenant: c\nparent: mails\n";
    let config = Config::new("policies: [p.yaml]\n")
        .write("p.yaml", plan)
        .write("tenants.d/t.yaml", tenants);
    only(
        &config,
        "tenants.d/t.yaml:4:9: warning: sends (and one more): sends mail itself and has \
         customers, so that the limits of its policies hold all of them together; make its own \
         `match` and `domains` a tenant of their own below it, and each has the limits for itself",
    );
    let policy = config.policy();
    for tenant in &policy.tenants {
        let limits = usize::from(tenant.name != "holds" && !tenant.is_domain);
        assert_eq!(tenant.rules.limits.len(), limits, "{}", tenant.name);
        assert_eq!(
            policy.asking_for(&tenant.name, Amount::Limit(limit(7, 1, SMTP))),
            &["p"][..limits],
            "{}",
            tenant.name
        );
        assert_eq!(tenant.rules.direct_smtp, Permission::Block);
    }
}

#[test]
fn the_shipped_ones_together_are_the_strictest_of_all() {
    let names = ["crux", "hostup", "ix-cm", "mvmcloud", "strict"];
    let directory = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../policies");
    let files: Vec<String> = names.iter().map(|name| format!("{name}.yaml")).collect();
    let config = files.iter().fold(
        Config::new(&format!("policies: [{}]\n", files.join(", "))),
        |config, file| config.write(file, read(&directory.join(file))),
    );
    let config = config.write(
        "tenants.d/t.yaml",
        "tenant: a\ndirect_smtp: allow\n\
         limits: [{unit: recipients, max: 500, window: 1h}, \
         {unit: connections, max: 100, window: 1h}]\n",
    );
    let policy = config.policy();
    let rules = &policy.tenants[0].rules;
    assert_eq!(rules.direct_smtp, Permission::Block);
    assert_eq!(rules.submission, Permission::Block);
    let amounts: Vec<(&str, u32)> = rules
        .limits
        .iter()
        .map(|limit| (limit.unit.as_str(), limit.max))
        .collect();
    assert_eq!(
        amounts,
        [
            ("recipients", 240),
            ("connections", 100),
            ("distinct_recipients", 4_000)
        ]
    );
    assert_eq!(rules.pace.len(), 1);
    assert_eq!(
        policy.asking_for("a", Amount::Limit(rules.limits[0])),
        ["strict"]
    );
    assert_eq!(
        policy.asking_for("a", Amount::Limit(rules.limits[2])),
        ["mvmcloud", "strict"]
    );
}
