//! Sanctions: each tenant's own, and what is in force for it because of them.
//!
//! A tenant's own sanctions stand in a map of their own; what the programs read beside its policy
//! is those joined with all its ancestors'. The one is written first, the other follows from it:
//! whoever was killed in between, the next start makes it right. What ends, ends by the kernel's
//! clock; the agent only tidies up behind it.

use std::time::Duration;

use limiter_common::{
    abi::{DEFAULT, MAX_DEPTH, NODE},
    sanction::{self, SANCTIONS, Sanction, Sanctions, WITHOUT_END},
    settings::{self, Settings},
};
use thiserror::Error;

use super::Mirror;
use crate::kernel::{Kernel, KernelError, clock, maps::Maps};

/// The shortest sanction that makes sense.
pub const SHORTEST_SANCTION: Duration = Duration::from_secs(1);
/// The longest one that ends by itself: ten years. For longer it has no end.
pub const LONGEST_SANCTION: Duration = Duration::from_secs(3_650 * 86_400);

/// What the programs are told of sanctions in the settings.
const FLAGS: u32 =
    settings::flags::SANCTIONS | settings::flags::SUSPENSIONS | settings::flags::NULL_ROUTES;

/// Why somebody cannot be sanctioned, or reinstated.
#[derive(Debug, Error)]
pub enum SanctionError {
    /// No tenant has this name.
    #[error("there is no tenant {name:?}")]
    UnknownTenant {
        /// The name.
        name: String,
    },
    /// The node itself, and with it everybody.
    #[error("the node itself cannot be put under a sanction: it would hold for every tenant")]
    Node,
    /// Whoever nobody claims, the node's own services among them.
    #[error(
        "{sanction} is not for whoever nobody claims: that is the node's own services, too; only \
         block_smtp is", sanction = sanction.as_str()
    )]
    Default {
        /// What was asked for.
        sanction: Sanction,
    },
    /// Too short or too long.
    #[error(
        "a sanction lasts from {} second to {} days, or has no end", SHORTEST_SANCTION.as_secs(),
        LONGEST_SANCTION.as_secs() / 86_400
    )]
    Length,
    /// The kernel refuses. What was written until then stays, and is completed later.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

/// A sanction that came into force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sanctioned {
    /// Until when, in whole seconds of the kernel's clock; [`WITHOUT_END`] for none.
    pub until_s: u32,
    /// Until when the same sanction was to hold before; `None` if it did not.
    pub before_s: Option<u32>,
    /// The tenant and everybody below it: their indices, ascending.
    pub affected: Vec<u32>,
}

/// What was taken back, and what still holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reinstated {
    /// The tenant's own sanctions that were in force and are not any more.
    pub lifted: Vec<Sanction>,
    /// What is in force for it now: other ones of its own, and its ancestors'.
    pub remaining: Sanctions,
}

/// A sanction that ended by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Whose own it was.
    pub tenant: String,
    /// Which.
    pub sanction: Sanction,
}

/// Which layers must be attached besides those that always are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayerNeeds {
    /// The socket layer: somebody is sanctioned, or messages are counted.
    pub socket: bool,
    /// The edge: somebody is null-routed.
    pub edge: bool,
    /// Somebody is sanctioned.
    pub sanctions: bool,
}

/// A tenant's sanction and whose it is: its own, or an ancestor's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InForce {
    /// Which.
    pub sanction: Sanction,
    /// Until when, in whole seconds of the kernel's clock.
    pub until_s: u32,
    /// The index of the tenant whose own it is. Of several with the same end, the nearest.
    pub owner: u32,
}

impl Mirror {
    /// Puts a tenant, and everybody below it, under a sanction for so long from now; `None` is
    /// until it is taken back. The same sanction from before is replaced with its end, other ones
    /// stay. When this returns it is in force for all packets and connections to come.
    ///
    /// # Errors
    ///
    /// There is no such tenant, it cannot be for this one, it is too short or too long, or the
    /// kernel refuses.
    pub fn sanction(
        &mut self,
        tenant: &str,
        sanction: Sanction,
        length: Option<Duration>,
        kernel: &mut Kernel,
    ) -> Result<Sanctioned, SanctionError> {
        let index = self.sanctionable(tenant)?;
        self.can_be_under(tenant, sanction)?;
        let until_s = match length {
            None => WITHOUT_END,
            Some(length) if !(SHORTEST_SANCTION..=LONGEST_SANCTION).contains(&length) => {
                return Err(SanctionError::Length);
            }
            Some(length) => end(clock::from_now(length)),
        };
        let mut own = self.own_sanctions(index);
        let now_s = sanction::seconds(clock::monotonic_ns());
        let place = &mut own.until_s[usize::from(sanction as u8)];
        let before_s = (*place > now_s).then_some(*place);
        *place = until_s;

        // Programs that look from here on find nothing yet. The other way round they would not
        // look.
        self.write_flags(flags_of(sanction), 0, kernel)?;
        self.write_own(index, own, kernel)?;
        self.refresh_sanctions(kernel)?;
        let affected = self.affected_by(index).collect();
        Ok(Sanctioned {
            until_s,
            before_s,
            affected,
        })
    }

    /// Takes back a tenant's own sanction, or all of them. What it inherits stays.
    ///
    /// # Errors
    ///
    /// There is no such tenant, or the kernel refuses.
    pub fn reinstate(
        &mut self,
        tenant: &str,
        sanction: Option<Sanction>,
        kernel: &mut Kernel,
    ) -> Result<Reinstated, SanctionError> {
        let index = self.sanctionable(tenant)?;
        let now_s = sanction::seconds(clock::monotonic_ns());
        let mut own = self.own_sanctions(index);
        let mut lifted = Vec::new();
        for which in Sanction::ALL {
            if sanction.is_some_and(|only| only != *which) {
                continue;
            }
            if own.holds(*which, now_s) {
                lifted.push(*which);
            }
            own.until_s[usize::from(*which as u8)] = 0;
        }
        self.write_own(index, own, kernel)?;
        self.refresh_sanctions(kernel)?;
        Ok(Reinstated {
            lifted,
            remaining: self.effective(index),
        })
    }

    /// Whether a tenant can be under this sanction.
    ///
    /// # Errors
    ///
    /// There is no such tenant, or it cannot be for this one.
    pub fn can_be_under(&self, tenant: &str, sanction: Sanction) -> Result<(), SanctionError> {
        if self.sanctionable(tenant)? == DEFAULT && sanction != Sanction::BlockSmtp {
            return Err(SanctionError::Default { sanction });
        }
        Ok(())
    }

    /// How many tenants there are at and below this one.
    #[must_use]
    pub fn below(&self, tenant: &str) -> usize {
        self.index_of(tenant)
            .map_or(0, |index| self.affected_by(index).count())
    }

    /// The tenant at `index` and everybody below it.
    fn affected_by(&self, index: u32) -> impl Iterator<Item = u32> {
        let all = self.entries.iter().map(|(index, _)| index);
        all.filter(move |at| self.line(*at).any(|above| above == index))
    }

    /// A tenant's own sanctions.
    ///
    /// # Errors
    ///
    /// There is no such tenant, or it cannot be under any.
    pub fn own_sanctions_of(&self, tenant: &str) -> Result<Sanctions, SanctionError> {
        let index = self.sanctionable(tenant)?;
        Ok(self.own_sanctions(index))
    }

    /// All tenants' own sanctions.
    pub fn all_own_sanctions(&self) -> impl Iterator<Item = (&str, Sanctions)> {
        self.own.iter().filter_map(|(index, own)| {
            let entry = self.entries.get(*index)?;
            Some((entry.name.as_str(), *own))
        })
    }

    /// The names of all tenants that are under any sanction at the moment `now_ns` of the kernel's
    /// clock, their own or an ancestor's, in the order of their indices. It costs nothing where
    /// nobody is.
    pub fn sanctioned(&self, now_ns: u64) -> impl Iterator<Item = &str> {
        let now_s = sanction::seconds(now_ns);
        let entries = (!self.own.is_empty()).then(|| self.entries.iter());
        entries
            .into_iter()
            .flatten()
            .map(|(_, entry)| entry)
            .filter(move |entry| entry.tenant.sanctions.strongest(now_s).is_some())
            .map(|entry| entry.name.as_str())
    }

    /// Tidies up behind what ended by the moment `now_ns` of the kernel's clock, and says what
    /// that was. Also completes what could not be written before. To be called every few seconds.
    ///
    /// # Errors
    ///
    /// The kernel refuses; what ended is told the next time.
    pub fn tidy_sanctions(
        &mut self,
        now_ns: u64,
        kernel: &mut Kernel,
    ) -> Result<Vec<Ended>, KernelError> {
        let now_s = sanction::seconds(now_ns);
        let mut ended = Vec::new();
        let over = |until_s: u32| until_s != 0 && until_s <= now_s;
        let due: Vec<(u32, Sanctions)> = self
            .own
            .iter()
            .filter(|(_, own)| own.until_s.iter().any(|until_s| over(*until_s)))
            .map(|(index, own)| (*index, *own))
            .collect();
        for (index, mut own) in due {
            let name = self.entries.get(index).map(|entry| entry.name.clone());
            for which in Sanction::ALL {
                let place = &mut own.until_s[usize::from(*which as u8)];
                if over(*place) {
                    *place = 0;
                    ended.extend(name.clone().map(|tenant| Ended {
                        tenant,
                        sanction: *which,
                    }));
                }
            }
            self.write_own(index, own, kernel)?;
        }
        self.refresh_sanctions(kernel)?;
        // Only now that nobody is under one any more.
        let wanted = self.sanction_flags(now_s);
        self.write_flags(wanted, FLAGS & !wanted, kernel)?;
        Ok(ended)
    }

    /// Which layers the sanctions in force need, and `also` if it came into force.
    #[must_use]
    pub fn layer_needs(&self, also: Option<Sanction>) -> LayerNeeds {
        let now_s = sanction::seconds(clock::monotonic_ns());
        let flags = self.sanction_flags(now_s) | also.map_or(0, flags_of);
        let counts_mail = self
            .settings
            .is_some_and(|settings| settings.flags & settings::flags::COUNTS_MAIL != 0);
        LayerNeeds {
            socket: flags & settings::flags::SANCTIONS != 0 || counts_mail,
            edge: flags & settings::flags::NULL_ROUTES != 0,
            sanctions: flags & settings::flags::SANCTIONS != 0,
        }
    }

    /// Lets go of the own sanctions of an index that is about to be free.
    pub(super) fn forget_own(
        &mut self,
        index: u32,
        kernel: &mut Kernel,
    ) -> Result<(), KernelError> {
        if self.own.contains_key(&index) {
            self.write_own(index, Sanctions::NONE, kernel)?;
        }
        Ok(())
    }

    /// What is in force for whoever has this parent and no sanctions of its own.
    pub(super) fn inherited(&self, parent: u32) -> Sanctions {
        self.effective(parent)
    }

    /// Writes what is in force wherever it is not what follows from everybody's own.
    pub(super) fn refresh_sanctions(&mut self, kernel: &mut Kernel) -> Result<(), KernelError> {
        if self.own.is_empty() && !self.sanctions_in_force {
            return Ok(());
        }
        let wrong: Vec<(u32, Sanctions)> = self
            .entries
            .iter()
            .filter_map(|(index, entry)| {
                let wanted = self.effective(index);
                (wanted != entry.tenant.sanctions).then_some((index, wanted))
            })
            .collect();
        for (index, wanted) in wrong {
            kernel.set_sanctions(index, wanted)?;
            if let Some(entry) = self.entries.get_mut(index) {
                entry.tenant.sanctions = wanted;
            }
        }
        self.sanctions_in_force = !self.own.is_empty();
        Ok(())
    }

    /// The flags that stand for the sanctions that are not over at `now_s`.
    pub(super) fn sanction_flags(&self, now_s: u32) -> u32 {
        let in_force = self.own.values().flat_map(|own| {
            Sanction::ALL
                .iter()
                .filter(move |which| own.holds(**which, now_s))
        });
        in_force.fold(0, |flags, which| flags | flags_of(*which))
    }

    fn sanctionable(&self, tenant: &str) -> Result<u32, SanctionError> {
        match self.index_of(tenant) {
            Some(NODE) => Err(SanctionError::Node),
            Some(index) if self.entries.contains(index) => Ok(index),
            _ => Err(SanctionError::UnknownTenant {
                name: tenant.to_owned(),
            }),
        }
    }

    fn own_sanctions(&self, index: u32) -> Sanctions {
        self.own.get(&index).copied().unwrap_or(Sanctions::NONE)
    }

    /// A tenant and its ancestors.
    fn line(&self, index: u32) -> impl Iterator<Item = u32> {
        let parent = |at: &u32| self.entries.get(*at).map(|entry| entry.tenant.parent);
        std::iter::successors(Some(index), parent).take(MAX_DEPTH + 1)
    }

    /// A tenant's own sanctions joined with its ancestors'.
    fn effective(&self, index: u32) -> Sanctions {
        if self.own.is_empty() {
            return Sanctions::NONE;
        }
        self.line(index).fold(Sanctions::NONE, |all, at| {
            self.own.get(&at).map_or(all, |own| all.joined(own))
        })
    }

    fn write_own(
        &mut self,
        index: u32,
        own: Sanctions,
        kernel: &mut Kernel,
    ) -> Result<(), KernelError> {
        kernel.maps.sanctions.set(index, own)?;
        if own.any() {
            self.own.insert(index, own);
        } else {
            self.own.remove(&index);
        }
        Ok(())
    }

    fn write_flags(
        &mut self,
        set: u32,
        clear: u32,
        kernel: &mut Kernel,
    ) -> Result<(), KernelError> {
        let kept = kernel.maps.settings.get(0)?;
        let wanted = Settings {
            flags: kept.flags & !clear | set,
            ..kept
        };
        if wanted != kept {
            kernel.maps.settings.set(0, wanted)?;
            self.settings = Some(wanted);
        }
        Ok(())
    }
}

/// The flags that stand for one sanction.
const fn flags_of(sanction: Sanction) -> u32 {
    use settings::flags;
    match sanction {
        Sanction::BlockSmtp | Sanction::SuspendMail => flags::SANCTIONS,
        Sanction::SuspendNetwork => flags::SANCTIONS | flags::SUSPENSIONS,
        Sanction::NullRoute => flags::SANCTIONS | flags::SUSPENSIONS | flags::NULL_ROUTES,
    }
}

/// The first whole second at or after a moment; never [`WITHOUT_END`].
fn end(at_ns: u64) -> u32 {
    u32::try_from(at_ns.div_ceil(1_000_000_000))
        .unwrap_or(WITHOUT_END)
        .min(WITHOUT_END - 1)
}

impl Maps {
    /// The sanctions in force for the tenant at `index` at the second `now_s` of the kernel's
    /// clock, strongest first, each with whose it is.
    ///
    /// # Errors
    ///
    /// A map cannot be read.
    pub fn sanctions_in_force(&self, index: u32, now_s: u32) -> Result<Vec<InForce>, KernelError> {
        let in_force = self.tenants.get(index)?.sanctions;
        if in_force.strongest(now_s).is_none() {
            return Ok(Vec::new());
        }
        let line = self
            .chain(index)?
            .iter()
            .map(|known| Ok((known.index, self.sanctions.get(known.index)?)))
            .collect::<Result<Vec<_>, KernelError>>()?;
        Ok(named(index, &in_force, &line, now_s))
    }
}

/// Whose each sanction in force is, strongest first, by the own sanctions of the `line` of a tenant
/// and its ancestors.
fn named(index: u32, in_force: &Sanctions, line: &[(u32, Sanctions)], now_s: u32) -> Vec<InForce> {
    (0..SANCTIONS)
        .rev()
        .filter_map(|at| {
            let sanction = *Sanction::ALL.get(at)?;
            let until_s = in_force.until_s[at];
            let owner = line
                .iter()
                .find(|(_, own)| own.until_s[at] == until_s)
                .map_or(index, |(owner, _)| *owner);
            in_force.holds(sanction, now_s).then_some(InForce {
                sanction,
                until_s,
                owner,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_rounded_up_and_never_endless() {
        assert_eq!(end(1), 1);
        assert_eq!(end(1_000_000_000), 1);
        assert_eq!(end(1_000_000_001), 2);
        assert_eq!(end(u64::MAX), WITHOUT_END - 1);
    }

    #[test]
    fn stronger_sanctions_raise_more_flags() {
        let all: Vec<u32> = Sanction::ALL.iter().map(|which| flags_of(*which)).collect();
        assert!(
            all.iter()
                .all(|flags| flags & settings::flags::SANCTIONS != 0)
        );
        assert_eq!(all[1] & settings::flags::SUSPENSIONS, 0);
        assert_eq!(all[2] & settings::flags::NULL_ROUTES, 0);
        assert_eq!(all[3], FLAGS);
    }

    #[test]
    fn whose_a_sanction_is() {
        let sanctions = |until_s| Sanctions { until_s };
        let own = sanctions([50, 0, 20, 0]);
        let parents = sanctions([50, 0, 90, 0]);
        let line = [(7, own), (3, parents), (0, Sanctions::NONE)];
        let found = named(7, &own.joined(&parents), &line, 10);
        let found: Vec<_> = found
            .iter()
            .map(|it| (it.sanction, it.until_s, it.owner))
            .collect();
        assert_eq!(
            found,
            [
                (Sanction::SuspendNetwork, 90, 3),
                (Sanction::BlockSmtp, 50, 7)
            ],
        );
        assert!(named(7, &own, &line, 60).is_empty());
    }
}
