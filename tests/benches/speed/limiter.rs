//! limiter: its own programs, and a policy of one limit for each account.

use std::{cell::RefCell, os::fd::OwnedFd, time::Instant};

use limiter_common::{
    limit::{Kind, Unit},
    verdict::{Permission, PortGroup},
};
use limiter_user::{
    kernel::Needs,
    policy::{
        image::{DEFAULT_NAME, Holder, Image, ImageLimit, ImageTenant, NODE_NAME, UidBinding},
        model::{Estimate, UidRange},
        prefix_set::PrefixSet,
    },
};

use crate::{
    accounts::Accounts,
    foreign::{self, CONNECT4},
    lab::Lab,
    net::{Bench, Net},
    report::Report,
    rounds::Contender,
};

/// The connect layer, loaded and not attached.
pub struct Limiter {
    net: Net,
    program: OwnedFd,
    cgroup: std::path::PathBuf,
    /// Holds the policy.
    _lab: RefCell<Lab>,
}

impl Limiter {
    pub fn load(bench: &Bench, accounts: Accounts, report: &mut Report) -> Self {
        let net = Net::new();
        net.go();
        let mut lab = Lab::new();
        let needs = Needs {
            tenants: accounts.count + 2,
            slots: accounts.count,
        };
        lab.load(needs).unwrap();
        let image = image(accounts);
        let start = Instant::now();
        lab.apply(&image);
        report.loaded("limiter", accounts, start.elapsed());
        let cgroup = lab.cgroup().to_owned();
        lab.kernel().attach(&cgroup).unwrap();
        let program = foreign::cgroup_program(&cgroup, CONNECT4);
        Self {
            net,
            program,
            cgroup: bench.cgroup().directory().to_owned(),
            _lab: RefCell::new(lab),
        }
    }
}

impl Contender for Limiter {
    fn name(&self) -> &'static str {
        "limiter"
    }

    fn net(&self) -> &Net {
        &self.net
    }

    fn at_work(&self, work: &mut dyn FnMut()) {
        let _link = foreign::attach_cgroup(&self.program, &self.cgroup, CONNECT4);
        work();
    }

    fn refuses(&self) -> bool {
        true
    }
}

/// Each account may connect, up to a limit that it never comes to; nobody else may.
fn image(accounts: Accounts) -> Image {
    let limit = ImageLimit {
        unit: Unit::Connections,
        kind: Kind::Window,
        max: 1_000_000,
        span_ns: 3_600_000_000_000,
        groups: PortGroup::Smtp.bit(),
    };
    let tenant = |name: &str, parent, direct_smtp, limits| ImageTenant {
        name: name.to_owned(),
        parent,
        enforce: true,
        direct_smtp,
        submission: Permission::Allow,
        exempt: Vec::new(),
        limits,
    };
    let mut tenants = vec![
        tenant(NODE_NAME, None, Permission::Allow, Vec::new()),
        tenant(DEFAULT_NAME, Some(0), Permission::Block, Vec::new()),
    ];
    let mut uids = Vec::with_capacity(accounts.count);
    for uid in accounts.uids() {
        uids.push(UidBinding {
            range: UidRange {
                first: uid,
                last: uid,
            },
            holder: Holder::Tenant(tenants.len()),
            by: format!("uids {uid}"),
        });
        let name = format!("account{uid}");
        tenants.push(tenant(&name, Some(0), Permission::Allow, vec![limit]));
    }
    Image {
        enforce: true,
        redirect4: None,
        redirect6: None,
        ports: vec![(25, PortGroup::Smtp)],
        exempt: Vec::new(),
        own_addresses: Vec::new(),
        tenants,
        uids,
        cgroups: Vec::new(),
        addresses: Vec::new(),
        interfaces: Vec::new(),
        management: Vec::new(),
        blocked: PrefixSet::default(),
        mailbox: None,
        locks_clients: false,
        estimate: Estimate::default(),
    }
}
