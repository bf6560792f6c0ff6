//! `steps`: what follows an offence.

use std::collections::BTreeSet;

use super::{
    super::{
        findings::Findings,
        item::{Fields, Item, Parsed, Scalar},
        model::Located,
        node::Mark,
        value,
    },
    FOREVER, lines, section_charges, span, stated, word, words,
};
use crate::offence::{Audience, Condition, Length, Lift, Sanction, Severity, Span, Step};

const KEYS: [&str; 13] = [
    "severity",
    "offence",
    "again_after_reinstatement",
    "plans",
    "sanction",
    "for",
    "lift",
    "within",
    "meanwhile",
    "then",
    "tell",
    "note",
    "charges",
];
const MINUTE: Span = Span::seconds(60);

/// The steps, and where each is written. `None` in place of one that cannot be read. The plans that
/// they name are added to `plans`.
pub(super) fn steps(
    fields: &Fields<'_>,
    plans: &mut Vec<Located<String>>,
    out: &mut Findings,
) -> Vec<Option<(Step, Mark)>> {
    let Some(item) = fields.get("steps") else {
        return Vec::new();
    };
    let allowed = "a list such as [{severity: minor, sanction: warn, tell: [contact]}]";
    let mut found = Vec::new();
    for item in item.list(out, allowed) {
        let step = item
            .fields(out, &KEYS)
            .and_then(|fields| step(&item, &fields, plans, out));
        found.push(step.map(|step| (step, item.mark())));
    }
    found
}

fn step(
    item: &Item<'_>,
    fields: &Fields<'_>,
    plans: &mut Vec<Located<String>>,
    out: &mut Findings,
) -> Option<Step> {
    let severity = fields
        .set("severity")
        .map(|item| word(&item, out, Severity::WORDS));
    let offence = fields.set("offence").map(|item| {
        item.parse(out, "the number of the offence, from 1 on", |scalar| {
            value::whole(scalar, 1, 1_000)
        })
    });
    let again = fields
        .set("again_after_reinstatement")
        .and_then(|item| item.parse(out, "true | false", stated))
        .unwrap_or_default();
    if severity.is_none() && offence.is_none() && !again {
        let allowed = "add `severity`, `offence` or `again_after_reinstatement`";
        item.refuse(out, "says not when it is taken", allowed);
    }
    let sanction = fields
        .require(out, "sanction", "add `sanction`: warn … terminate")
        .and_then(|item| word(&item, out, Sanction::WORDS));
    let length = fields
        .set("for")
        .map(|item| item.parse(out, "a duration, or a range such as 7d-30d", length));
    let said = fields.set("lift").map(|item| lift(&item, out));
    let meanwhile = fields
        .set("meanwhile")
        .map(|item| word(&item, out, Sanction::WORDS));
    let then = fields.set("then").map(|item| then(&item, out));
    let charges = fields
        .get("charges")
        .map(|item| section_charges::charges(&item, out, false));
    let named = lists(fields, out);
    let within = span(fields, out, "within", MINUTE, FOREVER);
    let sanction = sanction?;
    let mut length = flat(length)?;
    let lift = match flat(said)? {
        Some(lift) => lift,
        None if length.is_some() => Lift::Any(BTreeSet::from([Condition::Time])),
        None if sanction == Sanction::Warn => {
            length = Some(Length::WARNING);
            Lift::Any(BTreeSet::from([Condition::Time]))
        }
        None if sanction >= Sanction::NullRoute => Lift::All(BTreeSet::from([Condition::Never])),
        None => {
            let allowed = "add `for`, how long, or `lift`, what lifts it";
            item.refuse(out, "does not say how it ends", allowed);
            return None;
        }
    };
    check_lift(fields, &lift, length, out);
    let (then, meanwhile) = (flat(then)?, flat(meanwhile)?);
    check_stronger(fields, sanction, then, meanwhile, out);
    let (tell, note, only) = named;
    let names = only.iter().map(|plan| plan.value.clone()).collect();
    plans.extend(only);
    Some(Step {
        severity: flat(severity)?,
        offence: flat(offence)?,
        again,
        plans: names,
        sanction,
        length,
        lift,
        within,
        meanwhile,
        then,
        tell,
        note,
        charges: charges.unwrap_or_default(),
    })
}

/// A key that is absent is none; one that could not be read makes the whole unreadable.
#[expect(
    clippy::option_option,
    reason = "absent, unreadable and read are three things"
)]
fn flat<T>(value: Option<Option<T>>) -> Option<Option<T>> {
    match value {
        None => Some(None),
        Some(None) => None,
        Some(read) => Some(read),
    }
}

type Lists = (BTreeSet<Audience>, Vec<String>, Vec<Located<String>>);

fn lists(fields: &Fields<'_>, out: &mut Findings) -> Lists {
    let tell = match fields.get("tell") {
        Some(item) => words(&item, out, Audience::WORDS),
        None => BTreeSet::from([Audience::Contact, Audience::Operator]),
    };
    let note = fields
        .get("note")
        .map(|item| lines(&item, out, "a list of sentences for the notice"))
        .unwrap_or_default();
    let mut plans = Vec::new();
    if let Some(item) = fields.get("plans") {
        let allowed = "a list of names of plans";
        for item in item.list(out, allowed) {
            plans.extend(item.located(out, allowed, value::line));
        }
    }
    (tell, note, plans)
}

/// `24h`, or a range: `7d-30d`.
fn length(scalar: Scalar<'_>) -> Parsed<Length> {
    let read = |text: &str| {
        let scalar = Scalar {
            text,
            plain: scalar.plain,
        };
        value::duration(scalar, MINUTE.into(), FOREVER.into()).map(Span::from)
    };
    let Some((shortest, longest)) = scalar.text.split_once('-') else {
        return Ok(Length {
            at_least: Span(0),
            at_most: read(scalar.text)?,
        });
    };
    let (shortest, longest) = (shortest.trim(), longest.trim());
    let length = Length {
        at_least: read(shortest)?,
        at_most: read(longest)?,
    };
    if length.at_least > length.at_most {
        let allowed = format!("from short to long: {longest}-{shortest}");
        return super::refuse("ends before it starts", allowed);
    }
    Ok(length)
}

fn lift(item: &Item<'_>, out: &mut Findings) -> Option<Lift> {
    let allowed =
        "{any: […]} or {all: […]} of time, contact, acknowledgement, review; or {all: [never]}";
    let fields = item.fields(out, &["any", "all"])?;
    let (joined, item, any) = match (fields.get("any"), fields.get("all")) {
        (Some(item), None) => (words(&item, out, Condition::WORDS), item, true),
        (None, Some(item)) => (words(&item, out, Condition::WORDS), item, false),
        _ => {
            item.refuse(out, "joins nothing, or in two ways", allowed);
            return None;
        }
    };
    if joined.is_empty() {
        item.refuse(out, "names no condition", allowed);
        return None;
    }
    if joined.len() > 1 && joined.contains(&Condition::Never) {
        item.refuse(out, "joins `never` with something", allowed);
    }
    Some(if any {
        Lift::Any(joined)
    } else {
        Lift::All(joined)
    })
}

fn then(item: &Item<'_>, out: &mut Findings) -> Option<(Sanction, Span)> {
    let fields = item.fields(out, &["sanction", "after"])?;
    let sanction = fields
        .require(out, "sanction", "add `sanction`, a stronger one")
        .and_then(|item| word(&item, out, Sanction::WORDS));
    fields.require(out, "after", "add `after`, a duration; 0s is at once");
    let after = span(&fields, out, "after", Span(0), FOREVER);
    Some((sanction?, after?))
}

fn check_lift(fields: &Fields<'_>, lift: &Lift, length: Option<Length>, out: &mut Findings) {
    let (Lift::Any(conditions) | Lift::All(conditions)) = lift;
    if conditions.contains(&Condition::Time)
        && length.is_none()
        && let Some(item) = fields.get("lift")
    {
        item.refuse(
            out,
            "waits for a time that is not named",
            "add `for`, how long",
        );
    }
}

fn check_stronger(
    fields: &Fields<'_>,
    sanction: Sanction,
    then: Option<(Sanction, Span)>,
    meanwhile: Option<Sanction>,
    out: &mut Findings,
) {
    if let (Some((next, _)), Some(item)) = (then, fields.get("then"))
        && next <= sanction
    {
        let what = format!("leads to {}, which is not stronger", next.as_str());
        item.refuse(out, &what, format!("stronger than {}", sanction.as_str()));
    }
    if let (Some(meanwhile), Some(item)) = (meanwhile, fields.get("meanwhile"))
        && meanwhile >= sanction
    {
        let allowed = format!("weaker than {}", sanction.as_str());
        item.refuse(out, "is not weaker than what is proposed", allowed);
    }
}
