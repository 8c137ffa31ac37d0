//! Stacks of the release before are updated in place. `tests/bed/previous` builds its functions and its builder.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
};

use binplz_tests::{
    answers::{Running, quick},
    http,
    site::wait_for,
    stack::{Stack, inventory},
};

use crate::upgrade::{patient, remembered};

/// What the update replaces, by its name in the template: what wakes the promoter, which was a queue; and a task definition's id is that of
/// its revision, of which a running task keeps its own.
const REPLACED: [&str; 3] = ["PromoterFunctionOffered", "TaskArm", "TaskX86"];

/// Waits until a stack of the release before has the program: what this tree's OpenAPI document says is not true of it.
fn had(stack: &Stack, target: &str) -> http::Answer {
    wait_for(target, || Some(asked(stack, target)).filter(|answer| answer.status == 302))
}

fn asked(stack: &Stack, target: &str) -> http::Answer {
    http::ask("GET", &format!("{}/{target}", stack.origin()), &[("accept", "*/*")], b"")
}

fn changed(before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> BTreeSet<String> {
    before
        .iter()
        .filter(|(name, id)| now.get(*name).is_some_and(|other| other != *id))
        .map(|(name, _)| name.clone())
        .collect()
}

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks, and the release before: BINPLZ_PREVIOUS=$(tests/bed/previous)"]
fn two_stacks_in_a_region_and_one_in_another_are_updated_from_the_previous_release_while_builds_run() {
    // Their builds wait for an answer, which comes when all are updated.
    let (listener, set) = patient();
    let previous = ["--previous"];
    let one = Stack::deploy_with(set.path(), &quick(), &previous);
    let beside = Stack::deploy_with(set.path(), &quick(), &previous);
    // Two stacks of 0.1.0 with one name cannot be in an account: their dashboards would have one, too.
    let abroad = Stack::deploy_in("eu-central-1", set.path(), &quick(), &previous);
    let mut stacks = [one, beside, abroad];
    let before = stacks.each_ref().map(|stack| {
        let hit = had(stack, "tree");
        assert_eq!(asked(stack, "failing.patient").status, 202);
        let (build, _) = listener.accept().expect("the build asks");
        (stack.made(), hit.header("x-binplz-sha256").expect("a hit").to_owned(), build)
    });
    for stack in &mut stacks {
        stack.update(set.path(), &quick(), &[]);
    }
    for (stack, (made, sha256, mut build)) in stacks.iter().zip(before) {
        let now = stack.made();
        assert_eq!(changed(&made, &now), REPLACED.map(str::to_owned).into(), "{}", stack.region);
        for kept in
            ["Table", "Bucket", "CacheSecret", "Images", "ApiLog", "BuilderLog", "BuilderSecurityGroup", "SubnetA"]
        {
            assert!(made.contains_key(kept) && made.get(kept) == now.get(kept), "{kept}");
        }
        let gone: Vec<_> = made.iter().filter(|(name, _)| !now.contains_key(*name)).map(|(_, id)| id.clone()).collect();
        let left = inventory(&stack.region);
        assert!(!gone.is_empty() && gone.iter().all(|id| !left.contains(id)), "{gone:?}");
        // The program is served as it is, and the build goes on.
        assert_eq!(stack.get("/tree").header("x-binplz-sha256"), Some(sha256.as_str()));
        assert_eq!(stack.status("failing.patient")["state"], "building");
        build.write_all(b"go on\n").expect("it listens");
        assert_eq!(stack.settled("failing.patient").status, 302);
        let shown = stack.status("failing.patient");
        assert_eq!((shown["attempt"].as_u64(), stack.builders().len()), (Some(1), 2), "{shown}");
        // The next task is of the new image.
        assert_eq!(stack.settled("dash").status, 302);
    }
    for stack in stacks {
        let (region, (made, kept)) = (stack.region.clone(), remembered(&stack));
        drop(stack);
        assert_eq!(&inventory(&region) & &made, kept, "{region}");
    }
}
