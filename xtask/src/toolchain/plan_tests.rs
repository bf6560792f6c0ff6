use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::super::version::{Release, Rustc};
use super::*;

fn compiler(rustc: &str, minor: u32, llvm: u32, sources: bool) -> Compiler {
    Compiler {
        origin: "the test's",
        rustc: PathBuf::from(rustc),
        cargo: PathBuf::from("/bin/cargo"),
        version: Rustc {
            release: Release { major: 1, minor },
            nightly: false,
            llvm,
            text: format!("rustc 1.{minor}.0"),
        },
        sources: sources.then(|| PathBuf::from("/src")),
    }
}

fn linker(llvm: LinkerLlvm) -> Option<Linker> {
    let path = PathBuf::from("/bin/bpf-linker");
    Some(Linker {
        path,
        text: Some("bpf-linker 0.13.0".into()),
        llvm,
    })
}

/// A fresh Debian 12 whose lists are current.
fn debian() -> Facts {
    let offered = [
        ("rustc-web", "1.96.0+dfsg1-1~deb12u2"),
        ("rust-web-src", "1.96.0+dfsg1-1~deb12u2"),
        ("rust-web-clippy", "1.96.0+dfsg1-1~deb12u2"),
        ("llvm-22-dev", "1:22.1.8-1~deb12u1"),
        ("libpolly-22-dev", "1:22.1.8-1~deb12u1"),
    ];
    Facts {
        compilers: vec![compiler("/rustup/stable", 95, 22, false)],
        linker: None,
        apt: Some(Apt {
            offered: BTreeMap::from(offered.map(|(n, v)| (n.to_owned(), v.to_owned()))),
            installed: BTreeSet::new(),
            compiler_llvm: Some(22),
        }),
        root: true,
        refreshed: false,
        cxx: true,
    }
}

fn steps_of(facts: &Facts) -> Vec<Step> {
    match plan(facts) {
        Plan::Install { steps, .. } => steps,
        other => panic!("{other:?}"),
    }
}

fn packages(names: &[&str]) -> Step {
    Step::Packages(names.iter().map(|name| (*name).to_owned()).collect())
}

fn why(facts: &Facts) -> String {
    match plan(facts) {
        Plan::Impossible { missing, why } => {
            assert!(!missing.is_empty());
            why
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_fresh_debian_gets_everything_in_order() {
    assert_eq!(
        steps_of(&debian()),
        [
            packages(&[
                "rustc-web",
                "rust-web-src",
                "rust-web-clippy",
                "llvm-22-dev",
                "libpolly-22-dev"
            ]),
            Step::Linker {
                llvm: 22,
                replace: false
            },
        ]
    );
    let Plan::Install { missing, .. } = plan(&debian()) else {
        panic!()
    };
    assert!(
        missing[0].contains("/rustup/stable (1.95) lacks the sources"),
        "{missing:?}"
    );
    assert!(missing[1].contains("bpf-linker"), "{missing:?}");
}

#[test]
fn without_a_cxx_compiler_one_is_installed_for_the_linker() {
    let facts = Facts {
        cxx: false,
        ..debian()
    };
    let Some(Step::Packages(names)) = steps_of(&facts).into_iter().next() else {
        panic!()
    };
    assert!(names.contains(&"g++".to_owned()));
}

#[test]
fn nothing_is_done_when_nothing_is_missing() {
    let facts = Facts {
        compilers: vec![
            compiler("/rustup/stable", 95, 22, false),
            compiler("/usr/bin/rustc", 96, 22, true),
        ],
        linker: linker(LinkerLlvm::Version(22)),
        apt: None,
        root: false,
        ..debian()
    };
    let Plan::Ready(chain) = plan(&facts) else {
        panic!()
    };
    assert_eq!(chain.compiler.rustc, PathBuf::from("/usr/bin/rustc"));
}

#[test]
fn only_what_is_missing_is_installed() {
    let mut facts = debian();
    facts.linker = linker(LinkerLlvm::Version(22));
    assert_eq!(
        steps_of(&facts),
        [packages(&["rustc-web", "rust-web-src", "rust-web-clippy"])]
    );

    let mut facts = debian();
    facts.compilers = vec![compiler("/usr/bin/rustc", 96, 22, true)];
    facts.apt.as_mut().unwrap().installed =
        BTreeSet::from(["llvm-22-dev".into(), "libpolly-22-dev".into()]);
    facts.root = false;
    // Building the linker below cargo's own directory needs no root.
    assert_eq!(
        steps_of(&facts),
        [Step::Linker {
            llvm: 22,
            replace: false
        }]
    );
}

#[test]
fn sources_alone_are_installed_for_a_compiler_that_lacks_them() {
    let mut facts = debian();
    facts
        .compilers
        .push(compiler("/usr/bin/rustc", 96, 22, false));
    facts.linker = linker(LinkerLlvm::Version(22));
    facts.apt.as_mut().unwrap().installed =
        BTreeSet::from(["rustc-web".into(), "rust-web-clippy".into()]);
    assert_eq!(steps_of(&facts), [packages(&["rust-web-src"])]);
}

#[test]
fn a_linker_older_than_the_compiler_is_named_and_replaced() {
    let mut facts = debian();
    facts.compilers = vec![compiler("/usr/bin/rustc", 96, 22, true)];
    facts.linker = linker(LinkerLlvm::Version(21));
    let Plan::Install { missing, steps } = plan(&facts) else {
        panic!()
    };
    assert!(
        missing[0].contains("is built on LLVM 21 and cannot read what a compiler with LLVM 22"),
        "{missing:?}"
    );
    assert_eq!(
        steps.last(),
        Some(&Step::Linker {
            llvm: 22,
            replace: true
        })
    );
}

#[test]
fn a_newer_linker_and_one_of_unknown_llvm_are_taken() {
    for llvm in [LinkerLlvm::Version(23), LinkerLlvm::Unknown] {
        let mut facts = debian();
        facts.compilers = vec![compiler("/usr/bin/rustc", 96, 22, true)];
        facts.linker = linker(llvm);
        assert!(matches!(plan(&facts), Plan::Ready(_)));
    }
}

#[test]
fn a_linker_whose_library_is_gone_is_replaced() {
    let mut facts = debian();
    facts.compilers = vec![compiler("/usr/bin/rustc", 96, 22, true)];
    facts.linker = linker(LinkerLlvm::Gone("libLLVM.so.22.1".into()));
    facts.linker.as_mut().unwrap().text = None;
    let Plan::Install { missing, steps } = plan(&facts) else {
        panic!()
    };
    assert!(
        missing[0].contains("its library libLLVM.so.22.1 is gone"),
        "{missing:?}"
    );
    assert_eq!(
        steps.last(),
        Some(&Step::Linker {
            llvm: 22,
            replace: true
        })
    );
}

#[test]
fn a_compiler_that_fits_the_linker_is_preferred_to_a_newer_one() {
    let mut facts = debian();
    facts.compilers = vec![
        compiler("/rustup/nightly", 99, 23, true),
        compiler("/usr/bin/rustc", 96, 22, true),
    ];
    facts.linker = linker(LinkerLlvm::Version(22));
    let Plan::Ready(chain) = plan(&facts) else {
        panic!()
    };
    assert_eq!(chain.compiler.rustc, PathBuf::from("/usr/bin/rustc"));
}

#[test]
fn the_linker_is_built_on_a_newer_llvm_when_the_compilers_own_is_not_offered() {
    let mut facts = debian();
    facts.compilers = vec![compiler("/rustup/nightly", 96, 21, true)];
    assert_eq!(
        steps_of(&facts).last(),
        Some(&Step::Linker {
            llvm: 22,
            replace: false
        })
    );
}

#[test]
fn unknown_packages_are_looked_for_once() {
    let mut facts = debian();
    facts.apt = Some(Apt::default());
    assert_eq!(plan(&facts), Plan::Refresh);
    facts.refreshed = true;
    assert!(why(&facts).contains("apt offers no package rustc-web"));
}

#[test]
fn an_offer_that_is_too_old_is_looked_at_once_more_and_then_named() {
    let mut facts = debian();
    let offered = &mut facts.apt.as_mut().unwrap().offered;
    offered.insert("rustc-web".into(), "1.85.0+dfsg3-1".into());
    assert_eq!(plan(&facts), Plan::Refresh);
    facts.refreshed = true;
    assert!(why(&facts).contains("apt offers rustc-web 1.85.0+dfsg3-1, and 1.95 is needed"));
}

#[test]
fn what_cannot_be_done_is_said_in_a_sentence() {
    assert!(
        why(&Facts {
            apt: None,
            ..debian()
        })
        .contains("there is no apt here")
    );
    assert!(
        why(&Facts {
            root: false,
            ..debian()
        })
        .contains("needs root")
    );

    let mut facts = debian();
    facts.apt.as_mut().unwrap().compiler_llvm = Some(30);
    assert!(why(&facts).contains("cannot be built on LLVM 30"));
}

#[test]
fn a_compiler_that_no_linker_can_follow_is_passed_over() {
    let mut facts = debian();
    facts.compilers = vec![
        compiler("/rustup/nightly", 120, 30, true),
        compiler("/rustup/beta", 97, 22, true),
    ];
    assert_eq!(
        steps_of(&facts).last(),
        Some(&Step::Linker {
            llvm: 22,
            replace: false
        })
    );
    facts.compilers.pop();
    let Some(Step::Packages(names)) = steps_of(&facts).into_iter().next() else {
        panic!()
    };
    assert!(names.contains(&"rustc-web".to_owned()), "{names:?}");
}

#[test]
fn compilers_are_judged() {
    assert_eq!(unusable(&compiler("/r", 95, 22, true)), None);
    assert!(
        unusable(&compiler("/r", 94, 22, true))
            .unwrap()
            .contains("older than 1.95")
    );
    assert!(
        unusable(&compiler("/r", 96, 22, false))
            .unwrap()
            .contains("sources")
    );
}
