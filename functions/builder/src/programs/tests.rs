//! The programs found in a `bin/`, and the failure if none of them can be served.

use std::os::unix::fs::symlink;

use super::*;

/// A package in a store of its own.
struct Package {
    dir: tempfile::TempDir,
}

impl Package {
    fn new() -> Package {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(dir.path().join("out/bin")).expect("a directory");
        Package { dir }
    }

    fn file(self, name: &str, mode: u32, content: &[u8]) -> Package {
        let path = self.dir.path().join("out/bin").join(name);
        fs::write(&path, content).expect("written");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permissions");
        self
    }

    /// A static program of that many bytes.
    fn program(self, name: &str, size: usize) -> Package {
        let mut content = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
        [1u64, 64, 0].iter().for_each(|n| content.extend(n.to_le_bytes()));
        content.extend([0; 4]);
        [64u16, 56, 1, 64, 0, 0].iter().for_each(|n| content.extend(n.to_le_bytes()));
        content.extend([1u32, 4].map(u32::to_le_bytes).concat());
        content.resize(size, 0);
        self.file(name, 0o555, &content)
    }

    fn link(self, name: &str, target: &str) -> Package {
        symlink(target, self.dir.path().join("out/bin").join(name)).expect("a link");
        self
    }

    fn inspect(&self, limits: &JobLimits, main: &[&str]) -> Vec<Found> {
        let outputs: Vec<_> =
            ["out", "tools"].map(|name| (name.parse().expect("an output's name"), self.dir.path().join(name))).into();
        let closure = Closure::new(self.dir.path(), outputs.iter().map(|(_, path)| path.to_str().expect("text")));
        inspect(&Realised { outputs, closure }, System::X86_64Linux, limits, main).expect("readable")
    }

    fn verdicts(&self, limits: &JobLimits, main: &[&str]) -> Vec<(String, Result<u64, Refusal>)> {
        let verdict = |found: Found| match found.program.verdict {
            Verdict::Static { size, .. } => (found.program.bin.to_string(), Ok(size)),
            Verdict::Refused { why } => (found.program.bin.to_string(), Err(why)),
        };
        self.inspect(limits, main).into_iter().map(verdict).collect()
    }
}

fn limits(program: u64, package: u64) -> JobLimits {
    JobLimits { program_bytes: program, package_bytes: package, ..JobLimits::default() }
}

fn named(list: &[(&str, Result<u64, Refusal>)]) -> Vec<(String, Result<u64, Refusal>)> {
    list.iter().map(|(name, verdict)| ((*name).to_owned(), verdict.clone())).collect()
}

#[test]
fn a_package_with_more_programs_than_are_served_keeps_its_main_program() {
    let many = (0..PROGRAMS_MAX + 10).fold(Package::new(), |package, n| package.file(&format!("p{n:05}"), 0o555, b""));
    let found = many.program("zz-main", 300).inspect(&limits(1000, 1000), &["zz-main"]);
    assert_eq!(found.len(), PROGRAMS_MAX);
    assert!(found.iter().any(|found| found.program.bin.as_str() == "zz-main"));
}

#[test]
fn each_file_gets_its_verdict_in_the_order_of_names() {
    let package = Package::new()
        .program("b", 200)
        .link("a", "b")
        .link("c", "/etc/passwd")
        .link("d", "nothing")
        .file("e", 0o555, b"#!/bin/sh\n")
        .file("f", 0o555, b"text")
        .file("g", 0o444, b"\x7fELF")
        .program(".hidden", 200)
        .program("a name with spaces", 200);
    fs::create_dir(package.dir.path().join("out/bin/directory")).expect("a directory");
    use Refusal::*;
    let expected = named(&[
        ("a", Ok(200)),
        ("b", Ok(200)),
        ("c", Err(OutsideLink)),
        ("d", Err(NotAProgram)),
        ("e", Err(Script)),
        ("f", Err(NotAProgram)),
        ("g", Err(NotAProgram)),
    ]);
    assert_eq!(package.verdicts(&JobLimits::default(), &[]), expected);
}

#[test]
fn what_is_stored_is_the_file_that_a_link_leads_to() {
    let package = Package::new().program("b", 200).link("a", "../bin/b");
    let found = package.inspect(&JobLimits::default(), &[]);
    assert_eq!(found[0].file, Some(package.dir.path().join("out/bin/b")));
    assert_eq!(found[0].program.verdict, found[1].program.verdict);
}

#[test]
fn a_bin_that_is_a_link_out_of_the_package_is_not_followed() {
    let package = Package::new();
    let bin = package.dir.path().join("out/bin");
    fs::remove_dir(&bin).expect("removed");
    symlink("/usr/bin", bin).expect("a link");
    assert_eq!(package.verdicts(&JobLimits::default(), &[]), []);
}

#[test]
fn a_package_that_is_too_large_in_all_serves_its_main_program_first() {
    let package = Package::new().program("a", 300).program("b", 299).program("c", 301);
    use Refusal::TooLarge;
    let a = named(&[("a", Ok(300)), ("b", Err(TooLarge)), ("c", Err(TooLarge))]);
    let b = named(&[("a", Err(TooLarge)), ("b", Ok(299)), ("c", Err(TooLarge))]);
    assert_eq!(package.verdicts(&limits(300, 500), &[]), a);
    assert_eq!(package.verdicts(&limits(300, 500), &["missing", "b"]), b);
}

#[test]
fn a_content_with_many_names_counts_once() {
    let package = (0..300)
        .fold(Package::new().program("busybox", 290), |package, n| package.link(&format!("n{n:03}"), "busybox"));
    let package = package.program("copy", 290).program("other", 200);
    let mut verdicts = package.verdicts(&limits(300, 300), &["busybox"]);
    assert_eq!(verdicts.pop(), Some(("other".to_owned(), Err(Refusal::TooLarge))));
    assert_eq!(verdicts.len(), 302);
    assert!(verdicts.iter().all(|(_, verdict)| *verdict == Ok(290)));
}

#[test]
fn a_package_of_which_nothing_can_be_served_says_why() {
    let failure = |package: &Package| failure_of(&package.inspect(&limits(1000, 2000), &[]));
    let kind = |package: &Package| failure(package).map(|failure| failure.kind);
    assert_eq!(kind(&Package::new()), Some(Kind::NoProgram));
    assert_eq!(kind(&Package::new().program("a", 1001).file("b", 0o555, b"#!")), Some(Kind::TooLarge));
    assert_eq!(kind(&Package::new().program("a", 1000).file("b", 0o555, b"#!")), None);
    let package = Package::new().file("x", 0o555, b"#!/bin/sh").link("y", "/etc/passwd");
    let expected = Failure::new(Kind::NotStatic, "`x` is a script; `y` is a link that leads out of the package");
    assert_eq!(failure(&package), Some(expected));
}
