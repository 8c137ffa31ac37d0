//! What an operator grants: API keys to those whom he trusts, and money to builds.

use binplz_core::{
    build::policy::{Policy, Prices},
    id::money::Micros,
};
use serde_json::{Value, json as object};

use super::{
    Running, Start,
    operating::{json, refused, said},
    quick,
};
use crate::{
    gate::Gate,
    http::Answer,
    server::{demo_set, fresh_set},
    site::wait_for,
};

/// An amount as an operator writes it.
pub fn decimal(Micros(micros): Micros) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

pub fn a_key_is_told_once_has_its_own_allowance_and_counts_until_it_is_removed(at: &impl Start) {
    let gates = ["one", "two", "three", "four"].map(Gate::new);
    let set = fresh_set(&gates.iter().map(Gate::package).collect::<String>());
    let site = at.start(set.path(), &Policy { client_builds: Some(1), ..quick() });
    let ask = |secret: &str, target: &str| {
        let key = format!("Bearer {secret}");
        site.send("GET", &format!("/failing.{target}"), &[("accept", "*/*"), ("authorization", &key)], b"")
    };
    assert_eq!(said(&site, &["key", "list"]), "");
    assert_eq!(site.get("/failing.one").status, 202);
    assert_eq!(site.get("/failing.two").status, 429);

    let secret = said(&site, &["key", "add", "ci", "--builds", "1"]).trim_end().to_owned();
    assert!(secret.len() == 32 && secret.bytes().all(|byte| byte.is_ascii_hexdigit()), "{secret}");
    let why = refused(&site, &["key", "add", "ci"]);
    assert!(why.contains("the key ci exists already; to replace it, first run: binplz key remove ci"), "{why}");
    assert!(refused(&site, &["key", "add", "C I"]).contains("'C I'"));
    let open = said(&site, &["key", "add", "open"]).trim_end().to_owned();
    let (lines, keys) = (said(&site, &["key", "list"]), json(&site, &["key", "list"]));
    let today = binplz_clock::now().day();
    assert!(lines.starts_with("ci                   1 build a day, since 20"), "{lines}");
    assert!(lines.contains(&format!("\nopen                 any number of builds, since {today}\n")), "{lines}");
    assert_eq!((&keys["ci"]["builds"], keys.as_object().map(|keys| keys.len())), (&1.into(), Some(2)));
    assert!(![lines, keys.to_string()].iter().any(|told| told.contains(&secret) || told.contains(&open)));

    // A key has an allowance of its own, also from an address whose allowance is used up. A guessed key has none.
    assert_eq!(ask(&secret, "two").status, 202);
    let third = ask(&secret, "three");
    assert!(third.status == 429 && third.text().contains("with this API key"), "{}", third.text());
    assert_eq!((ask(&open, "three").status, ask("guess", "four").status), (202, 401));
    said(&site, &["key", "remove", "open"]);
    assert_eq!(ask(&open, "four").status, 401);
    assert!(refused(&site, &["key", "remove", "open"]).contains("there is no key open"));
    assert_eq!(site.status("failing.four")["state"], "unasked");
    // A program that is stored is served with any key, or none.
    gates.iter().for_each(Gate::open);
    for target in ["one", "two", "three"] {
        assert_eq!(site.settled(&format!("failing.{target}")).status, 302, "{target}");
        assert_eq!(ask(&open, target).status, 302, "{target}");
    }
}

/// How the money stands, once nothing is under way.
pub fn settled_money(site: &impl Running) -> Value {
    wait_for("the money of what is over", || Some(json(site, &["status"])).filter(|status| status["reserved"] == 0))
}

/// That there is no money for it, and when there is some again.
pub fn is_told_the_date(answer: &Answer) {
    let now = binplz_clock::now();
    let next = now.month().next().first();
    let left = (next.start() - now).as_secs();
    // It was asked a moment ago. Clients obey the header without a word, so it is fifteen minutes at most.
    let told = answer.header("retry-after").and_then(|seconds| seconds.parse::<u64>().ok()).unwrap_or(0);
    assert!(answer.status == 503 && (left.min(900)..=900).contains(&told), "{left}: {answer:?}");
    assert!(answer.text().contains(&next.to_string()), "{}", answer.text());
}

pub fn when_the_budget_is_spent_hits_are_served_and_misses_told_the_date_until_it_is_raised(at: &impl Start) {
    // On a machine of one's own, where building costs nothing unless one says so.
    let prices = Prices { task: Micros(1_000_000), ..Prices::default() };
    let site = at.start(&demo_set(), &Policy { prices, budget: Some(Micros(20_000_000)), ..quick() });
    assert_eq!(site.settled("tree").status, 302);
    let (stands, builders) = (settled_money(&site), site.builders());
    let spent = Micros(stands["spent"].as_u64().expect("millionths"));
    assert!(spent > Micros(0) && stands["budget"] == 20_000_000, "{stands}");

    let told = said(&site, &["budget", &decimal(spent)]);
    assert!(told.contains(&format!("month     {spent} spent, $0.00 reserved, of {spent}\n")), "{told}");
    assert!(told.contains(": the monthly build budget is spent; builds resume on "), "{told}");
    assert_eq!(json(&site, &["budget"])["budget"], spent.0);
    for (method, path) in [("GET", "/dash"), ("GET", "/dash?wait"), ("GET", "/dash?retry"), ("POST", "/-/build/dash")] {
        let answer = site.send(method, path, &[("accept", "*/*")], b"");
        if path.ends_with("?retry") {
            // curl --retry would sleep until then without a word; in the month's last minutes it may.
            let told = answer.text().contains("; builds resume on ") && answer.header("retry-after").is_none();
            assert!(answer.status == 409 && told || answer.status == 503 && answer.body.is_empty(), "{answer:?}");
        } else {
            is_told_the_date(&answer);
        }
    }
    let problem = site.send("GET", "/dash", &[("accept", "application/json")], b"");
    assert_eq!((problem.status, &problem.json()["status"]), (503, &503.into()));
    assert_eq!((site.get("/tree").status, site.send("HEAD", "/tree", &[], b"").status), (302, 302));
    assert_eq!(site.download("tree").get(..4), Some(&b"\x7fELF"[..]));
    // Nothing waits, and nothing was begun.
    assert_eq!(
        (json(&site, &["status"])["queued"].as_u64(), site.status("dash")["state"].as_str()),
        (Some(0), Some("unasked"))
    );
    assert_eq!(site.builders(), builders);

    let raised = json(&site, &["budget", "1000"]);
    assert_eq!((&raised["budget"], &raised["paused"]), (&1_000_000_000.into(), &object!({})));
    assert_eq!(site.get("/dash").status, 202);
    assert_eq!(site.settled("dash").status, 302);
}
