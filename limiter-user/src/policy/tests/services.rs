//! `services`: what the mail programs ask.

use std::time::Duration;

use super::*;
use crate::policy::services::{
    DistinctRecipients, OnFailure, OverLimit, PaceAction, SenderMismatch, ServiceAddress,
    ServicePlaces, Services, TooFast,
};

fn read(text: &str) -> (ServicePlaces, Services) {
    let config = Config::new(text);
    assert_eq!(config.faults(), Vec::<String>::new(), "{text}");
    let policy = config.policy();
    (policy.places.services, policy.node.services)
}

fn unix(path: &str) -> ServiceAddress {
    ServiceAddress::Unix(path.into())
}

fn inet(address: &str) -> ServiceAddress {
    ServiceAddress::Inet(address.parse().unwrap())
}

#[test]
fn what_is_not_said_is_beside_the_control_socket() {
    let (places, services) = read("mode: observe\n");
    assert_eq!(places.policy, [unix("/run/limiter/policy.sock")]);
    assert_eq!(places.milter, [unix("/run/limiter/milter.sock")]);
    assert_eq!(places.dovecot, []);
    assert_eq!(services, Services::default());
    assert_eq!(read("services: {}\n"), (places, services));

    let (places, _) = read("control: /run/other/control.sock\n");
    assert_eq!(places.policy, [unix("/run/other/policy.sock")]);
    let (places, _) = read("control: /run/second.sock\n");
    assert_eq!(places.policy, [unix("/run/second.policy.sock")]);
}

#[test]
fn null_switches_off() {
    let off = ServicePlaces::default();
    assert_eq!(read("services: null\n").0, off);
    let text = "services: {policy: null, milter: [], dovecot: null}\n";
    assert_eq!(read(text).0, off);
}

#[test]
fn everything_can_be_said() {
    let (places, services) = read(
        "\
services:
  policy: [unix:/run/p.sock, unix:/var/spool/postfix/limiter/policy.sock]
  milter: inet:127.0.0.1:10042
  dovecot: \"inet:[::1]:10041\"
  allowed_users: [postfix]
  filters: [amavis, spamd]
  lists: [list]
  on_failure: closed
  sender_mismatch: refuse
  over_limit: permanent
  too_fast: {action: delay, cap: 1m}
  distinct_recipients: refuse
  texts: {limit: \"full: {limit}\", unknown: nobody}
",
    );
    assert_eq!(
        places,
        ServicePlaces {
            policy: vec![
                unix("/run/p.sock"),
                unix("/var/spool/postfix/limiter/policy.sock")
            ],
            milter: vec![inet("127.0.0.1:10042")],
            dovecot: vec![inet("[::1]:10041")],
        }
    );
    assert_eq!(services.texts.limit.as_str(), "full: {limit}");
    assert_eq!(services.texts.unknown.as_str(), "nobody");
    assert_eq!(services.texts.pace, Services::default().texts.pace);
    assert_eq!(
        services,
        Services {
            allowed_users: Some(vec!["postfix".to_owned()]),
            filters: vec!["amavis".to_owned(), "spamd".to_owned()],
            lists: vec!["list".to_owned()],
            on_failure: OnFailure::Closed,
            sender_mismatch: SenderMismatch::Refuse,
            over_limit: OverLimit::Permanent,
            too_fast: TooFast {
                action: PaceAction::Delay,
                cap: Duration::from_secs(60),
            },
            distinct_recipients: DistinctRecipients::Refuse,
            texts: services.texts.clone(),
        }
    );
}

#[test]
fn what_makes_no_sense_is_said() {
    all(
        &Config::new(
            "services:\n\
             \x20 policy: inet:192.0.2.1:25\n\
             \x20 milter: [unix:run/m.sock, tcp:1]\n\
             \x20 dovecot: inet:127.0.0.1\n\
             \x20 allowed_users: [1]\n\
             \x20 on_failure: maybe\n\
             \x20 sender_mismatch: reject\n\
             \x20 over_limit: null\n\
             \x20 too_fast: {action: wait, cap: 61s}\n\
             \x20 distinct_recipients: no\n\
             \x20 texts: {limit: \"{who} is over\", pace: \"a\\nb\", sanction: \"{\", mismatch: [], other: x}\n\
             \x20 polcy: null\n",
        ),
        &[
            "limiter.yaml:2:11: error: services.policy: inet:192.0.2.1:25 is no loopback address: who…",
            "limiter.yaml:3:12: error: services.milter[0]: unix:run/m.sock names no socket;…",
            "limiter.yaml:3:29: error: services.milter[1]: tcp:1 is not the address of a service;…",
            "limiter.yaml:4:12: error: services.dovecot: inet:127.0.0.1 is not an address and a port;…",
            "limiter.yaml:5:19: error: services.allowed_users[0]: 1 is a number;…",
            "limiter.yaml:6:15: error: services.on_failure: maybe is not known; open | closed",
            "limiter.yaml:7:20: error: services.sender_mismatch: reject is not known; charge | refuse",
            "limiter.yaml:8:15: error: services.over_limit: null is no value; temporary | permanent",
            "limiter.yaml:9:22: error: services.too_fast.action: wait is not known; defer | delay",
            "limiter.yaml:9:33: error: services.too_fast.cap: 61s is too long; a duration from 1s to 1m…",
            "limiter.yaml:10:24: error: services.distinct_recipients: no is not known; alarm | refuse",
            "limiter.yaml:11:18: error: services.texts.limit: \"{who} is over\" holds {who}, which stands for nothing;…",
            "limiter.yaml:11:41: error: services.texts.pace: \"a\\nb\" holds what is not printable ASCII;…",
            "limiter.yaml:11:59: error: services.texts.sanction: \"{\" holds a `{` or `}` without the other;…",
            "limiter.yaml:11:74: error: services.texts.mismatch: a list of 0 is not a single value;…",
            "limiter.yaml:11:78: error: services.texts.other: unknown key;…",
            "limiter.yaml:12:3: error: services.polcy: unknown key; did you mean `policy`?…",
        ],
    );
}

#[test]
fn programs_that_hand_mail_on_are_named_once_and_are_not_root() {
    all(
        &Config::new(
            "services:\n\
             \x20 filters: [amavis, root, 5, \"a b\", amavis]\n\
             \x20 lists: [list, amavis]\n",
        ),
        &[
            "limiter.yaml:2:21: error: services.filters[1]: root is whatever runs on the node, and no…",
            "limiter.yaml:2:27: error: services.filters[2]: 5 is a number;…",
            "limiter.yaml:2:30: error: services.filters[3]: \"a b\" is not a user name;…",
            "limiter.yaml:2:37: error: services.filters[4]: amavis is named twice;…",
            "limiter.yaml:3:17: error: services.lists[1]: amavis is named twice;…",
        ],
    );
}

#[test]
fn each_service_has_an_address_of_its_own() {
    all(
        &Config::new("services: {policy: unix:/a, milter: unix:/a}\n"),
        &["limiter.yaml:1:37: error: services.milter: unix:/a holds unix:/a twice, or as another…"],
    );
    let five = "unix:/a, unix:/b, unix:/c, unix:/d, unix:/e";
    all(
        &Config::new(&format!("services: {{policy: [{five}]}}\n")),
        &["limiter.yaml:1:20: error: services.policy: a list of 5 names too many addresses;…"],
    );
    let long = format!("services: {{policy: \"unix:/{}\"}}\n", "a".repeat(107));
    let faults = Config::new(&long).faults();
    assert!(
        faults.len() == 1 && faults[0].contains("is too long for the path of a socket"),
        "{faults:?}"
    );
}
