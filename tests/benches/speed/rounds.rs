//! Rounds in which everybody has a turn at connecting.

use limiter_tests::forge::Rng;

use crate::{
    accounts::Accounts,
    attempt::{Family, Outcome, attempt},
    contender::Contender,
    figures::shuffled,
    question::{Case, Question},
    report::{NOTHING, Report},
    turns::Turns,
};

/// Attempts in a turn.
const ATTEMPTS: usize = 400;
/// Before them, so that the programs themselves are warm.
const WARM: usize = 20;

/// Measures all contenders in so many rounds.
pub fn run(contenders: &[Contender], accounts: Accounts, rounds: usize, report: &mut Report) {
    let mut rng = Rng::new(1);
    let none = || Turns::of_all(contenders.iter().map(|it| it.name));
    let (mut allowed, mut refused) = ([none(), none()], [none(), none()]);
    for _ in 0..rounds {
        for at in shuffled(&mut rng, contenders.len()) {
            let contender = &contenders[at];
            contender.at_work(|| {
                for (family, (allowed, refused)) in Family::ALL
                    .into_iter()
                    .zip(allowed.iter_mut().zip(&mut refused))
                {
                    let who = |rng: &mut Rng| accounts.draw(rng);
                    let ns = turn(&mut rng, who, family, Outcome::Allowed);
                    allowed.add(contender.name, ns);
                    if contender.refuses {
                        let who = |_: &mut Rng| Accounts::STRANGER;
                        let ns = turn(&mut rng, who, family, Outcome::Refused);
                        refused.add(contender.name, ns);
                    }
                }
            });
        }
    }
    let case = Case::Accounts(accounts.count);
    for (family, (allowed, refused)) in Family::ALL.into_iter().zip(allowed.iter().zip(&refused)) {
        let added = allowed.beside(NOTHING, |with, without| with - without);
        report.take(Question::Added(family), case, &added);
        report.take(Question::Allowed(family), case, allowed);
        report.take(Question::Refused(family), case, refused);
    }
}

/// Nanoseconds of an attempt: the mean of most, without those that something else came in between.
#[expect(clippy::cast_precision_loss, reason = "there are few")]
fn turn(rng: &mut Rng, who: impl Fn(&mut Rng) -> u32, family: Family, expected: Outcome) -> f64 {
    let mut took: Vec<f64> = (0..WARM + ATTEMPTS)
        .map(|_| attempt(who(rng), family, expected))
        .skip(WARM)
        .collect();
    took.sort_by(f64::total_cmp);
    took.truncate(ATTEMPTS * 19 / 20);
    took.iter().sum::<f64>() / took.len() as f64
}
