//! Many tenants: what it costs to write them does not grow with each of them, and what one change costs
//! does not grow with the others.

use limiter_common::{abi::FIRST_TENANT, owner::Owner, sanction::Sanctions, tenant::Tenant};
use limiter_user::{
    kernel::{Changes, calls},
    policy::image::{Image, NODE_NAME},
};

use crate::{
    images::{Draft, HOUR, window},
    lab::{Lab, NEEDS, in_lab},
};

const RESELLERS: u32 = 50;
const CUSTOMERS: u32 = 5_000;
const FIRST_UID: u32 = 2_000;

/// Customers with a uid and a limit each, below resellers without. The first may send `max`.
fn town(max: u32) -> Image {
    let mut draft = Draft::new();
    for n in 0..RESELLERS {
        draft = draft.tenant(&format!("reseller{n}"), NODE_NAME, &[]);
    }
    for n in 0..CUSTOMERS {
        let name = customer(n);
        let limits = [window(if n == 0 { max } else { 100 }, HOUR)];
        draft = draft.tenant(&name, &format!("reseller{}", n % RESELLERS), &limits);
        draft = draft.uid(FIRST_UID + n, &name);
    }
    draft.0
}

fn customer(n: u32) -> String {
    format!("customer{n}")
}

/// What a pass changed, and how many calls of the kernel it made.
fn apply(lab: &mut Lab, image: &Image) -> (Changes, u64) {
    let before = calls::made();
    let changes = lab.apply(image);
    (changes, calls::made() - before)
}

/// Everybody stands in the kernel as the image says, under a lock that is its reseller's.
fn assert_town(lab: &Lab) {
    let maps = &lab.loaded().maps;
    for n in [0, 1, CUSTOMERS / 2, CUSTOMERS - 1] {
        let (name, reseller) = (customer(n), format!("reseller{}", n % RESELLERS));
        let index = lab.index(&name);
        let tenant = maps.tenants.get(index).unwrap();
        assert!(tenant.exists(), "{name}");
        assert_eq!(tenant.parent, lab.index(&reseller));
        assert_eq!(tenant.lock, lab.index(&reseller));
        let owner = maps.uids.get(FIRST_UID + n).unwrap();
        assert_eq!(owner, Owner::tenant(index).to_wire());
    }
    assert_eq!(maps.uids.get(FIRST_UID - 1).unwrap(), 0);
    let named = maps.names.entries().unwrap().len();
    assert_eq!(named, usize::try_from(RESELLERS + CUSTOMERS + 2).unwrap());
}

#[test]
fn thousands_come_in_some_calls_and_one_change_takes_a_few() {
    in_lab(|lab| {
        let (changes, made) = apply(lab, &town(100));
        assert_eq!(
            changes.added,
            usize::try_from(RESELLERS + CUSTOMERS + 2).unwrap()
        );
        assert_eq!(changes.identities, usize::try_from(CUSTOMERS).unwrap());
        assert!(made <= 20, "{made} calls for {CUSTOMERS} customers");
        assert_town(lab);
        for _ in 0..100 {
            assert!(lab.charge("customer1", 1));
        }
        assert!(!lab.charge("customer1", 1));

        let (changes, made) = apply(lab, &town(7));
        let one = Changes {
            changed: 1,
            ..Changes::default()
        };
        assert_eq!(changes, one);
        assert!(made <= 10, "{made} calls for one change");
        assert!(lab.charge("customer0", 7) && !lab.charge("customer0", 1));
        assert_eq!(lab.used("customer1"), [100]);

        let (changes, made) = apply(lab, &town(7));
        assert!(!changes.any());
        assert!(made <= 8, "{made} calls for nothing");
        lab.assert_sound();
    });
}

#[test]
fn another_agent_finds_thousands_in_some_calls() {
    in_lab(|lab| {
        lab.apply(&town(100));
        assert!(lab.charge("customer3", 40));
        lab.stop();
        let before = calls::made();
        lab.load(NEEDS).unwrap();
        let read = calls::made() - before;
        assert!(read <= 60, "{read} calls to read what stands there");
        let (changes, made) = apply(lab, &town(100));
        assert!(!changes.any(), "{changes}");
        assert!(made <= 10, "{made} calls for nothing");
        assert_town(lab);
        assert_eq!(lab.used("customer3"), [40]);
        lab.assert_sound();
    });
}

/// On kernels before 5.6, and for kinds of maps that got the calls later.
#[test]
fn without_calls_for_many_they_come_one_by_one() {
    in_lab(|lab| {
        // SAFETY: nobody else reads or writes the environment while the lab is ours.
        unsafe { std::env::set_var("LIMITER_TEST_NO_BATCH", "1") };
        let (changes, made) = apply(lab, &town(100));
        assert_eq!(
            changes.added,
            usize::try_from(RESELLERS + CUSTOMERS + 2).unwrap()
        );
        assert!(made > u64::from(CUSTOMERS), "{made} calls");
        assert_town(lab);
        lab.stop();
        lab.load(NEEDS).unwrap();
        // The first look reads everything.
        assert!(!apply(lab, &town(100)).0.any());
        let (changes, made) = apply(lab, &town(7));
        // SAFETY: as above.
        unsafe { std::env::remove_var("LIMITER_TEST_NO_BATCH") };
        assert_eq!((changes.added, changes.changed), (0, 1));
        assert!(made <= 10, "{made} calls for one change");
        assert!(lab.charge("customer0", 7) && !lab.charge("customer0", 1));
        lab.assert_sound();
    });
}

#[test]
fn what_a_killed_agent_left_is_no_newcomers() {
    in_lab(|lab| {
        lab.apply(&town(100));
        assert!(lab.charge("customer4999", 60));
        let index = lab.index("customer4999");
        let maps = &mut lab.kernel().maps;
        // As if it had been killed while it wrote the last of them: they have no names and no
        // identities yet, and something of a sanction is left.
        let own = Sanctions {
            until_s: [u32::MAX; 4],
        };
        maps.sanctions.set(index, own).unwrap();
        for n in 4_990..CUSTOMERS {
            let mut key = [0; 128];
            key[..customer(n).len()].copy_from_slice(customer(n).as_bytes());
            maps.names.remove(&key).unwrap();
            maps.uids.set(FIRST_UID + n, 0).unwrap();
        }
        lab.stop();
        lab.load(NEEDS).unwrap();
        let (changes, _) = apply(lab, &town(100));
        assert_eq!(
            (changes.added, changes.changed, changes.removed),
            (10, 0, 0)
        );
        assert_town(lab);
        assert_eq!(lab.used("customer4999"), [0]);
        let maps = &lab.loaded().maps;
        let tenant = maps.tenants.get(lab.index("customer4999")).unwrap();
        assert!(!tenant.sanctions.any());
        assert!(!maps.sanctions.get(index).unwrap().any());
        lab.assert_sound();
    });
}

#[test]
fn who_goes_and_comes_again_begins_anew() {
    in_lab(|lab| {
        let whole = town(100);
        lab.apply(&whole);
        assert!(lab.charge("customer4998", 60));
        let mut less = whole.clone();
        less.tenants.truncate(less.tenants.len() - 100);
        less.uids.truncate(less.uids.len() - 100);
        assert_eq!(lab.apply(&less).removed, 100);
        let gone = lab
            .loaded()
            .maps
            .tenants
            .get(FIRST_TENANT + RESELLERS + 4_998);
        assert!(!gone.unwrap().exists());
        assert_eq!(lab.apply(&whole).added, 100);
        assert_eq!(lab.used("customer4998"), [0]);
        assert_town(lab);
        lab.assert_sound();
    });
}

#[test]
fn where_newcomers_stand_was_nothing_before() {
    in_lab(|lab| {
        lab.apply(
            &Draft::new()
                .tenant("first", NODE_NAME, &[window(5, HOUR)])
                .0,
        );
        assert!(lab.charge("first", 3));
        // The block of the first is half used: whoever comes into the rest of it leaves it alone.
        let mut image = Draft::new().tenant("first", NODE_NAME, &[window(5, HOUR)]);
        for n in 0..100 {
            image = image.tenant(&customer(n), "first", &[window(2, HOUR)]);
        }
        assert_eq!(lab.apply(&image.0).added, 100);
        assert_eq!(lab.used("first"), [3]);
        assert!(lab.charge("customer0", 2) && !lab.charge("customer50", 1));
        assert_eq!(lab.used("first"), [5]);
        let unused = lab.loaded().maps.tenants.get(FIRST_TENANT + 101).unwrap();
        assert_eq!(unused, Tenant::default());
        lab.assert_sound();
    });
}
