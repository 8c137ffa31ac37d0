//! Waiting through a gateway that ends a request after 30 s, in functions of which only so many may run.

use std::{
    fs,
    io::Write,
    net::TcpStream,
    process::{Command, Stdio},
    sync::Mutex,
    thread::scope,
};

use binplz_core::build::policy::Policy;
use binplz_tests::{answers::quick, gate::Gate, http, server::fresh_set, site::wait_for, stack::Stack};

/// A stack, a package whose build waits for the test, and a hit.
fn stack(policy: &Policy, more: &[&str]) -> (Stack, Gate) {
    let gate = Gate::new("gated");
    let set = fresh_set(&gate.package());
    let stack = Stack::deploy_with(set.path(), policy, more);
    assert_eq!(stack.settled("tree").status, 302);
    assert_eq!(stack.get(&format!("/{}", gate.target())).status, 202);
    gate.arrived();
    (stack, gate)
}

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn one_command_brings_the_binary_of_a_build_that_takes_longer_than_three_requests_may() {
    let (stack, gate) = stack(&quick(), &[]);
    let home = tempfile::tempdir().expect("a temporary directory");
    let (file, told) = (home.path().join("gated"), home.path().join("told"));
    let mut curl = Command::new("curl")
        .args(["-svL", &format!("{}/{}?wait", stack.origin(), gate.target()), "-o"])
        .arg(&file)
        .stderr(fs::File::create(&told).expect("a file"))
        .stdout(Stdio::null())
        .spawn()
        .expect("curl");
    // Three hops of 25 s are over by then.
    wait_for("the fourth hop", || fs::read_to_string(&told).expect("a file").contains("/-/wait/4/").then_some(()));
    gate.open();
    assert!(curl.wait().expect("a child").success(), "{}", fs::read_to_string(&told).expect("a file"));
    assert!(fs::read(file).expect("the program") == stack.download(&gate.target()));
}

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn of_five_hundred_who_want_to_wait_ten_do_and_no_hit_is_kept_from_being_answered() {
    let policy = Policy { waiters: 10, ..quick() };
    let (stack, gate) = stack(&policy, &["--parameter=Waiters=10", "--parameter=ReserveWaiters=yes"]);
    let target = format!("/{}?wait", gate.target());
    // Everybody asks; who is sent to a hop goes there, and waits.
    let (waiting, left) = (Mutex::new(Vec::new()), Mutex::new(500));
    scope(|clients| {
        for _ in 0..20 {
            clients.spawn(|| {
                loop {
                    match &mut *left.lock().expect("a lock") {
                        0 => return,
                        more => *more -= 1,
                    }
                    let answer = stack.get(&target);
                    match answer.status {
                        202 => assert!(answer.text().starts_with("#!/bin/sh\n"), "{}", answer.text()),
                        303 => {
                            let hop = answer.header("location").expect("a hop").replace(&stack.origin(), "");
                            waiting.lock().expect("a lock").push(held(&stack, &hop));
                        }
                        other => panic!("{other}: {}", answer.text()),
                    }
                }
            });
        }
    });
    for _ in 0..20 {
        assert_eq!(stack.get("/tree").status, 302);
    }
    gate.open();
    let waiting = waiting.into_inner().expect("a lock");
    assert!(!waiting.is_empty());
    // All of them were held, or sent on; none was refused for want of room.
    for stream in waiting {
        let answer = http::receive(stream).expect("an answer");
        assert_eq!(answer.status, 303, "{}", answer.text());
    }
}

fn held(stack: &Stack, hop: &str) -> TcpStream {
    let mut stream = TcpStream::connect(&stack.address).expect("the gateway");
    let request =
        format!("GET {hop} HTTP/1.1\r\nhost: {}\r\nuser-agent: curl/8\r\nconnection: close\r\n\r\n", stack.address);
    stream.write_all(request.as_bytes()).expect("it reads");
    stream
}
