//! Where fields stand in the kernel's structures, read from its own type information.
//!
//! aya does not relocate field accesses, so the agent looks the offsets up and hands them to the
//! programs as globals. Only what that takes is read of the format (kernel documentation,
//! `bpf/btf.rst`): structures and their members by name.

use std::fs;

use super::KernelError;

const VMLINUX: &str = "/sys/kernel/btf/vmlinux";
const MAGIC: u16 = 0xeb9f;
const KIND_STRUCT: u32 = 4;

/// Offsets of the fields that the programs read, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// `sock.sk_cgrp_data`.
    pub sock_cgroup: u32,
    /// `sock.sk_uid`.
    pub sock_uid: u32,
    /// `cgroup.kn`.
    pub cgroup_kn: u32,
    /// `cgroup.level`.
    pub cgroup_level: u32,
    /// `cgroup.ancestors` or, before 6.1, `cgroup.ancestor_ids`.
    pub cgroup_ancestors: u32,
    /// Whether the ancestors are pointers.
    pub ancestors_are_pointers: bool,
    /// `kernfs_node.id`.
    pub kernfs_id: u32,
    /// `sk_buff.ip_summed`: the byte.
    pub skb_summed: u32,
    /// `sk_buff.ip_summed`: its lowest bit in the byte.
    pub skb_summed_shift: u8,
    /// `sk_buff.csum_start`, with `csum_offset` behind it.
    pub skb_csum_start: u32,
    /// `sk_buff.head`, with `data` behind it.
    pub skb_head: u32,
    /// `sk_buff._skb_refdst`.
    pub skb_route: u32,
    /// `sk_buff.dev`.
    pub skb_dev: u32,
    /// `dst_entry.dev`.
    pub route_dev: u32,
    /// `net_device.nd_net`.
    pub dev_net: u32,
    /// `net_device.rx_handler`.
    pub dev_rx_handler: u32,
    /// `sock.__sk_common.skc_net`.
    pub sock_net: u32,
    /// `net.ns.inum`.
    pub net_inum: u32,
    /// `task_struct.nsproxy`.
    pub task_nsproxy: u32,
    /// `nsproxy.net_ns`.
    pub nsproxy_net: u32,
}

impl Offsets {
    /// Those of the running kernel.
    ///
    /// # Errors
    ///
    /// The kernel has no type information, or a field is not where any known version has it.
    pub fn of_running_kernel() -> Result<Self, KernelError> {
        let bytes = fs::read(VMLINUX).map_err(|error| {
            KernelError::Btf(format!(
                "{error}; a kernel with CONFIG_DEBUG_INFO_BTF is needed"
            ))
        })?;
        let types = Types::parse(&bytes)
            .ok_or_else(|| KernelError::Btf("it is damaged or of an unknown format".to_owned()))?;
        Self::find(&types)
    }

    fn find(types: &Types<'_>) -> Result<Self, KernelError> {
        let (cgroup_ancestors, ancestors_are_pointers) = match types.offset("cgroup", "ancestors") {
            Some(offset) => (offset, true),
            None => (types.need("cgroup", "ancestor_ids")?, false),
        };
        let summed = types
            .bits("sk_buff", "ip_summed")
            .ok_or_else(|| KernelError::Btf("struct sk_buff has no ip_summed".to_owned()))?;
        Ok(Self {
            sock_cgroup: types.need("sock", "sk_cgrp_data")?,
            sock_uid: types.need("sock", "sk_uid")?,
            cgroup_kn: types.need("cgroup", "kn")?,
            cgroup_level: types.need("cgroup", "level")?,
            cgroup_ancestors,
            ancestors_are_pointers,
            kernfs_id: types.need("kernfs_node", "id")?,
            skb_summed: summed / 8,
            skb_summed_shift: (summed % 8).to_le_bytes()[0],
            skb_csum_start: types.need("sk_buff", "csum_start")?,
            skb_head: types.need("sk_buff", "head")?,
            skb_route: types.need("sk_buff", "_skb_refdst")?,
            skb_dev: types.need("sk_buff", "dev")?,
            route_dev: types.need("dst_entry", "dev")?,
            dev_net: types.need("net_device", "nd_net")?,
            dev_rx_handler: types.need("net_device", "rx_handler")?,
            sock_net: types.need("sock", "__sk_common")? + types.need("sock_common", "skc_net")?,
            net_inum: types.need("net", "ns")? + types.need("ns_common", "inum")?,
            task_nsproxy: types.need("task_struct", "nsproxy")?,
            nsproxy_net: types.need("nsproxy", "net_ns")?,
        })
    }
}

/// The parts of a BTF blob.
struct Types<'a> {
    types: &'a [u8],
    strings: &'a [u8],
}

impl<'a> Types<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        if word16(bytes, 0)? != MAGIC {
            return None;
        }
        let header = word(bytes, 4)?;
        let part = |at: usize| -> Option<&'a [u8]> {
            let start = usize::try_from(header.checked_add(word(bytes, at)?)?).ok()?;
            let length = usize::try_from(word(bytes, at + 4)?).ok()?;
            bytes.get(start..start.checked_add(length)?)
        };
        Some(Self {
            types: part(8)?,
            strings: part(16)?,
        })
    }

    fn need(&self, structure: &str, member: &str) -> Result<u32, KernelError> {
        self.offset(structure, member)
            .ok_or_else(|| KernelError::Btf(format!("struct {structure} has no {member}")))
    }

    /// The offset of a member in bytes; members of unnamed structures and unions inside count.
    fn offset(&self, structure: &str, member: &str) -> Option<u32> {
        let bits = self.bits(structure, member)?;
        bits.is_multiple_of(8).then_some(bits / 8)
    }

    /// The same in bits.
    fn bits(&self, structure: &str, member: &str) -> Option<u32> {
        let at = self.find_struct(structure)?;
        self.member(at, member, 0)
    }

    fn find_struct(&self, name: &str) -> Option<usize> {
        let mut at = 0;
        while let Some((kind, _, size)) = self.entry(at) {
            if kind == KIND_STRUCT && self.name(at) == Some(name) {
                return Some(at);
            }
            at += size;
        }
        None
    }

    fn member(&self, at: usize, wanted: &str, depth: u8) -> Option<u32> {
        let (_, count, _) = self.entry(at)?;
        // Whether the upper byte of a member's offset is the width of a bit field.
        let flagged = word(self.types, at + 4)? >> 31 == 1;
        for index in 0..count {
            let member = at + 12 + index * 12;
            let raw = word(self.types, member + 8)?;
            let bits = if flagged { raw & 0x00ff_ffff } else { raw };
            let name = self.string(word(self.types, member)?)?;
            if name == wanted {
                return Some(bits);
            }
            if name.is_empty() && depth < 4 {
                let inner = self.by_id(word(self.types, member + 4)?)?;
                let is_composite = matches!(self.entry(inner), Some((KIND_STRUCT | 5, _, _)));
                if is_composite && let Some(offset) = self.member(inner, wanted, depth + 1) {
                    return Some(bits + offset);
                }
            }
        }
        None
    }

    fn by_id(&self, id: u32) -> Option<usize> {
        let mut at = 0;
        for _ in 1..id {
            at += self.entry(at)?.2;
        }
        self.entry(at).map(|_| at)
    }

    /// Kind, number of members, and size in bytes of the entry at `at`.
    fn entry(&self, at: usize) -> Option<(u32, usize, usize)> {
        let info = word(self.types, at + 4)?;
        let kind = (info >> 24) & 0x1f;
        let count = usize::try_from(info & 0xffff).ok()?;
        let tail = match kind {
            1 | 14 | 17 => 4,
            3 => 12,
            4 | 5 | 19 => count * 12,
            6 | 13 => count * 8,
            15 => count * 12,
            2 | 7..=12 | 16 | 18 => 0,
            _ => return None,
        };
        Some((kind, count, 12 + tail))
    }

    fn name(&self, at: usize) -> Option<&'a str> {
        self.string(word(self.types, at)?)
    }

    fn string(&self, offset: u32) -> Option<&'a str> {
        let rest = self.strings.get(usize::try_from(offset).ok()?..)?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        std::str::from_utf8(&rest[..end]).ok()
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(four.try_into().ok()?))
}

fn word16(bytes: &[u8], at: usize) -> Option<u16> {
    let two = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_ne_bytes(two.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A blob with one structure `cgroup` of the members given as (name, offset in bits).
    fn blob(members: &[(&str, u32)]) -> Vec<u8> {
        let mut strings = b"\0cgroup\0".to_vec();
        let mut types = Vec::new();
        let info = (KIND_STRUCT << 24) | u32::try_from(members.len()).unwrap();
        for word in [1, info, 64] {
            types.extend_from_slice(&u32::to_ne_bytes(word));
        }
        for (name, bits) in members {
            let at = u32::try_from(strings.len()).unwrap();
            strings.extend_from_slice(name.as_bytes());
            strings.push(0);
            for word in [at, 1, *bits] {
                types.extend_from_slice(&word.to_ne_bytes());
            }
        }
        let mut bytes = MAGIC.to_ne_bytes().to_vec();
        bytes.extend_from_slice(&[1, 0]);
        let (types_len, strings_len) = (
            u32::try_from(types.len()).unwrap(),
            u32::try_from(strings.len()).unwrap(),
        );
        for word in [24, 0, types_len, types_len, strings_len] {
            bytes.extend_from_slice(&u32::to_ne_bytes(word));
        }
        bytes.extend(types);
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn members_are_found_by_name() {
        let bytes = blob(&[("kn", 0), ("level", 64), ("ancestors", 512)]);
        let types = Types::parse(&bytes).unwrap();
        assert_eq!(types.offset("cgroup", "level"), Some(8));
        assert_eq!(types.offset("cgroup", "ancestors"), Some(64));
        assert_eq!(types.offset("cgroup", "missing"), None);
        assert_eq!(types.offset("sock", "kn"), None);
    }

    #[test]
    fn damage_is_no_panic() {
        let bytes = blob(&[("kn", 0), ("level", 64)]);
        for length in 0..bytes.len() {
            if let Some(types) = Types::parse(&bytes[..length]) {
                let _ = types.offset("cgroup", "level");
            }
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0xff;
            if let Some(types) = Types::parse(&damaged) {
                let _ = types.offset("cgroup", "level");
            }
        }
    }

    #[test]
    fn the_running_kernel_has_them() {
        if fs::metadata(VMLINUX).is_err() {
            return;
        }
        let offsets = Offsets::of_running_kernel().unwrap();
        assert!(offsets.sock_cgroup > 0 && offsets.sock_uid > 0 && offsets.cgroup_kn > 0);
    }
}
