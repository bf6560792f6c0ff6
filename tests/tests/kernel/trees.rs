//! All or nothing: a tenant, its ancestors and the node.

use std::thread;

use limiter_user::policy::image::NODE_NAME;

use crate::{
    images::{Draft, HOUR, window},
    lab::{charge, in_lab},
};

/// The deepest tree there can be, each level tighter than the sum of those below.
fn tree(node_max: u32) -> Draft {
    Draft::new()
        .node(&[window(node_max, HOUR)])
        .tenant("reseller", NODE_NAME, &[window(150, HOUR)])
        .tenant("customer", "reseller", &[window(100, HOUR)])
        .tenant("domain", "customer", &[window(80, HOUR)])
        .tenant("left", "domain", &[window(50, HOUR)])
        .tenant("right", "domain", &[window(50, HOUR)])
        .tenant("elsewhere", NODE_NAME, &[window(1_000, HOUR)])
}

#[test]
fn five_levels_hold_together() {
    in_lab(|lab| {
        lab.apply(&tree(170).0);
        let levels = ["(node)", "reseller", "customer", "domain", "left", "right"];
        let used = |lab: &mut crate::lab::Lab| levels.map(|name| lab.used(name)[0]);

        assert!(lab.charge("left", 50));
        assert!(!lab.charge("left", 1), "its own limit");
        assert!(lab.charge("right", 30));
        assert_eq!(used(lab), [80, 80, 80, 80, 50, 30]);
        assert!(!lab.charge("right", 1), "its parent's");
        assert_eq!(used(lab), [80, 80, 80, 80, 50, 30]);
        assert!(!lab.charge("customer", 21));
        assert!(lab.charge("customer", 20));
        assert!(!lab.charge("customer", 1), "its own");
        assert!(lab.charge("reseller", 50));
        assert!(!lab.charge("reseller", 1));
        assert_eq!(used(lab), [150, 150, 100, 80, 50, 30]);
        assert!(!lab.charge("elsewhere", 21), "the node's");
        assert_eq!(lab.used("elsewhere"), [0], "nothing anywhere");
        assert!(lab.charge("elsewhere", 20));
        assert!(!lab.charge("elsewhere", 1));
        assert_eq!(used(lab), [170, 150, 100, 80, 50, 30]);
        lab.assert_sound();
    });
}

#[test]
fn siblings_at_once_fill_their_parent_exactly() {
    in_lab(|lab| {
        let draft = Draft::new()
            .node(&[window(9_000, HOUR)])
            .tenant("reseller", NODE_NAME, &[window(6_000, HOUR)])
            .tenant("a", "reseller", &[window(5_000, HOUR)])
            .tenant("b", "reseller", &[window(5_000, HOUR)])
            .tenant("c", NODE_NAME, &[window(5_000, HOUR)]);
        lab.apply(&draft.0);
        let kernel = lab.loaded();
        let leaves = ["a", "b", "c"].map(|name| lab.index(name));
        let admitted: Vec<u32> = thread::scope(|scope| {
            let threads = leaves.map(|index| {
                scope.spawn(move || {
                    let admitted = (0..8_000).filter(|_| charge(kernel, index, 1)).count();
                    u32::try_from(admitted).unwrap()
                })
            });
            threads.map(|thread| thread.join().unwrap()).to_vec()
        });
        for (name, admitted) in ["a", "b", "c"].iter().zip(&admitted) {
            assert_eq!(lab.used(name), [*admitted]);
        }
        assert_eq!(lab.used("reseller"), [admitted[0] + admitted[1]]);
        assert_eq!(lab.used(NODE_NAME), [9_000]);
        assert_eq!(admitted.iter().sum::<u32>(), 9_000);
        lab.assert_sound();
    });
}

#[test]
fn an_ancestor_that_is_only_observed_holds_nobody_back() {
    in_lab(|lab| {
        let mut draft = Draft::new()
            .tenant("reseller", NODE_NAME, &[window(5, HOUR)])
            .tenant("a", "reseller", &[window(8, HOUR)]);
        draft.0.tenants[2].enforce = false;
        lab.apply(&draft.0);
        let admitted = (0..20).filter(|_| lab.charge("a", 1)).count();
        assert_eq!(admitted, 8);
        assert_eq!(lab.used("a"), [8]);
        assert_eq!(lab.used("reseller"), [5], "what enforcement would admit");
        lab.assert_sound();
    });
}
