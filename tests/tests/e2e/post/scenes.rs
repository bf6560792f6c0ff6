//! What has to be so whatever the mail server is.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use limiter_tests::{
    Agent,
    post::{Said, people, php_mail},
    wait,
};

use super::{ALICE, BOB, DELIVERY, MailServer, TENANTS, Town, used};

/// Each scene as a test of a mail server, whose town `$town` makes.
macro_rules! all {
    ($town:ident) => {
        $crate::post::scenes::all!($town;
            three_hundred_an_hour_however_they_come,
            many_at_once_are_counted_one_by_one,
            one_message_to_three_hundred_uses_it_up,
            a_forged_sender_is_charged_to_whoever_sent_it,
            one_more_is_refused_by_every_way_with_the_reason,
            without_an_agent_mail_goes_and_counts_again_with_one,
            what_the_mail_server_says_itself_is_nobodys,
        );
    };
    ($town:ident; $($scene:ident),* $(,)?) => {
        $(
            #[test]
            fn $scene() {
                $crate::post::scenes::$scene(&$town());
            }
        )*
    };
}
pub(super) use all;

const FROM: &str = "x@shop.example";
const LOGIN: &str = "alice@shop.example";
const SHOP: &str = "alice/shop.example";

/// Fails unless everybody was taken.
#[track_caller]
fn all_taken(said: &Said, count: usize) {
    assert_eq!(said.taken(), count, "{said:?}");
}

/// Waits until so much is used.
#[track_caller]
fn wait_until_used(agent: &Agent<'_>, tenant: &str, recipients: u64) {
    wait::until_true(&format!("{recipients} of {tenant}"), DELIVERY, || {
        used(agent, tenant) == recipients
    });
}

/// SMTP, submission, sendmail and direct connections, until 300 are used up.
pub(super) fn three_hundred_an_hour_however_they_come<S: MailServer>(town: &Town<S>) {
    let agent = town.agent(TENANTS);
    let alice = town.node.user(ALICE);
    all_taken(&town.smtp(&alice, FROM, &people("smtp", 100)), 100);
    assert_eq!(used(&agent, SHOP), 100);
    let phone = town.node.elsewhere();
    let said = town.submission(&phone, LOGIN, FROM, &people("phone", 100));
    all_taken(&said, 100);
    assert_eq!(used(&agent, SHOP), 200);
    let done = town.sendmail(ALICE, FROM, &people("command", 50));
    let _ = done.success("sendmail");
    wait_until_used(&agent, SHOP, 250);
    assert_eq!(used(&agent, "alice"), 250);
    // What goes out directly is the account's.
    all_taken(&town.directly(&alice, FROM, &people("direct", 40)), 40);
    wait_until_used(&agent, "alice", 290);
    // Ten are left, of which anybody's twenty get ten.
    let said = town.submission(&phone, LOGIN, FROM, &people("last", 20));
    assert_eq!(said.taken(), 10, "{said:?}");
    assert_eq!(used(&agent, "alice"), 300);
    let refusal = said.refusal().expect("one is refused");
    let why = "alice has used up 300 recipients in 1h; try again in";
    assert!(refusal.contains(why), "{refusal}");
    let direct = town.directly(&alice, FROM, &people("more", 1));
    assert_eq!(direct.taken(), 0, "{direct:?}");
    town.wait_for_arrival(300);
}

/// Every way at once; exactly what fits goes out.
pub(super) fn many_at_once_are_counted_one_by_one<S: MailServer>(town: &Town<S>) {
    const EACH: usize = 8;
    let agent = town.agent(TENANTS);
    let alice = town.node.user(ALICE);
    all_taken(&town.smtp(&alice, FROM, &people("first", 250)), 250);
    let taken = AtomicUsize::new(0);
    let count = |said: &Said| {
        let _ = taken.fetch_add(said.taken(), Ordering::Relaxed);
    };
    thread::scope(|scope| {
        for sender in 0..2 {
            let name =
                move |way: &str, number: usize| people(&format!("{way}{sender}-{number}-"), 1);
            let (count, alice) = (&count, &alice);
            scope.spawn(move || {
                for number in 0..EACH {
                    count(&town.smtp(alice, FROM, &name("smtp", number)));
                }
            });
            scope.spawn(move || {
                let phone = town.node.elsewhere();
                for number in 0..EACH {
                    count(&town.submission(&phone, LOGIN, FROM, &name("phone", number)));
                }
            });
            scope.spawn(move || {
                for number in 0..EACH {
                    count(&town.directly(alice, FROM, &name("direct", number)));
                }
            });
        }
        for sender in 0..2 {
            scope.spawn(move || {
                for number in 0..EACH {
                    let to = people(&format!("command{sender}-{number}-"), 1);
                    let _ = town.sendmail(ALICE, FROM, &to);
                }
            });
        }
    });
    // 64 attempts for 50 places: all are used, and no more.
    wait_until_used(&agent, "alice", 300);
    town.wait_for_arrival(300);
    assert!(taken.load(Ordering::Relaxed) <= 50);
}

/// 300 recipients are 300, however few messages.
pub(super) fn one_message_to_three_hundred_uses_it_up<S: MailServer>(town: &Town<S>) {
    let agent = town.agent(TENANTS);
    let alice = town.node.user(ALICE);
    all_taken(&town.smtp(&alice, FROM, &people("list", 300)), 300);
    assert_eq!(used(&agent, SHOP), 300);
    let one = people("one", 1);
    let said = town.smtp(&alice, FROM, &one);
    assert_eq!(said.taken(), 0, "{said:?}");
    let refusal = said.refusal().expect("it is refused");
    let why = format!("{SHOP} has used up 300 recipients in 1h; try again in");
    assert!(refusal.contains(&why), "{refusal}");
    let said = town.submission(&town.node.elsewhere(), LOGIN, FROM, &one);
    assert_eq!(said.taken(), 0, "{said:?}");
    let _ = town.sendmail(ALICE, FROM, &one);
    town.wait_for_arrival(300);
    assert_eq!(used(&agent, SHOP), 300);
}

/// Whatever bob writes, it is his.
pub(super) fn a_forged_sender_is_charged_to_whoever_sent_it<S: MailServer>(town: &Town<S>) {
    let agent = town.agent(TENANTS);
    let bob = town.node.user(BOB);
    all_taken(&town.smtp(&bob, FROM, &people("smtp", 1)), 1);
    assert_eq!(used(&agent, "bob"), 1);
    let phone = town.node.elsewhere();
    all_taken(
        &town.submission(&phone, "bob@bob.example", FROM, &people("phone", 1)),
        1,
    );
    assert_eq!(used(&agent, "bob"), 2);
    // Whoever knows a password sends as whose it is, wherever from.
    all_taken(
        &town.submission(
            &town.node.user(ALICE),
            "bob@bob.example",
            FROM,
            &people("own", 1),
        ),
        1,
    );
    assert_eq!(used(&agent, "bob"), 3);
    let _ = town
        .sendmail(BOB, FROM, &people("command", 1))
        .success("sendmail");
    wait_until_used(&agent, "bob", 4);
    let program = town.lock().sendmail();
    let _ = php_mail(&bob, &program, FROM, "php@outside.example").success("mail()");
    wait_until_used(&agent, "bob", 5);
    all_taken(&town.directly(&bob, FROM, &people("direct", 1)), 1);
    wait_until_used(&agent, "bob", 6);
    assert_eq!(used(&agent, SHOP), 0);
    assert_eq!(used(&agent, "alice"), 0);
    town.wait_for_arrival(6);
}

/// By each way the seventh recipient is one too many.
pub(super) fn one_more_is_refused_by_every_way_with_the_reason<S: MailServer>(town: &Town<S>) {
    let agent = town.agent(TENANTS);
    let bob = town.node.user(BOB);
    let said = town.smtp(&bob, "x@bob.example", &people("list", 8));
    let codes: Vec<u16> = said.recipients.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, [250, 250, 250, 250, 250, 250, 450, 450], "{said:?}");
    all_taken(&said, 6);
    let why = "4.7.1 ";
    let text = "bob has used up 6 recipients in 1h; try again in";
    for said in [
        said,
        town.smtp(&bob, "x@bob.example", &people("one", 1)),
        town.submission(
            &town.node.elsewhere(),
            "bob@bob.example",
            "x@bob.example",
            &people("one", 1),
        ),
    ] {
        let refusal = said.refusal().expect("it is refused");
        assert!(refusal.contains(why) && refusal.contains(text), "{refusal}");
    }
    let done = town.sendmail(BOB, "x@bob.example", &people("one", 1));
    if S::SAYS_AT_ONCE {
        assert_ne!(done.code, 0, "{done:?}");
        assert!(done.stderr.contains(text), "{done:?}");
    } else {
        wait::until_true("the refusal of sendmail's", DELIVERY, || {
            let log = town.lock().log();
            log.lines().any(|line| {
                line.contains("cleanup")
                    && line.contains("milter-reject")
                    && line.contains(&format!("5.7.1 {text}"))
            })
        });
    }
    assert_eq!(used(&agent, "bob"), 6);
    town.wait_for_arrival(6);
    let event = wait::until("the event", wait::SOON, || {
        agent.events(&["--tenant", "bob/bob.example"]).pop()
    });
    assert_eq!(event["layer"], "mta", "{event:#}");
    // The neighbour is not held back.
    all_taken(
        &town.smtp(&town.node.user(ALICE), FROM, &people("neighbour", 1)),
        1,
    );
}

/// The agent is away: mail goes, uncounted, and that is told. It comes back: what was used still is.
pub(super) fn without_an_agent_mail_goes_and_counts_again_with_one<S: MailServer>(town: &Town<S>) {
    let agent = town.agent(TENANTS);
    let bob = town.node.user(BOB);
    let from = "x@bob.example";
    all_taken(&town.smtp(&bob, from, &people("before", 5)), 5);
    agent.kill_9();
    all_taken(&town.smtp(&bob, from, &people("away", 5)), 5);
    let done = town.sendmail(BOB, from, &people("command", 1));
    let _ = done.success("sendmail");
    town.wait_for_arrival(11);
    let log = town.lock().log();
    assert!(log.lines().any(S::alarms), "{log}");
    agent.run();
    assert_eq!(used(&agent, "bob"), 5);
    wait::until_true("the agent to be asked again", DELIVERY, || {
        town.smtp(&bob, from, &people("back", 3)).taken() == 1
    });
    assert_eq!(used(&agent, "bob"), 6);
}

/// Bounces are the mail server's own: nobody pays for them.
pub(super) fn what_the_mail_server_says_itself_is_nobodys<S: MailServer>(town: &Town<S>) {
    let agent = town.agent(TENANTS);
    let bob = town.node.user(BOB);
    // `sendmail -oem`, as PHP runs it: who is refused gets a bounce.
    all_taken(&town.smtp(&bob, "bob@bob.example", &people("list", 6)), 6);
    let program = town.lock().sendmail();
    let _ = php_mail(&bob, &program, "bob@bob.example", "php@outside.example");
    town.wait_for_bounce("bob@bob.example");
    assert_eq!(used(&agent, "bob"), 6);
    // One refusal, for the one message.
    assert_eq!(agent.counter("bob/bob.example", "denied"), 1);
    let default = agent.tenant("(default)");
    assert_eq!(default["denied"], 0, "{default:#}");
    assert_eq!(default["allowed"], 0, "{default:#}");
}
