//! limiter: its own programs, and a policy of one limit for each account.

use std::time::Instant;

use limiter_user::{
    kernel::Needs,
    policy::{
        image::{Holder, Image, NODE_NAME, UidBinding},
        model::UidRange,
    },
};

use crate::{
    accounts::Accounts,
    contender::Contender,
    foreign::{self, CONNECT4},
    images::{Draft, HOUR, window},
    lab::Lab,
    net::{Bench, Net},
    report::Report,
};

/// The connect layer, loaded, and attached elsewhere.
pub fn load(bench: &Bench, accounts: Accounts, report: &mut Report) -> Contender {
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
    // The lab holds the policy.
    Contender::at_connect("limiter", bench, net, true, (program, Box::new(lab)))
}

/// Each account may connect, up to a limit that it never comes to; nobody else may.
fn image(accounts: Accounts) -> Image {
    let limit = window(1_000_000, HOUR);
    let mut draft = Draft::new();
    for uid in accounts.uids() {
        // Added here, for the draft would look all of them through for the name.
        draft.0.uids.push(UidBinding {
            range: UidRange {
                first: uid,
                last: uid,
            },
            holder: Holder::Tenant(draft.0.tenants.len()),
            by: format!("uids {uid}"),
        });
        draft = draft.tenant(&format!("account{uid}"), NODE_NAME, &[limit]);
    }
    draft.0
}
