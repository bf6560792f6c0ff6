//! Programs of somebody else, made without limiter's code: what it finds beside its own.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

const MAP_CREATE: i64 = 0;
const MAP_UPDATE: i64 = 2;
const PROG_LOAD: i64 = 5;
const PROG_ATTACH: i64 = 8;
const LINK_CREATE: i64 = 28;
const LINK_DETACH: i64 = 34;
const LINK_GET_FD_BY_ID: i64 = 30;
const PROG_QUERY: i64 = 16;
const PROG_GET_FD_BY_ID: i64 = 13;
const PROG_TEST_RUN: i64 = 10;
const OBJ_GET_INFO_BY_FD: i64 = 15;
const ENABLE_STATS: i64 = 32;

/// `BPF_PROG_TYPE_SCHED_CLS`.
pub const CLASSIFIER: u32 = 3;
/// `BPF_PROG_TYPE_XDP`.
pub const XDP: u32 = 6;
/// `BPF_PROG_TYPE_CGROUP_SKB`.
pub const CGROUP_SKB: u32 = 8;
/// `BPF_PROG_TYPE_CGROUP_SOCK_ADDR`.
pub const SOCK_ADDR: u32 = 18;

/// `BPF_TCX_INGRESS`.
pub const INGRESS: u32 = 46;
/// `BPF_TCX_EGRESS`.
pub const EGRESS: u32 = 47;
/// `BPF_CGROUP_INET_EGRESS`.
pub const SOCKET: u32 = 1;
/// `BPF_CGROUP_INET4_CONNECT`.
pub const CONNECT4: u32 = 10;
/// `BPF_CGROUP_INET6_CONNECT`.
pub const CONNECT6: u32 = 11;
const ON_XDP: u32 = 37;

/// A program that answers `answer` to everything.
pub fn program(kind: u32, answer: i32) -> OwnedFd {
    program_for(kind, 0, answer)
}

/// The same, where the kernel wants to know at which hook.
pub fn program_for(kind: u32, hook: u32, answer: i32) -> OwnedFd {
    // r0 = answer; exit
    let code = [u64::from(answer.cast_unsigned()) << 32 | 0xb7, 0x95];
    load(kind, hook, &code)
}

/// A program of these instructions. `hook` is 0 where the kernel does not want to know it.
pub fn load(kind: u32, hook: u32, code: &[u64]) -> OwnedFd {
    let license = c"GPL";
    let mut attr = [0_u64; 16];
    attr[0] = u64::from(kind) | (code.len() as u64) << 32;
    attr[1] = code.as_ptr() as u64;
    attr[2] = license.as_ptr() as u64;
    attr[8] = u64::from(hook) << 32;
    descriptor(bpf(PROG_LOAD, &mut attr).unwrap())
}

/// An array of `count` values of so many bytes.
#[allow(dead_code, reason = "for the bench alone")]
pub fn array(value: u32, count: u32) -> OwnedFd {
    const ARRAY: u64 = 2;
    let mut attr = [0_u64; 16];
    attr[0] = ARRAY | 4 << 32;
    attr[1] = u64::from(value) | u64::from(count) << 32;
    descriptor(bpf(MAP_CREATE, &mut attr).unwrap())
}

/// A hash of so many entries: four bytes to `value` bytes.
#[allow(dead_code, reason = "for the tests of the product alone")]
pub fn hash(value: u32, count: u32) -> OwnedFd {
    const HASH: u64 = 1;
    let mut attr = [0_u64; 16];
    attr[0] = HASH | 4 << 32;
    attr[1] = u64::from(value) | u64::from(count) << 32;
    descriptor(bpf(MAP_CREATE, &mut attr).unwrap())
}

/// Puts a value into an array, or a hash.
#[allow(dead_code, reason = "not for every program that has this module")]
pub fn put(map: &OwnedFd, at: u32, value: &[u8]) {
    let mut attr = [0_u64; 16];
    attr[0] = fd(map);
    attr[1] = std::ptr::from_ref(&at) as u64;
    attr[2] = value.as_ptr() as u64;
    bpf(MAP_UPDATE, &mut attr).unwrap();
}

/// Attaches it by TCX, after whatever is there.
pub fn attach_tcx(program: &OwnedFd, ifindex: u32, hook: u32) -> OwnedFd {
    link(program, ifindex, hook)
}

/// Attaches it to a cgroup, beside whatever is there.
pub fn attach_cgroup(program: &OwnedFd, cgroup: &Path, hook: u32) -> OwnedFd {
    let cgroup = File::open(cgroup).unwrap();
    link(program, u32::try_from(cgroup.as_raw_fd()).unwrap(), hook)
}

/// Attaches it to a cgroup as systemd does: without a link, and others may attach theirs, too. It
/// stays as long as the cgroup.
#[allow(dead_code, reason = "for the tests of the product alone")]
pub fn attach_cgroup_as_systemd(program: &OwnedFd, cgroup: &Path, hook: u32) {
    const ALLOW_MULTI: u64 = 2;
    let cgroup = File::open(cgroup).unwrap();
    let target = u64::try_from(cgroup.as_raw_fd()).unwrap();
    let mut attr = [0_u64; 16];
    attr[0] = target | fd(program) << 32;
    attr[1] = u64::from(hook) | ALLOW_MULTI << 32;
    bpf(PROG_ATTACH, &mut attr).unwrap();
}

/// Attaches it by XDP.
pub fn attach_xdp(program: &OwnedFd, ifindex: u32) -> OwnedFd {
    link(program, ifindex, ON_XDP)
}

fn link(program: &OwnedFd, target: u32, hook: u32) -> OwnedFd {
    let mut attr = [0_u64; 16];
    attr[0] = fd(program) | u64::from(target) << 32;
    attr[1] = u64::from(hook);
    descriptor(bpf(LINK_CREATE, &mut attr).unwrap())
}

/// The links on one side of an interface, in the order in which their programs run.
pub fn tcx_links(ifindex: u32, hook: u32) -> Vec<u32> {
    let (mut programs, mut links) = ([0_u32; 64], [0_u32; 64]);
    let mut attr = [0_u64; 16];
    attr[0] = u64::from(ifindex) | u64::from(hook) << 32;
    attr[2] = programs.as_mut_ptr() as u64;
    attr[3] = programs.len() as u64;
    attr[5] = links.as_mut_ptr() as u64;
    match bpf(PROG_QUERY, &mut attr) {
        Ok(_) => {}
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Vec::new(),
        Err(error) => panic!("cannot ask for the programs of interface {ifindex}: {error}"),
    }
    let count = usize::try_from(attr[3] & 0xffff_ffff).unwrap();
    links[..count].to_vec()
}

/// The first program on one side of an interface: by a link, or by a classic filter where there are
/// no such links.
pub fn program_at(ifindex: u32, hook: u32) -> OwnedFd {
    match first_program(ifindex, hook) {
        Ok(program) => program,
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            program_by_id(classic_at(ifindex, hook))
        }
        Err(error) => panic!("cannot ask for the programs of interface {ifindex}: {error}"),
    }
}

/// The first program at a hook of a cgroup.
pub fn cgroup_program(cgroup: &Path, hook: u32) -> OwnedFd {
    let cgroup = File::open(cgroup).unwrap();
    first_program(u32::try_from(cgroup.as_raw_fd()).unwrap(), hook).unwrap()
}

/// The XDP program of an interface.
pub fn xdp_program(interface: &str) -> OwnedFd {
    let text = run(&format!("ip -json link show dev {interface}"));
    let found: serde_json::Value = serde_json::from_str(&text).unwrap();
    let id = found[0]["xdp"]["prog"]["id"].as_u64();
    program_by_id(id.unwrap_or_else(|| panic!("no program: {text}")))
}

fn first_program(target: u32, hook: u32) -> io::Result<OwnedFd> {
    let mut programs = [0_u32; 64];
    let mut attr = [0_u64; 16];
    attr[0] = u64::from(target) | u64::from(hook) << 32;
    attr[2] = programs.as_mut_ptr() as u64;
    attr[3] = programs.len() as u64;
    bpf(PROG_QUERY, &mut attr)?;
    Ok(program_by_id(u64::from(programs[0])))
}

fn program_by_id(id: u64) -> OwnedFd {
    let mut attr = [0_u64; 16];
    attr[0] = id;
    descriptor(bpf(PROG_GET_FD_BY_ID, &mut attr).unwrap())
}

/// The id of the program of the first classic filter there.
fn classic_at(ifindex: u32, hook: u32) -> u64 {
    let side = if hook == INGRESS { "ingress" } else { "egress" };
    let name = nix::net::if_::if_indextoname(ifindex).unwrap();
    let name = name.to_str().unwrap();
    let listed = run(&format!("tc -j filter show dev {name} {side}"));
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let ids = listed.as_array().unwrap().iter();
    let mut ids = ids.filter_map(|filter| filter["options"]["prog"]["id"].as_u64());
    ids.next()
        .unwrap_or_else(|| panic!("no program in {listed:#}"))
}

/// What a program answers to a packet, and whether the packet is the same after it; `None` if the
/// kernel makes no packet of these bytes.
pub fn run_on(program: &OwnedFd, bytes: &[u8]) -> Option<(u32, bool)> {
    let mut after = [0_u8; 4096];
    let mut attr = run_attr(program, bytes, 1);
    attr[1] |= u64::try_from(after.len()).unwrap() << 32;
    attr[3] = after.as_mut_ptr() as u64;
    match bpf(PROG_TEST_RUN, &mut attr) {
        Ok(_) => {
            let length = usize::try_from(attr[1] >> 32).unwrap();
            let verdict = u32::try_from(attr[0] >> 32).unwrap();
            Some((verdict, after[..length] == *bytes))
        }
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => None,
        Err(error) => panic!("cannot run a program: {error}"),
    }
}

/// What a program answers to a packet, and how long `times` runs on it took.
pub fn run_often(program: &OwnedFd, bytes: &[u8], times: u32) -> (u32, Duration) {
    let mut attr = run_attr(program, bytes, times);
    let start = Instant::now();
    bpf(PROG_TEST_RUN, &mut attr).unwrap();
    (u32::try_from(attr[0] >> 32).unwrap(), start.elapsed())
}

fn run_attr(program: &OwnedFd, bytes: &[u8], times: u32) -> [u64; 16] {
    let mut attr = [0_u64; 16];
    attr[0] = fd(program);
    attr[1] = u64::try_from(bytes.len()).unwrap();
    attr[2] = bytes.as_ptr() as u64;
    attr[4] = u64::from(times);
    attr
}

/// Has the kernel count the runs of all programs, and how long they take, as long as it is held.
#[allow(dead_code, reason = "for the tests of the product alone")]
pub fn timing() -> OwnedFd {
    // BPF_STATS_RUN_TIME is 0.
    descriptor(bpf(ENABLE_STATS, &mut [0_u64; 16]).unwrap())
}

/// How often a program ran while the kernel counted, and how long that took.
#[allow(dead_code, reason = "for the tests of the product alone")]
pub fn runs(program: &OwnedFd) -> (u64, Duration) {
    /// `run_time_ns` of `bpf_prog_info`, in words.
    const TIME: usize = 24;
    /// `run_cnt`.
    const COUNT: usize = 25;
    let mut info = [0_u64; 26];
    let mut attr = [0_u64; 16];
    attr[0] = fd(program) | (size_of_val(&info) as u64) << 32;
    attr[1] = info.as_mut_ptr() as u64;
    bpf(OBJ_GET_INFO_BY_FD, &mut attr).unwrap();
    (info[COUNT], Duration::from_nanos(info[TIME]))
}

/// Detaches a link by force, as `bpftool link detach` does.
pub fn detach(link: u32) {
    let mut attr = [0_u64; 16];
    attr[0] = u64::from(link);
    let held = descriptor(bpf(LINK_GET_FD_BY_ID, &mut attr).unwrap());
    let mut attr = [0_u64; 16];
    attr[0] = fd(&held);
    bpf(LINK_DETACH, &mut attr).unwrap();
}

/// Runs a program with arguments; what it prints.
pub fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap())
        .args(words)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {text}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The index of an interface of this network namespace.
pub fn index(name: &str) -> u32 {
    nix::net::if_::if_nametoindex(name).unwrap()
}

fn fd(of: &OwnedFd) -> u64 {
    u64::try_from(of.as_raw_fd()).unwrap()
}

fn descriptor(raw: i64) -> OwnedFd {
    // SAFETY: the kernel just made it, and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(i32::try_from(raw).unwrap()) }
}

fn bpf(command: i64, attr: &mut [u64; 16]) -> io::Result<i64> {
    // SAFETY: the attributes are as long as said, and all pointers in them outlive the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), size_of_val(attr)) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}
