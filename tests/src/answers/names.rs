//! What names mean: the contract's section 1, rule by rule, and what asking for what is not there starts.

use std::process::Command;

use binplz_core::build::policy::{Names, Policy};

use super::{Running, Start, quick};
use crate::{
    server::{demo_set, named_set},
    site::{Site, wait_for},
};

/// Names and the package that each means. Rules: 1, the attribute; 2a, whose main program it is; 2b, who is called so; 2c, the first by
/// name; and within the last three, what can be built first.
const PACKAGES: &[(&str, &str)] = &[
    // 1, by a main program that is declared, is called like the package, or is the only one.
    ("tree", "tree"),
    ("pager", "pager"),
    ("viewer", "viewer"),
    ("gnugrep", "gnugrep"),
    ("xxHash", "xxHash"),
    ("ncompress", "ncompress"),
    ("solo", "solo"),
    ("suite", "suite"),
    ("imagetools", "imagetools"),
    ("alias", "alias"),
    // Nested ones, too.
    ("games.figlet", "games.figlet"),
    ("luaPackages.lua", "luaPackages.lua"),
    ("nested.psx", "nested.psx"),
    ("failing.compileError", "failing.compileError"),
    // 2a
    ("grep", "gnugrep"),
    ("xxhsum", "xxHash"),
    ("compress", "ncompress"),
    ("figlet", "games.figlet"),
    ("convertx", "imagetools"),
    ("agx", "silverfinder"),
    ("page", "pager"),
    ("picky", "d-good"),
    // 2b
    ("psx", "nested.psx"),
    ("topx", "proc-tools"),
    // 2c
    ("zcatx", "zip-a"),
    ("zgrepx", "zip-a"),
    // A program that one package ships, main or not.
    ("sponge", "moreutils"),
    ("the-only-one", "solo"),
    ("kit-cut", "kit"),
    ("view-more", "viewer"),
    // One program of one package. A package whose programs are unknown may have any.
    ("kit/kit-paste", "kit"),
    ("moreutils/%5B", "moreutils"),
    ("zip-b/zcatx", "zip-b"),
    ("hello/anything", "hello"),
];

/// Paths that mean no build: the status, and words of the answer.
const OTHERS: &[(&str, u16, &str)] = &[
    // Several programs and no main one.
    ("kit", 300, "kit/kit-cut kit/kit-paste"),
    ("zip-b", 300, "zip-b/zcatx zip-b/zgrepx zip-b/zip-bb"),
    ("moreutils", 300, "moreutils/sponge"),
    // Nothing of that name, and what is near.
    ("tre", 404, "no package or program tre; did you mean tree"),
    ("gnugerp", 404, "did you mean gnugrep?"),
    ("spnoge", 404, "did you mean sponge?"),
    ("games.figlte", 404, "did you mean games.figlet?"),
    ("xyzzy-plugh-nothing-like-it", 404, "there is no package or program xyzzy-plugh-nothing-like-it"),
    ("tere/bin", 404, "there is no package tere; did you mean tree"),
    ("kit/kit-glue", 404, "kit has no program kit-glue; it has kit-cut, kit-paste"),
    ("a-toolbox/picky", 404, "a-toolbox has no program picky; it has a-toolbox"),
    // What cannot be had.
    ("failing.broken", 422, "failing.broken: it is marked broken"),
    ("failing.unsupported", 422, "not available on this system"),
    ("failing.insecure", 422, "CVE-1970-0001"),
    ("failing.unfree", 422, "licence is unfree"),
    ("failing.evaluationError", 422, "this package cannot be evaluated"),
    ("failing.infiniteRecursion", 422, "infinite recursion"),
    ("vulnx", 422, "vulnerable: it is marked insecure in this nixpkgs: CVE-1970-0002"),
    ("c-broken", 422, "c-broken: it is marked broken"),
    ("oldname", 422, "oldname was renamed to solo"),
];

fn known() -> Policy {
    Policy { names: Names::Known, ..quick() }
}

pub fn names_mean_what_the_contracts_order_says_and_nothing_is_built_to_find_out(at: &impl Start) {
    let set = named_set();
    let site = at.start(set.path(), &known());
    assert_eq!(site.catalogued("tree").status, 302);
    let built = site.builders();
    assert!(PACKAGES.len() + OTHERS.len() >= 40);
    for (name, package) in PACKAGES {
        let status = site.status(name);
        assert_eq!(status["package"], *package, "{name}: {status}");
        // The alias is of the same derivation.
        let made = ["tree", "alias"].contains(package);
        assert_eq!(status["state"], if made { "ready" } else { "unasked" }, "{name}");
        assert_eq!(site.send("HEAD", &format!("/{name}"), &[], b"").header("x-binplz-catalogue"), None, "{name}");
    }
    for (name, status, words) in OTHERS {
        let answer = site.get(&format!("/{name}"));
        // The line is shell: unquoted, it is what a person reads.
        let line = answer.text().replace("'\\''", "'");
        assert_eq!((answer.status, line.lines().count()), (*status, 1), "{name}: {line}");
        assert!(line.contains(words), "{name}: {line}");
        assert_eq!(answer.header("x-binplz-catalogue"), None, "{name}");
        let page = site.send("GET", &format!("/{name}"), &[("accept", "text/html")], b"");
        assert_eq!(page.status, *status, "{name}");
    }
    let near = site.send("GET", "/gnugerp", &[("accept", "text/html")], b"").text();
    assert!(near.contains("href=\"/-/status/gnugrep\""), "{near}");
    assert_eq!(site.builders(), built);
}

pub fn a_program_is_served_by_its_own_name_and_says_of_which_package_it_is(at: &impl Start) {
    let set = named_set();
    let site = at.start(set.path(), &known());
    site.catalogued("tree");
    let wanted =
        [("xxhsum", "xxHash", "xxhsum"), ("compress", "ncompress", "compress"), ("sponge", "moreutils", "sponge")];
    for (name, ..) in wanted {
        assert_eq!(site.get(&format!("/{name}")).status, 202, "{name}");
    }
    for (name, package, program) in wanted {
        let hit = site.settled(name);
        assert_eq!((hit.status, hit.header("x-binplz-package")), (302, Some(package)), "{name}: {}", hit.text());
        // A browser saves it under its name.
        let named = [format!("/{program}"), format!("filename%3D%22{program}%22")];
        assert!(
            hit.header("location").is_some_and(|url| url.ends_with(&named[0]) || url.contains(&named[1])),
            "{hit:?}"
        );
        assert!(site.download(name).starts_with(b"\x7fELF"), "{name}");
        // Under each of its names it is one build, with one log.
        assert!(site.get(&format!("/-/log/{name}")).text().contains(&format!("{package} for ")), "{name}");
    }
    // What was built wins: the database has it, and the package has no such program.
    let gone = site.get("/moreutils/%5B");
    assert_eq!(gone.status, 404, "{}", gone.text());
}

pub fn until_there_is_a_catalogue_names_are_attributes_and_every_answer_says_so(at: &impl Start) {
    // A set whose database of programs cannot be read to its end never gets one.
    let set = named_set();
    let unreadable = "INSERT INTO Programs (name, system, package) VALUES (x'ff', 'x86_64-linux', 'tree')";
    let mut sqlite = Command::new("sqlite3");
    sqlite.arg("-bail").arg(set.path().join("programs.sqlite")).arg(unreadable);
    assert!(sqlite.status().expect("sqlite3").success());
    let site = at.start(set.path(), &Policy { attempts: 1, ..known() });
    let first = site.get("/tree");
    assert_eq!((first.status, first.header("x-binplz-catalogue")), (202, Some("missing")));
    assert_eq!(site.settled("tree").status, 302);
    let unknown = site.settled("grep");
    assert_eq!((unknown.status, unknown.header("x-binplz-catalogue")), (404, Some("missing")));
    assert!(unknown.text().contains("there is no package grep; the catalogue of this commit is not built yet"));
    let unbuilt = site.send("HEAD", "/xxHash", &[], b"");
    assert_eq!((unbuilt.status, unbuilt.header("x-binplz-catalogue")), (404, Some("missing")));
}

pub fn an_open_service_tries_what_its_catalogue_does_not_know(at: &impl Start) {
    let site = at.start(&demo_set(), &Policy { names: Names::Open, ..quick() });
    site.catalogued("tree");
    assert_eq!(site.status("grep")["package"], "gnugrep");
    // A set that the survey does not enter still resolves; a missing attribute does not.
    assert_eq!(site.get("/nothing.like.it").status, 202);
    let nothing = site.settled("nothing.like.it");
    assert_eq!((nothing.status, nothing.header("x-binplz-catalogue")), (404, None));
}

impl Site {
    /// Asks for a package, and waits until it is built and the catalogue of its nixpkgs is made.
    pub(super) fn catalogued(&self, package: &str) -> crate::http::Answer {
        let settled = self.settled(package);
        wait_for("the catalogue", || {
            let look = self.send("HEAD", "/no-such-thing-exists", &[], b"");
            look.header("x-binplz-catalogue").is_none().then_some(())
        });
        settled
    }
}
