//! Running the command program: the only way in which the agent changes what the kernel counts in.

use aya::{
    TestRun as _,
    programs::{ProgramError, TestRunOptions},
};
use limiter_common::{
    abi::programs,
    command::{Command, SlotChange, op, status},
    limit::{BLOCK_SLOTS, Unit},
    sanction::Sanctions,
    tenant::Tenant,
    verdict::PortGroup,
};

use super::{Kernel, KernelError, calls, load::loaded_classifier};

/// A command with nothing in it.
const EMPTY: Command = Command {
    op: 0,
    target: 0,
    argument: 0,
    kind: 0,
    until_ns: 0,
    tenant: Tenant {
        generation: 0,
        lock: 0,
        parent: 0,
        limit_set: 0,
        block: 0,
        first_slot: 0,
        flags: 0,
        direct_smtp: 0,
        submission: 0,
        exempt_set: 0,
        reserved: [0; 3],
        observe_until_ns: 0,
        sanctions: Sanctions::NONE,
    },
    slots: [SlotChange::CLEARED; BLOCK_SLOTS],
    slot_count: 0,
};

impl Kernel {
    /// Writes the policy of the tenant at `index`, and makes its slots fit. `false` if a state that
    /// was converted for `slots` got a new bucket since it was read, or the kernel's clock is past
    /// `until_ns`, the moment it was converted for: nothing was done then.
    ///
    /// # Errors
    ///
    /// An index is out of range.
    pub fn set_tenant(
        &mut self,
        index: u32,
        tenant: &Tenant,
        slots: &[SlotChange],
        until_ns: u64,
    ) -> Result<bool, KernelError> {
        let mut command = Command {
            op: op::SET_TENANT,
            target: index,
            until_ns,
            tenant: *tenant,
            slot_count: slots.len() as u64,
            ..EMPTY
        };
        for (place, change) in command.slots.iter_mut().zip(slots) {
            *place = *change;
        }
        match self.run(&command)? {
            status::DONE => Ok(true),
            status::CHANGED => Ok(false),
            code => Err(refusal("write a tenant's policy", code)),
        }
    }

    /// Lets the lock at `with` take the place of the one at `gives_way`.
    ///
    /// # Errors
    ///
    /// An index is out of range.
    pub fn merge_locks(&mut self, gives_way: u32, with: u32) -> Result<(), KernelError> {
        let command = Command {
            op: op::MERGE_LOCKS,
            target: gives_way,
            argument: with,
            ..EMPTY
        };
        self.done("join two trees' locks", &command)
    }

    /// Sets until which moment of the kernel's clock a tenant is only observed.
    ///
    /// # Errors
    ///
    /// There is no such tenant.
    pub fn set_observe(&mut self, index: u32, until_ns: u64) -> Result<(), KernelError> {
        let command = Command {
            op: op::SET_OBSERVE,
            target: index,
            until_ns,
            ..EMPTY
        };
        self.done("observe a tenant", &command)
    }

    /// Writes the sanctions in force for the tenant at `index`.
    ///
    /// # Errors
    ///
    /// There is no such tenant.
    pub fn set_sanctions(&mut self, index: u32, sanctions: Sanctions) -> Result<(), KernelError> {
        let mut command = Command {
            op: op::SET_SANCTIONS,
            target: index,
            ..EMPTY
        };
        command.tenant.sanctions = sanctions;
        self.done("sanction a tenant", &command)
    }

    /// Notes down that the refusals of the tenant at `index` were told up to `total`.
    ///
    /// # Errors
    ///
    /// The index is out of range.
    pub fn set_told(&mut self, index: u32, total: u64) -> Result<(), KernelError> {
        let command = Command {
            op: op::TOLD,
            target: index,
            until_ns: total,
            ..EMPTY
        };
        self.done("note down what was told", &command)
    }

    /// Decides and counts `units` for the tenant at `index`, as a layer would: whether they were
    /// admitted, and if so counted in all limits of the tenant and its ancestors. Any number of
    /// threads may do so at once: the kernel's lock orders them.
    ///
    /// # Errors
    ///
    /// There is no such tenant.
    pub fn charge(
        &self,
        index: u32,
        unit: Unit,
        group: PortGroup,
        units: u32,
    ) -> Result<bool, KernelError> {
        let kind = u32::from(unit as u8) | u32::from(group as u8) << 8;
        let command = Command {
            op: op::CHARGE,
            target: index,
            argument: units,
            kind,
            ..EMPTY
        };
        match self.run(&command)? {
            status::DONE => Ok(true),
            status::REFUSED => Ok(false),
            code => Err(refusal("charge a tenant", code)),
        }
    }

    fn done(&self, action: &'static str, command: &Command) -> Result<(), KernelError> {
        match self.run(command)? {
            status::DONE => Ok(()),
            code => Err(refusal(action, code)),
        }
    }

    fn run(&self, command: &Command) -> Result<u32, KernelError> {
        let program = loaded_classifier(&self.ebpf, programs::COMMAND)?;
        // SAFETY: a `#[repr(C)]` structure of integers without padding: all bytes are initialised.
        let bytes = unsafe {
            std::slice::from_raw_parts(
                std::ptr::from_ref(command).cast::<u8>(),
                size_of::<Command>(),
            )
        };
        calls::count();
        let mut options = TestRunOptions::new();
        options.data_in = Some(bytes);
        let result = program
            .test_run(options)
            .map_err(|error: ProgramError| KernelError::program(programs::COMMAND)(error))?;
        Ok(result.return_value)
    }
}

fn refusal(action: &'static str, code: u32) -> KernelError {
    let reason = match code {
        status::MALFORMED => "the command is malformed".to_owned(),
        status::OUT_OF_RANGE => "an index is out of range".to_owned(),
        status::NO_TENANT => "there is no such tenant".to_owned(),
        status::CONTENDED => "its policy kept changing".to_owned(),
        other => format!("status {other}"),
    };
    KernelError::Command { action, reason }
}
