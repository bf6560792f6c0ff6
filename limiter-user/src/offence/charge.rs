//! Money: what was charged for a cause, the highest of all policies (R13).

use super::{
    action::Action,
    book::Book,
    case::Case,
    engine::Work,
    hold::Hold,
    ladder::{Charge, Per},
    record::Record,
    words::{Bill, Severity},
};

/// For what something is charged.
pub struct Cause<'c> {
    /// Which kind.
    pub per: Option<Per>,
    /// What tells it from all others.
    pub name: String,
    /// How grave it is, if it is an offence.
    pub severity: Option<Severity>,
    /// Whose doing.
    pub tenant: &'c str,
}

impl<'c> Cause<'c> {
    /// A step that is taken.
    pub fn step(tenant: &'c str, policy: &str, case: &Case, hold: &Hold) -> Self {
        let sanction = hold.step.sanction.as_str();
        Self {
            per: None,
            name: format!("step {policy} {} {sanction}", case.id),
            severity: Some(hold.severity),
            tenant,
        }
    }
}

impl Work<'_> {
    /// Charges what `charges` of `policy` say for `cause`.
    pub fn charge(&mut self, policy: &str, charges: &[Charge], cause: &Cause<'_>) {
        let record = self.state.record(cause.tenant);
        let (book, actions) = (self.book, &mut self.actions);
        charge(record, book, policy, charges, cause, actions);
    }
}

/// Charges what `charges` of `policy` say for `cause`.
pub fn charge(
    record: &mut Record,
    book: &Book,
    policy: &str,
    charges: &[Charge],
    cause: &Cause<'_>,
    actions: &mut Vec<Action>,
) {
    let subject = book.tenants.get(cause.tenant);
    for charge in charges {
        let grave_enough = charge
            .severity
            .is_none_or(|from| cause.severity.is_none_or(|severity| severity >= from));
        if charge.per != cause.per || !grave_enough {
            continue;
        }
        let bill = match charge.bill {
            Bill::Tenant => cause.tenant,
            Bill::Parent => book.parent(cause.tenant).unwrap_or(cause.tenant),
        };
        let mut key = format!("{}\n{bill}\n{}", cause.name, charge.currency);
        if charge.cents.is_none() {
            key = format!("{key}\n{policy}\n{}", charge.plus.join("\n"));
        }
        let cents = charge.cents.unwrap_or_default();
        let before = record.charged.get(&key).copied();
        if before.is_some_and(|before| before >= cents) {
            continue;
        }
        record.charged.insert(key, cents);
        actions.push(Action::Charge {
            tenant: cause.tenant.to_owned(),
            bill: bill.to_owned(),
            cause: cause.name.clone(),
            policy: policy.to_owned(),
            cents: charge.cents.map(|_| cents - before.unwrap_or_default()),
            currency: charge.currency.clone(),
            plus: charge.plus.clone(),
            proposed: subject.is_some_and(|subject| subject.observe),
        });
    }
}
