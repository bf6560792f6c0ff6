//! Plain text for terminals: safe to print, aligned, short. No colour at all.

use std::fmt::Write as _;

/// How wide the output may be.
pub const WIDTH: usize = 80;

/// `text` without what could move the cursor or deceive the reader: names of programs, paths and
/// cgroups are chosen by tenants.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for ch in text.chars() {
        let deceives = matches!(ch,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        if ch.is_control() || deceives {
            out.extend(ch.escape_unicode());
        } else {
            out.push(ch);
        }
    }
    out
}

/// `text`, printable, in at most `width` columns; what does not fit is cut out of the middle,
/// since both ends of a name tell something.
#[must_use]
pub fn fit(text: &str, width: usize) -> String {
    let text = printable(text);
    let length = text.chars().count();
    if length <= width {
        return text;
    }
    let keep = width.saturating_sub(1);
    let head = keep - keep / 2;
    let tail = length - keep / 2;
    text.chars()
        .take(head)
        .chain(['…'])
        .chain(text.chars().skip(tail))
        .collect()
}

/// The first of many names, and how many more there are.
#[must_use]
pub fn few(names: &[&str]) -> String {
    const SHOWN: usize = 5;
    let shown = names.get(..SHOWN).unwrap_or(names).join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// A count in at most six columns: `999999`, `1.23M`, `12.3G`.
#[must_use]
pub fn count(count: u64) -> String {
    if count < 1_000_000 {
        return count.to_string();
    }
    let mut unit = 1_000_000_u64;
    let mut letters = ["M", "G", "T", "P", "E"].iter();
    let mut letter = letters.next().copied().unwrap_or_default();
    while count / unit >= 1000 {
        let Some(next) = letters.next() else { break };
        letter = next;
        unit = unit.saturating_mul(1000);
    }
    let whole = count / unit;
    let hundredths = (count % unit) / (unit / 100);
    match whole {
        0..10 => format!("{whole}.{hundredths:02}{letter}"),
        10..100 => format!("{whole}.{}{letter}", hundredths / 10),
        _ => format!("{whole}{letter}"),
    }
}

/// Where the text of a column stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Names.
    Left,
    /// Numbers.
    Right,
}

/// A column: its title, its width and where its text stands.
pub type Column = (&'static str, usize, Align);

/// A table: one line a row, nothing wider than its column.
#[must_use]
pub fn table<const N: usize>(
    columns: [Column; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut out = String::new();
    line(
        &mut out,
        &columns,
        &columns.map(|(title, ..)| title.to_owned()),
    );
    for row in rows {
        line(&mut out, &columns, &row);
    }
    out
}

fn line<const N: usize>(out: &mut String, columns: &[Column; N], cells: &[String; N]) {
    let start = out.len();
    for ((_, width, align), cell) in columns.iter().zip(cells) {
        if out.len() > start {
            out.push(' ');
        }
        let cell = fit(cell, *width);
        // Writing to a string cannot fail.
        let _ = match align {
            Align::Left => write!(out, "{cell:<width$}"),
            Align::Right => write!(out, "{cell:>width$}"),
        };
    }
    let end = out.trim_end_matches(' ').len();
    out.truncate(end);
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\n"), r"a\u{1b}[2Jb\u{a}");
        assert_eq!(printable("a\u{202e}b"), r"a\u{202e}b");
        assert_eq!(printable("bücher.example"), "bücher.example");
    }

    #[test]
    fn long_names_keep_both_ends() {
        assert_eq!(fit("short", 10), "short");
        assert_eq!(fit("customer-of-reseller-7", 11), "custo…ler-7");
        assert_eq!(fit("customer-of-reseller-7", 11).chars().count(), 11);
        assert_eq!(fit("ab", 1), "…");
    }

    #[test]
    fn counts_fit_six_columns() {
        for (number, text) in [
            (0, "0"),
            (999_999, "999999"),
            (1_000_000, "1.00M"),
            (1_234_567, "1.23M"),
            (12_345_678, "12.3M"),
            (123_456_789, "123M"),
            (1_234_567_890, "1.23G"),
            (u64::MAX, "18.4E"),
        ] {
            assert_eq!(count(number), text);
            assert!(count(number).len() <= 6);
        }
    }
}
