//! The kernel modules that the tests need: chosen, unpacked, and listed for `modprobe` again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::run::{Run, say};

/// What is made in the tests' networks, and what the product attaches to. A kernel may have one
/// built in, or not have it at all.
const MODULES: [&str; 43] = [
    // Interfaces.
    "veth",
    "tun",
    "dummy",
    "macvlan",
    "macvtap",
    "ipvlan",
    "bridge",
    "br_netfilter",
    "8021q",
    "vrf",
    "bonding",
    // Tunnels.
    "ipip",
    "sit",
    "ip_gre",
    "ip6_gre",
    "ip6_tunnel",
    "fou",
    "vxlan",
    "geneve",
    "wireguard",
    // Traffic control.
    "sch_ingress",
    "cls_bpf",
    "act_bpf",
    "cls_u32",
    "cls_matchall",
    "act_gact",
    "act_mirred",
    "act_pedit",
    "sch_fq",
    // Packet filters.
    "nf_tables",
    "nft_chain_nat",
    "nft_nat",
    "nft_masq",
    "nft_redir",
    "nft_ct",
    "nft_limit",
    "nft_reject_inet",
    "nft_tproxy",
    "nft_fib_inet",
    // Looking at sockets and packets, and closing them.
    "inet_diag",
    "tcp_diag",
    "udp_diag",
    "mptcp_diag",
];

/// Which files a module needs, by its own file: all as `modules.dep` names them.
type Needs = BTreeMap<String, Vec<String>>;

/// Puts the modules into the directory `into`, made anew, (as `usr/lib/modules/RELEASE`), from a kernel's unpacked packages.
///
/// # Errors
/// When the kernel's modules cannot be read.
pub fn collect(unpacked: &Path, release: &str, into: &Path) -> Result<()> {
    let from = unpacked.join("lib/modules").join(release);
    depmod(unpacked, release)?;
    let list = from.join("modules.dep");
    let list = fs::read_to_string(&list).with_context(|| format!("no {}", list.display()))?;
    let (files, absent) = choose(&read(&list));
    let builtin = fs::read_to_string(from.join("modules.builtin")).unwrap_or_default();
    let absent: Vec<&str> = absent
        .into_iter()
        .filter(|name| !builtin.lines().any(|line| module(line) == *name))
        .collect();
    if !absent.is_empty() {
        say(&format!("Linux {release} has no {}.", absent.join(", ")));
    }
    if into.exists() {
        fs::remove_dir_all(into).with_context(|| format!("cannot clear {}", into.display()))?;
    }
    let to = into.join("usr/lib/modules").join(release);
    fs::create_dir_all(&to)?;
    // Where depmod looks; in the image, too, one is a link to the other.
    std::os::unix::fs::symlink("usr/lib", into.join("lib"))?;
    for file in &files {
        let target = to.join(file);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::copy(from.join(file), &target).with_context(|| format!("cannot copy {file}"))?;
        if target
            .extension()
            .is_some_and(|extension| extension == "xz")
        {
            Run::new("xz", "unpacking a module")
                .arg("-d")
                .arg(&target)
                .run()?;
        }
    }
    for name in [
        "modules.builtin",
        "modules.builtin.modinfo",
        "modules.order",
    ] {
        if from.join(name).is_file() {
            fs::copy(from.join(name), to.join(name))?;
        }
    }
    depmod(into, release)
}

fn depmod(base: &Path, release: &str) -> Result<()> {
    Run::new("depmod", "listing a kernel's modules")
        .arg("-b")
        .arg(base)
        .arg(release)
        .run()
}

/// Reads `modules.dep`.
fn read(text: &str) -> Needs {
    text.lines()
        .filter_map(|line| {
            let (file, needs) = line.split_once(':')?;
            let needs = needs.split_whitespace().map(str::to_owned).collect();
            Some((file.to_owned(), needs))
        })
        .collect()
}

/// The files of [`MODULES`] and of all they need (`modules.dep` lists those in full), and which of
/// them have no file.
fn choose(known: &Needs) -> (BTreeSet<String>, Vec<&'static str>) {
    let by_name: BTreeMap<String, &String> =
        known.keys().map(|file| (module(file), file)).collect();
    let mut files = BTreeSet::new();
    let mut absent = Vec::new();
    for name in MODULES {
        match by_name.get(name) {
            Some(file) => {
                files.insert((*file).clone());
                files.extend(known[*file].iter().cloned());
            }
            None => absent.push(name),
        }
    }
    (files, absent)
}

/// The name of the module in this file.
fn module(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.split(".ko").next().unwrap_or(name).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_comes_with_all_it_needs() {
        let known = read(
            "kernel/net/802/stp.ko.xz: kernel/net/llc/llc.ko.xz\n\
             kernel/net/llc/llc.ko.xz:\n\
             kernel/net/bridge/bridge.ko.xz: kernel/net/802/stp.ko.xz kernel/net/llc/llc.ko.xz\n\
             kernel/fs/xfs/xfs.ko.xz:\n",
        );
        let (files, absent) = choose(&known);
        assert_eq!(
            files.iter().map(|file| module(file)).collect::<Vec<_>>(),
            ["stp", "bridge", "llc"]
        );
        assert!(absent.contains(&"veth") && !absent.contains(&"bridge"));
    }

    #[test]
    fn names_are_as_modprobe_writes_them() {
        assert_eq!(module("kernel/drivers/net/a-b.ko.zst"), "a_b");
        assert_eq!(module("kernel/net/sched/cls_bpf.ko"), "cls_bpf");
    }
}
