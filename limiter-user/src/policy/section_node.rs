//! The main file: what holds for the node, and where things are.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::IpNet;

use super::{
    bounces::Bounces,
    complaints::Complaints,
    fault::Fault,
    findings::Findings,
    item::{Fields, Item, Parsed, Scalar, nearest, refuse, shown},
    mailman::Mailman,
    model::{
        Estimate, Exempt, Limit, Located, Mode, Mta, Origin, Places, Ports, Retention, UidRange,
    },
    notices::Notices,
    section_bounces, section_complaints, section_estimate, section_later, section_mailman,
    section_networks::{self, RawBlocked},
    section_notices, section_places, section_policies,
    section_rules::{RawRules, exempt, limits, ports},
    section_services,
    section_tenant::{mode_of, plan_of, texts},
    services::Services,
    value, value_net,
};

const KEYS: [&str; 16] = [
    "version",
    "node",
    "mode",
    "attach",
    "mta",
    "ports",
    "limits",
    "exempt",
    "plans",
    "accounts",
    "default",
    "tenants",
    "retention",
    "state_dir",
    "pin_dir",
    "control",
];
/// The longest that anything is kept.
const LONGEST_RETENTION: Duration = Duration::from_secs(100 * 365 * 86_400);
const DAY: Duration = Duration::from_secs(86_400);

/// The main file as it is written, defaults filled in.
#[derive(Debug)]
pub(super) struct RawNode {
    pub name: Option<String>,
    pub mode: Mode,
    pub mta: Mta,
    /// Where each of `mta.users` is written.
    pub mta_users: Vec<Located<String>>,
    pub ports: Ports,
    pub limits: Vec<Limit>,
    pub exempt: Vec<Exempt>,
    pub management: Vec<IpNet>,
    pub blocked: RawBlocked,
    pub mailbox: section_networks::Mailbox,
    pub estimate: Estimate,
    pub notices: Notices,
    pub complaints: Complaints,
    pub bounces: Bounces,
    pub mailman: Mailman,
    pub services: Services,
    pub retention: Retention,
    pub places: Places,
    pub tenants_origin: Origin,
    /// `None`: unreadable, so that any name may be one.
    pub plans: Option<HashMap<String, RawRules>>,
    pub accounts: Option<RawAccounts>,
    pub default: (Option<Located<String>>, RawRules),
    /// The policy files that bind every tenant.
    pub policies: Vec<Located<PathBuf>>,
}

/// `accounts` as it is written.
#[derive(Debug)]
pub(super) struct RawAccounts {
    pub uids: Vec<UidRange>,
    pub plan: Option<Located<String>>,
}

/// Reads the main file, whose absolute path is `config`. What is wrong with it is reported, and
/// the default stands in its place.
pub(super) fn node(item: &Item<'_>, config: &Path, out: &mut Findings) -> RawNode {
    let known: Vec<&str> = KEYS
        .iter()
        .chain(&section_networks::KEYS)
        .chain([&section_estimate::KEY, &section_policies::KEY])
        .chain([
            &section_notices::KEY,
            &section_complaints::KEY,
            &section_bounces::KEY,
            &section_mailman::KEY,
        ])
        .chain([&section_services::KEY, &section_later::KEY])
        .copied()
        .collect();
    let fields = item.fields(out, &known);
    let usable = fields.is_some();
    let fields = fields.unwrap_or(Fields::NONE);
    if let Some(item) = fields.get("version") {
        item.parse(out, "1", |scalar| value::whole(scalar, 1, 1));
    }
    let name = fields
        .set("node")
        .and_then(|item| item.parse(out, "the name of the node", value::line));
    let mode = mode_of(&fields, out).unwrap_or_default();
    let (mta, mta_users) = mta(&fields, out);
    let ports = port_groups(&fields, out);
    let tenants_origin = out.origin(fields.get("tenants").map_or(item.mark(), |i| i.mark()));
    section_later::check(&fields, out);
    let mut places = section_places::places(&fields, config, out);
    let (service_places, services) = section_services::services(&fields, &places.control, out);
    places.services = service_places;
    RawNode {
        name,
        mode,
        mta,
        mta_users,
        ports,
        limits: fields
            .get("limits")
            .map(|item| limits(&item, out))
            .unwrap_or_default(),
        exempt: fields
            .get("exempt")
            .map(|item| exempt(&item, out))
            .unwrap_or_default(),
        management: section_networks::management(&fields, out),
        blocked: section_networks::blocked(&fields, config.parent().unwrap_or(Path::new("/")), out),
        mailbox: section_networks::mailbox(&fields, out),
        estimate: section_estimate::estimate(&fields, out),
        notices: section_notices::notices(&fields, config, out),
        complaints: section_complaints::complaints(&fields, config, out),
        bounces: section_bounces::bounces(&fields, config, out),
        mailman: section_mailman::mailman(&fields, config, out),
        services,
        retention: retention(&fields, out),
        places,
        tenants_origin,
        plans: if usable { plans(&fields, out) } else { None },
        accounts: accounts(&fields, out),
        default: default(&fields, out),
        policies: section_policies::policies(&fields, out),
    }
}

/// A section; absent, null or not a map, it holds nothing.
pub(super) fn section<'s>(
    item: Option<&'s Item<'_>>,
    out: &mut Findings,
    known: &[&str],
) -> Fields<'s> {
    item.and_then(|item| item.fields(out, known))
        .unwrap_or(Fields::NONE)
}

fn mta(fields: &Fields<'_>, out: &mut Findings) -> (Mta, Vec<Located<String>>) {
    let item = fields.get("mta");
    let fields = section(item.as_ref(), out, &["users", "listen", "addresses"]);
    let mut located = Vec::new();
    let users = fields.get("users").map(|item| {
        for item in item.list(out, "a list of user names") {
            located.extend(item.located(out, "a user name", mta_user));
        }
        if item.is_empty() {
            item.warn(
                out,
                "leaves the node without an MTA: its mail programs are limited like anybody",
                "leave `users` out to have the known MTA users found",
            );
        }
        located.iter().map(|user| user.value.clone()).collect()
    });
    let listen = match fields.get("listen") {
        Some(item) => listeners(&item, out),
        None => vec![
            SocketAddr::from(([127, 0, 0, 1], 25)),
            SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 25)),
        ],
    };
    let addresses: Vec<IpAddr> = fields
        .get("addresses")
        .map(|item| texts(&item, out, "a list of addresses", value_net::address))
        .unwrap_or_default();
    let mta = Mta {
        users,
        listen,
        addresses,
    };
    (mta, located)
}

fn mta_user(scalar: Scalar<'_>) -> Parsed<String> {
    let name = value::user(scalar)?;
    if name == "root" {
        return refuse(
            "cannot be the MTA's user: every system service would pass",
            "the user that delivers, such as postfix or Debian-exim",
        );
    }
    Ok(name)
}

fn listeners(item: &Item<'_>, out: &mut Findings) -> Vec<SocketAddr> {
    let allowed = "a list such as [\"127.0.0.1:25\", \"[::1]:25\"]";
    let mut found: Vec<SocketAddr> = Vec::new();
    for item in item.list(out, allowed) {
        let Some(socket) = item.parse(out, "an address and a port", value_net::listener) else {
            continue;
        };
        let same = |earlier: &&SocketAddr| earlier.is_ipv4() == socket.is_ipv4();
        if let Some(first) = found.iter().find(same) {
            let allowed = format!("one address of each family; {first} is used");
            item.warn(out, "is not used", allowed);
        }
        found.push(socket);
    }
    found
}

fn port_groups(fields: &Fields<'_>, out: &mut Findings) -> Ports {
    let item = fields.get("ports");
    let fields = section(item.as_ref(), out, &["smtp", "submission", "mailbox"]);
    let mut taken: HashMap<u16, &str> = HashMap::new();
    let mut group = |key: &'static str, default: &[u16], out: &mut Findings| {
        let Some(item) = fields.get(key) else {
            // What another group claims is no longer this one's by default.
            return default.to_vec();
        };
        let found = ports(&item, out, "a list of ports from 1 to 65535, such as [25]");
        for port in &found {
            if let Some(other) = taken.insert(*port, key) {
                let what = format!("holds port {port}, which is in the group {other} too");
                item.refuse(out, &what, "each port in one group only");
            }
        }
        found
    };
    let mut groups = [
        group("smtp", &[25], out),
        group("submission", &[465, 587], out),
        group("mailbox", &[110, 143, 993, 995], out),
    ];
    for (key, ports) in ["smtp", "submission", "mailbox"].iter().zip(&mut groups) {
        if fields.get(key).is_none() {
            ports.retain(|port| !taken.contains_key(port));
        }
    }
    if let Some(item) = fields.get("smtp")
        && item.is_empty()
    {
        item.warn(
            out,
            "means that no connection is direct SMTP, so that nothing is refused or counted",
            "leave `smtp` out for port 25",
        );
    }
    let [smtp, submission, mailbox] = groups;
    Ports {
        smtp,
        submission,
        mailbox,
    }
}

fn retention(fields: &Fields<'_>, out: &mut Findings) -> Retention {
    let item = fields.get("retention");
    let fields = section(item.as_ref(), out, &["events", "cases", "max_disk"]);
    let mut span = |key: &str, default: Duration| match fields.get(key) {
        None => default,
        // Off: nothing is kept.
        Some(item) if item.is_null() => Duration::ZERO,
        Some(item) => item
            .parse(out, "a duration such as 30d or 2y", |scalar| {
                value::duration(scalar, Duration::ZERO, LONGEST_RETENTION)
            })
            .unwrap_or(default),
    };
    let (events, cases) = (span("events", 30 * DAY), span("cases", 2 * 365 * DAY));
    let max_disk = fields
        .set("max_disk")
        .and_then(|item| item.parse(out, "a size, such as 20G", disk));
    Retention {
        events,
        cases,
        max_disk: max_disk.unwrap_or_else(Retention::default_max_disk),
    }
}

/// A number of MiB (`M`), GiB (`G`) or TiB (`T`), from 256M to 1000T.
fn disk(scalar: Scalar<'_>) -> Parsed<u64> {
    let allowed = "a size from 256M to 1000T, written like 500M, 20G or 1T";
    let units = [("M", 20), ("G", 30), ("T", 40)];
    let number = units.iter().find_map(|(unit, shift)| {
        let digits = scalar.text.strip_suffix(unit)?;
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.parse::<u64>().ok().filter(|_| plain)?;
        Some(number.saturating_mul(1 << shift))
    });
    match number {
        Some(bytes) if bytes < 256 << 20 => refuse("is too small", allowed),
        Some(bytes) if bytes <= 1000 << 40 => Ok(bytes),
        Some(_) => refuse("is too large", allowed),
        None => refuse("is not a size", allowed),
    }
}

fn plans(fields: &Fields<'_>, out: &mut Findings) -> Option<HashMap<String, RawRules>> {
    let Some(item) = fields.get("plans") else {
        return Some(HashMap::new());
    };
    let plans = item.entries(out, "a map from the names of plans to their keys")?;
    let mut found = HashMap::new();
    for (name, mark, item) in plans.each() {
        if name.trim().is_empty() || name.contains(char::is_control) {
            let problem = format!("plans: {name:?} is not a name");
            out.error(mark, problem, "a text on one line, not empty");
        }
        let rules = item
            .fields(out, &RawRules::KEYS)
            .map(|fields| RawRules::read(&fields, out))
            .unwrap_or_default();
        found.insert(name.to_owned(), rules);
    }
    Some(found)
}

fn accounts(fields: &Fields<'_>, out: &mut Findings) -> Option<RawAccounts> {
    let item = fields.set("accounts")?;
    let fields = item.fields(out, &["uids", "plan"])?;
    let plan = plan_of(&fields, out);
    let allowed = "a range such as 1000-60000, or a list of ranges";
    let uids = fields.require(out, "uids", "add `uids`, such as 1000-60000")?;
    let uids: Vec<UidRange> = if uids.is_list() || uids.is_null() {
        texts(&uids, out, allowed, value::uids)
    } else {
        uids.parse(out, allowed, value::uids).into_iter().collect()
    };
    // Off, like every empty list.
    (!uids.is_empty()).then_some(RawAccounts { uids, plan })
}

fn default(fields: &Fields<'_>, out: &mut Findings) -> (Option<Located<String>>, RawRules) {
    let mut known = RawRules::KEYS.to_vec();
    known.push("plan");
    let item = fields.get("default");
    let fields = section(item.as_ref(), out, &known);
    let plan = plan_of(&fields, out);
    (plan, RawRules::read(&fields, out))
}

/// `name` among the plans; that it is not there is reported.
pub(super) fn plan_named<'p>(
    name: Option<&Located<String>>,
    plans: Option<&'p HashMap<String, RawRules>>,
    out: &mut Findings,
) -> Option<&'p RawRules> {
    let (name, plans) = (name?, plans?);
    let found = plans.get(&name.value);
    if found.is_none() {
        let mut known: Vec<&str> = plans.keys().map(String::as_str).collect();
        known.sort_unstable();
        let allowed = match nearest(&name.value, known.iter().copied()) {
            Some(near) => format!("did you mean {}?", shown(near)),
            None if known.is_empty() => "define it under `plans` of the main file".to_owned(),
            None => format!("define it under `plans`, or name one of {}", few(&known)),
        };
        let problem = format!("plan: {} does not exist", shown(&name.value));
        out.add(Fault::error(&name.origin, problem, allowed));
    }
    found
}

fn few(names: &[&str]) -> String {
    const FEW: usize = 8;
    let listed: Vec<_> = names.iter().take(FEW).map(|name| shown(name)).collect();
    let more = if names.len() > FEW { ", …" } else { "" };
    format!("{}{more}", listed.join(", "))
}
