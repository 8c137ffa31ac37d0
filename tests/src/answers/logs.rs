//! A build's log.

use std::{
    io::Write,
    process::{Command, Stdio},
    thread,
};

use super::{Running, Start, quick};
use crate::{
    gate::Gate,
    http::{Answer, ask},
    server::fresh_set,
    site::wait_for,
};

/// What `zcat` makes of it.
fn zcat(packed: Vec<u8>) -> Vec<u8> {
    let mut zcat = Command::new("zcat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("zcat");
    let mut input = zcat.stdin.take().expect("a pipe");
    let written = thread::spawn(move || input.write_all(&packed));
    let output = zcat.wait_with_output().expect("a child");
    written.join().expect("no panic").expect("it reads all");
    assert!(output.status.success());
    output.stdout
}

/// Where the log goes on; `None`: it is over.
fn next(log: &Answer) -> Option<u32> {
    let link = log.header("link")?;
    link.strip_suffix(">; rel=\"next\"")?.rsplit_once("from=")?.1.parse().ok()
}

pub fn a_log_reads_on_when_it_is_over_and_is_one_gzip_file_then(at: &impl Start) {
    let gate = Gate::new("logged");
    let set = fresh_set(&gate.package());
    let site = at.start(set.path(), &quick());
    let target = gate.target();
    let log = |from: u32| site.get(&format!("/-/log/{target}?from={from}"));
    assert_eq!(site.get(&format!("/{target}")).status, 202);
    gate.arrived();
    // A client follows the log, and is in its middle when it closes.
    let early = wait_for("the log so far", || Some(log(1)).filter(|log| log.text().contains("logged-1.0.drv")));
    let middle = next(&early).expect("it is not over");
    gate.open();
    assert_eq!(site.settled(&target).status, 302);
    let late = log(middle);
    assert_eq!(next(&late), None, "it is over");
    let whole = [early.text(), late.text()].concat();
    assert!(whole.ends_with("built: logged\n"), "{whole}");
    assert!(middle > 1 && !early.text().is_empty() && !late.text().is_empty());

    // The row is Ready before the segments go.
    let home = site.status(&target)["lease"].as_str().expect("a lease").to_owned();
    let objects = wait_for("the segments to go", || {
        let objects: Vec<_> = site.objects().into_iter().filter(|(path, _)| path.contains(&home)).collect();
        objects.iter().all(|(path, _)| !path.contains("/log/")).then_some(objects)
    });
    let (_, url) = objects.iter().find(|(path, _)| path.ends_with("/log.gz")).expect("the whole log");
    let packed = ask("GET", url, &[], b"");
    assert_eq!((packed.status, packed.header("content-type")), (200, Some("application/gzip")));
    assert_eq!(String::from_utf8_lossy(&zcat(packed.body)), whole);
    assert_eq!(log(1).text(), whole);
    assert_eq!(log(middle).text(), late.text());
    assert_eq!(log(9999).text(), "");
    assert!([1, middle, 9999].iter().all(|from| next(&log(*from)).is_none()));
}
