//! What would be loaded, for people.

use std::{collections::BTreeMap, fmt::Write as _};

use limiter_common::verdict::PortGroup;

use super::{
    bind::said,
    bounds::Amount,
    claims::text as uid_text,
    model::{Bounds, Estimate, Limit, LoginLimit, Mode, Node, Pace, Places, Policy, Rules, Tenant},
    services::ServicePlaces,
    value::human,
};

/// How many tenants are listed one by one, and how many plans.
const LISTED: usize = 20;
/// How wide the text is, in characters.
const WIDTH: usize = 80;

/// The policy in a few lines of at most 80 columns: mode, MTA, rules, and the tenants as far as
/// they are not too many.
#[must_use]
pub fn summary(policy: &Policy) -> String {
    let mut text = Text::default();
    let node = &policy.node;
    let meaning = match node.mode {
        Mode::Observe => "observe (everything is counted, nothing is refused)",
        Mode::Enforce => "enforce (refusals are carried out)",
    };
    text.line(0, &format!("node {}: {meaning}", node.name));
    let users = match &node.mta.users {
        None => vec!["the known MTA users of this system".to_owned()],
        Some(users) if users.is_empty() => vec!["nobody".to_owned()],
        Some(users) => users.clone(),
    };
    text.list("mta users", &users);
    let listen: Vec<String> = node.mta.listen.iter().map(ToString::to_string).collect();
    text.list("redirect to", &listen);
    for (name, ports) in [
        ("smtp ports", &node.ports.smtp),
        ("submission ports", &node.ports.submission),
    ] {
        let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
        text.list(name, &ports);
    }
    if !node.limits.is_empty() {
        text.line(0, "the whole node:");
        for limit in &node.limits {
            text.line(2, &limit_text(limit));
        }
    }
    if !node.exempt.is_empty() {
        text.line(
            0,
            &format!(
                "exempt for all: {}",
                count(node.exempt.len(), "destination")
            ),
        );
    }
    networks(&mut text, node);
    policies(&mut text, policy);
    interfaces(&mut text, &policy.places);
    services(&mut text, &policy.places.services);
    if let Some(accounts) = &policy.accounts {
        let uids: Vec<String> = accounts.uids.iter().map(|range| uid_text(*range)).collect();
        text.list("accounts of uids", &uids);
        if let Some(plan) = &accounts.plan {
            text.line(2, &format!("plan {plan}"));
        }
        let by = By::node(policy);
        text.rules(2, &accounts.rules, Some(by));
    }
    text.line(0, "whatever nobody claims:");
    text.rules(2, &policy.default, None);
    tenants(&mut text, policy);
    text.0
}

/// What the node has to do with other networks, as far as anything is configured.
fn networks(text: &mut Text, node: &Node) {
    if !node.blocked.prefixes.is_empty() {
        let prefixes = count_of(node.blocked.prefixes.len(), "prefix", "prefixes");
        text.line(
            0,
            &format!("blocked: {prefixes} (files are read again at a reload)"),
        );
    }
    if !node.management.is_empty() {
        let management: Vec<String> = node.management.iter().map(ToString::to_string).collect();
        text.list("reachable under suspension", &management);
    }
    let limits = [
        ("connections of one client", node.mailbox),
        ("logins to one account", node.mailbox_accounts),
    ];
    for (what, limit) in limits {
        let Some(LoginLimit { max, window, lock }) = limit else {
            continue;
        };
        let (window, lock) = (human(window), human(lock));
        text.line(
            0,
            &format!("mailbox {what}: {max} per {window}, then locked for {lock}"),
        );
    }
    if node.mailbox_accounts.is_some() && !node.mailbox_exempt.is_empty() {
        let exempt: Vec<String> = node
            .mailbox_exempt
            .iter()
            .map(ToString::to_string)
            .collect();
        text.list("never locked for an account's sake", &exempt);
    }
    if node.estimate != Estimate::default() {
        text.line(
            0,
            &format!(
                "encrypted sessions: a message for every {} turnarounds or {} bytes of answers",
                node.estimate.turnarounds_per_message, node.estimate.reply_bytes_per_message
            ),
        );
    }
}

/// The policy files, as far as there are any.
fn policies(text: &mut Text, policy: &Policy) {
    if policy.ladders.is_empty() {
        text.line(0, "policies: none (nobody is sanctioned automatically)");
        return;
    }
    let everybody: Vec<String> = policy.node.policies.iter().cloned().collect();
    text.list("policies for every tenant", &everybody);
    let some = policy.ladders.len().saturating_sub(everybody.len());
    if some > 0 {
        let some = count_of(some, "policy", "policies");
        text.line(2, &format!("and {some} that tenants name"));
    }
}

/// By whose wish rules hold: the policies that bind a tenant.
#[derive(Clone, Copy)]
struct By<'a> {
    policy: &'a Policy,
    tenant: &'a str,
}

impl<'a> By<'a> {
    /// An account, which no file names.
    fn node(policy: &'a Policy) -> Self {
        Self { policy, tenant: "" }
    }

    fn amount(self, amount: Amount) -> String {
        said(&self.policy.asking_for(self.tenant, amount))
    }

    fn plan(self, asks: impl Fn(&Bounds) -> bool) -> String {
        said(&self.policy.asking(self.tenant, asks))
    }
}

/// Where packets are looked at.
fn interfaces(text: &mut Text, places: &Places) {
    match &places.uplinks {
        None => text.line(0, "uplinks: whatever a route to the world goes by"),
        Some(uplinks) => text.list("uplinks", uplinks),
    }
    text.list("interfaces of guests", &places.guests);
}

/// Where the mail programs ask.
fn services(text: &mut Text, places: &ServicePlaces) {
    for (name, addresses) in [
        ("policy service at", &places.policy),
        ("milter at", &places.milter),
        ("dovecot's service at", &places.dovecot),
    ] {
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        text.list(name, &addresses);
    }
}

fn tenants(text: &mut Text, policy: &Policy) {
    let all: Vec<&Tenant> = policy.tenants.iter().filter(|t| !t.is_domain).collect();
    if all.is_empty() {
        text.line(0, "tenants: none");
        return;
    }
    let enforced = all
        .iter()
        .filter(|t| t.mode.unwrap_or(policy.node.mode) == Mode::Enforce)
        .count();
    let limited = all
        .iter()
        .filter(|t| !t.rules.limits.is_empty() || !t.rules.pace.is_empty())
        .count();
    let domains = policy.tenants.len() - all.len();
    text.line(
        0,
        &format!(
            "tenants: {} ({enforced} enforced, {} observed, {limited} with limits), {}",
            all.len(),
            all.len() - enforced,
            count(domains, "domain"),
        ),
    );
    let mut plans: BTreeMap<&str, usize> = BTreeMap::new();
    for plan in all.iter().filter_map(|tenant| tenant.plan.as_deref()) {
        *plans.entry(plan).or_default() += 1;
    }
    for (plan, users) in plans.iter().take(LISTED) {
        text.line(2, &format!("plan {plan}: {}", count(*users, "tenant")));
    }
    text.more(plans.len(), "plan");
    for tenant in all.iter().take(LISTED) {
        self::tenant(text, tenant, policy);
    }
    text.more(all.len(), "tenant");
}

fn tenant(text: &mut Text, tenant: &Tenant, policy: &Policy) {
    let mut about = vec![match tenant.mode.unwrap_or(policy.node.mode) {
        Mode::Observe => "observe".to_owned(),
        Mode::Enforce => "enforce".to_owned(),
    }];
    about.extend(
        tenant
            .parent
            .as_ref()
            .map(|parent| format!("below {parent}")),
    );
    about.extend(tenant.plan.as_ref().map(|plan| format!("plan {plan}")));
    let matches = &tenant.matches;
    if !matches.interfaces.is_empty() {
        about.push(count(matches.interfaces.len(), "interface glob"));
    }
    if !matches.addresses.is_empty() {
        let addresses = matches.addresses.len();
        about.push(count_of(addresses, "address prefix", "address prefixes"));
    }
    text.line(2, &format!("{} ({})", tenant.name, about.join(", ")));
    let own: Vec<&str> = tenant.policies.iter().map(String::as_str).collect();
    if !own.is_empty() {
        text.line(
            4,
            &format!("policies besides the node's: {}", own.join(", ")),
        );
    }
    let by = By {
        policy,
        tenant: &tenant.name,
    };
    text.rules(4, &tenant.rules, Some(by));
}

fn count(number: usize, noun: &str) -> String {
    count_of(number, noun, &format!("{noun}s"))
}

fn count_of(number: usize, one: &str, more: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { more })
}

/// `300 connections per 1h`.
pub(super) fn limit_text(limit: &Limit) -> String {
    format!(
        "{} {} per {}{}",
        limit.max,
        limit.unit.as_str(),
        human(limit.window),
        groups_text(limit.groups)
    )
}

/// `1 connections every 15s, 1 at once`.
pub(super) fn pace_text(pace: &Pace) -> String {
    format!(
        "{} one by one, one every {}, at most {} at once{}",
        pace.unit.as_str(),
        human(pace.every),
        pace.burst,
        groups_text(pace.groups)
    )
}

/// Nothing for the default group alone.
fn groups_text(groups: u8) -> String {
    let names: Vec<&str> = PortGroup::ALL
        .iter()
        .filter(|group| groups & group.bit() != 0)
        .map(|group| group.as_str())
        .collect();
    if names == ["smtp"] {
        String::new()
    } else {
        format!(" ({})", names.join(", "))
    }
}

/// Text that does not run over the right edge.
#[derive(Default)]
struct Text(String);

impl Text {
    /// A line, broken at blanks where it is too long.
    fn line(&mut self, indent: usize, line: &str) {
        let mut column = 0;
        for word in line.split(' ') {
            let printable: String = word.chars().flat_map(printable).collect();
            let width = printable.chars().count();
            if column == 0 {
                column = indent;
                self.0.extend(std::iter::repeat_n(' ', indent));
            } else if column + 1 + width > WIDTH {
                column = indent + 4;
                self.0.push('\n');
                self.0.extend(std::iter::repeat_n(' ', column));
            } else {
                column += 1;
                self.0.push(' ');
            }
            self.0.push_str(&printable);
            column += width;
        }
        self.0.push('\n');
    }

    fn list(&mut self, name: &str, items: &[String]) {
        if items.is_empty() {
            self.line(0, &format!("{name}: none"));
        } else if items.len() <= LISTED {
            self.line(0, &format!("{name}: {}", items.join(", ")));
        } else {
            let listed = items[..LISTED].join(", ");
            let more = items.len() - LISTED;
            self.line(0, &format!("{name}: {listed} and {more} more"));
        }
    }

    fn rules(&mut self, indent: usize, rules: &Rules, by: Option<By<'_>>) {
        let mut line = String::new();
        let asked =
            |asks: &dyn Fn(&Bounds) -> bool| by.map_or_else(String::new, |by| by.plan(asks));
        let amount = |amount| by.map_or_else(String::new, |by| by.amount(amount));
        let permissions = [
            (
                "direct SMTP",
                rules.direct_smtp,
                asked(&|plan| plan.wants_direct_smtp(rules.direct_smtp)),
            ),
            (
                ", submission",
                rules.submission,
                asked(&|plan| plan.wants_submission(rules.submission)),
            ),
        ];
        for (what, permission, by) in permissions {
            // Writing to a string cannot fail.
            let _ = write!(line, "{what} {}{by}", permission.as_str());
        }
        if !rules.exempt.is_empty() {
            let _ = write!(
                line,
                ", {}",
                count(rules.exempt.len(), "exempt destination")
            );
        }
        self.line(indent, &line);
        for limit in &rules.limits {
            let by = amount(Amount::Limit(*limit));
            self.line(indent, &format!("{}{by}", limit_text(limit)));
        }
        for pace in &rules.pace {
            let by = amount(Amount::Pace(*pace));
            self.line(indent, &format!("{}{by}", pace_text(pace)));
        }
    }

    /// How many of `all` were not listed.
    fn more(&mut self, all: usize, noun: &str) {
        if all > LISTED {
            self.line(
                2,
                &format!("… and {}", count(all - LISTED, &format!("more {noun}"))),
            );
        }
    }
}

/// Names come from files: what could steer a terminal is escaped.
fn printable(c: char) -> Box<dyn Iterator<Item = char>> {
    if c.is_control() {
        Box::new(c.escape_default())
    } else {
        Box::new(std::iter::once(c))
    }
}
