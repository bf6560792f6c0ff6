//! How much the verifier has to look at, and how long that takes.

use limiter_common::abi::programs::{self, PLAIN};
use limiter_tests::machine;
use limiter_user::kernel::verifier::{Verified, verify_all};

/// The kernel gives up at a million instructions; what is far below leaves room for kernels that
/// follow more ways. What other kernels follow is shown, and no matter as long as they load it.
const MOST: u32 = 400_000;

/// Every program that the product may load, by the name under which it asks for it.
const ALL: [&str; 12] = [
    programs::CONNECT4,
    programs::CONNECT6,
    programs::COMMAND,
    programs::SOCKET,
    programs::GUEST,
    programs::GUEST_L3,
    programs::UPLINK,
    programs::UPLINK_L3,
    programs::MAILBOX,
    programs::EDGE,
    programs::EDGE_TC,
    programs::EDGE_TC_L3,
];

#[test]
fn the_verifier_has_room() {
    let verified = verify_all().unwrap();
    for name in ALL {
        let plain = format!("{name}{PLAIN}");
        let tried = |own: &str| verified.iter().any(|one| one.program == own);
        assert!(tried(name) || tried(&plain), "the object has no {name}");
    }
    let mut bad = Vec::new();
    for Verified {
        program,
        took,
        result,
    } in &verified
    {
        let seconds = took.as_secs_f64();
        match result.as_ref().map(|size| size.verified) {
            Ok(Some(instructions)) => {
                println!("@program {program} {instructions} {seconds:.1}");
                if !machine::is_emulated() && instructions > MOST {
                    bad.push(format!("{program}: {instructions} instructions"));
                }
            }
            Ok(None) => println!("@program {program} ? {seconds:.1}"),
            Err(why) => bad.push(format!("{program}, after {seconds:.1} s: {why}")),
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}
