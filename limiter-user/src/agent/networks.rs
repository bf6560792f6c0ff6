//! The ways in and out: which interfaces there are, which programs belong on them, and what the
//! programs are told of them.

use std::collections::BTreeSet;

use limiter_common::{
    owner::Owner,
    settings::flags::{COUNT_EVERYWHERE, NO_UPLINKS},
};
use log::{debug, warn};

use super::state::{State, Trouble};
use crate::{
    kernel::{
        Wanted,
        attach::{Place, Side},
        sync_interfaces,
    },
    policy::model::Policy,
    report::problem::Problem,
    submission::directory,
    system::interfaces::{self, Coverage, Interfaces, resolve},
};

/// What the machine's interfaces ask for.
#[derive(Debug, Default)]
pub struct Networks {
    interfaces: Interfaces,
    coverage: Coverage,
    /// Which interfaces the programs were told to be judged and covered.
    told: (BTreeSet<u32>, BTreeSet<u32>),
    /// Something changed that the gate of the mail server goes by.
    news: bool,
    /// What was said already.
    said: BTreeSet<String>,
}

impl Networks {
    /// Whose the interfaces are, for mail that guests hand in.
    pub fn for_mail(&self, policy: &Policy) -> directory::Interfaces {
        let owners = self.coverage.owners.iter();
        let uplinks = self.coverage.uplinks.iter();
        directory::Interfaces {
            owners: owners
                .filter_map(|(index, tenant)| {
                    Some((*index, policy.tenants.get(*tenant)?.name.clone()))
                })
                .collect(),
            uplinks: uplinks.map(|attach| attach.index).collect(),
            judged: self.told.0.iter().copied().collect(),
        }
    }
}

impl State {
    /// Looks which interfaces there are, and attaches what belongs on them.
    pub fn follow_interfaces(&mut self) {
        match Interfaces::snapshot() {
            Ok(interfaces) => {
                let asked = interfaces::Wanted::of(&self.policy);
                let coverage = resolve(&interfaces, &asked);
                let known = &self.networks.coverage;
                self.networks.news |=
                    coverage.owners != known.owners || coverage.uplinks != known.uplinks;
                self.networks.coverage = coverage;
                self.networks.interfaces = interfaces;
                self.mended(Trouble::Interfaces);
                self.say_coverage();
            }
            Err(error) => self.trouble(
                Trouble::Interfaces,
                Problem::error(
                    format!("the interfaces cannot be listed: {error}"),
                    "what is attached stays; new interfaces are open until this is mended",
                ),
            ),
        }
        self.look_after_layers();
    }

    /// Attaches what is to be attached and is not, lets go of what is not needed any more, mends
    /// what somebody took away, and tells the programs.
    pub fn look_after_layers(&mut self) {
        self.withdraw_claims();
        let wanted = self.wanted_layers();
        // Connect says to the uplink what it let go: before one is there, until the last is gone.
        if !wanted.uplinks.is_empty() {
            self.set_flag(NO_UPLINKS, false, "what the uplinks have to know");
        }
        let outcome = self.kernel.reconcile(&wanted);
        self.say_layers(&outcome);
        let (guests, uplinks) = (outcome.guests(), outcome.uplinks());
        let complete = !uplinks.is_empty() && outcome.layers.iter().all(|layer| layer.attached);
        self.layers = outcome.layers;
        let judged = interfaces::judged(&self.networks.interfaces, &guests, &uplinks);
        let covered = interfaces::covered(&self.networks.interfaces, &uplinks);
        self.tell_programs((judged, covered));
        // Where a layer is missing that would count what containers send, connect counts it.
        self.set_flag(COUNT_EVERYWHERE, !complete, "where connections are counted");
        if wanted.uplinks.is_empty() && uplinks.is_empty() {
            self.set_flag(NO_UPLINKS, true, "that there are no uplinks");
        }
        // Once for all that changed: the gate learns everybody anew.
        if std::mem::take(&mut self.networks.news) {
            self.follow_at_the_gate();
        }
    }

    /// Sets or clears a flag of the node that does not follow from the policy; `what` it says, for
    /// whoever reads that it could not be said.
    fn set_flag(&mut self, flag: u32, on: bool, what: &str) {
        let value = if on { flag } else { 0 };
        let told = self.mirror.set_flags(flag, value, &mut self.kernel);
        if let Err(error) = told {
            warn!("cannot tell the programs {what}: {error}");
        }
    }

    /// What is to be attached.
    fn wanted_layers(&self) -> Wanted {
        let needs = self.mirror.layer_needs(self.coming);
        let place = |attach: &interfaces::Attach| Place {
            index: attach.index,
            name: attach.name.clone(),
            ethernet: attach.ethernet,
            side: match attach.side {
                interfaces::Side::Ingress => Side::Ingress,
                interfaces::Side::Egress => Side::Egress,
            },
        };
        Wanted {
            socket: needs.socket,
            mailbox: self.image.mailbox.is_some(),
            edge: needs.edge
                || self.image.mailbox.is_some()
                || self.image.locks_clients
                || !self.image.blocked.is_empty()
                || (needs.sanctions && !self.image.addresses.is_empty()),
            guests: self.networks.coverage.guests.iter().map(place).collect(),
            uplinks: self.networks.coverage.uplinks.iter().map(place).collect(),
        }
    }

    /// Before anything is detached: nobody may rely on a program that is about to go.
    fn withdraw_claims(&mut self) {
        let coverage = &self.networks.coverage;
        let (judged, covered) = &self.networks.told;
        let kept = (judged & &coverage.judged, covered & &coverage.covered);
        if kept != self.networks.told {
            self.tell_programs(kept);
        }
    }

    /// Lets the programs know whose interfaces are, and what sees their traffic.
    fn tell_programs(&mut self, told: (BTreeSet<u32>, BTreeSet<u32>)) {
        let owners: Vec<(u32, Owner)> = self
            .networks
            .coverage
            .owners
            .iter()
            .filter_map(|(index, tenant)| {
                let tenant = self.policy.tenants.get(*tenant)?;
                let owner = self.mirror.index_of(&tenant.name)?;
                Some((*index, Owner::tenant(owner)))
            })
            .collect();
        let bridged = interfaces::bridged(&self.networks.interfaces, &told.1);
        match sync_interfaces(&mut self.kernel.maps, &owners, &told.0, &told.1, &bridged) {
            Ok(()) => {
                self.networks.news |= self.networks.told.0 != told.0;
                self.networks.told = told;
                self.mended(Trouble::InterfaceMap);
            }
            Err(error) => self.trouble(
                Trouble::InterfaceMap,
                Problem::error(
                    format!("the programs cannot be told whose interfaces are: {error}"),
                    "their traffic is the default's until this is mended; it is tried again \
                     every two seconds",
                ),
            ),
        }
    }

    /// Says what is odd about the interfaces, once.
    fn say_coverage(&mut self) {
        let now: BTreeSet<String> = self
            .networks
            .coverage
            .warnings
            .iter()
            .map(|warning| {
                format!(
                    "{}: {}; {}",
                    warning.origin, warning.problem, warning.advice
                )
            })
            .collect();
        let missing = &self.networks.coverage.missing;
        if missing.is_empty() {
            self.mended(Trouble::Uplinks);
        } else {
            let problem = Problem::error(
                missing.join("; "),
                "what would leave by it is not seen by the uplink layer; it is attached to as soon \
                 as it appears, or name the interfaces that lead out in attach.uplinks",
            );
            self.trouble(Trouble::Uplinks, problem);
        }
        for line in now.difference(&self.networks.said) {
            warn!("{line}");
        }
        self.networks.said = now;
        debug!(
            "guests: {}; uplinks: {}",
            names(&self.networks.coverage.guests),
            names(&self.networks.coverage.uplinks)
        );
    }
}

fn names(attached: &[interfaces::Attach]) -> String {
    attached
        .iter()
        .map(|attach| attach.name.as_str())
        .collect::<Vec<_>>()
        .join(" ")
}
