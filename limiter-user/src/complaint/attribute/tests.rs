//! Honest complaints, and those of somebody who wants a neighbour suspended.

use std::{
    cell::Cell,
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::Path,
    time::Duration,
};

use limiter_common::verdict::Layer::{Connect, Guest, Uplink};

use super::*;
use crate::{
    complaint::{
        Limits, Trust,
        log::{Account, Delivery, LogEntry, LogFound, LogQuery},
        parse,
        report::{Feedback, SourceFrom},
        tests::sample,
    },
    policy::{
        compile::testing,
        model::{Located, Origin},
    },
    report::{
        attempt::AttemptRecord,
        event::Endpoint,
        store::{Reader, Store, StoreOptions},
    },
};

/// alice has an address and a domain of her own; bob and carol share the node's address.
#[derive(Default)]
struct Known {
    seen: Vec<Sighting>,
    log: LogFound,
    blind: bool,
    /// How often the history, and the log, was searched.
    searched: Cell<(u32, u32)>,
}

const ALICE: &str = "203.0.113.7";
const NODE: &str = "203.0.113.25";
const ARRIVAL: &str = "2026-11-20T10:00:04Z";

impl Facts for Known {
    fn owner(&self, address: IpAddr) -> Owner {
        match address.to_string().as_str() {
            ALICE | "2001:db8:7::25" => Owner::Tenant("alice".into()),
            NODE => Owner::Node,
            _ => Owner::Foreign,
        }
    }

    fn tenant_of_domain(&self, domain: &str) -> Option<String> {
        match domain {
            "alice.example" => Some("alice/alice.example".into()),
            "bob.example" => Some("bob/bob.example".into()),
            _ => None,
        }
    }

    fn tenant_of_account(&self, account: &Account) -> Option<String> {
        match account {
            Account::Uid(2001) => Some("alice".into()),
            Account::Uid(2002) => Some("bob".into()),
            Account::Login(login) => self.tenant_of_domain(login.split('@').nth(1)?),
            _ => None,
        }
    }

    fn parent(&self, tenant: &str) -> Option<String> {
        match tenant {
            "alice/alice.example" => Some("alice".into()),
            "bob/bob.example" => Some("bob".into()),
            "alice" | "bob" | "carol" => Some("reseller".into()),
            _ => None,
        }
    }

    fn is_own_name(&self, host: &str) -> bool {
        host == "node.example.net"
    }

    fn sightings(
        &self,
        (from, until): (Timestamp, Timestamp),
        _: &About,
    ) -> Result<Vec<Sighting>, FactsError> {
        let (history, log) = self.searched.get();
        self.searched.set((history + 1, log));
        if self.blind {
            return Err(FactsError::TooMany { most: 1 });
        }
        let within = |sighting: &&Sighting| (from..=until).contains(&sighting.time);
        Ok(self.seen.iter().filter(within).cloned().collect())
    }

    fn log(&self, query: &LogQuery) -> Result<LogFound, FactsError> {
        let (history, log) = self.searched.get();
        self.searched.set((history, log + 1));
        let asked = |entry: &&LogEntry| {
            query.queue_ids.contains(&entry.queue_id)
                || (entry.message_id.is_some() && entry.message_id == query.message_id)
        };
        Ok(LogFound {
            entries: self.log.entries.iter().filter(asked).cloned().collect(),
            partial: self.log.partial,
        })
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn sighting(tenant: &str, source: Option<(&str, u16)>, to: &str) -> Sighting {
    let end = |(address, port): (&str, u16)| Endpoint {
        address: address.parse().unwrap(),
        port: Some(port),
    };
    Sighting {
        time: at("2026-11-20T10:00:03Z"),
        tenant: Some(tenant.into()),
        source: source.map(end),
        destination: end((to, 25)),
    }
}

fn entry(account: Account, direct: bool) -> LogEntry {
    LogEntry {
        queue_id: "4F2C81A0B3".into(),
        message_id: Some("20261120100001.4F2C81A0B3@node.example.net".into()),
        accounts: [account].into(),
        deliveries: vec![Delivery {
            time: at("2026-11-20T10:00:03Z"),
            relay: None,
        }],
        direct,
    }
}

fn report(name: &str) -> Report {
    let trust = Trust {
        authserv_ids: vec!["mx.node.example.net".into()],
        reporters: vec!["yahoo.com".into()],
    };
    parse(&sample(name), &Limits::default(), &trust).unwrap()
}

/// `tenant NAME`, `ambiguous NAMES`, `unknown`.
fn verdict(report: &Report, facts: &Known, vouched: Vouched) -> String {
    match attribute(report, facts, vouched) {
        Attribution::Tenant {
            tenant, grounds, ..
        } => {
            assert!(grounds.iter().any(Ground::proves));
            format!("tenant {tenant}")
        }
        Attribution::Ambiguous { candidates, why } => {
            assert!(!why.is_empty());
            let names: Vec<String> = candidates.into_iter().map(|c| c.tenant).collect();
            format!("ambiguous {}", names.join(" "))
        }
        Attribution::Unknown { why } => {
            assert!(!why.is_empty());
            "unknown".into()
        }
    }
}

fn log_of(entries: Vec<LogEntry>) -> LogFound {
    LogFound {
        entries,
        partial: false,
    }
}

/// A stranger's report about an address that is not ours is answered without a search.
#[test]
fn nothing_is_searched_for_an_address_of_somebody_else() {
    let mut foreign = report("03-yahoo-cfl.eml");
    foreign.source = Some("192.0.2.200".parse().unwrap());
    foreign.reporter.trusted = false;
    let facts = Known::default();
    let why = match attribute(&foreign, &facts, Vouched::No) {
        Attribution::Unknown { why } | Attribution::Ambiguous { why, .. } => why,
        Attribution::Tenant { tenant, .. } => panic!("{tenant}"),
    };
    assert!(
        why.contains("192.0.2.200 is no address of this node"),
        "{why}"
    );
    assert_eq!(facts.searched.get(), (0, 0));
    // For somebody who is known the log is looked at: the address may be translated further on.
    let _ = attribute(&foreign, &facts, Vouched::Operator);
    assert_eq!(facts.searched.get(), (0, 1));
    foreign.source = Some(NODE.parse().unwrap());
    let _ = attribute(&foreign, &facts, Vouched::No);
    assert_eq!(facts.searched.get(), (1, 2));
}

#[test]
fn a_domain_alone_names_a_candidate_only() {
    let facts = Known::default();
    for name in [
        "13-google-summary.eml",
        "11-xarf-domain.json",
        "24-inline-gmail-style.eml",
    ] {
        let verdict = verdict(&report(name), &facts, Vouched::Operator);
        assert_eq!(verdict, "ambiguous alice/alice.example", "{name}");
    }
    // The domain of a failed authentication is the victim's.
    let mut report = report("16-rfc6591-dmarc.eml");
    assert_eq!(report.feedback, Feedback::AuthFailure);
    assert_eq!(verdict(&report, &facts, Vouched::Operator), "unknown");
    report.feedback = Feedback::Abuse;
    assert_eq!(
        verdict(&report, &facts, Vouched::Operator),
        "ambiguous alice/alice.example bob/bob.example"
    );
}

#[test]
fn an_address_of_its_own_counts_when_it_sent_and_somebody_stands_behind_it() {
    let jmrp = report("01-hotmail-jmrp.eml");
    let silent = Known::default();
    let sending = Known {
        seen: vec![sighting("alice", None, "198.51.100.12")],
        ..Known::default()
    };
    let unclear = "ambiguous alice alice/alice.example";
    assert_eq!(verdict(&jmrp, &silent, Vouched::Operator), unclear);
    assert_eq!(verdict(&jmrp, &sending, Vouched::No), unclear);
    // The domain chooses among her own.
    let clear = "tenant alice/alice.example";
    assert_eq!(verdict(&jmrp, &sending, Vouched::Operator), clear);
    let mut signed = jmrp;
    signed.reporter.trusted = true;
    assert_eq!(verdict(&signed, &sending, Vouched::No), clear);
    // Of an hour at which nothing was sent.
    signed.arrival = Some(at("2026-11-20T12:00:04Z"));
    assert_eq!(verdict(&signed, &sending, Vouched::No), unclear);
    // Without a history there is no proof.
    let blind = Known {
        blind: true,
        ..sending
    };
    assert_eq!(verdict(&signed, &blind, Vouched::Operator), unclear);
}

#[test]
fn only_reporters_that_are_known_are_trusted() {
    let yahoo = report("03-yahoo-cfl.eml");
    assert_eq!(
        yahoo.reporter.verified.as_deref(),
        Some("arf.mail.yahoo.com")
    );
    assert!(yahoo.reporter.trusted);
    let bytes = String::from_utf8(sample("03-yahoo-cfl.eml")).unwrap();
    let check = |text: &str, ids: &[&str], reporters: &[&str]| {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let trust = Trust {
            authserv_ids: owned(ids),
            reporters: owned(reporters),
        };
        parse(text.as_bytes(), &Limits::default(), &trust)
            .unwrap()
            .reporter
    };
    let own = ["mx.node.example.net"];
    assert!(check(&bytes, &own, &["yahoo.com"]).trusted);
    assert!(!check(&bytes, &own, &["hotmail.com"]).trusted);
    assert!(!check(&bytes, &own, &["ail.yahoo.com"]).trusted);
    assert_eq!(check(&bytes, &[], &["yahoo.com"]).verified, None);
    // A field that came with the mail stands below the server's own Received.
    let (result, rest) = bytes.split_once("\r\n").unwrap();
    let received =
        "Received: from evil.test by mx.node.example.net; Fri, 20 Nov 2026 11:00:03 +0000";
    let below = format!("{received}\r\n{received}\r\n{result}\r\n{rest}");
    assert_eq!(check(&below, &own, &["yahoo.com"]).verified, None);
    // Signed by somebody else than From says.
    let other = bytes.replace(
        "From: Yahoo! Mail AntiSpam Feedback <feedback@arf.mail.yahoo.com>",
        "From: <feedback@hotmail.com>",
    );
    assert_ne!(other, bytes);
    assert_eq!(
        check(&other, &own, &["yahoo.com", "hotmail.com"]).verified,
        None
    );
    // A result inside a comment or a quoted string is text.
    for trick in [
        "mx.node.example.net (dkim=pass header.d=arf.mail.yahoo.com); dkim=none",
        "mx.node.example.net; dkim=fail reason=\"; dkim=pass header.d=arf.mail.yahoo.com\"",
        "evil.test; dkim=pass header.d=arf.mail.yahoo.com",
    ] {
        let forged = format!("Authentication-Results: {trick}\r\n{rest}");
        assert_eq!(
            check(&forged, &own, &["yahoo.com"]).verified,
            None,
            "{trick}"
        );
    }
}

#[test]
fn the_port_decides_who_shared_an_address() {
    let report = report("07-xarf-bare.json");
    assert_eq!(report.source_port, Some(41234));
    let facts = Known {
        seen: vec![
            sighting("bob", Some((NODE, 41234)), "198.51.100.12"),
            sighting("carol", Some((NODE, 41235)), "198.51.100.12"),
        ],
        ..Known::default()
    };
    assert_eq!(
        verdict(&report, &facts, Vouched::No),
        "tenant bob/bob.example".replace("/bob.example", "")
    );
    // Whoever was not seen to leave may have gone anywhere, but not from this port.
    let facts = Known {
        seen: vec![
            sighting("bob", Some((NODE, 41234)), "198.51.100.12"),
            sighting("carol", None, "198.51.100.99"),
        ],
        ..Known::default()
    };
    assert_eq!(verdict(&report, &facts, Vouched::No), "tenant bob");
    // Where two had the port in the time in question, a person decides.
    let facts = Known {
        seen: vec![
            sighting("bob", Some((NODE, 41234)), "198.51.100.12"),
            sighting("carol", Some((NODE, 41234)), "198.51.100.99"),
        ],
        ..Known::default()
    };
    assert!(verdict(&report, &facts, Vouched::No).starts_with("ambiguous"));
    // The same port of another address is none.
    let facts = Known {
        seen: vec![sighting("bob", Some((ALICE, 41234)), "198.51.100.12")],
        ..Known::default()
    };
    assert!(verdict(&report, &facts, Vouched::No).starts_with("ambiguous"));
}

#[test]
fn the_destination_decides_and_the_hour_alone_does_not() {
    let report = report("12-fastmail.eml");
    assert_eq!(report.destination, Some("198.51.100.12".parse().unwrap()));
    let elsewhere = sighting("carol", None, "198.51.100.99");
    let facts = Known {
        seen: vec![sighting("bob", None, "198.51.100.12"), elsewhere.clone()],
        ..Known::default()
    };
    assert_eq!(verdict(&report, &facts, Vouched::Operator), "tenant bob");
    // A stranger may have guessed it.
    let guessed = verdict(&report, &facts, Vouched::No);
    assert!(guessed.starts_with("ambiguous"), "{guessed}");
    let facts = Known {
        seen: vec![
            sighting("bob", None, "198.51.100.12"),
            sighting("carol", None, "198.51.100.12"),
        ],
        ..Known::default()
    };
    assert_eq!(
        verdict(&report, &facts, Vouched::Operator),
        "ambiguous alice/alice.example bob carol"
    );
    // Both went there: the port tells them apart.
    let facts = Known {
        seen: vec![
            sighting("bob", Some((NODE, 41234)), "198.51.100.12"),
            sighting("carol", Some((NODE, 41235)), "198.51.100.12"),
        ],
        ..Known::default()
    };
    let mut exact = report.clone();
    exact.source_port = Some(41235);
    assert_eq!(verdict(&exact, &facts, Vouched::No), "tenant carol");
    exact.source_port = None;
    assert_eq!(
        verdict(&exact, &facts, Vouched::Operator),
        "ambiguous alice/alice.example bob carol"
    );
    let mut vague = report;
    vague.destination = None;
    let facts = Known {
        seen: vec![elsewhere],
        ..Known::default()
    };
    assert_eq!(
        verdict(&vague, &facts, Vouched::Operator),
        "ambiguous alice/alice.example carol"
    );
}

#[test]
fn the_mail_servers_own_log_is_a_proof_and_syslog_is_not() {
    let report = report("05-comcast.eml");
    let facts = |entries| Known {
        log: log_of(entries),
        ..Known::default()
    };
    let alice = facts(vec![entry(Account::Uid(2001), true)]);
    let clear = "tenant alice/alice.example";
    assert_eq!(verdict(&report, &alice, Vouched::No), clear);
    let syslog = facts(vec![entry(Account::Uid(2001), false)]);
    let unclear = "ambiguous alice alice/alice.example";
    assert_eq!(verdict(&report, &syslog, Vouched::Operator), unclear);
    // The log names bob, whatever From says.
    let bob = facts(vec![entry(Account::Uid(2002), true)]);
    assert_eq!(verdict(&report, &bob, Vouched::No), "tenant bob");
    // Two who handed the same message in.
    let mut both = entry(Account::Uid(2001), true);
    both.accounts.insert(Account::Uid(2002));
    assert!(verdict(&report, &facts(vec![both]), Vouched::Operator).starts_with("ambiguous"));
    // It went out at another time: a Message-ID that was used again.
    let mut old = entry(Account::Uid(2001), true);
    old.deliveries[0].time = at("2026-11-19T10:00:03Z");
    assert_eq!(
        verdict(&report, &facts(vec![old]), Vouched::Operator),
        unclear
    );
    let mut partial = alice;
    partial.log.partial = true;
    assert_eq!(verdict(&report, &partial, Vouched::Operator), unclear);
}

#[test]
fn a_copied_message_id_frames_nobody() {
    // A spammer who got a mail of alice's sends spam with its headers from his own server.
    let mut report = report("05-comcast.eml");
    report.source = Some("192.0.2.66".parse().unwrap());
    let facts = Known {
        log: log_of(vec![entry(Account::Uid(2001), true)]),
        seen: vec![sighting("alice", None, "198.51.100.12")],
        ..Known::default()
    };
    let unclear = "ambiguous alice alice/alice.example";
    assert_eq!(verdict(&report, &facts, Vouched::Operator), unclear);
    // The same from a neighbour on this node, directly: the kernel saw him.
    report.source = Some(NODE.parse().unwrap());
    let facts = Known {
        seen: vec![sighting("carol", None, "198.51.100.13")],
        ..facts
    };
    assert_eq!(
        verdict(&report, &facts, Vouched::Operator),
        "ambiguous alice alice/alice.example carol"
    );
}

#[test]
fn forged_hops_frame_nobody() {
    let facts = Known {
        seen: vec![sighting("alice", None, "198.51.100.12")],
        log: log_of(vec![entry(Account::Uid(2001), true)]),
        ..Known::default()
    };
    let forged = report("39-spammer-forged-hops.eml");
    assert_eq!(forged.source, Some("192.0.2.66".parse().unwrap()));
    let unclear = "ambiguous alice alice/alice.example";
    assert_eq!(verdict(&forged, &facts, Vouched::Operator), unclear);
    let internal = report("40-spammer-internal-name.eml");
    assert_eq!(internal.source_from, SourceFrom::Deeper);
    assert_eq!(verdict(&internal, &facts, Vouched::Operator), unclear);
    // What the client called itself is not its address.
    let exim = report("26-exim-received-style.eml");
    assert_eq!(exim.source, Some(ALICE.parse().unwrap()));
}

#[test]
fn foreign_mail_is_nobodys() {
    let mut report = report("28-other-type.eml");
    report.source = Some("192.0.2.1".parse().unwrap());
    report.original = None;
    assert_eq!(
        verdict(&report, &Known::default(), Vouched::Operator),
        "unknown"
    );
}

#[test]
fn owners_come_from_the_policy() {
    let mut policy = testing::policy();
    let located = |text: &str| Located {
        value: text.parse().unwrap(),
        origin: Origin::default(),
    };
    let mut reseller = testing::tenant("reseller");
    reseller.matches.addresses = vec![located("203.0.113.0/28")];
    let mut alice = testing::tenant("alice");
    alice.parent = Some("reseller".into());
    alice.matches.addresses = vec![located("203.0.113.7/32"), located("2001:db8:7::/64")];
    let mut domain = testing::tenant("alice/Alice.example");
    domain.parent = Some("alice".into());
    domain.is_domain = true;
    policy.tenants = vec![reseller, alice, domain];
    policy.node.mta.addresses = vec![NODE.parse().unwrap()];
    let users = [(2001, Some("alice".to_owned()), "alice".to_owned())];
    let owners = Owners::new(&policy, [], &["mx.node.example.".to_owned()], users);
    let tenant = |name: &str| Owner::Tenant(name.into());
    for (address, owner) in [
        (ALICE, tenant("alice")),
        ("::ffff:203.0.113.7", tenant("alice")),
        ("203.0.113.8", tenant("reseller")),
        ("2001:db8:7::9", tenant("alice")),
        (NODE, Owner::Node),
        ("192.0.2.1", Owner::Foreign),
    ] {
        assert_eq!(owners.owner(address.parse().unwrap()), owner, "{address}");
    }
    let domain = Some("alice/Alice.example".to_owned());
    assert_eq!(owners.tenant_of_domain("ALICE.example"), domain);
    let login = Account::Login("bob@alice.example".into());
    assert_eq!(owners.tenant_of_account(&login), domain);
    let alice = Some("alice".to_owned());
    assert_eq!(owners.tenant_of_account(&Account::Uid(2001)), alice);
    assert_eq!(
        owners.tenant_of_account(&Account::User("alice".into())),
        alice
    );
    assert_eq!(owners.tenant_of_account(&Account::Uid(1)), None);
    assert_eq!(owners.parent("alice").as_deref(), Some("reseller"));
    assert!(owners.is_own_name("MX.node.example"));
    assert!(!owners.is_own_name("other"));
}

#[test]
fn the_recorded_history_is_what_the_kernel_saw() {
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions::new(Duration::from_secs(400 * 86_400));
    let store = Store::open(directory.path(), options).unwrap();
    let attempt = |time, moment, tenant: &str, source: Option<&str>, layer| AttemptRecord {
        time: at(time),
        moment,
        tenant: Some(tenant.into()),
        uid: 1,
        pid: 1,
        layer,
        source: source.map(|source| source.parse::<SocketAddr>().unwrap().into()),
        destination: Endpoint {
            address: "198.51.100.12".parse().unwrap(),
            port: Some(25),
        },
        departure: source.is_some() && layer == Uplink,
    };
    for kept in [
        attempt("2026-11-20T09:00:00Z", 1, "early", None, Connect),
        attempt("2026-11-20T10:00:00Z", 2, "bob", None, Connect),
        // Of another attempt, and then bob's own.
        attempt(
            "2026-11-20T10:00:00Z",
            3,
            "bob",
            Some("192.0.2.1:7"),
            Uplink,
        ),
        attempt(
            "2026-11-20T10:00:00Z",
            2,
            "bob",
            Some("192.0.2.1:6"),
            Uplink,
        ),
        attempt(
            "2026-11-20T10:00:01Z",
            4,
            "carol",
            Some("10.0.0.1:5"),
            Guest,
        ),
        attempt("2026-11-20T11:00:00Z", 5, "late", None, Connect),
    ] {
        store.record_attempt(kept);
    }
    assert!(store.flush());
    let facts = NodeFacts {
        owners: Owners::default(),
        history: Reader::new(directory.path()),
        logs: Vec::new(),
    };
    let seen = facts
        .sightings(
            (at("2026-11-20T09:45:04Z"), at("2026-11-20T10:05:04Z")),
            &About::default(),
        )
        .unwrap();
    let found: Vec<_> = seen
        .iter()
        .map(|seen| (seen.tenant.as_deref(), seen.source.map(|it| it.to_string())))
        .collect();
    let from = |source: &str| Some(source.to_owned());
    // An attempt and where it left from are one; what a container calls itself is nobody's address.
    assert_eq!(
        found,
        [
            (Some("bob"), from("192.0.2.1:7")),
            (Some("bob"), from("192.0.2.1:6")),
            (Some("carol"), None),
        ]
    );
    let nowhere = NodeFacts {
        history: Reader::new(Path::new("/nonexistent")),
        ..facts
    };
    assert!(
        nowhere
            .sightings((at(ARRIVAL), at(ARRIVAL)), &About::default())
            .is_ok_and(|seen| seen.is_empty())
    );
}

#[test]
fn what_accuses_nobody_becomes_no_complaint() {
    let moment = crate::offence::Moment(1);
    let counted = |name: &str| report(name).complaint("alice", moment);
    for name in ["18-not-spam.eml", "27-opt-out.eml", "16-rfc6591-dmarc.eml"] {
        assert!(counted(name).is_err(), "{name}");
    }
    let complaint = counted("05-comcast.eml").unwrap();
    assert_eq!(
        (complaint.tenant.as_str(), complaint.format.as_str()),
        ("alice", "arf")
    );
    assert_eq!(complaint.parts.len(), 4);
    assert_eq!(complaint.source, Some(NODE.parse().unwrap()));
    let ids: BTreeMap<String, &str> = ["05-comcast.eml", "35-resent-other-boundary.eml"]
        .iter()
        .map(|name| (report(name).id, *name))
        .collect();
    assert_eq!(
        ids.len(),
        1,
        "sent again with another boundary and Message-ID"
    );
}
