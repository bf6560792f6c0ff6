//! Rounds in which everybody has a turn.

use limiter_tests::forge::Rng;

use crate::{
    accounts::Accounts,
    attempt::{Outcome, attempt},
    contender::Contender,
    figures::shuffled,
    report::{Question, Report},
};

/// Attempts in a turn.
const ATTEMPTS: usize = 400;
/// Before them, so that the programs themselves are warm.
const WARM: usize = 20;

/// Measures all contenders in so many rounds. The first of them is what the others are compared with.
pub fn run(contenders: &[Contender], accounts: Accounts, rounds: usize, report: &mut Report) {
    let mut rng = Rng::new(1);
    for _ in 0..rounds {
        for at in shuffled(&mut rng, contenders.len()) {
            let contender = &contenders[at];
            contender.at_work(|| {
                let allowed = turn(&mut rng, |rng| accounts.draw(rng), Outcome::Allowed);
                report.add(Question::Allowed, contender.name, accounts, allowed);
                if contender.refuses {
                    let refused = turn(&mut rng, |_| Accounts::STRANGER, Outcome::Refused);
                    report.add(Question::Refused, contender.name, accounts, refused);
                }
            });
        }
    }
}

/// Nanoseconds of an attempt: the mean of most, without those that something else came in between.
#[expect(clippy::cast_precision_loss, reason = "there are few")]
fn turn(rng: &mut Rng, who: impl Fn(&mut Rng) -> u32, expected: Outcome) -> f64 {
    let mut took: Vec<f64> = (0..WARM + ATTEMPTS)
        .map(|_| attempt(who(rng), expected))
        .skip(WARM)
        .collect();
    took.sort_by(f64::total_cmp);
    took.truncate(ATTEMPTS * 19 / 20);
    took.iter().sum::<f64>() / took.len() as f64
}
