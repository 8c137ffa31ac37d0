//! Two packages that need a third, which takes its time: the builder of the second one does not build it again. Asked of every
//! kind of deployment.

use crate::site::Site;

/// More packages for [`crate::server::fresh_set`].
pub const PACKAGES: &str = r#"
  slow = package "slow" { buildPhase = "echo slow indeed; sleep 3; $CC -o program ${good}"; };
  needsSlow = package "needsSlow" { buildPhase = "${pkgs.failing.slow}/bin/slow; $CC -o program ${good}"; };
  needsSlowToo = package "needsSlowToo" { buildPhase = "${pkgs.failing.slow}/bin/slow; $CC -o program ${good}"; };
"#;

/// Builds the first one; all that it takes.
pub fn the_first_one_builds_what_it_needs(site: &Site) {
    assert_eq!(site.settled("failing.needsSlow").status, 302);
    let log = site.get("/-/log/failing.needsSlow").text();
    assert!(log.contains("slow-1.0> slow indeed") && !log.contains("X-Amz-"), "{log}");
    assert!(log.contains("offered to other builds: 1 store paths"), "{log}");
}

/// Builds the second one, in a store in which nothing is, when the cache has what the first one has offered.
pub fn the_second_one_fetches_it(site: &Site) {
    assert_eq!(site.settled("failing.needsSlowToo").status, 302);
    let log = site.get("/-/log/failing.needsSlowToo").text();
    assert!(log.contains("copying path '") && log.contains("-slow-1.0' from '"), "{log}");
    assert!(!log.contains("slow indeed") && !log.contains("offered to other builds"), "{log}");
    assert!(log.contains("building '") && log.contains("-needsSlowToo-1.0.drv'"), "{log}");
}
