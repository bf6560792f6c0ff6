//! Who gets which cgroups.

use super::*;

fn with_cgroups(name: &str, cgroups: &[&str]) -> Tenant {
    let mut tenant = tenant(name);
    tenant.matches.cgroups = cgroups
        .iter()
        .map(|cgroup| located_at((*cgroup).to_owned(), &format!("{name}.yaml"), 6))
        .collect();
    tenant
}

fn cgroup(path: &str, id: u64) -> Cgroup {
    let depth = u32::try_from(path.matches('/').count()).unwrap();
    Cgroup {
        path: path.to_owned(),
        id,
        depth,
    }
}

fn with_cgroup_facts(matches: &[(&str, &str, u64)]) -> System {
    let mut system = System::default();
    for (pattern, path, id) in matches {
        system.cgroups.insert(pattern, cgroup(path, *id));
    }
    system
}

#[test]
fn cgroups_are_bound_and_a_path_beats_a_glob() {
    let facts = with_cgroup_facts(&[
        ("/u/*", "/u/b", 9),
        ("/u/*", "/u/a", 7),
        ("/u/a", "/u/a", 7),
        ("/u/a/x", "/u/a/x", 3),
        ("/u/?", "/u/a", 7),
    ]);
    let policy = with_tenants(vec![
        with_cgroups("globs", &["/u/*"]),
        with_cgroups("path", &["/u/a", "/u/a/x", "/u/?"]),
    ]);
    let image = image(&policy, &facts);
    let found: Vec<(u64, u32, &str, usize, &str)> = image
        .cgroups
        .iter()
        .map(|b| (b.id, b.depth, b.path.as_str(), b.tenant, b.by.as_str()))
        .collect();
    let expected = [
        (3, 3, "/u/a/x", 3, "cgroup /u/a/x"),
        (7, 2, "/u/a", 3, "cgroup /u/a"),
        (9, 2, "/u/b", 2, "cgroup /u/*"),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_cgroup_claimed_twice_is_an_error_that_names_both() {
    let facts = with_cgroup_facts(&[
        ("/u/*", "/u/a", 7),
        ("/u/?", "/u/a", 7),
        ("/u/a", "/u/a", 7),
    ]);
    for (one, two) in [("/u/*", "/u/?"), ("/u/a", "/u/a")] {
        let policy = with_tenants(vec![
            with_cgroups("one", &[one]),
            with_cgroups("two", &[two]),
        ]);
        let found = fault(&policy, &facts);
        assert_eq!(found.severity, Severity::Error);
        for part in ["cgroup /u/a ", "one.yaml:6:3", "two.yaml:6:3", one, two] {
            assert!(found.problem.contains(part), "{part} in {found}");
        }
    }
    let twice = with_tenants(vec![with_cgroups("one", &["/u/*", "/u/?"])]);
    assert_eq!(
        image(&twice, &facts).cgroups.len(),
        1,
        "by one tenant it is none"
    );
}

#[test]
fn only_paths_are_missed() {
    let policy = with_tenants(vec![with_cgroups("one", &["/absent", "/u/*"])]);
    let found = fault(&policy, &System::default());
    assert_eq!(found.severity, Severity::Warning);
    assert!(
        found.problem.contains("/absent") && found.allowed.contains("when it appears"),
        "{found}"
    );
}

#[test]
fn cgroups_too_deep_or_no_paths_at_all_are_errors() {
    let deep = |levels: u32| (0..levels).map(|_| "/x").collect::<String>();
    let (deepest, too_deep) = (deep(MAX_CGROUP_DEPTH), deep(MAX_CGROUP_DEPTH + 1));
    let facts = with_cgroup_facts(&[(&deepest, &deepest, 5)]);
    image(
        &with_tenants(vec![with_cgroups("one", &[&deepest])]),
        &facts,
    );
    for wrong in [too_deep.as_str(), "relative", "/", "/a/../b", "/[x"] {
        let found = fault(&with_tenants(vec![with_cgroups("one", &[wrong])]), &facts);
        assert_eq!(found.severity, Severity::Error, "{found}");
        assert_eq!(found.origin.to_string(), "one.yaml:6:3");
    }
}

#[test]
fn cgroups_outside_the_point_of_attachment_are_a_warning() {
    let facts = with_cgroup_facts(&[
        ("/a", "/a", 1),
        ("/a/b", "/a/b", 2),
        ("/a/b/c", "/a/b/c", 3),
        ("/a/bb", "/a/bb", 4),
    ]);
    let mut policy = with_tenants(vec![with_cgroups(
        "one",
        &["/a", "/a/b", "/a/b/c", "/a/bb"],
    )]);
    policy.places.cgroup = PathBuf::from("/a/b");
    let found = fault(&policy, &facts);
    assert_eq!(found.severity, Severity::Warning);
    assert!(
        found
            .problem
            .contains("/a/bb of tenant one is outside /a/b"),
        "{found}"
    );
}
