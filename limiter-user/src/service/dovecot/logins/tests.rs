use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;
const HOUR: u64 = 3_600 * SECOND;
const LIMIT: LoginLimit = LoginLimit {
    max: 30,
    window: Duration::from_secs(3_600),
    lock: Duration::from_secs(3_600),
};

fn of(account: &str, session: &str, outcome: Outcome) -> Question {
    Question {
        account: account.to_owned(),
        client: None,
        session: (!session.is_empty()).then(|| session.to_owned()),
        is_mailbox: true,
        outcome,
    }
}

fn login(account: &str) -> Question {
    of(account, "", Outcome::Failure)
}

/// How many of `count` logins at this moment are let in.
fn allowed(logins: &mut Logins, account: &str, count: usize, now_ns: u64) -> usize {
    let question = login(account);
    (0..count)
        .filter(|_| logins.ask(&question, &LIMIT, now_ns) == Verdict::Allow)
        .count()
}

#[test]
fn the_31st_locks_the_account_and_nobody_elses() {
    let mut logins = Logins::default();
    let now = 77 * HOUR;
    assert_eq!(allowed(&mut logins, "alice", 30, now), 30);
    let more = login("alice");
    assert_eq!(logins.ask(&more, &LIMIT, now), Verdict::Lock(LIMIT.lock));
    let left = Verdict::Locked(Duration::from_secs(3_590));
    assert_eq!(logins.ask(&more, &LIMIT, now + 10 * SECOND), left);
    assert_eq!(logins.locked(now), [("alice".to_owned(), LIMIT.lock)]);
    assert_eq!(allowed(&mut logins, "bob", 31, now), 30);
    // When the lock is over, nothing counts that was refused.
    let later = now + 2 * HOUR;
    assert_eq!(allowed(&mut logins, "alice", 31, later), 30);
}

#[test]
fn a_lock_that_is_shorter_than_the_window_is_followed_by_another() {
    let limit = LoginLimit {
        lock: Duration::from_secs(60),
        ..LIMIT
    };
    let mut logins = Logins::default();
    let question = login("alice");
    let now = 77 * HOUR;
    for _ in 0..30 {
        assert_eq!(logins.ask(&question, &limit, now), Verdict::Allow);
    }
    for minute in 0..10 {
        let now = now + minute * 60 * SECOND;
        assert_eq!(
            logins.ask(&question, &limit, now),
            Verdict::Lock(limit.lock)
        );
    }
}

#[test]
fn an_operator_ends_a_lock() {
    let mut logins = Logins::default();
    assert_eq!(allowed(&mut logins, "alice", 40, HOUR), 30);
    assert!(logins.release("alice", HOUR));
    assert!(!logins.release("alice", HOUR));
    assert_eq!(allowed(&mut logins, "alice", 40, HOUR), 30);
}

#[test]
fn where_dovecot_asks_before_and_after_a_login_counts_once() {
    let mut logins = Logins::default();
    for number in 0..30 {
        let session = format!("session {number}");
        let question = of("alice", &session, Outcome::Success);
        assert_eq!(logins.ask(&question, &LIMIT, HOUR), Verdict::Allow);
        assert_eq!(logins.ask(&question, &LIMIT, HOUR), Verdict::Allow);
        assert_eq!(logins.report(&question, &LIMIT, HOUR), Heard::Fine);
    }
    let question = of("alice", "session 30", Outcome::Success);
    assert_eq!(
        logins.ask(&question, &LIMIT, HOUR),
        Verdict::Lock(LIMIT.lock)
    );
}

#[test]
fn wrong_passwords_use_nothing_up() {
    let mut logins = Logins::default();
    for number in 0..1000 {
        let session = format!("session {number}");
        let question = of("alice", &session, Outcome::Failure);
        assert_eq!(logins.ask(&question, &LIMIT, HOUR), Verdict::Allow);
        let heard = logins.report(&question, &LIMIT, HOUR);
        assert_eq!(heard == Heard::AsksBefore, number == 0);
    }
    assert!(logins.accounts.is_empty() && logins.attempts.begun.is_empty());
    // A thousand at once neither, once it is known.
    for number in 0..1000 {
        let question = of("alice", &number.to_string(), Outcome::Failure);
        assert_eq!(logins.ask(&question, &LIMIT, HOUR), Verdict::Allow);
    }
    // What is reported counts.
    for number in 0..30 {
        let question = of("alice", &number.to_string(), Outcome::Success);
        assert_eq!(logins.ask(&question, &LIMIT, HOUR), Verdict::Allow);
        assert_eq!(logins.report(&question, &LIMIT, HOUR), Heard::Fine);
    }
    let question = of("alice", "x", Outcome::Refused);
    assert_eq!(
        logins.ask(&question, &LIMIT, HOUR),
        Verdict::Lock(LIMIT.lock)
    );
    assert_eq!(logins.report(&question, &LIMIT, HOUR), Heard::Fine);
    assert!(!logins.locked(HOUR).is_empty());
}

#[test]
fn a_session_is_one_login_for_a_minute_only() {
    let mut logins = Logins::default();
    let question = of("alice", "session", Outcome::Success);
    let mut counted = 0;
    for minute in 0..100 {
        let now = HOUR + minute * 30 * SECOND;
        match logins.ask(&question, &LIMIT, now) {
            Verdict::Allow => counted += 1,
            Verdict::Lock(_) => break,
            Verdict::Locked(_) => panic!("the loop ends with the lock"),
        }
    }
    // Each third of them: what follows within a minute is the same.
    assert_eq!(counted, 90);
}

#[test]
fn a_changed_window_keeps_what_counts() {
    let mut logins = Logins::default();
    assert_eq!(allowed(&mut logins, "alice", 30, 100 * HOUR), 30);
    let day = LoginLimit {
        window: Duration::from_secs(86_400),
        ..LIMIT
    };
    logins.reshape(&LIMIT, &day, 100 * HOUR);
    let later = 105 * HOUR;
    assert_eq!(
        logins.ask(&login("alice"), &day, later),
        Verdict::Lock(day.lock)
    );
    let short = LoginLimit {
        lock: Duration::from_secs(5),
        ..LIMIT
    };
    logins.reshape(&day, &short, later);
    assert_eq!(allowed(&mut logins, "alice", 1, later + 6 * SECOND), 1);
}

#[test]
fn memory_is_bounded_and_locked_accounts_are_kept() {
    let mut logins = Logins::default();
    assert_eq!(allowed(&mut logins, "alice", 31, HOUR), 30);
    for number in 0..MOST_ACCOUNTS * 2 {
        let question = of(&format!("account {number}"), "s", Outcome::Failure);
        // Later and later, so that the oldest are known.
        let now = HOUR + u64::try_from(number).unwrap() * 1_000_000;
        assert_eq!(logins.ask(&question, &LIMIT, now), Verdict::Allow);
    }
    assert!(logins.accounts.len() <= MOST_ACCOUNTS);
    assert!(logins.attempts.begun.len() <= MOST_ATTEMPTS);
    assert!(logins.attempts.order.len() <= MOST_ATTEMPTS);
    assert_eq!(logins.locked(HOUR).len(), 1);
    let newest = format!("account {}", MOST_ACCOUNTS * 2 - 1);
    assert!(logins.accounts.contains_key(&newest));
}

proptest! {
    /// Whatever window is looked at, no more than `max` were let in.
    #[test]
    fn never_more_than_the_limit(pauses in prop::collection::vec(0..400_u64, 1..300), max in 1..9_u32) {
        let limit = LoginLimit { max, lock: Duration::from_secs(1), ..LIMIT };
        let mut logins = Logins::default();
        let mut now = 50 * HOUR;
        let mut times = Vec::new();
        for pause in pauses {
            now += pause * SECOND;
            if logins.ask(&login("alice"), &limit, now) == Verdict::Allow {
                times.push(now);
            }
        }
        for (first, from) in times.iter().enumerate() {
            let within = times[first..].iter().filter(|at| *at - from < HOUR).count();
            prop_assert!(within <= usize::try_from(max).unwrap());
        }
    }
}

#[test]
fn what_is_kept_goes_on_by_another_clock() {
    let mut logins = Logins::default();
    let now = 77 * HOUR;
    assert_eq!(allowed(&mut logins, "alice", 20, now), 20);
    assert_eq!(allowed(&mut logins, "bob", 31, now), 30);
    let text = serde_json::to_string(&logins.keep(&LIMIT, now)).unwrap();
    let kept: KeptLogins = serde_json::from_str(&text).unwrap();
    // Another boot, ten minutes later.
    let (booted, off) = (5 * SECOND, Duration::from_secs(600));
    let mut logins = Logins::default();
    assert_eq!(allowed(&mut logins, "carol", 1, booted), 1);
    logins.restore(kept.clone(), off, &LIMIT, booted);
    let left = Duration::from_secs(3_000);
    assert_eq!(logins.locked(booted), [("bob".to_owned(), left)]);
    assert_eq!(allowed(&mut logins, "alice", 31, booted), 10);
    assert_eq!(allowed(&mut logins, "carol", 31, booted), 29);
    // Two hours later nothing of it counts.
    let mut logins = Logins::default();
    logins.restore(kept, Duration::from_secs(7_200), &LIMIT, booted);
    assert!(logins.accounts.is_empty());
}
