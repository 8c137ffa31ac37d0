//! What has failed for good, as those are told who ask all the same.

use crate::site::Site;

/// Asks a thousand times, as everybody who may ask; each answer says why it failed, and where the log is.
pub fn asked_a_thousand_times(site: &Site, target: &str) {
    let log = format!("/-/log/{target}");
    for number in 0..1000 {
        let accept = ["*/*", "application/json", "text/html", "*/*"][number % 4];
        let path = if number % 4 == 3 { format!("/{target}?wait") } else { format!("/{target}") };
        let answer = site.send("GET", &path, &[("accept", accept)], b"");
        assert_eq!(answer.status, 422, "{accept}: {}", answer.text());
        assert_eq!(answer.header("link"), Some(format!("<{log}>; rel=\"describedby\"").as_str()), "{accept}");
        assert!(answer.text().contains(&log), "{accept}: {}", answer.text());
        assert!(answer.text().contains("undeclared"), "{accept}: {}", answer.text());
    }
    assert_eq!(site.get(&log).status, 200);
}
