//! On which machine.

use std::fs;

/// Processors, kernel.
pub fn described() -> String {
    let model = fs::read_to_string("/proc/cpuinfo").unwrap();
    let model = model
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("an unnamed processor", |(_, name)| name);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let count = nix::unistd::sysconf(nix::unistd::SysconfVar::_NPROCESSORS_ONLN);
    let count = count.unwrap().unwrap_or(1);
    format!("{count} × {model}, Linux {}", kernel.trim())
}
