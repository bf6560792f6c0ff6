//! Texts of hostile origin made harmless: names of programs, paths, header fields and domains are
//! chosen by tenants, and end in mails to people and in the environment of programs.

use crate::report::text::printable;

/// The longest name of a thing: a tenant, a policy, a program.
pub const NAME: usize = 200;
/// The longest line.
pub const LINE: usize = 500;
/// The most lines of one kind.
pub const LINES: usize = 20;
/// The longest subject, in characters.
pub const SUBJECT: usize = 180;

/// `text` on one line of at most `max` characters, without control characters and without what
/// deceives the reader: those are written out as `\u{…}`.
#[must_use]
pub fn line(text: &str, max: usize) -> String {
    // Cut before and after: what is written out is longer than what it stands for.
    cut(&printable(&cut(text.trim(), max)), max)
}

/// As [`line`], for every line of `text`; empty ones are dropped, and what is more than
/// [`LINES`] is counted in a last line.
#[must_use]
pub fn lines<'t>(texts: impl IntoIterator<Item = &'t str>) -> Vec<String> {
    let mut all = texts
        .into_iter()
        .flat_map(str::lines)
        .map(|text| line(text, LINE))
        .filter(|text| !text.is_empty());
    let mut kept: Vec<String> = all.by_ref().take(LINES).collect();
    let more = all.count();
    if more > 0 {
        kept.push(format!("and {more} more"));
    }
    kept
}

fn cut(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        None => text.to_owned(),
        Some(_) => {
            let kept: String = text.chars().take(max.saturating_sub(1)).collect();
            format!("{kept}…")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_breaks_out_of_a_line() {
        let hostile = "x\r\nBcc: all@example.org\r\n\r\nbody\0\x1b[2J\u{202e}";
        let text = line(hostile, LINE);
        assert!(!text.contains(char::is_control), "{text:?}");
        assert!(!text.contains('\u{202e}'), "{text:?}");
        assert!(text.starts_with(r"x\u{d}\u{a}Bcc: all"), "{text:?}");
        assert_eq!(line("bücher.example", NAME), "bücher.example");
    }

    #[test]
    fn everything_is_bounded() {
        assert_eq!(line(&"a".repeat(1 << 20), 10), "aaaaaaaaa…");
        assert_eq!(line(&"\n".repeat(1 << 20), 10), "");
        assert_eq!(
            line(&format!("a{}b", "\u{1}".repeat(100)), 10)
                .chars()
                .count(),
            10
        );
        let many = vec!["one\ntwo"; 1_000];
        let kept = lines(many.iter().copied());
        assert_eq!(kept.len(), LINES + 1);
        assert_eq!(kept[LINES], "and 1980 more");
    }
}
