//! The markup of a page is its template's, for any text in a package's description.

use binplz_core::{
    answer::{
        asked::Asked,
        reply::{Answer, Body},
    },
    build::{
        continued::Continued,
        failure::{Failure, Kind},
        protocol::Progress,
    },
    flow::request::{denial::Denial, log::Tail, outcome::RequestOutcome, search::Listing, status::Status},
    nixpkgs::catalogue::About,
    objects::artifact::Refusal,
};
use proptest::prelude::*;

use super::*;

fn status(text: &str) -> Status {
    Status {
        state: "building",
        package: "a.b".parse().expect("a name"),
        system: "x86_64-linux".parse().expect("a system"),
        nixpkgs: "0".repeat(40).parse().expect("hex"),
        by_attribute: true,
        attempt: 2,
        ahead: None,
        paused: None,
        started: None,
        elapsed_seconds: Some(7),
        progress: Some(Progress { step: Some(text.to_owned()), expected: 2, ..Progress::default() }),
        waits_for: None,
        failure: None,
        reason: Some(text.to_owned()),
        estimate_seconds: None,
        plan: None,
        retry_after: 2,
        alternatives: Vec::new(),
        continued: Continued::default(),
        derivations_started: 0,
        cost: None,
        lease: Some("1".repeat(32).parse().expect("hex")),
    }
}

fn package(text: &str) -> Package {
    let program = |name: &str| Program {
        program: name.parse().expect("a name"),
        target: "a.b/c".to_owned(),
        main: false,
        output: Some("tools".parse().expect("a name")),
        nix_build: Some("nix build tools".to_owned()),
        size: None,
        sha256: None,
        refused: Some(Refusal::Wrapper(text.to_owned()).sentence().into_owned()),
        needs: None,
        note: text.to_owned(),
    };
    let texts = About {
        pname: text.to_owned(),
        version: text.to_owned(),
        description: text.to_owned(),
        // Only what begins so becomes a link.
        homepage: format!("https://{text}"),
        license: vec![text.to_owned(); 2],
        main_program: Some(text.to_owned()),
    };
    Package {
        package: "a.b".parse().expect("a name"),
        target: "a.b".to_owned(),
        bundle: "-/bundle/a.b".to_owned(),
        system: "x86_64-linux".parse().expect("a system"),
        pin: "unstable".parse().expect("a name"),
        nixpkgs: "0".repeat(40).parse().expect("hex"),
        by_attribute: false,
        about: texts,
        programs: vec![program("c"), program("[x,y~'")],
        refused: Some(text.to_owned()),
        build: status(text),
        states: Vec::new(),
        fetch: Some("curl -L".to_owned()),
        nix_build: "nix build".to_owned(),
    }
}

/// Every page that foreign text may be in.
fn pages(text: &str) -> Vec<String> {
    let package = package(text);
    let listing = Listing {
        package: "a.b".parse().expect("a name"),
        target: "a.b".to_owned(),
        programs: vec![text.to_owned()],
        version: format!("1{text}"),
        description: text.to_owned(),
        refused: Some(text.to_owned()),
        bundle: Some("-/bundle/a.b".to_owned()),
    };
    let results = Results {
        query: format!("q{text}"),
        system: package.system,
        pin: package.pin.clone(),
        nixpkgs: package.nixpkgs.clone(),
        by_attribute: false,
        incomplete: false,
        near: false,
        packages: vec![listing],
    };
    let line = Line {
        package: package.build.package.clone(),
        system: package.system,
        nixpkgs: package.nixpkgs.clone(),
        target: Some("a.b".to_owned()),
        at: binplz_core::id::time::Timestamp(0),
        age_seconds: 1,
        told: Some(text.to_owned()),
    };
    let builds = Builds { building: vec![line.clone()], queued: vec![], failed: vec![line], ready: vec![] };
    let target = Query::parse("a.b", None).expect("a target").target;
    let asked = Asked { origin: "https://h", target: Some(&target), format: Format::Html, retry: false };
    let failure = Failure {
        detail: Some(text.to_owned()),
        derivation: Some(text.to_owned()),
        lines: vec![text.to_owned()],
        ..Failure::new(Kind::BuildFailed, "")
    };
    let attr = "a.b".parse().expect("a name");
    let failed = Denial::Failed { attr, failure: Box::new(failure), rest: None, by_attribute: false };
    let replies = [RequestOutcome::Pending(status(text)), RequestOutcome::Denied(failed)];
    let told = replies.map(|reply| {
        let Answer { body: Body::Page(page), .. } = reply.answer(&asked) else { panic!("a page") };
        let tail = Tail { text: format!("log {text}"), ..Tail::none() };
        respond::TargetPage { page: &page, tail, follow: "/-/log/a.b?from=".to_owned() }.render()
    });
    let shown = PackagePage { package: &package, shown: &package.programs, others: &package.programs };
    let more = [SearchPage { results: &results }.render(), shown.render(), BuildsPage { builds: &builds }.render()];
    told.into_iter().chain(more).map(|page| page.expect("a page")).collect()
}

/// What markup is made of, in its order, with what stands between it left out.
fn markup(page: &str) -> String {
    page.chars().filter(|c| "<>\"".contains(*c)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_text_adds_to_a_pages_markup(
        text in "(<[a-z/]{1,9}[ >]|on[a-z]{3,5}=|\"|'|&(lt|#60|#x3c)?;?|javascript:|\\]\\]>|-->|[ -~]|\u{202e}|\u{1b}){1,40}",
    ) {
        let plain = pages("x");
        for (page, plain) in pages(&text).iter().zip(plain) {
            prop_assert_eq!(markup(page), markup(&plain), "{}", page);
            prop_assert!(!page.contains("href=\"javascript:"));
        }
    }
}

#[test]
fn a_home_page_that_is_no_url_is_no_link() {
    for homepage in ["javascript:alert(1)", "data:text/html,x", "//evil.example", "http:evil"] {
        let mut package = package("x");
        package.about.homepage = homepage.to_owned();
        let page = PackagePage { package: &package, shown: &[], others: &[] }.render().expect("a page");
        assert!(page.contains(homepage) && !page.contains(&format!("href=\"{homepage}")), "{page}");
    }
}
