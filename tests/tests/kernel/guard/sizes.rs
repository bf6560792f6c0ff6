//! How large the programs are.

use std::collections::BTreeMap;

use aya_obj::Object;
use limiter_user::kernel::{
    object,
    verifier::{Verified, verify_all},
};

/// How functions are called that keep their names from build to build.
const OWN: &str = "limiter_";

/// What the other functions of the object are counted under, together.
const OTHERS: &str = "all other functions";

/// Instructions of the object's functions, before any kernel saw them.
pub fn of_object() -> BTreeMap<String, usize> {
    let object = Object::parse(object::bytes().unwrap()).unwrap();
    let mut all = BTreeMap::new();
    for function in object.functions.values() {
        let name = if function.name.starts_with(OWN) {
            &function.name
        } else {
            OTHERS
        };
        *all.entry(name.to_owned()).or_default() += function.instructions.len();
    }
    let has = |name: &str| all.get(name).is_some_and(|count| *count > 0);
    assert!(has("limiter_connect4") && has(OTHERS), "{all:?}");
    all
}

/// What this kernel makes of every program: instructions that its verifier followed, instructions that
/// are left of it, bytes of machine code. What the kernel does not say is not there.
pub fn of_programs() -> BTreeMap<String, BTreeMap<&'static str, u32>> {
    let mut all = BTreeMap::new();
    for Verified {
        program, result, ..
    } in verify_all().unwrap()
    {
        let size = result.unwrap_or_else(|why| panic!("{program}: {why}"));
        let known = [
            ("verified", size.verified),
            ("translated", size.translated),
            ("jited", Some(size.jited)),
        ];
        let sizes = known
            .into_iter()
            .filter_map(|(name, found)| Some((name, found?)));
        all.insert(program, sizes.filter(|(_, found)| *found > 0).collect());
    }
    all
}
