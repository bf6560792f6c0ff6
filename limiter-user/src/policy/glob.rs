//! Globs as the shell has them: `*`, `?`, `[a-z]`, `[!a-z]`, and `\` before a character that is to
//! stand for itself. They match a whole name; a path is matched component by component.

use thiserror::Error;

/// A glob that cannot be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum GlobError {
    /// A `[` without its `]`, or with nothing inside.
    #[error("has a `[` without `]`")]
    Unclosed,
    /// A range such as `[z-a]`.
    #[error("has a range whose end is before its start")]
    Backwards,
    /// A `\` at the end.
    #[error("ends with `\\`")]
    Dangling,
}

/// A glob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Char(char),
    Any,
    Star,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Glob {
    /// Reads a glob.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with it.
    pub fn new(text: &str) -> Result<Self, GlobError> {
        let mut parts = Vec::new();
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            parts.push(match c {
                '*' if parts.last() == Some(&Part::Star) => continue,
                '*' => Part::Star,
                '?' => Part::Any,
                '\\' => Part::Char(rest.next().ok_or(GlobError::Dangling)?),
                '[' => class(&mut rest)?,
                other => Part::Char(other),
            });
        }
        Ok(Self { parts })
    }

    /// Checks a glob that is not needed yet.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn check(text: &str) -> Result<(), GlobError> {
        // Only these can be wrong; most names have neither.
        if text.contains(['[', '\\']) {
            Self::new(text)?;
        }
        Ok(())
    }

    /// The glob that matches `name` alone.
    #[must_use]
    pub fn escape(name: &str) -> String {
        let mut glob = String::with_capacity(name.len());
        for c in name.chars() {
            if matches!(c, '*' | '?' | '[' | ']' | '\\') {
                glob.push('\\');
            }
            glob.push(c);
        }
        glob
    }

    /// Whether it matches all of `name`. Takes at most the product of both lengths.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        let (mut part, mut at) = (0, 0);
        // Where to go on when what follows the last star does not fit: one character further.
        let mut retry: Option<(usize, usize)> = None;
        loop {
            let fits = match (self.parts.get(part), name.get(at)) {
                (None, None) => return true,
                (Some(Part::Star), _) => {
                    retry = Some((part + 1, at));
                    part += 1;
                    continue;
                }
                (Some(one), Some(c)) => one.fits(*c),
                _ => false,
            };
            if fits {
                part += 1;
                at += 1;
            } else {
                match retry {
                    Some((after_star, from)) if from < name.len() => {
                        retry = Some((after_star, from + 1));
                        part = after_star;
                        at = from + 1;
                    }
                    _ => return false,
                }
            }
        }
    }

    /// The one name it matches, if it has no wildcards.
    #[must_use]
    pub fn literal(&self) -> Option<String> {
        self.parts
            .iter()
            .map(|part| match part {
                Part::Char(c) => Some(*c),
                _ => None,
            })
            .collect()
    }

    /// Whether it names a leading dot: hidden files are not matched by a wildcard.
    #[must_use]
    pub fn names_hidden(&self) -> bool {
        self.parts.first() == Some(&Part::Char('.'))
    }
}

impl Part {
    fn fits(&self, c: char) -> bool {
        match self {
            Self::Char(own) => *own == c,
            Self::Any => true,
            Self::Star => false,
            Self::Class { negated, ranges } => {
                ranges
                    .iter()
                    .any(|(first, last)| (*first..=*last).contains(&c))
                    != *negated
            }
        }
    }
}

fn class(rest: &mut std::str::Chars<'_>) -> Result<Part, GlobError> {
    let negated = rest.as_str().starts_with(['!', '^']);
    if negated {
        rest.next();
    }
    let mut ranges = Vec::new();
    loop {
        let mut first = rest.next().ok_or(GlobError::Unclosed)?;
        if first == ']' && !ranges.is_empty() {
            return Ok(Part::Class { negated, ranges });
        }
        if first == '\\' {
            first = rest.next().ok_or(GlobError::Unclosed)?;
        }
        let mut last = first;
        let mut ahead = rest.clone();
        if ahead.next() == Some('-') && ahead.next().is_some_and(|c| c != ']') {
            rest.next();
            last = rest.next().ok_or(GlobError::Unclosed)?;
            if last == '\\' {
                last = rest.next().ok_or(GlobError::Unclosed)?;
            }
            if last < first {
                return Err(GlobError::Backwards);
            }
        }
        ranges.push((first, last));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(glob: &str, name: &str) -> bool {
        Glob::new(glob).unwrap().matches(name)
    }

    #[test]
    fn the_shells_globs() {
        for (glob, name) in [
            ("veth*", "veth"),
            ("veth*", "veth12ab"),
            ("tap101i*", "tap101i0"),
            ("user-????.slice", "user-2001.slice"),
            ("user-[0-9]*.slice", "user-2001.slice"),
            ("*.yaml", "a.b.yaml"),
            ("[!a]x", "bx"),
            ("[]]", "]"),
            ("[a-]", "-"),
            (r"\*", "*"),
            ("a*b*c", "a--b--b--c"),
            ("*", ""),
            ("", ""),
            ("ü?", "üß"),
        ] {
            assert!(matches(glob, name), "{glob} {name}");
        }
        for (glob, name) in [
            ("veth*", "eth0"),
            ("*.yaml", "a.yaml~"),
            ("[!a]x", "ax"),
            (r"\*", "x"),
            ("a*b*c", "a--c--b"),
            ("?", ""),
            ("", "a"),
        ] {
            assert!(!matches(glob, name), "{glob} {name}");
        }
    }

    #[test]
    fn broken_globs_say_how() {
        assert_eq!(Glob::new("a[b"), Err(GlobError::Unclosed));
        assert_eq!(Glob::new("a[]"), Err(GlobError::Unclosed));
        assert_eq!(Glob::new("[z-a]"), Err(GlobError::Backwards));
        assert_eq!(Glob::new("a\\"), Err(GlobError::Dangling));
    }

    #[test]
    fn literals_are_known() {
        assert_eq!(
            Glob::new("eth0").unwrap().literal().as_deref(),
            Some("eth0")
        );
        assert_eq!(Glob::new("eth*").unwrap().literal(), None);
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let glob = "*a".repeat(40) + "b";
        assert!(!matches(&glob, &"a".repeat(5_000)));
    }

    /// The obviously right matcher, without classes.
    fn slow(glob: &[char], name: &[char]) -> bool {
        match (glob.split_first(), name.split_first()) {
            (None, None) => true,
            (Some(('*', rest)), _) => (0..=name.len()).any(|skip| slow(rest, &name[skip..])),
            (Some(('?', rest)), Some((_, more))) => slow(rest, more),
            (Some((c, rest)), Some((d, more))) => c == d && slow(rest, more),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_slow_one(glob in "[ab*?]{0,8}", name in "[ab]{0,10}") {
            let (g, n): (Vec<char>, Vec<char>) = (glob.chars().collect(), name.chars().collect());
            prop_assert_eq!(matches(&glob, &name), slow(&g, &n));
        }
    }
}
