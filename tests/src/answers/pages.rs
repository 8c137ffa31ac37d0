//! Pages, and the same as JSON and as text.

use binplz_core::build::policy::{Names, Policy};

use super::{Running, Start, quick};
use crate::{
    http::Answer,
    server::{demo_set, fresh_set},
    site::{Site, wait_for},
};

fn accepting(site: &Site, path: &str, accept: &str) -> Answer {
    site.send("GET", path, &[("accept", accept)], b"")
}

/// A service that has its catalogue.
fn with_catalogue(at: &impl Start) -> impl Running {
    let site = at.start(&demo_set(), &Policy { names: Names::Known, ..quick() });
    assert_eq!(site.catalogued("tree").status, 302);
    site
}

pub fn every_page_is_also_json_and_text_and_lets_no_foreign_script_in(at: &impl Start) {
    let site = at.start(&demo_set(), &quick());
    assert_eq!(site.settled("tree").status, 302);
    let pages = ["/", "/-/search?q=tree", "/-/p/tree", "/-/status/tree", "/-/builds", "/-/health"];
    for path in pages {
        let page = accepting(&site, path, "text/html,*/*");
        assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")), "{path}");
        let policy = page.header("content-security-policy").expect("a policy");
        assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"), "{policy}");
        let text = page.text();
        assert!(text.contains("<main") && text.contains("</html>"), "{text}");
        assert!(!text.contains("style=") && !text.contains("<script>"), "{path}: {text}");
        // What it is, is said by the site that holds every answer to the document.
        let json = accepting(&site, path, "application/json");
        assert_eq!((json.status, json.header("content-type")), (200, Some("application/json")), "{path}");
        let plain = site.get(path);
        assert_eq!((plain.status, plain.header("content-type")), (200, Some("text/plain; charset=utf-8")), "{path}");
        assert!(plain.text().ends_with('\n') && !plain.text().contains('<'), "{path}: {}", plain.text());
        for answer in [page, json] {
            assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
            assert_eq!(answer.header("vary"), Some("Accept"), "{path}");
        }
    }
    assert!(site.get("/").text().contains(&format!("curl -L '{}/tree?wait'", site.origin())));
    assert_eq!(site.get("/-/openapi.json").text(), crate::openapi::DOCUMENT);
    let problem = accepting(&site, "/-/p/a..b", "text/html");
    assert_eq!((problem.status, problem.header("content-type")), (400, Some("text/html; charset=utf-8")));
    assert_eq!(accepting(&site, "/-/search?nosuch=1", "application/json").status, 400);
    assert_eq!(accepting(&site, "/-/p/tree?pin=absent", "application/json").status, 400);
}

pub fn search_finds_packages_by_their_names_their_programs_and_their_descriptions(at: &impl Start) {
    let site = with_catalogue(at);
    let builders = site.builders();
    let search = |query: &str| accepting(&site, &format!("/-/search?q={query}"), "application/json").json();
    let first = |query: &str| search(query)["packages"][0]["package"].clone();
    for (query, package) in [
        ("tree", "tree"),
        ("TREE", "tree"),
        ("grep", "gnugrep"),
        ("fig", "games.figlet"),
        ("zip2", "bzip2"),
        ("%20tree+", "tree"),
        // By words of the description, in any order.
        ("directories+contents", "tree"),
        ("parser+generator", "byacc"),
    ] {
        assert_eq!(first(query), package, "{query}");
    }
    let grep = &search("gnugrep")["packages"][0];
    assert_eq!(
        (&grep["version"], &grep["description"], &grep["programs"][0]),
        (&"3.8".into(), &"GNU implementation of the Unix grep command".into(), &"grep".into())
    );
    let near = search("figlte");
    assert_eq!((&near["near"], &near["packages"][0]["package"]), (&true.into(), &"games.figlet".into()), "{near}");
    let broken = &search("failing.broken")["packages"][0];
    assert_eq!(broken["refused"], "it is marked broken in this nixpkgs");
    assert!(search("nothingiscalledso")["packages"].as_array().is_some_and(Vec::is_empty));
    let text = site.get("/-/search?q=gnugrep").text();
    assert!(text.contains("gnugrep 3.8  (grep)") && text.contains("/gnugrep\n"), "{text}");
    // To look starts nothing.
    assert_eq!(site.builders(), builders);
}

pub fn a_packages_page_has_all_there_is_to_say_on_it(at: &impl Start) {
    let site = with_catalogue(at);
    let package = |path: &str| accepting(&site, &format!("/-/p/{path}"), "application/json").json();
    let before = package("gnugrep");
    assert_eq!((&before["build"]["state"], &before["license"][0]), (&"unasked".into(), &"GPL-3.0-or-later".into()));
    assert_eq!(before["fetch"], format!("curl -L '{}/gnugrep?wait' -o grep && chmod +x grep", site.origin()));
    let hit = site.settled("gnugrep");
    assert_eq!(hit.status, 302);
    let after = package("gnugrep");
    assert_eq!((&after["build"]["state"], &after["version"]), (&"ready".into(), &"3.8".into()));
    let programs = after["programs"].as_array().expect("programs");
    let main = programs.iter().find(|program| program["main"] == true).expect("a main program");
    assert_eq!(
        (main["program"].as_str(), main["sha256"].as_str(), main["size"].as_u64()),
        (Some("grep"), hit.header("x-binplz-sha256"), hit.header("x-binplz-size").and_then(|size| size.parse().ok()))
    );
    let states: Vec<_> = after["states"].as_array().expect("states").iter().map(|at| at["state"].as_str()).collect();
    assert_eq!(states, [Some("ready"), Some("unasked")]);
    // A program's name leads to its package.
    assert_eq!(package("grep")["package"], "gnugrep");
    let many = package("moreutils");
    assert_eq!((&many["package"], &many["mainProgram"]), (&"moreutils".into(), &serde_json::Value::Null));
    let unknown = accepting(&site, "/-/p/gnugerp", "application/json");
    assert_eq!(unknown.status, 404);
    assert!(unknown.json()["detail"].as_str().is_some_and(|told| told.contains("gnugrep")), "{}", unknown.text());
    let refused = package("failing.unfree");
    assert_eq!(refused["refused"], "its licence is unfree: unfree");
}

pub fn builds_are_listed_by_how_they_stand(at: &impl Start) {
    let set = fresh_set("");
    let site = at.start(set.path(), &quick());
    assert_eq!((site.settled("tree").status, site.settled("failing.compileError").status), (302, 422));
    assert_eq!(site.get("/failing.hangs").status, 202);
    let list = |kind: &str| accepting(&site, "/-/builds", "application/json").json()[kind].clone();
    let running = wait_for("it to run", || Some(list("building")).filter(|running| running[0].is_object()));
    assert_eq!(running[0]["package"], "failing.hangs");
    let (ready, failed) = (list("ready"), list("failed"));
    assert_eq!((&ready[0]["package"], &ready[0]["target"]), (&"tree".into(), &"tree".into()));
    assert_eq!(failed[0]["package"], "failing.compileError");
    assert!(failed[0]["told"].as_str().is_some_and(|told| told.starts_with("the build failed: ")), "{failed}");
    let (page, text) = (accepting(&site, "/-/builds", "text/html").text(), site.get("/-/builds").text());
    for told in [&page, &text] {
        assert!(told.contains("failing.hangs") && told.contains("undeclared"), "{told}");
    }
    assert!(accepting(&site, "/", "text/html").text().contains("href=\"/-/status/tree\""));
    let building = || accepting(&site, "/-/health", "application/json").json()["building"].clone();
    wait_for("the slots of the others", || (building() == 1).then_some(()));
}

pub fn the_button_is_pressed_on_our_own_pages_only(at: &impl Start) {
    let set = fresh_set("");
    let site = at.start(set.path(), &quick());
    let press = |headers: &[(&str, &str)]| {
        let headers = [&[("accept", "text/html")], headers].concat();
        site.send("POST", "/-/build/tree", &headers, b"")
    };
    // What the service calls itself, wherever a test reaches it.
    let home = accepting(&site, "/", "application/json").json();
    let ours = home["origin"].as_str().expect("an origin");
    for elsewhere in [
        &[("sec-fetch-site", "cross-site")][..],
        &[("sec-fetch-site", "same-site")],
        // Browsers that say no more than this.
        &[("origin", "https://evil.example")],
        &[("origin", "null")],
    ] {
        let refused = press(elsewhere);
        assert_eq!((refused.status, refused.header("content-type")), (403, Some("text/html; charset=utf-8")));
    }
    assert_eq!(site.status("tree")["state"], "unasked");
    let pressed = press(&[("origin", ours)]);
    assert_eq!((pressed.status, pressed.header("location")), (303, Some("/-/status/tree")));
    assert_eq!(site.settled("tree").status, 302);
    // Pressed again, it leads to what is there.
    assert_eq!(press(&[("sec-fetch-site", "same-origin")]).status, 303);
}

pub fn what_pages_load_is_kept_for_ever_and_is_ours(at: &impl Start) {
    let site = at.start(&demo_set(), &quick());
    let home = accepting(&site, "/", "text/html").text();
    let paths: Vec<&str> = home.split('"').filter(|part| part.starts_with("/-/assets/")).collect();
    assert_eq!(paths.len(), 3, "{home}");
    let mut bytes = home.len();
    for path in paths {
        let asset = site.get(path);
        assert_eq!((asset.status, asset.header("x-content-type-options")), (200, Some("nosniff")), "{path}");
        assert_eq!(asset.header("cache-control"), Some("public, max-age=31536000, immutable"));
        bytes += asset.body.len();
        let (start, end) = path.split_at(path.rfind('-').expect("a hash"));
        let suffix = end.rsplit('.').next().expect("a suffix");
        assert_eq!(site.get(&format!("{start}-0000000000000000.{suffix}")).status, 404);
    }
    assert!(bytes < 30_000, "{bytes}");
    assert!(!home.contains("src=\"http") && !home.contains("//fonts"), "{home}");
    let robots = site.get("/robots.txt").text();
    assert!(robots.contains("Disallow: /\n"), "{robots}");
}
