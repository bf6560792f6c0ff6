//! Shares and money as the files write them.

use super::super::item::{Parsed, Scalar, refuse};

/// A share in a millionth: `0.1%`, `5 %`, with up to four decimals.
pub(super) fn ppm(scalar: Scalar<'_>) -> Parsed<u64> {
    let allowed = "a percentage from 0% to 100%, such as 0.1%, with at most four decimals";
    let Some(number) = scalar.text.strip_suffix('%') else {
        return refuse("is not a percentage", allowed);
    };
    match decimal(number.trim_end(), 4) {
        Some(ppm) if ppm <= 1_000_000 => Ok(ppm),
        Some(_) => refuse("is more than everything", allowed),
        None => refuse("is not a percentage", allowed),
    }
}

/// An amount of money in hundredths: `15`, `3000`, `12.50`.
pub(super) fn cents(scalar: Scalar<'_>) -> Parsed<u64> {
    let allowed = "an amount such as 15 or 12.50, at most 1000000000";
    match decimal(scalar.text, 2) {
        Some(cents) if cents <= 100_000_000_000 => Ok(cents),
        Some(_) => refuse("is too much", allowed),
        None => refuse("is not an amount", allowed),
    }
}

/// A currency: `USD`.
pub(super) fn currency(scalar: Scalar<'_>) -> Parsed<String> {
    let text = scalar.text;
    if text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Ok(text.to_owned());
    }
    refuse(
        "is not a currency",
        "three capital letters, such as USD or EUR",
    )
}

/// A decimal number without a sign, times ten to the power of `decimals`.
fn decimal(text: &str, decimals: usize) -> Option<u64> {
    let (whole, rest) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| {
        !text.is_empty() && text.len() <= 12 && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    if !digits(whole) || !digits(rest) || rest.len() > decimals {
        return None;
    }
    format!("{whole}{rest:0<decimals$}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalar(text: &str) -> Scalar<'_> {
        Scalar { text, plain: true }
    }

    #[test]
    fn shares_are_exact() {
        assert_eq!(ppm(scalar("0.1%")), Ok(1_000));
        assert_eq!(ppm(scalar("2 %")), Ok(20_000));
        assert_eq!(ppm(scalar("0.0001%")), Ok(1));
        assert_eq!(ppm(scalar("100%")), Ok(1_000_000));
        for bad in ["101%", "0.00001%", "5", "-1%", ".5%", "1.%", "%", "1e2%"] {
            assert!(ppm(scalar(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn money_is_exact() {
        assert_eq!(cents(scalar("3000")), Ok(300_000));
        assert_eq!(cents(scalar("12.5")), Ok(1_250));
        for bad in ["-1", "1.005", "1,50", "99999999999999", ""] {
            assert!(cents(scalar(bad)).is_err(), "{bad}");
        }
        assert!(currency(scalar("usd")).is_err());
    }
}
