//! The ways in and out: which interfaces there are, which programs belong on them, and what the
//! programs are told of them.

use std::collections::{BTreeMap, BTreeSet};

use limiter_common::{
    flow::{InterfaceInfo, interface_flags},
    owner::Owner,
    settings::flags::COUNT_EVERYWHERE,
};
use log::{debug, warn};

use super::state::{State, Trouble};
use crate::{
    kernel::{
        Wanted,
        attach::{Place, Side},
    },
    report::problem::Problem,
    system::interfaces::{self, Coverage, Interfaces, resolve},
};

/// What the machine's interfaces ask for.
#[derive(Debug, Default)]
pub struct Networks {
    interfaces: Interfaces,
    coverage: Coverage,
    /// What stands in the kernel.
    written: Option<BTreeMap<u32, InterfaceInfo>>,
    /// What was said already.
    said: BTreeSet<String>,
}

impl State {
    /// Looks which interfaces there are, and attaches what belongs on them.
    pub fn follow_interfaces(&mut self) {
        match Interfaces::snapshot() {
            Ok(interfaces) => {
                let asked = interfaces::Wanted::of(&self.policy);
                self.networks.coverage = resolve(&interfaces, &asked);
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
        let outcome = self.kernel.reconcile(&wanted);
        self.say_layers(&outcome);
        let (guests, uplinks) = (outcome.guests(), outcome.uplinks());
        let complete = !uplinks.is_empty() && outcome.layers.iter().all(|layer| layer.attached);
        self.layers = outcome.layers;
        let judged = interfaces::judged(&self.networks.interfaces, &guests, &uplinks);
        let covered = interfaces::covered(&self.networks.interfaces, &uplinks);
        self.tell_programs(&judged, &covered);
        // Where a layer is missing that would count what containers send, connect counts it.
        let value = if complete { 0 } else { COUNT_EVERYWHERE };
        let told = self
            .mirror
            .set_flags(COUNT_EVERYWHERE, value, &mut self.kernel);
        if let Err(error) = told {
            warn!("cannot say where connections are counted: {error}");
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
                || !self.image.blocked.is_empty()
                || (needs.sanctions && !self.image.addresses.is_empty()),
            guests: self.networks.coverage.guests.iter().map(place).collect(),
            uplinks: self.networks.coverage.uplinks.iter().map(place).collect(),
        }
    }

    /// Before anything is detached or reattached: nobody may rely on an interface's program of
    /// which it is not sure that it stays.
    fn withdraw_claims(&mut self) {
        let coverage = &self.networks.coverage;
        let judged = coverage.judged.clone();
        let covered = coverage.covered.clone();
        let Some(written) = self.networks.written.clone() else {
            return;
        };
        for (index, mut info) in written {
            let mut flags = info.flags;
            if !judged.contains(&index) {
                flags &= !interface_flags::JUDGED;
            }
            if !covered.contains(&index) {
                flags &= !interface_flags::COVERED;
            }
            if flags != info.flags {
                info.flags = flags;
                self.write_interface(index, info);
            }
        }
    }

    /// Lets the programs know whose interfaces are, and what sees their traffic.
    fn tell_programs(&mut self, judged: &BTreeSet<u32>, covered: &BTreeSet<u32>) {
        if self.networks.written.is_none() {
            match self.kernel.maps.interfaces.entries() {
                Ok(entries) => self.networks.written = Some(entries.into_iter().collect()),
                Err(error) => {
                    warn!("cannot read what is known of interfaces: {error}");
                    return;
                }
            }
        }
        let mut wanted: BTreeMap<u32, InterfaceInfo> = BTreeMap::new();
        for (index, tenant) in &self.networks.coverage.owners {
            let name = self.policy.tenants.get(*tenant).map(|tenant| &tenant.name);
            if let Some(owner) = name.and_then(|name| self.mirror.index_of(name)) {
                wanted.entry(*index).or_default().owner = Owner::tenant(owner).to_wire();
            }
        }
        for index in judged {
            wanted.entry(*index).or_default().flags |= interface_flags::JUDGED;
        }
        for index in covered {
            wanted.entry(*index).or_default().flags |= interface_flags::COVERED;
        }
        let written = self.networks.written.clone().unwrap_or_default();
        for (index, info) in &wanted {
            if written.get(index) != Some(info) {
                self.write_interface(*index, *info);
            }
        }
        for index in written.keys().filter(|index| !wanted.contains_key(index)) {
            match self.kernel.maps.interfaces.remove(index) {
                Ok(()) => {
                    if let Some(written) = &mut self.networks.written {
                        written.remove(index);
                    }
                }
                Err(error) => warn!("cannot forget interface {index}: {error}"),
            }
        }
    }

    fn write_interface(&mut self, index: u32, info: InterfaceInfo) {
        match self.kernel.maps.interfaces.insert(index, info) {
            Ok(()) => {
                if let Some(written) = &mut self.networks.written {
                    written.insert(index, info);
                }
            }
            Err(error) => self.trouble(
                Trouble::Interfaces,
                Problem::error(
                    format!("interface {index} cannot be told to the programs: {error}"),
                    "its traffic is the default's until this is mended; it is tried again every \
                     two seconds",
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
            .map(ToString::to_string)
            .collect();
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
