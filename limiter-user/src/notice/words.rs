//! Sanctions and conditions in plain words, for whoever is not from the field.

use crate::{
    notice::evidence::{EvidenceKind, EvidenceLine},
    offence::{Condition, How, Lift, Sanction},
};

/// What a sanction means for the one who suffers it.
#[must_use]
pub const fn effect(sanction: Sanction) -> &'static str {
    match sanction {
        Sanction::Warn => "nothing is switched off",
        Sanction::BlockSmtp => "no mail leaves the account; mail that waits is held",
        Sanction::SuspendMail => "no mail leaves the account, and its mailboxes cannot be opened",
        Sanction::SuspendNetwork => "the account is cut off from the network",
        Sanction::NullRoute => {
            "the account is cut off from the network, and nothing reaches its addresses"
        }
        Sanction::Terminate => "the account is closed",
    }
}

/// A sanction's name in a sentence.
#[must_use]
pub const fn name(sanction: Sanction) -> &'static str {
    match sanction {
        Sanction::Warn => "a warning",
        Sanction::BlockSmtp => "a stop of outgoing mail",
        Sanction::SuspendMail => "a suspension of mail",
        Sanction::SuspendNetwork => "a suspension of the account",
        Sanction::NullRoute => "a null route of the account's addresses",
        Sanction::Terminate => "the termination of the account",
    }
}

/// How it came to its end.
#[must_use]
pub const fn how(how: How) -> &'static str {
    match how {
        How::Rule => "its conditions are met",
        How::Reinstated => "we lifted it",
        How::Acquitted => "it was wrong; we are sorry",
        How::Rejected => "we decided against what was proposed",
        How::Superseded => "another measure took its place, or the case is over",
    }
}

/// A condition, as the end of `The service returns when`.
#[must_use]
pub const fn condition(condition: Condition) -> &'static str {
    match condition {
        Condition::Time => "the time is over",
        Condition::Contact => "you have been in contact with us",
        Condition::Acknowledgement => "you have acknowledged what must be done",
        Condition::Review => "we have reviewed the case and are content",
        Condition::Never => "nothing: it is final",
    }
}

/// Whether one condition is enough, and the conditions.
#[must_use]
pub fn conditions(lift: &Lift) -> (bool, Vec<Condition>) {
    let (any, set) = match lift {
        Lift::Any(set) => (true, set),
        Lift::All(set) => (false, set),
    };
    (any, set.iter().copied().collect())
}

/// How the service comes back.
#[must_use]
pub fn way_back(sanction: Sanction, lift: &Lift, until: Option<&str>) -> Vec<String> {
    if sanction == Sanction::Warn {
        return vec![
            "Nothing is switched off: correct the cause, and nothing else happens.".into(),
        ];
    }
    let (any, conditions) = conditions(lift);
    if conditions.is_empty()
        || (conditions.contains(&Condition::Never) && (!any || conditions.len() == 1))
    {
        return vec![
            "This is final. If you believe that it is wrong, reply to this message.".into(),
        ];
    }
    let conditions: Vec<Condition> = conditions
        .into_iter()
        .filter(|condition| *condition != Condition::Never)
        .collect();
    let mut lines = Vec::new();
    if let [_, _, ..] = conditions.as_slice() {
        lines.push(if any {
            "The service returns as soon as one of these is true:".to_owned()
        } else {
            "The service returns when all of these are true:".to_owned()
        });
    }
    let single = conditions.len() == 1;
    for one in &conditions {
        let text = match (one, until) {
            (Condition::Time, Some(until)) => format!("the time is over ({until})"),
            (Condition::Contact, _) => {
                "you have been in contact with us (reply to this message)".to_owned()
            }
            (Condition::Acknowledgement, _) => "you have acknowledged what must be done (reply to \
                                                this message and say so)"
                .to_owned(),
            (one, _) => condition(*one).to_owned(),
        };
        lines.push(if single {
            format!("The service returns when {text}.")
        } else {
            format!("- {text}")
        });
    }
    lines
}

/// How the service comes back where a person has yet to decide, by `by`.
#[must_use]
pub fn provisional(by: Option<&str>) -> Vec<String> {
    let by = by.map_or_else(String::new, |by| format!(", by {by} at the latest"));
    vec![
        format!("This is provisional: it holds until a person has decided about it{by}."),
        "Until then reply to this message: what you say is looked at before it is decided."
            .to_owned(),
    ]
}

/// What the customer is to do about the evidence.
#[must_use]
pub fn to_do(evidence: &[EvidenceLine]) -> Vec<String> {
    let has = |kind| evidence.iter().any(|line| line.kind == kind);
    let mut lines = vec![
        "Find out what sent the mail. The usual causes are a hacked web site, a stolen mailbox \
         password, an open contact form, or a script that somebody forgot."
            .to_owned(),
    ];
    if has(EvidenceKind::Complaint) {
        lines.push(
            "Take everybody who complained off your lists, and everybody who did not ask for \
             your mail."
                .to_owned(),
        );
    }
    if has(EvidenceKind::Bounce) {
        lines.push("Take addresses that do not exist off your lists.".to_owned());
    }
    if has(EvidenceKind::Violation) {
        // What is only observed is not refused.
        let all_refused = evidence.iter().all(|line| line.let_out == 0);
        lines.push(if all_refused {
            "Stop what tries to send: every further attempt is refused and recorded.".to_owned()
        } else {
            "Stop what tries to send: every further attempt is recorded.".to_owned()
        });
    }
    if has(EvidenceKind::Customer) {
        lines.push("See to it that your customers stop.".to_owned());
    }
    lines.push(
        "Close the cause: update the site and its plug-ins, remove files that are not yours, and \
         change the passwords."
            .to_owned(),
    );
    lines.push("Reply to this message, and say what you found and what you changed.".to_owned());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lift(any: bool, conditions: &[Condition]) -> Lift {
        let set = conditions.iter().copied().collect();
        if any { Lift::Any(set) } else { Lift::All(set) }
    }

    #[test]
    fn the_way_back_says_what_the_rule_says() {
        use Condition::{Acknowledgement, Contact, Never, Time};
        let back = |any, conditions: &[Condition]| {
            way_back(Sanction::BlockSmtp, &lift(any, conditions), Some("noon")).join(" ")
        };
        assert!(back(true, &[Time, Contact]).contains("one of these"));
        assert!(back(false, &[Time, Acknowledgement]).contains("all of these"));
        assert!(back(true, &[Time]).contains("when the time is over (noon)."));
        assert!(back(false, &[Time, Never]).contains("final"));
        assert!(!back(true, &[Contact, Never]).contains("final"));
        assert!(back(true, &[]).contains("final"));
        let terminated = |conditions: &[Condition]| {
            way_back(Sanction::Terminate, &lift(false, conditions), None)
        };
        assert!(terminated(&[Never])[0].contains("final"));
        assert!(!terminated(&[Condition::Review])[0].contains("final"));
        assert!(
            provisional(Some("noon"))[0].contains("until a person has decided about it, by noon")
        );
    }
}
