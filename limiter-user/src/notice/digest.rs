//! SHA-256 and HMAC-SHA256, as hexadecimal text.

use std::fmt::Write as _;

use ring::{digest, hmac};

/// The SHA-256 of `bytes`: 64 digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    digits(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// The HMAC-SHA256 of `parts`, one after the other: 64 digits.
#[must_use]
pub fn hmac(key: &[u8], parts: &[&[u8]]) -> String {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in parts {
        context.update(part);
    }
    digits(context.sign().as_ref())
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6234 and RFC 4231, test case 2.
    #[test]
    fn they_are_what_the_rfcs_say() {
        assert_eq!(
            hex(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(
            hmac(b"Jefe", &[b"what do ya want ", b"for nothing?"]),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
