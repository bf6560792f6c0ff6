//! What holds for the whole node.

use limiter_common::{
    abi::MAX_CGROUP_DEPTHS,
    settings::{self, PortTable, Settings},
};

use super::Mirror;
use crate::{
    kernel::{Kernel, KernelError, identities::wire_address},
    policy::image::Image,
};

impl Mirror {
    /// Writes what holds for the whole node, if it changed.
    pub(super) fn write_settings(
        &mut self,
        image: &Image,
        depths: [u8; MAX_CGROUP_DEPTHS],
        kernel: &mut Kernel,
    ) -> Result<(), KernelError> {
        let ports: Vec<(u16, u8)> = image
            .ports
            .iter()
            .map(|(port, group)| (*port, *group as u8))
            .collect();
        if ports != self.ports {
            let mut table = Box::new(PortTable::EMPTY);
            for (port, group) in &ports {
                table.groups[usize::from(*port)] = *group;
            }
            kernel.maps.ports.set(0, *table)?;
            self.ports = ports;
        }
        let mut flags = settings::flags::COUNT_EVERYWHERE | settings::flags::RECORD_ALLOWED;
        if image.enforce {
            flags |= settings::flags::ENFORCE;
        }
        if !image.exempt.is_empty() {
            flags |= settings::flags::EXEMPT;
        }
        let kept = kernel.maps.settings.get(0)?;
        let wanted = Settings {
            flags,
            redirect4_port: image.redirect4.map_or(0, |listener| listener.port()),
            redirect6_port: image.redirect6.map_or(0, |listener| listener.port()),
            netns: self.netns,
            cgroup_depths: depths,
            observe_until_ns: kept.observe_until_ns,
            redirect4: image
                .redirect4
                .map_or([0; 16], |listener| wire_address(listener.ip())),
            mailbox_max: kept.mailbox_max,
            mailbox_width_ns: kept.mailbox_width_ns,
            mailbox_lock_ns: kept.mailbox_lock_ns,
            factors: kept.factors,
            redirect6: image
                .redirect6
                .map_or([0; 16], |listener| wire_address(listener.ip())),
        };
        if self.settings != Some(wanted) {
            kernel.maps.settings.set(0, wanted)?;
            self.settings = Some(wanted);
        }
        Ok(())
    }
}
