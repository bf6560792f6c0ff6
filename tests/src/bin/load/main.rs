//! Sends what has nothing to do with mail, as whoever starts it.
//!
//! `ADDRESS:PORT udp|tcp|connects|mail|refusals=PER-SECOND,UID,COUNT`: for each line of the input as long as that says, see
//! `limiter_tests::load::obey`. `ADDRESS mixture [OWN-ADDRESS]`: once, see
//! `limiter_tests::mixture::send`.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "whoever starts it reads why it ended"
)]

use std::io;

use limiter_tests::{Load, load, mixture};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (to, load) = match arguments[..] {
        [to, "udp"] => (to, Load::Udp { bytes: 64 }),
        [to, "tcp"] => (to, Load::Tcp),
        [to, "connects"] => (to, Load::Connects),
        [to, "mail"] => (to, Load::Mail),
        [to, load] if load.starts_with("refusals=") => {
            let numbers = load["refusals=".len()..].split(',');
            let numbers: Vec<u64> = numbers.map(|it| it.parse().expect("a number")).collect();
            let [per_second, first, count] = numbers[..] else {
                panic!("three numbers, not {load}");
            };
            let by = [first, count].map(|it| u32::try_from(it).expect("a uid"));
            let by = by.into();
            (to, Load::Refusals { per_second, by })
        }
        [to, "mixture", ref from @ ..] => {
            let address = |text: &str| text.parse().expect("an address");
            let from = from.first().map(|from| address(from));
            mixture::send(address(to), from).expect("the mixture can be sent");
            return;
        }
        _ => panic!(
            "ADDRESS:PORT udp|tcp|connects|mail|refusals=PER-SECOND,UID,COUNT, or ADDRESS mixture [OWN-ADDRESS]"
        ),
    };
    let to = to.parse().expect("an address and a port");
    load::obey(to, load, io::stdin().lock(), io::stdout()).expect("the load can be sent");
}
