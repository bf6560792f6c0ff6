//! What cannot be done is said, and changes nothing.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown, symlink},
};

use limiter_common::abi;
use limiter_user::{
    kernel::{Changes, KernelError, pins::Pins},
    policy::image::NODE_NAME,
};

use crate::{
    images::{Draft, HOUR, window},
    lab::{Lab, NEEDS, in_lab, in_netns},
};

fn modest() -> Draft {
    Draft::new().tenant("alice", NODE_NAME, &[window(10, HOUR)])
}

#[test]
fn more_tenants_than_fit_change_nothing() {
    in_lab(|lab| {
        lab.apply(&modest().0);
        assert!(lab.charge("alice", 4));
        let room = usize::try_from(lab.loaded().maps.tenants.len()).unwrap();
        let mut many = Draft::new().node(&[window(1, HOUR)]);
        for n in 0..room {
            many = many.tenant(&format!("t{n}"), NODE_NAME, &[]);
        }
        let error = lab.try_apply(&many.0).unwrap_err();
        let KernelError::NoRoom { what, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(what, "tenants");
        unchanged(lab);
    });
}

#[test]
fn more_limits_than_fit_change_nothing() {
    in_lab(|lab| {
        lab.apply(&modest().0);
        assert!(lab.charge("alice", 4));
        let blocks = usize::try_from(lab.loaded().maps.blocks.len()).unwrap();
        let eight = [window(1, HOUR); 8];
        let mut many = modest();
        for n in 0..blocks {
            many = many.tenant(&format!("t{n}"), NODE_NAME, &eight);
        }
        let error = lab.try_apply(&many.0).unwrap_err();
        let KernelError::NoRoom { needed, room, .. } = error else {
            panic!("{error}");
        };
        assert_eq!((needed, room), (blocks * 8 + 1, blocks * 8));
        unchanged(lab);
        // One less fits, to the last slot.
        many.0.tenants.pop();
        let changes = lab.apply(&many.0);
        assert_eq!(changes.added, blocks - 1);
        assert_eq!(lab.used("alice"), [4]);
        lab.assert_sound();
    });
}

/// `modest` stands, with four units counted, for this agent and the next.
fn unchanged(lab: &mut Lab) {
    assert_eq!(lab.loaded().maps.tenant_names().unwrap().iter().count(), 3);
    assert_eq!(lab.used("alice"), [4]);
    assert_eq!(lab.apply(&modest().0), Changes::default());
    lab.stop();
    lab.start();
    assert_eq!(lab.apply(&modest().0), Changes::default());
    assert!(lab.charge("alice", 6) && !lab.charge("alice", 1));
    lab.apply(&Draft::new().0);
    lab.apply(&modest().0);
    assert!(lab.charge("alice", 4));
}

#[test]
fn a_pin_of_another_size_is_not_used() {
    in_lab(|lab| {
        lab.apply(&modest().0);
        lab.stop();
        let pins = Pins::new(lab.pin_dir());
        fs::rename(pins.map(abi::maps::LOCKS), pins.map(abi::maps::SETTINGS)).unwrap();
        let error = lab.load(NEEDS).unwrap_err();
        let KernelError::ForeignPin { path, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!(*path, pins.map(abi::maps::SETTINGS));
        assert!(error.to_string().contains("limiter detach"), "{error}");
    });
}

#[test]
fn a_pin_directory_that_others_reach_is_not_used() {
    in_netns(|| {
        let mut lab = Lab::new();
        let dir = lab.pin_dir().to_owned();
        fs::create_dir(&dir).unwrap();
        for mode in [0o755, 0o701, 0o770, 0o777] {
            fs::set_permissions(&dir, fs::Permissions::from_mode(mode)).unwrap();
            refused(&mut lab, &format!("{mode:04o}"));
        }
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
        chown(&dir, Some(2001), Some(2001)).unwrap();
        refused(&mut lab, "uid 2001");
        chown(&dir, Some(0), Some(0)).unwrap();
        lab.start();
        lab.stop();
        // Below it too.
        let maps = Pins::new(&dir).version_dir().join("maps");
        fs::set_permissions(&maps, fs::Permissions::from_mode(0o755)).unwrap();
        refused(&mut lab, "0755");
    });
}

#[test]
fn removing_pins_follows_no_links_and_removes_nothing_of_others() {
    in_netns(|| {
        let lab = Lab::new();
        let victim = tempfile::tempdir().unwrap();
        let precious = victim.path().join("precious");
        fs::write(&precious, "").unwrap();
        let dir = lab.pin_dir().to_owned();
        let pins = Pins::new(&dir);
        // As an ordinary user leaves it where the BPF file system is open to all.
        for version in ["v1", "v9"] {
            fs::create_dir_all(dir.join(version)).unwrap();
            symlink(victim.path(), dir.join(version).join("links")).unwrap();
        }
        chown(&dir, Some(2001), Some(2001)).unwrap();
        assert!(pins.remove_all().is_err(), "it is not root's");
        // Nor does root's own directory lead out of itself.
        chown(&dir, Some(0), Some(0)).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
        assert!(pins.remove_all().is_err(), "links is no directory");
        assert!(precious.exists());
    });
}

fn refused(lab: &mut Lab, why: &str) {
    let error = lab.load(NEEDS).unwrap_err();
    let KernelError::UnsafePins { problem, .. } = &error else {
        panic!("{error}");
    };
    assert!(problem.contains(why), "{problem}");
}

#[test]
fn pins_elsewhere_than_on_a_bpf_file_system_are_refused() {
    in_netns(|| {
        let dir = std::env::temp_dir().join("limiter-ktest-pins");
        let error = limiter_user::kernel::Kernel::load(&dir, NEEDS)
            .err()
            .unwrap();
        assert!(error.to_string().contains("mount -t bpf"), "{error}");
        assert!(!dir.exists());
    });
}
