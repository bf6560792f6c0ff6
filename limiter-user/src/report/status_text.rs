//! `status` for people: problems first, then layers, then the tenants that were refused most.

use std::{collections::BTreeMap, fmt::Write as _};

use jiff::{Timestamp, tz::TimeZone};

use super::{
    case::{HoldState, HoldStatus},
    case_text::{hold_words, next_words, proposal_words},
    problem::Severity,
    status::{ListCount, Sanction, SanctionStatus, Standing, Status, TenantStatus, Usage},
    text::{Align, WIDTH, count, few, fit, printable, table},
    time,
};
use crate::{offence::NODE_NAME, policy::model::Mode};

/// How many tenants are listed unless all are asked for.
pub const MOST_TENANTS: usize = 20;
/// How many problems are listed unless all are asked for.
const MOST_PROBLEMS: usize = 10;

/// How the text is to be.
#[derive(Clone, Debug)]
pub struct Style {
    /// The clock of people: the local one.
    pub zone: TimeZone,
    /// Every tenant and problem, however many.
    pub all: bool,
}

/// The whole node.
#[must_use]
pub fn node(status: &Status, style: &Style) -> String {
    let mut out = proposals(status, style);
    out.push_str(&problems(status, style));
    head(&mut out, status, style);
    layers(&mut out, status, style);
    tenants(&mut out, status, style);
    out
}

/// The tenants of `status`, each with everything known about it; problems of the node first.
#[must_use]
pub fn details(status: &Status, style: &Style) -> String {
    let mut out = proposals(status, style);
    out.push_str(&problems(status, style));
    for tenant in &status.tenants {
        detail(&mut out, tenant, style);
    }
    out
}

/// What waits for an operator comes before everything else.
fn proposals(status: &Status, style: &Style) -> String {
    let mut out = String::new();
    let most = if style.all { usize::MAX } else { MOST_PROBLEMS };
    for proposal in status.proposals.iter().take(most) {
        out.push_str(&proposal_words(proposal, style));
    }
    more(&mut out, status.proposals.len(), most, "proposals");
    if !out.is_empty() {
        out.push('\n');
    }
    out
}

fn problems(status: &Status, style: &Style) -> String {
    let mut out = String::new();
    let most = if style.all { usize::MAX } else { MOST_PROBLEMS };
    for problem in status.problems.iter().take(most) {
        let loud = match problem.severity {
            Severity::Error => "!!",
            Severity::Warning => " -",
        };
        let _ = writeln!(out, "{loud} {}", printable(&problem.problem));
        if !problem.remedy.is_empty() {
            let _ = writeln!(out, "   do: {}", printable(&problem.remedy));
        }
    }
    more(&mut out, status.problems.len(), most, "problems");
    if !out.is_empty() {
        out.push('\n');
    }
    out
}

fn head(out: &mut String, status: &Status, style: &Style) {
    let health = if status.healthy {
        "healthy"
    } else {
        "UNHEALTHY"
    };
    let mode = mode_name(status.mode);
    let _ = writeln!(out, "{}: {mode}, {health}", fit(&status.node, 40));
    if let Some(until) = status.observe_until {
        let until = moment(until, style);
        let _ = writeln!(out, "nothing is refused on this node until {until}");
    } else if status.mode == Mode::Observe {
        out.push_str("nothing is refused: mode is observe, except for tenants set to enforce\n");
    }
    match &status.agent {
        Some(agent) => {
            let since = moment(agent.since, style);
            let (pid, version) = (agent.pid, printable(&agent.version));
            let _ = writeln!(out, "agent {version} runs since {since}, process {pid}");
        }
        None => out.push_str("no agent runs: read from the kernel and the files\n"),
    }
    let lists = status.mailing_lists.iter().flat_map(|it| &it.accounts);
    for ListCount { tenant, lists, max } in lists.filter(|it| it.lists > it.max) {
        let _ = writeln!(
            out,
            "{} has {lists} Mailman lists and may have {max}",
            fit(tenant, 40)
        );
    }
    if let Some(bounces) = &status.bounces {
        let _ = writeln!(
            out,
            "bounces since then: {} hard and {} other of tenants, {} of nobody known",
            bounces.hard, bounces.soft, bounces.nobodys
        );
    }
}

/// A line for all places of a layer that are alike; what is not attached comes first.
fn layers(out: &mut String, status: &Status, style: &Style) {
    if status.layers.is_empty() {
        return;
    }
    out.push('\n');
    let mut alike: BTreeMap<(bool, u8, &str), (&'static str, Vec<&str>)> = BTreeMap::new();
    for layer in &status.layers {
        let key = (layer.attached, layer.layer as u8, layer.how.as_str());
        let (_, targets) = alike
            .entry(key)
            .or_insert_with(|| (layer.layer.as_str(), Vec::new()));
        targets.push(&layer.target);
    }
    let mut rows = Vec::new();
    for ((attached, _, how), (layer, targets)) in alike {
        // What is missing is named, however much it is.
        let lines = if attached && !style.all {
            vec![few(&targets)]
        } else {
            packed(&targets, PLACES)
        };
        let is_it = match (attached, targets.len()) {
            (true, 1) => "yes".to_owned(),
            (true, number) => format!("yes, {number}"),
            (false, 1) => "NO".to_owned(),
            (false, number) => format!("NO, {number}"),
        };
        let mut head = [layer.to_owned(), is_it, how.to_owned()];
        for line in lines {
            let [layer, is_it, how] = std::mem::take(&mut head);
            rows.push([layer, is_it, how, line]);
        }
    }
    out.push_str(&table(
        [
            ("LAYER", 8, Align::Left),
            ("ATTACHED", 9, Align::Left),
            ("HOW", 11, Align::Left),
            ("WHERE", PLACES, Align::Left),
        ],
        rows,
    ));
}

/// How wide the names of places may be.
const PLACES: usize = WIDTH - 31;

/// Names in lines of at most `width` columns; a longer name has a line of its own.
fn packed(names: &[&str], width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for name in names {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 2 + name.chars().count() <= width => {
                line.push_str(", ");
                line.push_str(name);
            }
            _ => lines.push((*name).to_owned()),
        }
    }
    lines
}

fn tenants(out: &mut String, status: &Status, style: &Style) {
    out.push('\n');
    if status.tenants.is_empty() {
        out.push_str("no tenants\n");
        return;
    }
    let most = if style.all { usize::MAX } else { MOST_TENANTS };
    let is_opened =
        |tenant: &TenantStatus| status.observe_until.is_some() || tenant.observe_until.is_some();
    let mut sorted: Vec<&TenantStatus> = status.tenants.iter().collect();
    let order = |tenant: &&TenantStatus| {
        std::cmp::Reverse((tenant.refusals(), tenant.redirected, tenant.allowed))
    };
    sorted.sort_by(|a, b| {
        order(a)
            .cmp(&order(b))
            .then_with(|| a.tenant.cmp(&b.tenant))
    });
    let rows = sorted.iter().take(most).map(|tenant| {
        [
            tenant.tenant.clone(),
            state(tenant, is_opened(tenant)),
            tenant.fullest().map(used).unwrap_or_default(),
            count(tenant.allowed),
            count(tenant.denied),
            count(tenant.redirected),
            count(tenant.would_deny),
        ]
    });
    out.push_str(&table(
        [
            ("TENANT", 18, Align::Left),
            ("STATE", 12, Align::Left),
            ("FULLEST LIMIT", 18, Align::Left),
            ("ALLOW", 6, Align::Right),
            ("DENIED", 6, Align::Right),
            ("REDIR", 6, Align::Right),
            ("WOULD", 6, Align::Right),
        ],
        rows,
    ));
    more(out, status.tenants.len(), most, "tenants");
    let in_brackets =
        |tenant: &&&TenantStatus| tenant.standing > Standing::Warned && is_opened(tenant);
    if sorted.iter().take(most).any(|it| in_brackets(&it)) {
        out.push_str("in brackets: on record, and not carried out while it is opened\n");
    }
}

fn more(out: &mut String, total: usize, shown: usize, what: &str) {
    if total > shown {
        let rest = total - shown;
        let _ = writeln!(out, "… and {rest} more {what} (--all, --json)");
    }
}

/// What holds for the tenant: its sanction where it is under one, in brackets while it is opened and
/// so not carried out, else its mode.
fn state(tenant: &TenantStatus, opened: bool) -> String {
    if tenant.standing > Standing::Warned {
        let standing = standing_name(tenant.standing).to_uppercase();
        return if opened {
            format!("({})", standing.to_lowercase())
        } else {
            standing
        };
    }
    if opened {
        return "opened".to_owned();
    }
    match tenant.standing {
        Standing::Warned => "warned".to_owned(),
        _ => mode_name(tenant.mode).to_owned(),
    }
}

/// `287/300 conn 1h`.
fn used(usage: &Usage) -> String {
    let (used, max) = (usage.used, usage.max);
    let unit: String = usage.unit.as_str().chars().take(4).collect();
    match (usage.window, usage.every) {
        (Some(span), _) => format!("{used}/{max} {unit} {span}"),
        (None, Some(every)) => format!("{used}/{max} {unit} /{every}"),
        (None, None) => format!("{used}/{max} {unit}"),
    }
}

/// How a tenant stands and what holds, without what was counted.
#[must_use]
pub fn standing(tenant: &TenantStatus, style: &Style) -> String {
    let mut out = String::new();
    what_holds(&mut out, tenant, style);
    out
}

fn detail(out: &mut String, tenant: &TenantStatus, style: &Style) {
    what_holds(out, tenant, style);
    if tenant.held_mail > 0 {
        let _ = writeln!(out, "  {} held in the mail queue", held(tenant.held_mail));
    }
    let _ = writeln!(
        out,
        "  {} allowed, {} denied, {} redirected, {} would have been denied",
        tenant.allowed, tenant.denied, tenant.redirected, tenant.would_deny
    );
    if tenant.usage.is_empty() {
        out.push_str("  no limits of its own\n");
    }
    for usage in &tenant.usage {
        let _ = write!(out, "  {}: {} used", usage.limit(), usage.used);
        if let Some(free) = usage.free_at {
            let _ = write!(out, ", free again at {}", moment(free, style));
        }
        out.push('\n');
    }
}

fn what_holds(out: &mut String, tenant: &TenantStatus, style: &Style) {
    let _ = write!(out, "{}", printable(&tenant.tenant));
    let parent = tenant.parent.as_ref().filter(|it| *it != NODE_NAME);
    if let Some(parent) = parent {
        let _ = write!(out, " (customer of {})", printable(parent));
    }
    let standing = standing_name(tenant.standing);
    let _ = writeln!(out, ": {}, standing {standing}", mode_name(tenant.mode));
    if let Some(until) = tenant.observe_until {
        let until = moment(until, style);
        let _ = writeln!(out, "  nothing of it is refused until {until}");
        if !tenant.sanctions.is_empty() {
            out.push_str("  what it is under is on record, and not carried out until then\n");
        }
    }
    let of_policies = |hold: &&HoldStatus| hold.state == HoldState::Observed;
    if tenant.record.holds.iter().any(|hold| of_policies(&hold)) {
        out.push_str(
            "  it is only observed: what its policies led to is recorded, nothing is refused\n",
        );
    }
    for sanction in &tenant.sanctions {
        let _ = writeln!(out, "  sanction {}", sanction_words(sanction, style));
    }
    if let Some(reason) = &tenant.record.reason {
        let _ = writeln!(out, "  why      {}", printable(reason));
    }
    if let Some(lift) = &tenant.record.lift {
        let _ = writeln!(out, "  lifted   by {}", printable(lift));
    }
    for hold in &tenant.record.holds {
        let _ = writeln!(out, "  record   {}", hold_words(hold, style));
    }
    for step in &tenant.record.next {
        let _ = writeln!(out, "  next     {}", next_words(step, style));
    }
}

fn held(messages: u64) -> String {
    match messages {
        1 => "1 message is".to_owned(),
        messages => format!("{messages} messages are"),
    }
}

/// A moment on the clock of people, with the time zone, and how far away it is.
#[must_use]
pub fn moment(time: Timestamp, style: &Style) -> String {
    time::moment(time, &style.zone)
}

fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Observe => "observe",
        Mode::Enforce => "enforce",
    }
}

fn standing_name(standing: Standing) -> &'static str {
    match standing {
        Standing::Good => "good",
        Standing::Warned => "warned",
        Standing::Blocked => "blocked",
        Standing::Suspended => "suspended",
        Standing::Terminated => "terminated",
    }
}

/// `suspend_network until 2026-11-21T12:00:00Z (in 1d), inherited from reseller-7`.
#[must_use]
pub fn sanction_words(sanction: &SanctionStatus, style: &Style) -> String {
    let mut out = sanction_name(sanction.sanction).to_owned();
    match sanction.until {
        Some(end) => {
            let _ = write!(out, " until {}", moment(end, style));
        }
        None => out.push_str(" without end"),
    }
    if let Some(from) = &sanction.from {
        let _ = write!(out, ", inherited from {}", printable(from));
    }
    out
}

fn sanction_name(sanction: Sanction) -> &'static str {
    match sanction {
        Sanction::Warn => "warn",
        Sanction::BlockSmtp => "block_smtp",
        Sanction::SuspendMail => "suspend_mail",
        Sanction::SuspendNetwork => "suspend_network",
        Sanction::NullRoute => "null_route",
        Sanction::Terminate => "terminate",
    }
}
