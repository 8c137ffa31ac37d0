//! A disk that is full is a fault, which its operator reads while it lasts.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use binplz_tests::{
    server::{demo_set, program},
    site::{Site, wait_for},
};

/// A server whose data directory is a small disk of its own, which no other process sees.
struct OnDisk(Child);

impl OnDisk {
    fn start(options: &str, data: &std::path::Path) -> OnDisk {
        let namespace = if rustix::process::geteuid().is_root() { "-m" } else { "-rm" };
        let script = r#"mount -t tmpfs -o "$1" none "$2" && exec "$3" serve --nixpkgs "$4" --data "$2" --listen 127.0.0.1:0 --names attributes"#;
        let mut unshare = Command::new("unshare");
        unshare.args([namespace, "sh", "-ec", script, "sh", options]).arg(data).arg(program("binplz")).arg(demo_set());
        OnDisk(unshare.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("unshare, of util-linux"))
    }

    /// Runs a line of shell that sees its disk.
    fn run(&self, line: &str) -> String {
        let pid = self.0.id().to_string();
        let user: &[&str] = if rustix::process::geteuid().is_root() { &[] } else { &["-U", "--preserve-credentials"] };
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["-t", &pid, "-m"]).args(user).args(["sh", "-ec", line]);
        let out = nsenter.output().expect("nsenter, of util-linux");
        assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).expect("text")
    }
}

impl Drop for OnDisk {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_full_disk_is_named_by_health_and_by_status_while_it_is_full() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let path = data.path().display();
    for (options, fill, free) in [
        ("size=200m", format!("head -c 150m /dev/zero > {path}/fill"), format!("rm {path}/fill")),
        (
            "size=200m,nr_inodes=200",
            format!("mkdir {path}/fill; n=0; while touch {path}/fill/$n 2> /dev/null; do n=$((n + 1)); done"),
            format!("rm -r {path}/fill"),
        ),
    ] {
        let mut server = OnDisk::start(options, data.path());
        let mut lines = BufReader::new(server.0.stderr.take().expect("a pipe")).lines();
        let address = lines.find_map(|line| Some(line.ok()?.split_once(" at http://")?.1.to_owned()));
        // The rest of it is read, too.
        std::thread::spawn(move || lines.for_each(drop));
        let site = Site::at(address.expect("it listens"));
        let status = || server.run(&format!("{} status --data {path}", program("binplz").display()));
        assert_eq!(site.get("/-/health").status, 200, "{options}");
        assert!(!status().contains("broken"), "{options}");
        server.run(&fill);
        let health = wait_for("the fault", || Some(site.get("/-/health")).filter(|health| health.status == 503));
        assert!(health.text().contains("not running: ") && health.text().contains("disk"), "{}", health.text());
        assert!(!health.text().contains(&*path.to_string()), "{}", health.text());
        let said = status();
        assert!(said.contains(&format!("broken    disk: {path}: ")), "{options}: {said}");
        server.run(&free);
        wait_for("the fault to be over", || (site.get("/-/health").status == 200).then_some(()));
        assert!(!status().contains("broken"), "{options}");
    }
}
