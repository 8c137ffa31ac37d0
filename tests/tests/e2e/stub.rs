//! What people save without `-L`, where what it would download is damaged.

use std::{fs, process::Command};

use binplz_tests::server::{Server, demo_set};

#[test]
fn what_came_damaged_does_not_replace_the_stub() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let data = home.path().join("data");
    let server = Server::start(&demo_set(), &data, &[]);
    assert_eq!(server.settled("tree").status, 302);
    let object = server.get("/tree").header("location").expect("a location").replace(&server.origin(), "");
    let file = data.join("objects").join(object.trim_start_matches("/-/objects/"));
    let mut bytes = fs::read(&file).expect("the object");
    bytes[1000] ^= 1;
    fs::write(&file, bytes).expect("the object");
    let save_and_run = format!("curl -s {}/tree > tree; cp tree before; sh ./tree --version", server.origin());
    let out = Command::new("sh").arg("-c").arg(save_and_run).current_dir(home.path()).output().expect("sh");
    assert_eq!(out.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&out.stderr).contains("its sha256 is not"),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    assert_eq!(fs::read(home.path().join("tree")).ok(), fs::read(home.path().join("before")).ok());
}
