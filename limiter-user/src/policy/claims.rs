//! Whose an identity is, as far as the files alone can tell: nothing is claimed twice at the same
//! width. Narrower against wider is legal; within one tenant, repeating is harmless.

use std::{collections::HashMap, fmt::Display, hash::Hash};

use super::{
    fault::Fault,
    findings::Findings,
    item::shown,
    model::{Located, Origin, UidRange},
    section_tenant::RawTenant,
};

/// Reports everything that two tenants claim. `mta` are the users of the node's MTA, as far as
/// they are configured.
pub(super) fn check(tenants: &[RawTenant], mta: &[Located<String>], out: &mut Findings) {
    let mta_users: HashMap<&str, &Origin> = mta
        .iter()
        .map(|user| (user.value.as_str(), &user.origin))
        .collect();
    let users = tenants.iter().flat_map(|tenant| &tenant.matches.users);
    for user in users {
        if let Some(origin) = mta_users.get(user.value.as_str()) {
            out.add(Fault::error(
                &user.origin,
                format!("match.users: {} is the node's MTA", shown(&user.value)),
                format!("take it out here or from mta.users at {origin}"),
            ));
        }
    }
    once(tenants, "users", |t| &t.matches.users, out);
    once(tenants, "cgroups", |t| &t.matches.cgroups, out);
    once(tenants, "interfaces", |t| &t.matches.interfaces, out);
    once(tenants, "addresses", |t| &t.matches.addresses, out);
    uids(tenants, out);
}

/// Reports values that stand in two tenants.
fn once<'t, T: Eq + Hash + Display + 't>(
    tenants: &'t [RawTenant],
    key: &str,
    values: impl Fn(&'t RawTenant) -> &'t Vec<Located<T>>,
    out: &mut Findings,
) {
    let count = tenants.iter().map(|tenant| values(tenant).len()).sum();
    let mut first: HashMap<&T, (usize, &Origin)> = HashMap::with_capacity(count);
    for (index, tenant) in tenants.iter().enumerate() {
        for Located { value, origin } in values(tenant) {
            let (owner, place) = *first.entry(value).or_insert((index, origin));
            if owner != index {
                let value = shown_value(value);
                let what = format!("match.{key}: {value} is claimed by");
                twice(tenants, (owner, place), (index, origin), &what, out);
            }
        }
    }
}

fn shown_value(value: &impl Display) -> String {
    shown(&value.to_string()).into_owned()
}

/// Reports uid ranges of the same width that overlap: neither is the narrower.
fn uids(tenants: &[RawTenant], out: &mut Findings) {
    let mut claims: Vec<(UidRange, usize, &Origin)> = Vec::new();
    for (index, tenant) in tenants.iter().enumerate() {
        for Located { value, origin } in &tenant.matches.uids {
            claims.push((*value, index, origin));
        }
    }
    // Within one width neighbours in this order overlap if any do, and those that start together
    // stay in the order of the files.
    claims.sort_by_key(|(range, index, _)| (range.width(), *range, *index));
    for pair in claims.windows(2) {
        let [(one, owner, place), (two, other, other_place)] = pair else {
            continue;
        };
        if one.width() != two.width() || two.first > one.last || owner == other {
            continue;
        }
        let (earlier, later) = if owner < other {
            ((*one, *owner, *place), (*two, *other, *other_place))
        } else {
            ((*two, *other, *other_place), (*one, *owner, *place))
        };
        let what = if one == two {
            format!("match.uids: {} is claimed by", text(*one))
        } else {
            format!(
                "match.uids: {} and {} are equally wide and overlap; they are claimed by",
                text(later.0),
                text(earlier.0)
            )
        };
        twice(
            tenants,
            (earlier.1, earlier.2),
            (later.1, later.2),
            &what,
            out,
        );
    }
}

/// A uid range as the files write it.
pub(super) fn text(range: UidRange) -> String {
    if range.width() == 0 {
        range.first.to_string()
    } else {
        format!("{}-{}", range.first, range.last)
    }
}

fn twice(
    tenants: &[RawTenant],
    (owner, place): (usize, &Origin),
    (other, other_place): (usize, &Origin),
    what: &str,
    out: &mut Findings,
) {
    let name = |index: usize| shown(&tenants[index].name);
    out.add(Fault::error(
        other_place,
        format!("{what} {} and by {}", name(other), name(owner)),
        format!("take it out of one; the other is at {place}"),
    ));
}
