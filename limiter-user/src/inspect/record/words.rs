//! What the record book holds, in words.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Times, name_of};
use crate::{
    control::peer::Peer,
    offence::{
        Action, Complaint, Condition, How, Lift, Notice, NoticeEvent, Pending, Sanction, Signal,
        Word,
    },
    report::{case_text, time::utc},
};

/// What lifts a sanction.
pub fn lift(lift: &Lift, tenant: &str) -> String {
    let (conditions, join) = match lift {
        Lift::Any(conditions) => (conditions, " or "),
        Lift::All(conditions) => (conditions, " and "),
    };
    let never = conditions.is_empty()
        || match lift {
            Lift::Any(_) => conditions.iter().all(|it| *it == Condition::Never),
            Lift::All(_) => conditions.contains(&Condition::Never),
        };
    if never {
        return format!("nothing but `limiter reinstate {tenant} --override`");
    }
    let words: Vec<String> = conditions
        .iter()
        .filter(|condition| **condition != Condition::Never)
        .map(|condition| self::condition(*condition, tenant))
        .collect();
    words.join(join)
}

fn condition(condition: Condition, tenant: &str) -> String {
    match condition {
        Condition::Time => "the end of its time".to_owned(),
        Condition::Contact => format!("contact with the owner (`limiter contact {tenant}`)"),
        Condition::Acknowledgement => {
            format!("the owner's acknowledgement (`limiter acknowledge {tenant}`)")
        }
        Condition::Review => format!("a review (`limiter reinstate {tenant}`)"),
        Condition::Never => "nothing".to_owned(),
    }
}

/// What lifts an operator's own sanction.
pub fn lift_of_operator(timed: bool, tenant: &str) -> String {
    let review: BTreeSet<Condition> = if timed {
        [Condition::Time, Condition::Review].into()
    } else {
        [Condition::Review].into()
    };
    lift(&Lift::Any(review), tenant)
}

/// Who a person is, as kept beside what they said.
pub fn who(by: &Value) -> String {
    match (serde_json::from_value::<Peer>(by.clone()), by) {
        (Ok(peer), _) => peer.to_string(),
        (Err(_), Value::String(name)) => name.clone(),
        (Err(_), other) => other.to_string(),
    }
}

/// What was heard.
pub fn signal(signal: &Signal) -> String {
    match signal {
        Signal::Tick => "time passed".to_owned(),
        Signal::Violations {
            reason,
            count,
            refused,
            source,
            ..
        } => {
            let what = if *refused { "refused" } else { "let out" };
            let from = source.map_or_else(String::new, |source| format!(", from {source}"));
            let attempts = case_text::attempts(reason, *count);
            format!("{attempts}, {what}{from}")
        }
        Signal::Sent { messages, .. } => format!("{messages} messages sent"),
        Signal::Sources { sources, .. } => {
            let all: Vec<String> = sources.keys().map(ToString::to_string).collect();
            format!("mail let out from {}", all.join(", "))
        }
        Signal::Bounces { hard, soft, .. } => {
            format!("{hard} hard and {soft} other bounces")
        }
        Signal::Complaint(Complaint {
            id, format, source, ..
        }) => {
            let from = source.map_or_else(String::new, |source| format!(" about {source}"));
            format!("complaint {id} ({format}){from}")
        }
        Signal::Listing { id, list, .. } => format!("listed on {list}: {id}"),
        Signal::Offence {
            severity, reason, ..
        } => format!("called a {} offence: {reason}", severity.as_str()),
        Signal::Suspend {
            sanction,
            length,
            reason,
            ..
        } => {
            let end = length.map_or_else(
                || "until it is taken back".to_owned(),
                |length| {
                    let length = crate::report::duration::Seconds(length.into());
                    format!("for {length}")
                },
            );
            format!("put under {} {end}: {reason}", sanction.as_str())
        }
        Signal::Word { word, .. } => self::word(*word),
        Signal::Handled {
            complaint, clock, ..
        } => format!("complaint {complaint}: {clock} done"),
        Signal::Withdrawn { complaint, .. } => {
            format!("complaint {complaint} was wrong: it counts no more")
        }
        Signal::Void { policy, case, .. } => {
            format!(
                "case {} was wrong: it counts no more",
                name_of(policy, *case)
            )
        }
        Signal::Settle { .. } => "the wall clock was declared right".to_owned(),
    }
}

fn word(word: Word) -> String {
    match word {
        Word::Contact => "the owner was spoken to".to_owned(),
        Word::Acknowledgement => "the owner acknowledged what must be done".to_owned(),
        Word::Review => "it was looked at, and is in order".to_owned(),
        Word::Confirm(sanction) => format!("{} was confirmed", sanction.as_str()),
        Word::Reject(sanction) => format!("{} was rejected", sanction.as_str()),
        Word::Reinstate => "everything was lifted, whatever its rule".to_owned(),
        Word::Lift(sanction) => format!("{} was lifted, whatever its rule", sanction.as_str()),
        Word::Acquit => "everything was lifted, and was wrong".to_owned(),
    }
}

/// A review that lifted nothing: that it is in order nobody can say.
pub const REVIEW_IN_VAIN: &str = "asked for a review; the rules did not let it lift anything";

/// What came of something, if that is worth a word; notices stand on their own.
pub fn action(action: &Action, times: Times) -> Option<String> {
    Some(match action {
        Action::Apply {
            sanction, until, ..
        } => {
            let until = until.map_or_else(
                || "until it is lifted".to_owned(),
                |until| format!("until {}", utc(times.at(until))),
            );
            format!("{} {until}", sanction.as_str())
        }
        Action::LiftSanction { sanction, .. } => format!("{} lifted", sanction.as_str()),
        Action::OpenCase { policy, case, .. } => {
            format!("case {} opened", name_of(policy, *case))
        }
        Action::CloseCase { policy, case, .. } => {
            format!("case {} closed", name_of(policy, *case))
        }
        Action::InvalidComplaint {
            complaint,
            policy,
            missing,
            format,
            ..
        } => {
            let mut lacks: Vec<&str> = missing.iter().map(|part| part.as_str()).collect();
            if *format {
                lacks.push("an accepted format");
            }
            format!(
                "complaint {complaint} is not valid under {policy}: no {}",
                lacks.join(", no ")
            )
        }
        Action::Duplicate { id, .. } => format!("{id} was heard before, and does not count again"),
        Action::NoPolicy { .. } => "no policy speaks of it".to_owned(),
        Action::Charge {
            cents,
            currency,
            cause,
            ..
        } => {
            let amount = cents.map_or_else(|| "an amount to be named".to_owned(), money);
            let currency = currency.trim();
            let space = if currency.is_empty() { "" } else { " " };
            format!("{amount}{space}{currency} charged for {cause}")
        }
        Action::Notify(_) => return None,
    })
}

fn money(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// What somebody is told.
pub fn notice(notice: &Notice, times: Times) -> String {
    match &notice.event {
        NoticeEvent::Sanctioned {
            sanction,
            until,
            lift,
            then,
            pending,
            ..
        } => {
            let mut text = sanction.as_str().to_owned();
            if let Some(until) = until {
                text.push_str(&format!(" until {}", utc(times.at(*until))));
            }
            match pending {
                Some(Pending { sanction, deadline }) => {
                    text.push_str(&format!(
                        " provisionally, until {} is decided",
                        sanction.as_str()
                    ));
                    if let Some(deadline) = deadline {
                        text.push_str(&format!(" (by {})", utc(times.at(*deadline))));
                    }
                }
                None => {
                    text.push_str(&format!("; lifted by {}", self::lift(lift, &notice.tenant)));
                }
            }
            if let Some((then, at)) = then {
                text.push_str(&format!("; {} at {}", then.as_str(), utc(times.at(*at))));
            }
            text
        }
        NoticeEvent::Proposed {
            sanction,
            deadline,
            meanwhile,
            observed,
        } => {
            let mut text = format!("{} is proposed", sanction.as_str());
            if *observed {
                text.push_str(" only, because the tenant is observed");
            }
            if let Some(deadline) = deadline {
                text.push_str(&format!(", to be decided by {}", utc(times.at(*deadline))));
            }
            if let Some(meanwhile) = meanwhile {
                text.push_str(&format!("; {} meanwhile", meanwhile.as_str()));
            }
            text
        }
        NoticeEvent::Lifted {
            sanction,
            how,
            still,
        } => {
            let what = format!("{} lifted: {}", sanction.as_str(), self::how(*how));
            what + &self::still(still)
        }
        NoticeEvent::Dropped {
            sanction,
            how,
            still,
        } => {
            let what = format!(
                "{} was proposed, and dropped: {}",
                sanction.as_str(),
                self::how(*how)
            );
            what + &self::still(still)
        }
        NoticeEvent::Undecided { sanction } => {
            format!("{} was not decided in time", sanction.as_str())
        }
        NoticeEvent::Overdue { complaint, clock } => {
            format!("complaint {complaint}: {clock} is overdue")
        }
        NoticeEvent::Unassigned {
            complaint,
            why,
            waiting,
        } => format!("complaint {complaint} waits for a person ({waiting} in all): {why}"),
    }
}

/// What holds all the same.
fn still(still: &[Sanction]) -> String {
    if still.is_empty() {
        return String::new();
    }
    let names: Vec<&str> = still.iter().map(|sanction| sanction.as_str()).collect();
    format!("; still in force: {}", names.join(", "))
}

/// How a sanction ended.
pub const fn how(how: How) -> &'static str {
    match how {
        How::Rule => "its conditions were met",
        How::Reinstated => "an operator lifted it",
        How::Acquitted => "an operator found that it was wrong",
        How::Rejected => "an operator rejected it",
        How::Superseded => "something stronger took its place, or its case is over",
    }
}
