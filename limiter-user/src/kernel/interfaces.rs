//! The map of interfaces: whose they are, and which of them are surely judged. Only changes are
//! written.

use std::collections::{BTreeMap, BTreeSet};

use limiter_common::{
    flow::{InterfaceInfo, interface_flags},
    owner::Owner,
};

use super::{KernelError, maps::Maps};

/// Makes the map say this. An interface may only be in `judged` or `covered` while its program is
/// known to be attached: take it out before the program goes, and put it in after it came.
///
/// What is taken back is written before what is added, so that nothing counts as judged that is
/// not, also when writing fails half-way.
///
/// # Errors
///
/// The map is full, or the kernel refuses.
pub fn sync_interfaces(
    maps: &mut Maps,
    owners: &[(u32, Owner)],
    judged: &BTreeSet<u32>,
    covered: &BTreeSet<u32>,
    bridged: &BTreeSet<u32>,
) -> Result<(), KernelError> {
    let wanted = wanted(owners, judged, covered, bridged);
    let mut known = BTreeMap::new();
    for (index, info) in maps.interfaces.entries()? {
        match wanted.get(&index) {
            None => maps.interfaces.remove(&index)?,
            Some(new) if info.flags & !new.flags != 0 => {
                maps.interfaces.insert(index, *new)?;
                known.insert(index, *new);
            }
            Some(_) => {
                known.insert(index, info);
            }
        }
    }
    for (index, info) in wanted {
        if known.get(&index) != Some(&info) {
            maps.interfaces.insert(index, info)?;
        }
    }
    Ok(())
}

fn wanted(
    owners: &[(u32, Owner)],
    judged: &BTreeSet<u32>,
    covered: &BTreeSet<u32>,
    bridged: &BTreeSet<u32>,
) -> BTreeMap<u32, InterfaceInfo> {
    let mut wanted: BTreeMap<u32, InterfaceInfo> = BTreeMap::new();
    for (index, owner) in owners {
        wanted.entry(*index).or_default().owner = owner.to_wire();
    }
    for index in judged {
        wanted.entry(*index).or_default().flags |= interface_flags::JUDGED;
    }
    for index in covered {
        wanted.entry(*index).or_default().flags |= interface_flags::COVERED;
    }
    for index in bridged {
        wanted.entry(*index).or_default().flags |= interface_flags::BRIDGED;
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_known_of_an_interface_is_in_one_entry() {
        let both = interface_flags::JUDGED | interface_flags::COVERED;
        let owner = Owner::tenant(5);
        let wanted = wanted(
            &[(2, owner), (3, owner)],
            &BTreeSet::from([2, 4]),
            &BTreeSet::from([4]),
            &BTreeSet::new(),
        );
        let entry = |index: u32| wanted.get(&index).map(|info| (info.owner, info.flags));
        let owner = owner.to_wire();
        assert_eq!(entry(2), Some((owner, interface_flags::JUDGED)));
        assert_eq!(entry(3), Some((owner, 0)));
        assert_eq!(entry(4), Some((Owner::NOBODY.to_wire(), both)));
        assert_eq!(entry(5), None);
    }
}
