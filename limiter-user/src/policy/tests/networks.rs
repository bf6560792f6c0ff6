//! Other networks: what is blocked, what stays reachable, whose addresses are; and files of
//! prefixes.

use std::{fmt::Write as _, net::IpAddr, time::Instant};

use super::*;
use crate::{
    policy::{
        compile::{Compiled, compile},
        last_good,
        model::{Estimate, LoginLimit},
    },
    system::System,
};

fn compiled(config: &Config, own: &[&str]) -> Compiled {
    let own = own.iter().map(|address| address.parse().unwrap());
    let system = System {
        own_addresses: own.collect(),
        ..System::default()
    };
    compile(&config.policy(), &system)
}

fn blocked(config: &Config) -> Vec<String> {
    let set = config.policy().node.blocked.prefixes;
    set.iter().map(|net| net.to_string()).collect()
}

#[test]
fn files_of_prefixes_are_read_as_the_field_writes_them() {
    let config = Config::new("blocked: [lists/drop.txt, 192.0.2.7, ./bare]\n");
    fs::create_dir(config.path("lists")).unwrap();
    let config = config
        .write(
            "lists/drop.txt",
            "\u{feff}; Spamhaus DROP List 2024/01/01\r\n\
             203.0.113.0/24 ; SBL123\r\n\
             # a comment\n\n\
             \t198.51.100.0/25# none before it\n\
             2001:db8::/32 ; SBL456\n\
             2001:db8:7::/48\n\
             ::ffff:203.0.113.9\n",
        )
        .write("bare", "203.0.113.7\n2001:db9::1");
    assert_eq!(config.faults(), Vec::<String>::new());
    assert_eq!(
        blocked(&config),
        [
            "192.0.2.7/32",
            "198.51.100.0/25",
            "203.0.113.0/24",
            "2001:db8::/32",
            "2001:db9::1/128"
        ]
    );
    let loaded = config.load();
    let names: Vec<_> = loaded.files.iter().map(|file| file.file_name()).collect();
    let wanted = ["limiter.yaml", "drop.txt", "bare"].map(|name| Some(name.as_ref()));
    assert_eq!(names, wanted);
}

#[test]
fn faults_in_files_of_prefixes_name_the_line() {
    let config = Config::new("blocked:\n- missing.txt\n- drop.txt\n- other.txt\n- /etc\n")
        .write(
            "drop.txt",
            "203.0.113.0/24\n  203.0.113.7/24 ; SBL1\n203.0.113.0/33\n203.0.113.0/24 SBL2\n\
             example.org\n0.0.0.0/0\n",
        )
        .write("other.txt", "2001:db8::/129\n");
    all(
        &config,
        &[
            "drop.txt:2:3: error: blocked: 203.0.113.7/24 has bits set beyond its length of 24; \
             203.0.113.0/24, or 203.0.113.7 for the one address",
            "drop.txt:3:1: error: blocked: 203.0.113.0/33 has an impossible length; a length from \
             0 to 32 after the `/`",
            "drop.txt:4:1: error: blocked: \"203.0.113.0/24 SBL2\" has an impossible length;…",
            "drop.txt:5:1: error: blocked: example.org is neither an address nor a prefix;…",
            "drop.txt:6:1: error: blocked: 0.0.0.0/0 holds the whole internet; prefixes that \
             leave something out",
            "limiter.yaml:2:3: error: blocked: …missing.txt: there is no such file; create it; it \
             may be empty",
            "limiter.yaml:5:3: error: blocked: /etc: is a directory, not a regular file; a \
             regular file, or a symbolic link to one",
            "other.txt:1:1: error: blocked: 2001:db8::/129 has an impossible length;…",
        ],
    );
}

#[test]
fn a_page_under_the_name_of_a_list_is_one_mistake() {
    let config =
        Config::new("blocked: [drop.txt]\n").write("drop.txt", "<p>not found</p>\n".repeat(1_000));
    let faults = config.faults();
    assert_eq!(faults.len(), 21);
    assert_eq!(
        faults[0],
        "drop.txt: error: blocked: 980 more lines are no prefixes; one address or prefix a line; \
         comments behind `#` or `;`"
    );
}

#[test]
fn nobody_else_may_write_a_list() {
    let config = Config::new("blocked: [drop.txt]\n").write("drop.txt", "203.0.113.0/24\n");
    let path = config.path("drop.txt");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let faults = config.faults();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(
        faults[0].contains("can be written by others (mode 0666); chmod go-w"),
        "{faults:?}"
    );
}

#[test]
fn the_whole_internet_is_never_blocked() {
    for (text, expected) in [
        (
            "[0.0.0.0/0]",
            "limiter.yaml:1:11: error: blocked[0]: 0.0.0.0/0 holds the whole internet; prefixes \
             that leave something out",
        ),
        (
            "[2000::/3]",
            "limiter.yaml:1:11: error: blocked[0]: 2000::/3 holds the whole internet; prefixes \
             that leave something out",
        ),
        (
            "[0.0.0.0/1, 128.0.0.0/1]",
            "limiter.yaml:1:10: error: blocked: the prefixes together hold all of IPv4; prefixes \
             that leave something to talk to; this would cut the node off",
        ),
        (
            "[2000::/4, 3000::/4]",
            "limiter.yaml:1:10: error: blocked: the prefixes together hold all of IPv6; prefixes \
             that leave something to talk to; this would cut the node off",
        ),
    ] {
        only(&Config::new(&format!("blocked: {text}\n")), expected);
    }
}

#[test]
fn what_the_node_needs_itself_is_warned_about() {
    let config = Config::new(
        "management: [192.0.2.128/25]\n\
         blocked: [10.0.0.0/8, 127.0.0.0/8, 192.0.2.0/24, 203.0.113.0/24]\n",
    );
    let faults = compiled(&config, &["127.0.0.1", "10.1.2.3", "10.1.2.4", "192.0.3.1"]).faults;
    assert_eq!(
        config.print(&faults),
        [
            "limiter.yaml:2:10: warning: blocked: 10.0.0.0/8 holds this node's own address \
             10.1.2.3 (and 1 more); take it out: this node could not connect to itself there, \
             nor to neighbours such as its router",
            "limiter.yaml:2:10: warning: blocked: 127.0.0.0/8 holds loopback addresses; loopback \
             stays open whatever is blocked; take it out",
            "limiter.yaml:2:10: warning: blocked: 192.0.2.0/24 shares addresses with \
             192.0.2.128/25 of `management`; take it out of one: what is blocked is refused, also \
             for management",
        ]
    );
    let image = compiled(&config, &[]).image.unwrap();
    assert_eq!(image.blocked.len(), 4);
    assert_eq!(image.management, ["192.0.2.128/25".parse().unwrap()]);
}

#[test]
fn addresses_and_interfaces_have_one_owner_each() {
    all(
        &Config::new("")
            .write(
                "tenants.d/a.yaml",
                "tenant: a\nmatch: {addresses: [203.0.113.7, 203.0.113.0/24], interfaces: [tap1*]}\n",
            )
            .write(
                "tenants.d/b.yaml",
                "tenant: b\nmatch: {addresses: [\"::ffff:203.0.113.7\"], interfaces: [tap1*]}\n",
            ),
        &[
            "tenants.d/b.yaml:2:21: error: match.addresses: 203.0.113.7/32 is claimed by b and by \
             a; take it out of one; the other is at tenants.d/a.yaml:2:21",
            "tenants.d/b.yaml:2:57: error: match.interfaces: tap1* is claimed by b and by a; take \
             it out of one; the other is at tenants.d/a.yaml:2:64",
        ],
    );
}

#[test]
fn what_is_nobodys_cannot_be_claimed() {
    for (text, what) in [
        ("0.0.0.0/0", "holds the whole internet"),
        ("2000::/3", "holds the whole internet"),
        ("127.0.0.1", "holds addresses that are nobody's"),
        ("224.0.0.0/8", "holds addresses that are nobody's"),
        ("\"::1\"", "holds addresses that are nobody's"),
    ] {
        let config = Config::tenants(&format!("tenant: a\nmatch: {{addresses: [{text}]}}\n"));
        let faults = config.faults();
        assert!(
            faults.len() == 1 && faults[0].contains("error") && faults[0].contains(what),
            "{text}: {faults:?}"
        );
    }
}

#[test]
fn addresses_and_interfaces_reach_the_image() {
    let config = Config::tenants(
        "tenant: a\nmatch: {addresses: [203.0.113.7, 2001:db8:7::/64], interfaces: [tap1*, veth7]}\n\
         ---\ntenant: b\nmatch: {addresses: [203.0.113.0/24]}\n",
    );
    let Compiled { image, faults } = compiled(&config, &["203.0.113.7", "203.0.113.1"]);
    assert_eq!(
        config.print(&faults),
        [
            "tenants.d/t.yaml:2:21: warning: match.addresses: 203.0.113.7 of tenant a is this \
             node's own address; right for an address that is the tenant's alone; what is \
             sanctioned by address then reaches it: never claim the node's main address"
        ]
    );
    let image = image.unwrap();
    let owners: Vec<(String, &str, &str)> = image
        .addresses
        .iter()
        .map(|binding| {
            let tenant = &image.tenants[binding.tenant].name;
            (
                binding.net.to_string(),
                tenant.as_str(),
                binding.by.as_str(),
            )
        })
        .collect();
    let expected = [
        ("203.0.113.0/24", "b", "addresses 203.0.113.0/24"),
        ("203.0.113.7/32", "a", "address 203.0.113.7"),
        ("2001:db8:7::/64", "a", "addresses 2001:db8:7::/64"),
    ];
    let expected = expected.map(|(net, tenant, by)| (net.to_owned(), tenant, by));
    assert_eq!(owners, expected);
    let globs = ["tap1*", "veth7"].map(str::to_owned).to_vec();
    assert_eq!(image.interfaces, [(2, globs)]);
}

#[test]
fn mailbox_logins_by_client_and_by_account() {
    let config = Config::new("mailbox: {per_client: {max: 30, window: 1h, lock: 10m}}\n");
    assert_eq!(config.faults(), Vec::<String>::new());
    let limit = LoginLimit {
        max: 30,
        window: std::time::Duration::from_secs(3_600),
        lock: std::time::Duration::from_secs(600),
    };
    assert_eq!(compiled(&config, &[]).image.unwrap().mailbox, Some(limit));
    assert_eq!(config.policy().node.mailbox_accounts, None);
    let config = Config::new("mailbox: {per_account: {max: 30, window: 1h, lock: 10m}}\n");
    assert_eq!(config.faults(), Vec::<String>::new());
    assert_eq!(config.policy().node.mailbox, None);
    assert_eq!(config.policy().node.mailbox_accounts, Some(limit));
    all(
        &Config::new("mailbox: {per_client: {max: 0, window: 32d, lock: 0s}}\n"),
        &[
            "limiter.yaml:1:29: error: mailbox.per_client.max: 0 is too small; a whole number…",
            "limiter.yaml:1:40: error: mailbox.per_client.window: 32d is too long; a duration…",
            "limiter.yaml:1:51: error: mailbox.per_client.lock: 0s is too short; a duration…",
        ],
    );
}

#[test]
fn who_counts_mail() {
    let config = Config::tenants(
        "tenant: top\nlimits: [{unit: recipients, max: 1, window: 1h}]\n---\n\
         tenant: child\nparent: top\n---\n\
         tenant: else\npace: [{unit: connections, every: 1s}]\n---\n\
         tenant: paced\npace: [{unit: messages, every: 1s, ports: [submission]}]\n---\n\
         tenant: later\nlimits: [{unit: distinct_recipients, max: 1, window: 1h}]\n",
    );
    let image = compiled(&config, &[]).image.unwrap();
    let counting: Vec<&str> = image
        .tenants
        .iter()
        .zip(image.counts_mail())
        .filter(|(_, counts)| *counts)
        .map(|(tenant, _)| tenant.name.as_str())
        .collect();
    assert_eq!(counting, ["top", "child", "paced"]);
    let config = Config::new("limits: [{unit: messages, max: 1, window: 1h}]\n");
    let image = compiled(&config, &[]).image.unwrap();
    assert!(image.counts_mail().iter().all(|counts| *counts));
}

#[test]
fn the_summary_says_what_is_blocked() {
    let config = Config::new(
        "management: [192.0.2.0/24]\nblocked: [203.0.113.0/24]\n\
         mailbox: {per_client: {max: 30, window: 1h, lock: 10m}, per_account: {max: 20, window: 2h, lock: 1h}}\n\
         estimate: {turnarounds_per_message: 2}\n",
    );
    let text = crate::policy::describe::summary(&config.policy());
    for expected in [
        "blocked: 1 prefix (files are read again at a reload)\n",
        "reachable under suspension: 192.0.2.0/24\n",
        "mailbox connections of one client: 30 per 1h, then locked for 10m\n",
        "mailbox logins to one account: 20 per 2h, then locked for 1h\n",
        "encrypted sessions: a message for every 2 turnarounds or 256 bytes of answers\n",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
}

#[test]
fn estimates() {
    let config = Config::new(
        "estimate: {turnarounds_per_message: 2, reply_bytes_per_message: 512, blind_turnarounds: 0}\n",
    );
    assert_eq!(config.faults(), Vec::<String>::new());
    let wanted = Estimate {
        turnarounds_per_message: 2,
        reply_bytes_per_message: 512,
        blind_turnarounds: 0,
        ..Estimate::default()
    };
    assert_eq!(config.policy().node.estimate, wanted);
    all(
        &Config::new(
            "estimate: {turnarounds_per_message: 0, reply_bytes_per_message: 300, \
             payload_bytes_per_message: 1000, free_turnarounds: 1001, free_bytes: 1}\n",
        ),
        &[
            "limiter.yaml:1:37: error: estimate.turnarounds_per_message: 0 is too small; a whole…",
            "limiter.yaml:1:65: error: estimate.reply_bytes_per_message: 300 is no power of two; \
             256 or 512",
            "limiter.yaml:1:97: error: estimate.payload_bytes_per_message: 1000 is too small;…",
            "limiter.yaml:1:121: error: estimate.free_turnarounds: 1001 is too large;…",
            "limiter.yaml:1:127: error: estimate.free_bytes: unknown key;…",
        ],
    );
}

/// A million prefixes: quick to read, small to keep, and the kept policy needs no files.
#[test]
fn a_million_prefixes() {
    let mut text = String::new();
    for n in 0..1_000_000_u32 {
        // Scattered /32s, none of them inside another.
        let address = IpAddr::from(n.wrapping_mul(0x9e37_79b1).to_be_bytes());
        writeln!(text, "{address} ; SBL{n}").unwrap();
    }
    let config = Config::new("blocked: [drop.txt]\nstate_dir: state\n").write("drop.txt", text);
    let start = Instant::now();
    let policy = config.policy();
    let took = start.elapsed();
    assert_eq!(policy.node.blocked.prefixes.len(), 1_000_000);
    let start = Instant::now();
    last_good::keep(&policy).unwrap();
    let kept = start.elapsed();
    fs::remove_file(config.path("drop.txt")).unwrap();
    let size = fs::metadata(last_good::path(&policy.places.state_dir))
        .unwrap()
        .len();
    let start = Instant::now();
    let again = last_good::load(&policy.places.state_dir).unwrap().unwrap();
    let back = start.elapsed();
    assert_eq!(again, policy);
    assert!(size < 11_000_000, "{size} bytes");
    std::println!(
        "1,000,000 prefixes: read and checked in {took:?}, kept in {kept:?} ({size} bytes), \
         loaded again in {back:?}"
    );
}
