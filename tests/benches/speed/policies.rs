//! Policies of all accounts: how long it takes until they are there, and until they are others, and what memory
//! they take in the kernel.
//!
//! limiter's part is the kernel's: a compiled policy made to be what the maps say. A peer's is what its own
//! program does with rules on its input.
//!
//! Memory is what the kernel has more of in all: slab, virtual areas and memory by processor, of `/proc/meminfo`,
//! after what was there before has been given back. limiter's maps have room for twice the accounts, and a part
//! that is always as large; of an account, it is the difference to a policy of one.

use std::{fs, thread, time::Duration, time::Instant};

use crate::{
    accounts::Accounts,
    lab::Lab,
    limiter,
    net::Net,
    peers::{self, Peer},
    question::{Case, Question},
    report::{LIMITER, Report},
    turns::Turns,
};

/// How many limits an account has of which the memory is told.
const LIMITS: [usize; 2] = [1, 4];
/// How often memory is measured at least: whatever else happens on the machine is in it, too.
const LEAST: usize = 3;
/// How long the kernel is left alone between two looks at its memory.
const SETTLE: Duration = Duration::from_millis(200);
/// In how many looks, one after the other, its memory has to be the same.
const STILL: usize = 5;
/// The same: bytes. A hundred thousand accounts take some ten million.
const QUIET: f64 = 256.0 * 1024.0;
/// A minute.
const MOST_LOOKS: usize = 300;

/// Loads and changes the policies of so many accounts, in so many rounds.
pub fn run(accounts: Accounts, rounds: usize, report: &mut Report) {
    let case = Case::Accounts(accounts.count);
    let [mut load, mut one, mut all] = [(); 3].map(|()| Turns::default());
    for round in 0..rounds {
        for peer in Peer::all() {
            // What learns accounts as they come has nothing to load.
            if accounts.count <= peer.most() && peer != Peer::DynamicSet {
                peer_round(peer, accounts, [&mut load, &mut one, &mut all]);
            }
        }
        limiter_round(accounts, round, [&mut load, &mut one, &mut all]);
    }
    report.take(Question::Load, case, &load);
    report.take(Question::ChangeOne, case, &one);
    report.take(Question::ChangeAll, case, &all);
}

fn peer_round(peer: Peer, accounts: Accounts, [load, one, all]: [&mut Turns; 3]) {
    let net = Net::new();
    net.go();
    let name = peer.name();
    let rules = peer.rules(accounts);
    load.add_ms(name, time(|| peer.load(&rules)));
    if peer == Peer::ElementSet {
        let middle = accounts.uids().nth(accounts.count / 2).unwrap();
        let changed = peers::other_limit(middle, true);
        one.add_ms(name, time(|| peers::nft(&changed)));
        let changed = peers::other_limits(accounts, true);
        all.add_ms(name, time(|| peers::nft(&changed)));
    }
}

fn limiter_round(accounts: Accounts, round: usize, [load, one, all]: [&mut Turns; 3]) {
    let net = Net::new();
    net.go();
    let mut lab = limiter::loaded(accounts, 1);
    let mut image = limiter::image(accounts, &limiter::limits(1, limiter::MOST));
    let mut added = 0;
    load.add_ms(LIMITER, time(|| added = lab.apply(&image).added));
    assert!(added >= accounts.count, "all accounts are there");
    // The first two are the node and whoever is nobody else.
    let middle =
        image.tenants.len() - accounts.count + (accounts.count / 2 + round) % accounts.count;
    image.tenants[middle].limits = limiter::limits(1, limiter::MOST - 1);
    let mut changed = 0;
    one.add_ms(LIMITER, time(|| changed = lab.apply(&image).changed));
    assert_eq!(changed, 1, "one account changed");
    let image = limiter::image(accounts, &limiter::limits(1, limiter::MOST - 2));
    all.add_ms(LIMITER, time(|| changed = lab.apply(&image).changed));
    assert_eq!(changed, accounts.count, "all accounts changed");
}

fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// Memory of an account, with one limit and with four, and of an element of nftables' set, in so many rounds.
pub fn memory(accounts: Accounts, rounds: usize, report: &mut Report) {
    let mut turns = [Turns::default(), Turns::default()];
    let count = by_account(accounts.count);
    for round in 0..rounds.max(LEAST) {
        // What is only told, and compared with nobody, is measured once.
        let told = if round == 0 { LIMITS.len() } else { 1 };
        for (turns, limits) in turns.iter_mut().zip(LIMITS).take(told) {
            let (many, maps) = limiter_memory(accounts, limits);
            let (few, fixed) = limiter_memory(Accounts::new(1), limits);
            turns.add(LIMITER, (many - few) / (count - 1.0));
            turns.add("limiter, as its maps say", (maps - fixed) / (count - 1.0));
            turns.add("limiter, with what is always there", many / count);
        }
        for peer in [Peer::ElementSet, Peer::VerdictMap] {
            turns[0].add(peer.name(), peer_memory(peer, accounts) / count);
        }
    }
    for (turns, limits) in turns.iter().zip(LIMITS) {
        let case = Case::Limits {
            accounts: accounts.count,
            limits,
        };
        report.take(Question::Memory, case, turns);
    }
}

/// What a peer takes, as the machine sees it, bytes.
fn peer_memory(peer: Peer, accounts: Accounts) -> f64 {
    let net = Net::new();
    net.go();
    let rules = peer.rules(accounts);
    let before = kernel_memory();
    peer.load(&rules);
    kernel_memory() - before
}

#[expect(clippy::cast_precision_loss, reason = "there are not that many")]
fn by_account(count: usize) -> f64 {
    count as f64
}

/// What limiter takes, as the machine sees it, and as its maps say, bytes.
fn limiter_memory(accounts: Accounts, limits: usize) -> (f64, f64) {
    let net = Net::new();
    net.go();
    let image = limiter::image(accounts, &limiter::limits(limits, limiter::MOST));
    let before = kernel_memory();
    let mut lab = limiter::loaded(accounts, limits);
    lab.apply(&image);
    let after = kernel_memory();
    let maps = maps_memory(&lab);
    (after - before, maps)
}

/// What the kernel has for itself, bytes, once it has given back what it can: the memory of maps, sets and
/// namespaces is freed by threads of the kernel, some time after nobody needs it any more.
fn kernel_memory() -> f64 {
    let mut seen = vec![now()];
    loop {
        thread::sleep(SETTLE);
        seen.push(now());
        let last = seen.iter().rev().take(STILL);
        let (most, least) = last.fold((0.0, f64::MAX), |(most, least), it| {
            (it.max(most), it.min(least))
        });
        if seen.len() >= STILL && most - least < QUIET {
            return seen[seen.len() - 1];
        }
        assert!(
            seen.len() < MOST_LOOKS,
            "the kernel's memory does not settle"
        );
    }
}

fn now() -> f64 {
    let all = fs::read_to_string("/proc/meminfo").unwrap();
    ["Slab:", "VmallocUsed:", "Percpu:"]
        .iter()
        .map(|name| number_after(&all, name) * 1024.0)
        .sum()
}

/// What the maps of the lab say that they take, bytes.
fn maps_memory(lab: &Lab) -> f64 {
    assert!(lab.pin_dir().exists(), "the maps are there");
    let mut seen = Vec::new();
    let mut sum = 0.0;
    for entry in fs::read_dir("/proc/self/fdinfo").unwrap() {
        // The one for reading the directory is gone.
        let text = fs::read_to_string(entry.unwrap().path()).unwrap_or_default();
        let Some(id) = text.lines().find_map(|line| line.strip_prefix("map_id:")) else {
            continue;
        };
        if !seen.contains(&id.trim().to_owned()) {
            seen.push(id.trim().to_owned());
            sum += number_after(&text, "memlock:");
        }
    }
    sum
}

/// The number in the line that begins so.
fn number_after(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let word = line.and_then(|line| line.split_whitespace().next());
    word.unwrap().parse().unwrap()
}
