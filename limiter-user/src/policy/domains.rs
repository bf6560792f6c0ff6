//! Limits of domains that mail goes around.

use limiter_common::limit::Unit;

use super::{
    fault::Fault,
    findings::Findings,
    model::{Policy, Rules},
};

/// Warns where an account's domains have limits and the account has none: mail that says of none of them
/// whose it is, bounces say, is the account's own. Of an account with one domain all mail is that one's.
pub(super) fn check(policy: &Policy, out: &mut Findings) {
    let mut rest = policy.tenants.as_slice();
    // Each account stands before its domains.
    while let Some((account, behind)) = rest.split_first() {
        let count = behind.iter().take_while(|it| it.is_domain).count();
        let (domains, others) = behind.split_at(count);
        rest = others;
        let is_limited = domains.iter().any(|domain| limits_mail(&domain.rules));
        if count > 1 && is_limited && !limits_mail(&account.rules) {
            let name = &account.name;
            out.add(Fault::warning(
                &account.origin,
                format!(
                    "{name} has domains with limits and none of its own, so mail from senders in none of \
                     them is not limited"
                ),
                format!("give {name} limits of messages or recipients too"),
            ));
        }
    }
}

fn limits_mail(rules: &Rules) -> bool {
    let mut limits = rules.limits.iter();
    limits.any(|limit| matches!(limit.unit, Unit::Messages | Unit::Recipients))
}
