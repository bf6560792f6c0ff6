//! What a refusal means, and what to do next: for whoever is woken by it.

use limiter_common::verdict::Reason;

/// What happened, in words.
#[must_use]
pub const fn happened(reason: Reason) -> &'static str {
    match reason {
        Reason::None => "nothing stood against it",
        Reason::DirectSmtp => {
            "it went straight to another host's SMTP port, past the MTA, which `direct_smtp` does \
             not allow"
        }
        Reason::Submission => {
            "it went to another host's submission port, which `submission` does not allow"
        }
        Reason::Limit => "a limit of the tenant, of one above it or of the node is used up",
        Reason::Pace => "it came sooner after the one before than the pace allows",
        Reason::Suspended => "the tenant, or one above it, is under a sanction",
        Reason::NullRoute => "the tenant is null-routed: nothing goes to or from what is its alone",
        Reason::Unattributed => "nobody could be named as the sender",
        Reason::Unparsable => {
            "its packets could not be read, and could have been mail: hidden behind fragments, \
             unknown headers or a tunnel"
        }
        Reason::BlockedAddress => "the other address is in `blocked`, for everybody on this node",
        Reason::MailboxLimit => "one client logged in to mailboxes more often than is allowed",
        Reason::SenderMismatch => "the sender's domain is not the tenant's",
        Reason::Internal => {
            "something in the kernel programs failed that cannot fail; what could not be judged \
             was refused"
        }
    }
}

/// What the administrator should do next.
#[must_use]
pub const fn next_step(reason: Reason) -> &'static str {
    match reason {
        Reason::None => "nothing",
        Reason::DirectSmtp => {
            "look at the process that `limiter events` names: a mailer of the customer's belongs \
             behind the MTA, anything unknown is likely malware; to let one destination through, \
             `exempt`"
        }
        Reason::Submission => {
            "ask the customer which relay it is; `submission: allow` or `exempt` lets it through"
        }
        Reason::Limit => {
            "`limiter status TENANT` shows which limit and when it is free again; a steady flood \
             is a hacked account until proven otherwise"
        }
        Reason::Pace => "nothing unless it goes on: a well-behaved mailer tries again later",
        Reason::Suspended => {
            "`limiter status TENANT` shows the sanction, its end and whose it is; when the cause \
             is mended: `limiter reinstate`"
        }
        Reason::NullRoute => {
            "`limiter status TENANT` shows until when; `limiter reinstate` takes it back"
        }
        Reason::Unattributed => {
            "give it a tenant (`match`), or say with `default` what nobody's traffic may do"
        }
        Reason::Unparsable => {
            "find out what sends such packets (tcpdump on the interface that the event names); \
             honest mail software does not"
        }
        Reason::BlockedAddress => {
            "if the address is meant to be reached, take it out of `blocked` and `limiter reload`; \
             if not, look at what on this node wants to go there"
        }
        Reason::MailboxLimit => {
            "someone guesses passwords, or an office shares one address; the client is let in \
             again by itself, `mailbox.per_client` sets the limit"
        }
        Reason::SenderMismatch => "name the domain under the tenant's `domains` if it is its own",
        Reason::Internal => {
            "`limiter status` and `limiter doctor`; please report it with their output"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_refused_has_advice_of_its_own() {
        let mut seen = std::collections::HashSet::new();
        for reason in Reason::ALL {
            assert!(!happened(*reason).is_empty() && !next_step(*reason).is_empty());
            assert!(seen.insert(happened(*reason)), "{reason:?}");
            assert!(seen.insert(next_step(*reason)), "{reason:?}");
        }
    }
}
