//! The cost of requests for unknown names, as AWS sees it.

use binplz_tests::{answers::Running, site::wait_for};

use crate::{operate::order, watched::watched};

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn names_that_nobody_has_start_no_task_and_cost_reads_only() {
    let watched = watched("", &["--parameter=Names=known"]);
    assert_eq!(watched.settled("tree").status, 302);
    wait_for("the catalogue", || {
        let look = watched.send("HEAD", "/no-such-thing-exists", &[], b"");
        look.header("x-binplz-catalogue").is_none().then_some(())
    });
    assert_eq!(watched.get("/xxhsun").status, 404);
    let told = order(&watched, &["catalogue", "--lost"]);
    assert!(told.contains("      1  infinite recursion encountered\n         failing.infiniteRecursion\n"), "{told}");
    let (tasks, from) = (watched.builders(), watched.scenario.log().len());
    for number in 0..300 {
        assert_eq!(watched.get(&format!("/unknown-{number}")).status, 404);
    }
    for near in ["tre", "treee", "rtee", "hell", "helloo", "hlelo", "gnugrap", "xxhsun", "games.figlit", "kello"] {
        assert!(watched.get(&format!("/{near}")).text().contains("did you mean"), "{near}");
    }
    let asked = watched.scenario.log().into_iter().skip(from);
    let asked: Vec<String> = asked.filter(|r| r.function.as_deref() == Some("Api")).map(|r| r.what()).collect();
    let reads = ["Api lambda:Invoke", "Api lambda:Next", "Api dynamodb:GetItem"];
    // The catalogue itself was read before: it is in memory.
    let other: Vec<_> = asked.iter().filter(|what| !reads.contains(&what.as_str())).collect();
    assert!(asked.len() > 900 && other.is_empty(), "{other:?}");
    assert_eq!(watched.builders(), tasks);
    // Clients that wait are held by another function, which resolves the name too.
    let begins = watched.get("/xxhsum?wait");
    let hop = begins
        .header("location")
        .and_then(|url| url.strip_prefix(watched.origin().as_str()))
        .expect("a hop")
        .to_owned();
    assert_eq!((begins.status, watched.get(&hop).status), (303, 303), "{hop}");
    assert_eq!(watched.settled("xxhsum").status, 302);
}
