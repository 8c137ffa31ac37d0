//! Text survives quoting for the shell unchanged. The stub's own work is tested with a real server
//! (`tests/tests/e2e/clients/`).

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

use binplz_core::{
    answer::stub::{LINE_MAX, installer, line, stub},
    id::{
        target::{Query, Target, Wanted},
        text::clean_line,
    },
};
use proptest::prelude::*;

const STUB: &str = concat!(include_str!("../src/answer/stub/stub.sh"), include_str!("../src/answer/stub/steps.sh"));
const INSTALLER: &str =
    concat!(include_str!("../src/answer/stub/install.sh"), include_str!("../src/answer/stub/steps.sh"));

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

/// The lines that were made for a target, over a function that shows what it is called with.
fn call(script: &str, fixed: &str) -> String {
    let made = script.strip_prefix(fixed).expect("the functions first");
    format!("binplz() {{ printf '<%s>\\n' \"$@\"; }}\n{made}")
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
        for (script, fixed) in [(stub(ORIGIN, &target), STUB), (installer(ORIGIN, &target), INSTALLER)] {
            let parsed = sh(&["dash", "-n"], &script);
            prop_assert!(parsed.status.success(), "{}", String::from_utf8_lossy(&parsed.stderr));
            let out = sh(&["dash"], &call(&script, fixed));
            let mut expected = format!("<{ORIGIN}>\n<{target}>\n<{name}>\n");
            if fixed == INSTALLER {
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
    for (script, fixed) in [(stub(ORIGIN, &target), STUB), (installer(ORIGIN, &target), INSTALLER)] {
        // Anywhere in what was made for it, and here and there before; all but the last line's end is too short.
        let ends = (0..fixed.len()).step_by(37).chain(fixed.len()..script.len() - 1);
        for end in ends {
            // Its first command is uname.
            let watched = format!("uname() {{ echo started >&2; exit; }}\n{}", &script[..end]);
            let out = sh(&["dash"], &watched);
            assert!(!String::from_utf8_lossy(&out.stderr).contains("started"), "cut at {end}");
        }
        let whole = sh(&["dash"], &format!("uname() {{ echo started >&2; exit; }}\n{script}"));
        assert!(String::from_utf8_lossy(&whole.stderr).contains("started"));
    }
}

#[test]
fn every_shell_reads_them() {
    let target = Query::parse("tree", None).expect("a target").target;
    for script in [stub(ORIGIN, &target), installer(ORIGIN, &target)] {
        for shell in [&["dash", "-n"][..], &["bash", "--posix", "-n"], &["busybox", "sh", "-n"]] {
            let out = sh(shell, &script);
            assert!(out.status.success(), "{shell:?}: {}", String::from_utf8_lossy(&out.stderr));
        }
    }
}
