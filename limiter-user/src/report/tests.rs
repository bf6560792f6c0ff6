//! The models as the contract writes them, and their text.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use limiter_common::{
    address::from_v4,
    event::{Event, flags},
    limit::{Kind, Unit},
    verdict::{Layer, Reason, Verdict},
};
use serde_json::{Value, json};

use super::{
    case::RecordStatus,
    duration::Seconds,
    episode::{Episode, Joiner},
    event::{Clock, EventRecord, Names, Process},
    event_text::Lines,
    problem::Problem,
    status::{
        AgentInfo, LayerStatus, Sanction, SanctionStatus, Standing, Status, TenantStatus, Usage,
    },
    status_text::{Style, details, node},
};
use crate::policy::model::Mode;

struct Known;

impl Names for Known {
    fn tenant(&self, index: u32) -> Option<String> {
        match index {
            0 => Some("(node)".into()),
            2 => Some("alice".into()),
            3 => Some("reseller-7".into()),
            _ => None,
        }
    }

    fn cgroup(&self, id: u64) -> Option<String> {
        (id == 77).then(|| "/user.slice".into())
    }

    fn interface(&self, index: u32) -> Option<String> {
        (index == 5).then(|| "tap101i0".into())
    }
}

fn raw() -> Event {
    let mut comm = [0; 16];
    comm[..3].copy_from_slice(b"php");
    Event {
        time_ns: 5_000_000_000,
        repeated: 184,
        total: 184,
        cgroup_id: 77,
        limit_span_ns: 0,
        tenant: 2,
        limit_owner: 0,
        limit_max: 0,
        uid: 2001,
        pid: 4711,
        interface: 0,
        source_port: 0,
        destination_port: 25,
        verdict: Verdict::Denied as u8,
        reason: Reason::DirectSmtp as u8,
        layer: Layer::Connect as u8,
        flags: flags::HAS_TASK,
        limit_unit: 0,
        limit_kind: 0,
        reserved: [0; 6],
        comm,
        source: [0; 16],
        destination: from_v4([203, 0, 113, 5]),
    }
}

fn clock() -> Clock {
    let wall: Timestamp = "2026-11-21T12:03:06Z".parse().unwrap();
    Clock::new(wall, 0)
}

fn record(event: &Event) -> EventRecord {
    EventRecord::new(event, "web-17", clock(), &Known, Process::default())
}

#[test]
fn an_event_has_the_keys_of_the_contract() {
    let value = serde_json::to_value(record(&raw())).unwrap();
    assert_eq!(
        value,
        json!({
            "time": "2026-11-21T12:03:11Z", "node": "web-17", "tenant": "alice",
            "verdict": "denied", "reason": "direct_smtp", "layer": "connect", "uid": 2001,
            "pid": 4711, "comm": "php", "exe": null, "cwd": null, "cgroup": "/user.slice",
            "interface": null, "source": null,
            "destination": {"address": "203.0.113.5", "port": 25},
            "limit": null, "repeated": 184, "estimated": false,
        })
    );
    let back: EventRecord = serde_json::from_value(value).unwrap();
    assert_eq!(back, record(&raw()));
}

#[test]
fn what_a_layer_cannot_know_is_null() {
    let event = Event {
        flags: flags::HAS_SOURCE,
        interface: 5,
        cgroup_id: 0,
        tenant: 99,
        layer: Layer::Guest as u8,
        source: from_v4([10, 0, 0, 7]),
        source_port: 40_000,
        reason: Reason::Limit as u8,
        limit_owner: 3,
        limit_max: 300,
        limit_span_ns: 112_500_000_000,
        ..raw()
    };
    let value = serde_json::to_value(record(&event)).unwrap();
    for key in ["tenant", "uid", "pid", "comm", "exe", "cwd", "cgroup"] {
        assert_eq!(value[key], Value::Null, "{key}");
    }
    assert_eq!(value["interface"], "tap101i0");
    assert_eq!(
        value["source"],
        json!({"address": "10.0.0.7", "port": 40000})
    );
    assert_eq!(
        value["limit"],
        json!({
            "owner": "reseller-7", "unit": "connections", "max": 300, "window": 3600,
            "every": null,
        })
    );
    let pace = Event {
        limit_kind: Kind::Pace as u8,
        limit_unit: Unit::Recipients as u8,
        limit_span_ns: 1_500_000_000,
        ..event
    };
    let value = serde_json::to_value(record(&pace)).unwrap();
    assert_eq!(value["limit"]["every"], 1.5);
    assert_eq!(value["limit"]["window"], Value::Null);
}

#[test]
fn of_a_packet_only_its_socket_is_known() {
    let event = Event {
        flags: flags::HAS_SOCKET | flags::HAS_SOURCE | flags::ESTIMATED,
        layer: Layer::Socket as u8,
        reason: Reason::Suspended as u8,
        tenant: 0,
        pid: 0,
        destination_port: 0,
        source: from_v4([203, 0, 113, 2]),
        ..raw()
    };
    let process = Process {
        exe: Some("/bin/somebody-else".into()),
        cwd: Some("/".into()),
    };
    let record = EventRecord::new(&event, "web-17", clock(), &Known, process);
    let value = serde_json::to_value(record).unwrap();
    assert_eq!(value["tenant"], "(node)");
    assert_eq!(value["uid"], 2001);
    assert_eq!(value["cgroup"], "/user.slice");
    for key in ["pid", "comm", "exe", "cwd"] {
        assert_eq!(value[key], Value::Null, "{key}");
    }
    assert_eq!(value["estimated"], true);
    assert_eq!(
        value["source"],
        json!({"address": "203.0.113.2", "port": null})
    );
    assert_eq!(value["destination"]["port"], Value::Null);
    // What was written before there were estimates.
    let mut old = value;
    old.as_object_mut().unwrap().remove("estimated");
    let old: EventRecord = serde_json::from_value(old).unwrap();
    assert!(!old.estimated);
}

#[test]
fn what_the_kernel_never_says_is_read_strictly() {
    let odd = record(&Event {
        verdict: 200,
        reason: 200,
        layer: 200,
        repeated: 0,
        time_ns: u64::MAX,
        comm: [0xff; 16],
        ..raw()
    });
    assert_eq!(odd.verdict, Verdict::Denied);
    assert_eq!(odd.reason, Reason::Internal);
    assert_eq!(odd.repeated, 1);
    assert_eq!(odd.comm.unwrap().chars().count(), 16);
}

#[test]
fn an_event_is_one_line() {
    let lines = Lines::new(TimeZone::UTC);
    assert_eq!(
        lines.event(&record(&raw())),
        "2026-11-21T12:03:11Z alice denied direct_smtp → 203.0.113.5:25 uid 2001 php(4711) ×184 (1 told)\n"
    );
    let mut limit = record(&Event {
        reason: Reason::Limit as u8,
        limit_owner: 3,
        limit_max: 300,
        limit_span_ns: 112_500_000_000,
        repeated: 1,
        ..raw()
    });
    limit.comm = Some("x\n12:03:12 bob".into());
    limit.time += SignedDuration::from_hours(24);
    assert_eq!(
        lines.event(&limit),
        "2026-11-22T12:03:11Z alice denied limit → 203.0.113.5:25 (300 connections per 1h of \
         reseller-7) uid 2001 x\\u{a}12:03:12 bob(4711)\n",
        "nobody forges a line"
    );
}

#[test]
fn what_went_to_several_ports_is_told_so() {
    let to = |port: u16| {
        record(&Event {
            repeated: 1,
            destination_port: port,
            ..raw()
        })
    };
    let mut joiner = Joiner::default();
    for record in [to(25), to(80), to(80)] {
        joiner.add(record);
    }
    let episodes = joiner.finish();
    let lines = Lines::new(TimeZone::UTC);
    let line = lines.episode(&episodes[0]);
    assert!(line.contains("203.0.113.5:25 (ports 25, 80) uid"), "{line}");
    assert!(line.ends_with("×3\n"), "{line}");
}

#[test]
fn a_run_without_a_minutes_pause_is_one_episode() {
    let at = |seconds: u64, host: u8| {
        record(&Event {
            time_ns: seconds * 1_000_000_000,
            repeated: 10,
            destination: from_v4([203, 0, 113, host]),
            ..raw()
        })
    };
    let mut other = at(30, 1);
    other.tenant = Some("bob".into());
    let mut joiner = Joiner::default();
    for record in [at(0, 1), other, at(59, 2), at(119, 2), at(180, 2)] {
        joiner.add(record);
    }
    let episodes = joiner.finish();
    let told: Vec<_> = episodes
        .iter()
        .map(|e: &Episode| (e.first.tenant.as_deref(), e.first.repeated, e.destinations))
        .collect();
    assert_eq!(
        told,
        [
            (Some("alice"), 30, 2),
            (Some("bob"), 10, 1),
            (Some("alice"), 10, 1)
        ]
    );
    let lines = Lines::new(TimeZone::UTC);
    assert_eq!(
        lines.episode(&episodes[0]),
        "2026-11-21T12:03:06Z for 1m 59s alice denied direct_smtp → 203.0.113.1:25 and 1 more uid 2001 \
         php(4711) ×30 (3 told)\n"
    );
}

fn tenant(name: &str, denied: u64) -> TenantStatus {
    TenantStatus {
        tenant: name.into(),
        parent: Some("reseller-7".into()),
        mode: Mode::Enforce,
        observe_until: None,
        standing: Standing::Good,
        sanction: None,
        until: None,
        usage: vec![
            Usage {
                kind: Kind::Window,
                unit: Unit::Connections,
                max: 300,
                window: Some(Seconds(Duration::from_secs(3600))),
                every: None,
                used: 287,
                free_at: None,
                ports: Vec::new(),
            },
            Usage {
                kind: Kind::Pace,
                unit: Unit::Recipients,
                max: 5,
                window: None,
                every: Some(Seconds(Duration::from_secs(15))),
                used: 1,
                free_at: None,
                ports: Vec::new(),
            },
        ],
        allowed: 1_234_567,
        denied,
        redirected: 0,
        would_deny: 0,
        held_mail: 0,
        sanctions: Vec::new(),
        record: RecordStatus::default(),
    }
}

fn status(tenants: Vec<TenantStatus>) -> Status {
    Status {
        node: "web-17".into(),
        mode: Mode::Enforce,
        observe_until: None,
        healthy: true,
        problems: Vec::new(),
        proposals: Vec::new(),
        bounces: None,
        mailing_lists: None,
        agent: Some(AgentInfo {
            pid: 1,
            since: Timestamp::now(),
            version: "0.1.0".into(),
        }),
        layers: vec![LayerStatus {
            layer: Layer::Connect,
            target: "/sys/fs/cgroup".into(),
            attached: true,
            how: "cgroup link".into(),
        }],
        tenants,
    }
}

fn style(all: bool) -> Style {
    Style {
        zone: TimeZone::UTC,
        all,
    }
}

#[test]
fn a_status_has_the_keys_of_the_contract() {
    let value = serde_json::to_value(status(vec![tenant("alice", 3)])).unwrap();
    for key in ["node", "mode", "healthy", "problems", "layers", "tenants"] {
        assert!(!value[key].is_null(), "{key}");
    }
    assert_eq!(
        value["layers"][0],
        json!({
            "layer": "connect", "target": "/sys/fs/cgroup", "attached": true, "how": "cgroup link"
        })
    );
    let alice = &value["tenants"][0];
    assert_eq!(alice["standing"], "good");
    assert_eq!(alice["mode"], "enforce");
    for key in ["sanction", "until"] {
        assert!(alice.as_object().unwrap().contains_key(key), "{key}");
        assert!(alice[key].is_null(), "{key}");
    }
    for key in [
        "tenant",
        "parent",
        "allowed",
        "denied",
        "redirected",
        "would_deny",
    ] {
        assert!(!alice[key].is_null(), "{key}");
    }
    let usage = &alice["usage"][0];
    assert_eq!(usage["unit"], "connections");
    assert_eq!(
        (&usage["max"], &usage["window"]),
        (&json!(300), &json!(3600))
    );
    assert_eq!(usage["used"], 287);
    let pace = &alice["usage"][1];
    assert_eq!(
        (&pace["kind"], &pace["every"]),
        (&json!("pace"), &json!(15))
    );
    assert!(pace["window"].is_null());
    let mut other = tenant("bob", 0);
    other.sanction = Some(Sanction::BlockSmtp);
    assert_eq!(
        serde_json::to_value(other).unwrap()["sanction"],
        "block_smtp"
    );
}

#[test]
fn many_tenants_fit_a_screen_most_refused_first() {
    let mut tenants: Vec<_> = (0..100_000)
        .map(|n| tenant(&format!("customer-{n}-with-a-long-name.example"), n))
        .collect();
    tenants[500].denied = 10_000_000_000;
    tenants[500].standing = Standing::Suspended;
    let text = node(&status(tenants), &style(false));
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() < 32, "{text}");
    assert!(lines.iter().all(|l| l.chars().count() <= 80), "{text}");
    let first = lines.iter().position(|l| l.starts_with("TENANT")).unwrap() + 1;
    assert!(lines[first].contains("SUSPENDED"), "{text}");
    assert!(lines[first].contains("10.0G"), "{text}");
    assert!(lines[first + 1].contains("9999"), "{text}");
    assert!(lines[first].contains("287/300 conn 1h"), "{text}");
    assert_eq!(
        *lines.last().unwrap(),
        "… and 99980 more tenants (--all, --json)"
    );
}

#[test]
fn problems_come_first_worst_first_with_the_remedy() {
    let mut status = status(Vec::new());
    status.add_problem(Problem::warning("user bob does not exist", ""));
    assert!(status.healthy, "a warning is no illness");
    status.add_problem(Problem::error("the files are bad", "limiter check"));
    assert!(!status.healthy);
    let text = node(&status, &style(false));
    assert!(
        text.starts_with(
            "!! the files are bad\n   do: limiter check\n - user bob does not exist\n\n\
             web-17: enforce, UNHEALTHY\n"
        ),
        "{text}"
    );
}

#[test]
fn one_tenant_is_told_whole() {
    let mut alice = tenant("alice", 3);
    alice.sanction = Some(Sanction::SuspendMail);
    alice.standing = Standing::Suspended;
    alice.sanctions = vec![
        SanctionStatus {
            sanction: Sanction::SuspendMail,
            until: None,
            from: Some("reseller-7".into()),
        },
        SanctionStatus {
            sanction: Sanction::BlockSmtp,
            until: None,
            from: None,
        },
    ];
    let text = details(&status(vec![alice]), &style(false));
    assert_eq!(
        text,
        "alice (customer of reseller-7): enforce, standing suspended\n  \
         sanction suspend_mail without end, inherited from reseller-7\n  \
         sanction block_smtp without end\n  \
         1234567 allowed, 3 denied, 0 redirected, 0 would have been denied\n  \
         300 connections per 1h: 287 used\n  \
         1 of recipients every 15s, 5 at once: 1 used\n"
    );
}

#[test]
fn many_places_of_a_layer_are_one_line_and_what_is_missing_is_named() {
    let mut status = status(vec![]);
    let at = |layer, target: String, attached| LayerStatus {
        layer,
        target,
        attached,
        how: "TCX".into(),
    };
    let guests = (0..50).map(|n| at(Layer::Guest, format!("veth{n}"), n != 7 && n != 9));
    status.layers.extend(guests);
    status.layers.push(at(Layer::Uplink, "eth0".into(), true));
    let text = node(&status, &style(false));
    let layers: Vec<&str> = text
        .lines()
        .skip_while(|line| !line.starts_with("LAYER"))
        .take_while(|line| !line.is_empty())
        .collect();
    assert_eq!(
        layers,
        [
            "LAYER    ATTACHED  HOW         WHERE",
            "guest    NO, 2     TCX         veth7, veth9",
            "connect  yes       cgroup link /sys/fs/cgroup",
            "guest    yes, 48   TCX         veth0, veth1, veth2, veth3, veth4 and 43 more",
            "uplink   yes       TCX         eth0",
        ]
    );
    let all = node(&status, &style(true));
    for n in 0..50 {
        assert!(all.contains(&format!("veth{n}")), "{all}");
    }
    assert!(all.lines().all(|line| line.chars().count() <= 80), "{all}");
}
