//! Files by day: their names, and which of them are too old.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp, civil::Date, tz::TimeZone};

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Events, a JSON object a line.
    Events,
    /// Allowed attempts, 72 bytes each.
    Attempts,
    /// The names of the tenants in a file of attempts, one a line.
    Names,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Events, Self::Attempts, Self::Names];

    const fn parts(self) -> (&'static str, &'static str) {
        match self {
            Self::Events => ("events-", ".jsonl"),
            Self::Attempts => ("allowed-", ".bin"),
            Self::Names => ("allowed-", ".names"),
        }
    }

    /// The file of `day`.
    pub fn path(self, directory: &Path, day: Date) -> PathBuf {
        let (prefix, suffix) = self.parts();
        directory.join(format!("{prefix}{day}{suffix}"))
    }

    fn day_of(self, name: &str) -> Option<Date> {
        let (prefix, suffix) = self.parts();
        name.strip_prefix(prefix)?
            .strip_suffix(suffix)?
            .parse()
            .ok()
    }
}

/// The UTC day of `time`.
pub fn day_of(time: Timestamp) -> Date {
    time.to_zoned(TimeZone::UTC).date()
}

/// The days for which `directory` holds files of `kind`, oldest first. No directory: none.
pub fn days(directory: &Path, kind: Kind) -> io::Result<Vec<Date>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut days = Vec::new();
    for entry in entries {
        days.extend(entry?.file_name().to_str().and_then(|n| kind.day_of(n)));
    }
    days.sort_unstable();
    Ok(days)
}

/// Deletes the files of the oldest days until all files take no more than `most` bytes; those of `today`
/// stay. Returns how many days went, and the last of them.
pub fn bound(directory: &Path, today: Date, most: u64) -> io::Result<Option<(usize, Date)>> {
    let mut sizes: BTreeMap<Date, u64> = BTreeMap::new();
    for kind in Kind::ALL {
        for day in days(directory, kind)? {
            let size = match fs::symlink_metadata(kind.path(directory, day)) {
                Ok(file) => file.len(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
                Err(error) => return Err(error),
            };
            let sum = sizes.entry(day).or_default();
            *sum = sum.saturating_add(size);
        }
    }
    let mut total = sizes
        .values()
        .fold(0, |sum: u64, size| sum.saturating_add(*size));
    let mut removed = None;
    for (day, size) in sizes.into_iter().filter(|(day, _)| *day < today) {
        if total <= most {
            break;
        }
        for kind in Kind::ALL {
            match fs::remove_file(kind.path(directory, day)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        total = total.saturating_sub(size);
        let (count, _) = removed.unwrap_or((0, day));
        removed = Some((count + 1, day));
    }
    Ok(removed)
}

/// Deletes the files whose last record is older than `retention`. Returns how many.
pub fn expire(directory: &Path, now: Timestamp, retention: Duration) -> io::Result<usize> {
    let retention = SignedDuration::try_from(retention).unwrap_or(SignedDuration::MAX);
    // Retention so long that it has no date keeps everything.
    let Ok(oldest) = now.checked_sub(retention) else {
        return Ok(0);
    };
    let oldest = day_of(oldest);
    let mut deleted = 0;
    for kind in Kind::ALL {
        for day in days(directory, kind)? {
            if day < oldest {
                fs::remove_file(kind.path(directory, day))?;
                deleted += 1;
            }
        }
    }
    Ok(deleted)
}
