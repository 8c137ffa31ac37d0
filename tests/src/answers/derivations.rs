//! What several attributes have in common.

use std::{fs, process::Command};

use binplz_core::build::policy::Policy;
use serde_json::Value;

use super::{
    Running, Start,
    operating::{ends, said},
    quick,
};
use crate::{gate::Gate, server::fresh_set, site::wait_for};

/// How many derivations Nix has realised for a target.
fn realised(status: &Value) -> u64 {
    status["derivations_started"].as_u64().expect("a number")
}

pub fn two_attributes_of_one_derivation_are_one_realisation_however_late_the_second_is_asked_for(at: &impl Start) {
    let (gate, home) = (Gate::new("gated"), tempfile::tempdir().expect("a temporary directory"));
    let aliases = "  again = pkgs.failing.gated;\n  later = pkgs.failing.gated;\n";
    let set = fresh_set(&[&gate.package(), aliases].concat());
    let site = at.start(set.path(), &quick());
    let (first, second, third) = (gate.target(), "failing.again", "failing.later");
    assert_eq!(site.get(&format!("/{first}")).status, 202);
    gate.arrived();
    // Its own task comes to an end, and from then on it shows what the other one's does.
    let (file, waits) = (home.path().join("again"), format!("{}/{second}?wait", site.origin()));
    let mut curl = Command::new("curl").args(["-sL", &waits, "-o"]).arg(&file).spawn().expect("curl");
    let lease = site.status(&first)["lease"].clone();
    wait_for("the second one's evaluation", || (site.status(second)["lease"] == lease).then_some(()));
    let shown = site.status(second);
    assert_eq!((&shown["state"], &shown["package"]), (&"building".into(), &second.into()), "{shown}");
    let log = |target: &str| site.get(&format!("/-/log/{target}"));
    wait_for("the other one's log", || log(second).text().contains("gated-1.0.drv").then_some(()));
    gate.open();
    assert_eq!(site.settled(&first).status, 302);
    assert!(curl.wait().expect("a child").success());
    assert!(fs::read(file).expect("the program") == site.download(&first));
    assert_eq!(site.settled(third).status, 302);
    // One download, one build; each served as what it was asked for by.
    assert_eq!([&first, second, third].map(|target| realised(&site.status(target))), [2, 0, 0]);
    assert_eq!(site.builders().len(), 3);
    for target in [&first, second, third] {
        let hit = site.get(&format!("/{target}"));
        assert_eq!(hit.header("x-binplz-package"), Some(target));
        assert_eq!(log(target).text(), log(&first).text());
        assert!(log(target).text().ends_with("built: gated\n"), "{}", log(target).text());
        assert!(site.download(target) == site.download(&first));
    }
}

pub fn each_attribute_of_a_derivation_has_its_own_main_program(at: &impl Start) {
    let set = fresh_set(
        r#"
  twin = package "twin" {
    buildPhase = "echo 'int puts(const char *); int main(void) { return puts(NAME) < 0; }' > it.c; for it in left right; do $CC -DNAME=\"\\\"$it\\\"\" -o $it it.c; done";
    installPhase = "install -Dt $out/bin left right";
    meta.mainProgram = "left";
  };
  mirror = pkgs.failing.twin // { meta = pkgs.failing.twin.meta // { mainProgram = "right"; }; };
"#,
    );
    let site = at.start(set.path(), &quick());
    for (target, main) in [("failing.twin", "left"), ("failing.mirror", "right")] {
        let settled = site.settled(target);
        assert_eq!(settled.status, 302, "{target}: {}", settled.text());
        assert!(site.download(target) == site.download(&format!("failing.twin/{main}")), "{target}");
        assert_eq!(site.status(target)["artifact"]["program"], main);
    }
    assert_eq!(["failing.twin", "failing.mirror"].map(|target| realised(&site.status(target))), [1, 0]);
}

pub fn a_failure_of_one_derivation_is_found_once_and_told_of_each_attribute_with_its_log(at: &impl Start) {
    let set = fresh_set("  again = pkgs.failing.compileError;\n");
    let site = at.start(set.path(), &quick());
    let targets = ["failing.compileError", "failing.again"];
    for target in targets {
        site.get(&format!("/{target}"));
    }
    for target in targets {
        let settled = site.settled(target);
        assert_eq!(settled.status, 422, "{target}: {}", settled.text());
        assert!(settled.text().contains(&format!("{target}: the build failed")), "{}", settled.text());
        assert_eq!(settled.header("link"), Some(format!("</-/log/{target}>; rel=\"describedby\"").as_str()));
        assert!(site.get(&format!("/-/log/{target}")).text().contains("undeclared"));
        assert_eq!(site.status(target)["failure"]["kind"], "build-failed");
    }
    assert_eq!(targets.map(|target| realised(&site.status(target))).iter().sum::<u64>(), 1);
}

pub fn a_dependency_that_fails_is_built_twice_however_many_need_it(at: &impl Start) {
    let needs = |n: u32| {
        format!(
            r#"needs{n} = package "needs{n}" {{ buildPhase = "cat ${{pkgs.failing.hopeless}}; $CC -o program ${{good}}"; }};"#
        )
    };
    let hopeless = r#"hopeless = package "hopeless" { buildPhase = "echo it is beyond repair; exit 1"; };"#;
    let set = fresh_set(&(hopeless.to_owned() + &(1..=6).map(needs).collect::<String>()));
    let site = at.start(set.path(), &Policy { slots: 1, ..quick() });
    let targets: Vec<_> = (1..=6).map(|n| format!("failing.needs{n}")).collect();
    targets.iter().for_each(|target| assert_eq!(site.get(&format!("/{target}")).status, 202, "{target}"));
    let mut built = 0;
    for target in &targets {
        let failed = site.settled(target);
        assert_eq!(failed.status, 422, "{}", failed.text());
        assert!(failed.text().contains("in its dependency hopeless-1.0"), "{}", failed.text());
        let log = site.get(&format!("/-/log/{target}")).text();
        assert!(log.contains("it is beyond repair"), "{target}: {log}");
        built += realised(&site.status(target));
    }
    assert_eq!(built, 2);
    // It is mended from outside, and an operator says so: it is built again.
    said(&site, &["retry", "failing.needs6"]);
    ends(&site, "failing.needs6", "failed");
    assert_eq!(realised(&site.status("failing.needs6")), 1);
}
