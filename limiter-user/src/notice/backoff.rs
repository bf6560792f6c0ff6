//! When a delivery is tried again, and when it is given up.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

/// The wait after the first failure.
const SHORTEST_WAIT: Duration = Duration::from_secs(60);
/// The longest wait between two tries.
pub const LONGEST_WAIT: Duration = Duration::from_secs(6 * 3_600);
/// The least wait after a refusal for good.
const REFUSED_WAIT: Duration = Duration::from_secs(3_600);
/// How long a refusal for good is believed to be a slip in somebody's configuration.
const REFUSED_SPAN: Duration = Duration::from_secs(86_400);
/// How often everything is tried at least: a clock that jumps gives nothing up.
const LEAST_TRIES: u32 = 5;
/// How often after a refusal for good.
const LEAST_REFUSED: u32 = 3;

/// Why a delivery failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct Failure {
    /// The receiver said that there is no use in trying again.
    pub refused: bool,
    /// What went wrong, for people; one line.
    pub error: String,
}

impl Failure {
    /// It may work the next time.
    #[must_use]
    pub fn again(error: impl Into<String>) -> Self {
        Self {
            refused: false,
            error: error.into(),
        }
    }
}

/// What happens to a delivery that has failed `tries` times, the last included, and is `age` old:
/// the wait until the next, or nothing: it is given up. `seed` tells deliveries apart, so that not
/// all come back at once.
#[must_use]
pub fn after(
    failure: &Failure,
    tries: u32,
    age: Duration,
    give_up: Duration,
    seed: i64,
) -> Option<Duration> {
    let (least, span) = if failure.refused {
        (LEAST_REFUSED, give_up.min(REFUSED_SPAN))
    } else {
        (LEAST_TRIES, give_up)
    };
    if tries >= least && age >= span {
        return None;
    }
    let wait = wait(tries, seed);
    Some(if failure.refused {
        wait.max(REFUSED_WAIT)
    } else {
        wait
    })
}

/// Twice as long each time, a quarter more or less.
fn wait(tries: u32, seed: i64) -> Duration {
    let doublings = tries.saturating_sub(1).min(16);
    let wait = SHORTEST_WAIT
        .saturating_mul(1 << doublings)
        .min(LONGEST_WAIT);
    let mut hasher = DefaultHasher::new();
    (seed, tries).hash(&mut hasher);
    let thousandths = u32::try_from(hasher.finish() % 501).unwrap_or(0);
    (wait * (750 + thousandths) / 1_000).clamp(SHORTEST_WAIT, LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAYS_3: Duration = Duration::from_secs(3 * 86_400);

    #[test]
    fn waits_grow_from_a_minute_to_six_hours_and_differ() {
        for tries in 0..100 {
            for seed in 0..50 {
                let wait = wait(tries, seed);
                assert!(
                    (SHORTEST_WAIT..=LONGEST_WAIT).contains(&wait),
                    "{tries}: {wait:?}"
                );
            }
        }
        let at = |tries| -> Vec<u64> { (0..50).map(|seed| wait(tries, seed).as_secs()).collect() };
        let (min, max) = (
            at(4).into_iter().min().unwrap(),
            at(4).into_iter().max().unwrap(),
        );
        assert!(min >= 360 && max <= 600 && max - min > 120, "{min} {max}");
        assert!(at(20).into_iter().all(|wait| wait >= 16_200));
    }

    #[test]
    fn it_gives_up_after_the_time_that_is_set_and_not_before() {
        let failure = Failure::again("x");
        let (mut age, mut tries) = (Duration::ZERO, 0);
        loop {
            tries += 1;
            match after(&failure, tries, age, DAYS_3, 7) {
                Some(wait) => age += wait,
                None => break,
            }
        }
        assert!(age >= DAYS_3 && age < DAYS_3 + LONGEST_WAIT, "{age:?}");
        assert!(tries < 30, "{tries}");
        // The clock jumped by a year after the first try.
        assert!(after(&failure, 1, DAYS_3 * 100, DAYS_3, 7).is_some());
    }

    #[test]
    fn a_refusal_gets_a_day_in_steps_of_an_hour() {
        let refused = Failure {
            refused: true,
            error: "550".to_owned(),
        };
        assert!(after(&refused, 1, Duration::ZERO, DAYS_3, 7).unwrap() >= REFUSED_WAIT);
        assert!(after(&refused, 9, REFUSED_SPAN - REFUSED_WAIT, DAYS_3, 7).is_some());
        assert_eq!(after(&refused, 9, REFUSED_SPAN, DAYS_3, 7), None);
    }
}
