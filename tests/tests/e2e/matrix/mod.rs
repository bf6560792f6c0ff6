//! Every way to send, by every kind of tenant: who stops it, what the sender sees, whom the event
//! names, and that nothing reaches the outside, which is read off the wire there.
//!
//! The rows are in [`rows`]. Each is run three times: where nobody stops anything, and then it has
//! to get through, or it would prove nothing; under the product; and under the product with the
//! layer left out that is to stop it, and then it has to get through or to the next layer.
//!
//! On an emulated machine only the core of the rows is tried, on a node that routes.

mod judge;
mod rows;
mod world;

use std::{mem, time::Duration};

use limiter_tests::{Load, LoadSink, Node, Reached, Sender, machine, mx, orders::Report, wait};

use self::{
    judge::{Expect, run},
    rows::{Row, Who},
    world::{Verdict, World},
};

/// Worlds, and their rows.
type Worlds = Vec<(for<'n> fn(&'n Node) -> World<'n>, Vec<Row>)>;

fn worlds() -> Worlds {
    let mut worlds: Worlds = vec![(world::routed, rows::routed()), (world::flat, rows::flat())];
    if machine::is_emulated() {
        worlds.truncate(1);
        for (_, rows) in &mut worlds {
            *rows = rows::core(mem::take(rows));
        }
    }
    worlds
}

#[test]
fn everything_gets_through_where_nobody_stops_it() {
    for (world, rows) in worlds() {
        let node = Node::new();
        run(&world(&node), None, &rows, |_| Expect::Through);
    }
}

#[test]
fn every_way_is_stopped() {
    for (world, rows) in worlds() {
        let node = Node::new();
        let world = world(&node);
        let agent = world.agent(Verdict::Block, &[]);
        run(&world, Some(&agent), &rows, |row| stopped_by(row, 0));
    }
}

#[test]
fn what_is_no_mail_is_not_hindered() {
    for (world, _) in worlds() {
        let node = Node::new();
        let world = world(&node);
        let _agent = world.agent(Verdict::Block, &[]);
        judge::unrelated(&world);
    }
}

/// Stopped by the layer at this place of the row's list, or by nobody.
fn stopped_by(row: &Row, place: usize) -> Expect {
    row.stops
        .get(place)
        .map_or(Expect::Through, |stop| Expect::Stopped(*stop))
}

#[test]
fn without_the_connect_layer() {
    without("connect");
}

#[test]
fn without_the_guest_layer() {
    without("guest");
}

#[test]
fn without_the_uplink_layer() {
    without("uplink");
}

/// Each row that this layer is to stop: it is stopped by the next, or by nobody.
fn without(layer: &'static str) {
    for (world, mut rows) in worlds() {
        rows.retain(|row| row.stopped_by(layer));
        if rows.is_empty() {
            continue;
        }
        let node = Node::new();
        let world = world(&node);
        let agent = world.agent(Verdict::Block, &[layer]);
        run(&world, Some(&agent), &rows, |row| stopped_by(row, 1));
    }
}

#[test]
fn without_any_layer() {
    for (world, mut rows) in worlds() {
        // Those that only one layer stops are tried without it in its own test.
        rows.retain(|row| row.stops.len() > 1);
        let node = Node::new();
        let world = world(&node);
        let all = ["connect", "socket", "guest", "uplink"];
        let agent = world.agent(Verdict::Block, &all);
        run(&world, Some(&agent), &rows, |_| Expect::Through);
    }
}

/// Two are served and the third is refused, whoever the tenant is, and each counts once.
#[test]
fn a_limit_holds_for_every_kind_of_tenant() {
    for (world, rows) in worlds() {
        let node = Node::new();
        let world = world(&node);
        let agent = world.agent(Verdict::Limit, &[]);
        for row in rows::plain(rows) {
            let tenant = world.tenant(&row, 0);
            for number in 1..=3 {
                let expect = if number <= 2 {
                    Expect::Through
                } else {
                    Expect::Limited(row.stops[0])
                };
                judge::one(&world, Some(&agent), &row, 0, expect);
                let counted = number.min(2);
                let what = format!("{counted} to be counted for {tenant}");
                wait::until_true(&what, wait::SOON, || agent.used(&tenant, 0) == counted);
            }
        }
    }
}

#[test]
fn whoever_may_is_not_hindered() {
    for (world, rows) in worlds() {
        let node = Node::new();
        let world = world(&node);
        let agent = world.agent(Verdict::Allow, &[]);
        let rows = rows::plain(rows);
        run(&world, Some(&agent), &rows, |_| Expect::Through);
    }
}

/// Who was connected before limiter came is cut at the next word, where packets are judged. What the
/// node's own users connected before goes on: connect judges attempts, and nobody refused theirs. A
/// sanction cuts those, too.
#[test]
fn a_session_from_before_is_cut() {
    let node = Node::new();
    let world = world::routed(&node);
    let hold = |sender: Sender, v6, name: &str| {
        let attempt = sender.attempt(mx(v6)).say(name).hold();
        attempt.start().go_and_hold()
    };
    let mut cut = Vec::new();
    for who in [Who::Container, Who::Addressed, Who::Bridged, Who::Macvlan] {
        for v6 in [false, true] {
            let guest = world.guest(who, 0);
            let name = format!("{who:?}-{v6}-from-before.example");
            cut.push((guest, hold(guest.sender(), v6, &name), name));
        }
    }
    let users = hold(node.sender(2001), false, "user-from-before.example");

    let agent = world.agent(Verdict::Block, &[]);
    for (guest, held, name) in cut {
        let report = held
            .go()
            .finish_within(machine::patience(Duration::from_secs(3)));
        let errno = report.as_ref().and_then(Report::errno);
        assert_eq!(errno, Some(libc::ECONNRESET), "{name}: {report:?}");
        assert!(!world.capture.all().holds(name.as_bytes()), "{name}");
        let tenant = guest.interface();
        let told = wait::until("the event", wait::SOON, || {
            agent.events(&["--tenant", tenant]).pop()
        });
        assert_eq!(told["reason"], "direct_smtp", "{told:#}");
    }
    let report = users
        .go()
        .finish_within(machine::patience(Duration::from_secs(3)));
    assert_eq!(report.map(|report| report.connected), Some(1));
    let attempt = node.sender(2001).attempt(mx(false));
    assert_eq!(attempt.make(&agent), Reached::Refused);
}

/// What the ratios elsewhere rest on: a load arrives, and is counted.
#[test]
fn unrelated_traffic_can_be_measured() {
    let node = Node::new();
    let sink = LoadSink::listen(node.outside());
    for v6 in [false, true] {
        for load in [Load::Udp { bytes: 64 }, Load::Tcp, Load::Connects] {
            let time = Duration::from_millis(200);
            let rate = sink.measure(node.inside(), mx(v6).ip(), load, time);
            assert!(rate.time >= time, "{load:?}: {rate:?}");
            assert!(rate.arrived_per_second() > 100.0, "{load:?}: {rate:?}");
            assert!(rate.sent > 0, "{load:?}: {rate:?}");
        }
    }
}
