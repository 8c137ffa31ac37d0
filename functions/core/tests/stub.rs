//! Text survives quoting for the shell unchanged. The stub's own work is tested with a real server
//! (`tests/tests/e2e/clients/`).

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

use binplz_core::{
    answer::stub::{LINE_MAX, SECOND, installer, line, second_sum, stub},
    id::{
        target::{Query, Target, Wanted},
        text::clean_line,
    },
};
use proptest::prelude::*;

const ORIGIN: &str = "https://binplz.example";

fn sh(shell: &[&str], script: &str) -> Output {
    let mut child = Command::new(shell[0])
        .args(&shell[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a shell");
    child.stdin.take().expect("its input").write_all(script.as_bytes()).expect("it reads");
    child.wait_with_output().expect("it ends")
}

/// Everything that a valid attribute or program's name may hold, and mostly what a shell would like to read.
fn wanted() -> impl Strategy<Value = Wanted> {
    let attr = "[A-Za-z0-9_][A-Za-z0-9_+'-]{0,9}(\\.[A-Za-z0-9_+'-]{1,9}){0,2}";
    let bin = "[A-Za-z0-9_\\[][]A-Za-z0-9_.+'\\[@:,=~-]{0,20}";
    (attr, proptest::option::of(bin)).prop_filter_map("names", |(attr, bin)| {
        let attr = attr.parse().ok()?;
        Some(match bin {
            Some(bin) => Wanted::Program(attr, bin.parse().ok()?),
            None => Wanted::Package(attr),
        })
    })
}

fn stub_of(target: &Target) -> String {
    stub(ORIGIN, target, "3 ahead in the queue", true)
}

/// Where the line begins that was made for a target, behind the functions.
fn last_line(script: &str) -> usize {
    script.rfind("\n{ binplz ").expect("the call") + 1
}

/// The call, over a function that shows what it is called with.
fn call(script: &str) -> String {
    format!("binplz() {{ printf '<%s>\\n' \"$@\"; }}\n{}", &script[last_line(script)..])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_line_that_is_run_says_what_it_says_and_fails(sentence in "[^\0]{0,60}|['\"$`\\\\;&|<>(){}!#*?~\n\r\x1b\u{202e} a]{0,40}") {
        let line = line(&sentence);
        prop_assert_eq!(line.matches('\n').count(), 1);
        let out = sh(&["dash"], &line);
        let said = clean_line(&sentence, LINE_MAX);
        prop_assert_eq!(String::from_utf8_lossy(&out.stderr), format!("binplz: {said}\n"));
        prop_assert_eq!((out.status.code(), out.stdout.len()), (Some(1), 0));
    }

    #[test]
    fn the_stub_and_the_installer_of_any_name_are_shell_that_hands_on_the_very_name(
        wanted in wanted(), query in prop::sample::select(&["", "sys=x86_64-linux", "pin=nixos-26.05", "sys=aarch64-linux&nixpkgs-commit=0ba2543"][..]),
    ) {
        let target = Query::parse(&wanted.to_string(), Some(query)).expect("a target").target;
        let name = target.wanted.file_name();
        for (script, installs) in [(stub_of(&target), false), (installer(ORIGIN, &target), true)] {
            let parsed = sh(&["dash", "-n"], &script);
            prop_assert!(parsed.status.success(), "{}", String::from_utf8_lossy(&parsed.stderr));
            let out = sh(&["dash"], &call(&script));
            let mut expected = format!("<{ORIGIN}>\n<{target}>\n<{name}>\n");
            if installs {
                let docs = Target { wanted: Wanted::Archive(target.wanted.attr().clone()), ..target.clone() };
                expected += &format!("<{docs}>\n");
            }
            prop_assert_eq!(String::from_utf8_lossy(&out.stdout), expected);
            prop_assert_eq!(out.stderr.len(), 0);
        }
    }
}

#[test]
fn what_was_cut_off_anywhere_does_nothing() {
    let target = Query::parse("coreutils/%5B", None).expect("a target").target;
    for (script, first) in [(stub_of(&target), "curl() { false; }\nsleep"), (installer(ORIGIN, &target), "uname")] {
        // Anywhere in the line that was made for it, and here and there before; all but that line's end is too short.
        let fixed = last_line(&script);
        let ends = (0..fixed).step_by(37).chain(fixed..script.len() - 1);
        // What it does first of all.
        let watch = format!("{first}() {{ echo started >&2; exit; }}\n");
        for end in ends {
            let out = sh(&["dash"], &format!("{watch}{}", &script[..end]));
            assert!(!String::from_utf8_lossy(&out.stderr).contains("started"), "cut at {end}");
        }
        let whole = sh(&["dash"], &format!("{watch}{script}"));
        assert!(String::from_utf8_lossy(&whole.stderr).contains("started"));
    }
}

#[test]
fn a_terminal_is_not_flooded_and_a_redirect_is_small() {
    let target = Query::parse("tree", None).expect("a target").target;
    let stub = stub_of(&target);
    assert!(stub.lines().count() < 40, "{} lines", stub.lines().count());
    assert!(stub.len() <= 1500, "{} bytes", stub.len());
    let first: Vec<&str> = stub.lines().take(4).collect();
    assert!(first[1].contains("This script becomes the program"), "{first:?}");
    assert!(first[2].contains("curl -L 'https://binplz.example/tree?wait' -o tree"), "{first:?}");
    assert_eq!(first[3], "# State: 3 ahead in the queue");
}

#[test]
fn a_foreign_text_in_its_state_stays_a_comment() {
    let target = Query::parse("tree", None).expect("a target").target;
    let stub = stub(ORIGIN, &target, "x\necho pwned\r\u{1b}[31m\u{2028}echo pwned", false);
    assert_eq!(stub.lines().nth(4), Some("binplz() {"), "{stub}");
}

#[test]
fn its_second_part_has_the_sum_that_it_asks_for_as_a_shell_keeps_it() {
    let target = Query::parse("tree", None).expect("a target").target;
    assert!(stub_of(&target).contains(&format!("sum={} ", second_sum())));
    // `$(…)` drops the last newline, and the check adds it again.
    assert!(SECOND.ends_with("\n# end\n") && SECOND.starts_with("# binplz's "));
}

#[test]
fn every_shell_reads_them() {
    let target = Query::parse("tree", None).expect("a target").target;
    for script in [stub_of(&target), SECOND.to_owned(), installer(ORIGIN, &target)] {
        for shell in [&["dash", "-n"][..], &["bash", "--posix", "-n"], &["busybox", "sh", "-n"]] {
            let out = sh(shell, &script);
            assert!(out.status.success(), "{shell:?}: {}", String::from_utf8_lossy(&out.stderr));
        }
    }
}
