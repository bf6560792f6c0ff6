//! What holds for the whole node.

use std::time::Duration;

use limiter_common::{
    abi::MAX_CGROUP_DEPTHS,
    sanction,
    settings::{
        PortTable, Settings,
        flags::{BLOCKED, CLAIMS_NETWORKS, COUNTS_MAIL, ENFORCE, EXEMPT, MAILBOX, RECORD_ALLOWED},
    },
    smtp::Factors,
    window,
};

use super::Mirror;
use crate::{
    kernel::{Kernel, KernelError, clock, identities::wire_address},
    policy::{image::Image, model::Estimate},
};

/// The flags that follow from the image. The others belong to whoever sets them, and stay.
const FROM_IMAGE: u32 =
    ENFORCE | CLAIMS_NETWORKS | EXEMPT | RECORD_ALLOWED | COUNTS_MAIL | MAILBOX | BLOCKED;

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
        let kept = kernel.maps.settings.get(0)?;
        let mailbox = image.mailbox;
        let now_s = sanction::seconds(clock::monotonic_ns());
        let wanted = Settings {
            // Those of sanctions are cleared only when it is sure that nobody is under one any more.
            flags: (kept.flags & !FROM_IMAGE) | flags_of(image) | self.sanction_flags(now_s),
            redirect4_port: image.redirect4.map_or(0, |listener| listener.port()),
            redirect6_port: image.redirect6.map_or(0, |listener| listener.port()),
            netns: self.netns,
            scope_id: self.scope.0,
            scope_depth: self.scope.1,
            reserved: 0,
            cgroup_depths: depths,
            observe_until_ns: kept.observe_until_ns,
            // Whatever an earlier agent left there: the programs' clock is this agent's.
            clock_offset_ns: clock::offset_ns(),
            redirect4: image
                .redirect4
                .map_or([0; 16], |listener| wire_address(listener.ip())),
            mailbox_max: mailbox.map_or(0, |limit| limit.max),
            mailbox_width_ns: mailbox
                .map_or(0, |limit| window::width_of(nanoseconds(limit.window))),
            mailbox_lock_ns: mailbox.map_or(0, |limit| nanoseconds(limit.lock)),
            factors: factors_of(&image.estimate),
            redirect6: image
                .redirect6
                .map_or([0; 16], |listener| wire_address(listener.ip())),
        };
        // A program reads while this is written. What a flag stands for is there before the flag,
        // and stays until the flag is gone.
        let flags = kept.flags & wanted.flags;
        let mut now = kept;
        for step in [
            Settings { flags, ..kept },
            Settings { flags, ..wanted },
            wanted,
        ] {
            if step != now {
                kernel.maps.settings.set(0, step)?;
                now = step;
            }
        }
        self.settings = Some(now);
        Ok(())
    }

    /// Says to which part of the cgroup tree everything is attached: the cgroup's id and depth.
    /// Without it, to all of it. Before [`apply`](Self::apply).
    pub fn set_scope(&mut self, id: u64, depth: u32) {
        self.scope = if depth == 0 { (0, 0) } else { (id, depth) };
    }

    /// Lets the programs go by this process's clock ([`clock::offset_ns`]), as every
    /// [`apply`](Self::apply) does.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn write_clock(&mut self, kernel: &mut Kernel) -> Result<(), KernelError> {
        let wanted = Settings {
            clock_offset_ns: clock::offset_ns(),
            ..kernel.maps.settings.get(0)?
        };
        kernel.maps.settings.set(0, wanted)?;
        self.settings = Some(wanted);
        Ok(())
    }

    /// Sets those of the node's flags that are in `mask` to what they are in `value`, and leaves
    /// the others. For flags that do not follow from the policy: those that do, the next
    /// [`apply`](Self::apply) sets again.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn set_flags(
        &mut self,
        mask: u32,
        value: u32,
        kernel: &mut Kernel,
    ) -> Result<(), KernelError> {
        let kept = kernel.maps.settings.get(0)?;
        let flags = (kept.flags & !mask) | (value & mask);
        if flags == kept.flags {
            return Ok(());
        }
        let wanted = Settings { flags, ..kept };
        kernel.maps.settings.set(0, wanted)?;
        self.settings = Some(wanted);
        Ok(())
    }
}

fn flags_of(image: &Image) -> u32 {
    let mut flags = RECORD_ALLOWED;
    for (holds, flag) in [
        (image.enforce, ENFORCE),
        (!image.exempt.is_empty(), EXEMPT),
        (image.counts_mail().contains(&true), COUNTS_MAIL),
        (image.mailbox.is_some() || image.locks_clients, MAILBOX),
        (!image.blocked.is_empty(), BLOCKED),
        (
            !image.interfaces.is_empty() || !image.addresses.is_empty(),
            CLAIMS_NETWORKS,
        ),
    ] {
        if holds {
            flags |= flag;
        }
    }
    flags
}

/// By what the kernel counts messages that it cannot read.
fn factors_of(estimate: &Estimate) -> Factors {
    let Estimate {
        turnarounds_per_message,
        reply_bytes_per_message,
        payload_bytes_per_message,
        free_turnarounds,
        free_reply_bytes,
        blind_turnarounds,
        blind_reply_bytes,
    } = *estimate;
    Factors {
        turnarounds_per_message,
        reply_bytes_shift: reply_bytes_per_message.max(1).ilog2(),
        payload_shift: payload_bytes_per_message.max(1).ilog2(),
        free_turnarounds,
        free_reply_bytes,
        blind_turnarounds,
        blind_reply_bytes,
        reserved: 0,
    }
}

/// Checked policies stay far below 584 years.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_are_the_kernels() {
        assert_eq!(factors_of(&Estimate::default()), Factors::DEFAULT);
        let most = Estimate {
            turnarounds_per_message: 1_000,
            reply_bytes_per_message: 1 << 20,
            payload_bytes_per_message: 1 << 31,
            free_turnarounds: 1_000,
            free_reply_bytes: 1 << 20,
            blind_turnarounds: 1_000,
            blind_reply_bytes: 1 << 20,
        };
        let least = Estimate {
            turnarounds_per_message: 1,
            reply_bytes_per_message: 1 << 4,
            payload_bytes_per_message: 1 << 20,
            free_turnarounds: 0,
            free_reply_bytes: 0,
            blind_turnarounds: 0,
            blind_reply_bytes: 0,
        };
        assert!(factors_of(&most).is_sound() && factors_of(&least).is_sound());
    }
}
