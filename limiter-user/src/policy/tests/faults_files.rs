//! Files that cannot be used, and files that must not be.

use std::os::unix::{fs::symlink, net::UnixListener};

use super::*;
use crate::policy::read::MAX_FILE;

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_missing_main_file_says_what_to_do() {
    let config = Config::new("");
    fs::remove_file(config.path("limiter.yaml")).unwrap();
    let path = config.path("limiter.yaml");
    only(
        &config,
        &format!(
            "limiter.yaml: error: {} does not exist; create it; an empty file is a valid \
             configuration (it observes)",
            path.display()
        )
        .replace(&format!("{}/", config.dir.path().display()), ""),
    );
}

#[test]
fn others_must_not_be_able_to_write() {
    let config = Config::tenants("tenant: a\n");
    let tenant = config.path("tenants.d/t.yaml");
    for bits in [0o602, 0o620, 0o666] {
        mode(&tenant, bits);
        only(
            &config,
            &format!(
                "tenants.d/t.yaml: error: the file can be written by others (mode {bits:04o}); \
                 chmod go-w tenants.d/t.yaml"
            ),
        );
    }
    mode(&tenant, 0o644);
    assert!(config.faults().is_empty());

    let directory = config.path("tenants.d");
    mode(&directory, 0o777);
    let shown = directory.display().to_string();
    let faults = config.load().faults;
    assert_eq!(faults.len(), 1);
    assert_eq!(
        faults[0].problem,
        format!("its directory {shown} can be written by others (mode 0777)")
    );
    assert_eq!(faults[0].allowed, format!("chmod o-w {shown}"));
    mode(&directory, 0o1777);
    assert!(
        config.faults().is_empty(),
        "in a sticky directory nobody can replace it"
    );

    mode(&config.path("limiter.yaml"), 0o622);
    let faults = config.faults();
    assert_eq!(faults.len(), 1);
    assert!(faults[0].starts_with("limiter.yaml: error: the file can be written by others"));
}

#[test]
fn a_link_is_judged_by_what_it_leads_to() {
    let config = Config::new("");
    fs::create_dir(config.path("elsewhere")).unwrap();
    let config = config.write("elsewhere/real", "tenant: a\n");
    symlink(
        config.path("elsewhere/real"),
        config.path("tenants.d/a.yaml"),
    )
    .unwrap();
    assert_eq!(names(&config.policy()), ["a"]);
    mode(&config.path("elsewhere"), 0o777);
    let faults = config.faults();
    assert!(
        faults[0].contains("elsewhere can be written by others"),
        "{faults:?}"
    );

    let config = Config::new("");
    symlink("nowhere", config.path("tenants.d/a.yaml")).unwrap();
    let faults = config.faults();
    assert_eq!(faults.len(), 1);
    assert!(faults[0].starts_with("tenants.d/a.yaml: error: tenants.d/a.yaml does not exist"));
}

#[test]
fn somebody_elses_file_is_refused() {
    // SAFETY: the call has no arguments and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        // Only root can give a file away; everybody else has at least files of root's to trust.
        assert!(crate::policy::read::text(Path::new("/etc/passwd")).is_ok());
        return;
    }
    let config = Config::tenants("tenant: a\n");
    std::os::unix::fs::chown(config.path("tenants.d/t.yaml"), Some(65_534), None).unwrap();
    only(
        &config,
        "tenants.d/t.yaml: error: the file belongs to uid 65534, who could change it; chown root \
         tenants.d/t.yaml",
    );
    std::os::unix::fs::chown(config.path("tenants.d/t.yaml"), Some(0), None).unwrap();
    std::os::unix::fs::chown(config.path("tenants.d"), Some(65_534), None).unwrap();
    let faults = config.faults();
    assert!(faults[0].contains("belongs to uid 65534, who could change it; chown root"));
}

#[test]
fn only_regular_files_and_nothing_blocks() {
    let config = Config::new("");
    let fifo = config.path("tenants.d/fifo.yaml");
    let name = std::ffi::CString::new(fifo.to_str().unwrap()).unwrap();
    // SAFETY: the name is a valid string that outlives the call.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    fs::create_dir(config.path("tenants.d/dir.yaml")).unwrap();
    let _socket = UnixListener::bind(config.path("tenants.d/socket.yaml")).unwrap();
    symlink("/dev/zero", config.path("tenants.d/device.yaml")).unwrap();
    let regular = "a regular file, or a symbolic link to one";
    all(
        &config,
        &[
            &format!("tenants.d/device.yaml: error: is a device, not a regular file; {regular}"),
            &format!("tenants.d/dir.yaml: error: is a directory, not a regular file; {regular}"),
            &format!("tenants.d/fifo.yaml: error: is a named pipe, not a regular file; {regular}"),
            &format!("tenants.d/socket.yaml: error: is a socket, not a regular file; {regular}"),
        ],
    );
}

#[test]
fn a_huge_file_is_refused_unread() {
    let config = Config::tenants("tenant: a\n");
    let huge = config.path("tenants.d/t.yaml");
    fs::OpenOptions::new()
        .write(true)
        .open(&huge)
        .unwrap()
        .set_len(100 * 1024 * 1024)
        .unwrap();
    let start = std::time::Instant::now();
    only(
        &config,
        "tenants.d/t.yaml: error: is 104857600 bytes long; at most 67108864 bytes (64 MiB); spread \
         the tenants over several files",
    );
    assert!(start.elapsed() < std::time::Duration::from_millis(200));
    assert_eq!(MAX_FILE, 67_108_864);
}

#[test]
fn text_only() {
    for (bytes, expected) in [
        (
            &b"tenant: a\ncontact: \xff\n"[..],
            "2:1: error: is not UTF-8 text: byte 19 (line 2) is 0xff",
        ),
        (
            b"tenant: a\n\0\n",
            "2:1: error: is not UTF-8 text: byte 10 (line 2) is 0x00",
        ),
        (
            b"\x7fELF\x02\x01\x01\0\0",
            "1:1: error: is not UTF-8 text: byte 0 (line 1) is 0x7f",
        ),
        (
            b"tenant: \x1b[31ma\n",
            "1:1: error: is not UTF-8 text: byte 8 (line 1) is 0x1b",
        ),
    ] {
        let config = Config::new("").write("tenants.d/t.yaml", bytes);
        only(
            &config,
            &format!("tenants.d/t.yaml:{expected}; YAML as UTF-8 text, without control characters"),
        );
    }
}

#[test]
fn unreadable_files_and_directories() {
    // SAFETY: the call has no arguments and cannot fail.
    if unsafe { libc::geteuid() } == 0 {
        // Root reads everything; what it cannot list is no directory.
        let config = Config::new("tenants: /proc/self/mem/*.yaml\n");
        assert!(config.faults().is_empty());
        let config = Config::new("").write("tenants.d/t.yaml", "");
        fs::remove_file(config.path("tenants.d/t.yaml")).unwrap();
        symlink("t.yaml", config.path("tenants.d/t.yaml")).unwrap();
        let faults = config.faults();
        assert!(
            faults[0].starts_with("tenants.d/t.yaml: error: cannot be read: "),
            "{faults:?}"
        );
        return;
    }
    let config = Config::tenants("tenant: a\n");
    mode(&config.path("tenants.d/t.yaml"), 0o000);
    let faults = config.faults();
    assert!(
        faults[0].starts_with("tenants.d/t.yaml: error: cannot be read: "),
        "{faults:?}"
    );
    mode(&config.path("tenants.d"), 0o000);
    let faults = config.faults();
    assert!(faults[0].contains("cannot be listed"), "{faults:?}");
    mode(&config.path("tenants.d"), 0o755);
}

#[test]
fn which_files_are_tenants() {
    let config = Config::new("tenants: 't[!x]*.d/?.yaml'\n");
    for (name, tenant) in [
        ("tenants.d/b.yaml", "b"),
        ("tenants.d/a.yaml", "a"),
        ("tenants.d/.c.yaml", "hidden"),
        ("tenants.d/d.yaml~", "backup"),
        ("tenants.d/ee.yaml", "long"),
    ] {
        fs::write(config.path(name), format!("tenant: {tenant}\n")).unwrap();
        mode(&config.path(name), 0o600);
    }
    let loaded = config.load();
    assert_eq!(names(loaded.policy.as_ref().unwrap()), ["a", "b"]);
    assert_eq!(
        loaded.files,
        ["limiter.yaml", "tenants.d/a.yaml", "tenants.d/b.yaml"].map(|name| config.path(name))
    );
    assert!(
        Config::new("tenants: nowhere/*/x.yaml\n")
            .faults()
            .is_empty()
    );
    only(
        &Config::new("tenants: '*.yaml'\n"),
        &format!(
            "limiter.yaml:1:10: error: tenants: {} matches the main file; a glob that matches \
             tenant files only, such as tenants.d/*.yaml",
            "*.yaml"
        ),
    );
    all(
        &Config::new("tenants: 'tenants.d/[a.yaml'\n"),
        &["limiter.yaml:1:10: error: tenants: \"tenants.d/[a.yaml\" has a `[` without `]`;…"],
    );
}

#[test]
fn a_name_that_is_not_utf8_is_refused() {
    use std::os::unix::ffi::OsStrExt as _;
    let config = Config::new("");
    let name = std::ffi::OsStr::from_bytes(b"\xff.yaml");
    fs::write(config.path("tenants.d").join(name), "").unwrap();
    let faults = config.faults();
    assert_eq!(faults.len(), 1);
    assert!(faults[0].contains("its name is not UTF-8"), "{faults:?}");
}

#[test]
fn a_file_that_looks_like_a_tenant_and_is_none_is_named() {
    let config = Config::tenants("tenant: a\n").write("tenants.d/alice.yml", "tenant: alice\n");
    let faults = config.faults();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(
        faults[0].starts_with("tenants.d/alice.yml: warning: this file is not loaded"),
        "{faults:?}"
    );
    assert_eq!(names(&config.policy()), ["a"]);
}
