//! Two stacks of one name, in two regions of an account.

use binplz_tests::{server::fresh_set, stack::Stack};

use crate::watched::policy;

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn a_stack_of_the_same_name_in_another_region_is_deployed_and_each_builds_its_own() {
    let set = fresh_set("");
    let dashboard = ["--parameter=MakeDashboard=yes"];
    let stack = Stack::deploy_with(set.path(), &policy(), &dashboard);
    let twin = stack.twin("eu-central-1", set.path(), &policy(), &dashboard);
    // What is named in all regions at once: roles, buckets, dashboards.
    let dashboard = |region: &str| format!("{}-{region}", stack.name);
    assert!(
        twin.resources().contains(&dashboard("eu-central-1")) && stack.resources().contains(&dashboard("us-east-1"))
    );
    let global = |one: &Stack| one.resources().into_iter().filter(|id| id.contains("Role-") || id.contains("-bucket-"));
    assert!(global(&stack).count() > 7 && global(&stack).all(|id| global(&twin).all(|other| other != id)));
    for one in [&stack, &twin] {
        assert_eq!(one.get("/dash").status, 202);
        assert_eq!(one.settled("dash").status, 302);
    }
}
