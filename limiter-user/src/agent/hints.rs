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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn outcome(state: &str) -> HeardOutcome {
        serde_json::from_value(json!({
            "tenant": "alice", "duplicate": false, "no_policy": false, "opened": [], "closed": [],
            "applied": [], "lifted": [], "owed": [], "standing": "suspended", "cut": null,
            "holds": [{
                "sanction": "null_route", "state": state, "case": "hostup/1",
                "severity": "critical", "offence": 1, "reason": "case hostup/1", "by": null,
                "since": "2026-11-20T12:00:00Z", "until": null, "not_before": null, "lift": "nothing",
                "deadline": null, "meanwhile": "suspend_network", "then": null, "ended": null,
                "how": null,
            }],
        }))
        .unwrap()
    }

    #[test]
    fn who_reviews_in_vain_is_told_what_helps() {
        let hints = |word, state| hints("alice", word, &outcome(state)).join("\n");
        let proposed = hints(Word::Review, "proposed");
        assert!(
            proposed.contains("`limiter case reject alice hostup/1 --sanction null_route")
                && proposed.contains("suspend_network holds until that is decided"),
            "{proposed}"
        );
        let in_force = hints(Word::Review, "in_force");
        assert!(
            in_force.contains("--override") && in_force.contains("--acquit"),
            "{in_force}"
        );
        assert_eq!(hints(Word::Reinstate, "in_force"), "");
    }
}
