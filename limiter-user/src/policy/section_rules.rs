//! What one who sends may do: `direct_smtp`, `submission`, `exempt`, `limits`, `pace`. They stand
//! in plans, in tenants and in `default`.

use std::time::Duration;

use limiter_common::{
    address::MAX_EXEMPT_PORTS,
    limit::{MAX_LIMITS, MAX_PACES, Unit},
    pace::{MAX_BURST, MAX_EVERY_NS, MIN_EVERY_NS},
    verdict::{Permission, PortGroup},
    window::{MAX_WINDOW_NS, MIN_WINDOW_NS},
};

use super::{
    findings::Findings,
    item::{Fields, Item, Parsed, Scalar, refuse},
    model::{Bounds, DEFAULT_GROUPS, Exempt, Limit, Pace, Rules},
    value, value_net,
};

const UNITS: [(&str, Unit); 4] = [
    (Unit::Connections.as_str(), Unit::Connections),
    (Unit::Messages.as_str(), Unit::Messages),
    (Unit::Recipients.as_str(), Unit::Recipients),
    (Unit::DistinctRecipients.as_str(), Unit::DistinctRecipients),
];
const DIRECT_SMTP: [(&str, Permission); 3] = [
    (Permission::Block.as_str(), Permission::Block),
    (Permission::Redirect.as_str(), Permission::Redirect),
    (Permission::Allow.as_str(), Permission::Allow),
];
const SUBMISSION: [(&str, Permission); 2] = [
    (Permission::Block.as_str(), Permission::Block),
    (Permission::Allow.as_str(), Permission::Allow),
];
const UNIT_NAMES: &str = "connections | messages | recipients | distinct_recipients";

/// The keys of rules as they are written: `None` where the key is absent, so that a plan's, or
/// the default, holds.
#[derive(Clone, Debug, Default)]
pub(super) struct RawRules {
    direct_smtp: Option<Permission>,
    submission: Option<Permission>,
    exempt: Option<Vec<Exempt>>,
    limits: Option<Vec<Limit>>,
    pace: Option<Vec<Pace>>,
}

impl RawRules {
    /// The keys.
    pub const KEYS: [&'static str; 5] = ["direct_smtp", "submission", "exempt", "limits", "pace"];

    /// Reads those of the keys that are there.
    pub fn read(fields: &Fields<'_>, out: &mut Findings) -> Self {
        Self {
            direct_smtp: fields.get("direct_smtp").and_then(|item| {
                let permission = item.parse(out, "block | redirect | allow", |scalar| {
                    value::word(scalar, &DIRECT_SMTP)
                })?;
                if permission == Permission::Redirect {
                    out.redirects(item.mark());
                }
                Some(permission)
            }),
            submission: fields.get("submission").and_then(|item| {
                item.parse(out, "block | allow", |scalar| {
                    if scalar.text == Permission::Redirect.as_str() {
                        return refuse(
                            "is for direct_smtp only",
                            "block | allow; only the port group smtp can be redirected",
                        );
                    }
                    value::word(scalar, &SUBMISSION)
                })
            }),
            exempt: fields.get("exempt").map(|item| exempt(&item, out)),
            limits: fields.get("limits").map(|item| limits(&item, out)),
            pace: fields.get("pace").map(|item| paces(&item, out)),
        }
    }

    /// What they leave to others, as the plan of a policy.
    pub fn bounds(&self) -> Bounds {
        Bounds {
            direct_smtp: self.direct_smtp.unwrap_or(Permission::Allow),
            submission: self.submission.unwrap_or(Permission::Allow),
            exempt: self.exempt.clone(),
            limits: self.limits.clone().unwrap_or_default(),
            pace: self.pace.clone().unwrap_or_default(),
        }
    }

    /// The rules: own keys, else the plan's, else the defaults.
    pub fn over(&self, plan: Option<&Self>) -> Rules {
        let default = Rules::default();
        Rules {
            direct_smtp: self
                .direct_smtp
                .or_else(|| plan?.direct_smtp)
                .unwrap_or(default.direct_smtp),
            submission: self
                .submission
                .or_else(|| plan?.submission)
                .unwrap_or(default.submission),
            exempt: self
                .exempt
                .as_ref()
                .or_else(|| plan?.exempt.as_ref())
                .cloned()
                .unwrap_or_default(),
            limits: self
                .limits
                .as_ref()
                .or_else(|| plan?.limits.as_ref())
                .cloned()
                .unwrap_or_default(),
            pace: self
                .pace
                .as_ref()
                .or_else(|| plan?.pace.as_ref())
                .cloned()
                .unwrap_or_default(),
        }
    }
}

/// A list of exempt destinations.
pub(super) fn exempt(item: &Item<'_>, out: &mut Findings) -> Vec<Exempt> {
    let allowed = "a list such as [{to: 198.51.100.25, ports: [25]}]";
    let mut found = Vec::new();
    for item in item.list(out, allowed) {
        let Some(fields) = item.fields(out, &["to", "ports"]) else {
            continue;
        };
        let to = fields
            .require(out, "to", "add `to`, an address or a prefix")
            .and_then(|item| item.parse(out, "an address or a prefix", value_net::prefix));
        let ports = match fields.get("ports") {
            None => Some(Vec::new()),
            Some(item) => exempt_ports(&item, out),
        };
        if let (Some(to), Some(ports)) = (to, ports) {
            found.push(Exempt { to, ports });
        }
    }
    found
}

fn exempt_ports(item: &Item<'_>, out: &mut Findings) -> Option<Vec<u16>> {
    let allowed =
        format!("a list of 1 to {MAX_EXEMPT_PORTS} ports; without the key `ports`, every port");
    let mut ports = ports(item, out, &allowed);
    if item.is_empty() {
        item.refuse(out, "exempts no port", allowed);
        return None;
    }
    ports.sort_unstable();
    ports.dedup();
    if ports.len() > MAX_EXEMPT_PORTS {
        item.refuse(out, "names too many ports", allowed);
        return None;
    }
    Some(ports)
}

/// A list of ports, in the order of the file, each once.
pub(super) fn ports(item: &Item<'_>, out: &mut Findings, allowed: &str) -> Vec<u16> {
    let mut ports = Vec::new();
    for item in item.list(out, allowed) {
        if let Some(port) = item.parse(out, "a port from 1 to 65535", value::port)
            && !ports.contains(&port)
        {
            ports.push(port);
        }
    }
    ports
}

/// A list of limits.
pub(super) fn limits(item: &Item<'_>, out: &mut Findings) -> Vec<Limit> {
    let allowed = "a list such as [{unit: connections, max: 300, window: 1h}]";
    let mut found = Vec::new();
    for (index, item) in item.list(out, allowed).enumerate() {
        if index == MAX_LIMITS {
            item.refuse(
                out,
                "is one limit too many",
                format!("at most {MAX_LIMITS}"),
            );
        }
        found.extend(limit(&item, out));
    }
    found
}

fn limit(item: &Item<'_>, out: &mut Findings) -> Option<Limit> {
    let fields = item.fields(out, &["unit", "max", "window", "ports"])?;
    let unit = unit(&fields, out);
    let max = fields
        .require(out, "max", "add `max`, how many units at most")
        .and_then(|item| {
            item.parse(
                out,
                &format!("a whole number from 0 to {}", u32::MAX),
                |scalar| value::whole(scalar, 0, u32::MAX),
            )
        });
    let window = fields
        .require(out, "window", "add `window`, a duration such as 1h")
        .and_then(|item| span(&item, out, MIN_WINDOW_NS, MAX_WINDOW_NS));
    let groups = groups(&fields, out);
    Some(Limit {
        unit: unit?,
        max: max?,
        window: window?,
        groups: groups?,
    })
}

/// A list of paces.
fn paces(item: &Item<'_>, out: &mut Findings) -> Vec<Pace> {
    let allowed = "a list such as [{unit: connections, every: 15s, burst: 1}]";
    let mut found = Vec::new();
    for (index, item) in item.list(out, allowed).enumerate() {
        if index == MAX_PACES {
            item.refuse(out, "is one pace too many", format!("at most {MAX_PACES}"));
        }
        found.extend(pace(&item, out));
    }
    found
}

fn pace(item: &Item<'_>, out: &mut Findings) -> Option<Pace> {
    let fields = item.fields(out, &["unit", "every", "burst", "ports"])?;
    let unit = unit(&fields, out);
    let every = fields
        .require(out, "every", "add `every`, a duration such as 15s")
        .and_then(|item| span(&item, out, MIN_EVERY_NS, MAX_EVERY_NS));
    let burst = match fields.get("burst") {
        None => Some(1),
        Some(item) => item.parse(
            out,
            &format!("a whole number from 1 to {MAX_BURST}"),
            |scalar| value::whole(scalar, 1, MAX_BURST),
        ),
    };
    let groups = groups(&fields, out);
    Some(Pace {
        unit: unit?,
        every: every?,
        burst: burst?,
        groups: groups?,
    })
}

fn unit(fields: &Fields<'_>, out: &mut Findings) -> Option<Unit> {
    let item = fields.require(out, "unit", &format!("add `unit`: {UNIT_NAMES}"))?;
    item.parse(out, UNIT_NAMES, |scalar| value::word(scalar, &UNITS))
}

fn span(item: &Item<'_>, out: &mut Findings, min_ns: u64, max_ns: u64) -> Option<Duration> {
    let (min, max) = (Duration::from_nanos(min_ns), Duration::from_nanos(max_ns));
    item.parse(out, "a duration such as 90s, 15m, 1h or 30d", |scalar| {
        value::duration(scalar, min, max)
    })
}

/// The port groups of a limit: smtp where nothing is said.
fn groups(fields: &Fields<'_>, out: &mut Findings) -> Option<u8> {
    let Some(item) = fields.get("ports") else {
        return Some(DEFAULT_GROUPS);
    };
    let allowed = "a list of smtp, submission or both; without the key `ports`, [smtp]";
    if item.is_empty() {
        item.refuse(out, "names no port group, so nothing would count", allowed);
        return None;
    }
    let mut groups = Some(0_u8);
    let mut any = false;
    for item in item.list(out, allowed) {
        any = true;
        let group = item.parse(out, "smtp | submission", group);
        groups = groups.zip(group).map(|(sum, group)| sum | group.bit());
    }
    groups.filter(|_| any)
}

fn group(scalar: Scalar<'_>) -> Parsed<PortGroup> {
    match scalar.text {
        "smtp" => Ok(PortGroup::Smtp),
        "submission" => Ok(PortGroup::Submission),
        "mailbox" => refuse(
            "has limits of its own",
            "smtp | submission; mailbox logins are limited under `mailbox`",
        ),
        text if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => refuse(
            "is a number",
            "the name of a port group, smtp | submission; numbers belong under `ports` of the main file",
        ),
        _ => refuse("is no port group", "smtp | submission"),
    }
}
