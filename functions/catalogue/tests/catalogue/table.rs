//! Names and their meaning, each rule of the resolution order by itself.

use binplz_catalogue::{Lookup, Obstacle, Standing};
use binplz_core::{
    id::key::{Attr, System},
    nixpkgs::catalogue::Resolution,
    ports::Catalogue,
};

use crate::set::{ARM, Set, X86};

/// An abbreviation for the table: `=procps/ps` found, `=x/?` found and only a build can choose the program, `300 a: x
/// y`, `404 a: x y`, `404 ~ near`, `422 a: why`; ` ~ a b` behind it: other packages with that program.
fn told(lookup: &Lookup<Vec<u8>>, path: &str, system: System) -> String {
    let list = |bins: &[binplz_core::id::key::Bin]| bins.iter().map(|bin| format!(" {bin}")).collect::<String>();
    let others = |others: Vec<Attr>| match others[..] {
        [] => String::new(),
        _ => format!(" ~{}", others.iter().map(|attr| format!(" {attr}")).collect::<String>()),
    };
    match lookup.resolve(&path.parse().expect("a path"), system) {
        Resolution::Found { attr, bin, others: more, .. } => {
            format!("={attr}/{}{}", bin.map_or("?".to_owned(), |bin| bin.to_string()), others(more))
        }
        Resolution::Choice { attr, programs } => format!("300 {attr}:{}", list(&programs)),
        Resolution::NoSuchProgram { attr, programs } => format!("404 {attr}:{}", list(&programs)),
        Resolution::Unknown { near } => {
            format!("404 ~{}", near.iter().map(|path| format!(" {path}")).collect::<String>())
        }
        Resolution::Refused { attr, failure, others: more } => {
            format!("422 {attr}: {}{}", failure.sentence(), others(more))
        }
    }
}

fn holds(set: Set, rows: &[(&str, &str)]) {
    let lookup = set.lookup();
    for (path, answer) in rows {
        assert_eq!(told(&lookup, path, X86), *answer, "{path}");
    }
}

#[test]
fn an_attribute_of_that_name_comes_first_if_its_main_program_is_known() {
    let set = Set::new()
        .package("tree", Some("tree"))
        .package("gnugrep", Some("grep"))
        .package("other", Some("ripgrep"))
        .package("ripgrep", Some("rg"))
        .package("htop", None)
        .database("htop", &["htop", "htop-more"])
        .package("only", None)
        .database("only", &["the-one"])
        .package("nested.figlet", Some("figlet"))
        .package("7zz", Some("7zz"))
        .package("_2048", Some("2048"))
        .package("aaa", None)
        .database("aaa", &["tree", "htop", "only", "grep"]);
    holds(
        set,
        &[
            ("tree", "=tree/tree ~ aaa"),
            ("gnugrep", "=gnugrep/grep"),
            ("ripgrep", "=ripgrep/rg ~ other"),
            ("htop", "=htop/htop ~ aaa"),
            ("only", "=only/the-one ~ aaa"),
            ("nested.figlet", "=nested.figlet/figlet"),
            ("7zz", "=7zz/7zz"),
            ("_2048", "=_2048/2048"),
        ],
    );
}

#[test]
fn a_programs_name_means_whose_main_program_it_is() {
    let set = Set::new()
        .package("gnugrep", Some("grep"))
        .package("busybox", Some("busybox"))
        .database("busybox", &["busybox", "grep", "ps"])
        .package("aaa", None)
        .database("aaa", &["grep", "rg", "egrep"])
        .package("ripgrep", Some("rg"))
        .package("games.figlet", Some("figlet"))
        .package("b.same", Some("twice"))
        .package("a.same", Some("twice"));
    holds(
        set,
        &[
            ("grep", "=gnugrep/grep ~ busybox aaa"),
            ("rg", "=ripgrep/rg ~ aaa"),
            ("figlet", "=games.figlet/figlet"),
            ("twice", "=a.same/twice ~ b.same"),
            ("busybox", "=busybox/busybox"),
        ],
    );
}

#[test]
fn then_the_same_name_then_the_most_requested_then_the_least_nested_then_the_first_by_name() {
    let set = Set::new()
        .package("zz.ps", Some("pgrep"))
        .database("zz.ps", &["ps", "pgrep"])
        // In the order of infra/popular.txt: procps, imagemagick, busybox, toybox. The others are not listed.
        .package("procps", None)
        .database("procps", &["ps", "top", "free"])
        .package("busybox", Some("busybox"))
        .database("busybox", &["busybox", "ps", "top", "pgrep", "convert"])
        .package("imagemagick", None)
        .database("imagemagick", &["convert", "mogrify", "identify"])
        .package("compat", None)
        .database("compat", &["convert", "mogrify"])
        .package("toybox", Some("toybox"))
        .database("toybox", &["toybox", "top"])
        .package("a.nested", None)
        .database("a.nested", &["one", "two", "three"])
        .package("zzz", None)
        .database("zzz", &["one", "two", "four"])
        .package("yyy", None)
        .database("yyy", &["two", "five"])
        .package("known", None)
        .built("known", &["five", "six"], &[]);
    holds(
        set,
        &[
            ("ps", "=zz.ps/ps ~ procps busybox"),
            ("pgrep", "=zz.ps/pgrep ~ busybox"),
            ("top", "=procps/top ~ busybox toybox"),
            ("convert", "=imagemagick/convert ~ busybox compat"),
            ("mogrify", "=imagemagick/mogrify ~ compat"),
            ("one", "=zzz/one ~ a.nested"),
            ("two", "=yyy/two ~ zzz a.nested"),
            // It was built here, so it was requested.
            ("five", "=known/five ~ yyy"),
        ],
    );
}

#[test]
fn what_can_not_be_built_here_yields_to_what_can() {
    let lookup = Set::new()
        .refused("aaa", Some("aaa"), Obstacle::Broken, None)
        .database("aaa", &["aaa", "shared", "alone"])
        .package("bbb", Some("bbb"))
        .database("bbb", &["bbb", "shared"])
        .refused("main", Some("grep"), Obstacle::Broken, None)
        .package("extra", Some("extra"))
        .database("extra", &["extra", "grep", "main", "lost"])
        .refused("lost", None, Obstacle::Fails, Some("infinite recursion encountered"))
        .record(ARM, "aaa", Some("aaa"), Standing::Buildable { drv_path: None })
        .lookup();
    for (path, answer) in [
        ("shared", "=bbb/shared"),
        // Its main program, its own attribute, and an attribute that was lost.
        ("grep", "=extra/grep"),
        ("main", "=extra/main"),
        ("lost", "=extra/lost"),
        // No other package has it.
        ("alone", "422 aaa: it is marked broken in this nixpkgs"),
        // A client that names the package gets that one, and hears of the others.
        ("aaa/shared", "422 aaa: it is marked broken in this nixpkgs ~ bbb"),
        ("bbb/shared", "=bbb/shared"),
    ] {
        assert_eq!(told(&lookup, path, X86), answer, "{path}");
    }
    assert_eq!(told(&lookup, "shared", ARM), "=aaa/shared");
}

#[test]
fn a_package_without_a_main_program_is_a_choice_or_a_build() {
    let set = Set::new()
        .package("moreutils", None)
        .built("moreutils", &["errno", "sponge"], &["ts", "vidir"])
        .package("scripts", None)
        .built("scripts", &[], &["one", "two"])
        .package("coreutils", None)
        .database("coreutils", &["ls", "cat", "["])
        .package("wrong", Some("middle"))
        .database("wrong", &["left", "right"])
        .package("unknown", None)
        .package("convert", None)
        .package("imagemagick", Some("magick"))
        .database("imagemagick", &["magick", "convert"])
        .refused("many", None, Obstacle::Unsupported, None)
        .database("many", &["a", "b"]);
    holds(
        set,
        &[
            ("moreutils", "300 moreutils: errno sponge"),
            ("scripts", "300 scripts: one two"),
            ("coreutils", "300 coreutils: [ cat ls"),
            ("wrong", "300 wrong: left right"),
            ("unknown", "=unknown/?"),
            // An attribute with unknown programs yields to a program of that name.
            ("convert", "=imagemagick/convert"),
            ("many", "422 many: it is not available on this system"),
        ],
    );
}

#[test]
fn one_program_of_a_package_must_be_one_that_it_ships() {
    let set = Set::new()
        .package("procps", Some("ps"))
        .database("procps", &["ps", "top"])
        .package("coreutils", None)
        .database("coreutils", &["[", "ls"])
        .package("unknown", Some("known"))
        .package("games.figlet", Some("figlet"))
        .refused("bad", None, Obstacle::Broken, None)
        .database("bad", &["bad-a", "bad-b"]);
    holds(
        set,
        &[
            ("procps/ps", "=procps/ps"),
            ("procps/top", "=procps/top"),
            ("procps/pss", "404 procps: ps top"),
            ("coreutils/%5B", "=coreutils/["),
            ("unknown/known", "=unknown/known"),
            ("unknown/anything", "=unknown/anything"),
            ("games.figlet/figlet", "=games.figlet/figlet"),
            ("missing/x", "404 ~"),
            ("procp/ps", "404 ~ procps"),
            ("bad/bad-a", "422 bad: it is marked broken in this nixpkgs"),
            ("bad/x", "404 bad: bad-a bad-b"),
        ],
    );
}

#[test]
fn why_a_package_can_not_be_had_comes_straight_from_the_catalogue() {
    let set = Set::new()
        .refused("broken", Some("b"), Obstacle::Broken, None)
        .refused("darwin", Some("d"), Obstacle::Unsupported, None)
        .refused("old-ssl", Some("s"), Obstacle::Insecure, Some("CVE-1970-0001"))
        .refused("steam", Some("steam"), Obstacle::Unfree, None)
        .refused("exa", None, Obstacle::Removed, Some("'exa' has been replaced by 'eza'"))
        .refused("gtk2", None, Obstacle::Problem, Some("removal: it will be removed"))
        .refused("player", None, Obstacle::Dependency, Some("flash-32 has an unfree license (‘unfree’)"))
        .refused("python2", None, Obstacle::Throws, Some("not supported for interpreter python2.7"))
        .refused("loop", None, Obstacle::Fails, Some("infinite recursion encountered"))
        .refused("forever", None, Obstacle::Endless, None)
        .refused("huge", None, Obstacle::OutOfMemory, None);
    let no_evaluation = "its Nix expression does not evaluate";
    holds(
        set,
        &[
            ("broken", "422 broken: it is marked broken in this nixpkgs"),
            ("darwin", "422 darwin: it is not available on this system"),
            ("old-ssl", "422 old-ssl: it is marked insecure in this nixpkgs: CVE-1970-0001"),
            ("s", "422 old-ssl: it is marked insecure in this nixpkgs: CVE-1970-0001"),
            ("steam", "422 steam: its licence is unfree"),
            ("exa", "422 exa: nixpkgs refuses to evaluate it: 'exa' has been replaced by 'eza'"),
            ("gtk2", "422 gtk2: nixpkgs refuses to evaluate it: removal: it will be removed"),
            (
                "player",
                "422 player: nixpkgs refuses a package that it depends on: flash-32 has an unfree license (‘unfree’)",
            ),
            ("python2", &format!("422 python2: {no_evaluation}: not supported for interpreter python2.7")),
            ("loop", &format!("422 loop: {no_evaluation}: infinite recursion encountered")),
            ("forever", &format!("422 forever: {no_evaluation}: its evaluation does not end")),
            ("huge", &format!("422 huge: {no_evaluation}: its evaluation exceeds the memory limit")),
        ],
    );
}

#[test]
fn a_name_that_is_nothing_has_near_names_that_lead_somewhere() {
    let set = Set::new()
        .package("ripgrep", Some("rg"))
        .package("imagemagick", Some("magick"))
        .package("xxHash", Some("xxhsum"))
        .package("coreutils", None)
        .database("coreutils", &["[", "ls", "sha256sum"])
        .refused("imagemagic", None, Obstacle::Throws, None)
        .refused("imagemagicks", None, Obstacle::Broken, None);
    holds(
        set,
        &[
            ("ripgrpe", "404 ~ ripgrep"),
            ("imagemagik", "404 ~ imagemagick imagemagicks"),
            ("imagemagicc", "404 ~ imagemagick imagemagicks"),
            ("xxhash", "404 ~ xxHash"),
            ("sha265sum", "404 ~ sha256sum"),
            ("l", "404 ~ ls coreutils/%5B"),
            ("nothing-like-it", "404 ~"),
            ("RIPGREP", "404 ~ ripgrep"),
        ],
    );
}

#[test]
fn names_that_differ_in_capitals_are_different_names() {
    let set = Set::new().package("tree", Some("tree")).package("Tree", Some("other")).package("TREE", Some("third"));
    holds(set, &[("tree", "=tree/tree"), ("Tree", "=Tree/other"), ("TREE", "=TREE/third")]);
}

#[test]
fn attributes_of_one_derivation_have_one_set_of_programs() {
    let lookup = Set::new()
        .derivation("python313Packages.black", 'a')
        .derivation("black", 'a')
        .derivation("other", 'b')
        .database("black", &["black", "blackd"])
        .lookup();
    assert_eq!(told(&lookup, "python313Packages.black", X86), "=python313Packages.black/black");
    assert_eq!(told(&lookup, "python313Packages.black/blackd", X86), "=python313Packages.black/blackd");
    assert_eq!(told(&lookup, "blackd", X86), "=black/blackd");
    assert_eq!(told(&lookup, "other", X86), "=other/?");
    let drv = |path: &str| match lookup.resolve(&path.parse().expect("a path"), X86) {
        Resolution::Found { drv, .. } => drv.map(|drv| drv.to_string()),
        other => panic!("{other:?}"),
    };
    assert_eq!(drv("black"), Some("a".repeat(32)));
    assert_eq!(drv("black"), drv("python313Packages.black"));
}

#[test]
fn what_was_built_is_believed_over_the_database() {
    let set = Set::new().package("x", None).database("x", &["x", "dropped"]).built("x", &["x", "gained"], &[]);
    holds(set, &[("x/dropped", "404 x: gained x"), ("x/gained", "=x/gained"), ("dropped", "404 ~")]);
}

#[test]
fn a_script_that_was_built_gives_way_to_a_program_of_that_name() {
    let set = Set::new()
        .package("moreutils", None)
        .built("moreutils", &["sponge", "errno"], &["parallel", "ts"])
        .package("pll", Some("pll"))
        .database("pll", &["pll", "parallel"]);
    holds(set, &[("parallel", "=pll/parallel"), ("ts", "=moreutils/ts"), ("moreutils/ts", "=moreutils/ts")]);
}

#[test]
fn a_system_that_nobody_evaluated_is_left_to_the_build() {
    let lookup = Set::new().package("tree", Some("tree")).refused("b", None, Obstacle::Broken, None).lookup();
    assert_eq!(told(&lookup, "tree", ARM), "=tree/tree");
    assert_eq!(told(&lookup, "b", ARM), "=b/?");
    // An attribute that was missing on an evaluated system is unsupported there.
    let lookup = Set::new()
        .package("tree", Some("tree"))
        .record(ARM, "other", Some("other"), Standing::Buildable { drv_path: None })
        .lookup();
    assert_eq!(told(&lookup, "tree", ARM), "422 tree: it is not available on this system");
    assert_eq!(told(&lookup, "other", ARM), "=other/other");
}
