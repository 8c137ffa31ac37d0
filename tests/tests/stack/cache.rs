//! The Nix cache that builders share, in a stack's bucket: what one task has built for its package, another one fetches; who is not a
//! builder reads nothing of it; and a task that lies, or wants more than it may, adds nothing to it.

use std::io::Write;

use binplz_core::{
    id::key::StoreHash,
    objects::{
        artifact::{CacheName, ObjectName},
        narinfo::{Narinfo, StoreDir},
    },
};
use binplz_nar::Packer;
use binplz_tests::{
    cache::{PACKAGES, the_first_one_builds_what_it_needs, the_second_one_fetches_it},
    http,
    leases::Lease,
    site::wait_for,
    stack::podman,
};
use serde_json::{Value, json};

use crate::watched::{Watched, endpoint, watched};

/// The store paths that the cache has.
fn cached(w: &Watched) -> Vec<StoreHash> {
    let path = |key: String| match key.strip_prefix("cache/")?.parse() {
        Ok(ObjectName::Narinfo(path)) => Some(path),
        _ => None,
    };
    w.keys("cache/").into_iter().filter_map(path).collect()
}

fn url(w: &Watched, key: &str) -> String {
    format!("{}/{}/{key}", endpoint(), w.outputs["Bucket"])
}

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn of_two_packages_that_need_a_slow_one_the_second_task_fetches_it() {
    let w = watched(PACKAGES, &[]);
    the_first_one_builds_what_it_needs(&w);
    let [slow] = &wait_for("the promotion", || Some(cached(&w)).filter(|cached| !cached.is_empty()))[..] else {
        panic!("no other package needs the packages themselves")
    };
    wait_for("an empty quarantine", || w.keys("quarantine/").is_empty().then_some(()));
    wait_for("the cache to be known", || w.keys(&CacheName::PublicKey.to_string()).pop());
    the_second_one_fetches_it(&w);
    assert_eq!(cached(&w), std::slice::from_ref(slow));
    // It is for builders: other clients can neither read nor list it.
    for key in w.keys("cache/") {
        assert_eq!(http::ask("GET", &url(&w, &key), &[], b"").status, 403, "{key}");
    }
    assert_eq!(http::ask("GET", &url(&w, "?list-type=2&prefix=cache/"), &[], b"").status, 403);
}

/// What is offered comes in although the promoter is killed after these requests. Lambda runs it three times for an event.
fn comes_in_all_the_same(kills: [(&str, u32); 2]) {
    let w = watched(PACKAGES, &[]);
    for (operation, nth) in kills {
        let at = json!({ "function": "Promoter", "service": "s3", "operation": operation });
        w.scenario.fault(&json!({ "at": at, "nth": nth, "do": "kill-after" }));
    }
    the_first_one_builds_what_it_needs(&w);
    wait_for("an empty quarantine", || w.keys("quarantine/").is_empty().then_some(()));
    wait_for("the cache to be known", || w.keys(&CacheName::PublicKey.to_string()).pop());
    assert_eq!(cached(&w).len(), 1);
    the_second_one_fetches_it(&w);
}

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn where_the_promoter_is_killed_while_it_copies_what_was_offered_comes_in_all_the_same() {
    // The file copied; then, copied again, its narinfo written.
    comes_in_all_the_same([("PutObject", 1), ("PutObject", 3)]);
}

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn where_the_promoter_is_killed_when_all_is_copied_what_was_offered_comes_in_all_the_same() {
    // The quarantine cleared; then, said of which store the cache is, and by which key it is signed.
    comes_in_all_the_same([("POST.s3", 1), ("PutObject", 4)]);
}

/// The lease of the one task that runs, as it was told of it.
fn lease(w: &Watched, container: &str) -> Lease {
    let shown = podman().args(["inspect", container]).output().expect("podman");
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    let variable = |name: &str| {
        let variables = shown[0]["Config"]["Env"].as_array().expect("variables").iter();
        let value = variables.filter_map(|v| v.as_str()?.strip_prefix(name)?.strip_prefix('=')).next();
        value.expect("it is told").to_owned()
    };
    Lease::read(w, &variable("BINPLZ_LEASE_URL"), &variable("BINPLZ_LEASE_TOKEN")).expect("it is this service's")
}

/// What a shell in the task's container says to the bucket, without credentials as it is; the answer's status.
fn from_within(w: &Watched, container: &str, method: &str, key: &str, body: &str) -> u16 {
    let at = endpoint().replace("http://", "");
    let (host, port) = at.split_once(':').expect("a port");
    let request = format!(
        "{method} /{}/{key} HTTP/1.1\r\nHost: {at}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        w.outputs["Bucket"],
        body.len()
    );
    let script = format!(
        "exec 3<>/dev/tcp/{host}/{port}; printf %s \"$1\" >&3; IFS=' ' read -r _ status _ <&3; echo \"$status\""
    );
    let said = podman().args(["exec", container, "bash", "-c", &script, "-", &request]).output().expect("podman");
    let status = String::from_utf8_lossy(&said.stdout).trim().parse();
    status.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&said.stderr)))
}

const STUCK: &str = r#"
  stuck = package "stuck" { buildPhase = "while :; do echo still at it; sleep 1; done"; };
  needsStuck = package "needsStuck" { buildPhase = "${pkgs.failing.stuck}/bin/stuck"; };
"#;

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn a_task_that_lies_of_what_it_made_or_wants_more_than_to_offer_it_is_refused() {
    let w = watched(&[PACKAGES, STUCK].concat(), &[]);
    assert_eq!(w.get("/failing.needsStuck").status, 202);
    w.is_being_built("failing.needsStuck");
    let [container] = &w.stack.containers()[..] else { panic!("one task runs") };
    let lease = lease(&w, container);

    // From its network it may read what is in the cache, and nothing else; and write nothing without a grant.
    let slow = "cache/nix-cache-info";
    w.put_as_the_account(slow, b"StoreDir: /nix/store\n");
    assert_eq!(from_within(&w, container, "GET", slow, ""), 200);
    let [plan] = &w.keys("quarantine/")[..] else { panic!("it said what it is going to make") };
    for (method, key) in [
        ("GET", plan.as_str()),
        ("PUT", slow),
        ("PUT", "cache/x.narinfo"),
        ("PUT", "quarantine/x"),
        ("DELETE", slow),
        ("GET", "?list-type=2"),
    ] {
        assert_eq!(from_within(&w, container, method, key, "x"), 403, "{method} {key}");
    }
    assert_eq!(http::ask("GET", &url(&w, slow), &[], b"").status, 403, "and here, outside of it, not even that");

    // What it may offer is known by now. So it offers that, with other content than its narinfo says, and signed by itself.
    let planned: Vec<StoreHash> = serde_json::from_slice(&w.object(plan)).expect("hashes");
    // And the package itself.
    let [path, _] = &planned[..] else { panic!("{planned:?}") };
    let (file, narinfo) = tampered(path);
    let text = narinfo.signed(&StoreDir::default(), "binplz-1:AAAA");
    let nar = ObjectName::Nar(narinfo.packed.sha256.clone()).to_string();
    let offered = ObjectName::Narinfo(path.clone()).to_string();
    for (name, content) in [(&nar, &file[..]), (&offered, text.as_bytes())] {
        assert_eq!(lease.upload(name, content), 200, "{name}");
        assert_eq!(lease.upload(name, content), 412, "{name} is there, and stays");
        // The grant is of its own home's, and of that name's.
        for (from, to) in
            [("/failing.needsStuck/", "/failing.slow/"), ("quarantine/", "cache/"), (&**name, "plan.json")]
        {
            assert_eq!(lease.upload_to(name, content, |url| url.replace(from, to)), 403, "{to}");
        }
    }
    assert_eq!(lease.settle_as_failed(1), 200);
    wait_for("an empty quarantine", || w.keys("quarantine/").is_empty().then_some(()));
    assert_eq!(cached(&w), []);
    // What is what it says is let in.
    the_first_one_builds_what_it_needs(&w);
    let let_in = wait_for("the promotion", || Some(cached(&w)).filter(|cached| !cached.is_empty()));
    assert!(let_in.len() == 1 && !let_in.contains(path), "{let_in:?}");
}

/// A file, and a narinfo of it that says of its content what it is not.
fn tampered(path: &StoreHash) -> (Vec<u8>, Narinfo) {
    let mut file = Vec::new();
    let mut packer = Packer::new(&mut file, u64::MAX);
    packer.write_all(b"a compiler that adds something to what it compiles").expect("memory");
    let (packed, mut nar) = packer.finish().expect("memory");
    nar.sha256 = packed.sha256.clone();
    let name = |what: &str| format!("{path}-{what}").parse().expect("a name");
    (file, Narinfo { path: name("stuck-1.0"), packed, nar, references: vec![], deriver: None })
}
