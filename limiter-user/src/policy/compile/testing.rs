//! Policies made by hand, for tests.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
    time::Duration,
};

use crate::policy::{
    bounces::Bounces,
    complaints::Complaints,
    mailman::Mailman,
    model::{
        Blocked, Estimate, Located, Match, Mode, Mta, Node, Origin, Places, Policy, Ports,
        Retention, Rules, Tenant,
    },
    notices::Notices,
    services::{ServicePlaces, Services},
};

/// A policy that says nothing: observe, the default ports, no tenants.
pub(crate) fn policy() -> Policy {
    Policy {
        node: Node {
            name: "node".to_owned(),
            mode: Mode::Observe,
            mta: Mta {
                users: Some(Vec::new()),
                listen: Vec::new(),
                addresses: Vec::<IpAddr>::new(),
            },
            ports: Ports {
                smtp: vec![25],
                submission: vec![465, 587],
                mailbox: vec![110, 143, 993, 995],
            },
            limits: Vec::new(),
            exempt: Vec::new(),
            management: Vec::new(),
            blocked: Blocked::default(),
            mailbox: None,
            mailbox_accounts: None,
            mailbox_exempt: Vec::new(),
            estimate: Estimate::default(),
            notices: Notices::default(),
            complaints: Complaints::default(),
            bounces: Bounces::default(),
            mailman: Mailman::default(),
            services: Services::default(),
            retention: Retention {
                events: Duration::from_secs(1),
                cases: Duration::from_secs(1),
                max_disk: Retention::default_max_disk(),
            },
            policies: BTreeSet::new(),
        },
        places: Places {
            config: PathBuf::from("/etc/limiter/limiter.yaml"),
            cgroup: PathBuf::from("/"),
            uplinks: None,
            guests: Vec::new(),
            tenants: "/etc/limiter/tenants.d/*.yaml".to_owned(),
            state_dir: PathBuf::from("/var/lib/limiter"),
            pin_dir: PathBuf::from("/sys/fs/bpf/limiter"),
            control: PathBuf::from("/run/limiter/control.sock"),
            services: ServicePlaces::default(),
        },
        accounts: None,
        default: Rules::default(),
        tenants: Vec::new(),
        ladders: BTreeMap::new(),
    }
}

/// A tenant that claims nothing. Its file is named after it.
pub(crate) fn tenant(name: &str) -> Tenant {
    Tenant {
        name: name.to_owned(),
        parent: None,
        plan: None,
        mode: None,
        contact: Vec::new(),
        matches: Match::default(),
        rules: Rules::default(),
        policies: BTreeSet::new(),
        is_domain: false,
        origin: Origin {
            file: PathBuf::from(format!("{name}.yaml")).into(),
            line: 1,
            column: 1,
        },
    }
}

/// A value somewhere.
pub(crate) fn located<T>(value: T) -> Located<T> {
    located_at(value, "tenants.yaml", 1)
}

/// A value at a place.
pub(crate) fn located_at<T>(value: T, file: &str, line: usize) -> Located<T> {
    Located {
        value,
        origin: Origin {
            file: PathBuf::from(file).into(),
            line,
            column: 3,
        },
    }
}
