//! A reload reads what changed, and says the same as if it had read everything.

use std::{
    fmt::Write as _,
    fs::{self, File},
    os::unix::fs::{MetadataExt as _, symlink},
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{Config, names};
use crate::policy::{
    Loaded,
    kept::{Kept, KeptFile, Stamp},
    load, load_changed,
};

fn again(config: &Config, kept: &mut Kept) -> Loaded {
    let main = config.path("limiter.yaml");
    let loaded = load_changed(&main, kept);
    let whole = load(&main);
    assert_eq!(loaded.policy, whole.policy);
    assert_eq!(loaded.faults, whole.faults);
    assert_eq!(loaded.files, whole.files);
    loaded
}

fn file(config: &Config, kept: &Kept, name: &str) -> Arc<KeptFile> {
    Arc::clone(kept.file(&config.path(name)).unwrap())
}

/// Large enough for several parts.
fn many(limit: u32) -> String {
    let mut text = String::new();
    for n in 0..4_000 {
        let max = if n == 3_000 { limit } else { 10_000 };
        let _ = write!(
            text,
            "---\ntenant: t{n}\nmatch: {{uids: [{}]}}\nlimits: [{{unit: connections, max: {max}, window: 1h}}]\n",
            5_000 + n
        );
    }
    text
}

#[test]
fn only_the_part_that_changed_is_read_again() {
    let config = Config::tenants(&many(20_001));
    let mut kept = Kept::default();
    again(&config, &mut kept);
    let before = file(&config, &kept, "tenants.d/t.yaml");
    assert!(before.parts.len() > 3);
    let config = config.write("tenants.d/t.yaml", many(20_002));
    let loaded = again(&config, &mut kept);
    let after = file(&config, &kept, "tenants.d/t.yaml");
    let pairs = before.parts.iter().zip(&after.parts);
    let others = pairs.filter(|(before, after)| !Arc::ptr_eq(&before.read, &after.read));
    assert_eq!(others.count(), 1);
    let policy = loaded.policy.unwrap();
    let changed = policy.tenants.iter().find(|tenant| tenant.name == "t3000");
    assert_eq!(changed.unwrap().rules.limits[0].max, 20_002);
    // What moved is read again, so that faults name the right lines.
    let config = config.write(
        "tenants.d/t.yaml",
        format!("# one line more\n{}", many(20_002)),
    );
    again(&config, &mut kept);
}

#[test]
fn files_come_and_go_and_are_broken_and_mended() {
    let config = Config::new("mode: enforce\n")
        .write("tenants.d/a.yaml", "tenant: a\n")
        .write("tenants.d/b.yaml", "tenant: b\nlimits: 7\n");
    let mut kept = Kept::default();
    assert!(again(&config, &mut kept).policy.is_none());
    // The same fault again, from what was kept.
    assert!(again(&config, &mut kept).policy.is_none());
    let config = config.write("tenants.d/b.yaml", "tenant: b\n");
    assert_eq!(
        names(&again(&config, &mut kept).policy.unwrap()),
        ["a", "b"]
    );
    fs::remove_file(config.path("tenants.d/a.yaml")).unwrap();
    let config = config.write("tenants.d/c.yaml", "tenant: c\nparent: b\n");
    assert_eq!(
        names(&again(&config, &mut kept).policy.unwrap()),
        ["b", "c"]
    );
    assert!(kept.file(&config.path("tenants.d/a.yaml")).is_none());
    // Others can write it now, though what it says is the same.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    fs::set_permissions(config.path("tenants.d/c.yaml"), open).unwrap();
    assert!(again(&config, &mut kept).policy.is_none());
}

#[test]
fn a_link_is_what_it_leads_to() {
    let config = Config::new("mode: enforce\n")
        .write("one", "tenant: one\n")
        .write("two", "tenant: two\n");
    let link = config.path("tenants.d/t.yaml");
    symlink(config.path("one"), &link).unwrap();
    let mut kept = Kept::default();
    assert_eq!(names(&again(&config, &mut kept).policy.unwrap()), ["one"]);
    fs::remove_file(&link).unwrap();
    symlink(config.path("two"), &link).unwrap();
    assert_eq!(names(&again(&config, &mut kept).policy.unwrap()), ["two"]);
}

#[test]
fn a_stamp_changes_with_the_file_and_is_none_while_it_is_fresh() {
    let config = Config::tenants("tenant: a\n");
    let path = config.path("tenants.d/t.yaml");
    let metadata = || fs::metadata(&path).unwrap();
    let later = metadata().ctime() + 10;
    assert_eq!(Stamp::of(&metadata()), None);
    let stamp = Stamp::at(&metadata(), later);
    assert!(stamp.is_some());
    assert_eq!(Stamp::at(&metadata(), later), stamp);
    // Other text of the same length, with the times of the old one.
    let times = metadata().modified().unwrap();
    std::thread::sleep(Duration::from_millis(20));
    fs::write(&path, "tenant: b\n").unwrap();
    File::options()
        .write(true)
        .open(&path)
        .and_then(|file| file.set_modified(times))
        .unwrap();
    assert_eq!(metadata().modified().unwrap(), times);
    assert_ne!(Stamp::at(&metadata(), later), stamp);
    // One that was changed in the future is never trusted.
    let future = SystemTime::now() + Duration::from_secs(3_600);
    let opened = File::options().write(true).open(&path).unwrap();
    opened.set_modified(future).unwrap();
    assert_eq!(Stamp::at(&metadata(), later), None);
}
