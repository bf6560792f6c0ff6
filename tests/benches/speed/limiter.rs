//! limiter: its own programs, and a policy of limits for each account.

use limiter_common::settings::flags::NO_UPLINKS;
use limiter_user::{
    kernel::{
        Needs, Wanted,
        attach::{Place, Side},
    },
    policy::{
        image::{Holder, Image, ImageLimit, NODE_NAME, UidBinding},
        model::UidRange,
    },
};

use nix::net::if_::if_nametoindex;

use crate::{
    accounts::Accounts,
    contender::Contender,
    foreign::{self, CONNECT4, CONNECT6},
    images::{Draft, HOUR, window},
    lab::Lab,
    net::{Bench, Net},
    report::LIMITER,
};

/// What nobody comes to, in an hour.
pub const MOST: u32 = 1_000_000;

/// The connect layer with one limit for each account, loaded, and attached elsewhere.
pub fn contender(bench: &Bench, accounts: Accounts) -> Contender {
    with_layers(LIMITER, bench, accounts, false)
}

/// The same, and the uplink layer where packets go out, to which connect says what it let go.
pub fn with_uplink(bench: &Bench, accounts: Accounts) -> Contender {
    with_layers("limiter, uplink too", bench, accounts, true)
}

fn with_layers(name: &'static str, bench: &Bench, accounts: Accounts, uplink: bool) -> Contender {
    let net = Net::new();
    net.go();
    let mut lab = loaded(accounts, 1);
    lab.apply(&image(accounts, &limits(1, MOST)));
    let cgroup = lab.cgroup().to_owned();
    lab.kernel().attach(&cgroup).unwrap();
    if uplink {
        let wanted = Wanted {
            uplinks: vec![Place {
                index: if_nametoindex("v0").unwrap(),
                name: "v0".to_owned(),
                ethernet: true,
                side: Side::Egress,
            }],
            ..Wanted::default()
        };
        let outcome = lab.kernel().reconcile(&wanted);
        assert_eq!(outcome.uplinks().len(), 1, "{outcome:?}");
    } else {
        // As the agent does where nothing leads out.
        let (mirror, kernel) = lab.both();
        mirror.set_flags(NO_UPLINKS, NO_UPLINKS, kernel).unwrap();
    }
    let pair = [CONNECT4, CONNECT6].map(|hook| foreign::cgroup_program(&cgroup, hook));
    // The lab holds the policy.
    Contender::at_connect(name, bench, net, true, (pair, Box::new(lab)))
}

/// A lab with room for so many accounts with so many limits each, and none yet.
pub fn loaded(accounts: Accounts, limits: usize) -> Lab {
    let mut lab = Lab::new();
    let needs = Needs {
        tenants: accounts.count + 2,
        slots: accounts.count * limits.next_power_of_two(),
    };
    lab.load(needs).unwrap();
    lab
}

/// So many limits: the first in an hour, each other in twice the time of the one before.
pub fn limits(count: usize, max: u32) -> Vec<ImageLimit> {
    (0..count).map(|at| window(max, HOUR << at)).collect()
}

/// Each account may connect within its limits; nobody else may.
pub fn image(accounts: Accounts, limits: &[ImageLimit]) -> Image {
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
        draft = draft.tenant(&format!("account{uid}"), NODE_NAME, limits);
    }
    draft.0
}
