//! What else to do, where a word did not do all that was asked for.

use crate::{
    offence::Word,
    report::case::{HeardOutcome, HoldState},
};

/// What to do next, each a sentence.
pub fn hints(tenant: &str, word: Word, outcome: &HeardOutcome) -> Vec<String> {
    if !matches!(word, Word::Review) {
        return Vec::new();
    }
    let mut hints = Vec::new();
    let of_case = |state| {
        let mut holds = outcome.holds.iter();
        holds.find(move |hold| hold.state == state && hold.case.is_some())
    };
    if let Some(hold) = of_case(HoldState::Proposed) {
        let case = hold.case.as_deref().unwrap_or_default();
        let meanwhile = hold.meanwhile.map_or_else(String::new, |sanction| {
            format!(", and {} holds until that is decided", sanction.as_str())
        });
        hints.push(format!(
            "{} waits for an operator{meanwhile}: a review does not decide it; `limiter case reject \
             {tenant} {case} --sanction {} --reason …` drops it, --override lifts everything",
            hold.sanction.as_str(),
            hold.sanction.as_str()
        ));
    }
    if let Some(hold) = of_case(HoldState::InForce) {
        let case = hold.case.as_deref().unwrap_or_default();
        hints.push(format!(
            "the rules do not let a review lift {}: `limiter case close {tenant} {case} --override` \
             lifts it against them (it still counts), `--acquit` if it was wrong (it never counts)",
            hold.sanction.as_str()
        ));
    }
    hints
}
