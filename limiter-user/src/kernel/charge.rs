//! Counting mail that enters through the node's own mail server: by running the kernel's own decision,
//! under its locks, so that what goes out directly and what goes through the mail server are one
//! budget.

use std::{
    net::SocketAddr,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    time::Duration,
};

use aya_obj::generated::bpf_cmd;
use limiter_common::{
    abi::{NOBODY, programs},
    charge::{Charge, decision, flags, op, status},
    limit::{Kind, Unit},
    verdict::Reason,
    window,
};

use super::{Kernel, KernelError, identities::wire_address, load, sys};
use crate::report::duration::Seconds;

/// Runs the charge program. Any number of threads may do so at once: the kernel's locks order them.
#[derive(Debug)]
pub struct Charger {
    program: OwnedFd,
}

/// Mail that somebody wants to send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// So many messages.
    pub messages: u32,
    /// To so many recipients.
    pub recipients: u32,
}

/// Who sends it, as far as it is known, for what is told of a refusal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct From {
    /// The uid.
    pub uid: Option<u32>,
    /// The client's address and port.
    pub client: Option<SocketAddr>,
}

/// What was counted, to be given back if the mail does not go out after all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt(Charge);

/// The limit that is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// The tenant that has it: the one that asked, an ancestor or the node.
    pub owner: u32,
    /// What it counts.
    pub unit: Unit,
    /// A window, or a pace.
    pub kind: Kind,
    /// The most in a window, or at once.
    pub max: u32,
    /// The width of a bucket, or the interval, ns.
    pub span_ns: u64,
}

/// Why mail is refused, or would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// The limit, where it was one.
    pub full: Option<Full>,
    /// When, ns of the kernel's clock.
    pub at_ns: u64,
}

/// What the kernel says to mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charged {
    /// It may go, and is counted; with why it might not, if it were not only observed.
    Counted(Receipt, Option<Refusal>),
    /// It may not go, and nothing was counted.
    Refused(Refusal),
}

impl Full {
    /// `300 recipients in 1h`, `1 message every 15s`.
    #[must_use]
    pub fn in_words(&self) -> String {
        let unit = self.unit.as_str();
        let unit = if self.max == 1 {
            unit.trim_end_matches('s')
        } else {
            unit
        };
        let time = |ns: u64| Seconds::from_nanos(ns);
        match self.kind {
            Kind::Window => format!(
                "{} {unit} in {}",
                self.max,
                time(window::window_of(self.span_ns))
            ),
            Kind::Pace => format!("{} {unit} every {}", self.max, time(self.span_ns)),
        }
    }
}

impl Receipt {
    /// Takes at most so many recipients out of it, to be given back by themselves: their receipt, and
    /// how many there are. The message itself stays in this one.
    pub fn split(&mut self, most: u32) -> (Self, u32) {
        let mut part = self.0;
        part.messages = 0;
        part.message_levels = 0;
        part.recipients = most.min(self.0.recipients);
        self.0.recipients -= part.recipients;
        (Self(part), part.recipients)
    }
}

impl Kernel {
    /// Whoever counts mail of the node's own mail server.
    ///
    /// # Errors
    ///
    /// The process has too many descriptors.
    pub fn charger(&self) -> Result<Charger, KernelError> {
        let program = load::loaded_classifier(&self.ebpf, programs::CHARGE)?;
        let failed = KernelError::program(programs::CHARGE);
        let descriptor = program.fd().map_err(failed)?;
        let program = descriptor.as_fd().try_clone_to_owned();
        let program = program.map_err(|source| KernelError::Syscall {
            call: "dup",
            source,
        })?;
        Ok(Charger { program })
    }
}

impl Charger {
    /// Counts mail of the tenant at `index`, if all its limits, and those above it, admit it.
    ///
    /// # Errors
    ///
    /// There is no such tenant, or the kernel could not decide: nothing was counted.
    pub fn count(&self, index: u32, load: Load, from: From) -> Result<Charged, KernelError> {
        self.ask(op::COUNT, index, load, from)
    }

    /// Says what [`count`](Self::count) would say now, and counts nothing, nor tells of it.
    ///
    /// # Errors
    ///
    /// As for [`count`](Self::count).
    pub fn would(&self, index: u32, load: Load) -> Result<Option<Refusal>, KernelError> {
        let asked = self.ask(op::ASK, index, load, From::default())?;
        Ok(match asked {
            Charged::Counted(_, refusal) => refusal,
            Charged::Refused(refusal) => Some(refusal),
        })
    }

    fn ask(&self, op: u32, index: u32, load: Load, from: From) -> Result<Charged, KernelError> {
        let mut charge = charge(op, index, load, from);
        if op == op::COUNT {
            charge.flags |= flags::TELL;
        }
        self.done("count mail", &mut charge)?;
        let full = (charge.limit_owner != NOBODY).then(|| Full {
            owner: charge.limit_owner,
            unit: Unit::from_wire(charge.limit_unit).unwrap_or(Unit::Messages),
            kind: Kind::from_wire(charge.limit_kind).unwrap_or(Kind::Window),
            max: charge.limit_max,
            span_ns: charge.limit_span_ns,
        });
        let refusal = Refusal {
            reason: Reason::from_wire(charge.reason).unwrap_or(Reason::Internal),
            full,
            at_ns: charge.at_ns,
        };
        Ok(match charge.decision {
            decision::ADMITTED => Charged::Counted(Receipt(charge), None),
            decision::WOULD_REFUSE => Charged::Counted(Receipt(charge), Some(refusal)),
            _ => Charged::Refused(refusal),
        })
    }

    /// Gives back what was counted in windows; a pace's turn was taken. `false` if the policy changed
    /// since: then it stays counted until it is too old.
    ///
    /// # Errors
    ///
    /// The kernel could not.
    pub fn give_back(&self, receipt: Receipt) -> Result<bool, KernelError> {
        let mut charge = receipt.0;
        charge.op = op::GIVE_BACK;
        match self.run(&mut charge)? {
            status::DONE => Ok(true),
            status::CHANGED => Ok(false),
            code => Err(refused("give mail back", code)),
        }
    }

    /// Counts and tells a refusal that was decided elsewhere. Whether it is carried out: the tenant
    /// may only be observed.
    ///
    /// # Errors
    ///
    /// There is no such tenant.
    pub fn refused(&self, index: u32, reason: Reason, from: From) -> Result<bool, KernelError> {
        let mut charge = charge(op::REFUSED, index, Load::default(), from);
        charge.reason = reason as u8;
        charge.limit_owner = NOBODY;
        charge.flags |= flags::TELL;
        self.done("count a refusal", &mut charge)?;
        Ok(charge.enforced != 0)
    }

    /// Counts and tells that there are too many different recipients; if it is not `carried_out`, as
    /// what would be refused. Whether refusals of the tenant are carried out at all.
    ///
    /// # Errors
    ///
    /// There is no such tenant.
    pub fn refused_distinct(
        &self,
        index: u32,
        (max, window): (u32, Duration),
        from: From,
        carried_out: bool,
    ) -> Result<bool, KernelError> {
        let mut charge = charge(op::REFUSED, index, Load::default(), from);
        charge.reason = Reason::Limit as u8;
        charge.limit_owner = index;
        charge.limit_unit = Unit::DistinctRecipients as u8;
        charge.limit_kind = Kind::Window as u8;
        charge.limit_max = max;
        let window_ns = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX);
        charge.limit_span_ns = window::width_of(window_ns);
        charge.flags |= flags::TELL;
        if !carried_out {
            charge.flags |= flags::ONLY_TOLD;
        }
        self.done("count a refusal", &mut charge)?;
        Ok(charge.enforced != 0)
    }

    /// Counts a message that went in, to so many recipients.
    ///
    /// # Errors
    ///
    /// There is no such tenant.
    pub fn went(&self, index: u32, recipients: u32) -> Result<(), KernelError> {
        let load = Load {
            messages: 1,
            recipients,
        };
        self.done(
            "count mail that went in",
            &mut charge(op::WENT, index, load, From::default()),
        )
    }

    fn done(&self, action: &'static str, charge: &mut Charge) -> Result<(), KernelError> {
        match self.run(charge)? {
            status::DONE => Ok(()),
            code => Err(refused(action, code)),
        }
    }

    /// Runs the program on `charge`, which is its packet, there and back.
    fn run(&self, charge: &mut Charge) -> Result<u32, KernelError> {
        let mut attr = sys::zeroed();
        let mut answer = Charge::default();
        let length = u32::try_from(size_of::<Charge>()).unwrap_or(u32::MAX);
        attr.test.prog_fd = sys::fd(self.program.as_raw_fd())?;
        attr.test.data_in = std::ptr::from_ref(charge) as u64;
        attr.test.data_size_in = length;
        attr.test.data_out = std::ptr::from_mut(&mut answer) as u64;
        attr.test.data_size_out = length;
        attr.test.repeat = 1;
        sys::bpf("BPF_PROG_RUN", bpf_cmd::BPF_PROG_TEST_RUN, &mut attr)?;
        *charge = answer;
        // SAFETY: the kernel filled in what belongs to this command.
        Ok(unsafe { attr.test.retval })
    }
}

fn charge(op: u32, index: u32, load: Load, from: From) -> Charge {
    let mut charge = Charge {
        op,
        target: index,
        messages: load.messages,
        recipients: load.recipients,
        ..Charge::default()
    };
    if let Some(uid) = from.uid {
        charge.uid = uid;
        charge.flags |= flags::HAS_UID;
    }
    if let Some(client) = from.client {
        charge.source = wire_address(client.ip());
        charge.source_port = client.port();
    }
    charge
}

fn refused(action: &'static str, code: u32) -> KernelError {
    let reason = match code {
        status::MALFORMED => "the charge is malformed",
        status::NO_TENANT => "there is no such tenant",
        status::FAILED => "its policy kept changing",
        _ => "the program says what the agent does not know",
    };
    KernelError::Command {
        action,
        reason: reason.to_owned(),
    }
}
