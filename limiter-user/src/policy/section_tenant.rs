//! A tenant file's document.

use std::path::PathBuf;

use ipnet::IpNet;
use limiter_common::abi::MAX_TENANT_NAME;

use super::{
    findings::Findings,
    image::{DEFAULT_NAME, NODE_NAME},
    item::{Fields, Item, Parsed, Scalar, refuse},
    model::{Located, Match, Mode, Origin},
    section_notices::mail_address,
    section_policies::{self, policies},
    section_rules::RawRules,
    value, value_net,
};

const KEYS: [&str; 13] = [
    "tenant",
    "parent",
    "plan",
    "mode",
    "contact",
    "match",
    "domains",
    "direct_smtp",
    "submission",
    "exempt",
    "limits",
    "pace",
    section_policies::KEY,
];
const MODES: [(&str, Mode); 2] = [("observe", Mode::Observe), ("enforce", Mode::Enforce)];

/// A tenant as it is written.
#[derive(Clone, Debug, Default)]
pub(super) struct RawTenant {
    pub name: String,
    pub origin: Origin,
    pub parent: Option<Located<String>>,
    pub plan: Option<Located<String>>,
    pub mode: Option<Mode>,
    pub contact: Vec<String>,
    pub matches: Match,
    pub rules: RawRules,
    pub domains: Vec<RawDomain>,
    /// The policy files that bind it.
    pub policies: Vec<Located<PathBuf>>,
}

/// A domain as it is written.
#[derive(Clone, Debug)]
pub(super) struct RawDomain {
    /// In lower case, without the final dot.
    pub name: Located<String>,
    pub rules: RawRules,
}

/// Reads a tenant. `None`: it has no usable name, which is reported.
pub(super) fn tenant(item: &Item<'_>, out: &mut Findings) -> Option<RawTenant> {
    let fields = item.fields(out, &KEYS)?;
    let name = fields
        .require(out, "tenant", "add `tenant`, the name of the account")
        .and_then(|item| item.located(out, "the name of the account", tenant_name));
    let parent = fields
        .set("parent")
        .and_then(|item| item.located(out, "the name of a tenant", tenant_name));
    let plan = plan_of(&fields, out);
    let mode = mode_of(&fields, out);
    let contact = fields
        .get("contact")
        .map(|item| texts(&item, out, "a list of mail addresses", mail_address))
        .unwrap_or_default();
    let matches = fields
        .get("match")
        .map(|item| matches(&item, out))
        .unwrap_or_default();
    let rules = RawRules::read(&fields, out);
    let domains = fields
        .get("domains")
        .map(|item| domains(&item, out, name.as_ref().map(|name| name.value.as_str())))
        .unwrap_or_default();
    let policies = policies(&fields, out);
    let name = name?;
    Some(RawTenant {
        name: name.value,
        origin: name.origin,
        parent,
        plan,
        mode,
        contact,
        matches,
        rules,
        domains,
        policies,
    })
}

/// The plan that is named, if one is.
pub(super) fn plan_of(fields: &Fields<'_>, out: &mut Findings) -> Option<Located<String>> {
    fields
        .set("plan")
        .and_then(|item| item.located(out, "the name of a plan", value::line))
}

/// The mode that is named, if one is.
pub(super) fn mode_of(fields: &Fields<'_>, out: &mut Findings) -> Option<Mode> {
    fields
        .get("mode")
        .and_then(|item| item.parse(out, "observe | enforce", |s| value::word(s, &MODES)))
}

/// A list of texts of one kind.
pub(super) fn texts<T>(
    item: &Item<'_>,
    out: &mut Findings,
    allowed: &str,
    parse: impl Fn(Scalar<'_>) -> Parsed<T>,
) -> Vec<T> {
    let mut found = Vec::new();
    for item in item.list(out, allowed) {
        found.extend(item.parse(out, allowed, &parse));
    }
    found
}

fn located<T>(
    item: Option<Item<'_>>,
    out: &mut Findings,
    allowed: &str,
    parse: impl Fn(Scalar<'_>) -> Parsed<T>,
) -> Vec<Located<T>> {
    let mut found = Vec::new();
    if let Some(item) = item {
        for item in item.list(out, allowed) {
            found.extend(item.located(out, allowed, &parse));
        }
    }
    found
}

fn matches(item: &Item<'_>, out: &mut Findings) -> Match {
    let known = ["users", "uids", "cgroups", "interfaces", "addresses"];
    let Some(fields) = item.fields(out, &known) else {
        return Match::default();
    };
    Match {
        users: located(
            fields.get("users"),
            out,
            "a list of user names",
            value::tenant_user,
        ),
        uids: located(
            fields.get("uids"),
            out,
            "a list of uids and ranges, such as [2001, 2100-2199]",
            value::uids,
        ),
        cgroups: located(
            fields.get("cgroups"),
            out,
            "a list of cgroup paths, such as [/user.slice/user-2001.slice]",
            |scalar| value::cgroup(scalar, true, false),
        ),
        interfaces: located(
            fields.get("interfaces"),
            out,
            "a list of interface names or globs, such as [\"tap101i*\"]",
            value::interface,
        ),
        addresses: located::<IpNet>(
            fields.get("addresses"),
            out,
            "a list of addresses and prefixes",
            value_net::tenant_prefix,
        ),
    }
}

fn domains(item: &Item<'_>, out: &mut Findings, tenant: Option<&str>) -> Vec<RawDomain> {
    let allowed = "a list such as [{name: example.org}]";
    let mut found = Vec::new();
    for item in item.list(out, allowed) {
        let Some(fields) = item.fields(out, &["name", "limits", "pace"]) else {
            continue;
        };
        let rules = RawRules::read(&fields, out);
        let Some(item) = fields.require(out, "name", "add `name`, the domain") else {
            continue;
        };
        let Some(name) = item.located(out, "a domain such as example.org", domain_name) else {
            continue;
        };
        let length = tenant.map_or(0, str::len) + 1 + name.value.len();
        if length > MAX_TENANT_NAME {
            item.refuse(
                out,
                "is too long behind the name of its tenant",
                format!(
                    "tenant and domain together at most {} bytes",
                    MAX_TENANT_NAME - 1
                ),
            );
            continue;
        }
        found.push(RawDomain { name, rules });
    }
    found
}

/// The name of a tenant.
fn tenant_name(scalar: Scalar<'_>) -> Parsed<String> {
    let name = scalar.text;
    let allowed = format!(
        "a name of 1 to {MAX_TENANT_NAME} bytes, without `/`, control characters, or blanks at \
         either end"
    );
    if name.is_empty() {
        return refuse("is empty", allowed);
    }
    if name == NODE_NAME || name == DEFAULT_NAME {
        return refuse("is reserved", "any other name");
    }
    if name.len() > MAX_TENANT_NAME {
        return refuse(format!("is {} bytes long", name.len()), allowed);
    }
    if name.contains(|c: char| c.is_control() || c == '/') || name.trim() != name {
        return refuse("is not a name", allowed);
    }
    Ok(name.to_owned())
}

/// A domain in lower case, without the final dot.
fn domain_name(scalar: Scalar<'_>) -> Parsed<String> {
    let name = scalar.text.strip_suffix('.').unwrap_or(scalar.text);
    let allowed = "a domain such as example.org; other alphabets in their xn-- form";
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    if name.len() > 253 || !name.split('.').all(label) {
        return refuse("is not a domain", allowed);
    }
    Ok(name.to_ascii_lowercase())
}
