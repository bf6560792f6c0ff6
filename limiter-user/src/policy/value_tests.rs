//! Tests of numbers, durations, names and paths.

use super::*;

fn plain(text: &str) -> Scalar<'_> {
    Scalar { text, plain: true }
}

fn dur(text: &str) -> Parsed<Duration> {
    duration(
        plain(text),
        Duration::from_secs(1),
        Duration::from_secs(31 * 86_400),
    )
}

#[test]
fn durations() {
    for (text, secs) in [
        ("90s", 90),
        ("15m", 900),
        ("1h", 3_600),
        ("30d", 30 * 86_400),
    ] {
        assert_eq!(dur(text), Ok(Duration::from_secs(secs)), "{text}");
    }
    for text in [
        "",
        "h",
        "1",
        "-1h",
        "1.5h",
        "1 h",
        "1H",
        "1hour",
        "999ms",
        "0s",
        "32d",
        "1h30m",
        "99999999999999999999s",
        "18446744073709551615d",
    ] {
        let refusal = dur(text).unwrap_err();
        assert!(
            refusal.allowed.contains("from 1s to 31d"),
            "{text}: {refusal:?}"
        );
    }
}

#[test]
fn durations_for_people() {
    for (text, millis) in [
        ("0s", 0),
        ("1ms", 1),
        ("1500ms", 1_500),
        ("90s", 90_000),
        ("15m", 900_000),
        ("1h", 3_600_000),
        ("36h", 36 * 3_600_000),
        ("30d", 30 * 86_400_000),
    ] {
        assert_eq!(human(Duration::from_millis(millis)), text);
    }
}

#[test]
fn numbers() {
    assert_eq!(whole(plain("0"), 0, 5), Ok(0));
    assert_eq!(whole(plain("4294967295"), 0, u32::MAX), Ok(u32::MAX));
    for (text, what) in [
        ("-5", "is negative"),
        ("4294967296", "is too large"),
        ("99999999999999999999999999", "is too large"),
        ("-99999999999999999999999999", "is negative"),
        ("1.0", "is not a whole number"),
        ("0x10", "is not a whole number"),
        ("1e3", "is not a whole number"),
        ("-", "is not a whole number"),
        ("", "is not a whole number"),
    ] {
        let refusal = whole(plain(text), 0, u32::MAX).unwrap_err();
        assert_eq!(refusal.what, what, "{text}");
        assert_eq!(refusal.allowed, "a whole number from 0 to 4294967295");
    }
    assert_eq!(whole(plain("0"), 1, 5).unwrap_err().what, "is too small");
    let quoted = Scalar {
        text: "5",
        plain: false,
    };
    assert!(whole(quoted, 0, 5).is_err());
    assert_eq!(port(plain("65535")), Ok(65535));
    assert!(port(plain("0")).is_err() && port(plain("65536")).is_err());
}

#[test]
fn uid_ranges() {
    let range = |first, last| Ok(UidRange { first, last });
    assert_eq!(uids(plain("2001")), range(2001, 2001));
    assert_eq!(uids(plain("2100-2199")), range(2100, 2199));
    assert_eq!(uids(plain("1-4294967294")), range(1, 4_294_967_294));
    for text in [
        "0",
        "0-10",
        "-1",
        "1-",
        "",
        "a",
        "5-4",
        "4294967295",
        "1-2-3",
        "+5",
    ] {
        assert!(uids(plain(text)).is_err(), "{text}");
    }
    assert_eq!(
        uids(plain("9-5")).unwrap_err().allowed,
        "a range from low to high: 5-9"
    );
}

#[test]
fn cgroup_paths() {
    let of = |text: &str| cgroup(plain(text), true, false);
    for (text, path) in [
        ("/user.slice/user-2001.slice", "/user.slice/user-2001.slice"),
        ("/a//b/", "/a/b"),
        ("/user.slice/user-*.slice", "/user.slice/user-*.slice"),
    ] {
        assert_eq!(of(text), Ok(path.to_owned()));
    }
    for text in [
        "", "a", "/", "//", "/..", "/a/../b", "/a/./b", "/a/**", "/a[", "/a\nb",
    ] {
        assert!(of(text).is_err(), "{text}");
    }
    assert!(of(&"/a".repeat(63)).is_ok());
    assert!(of(&"/a".repeat(64)).is_err());
    assert_eq!(cgroup(plain("/"), false, true), Ok("/".to_owned()));
}

#[test]
fn users_and_interfaces() {
    assert_eq!(tenant_user(plain("alice")), Ok("alice".to_owned()));
    assert!(tenant_user(plain("root")).is_err());
    assert!(user(plain("2001")).unwrap_err().allowed.contains("uids"));
    let quoted = Scalar {
        text: "2001",
        plain: false,
    };
    assert_eq!(user(quoted), Ok("2001".to_owned()));
    for text in ["", "a b", "a:b", "a/b", "-a"] {
        assert!(user(plain(text)).is_err(), "{text}");
    }
    assert!(interface(plain("tap101i*")).is_ok());
    assert!(interface(plain("eth0")).is_ok());
    for text in ["", "an-interface-too-long", "a/b", "a b", "a["] {
        assert!(interface(plain(text)).is_err(), "{text}");
    }
}
