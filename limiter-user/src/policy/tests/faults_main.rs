//! What can be wrong in the main file.

use super::*;

/// Each main file and its one fault.
#[track_caller]
fn table(cases: &[(&str, &str)]) {
    for (main, expected) in cases {
        let faults = Config::new(main).faults();
        assert_eq!(faults, [format!("limiter.yaml:{expected}")], "{main}");
    }
}

#[test]
fn unknown_keys_say_which_was_meant() {
    all(
        &Config::new("mod: enforce\nattach: {guest: []}\nfoobar: 1\n"),
        &[
            "limiter.yaml:1:1: error: mod: unknown key; did you mean `mode`? The keys here are…",
            "limiter.yaml:2:10: error: attach.guest: unknown key; did you mean `guests`? The keys \
             here are cgroup, uplinks, guests",
            "limiter.yaml:3:1: error: foobar: unknown key; the keys here are version, node, mode,…",
        ],
    );
}

#[test]
fn wrong_types() {
    table(&[
        (
            "mode: [enforce]\n",
            "1:7: error: mode: a list of 1 is not a single value; observe | enforce",
        ),
        (
            "mode: null\n",
            "1:7: error: mode: null is no value; observe | enforce",
        ),
        (
            "mode: enforced\n",
            "1:7: error: mode: enforced is not known; observe | enforce",
        ),
        (
            "ports: {smtp: 25}\n",
            "1:15: error: ports.smtp: 25 is not a list; a list of ports from 1 to 65535, such as [25]",
        ),
        (
            "ports: 25\n",
            "1:8: error: ports: 25 is not a map; a map with the keys smtp, submission, mailbox",
        ),
        (
            "plans: [starter]\n",
            "1:8: error: plans: a list of 1 is not a map; a map from the names of plans to their keys",
        ),
        (
            "version: 2\n",
            "1:10: error: version: 2 is too large; a whole number from 1 to 1",
        ),
        (
            "state_dir: null\n",
            "1:12: error: state_dir: null is no value; a path",
        ),
    ]);
    let faults = Config::new("- mode\n").faults();
    assert_eq!(faults.len(), 1);
    assert!(
        faults[0].starts_with("limiter.yaml:1:1: error: the document: a list of 1 is not a map;"),
        "{faults:?}"
    );
}

#[test]
fn impossible_numbers() {
    let limits = |what: &str| format!("limits: [{{unit: connections, {what}}}]\n");
    for (what, column, problem) in [
        (
            "max: -5, window: 1h",
            35,
            "limits[0].max: -5 is negative; a whole number from 0 to 4294967295",
        ),
        (
            "max: 4294967296, window: 1h",
            35,
            "limits[0].max: 4294967296 is too large; a whole number from 0 to 4294967295",
        ),
        (
            "max: \"5\", window: 1h",
            35,
            "limits[0].max: \"5\" is text, not a number; a whole number from 0 to 4294967295, \
             without quotes",
        ),
        (
            "max: many, window: 1h",
            35,
            "limits[0].max: many is not a whole number; a whole number from 0 to 4294967295",
        ),
        (
            "max: 5, window: 0s",
            46,
            "limits[0].window: 0s is too short; a duration from 1s to 31d, written like 90s, 15m, \
             1h or 30d",
        ),
        (
            "max: 5, window: 32d",
            46,
            "limits[0].window: 32d is too long; a duration from 1s to 31d, written like 90s, 15m, \
             1h or 30d",
        ),
        (
            "max: 5, window: 3600",
            46,
            "limits[0].window: 3600 has no unit; a duration from 1s to 31d, written like 90s, \
             15m, 1h or 30d",
        ),
        (
            "max: 5, window: soon",
            46,
            "limits[0].window: soon is not a duration; a duration from 1s to 31d, written like \
             90s, 15m, 1h or 30d",
        ),
        (
            "window: 1h",
            10,
            "limits[0].max: is missing; add `max`, how many units at most",
        ),
        (
            "max: 5",
            10,
            "limits[0].window: is missing; add `window`, a duration such as 1h",
        ),
    ] {
        let faults = Config::new(&limits(what)).faults();
        let expected = format!("limiter.yaml:1:{column}: error: {problem}");
        assert_eq!(faults, [expected], "{what}");
    }
}

#[test]
fn limits_and_paces() {
    let default = |keys: &str| format!("default:\n  {keys}\n");
    for (keys, expected) in [
        (
            "pace: [{unit: connections, every: 0s}]",
            "2:37: error: default.pace[0].every: 0s is too short; a duration from 1ms to 31d, \
             written like 90s, 15m, 1h or 30d",
        ),
        (
            "pace: [{unit: connections, every: 1s, burst: 0}]",
            "2:48: error: default.pace[0].burst: 0 is too small; a whole number from 1 to 1000000",
        ),
        (
            "limits: [{unit: bytes, max: 1, window: 1h}]",
            "2:19: error: default.limits[0].unit: bytes is not known; connections | messages | \
             recipients | distinct_recipients",
        ),
        (
            "limits: [{unit: connections, max: 1, window: 1h, ports: [mailbox]}]",
            "2:60: error: default.limits[0].ports[0]: mailbox has limits of its own; smtp | \
             submission; mailbox logins are limited under `mailbox`",
        ),
        (
            "limits: [{unit: connections, max: 1, window: 1h, ports: []}]",
            "2:59: error: default.limits[0].ports: a list of 0 names no port group, so nothing \
             would count; a list of smtp, submission or both; without the key `ports`, [smtp]",
        ),
        (
            "limits: [{unit: connections, max: 1, window: 1h, ports: [25]}]",
            "2:60: error: default.limits[0].ports[0]: 25 is a number; the name of a port group, \
             smtp | submission; numbers belong under `ports` of the main file",
        ),
    ] {
        let faults = Config::new(&default(keys)).faults();
        assert_eq!(faults, [format!("limiter.yaml:{expected}")], "{keys}");
    }
    let one = "  - {unit: connections, max: 1, window: 1h}\n";
    only(
        &Config::new(&format!("limits:\n{}", one.repeat(5))),
        "limiter.yaml:6:5: error: limits[4]: a map is one limit too many; at most 4",
    );
    let one = "    - {unit: connections, every: 1s}\n";
    only(
        &Config::new(&format!("default:\n  pace:\n{}", one.repeat(5))),
        "limiter.yaml:7:7: error: default.pace[4]: a map is one pace too many; at most 4",
    );
}

#[test]
fn ports() {
    table(&[
        (
            "ports: {smtp: [0]}\n",
            "1:16: error: ports.smtp[0]: 0 is too small; a whole number from 1 to 65535",
        ),
        (
            "ports: {smtp: [65536]}\n",
            "1:16: error: ports.smtp[0]: 65536 is too large; a whole number from 1 to 65535",
        ),
        (
            "ports: {smtp: [25, 26], submission: [26]}\n",
            "1:37: error: ports.submission: a list of 1 holds port 26, which is in the group smtp \
             too; each port in one group only",
        ),
        (
            "ports: {smtp: []}\n",
            "1:15: warning: ports.smtp: a list of 0 means that no connection is direct SMTP, so \
             that nothing is refused or counted; leave `smtp` out for port 25",
        ),
    ]);
}

#[test]
fn prefixes_and_exemptions() {
    table(&[
        (
            "exempt: [{to: 203.0.113.7/24, ports: [25]}]\n",
            "1:15: error: exempt[0].to: 203.0.113.7/24 has bits set beyond its length of 24; \
             203.0.113.0/24, or 203.0.113.7 for the one address",
        ),
        (
            "exempt: [{to: 203.0.113.0/33}]\n",
            "1:15: error: exempt[0].to: 203.0.113.0/33 has an impossible length; a length from 0 \
             to 32 after the `/`",
        ),
        (
            "exempt: [{to: mail.example.org}]\n",
            "1:15: error: exempt[0].to: mail.example.org is neither an address nor a prefix; an \
             address or a prefix, such as 203.0.113.7, 203.0.113.0/24 or 2001:db8:7::/64",
        ),
        (
            "exempt: [{to: 203.0.113.7, ports: [1, 2, 3, 4, 5, 6, 7, 8, 9]}]\n",
            "1:35: error: exempt[0].ports: a list of 9 names too many ports; a list of 1 to 8 \
             ports; without the key `ports`, every port",
        ),
        (
            "exempt: [{to: 203.0.113.7, ports: []}]\n",
            "1:35: error: exempt[0].ports: a list of 0 exempts no port; a list of 1 to 8 ports; \
             without the key `ports`, every port",
        ),
        (
            "exempt: [{ports: [25]}]\n",
            "1:10: error: exempt[0].to: is missing; add `to`, an address or a prefix",
        ),
        (
            "mta: {addresses: [203.0.113.0/24]}\n",
            "1:19: error: mta.addresses[0]: 203.0.113.0/24 is not an address; an address such as \
             203.0.113.7 or 2001:db8::7",
        ),
    ]);
}

#[test]
fn the_mta() {
    table(&[
        (
            "mta: {listen: [\"0.0.0.0:25\"]}\n",
            "1:16: error: mta.listen[0]: \"0.0.0.0:25\" cannot be connected to; the loopback \
             address or one of this node's own, such as 127.0.0.1:25",
        ),
        (
            "mta: {listen: [127.0.0.1]}\n",
            "1:16: error: mta.listen[0]: 127.0.0.1 is not an address and a port; an address and a \
             port, such as 127.0.0.1:25 or \"[::1]:25\"",
        ),
        (
            "mta: {listen: [\"127.0.0.1:25\", \"127.0.0.2:25\", \"[::1]:25\"]}\n",
            "1:32: warning: mta.listen[1]: \"127.0.0.2:25\" is not used; one address of each \
             family; 127.0.0.1:25 is used",
        ),
        (
            "mta: {users: [root]}\n",
            "1:15: error: mta.users[0]: root cannot be the MTA's user: every system service would \
             pass; the user that delivers, such as postfix or Debian-exim",
        ),
        (
            "mta: {users: []}\n",
            "1:14: warning: mta.users: a list of 0 leaves the node without an MTA: its mail \
             programs are limited like anybody; leave `users` out to have the known MTA users found",
        ),
        (
            "mta: {listen: []}\ndefault: {direct_smtp: redirect}\n",
            "2:24: warning: direct_smtp: redirect has nowhere to send, so connections are refused; \
             name the MTA's sockets in mta.listen of the main file",
        ),
        (
            "default: {submission: redirect}\n",
            "1:23: error: default.submission: redirect is for direct_smtp only; block | allow; \
             only the port group smtp can be redirected",
        ),
    ]);
}

#[test]
fn plans_and_accounts() {
    table(&[
        (
            "plans: {starter: {}}\naccounts: {uids: 1000-60000, plan: startr}\n",
            "2:36: error: plan: startr does not exist; did you mean starter?",
        ),
        (
            "default: {plan: big}\n",
            "1:17: error: plan: big does not exist; define it under `plans` of the main file",
        ),
        (
            "plans: {a: {mode: enforce}}\n",
            "1:13: error: plans.a.mode: unknown key; the keys here are direct_smtp, submission, \
             exempt, limits, pace",
        ),
        (
            "accounts: {plan: null}\n",
            "1:11: error: accounts.uids: is missing; add `uids`, such as 1000-60000",
        ),
        (
            "accounts: {uids: 0-60000}\n",
            "1:18: error: accounts.uids: 0-60000 holds uid 0: root is the node itself, not a \
             tenant; a uid from 1 to 4294967294, or a range such as 2100-2199",
        ),
        (
            "accounts: {uids: [60000-1000]}\n",
            "1:19: error: accounts.uids[0]: 60000-1000 ends before it starts; a range from low to \
             high: 1000-60000",
        ),
        (
            "attach: {cgroup: machine.slice}\n",
            "1:18: error: attach.cgroup: machine.slice does not start with `/`; a path below the \
             cgroup v2 mount, such as / or /machine.slice",
        ),
        (
            "retention: {events: forever}\n",
            "1:21: error: retention.events: forever is not a duration; a duration from 0s to \
             36500d, written like 90s, 15m, 1h or 30d",
        ),
    ]);
}

#[test]
fn what_is_not_enforced_yet_is_checked_and_said() {
    all(
        &Config::new(
            "mailbox: {per_account: {max: 30, window: 1h, lock: 1h}}\n\
             limits: [{unit: messages, max: 1, window: 1h}]\n\
             default: {limits: [{unit: distinct_recipients, max: 1, window: 1h}]}\n\
             metrics: 127.0.0.1:9477\n",
        ),
        &["limiter.yaml:4:10: warning: metrics: not enforced by this version;…"],
    );
    all(
        &Config::new(
            "blocked: [203.0.113.0/99]\n\
             management: [host]\n\
             mailbox: {per_account: {max: -1, window: 0s}}\n\
             services: {policy: tcp:1, on_failure: maybe, allowed_users: [1]}\n\
             notices: {from: nobody, webhook: ftp://a}\n\
             complaints: {maildir: [a], max_size: 1G, received_by: [a b]}\n\
             metrics: 9477\n\
             bounces: {logs: [{}, /var/log/mail.log], journal: yes}\n\
             mailman: {lists: {}, max: -1, tenants: {alice: many}}\n",
        ),
        &[
            "limiter.yaml:1:11: error: blocked[0]: 203.0.113.0/99 has an impossible length;…",
            "limiter.yaml:2:14: error: management[0]: host is neither an address nor a prefix;…",
            "limiter.yaml:3:24: error: mailbox.per_account.lock: is missing;…",
            "limiter.yaml:3:30: error: mailbox.per_account.max: -1 is negative;…",
            "limiter.yaml:3:42: error: mailbox.per_account.window: 0s is too short;…",
            "limiter.yaml:4:20: error: services.policy: tcp:1 is not the address of a service;…",
            "limiter.yaml:4:39: error: services.on_failure: maybe is not known; open | closed",
            "limiter.yaml:4:62: error: services.allowed_users[0]: 1 is a number;…",
            "limiter.yaml:5:17: error: notices.from: nobody is not a mail address;…",
            "limiter.yaml:5:34: error: notices.webhook: ftp://a is not a URL;…",
            "limiter.yaml:6:23: error: complaints.maildir: a list of 1 is not a single value;…",
            "limiter.yaml:6:38: error: complaints.max_size: 1G is not a size;…",
            "limiter.yaml:6:56: error: complaints.received_by[0]: \"a b\" is not the name of a host;…",
            "limiter.yaml:7:10: error: metrics: 9477 is not an address and a port; 127.0.0.1:9477,… or null",
            "limiter.yaml:7:10: warning: metrics: …",
            "limiter.yaml:8:17: warning: bounces.logs: /var/log/mail.log is usually written by syslog;…",
            "limiter.yaml:8:18: error: bounces.logs[0]: a map is not a single value;…",
            "limiter.yaml:8:51: error: bounces.journal: yes is neither true nor false; true or false",
            "limiter.yaml:9:18: error: mailman.lists: …",
            "limiter.yaml:9:27: error: mailman.max: -1 is negative;…",
            "limiter.yaml:9:48: error: mailman.tenants.alice: many is not a whole number;…",
        ],
    );
}

#[test]
fn what_is_switched_off_needs_no_warning() {
    let config = Config::new(
        "blocked: []\nmanagement: null\npolicies: []\nmailbox: {per_client: null, per_account: null}\n\
         services: {policy: null}\nnotices: null\ncomplaints: null\nbounces: null\nmailman: null\nmetrics: null\naccounts: null\n\
         tenants: null\nlimits: null\nattach: {uplinks: [], guests: []}\n",
    );
    assert_eq!(config.faults(), Vec::<String>::new());
    let policy = config.policy();
    assert_eq!(policy.places.tenants, "");
    assert_eq!(policy.places.uplinks, Some(Vec::new()));
}

#[test]
fn a_second_document_is_one_too_many() {
    only(
        &Config::new("mode: observe\n---\nmode: enforce\n"),
        "limiter.yaml:3:1: error: the main file holds a second document; one document; several \
         are legal in tenant files only",
    );
}
