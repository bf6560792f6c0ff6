//! `estimate`: by what the messages of sessions are counted that cannot be read.

use super::{
    findings::Findings,
    item::{Fields, Item, Parsed, Scalar, refuse},
    model::Estimate,
    section_node::section,
    value,
};

/// The key that is read here.
pub(super) const KEY: &str = "estimate";

/// The most turnarounds of anything.
const MOST_TURNAROUNDS: u32 = 1_000;
/// The fewest and most bytes of answers.
const REPLY_BYTES: (u32, u32) = (1 << 4, 1 << 20);
/// The fewest and most bytes of a client for a message.
const PAYLOAD_BYTES: (u32, u32) = (1 << 20, 1 << 31);

/// Reads it; what is left out is the default.
pub(super) fn estimate(fields: &Fields<'_>, out: &mut Findings) -> Estimate {
    let known = [
        "turnarounds_per_message",
        "reply_bytes_per_message",
        "payload_bytes_per_message",
        "free_turnarounds",
        "free_reply_bytes",
        "blind_turnarounds",
        "blind_reply_bytes",
    ];
    let item: Option<Item<'_>> = fields.get(KEY);
    let fields = section(item.as_ref(), out, &known);
    let mut estimate = Estimate::default();
    let Estimate {
        turnarounds_per_message,
        reply_bytes_per_message,
        payload_bytes_per_message,
        free_turnarounds,
        free_reply_bytes,
        blind_turnarounds,
        blind_reply_bytes,
    } = &mut estimate;
    let places = [
        turnarounds_per_message,
        reply_bytes_per_message,
        payload_bytes_per_message,
        free_turnarounds,
        free_reply_bytes,
        blind_turnarounds,
        blind_reply_bytes,
    ];
    for (key, place) in known.into_iter().zip(places) {
        let Some(item) = fields.set(key) else {
            continue;
        };
        let number = item.parse(out, "a whole number", |scalar| match key {
            "turnarounds_per_message" => value::whole(scalar, 1, MOST_TURNAROUNDS),
            "reply_bytes_per_message" => power_of_two(scalar, REPLY_BYTES),
            "payload_bytes_per_message" => power_of_two(scalar, PAYLOAD_BYTES),
            "free_reply_bytes" | "blind_reply_bytes" => value::whole(scalar, 0, REPLY_BYTES.1),
            _ => value::whole(scalar, 0, MOST_TURNAROUNDS),
        });
        if let Some(number) = number {
            *place = number;
        }
    }
    estimate
}

/// The kernel divides by shifting.
fn power_of_two(scalar: Scalar<'_>, (least, most): (u32, u32)) -> Parsed<u32> {
    let number = value::whole(scalar, least, most)?;
    if number.is_power_of_two() {
        return Ok(number);
    }
    let below = 1_u32 << number.ilog2();
    refuse(
        "is no power of two",
        format!("{below} or {}", u64::from(below) * 2),
    )
}
