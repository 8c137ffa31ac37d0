//! Forty packages over a shared graph of twelve dependencies, all requested at once while the builders' cache is empty. Asked of every
//! kind of deployment.

use std::thread;

use crate::site::Site;

/// What each of the dependencies 1 to 12 needs.
const NEEDS: [&[usize]; 12] = [&[], &[1], &[1], &[2, 3], &[4], &[4], &[4], &[5], &[6, 7], &[8], &[9], &[10, 11]];
/// The packages.
pub const PACKAGES: usize = 40;

/// The set's attributes, for [`crate::server::fresh_set`]: the packages are `failing.many0` and so on. `builds`: what a dependency's
/// build does, in shell; `$pname` is its name.
pub fn packages(builds: &str) -> String {
    let needs = |needs: &[usize]| needs.iter().map(|n| format!(": ${{pkgs.failing.shared{n}}}; ")).collect::<String>();
    let dependency = |(n, needed): (usize, &&[usize])| {
        let n = n + 1;
        let builds = format!("{}{builds}; $CC -o program ${{good}}", needs(needed));
        format!("  shared{n} = package \"shared{n}\" {{ buildPhase = ''{builds}''; }};\n")
    };
    let package = |n: usize| {
        let builds = format!("{}$CC -o program ${{good}}", needs(&[4 + n % 9]));
        format!("  many{n} = package \"many{n}\" {{ buildPhase = ''{builds}''; }};\n")
    };
    NEEDS.iter().enumerate().map(dependency).chain((0..PACKAGES).map(package)).collect()
}

/// Requests all packages at once, and waits until they are there. Each dependency was built once, for all; returns how often a build
/// was started, all packages together.
pub fn each_dependency_is_built_once(site: &Site) -> u64 {
    let packages: Vec<String> = (0..PACKAGES).map(|n| format!("failing.many{n}")).collect();
    thread::scope(|scope| {
        packages.iter().for_each(|package| drop(scope.spawn(move || site.get(&format!("/{package}")))))
    });
    let statuses = packages.iter().map(|package| {
        let answer = site.settled(package);
        assert_eq!(answer.status, 302, "{package}: {}", answer.text());
        site.status(package)
    });
    statuses.map(|status| status["derivations_started"].as_u64().expect("a number")).sum()
}

/// How many derivations there are to build.
pub const DERIVATIONS: u64 = PACKAGES as u64 + NEEDS.len() as u64;
