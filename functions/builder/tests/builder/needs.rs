//! Requirements: for each kind a small program, built, inspected, and run where no store is.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use binplz_core::{
    build::protocol::Outcome,
    id::key::Sha256,
    objects::{
        artifact::{Program, Verdict},
        needs::Need,
    },
};

use crate::support::{Bench, endpoint::Endpoint};

const TERMINFO: &str = "TERMINFO_DIRS=/usr/share/terminfo:/lib/terminfo";
const CERTIFICATES: &str = "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt";

/// Each program with its verdict: each need by its name, with the end of its path or with its remedy. `!` precedes the
/// reason why it is not served, and `+` marks one that is served in place of its wrapper.
const EXPECTED: [(&str, &[&str]); 38] = [
    ("plain", &[]),
    ("prefix", &[]),
    ("missing", &[]),
    ("bindir", &[]),
    ("libdir", &[]),
    ("header", &[]),
    ("archive", &[]),
    ("messages", &[]),
    ("manual", &[]),
    ("empty", &[]),
    ("itself", &[]),
    ("elsewhere", &[]),
    ("terminfo", &["terminfo", TERMINFO]),
    ("terminfoFixed", &["terminfo /share/terminfo"]),
    ("magic", &["magic", "MAGIC=/usr/share/misc/magic.mgc"]),
    ("magicFixed", &["magic /share/misc"]),
    ("certificates", &["certificates", CERTIFICATES]),
    ("certificatesFixed", &["certificates /etc/ssl"]),
    ("font", &["fonts /share/needs/block.flf"]),
    ("fonts", &["fonts /share/fonts"]),
    ("runtime", &["files /share/runtime"]),
    ("configuration", &["files /etc/needs.conf"]),
    ("modules", &["files /lib/modules"]),
    ("plugin", &["files /lib/plugin.so"]),
    ("both", &["terminfo", TERMINFO, "files /share/runtime"]),
    ("helpers", &["program /libexec/helpers"]),
    ("tool", &["program /bin/tool"]),
    ("script", &["program /libexec/script.sh"]),
    ("path", &["program /bin"]),
    ("sibling", &["program /bin/plain"]),
    ("greeting", &["+", "variable", "GREETING=good"]),
    ("pathed", &["+", "program /bin"]),
    ("trusting", &["+", "certificates", CERTIFICATES]),
    ("quiet", &["+"]),
    ("twofold", &["+", "variable", "GREETING=good"]),
    ("flagged", &["! is a wrapper that runs .flagged-wrapped"]),
    ("scripted", &["! is a wrapper that runs .scripted-wrapped"]),
    ("handmade", &["! is a wrapper that runs .handmade-wrapped"]),
];

/// A verdict in the form of [`EXPECTED`].
fn shown(program: &Program) -> Vec<String> {
    let (needs, unwrapped) = match &program.verdict {
        Verdict::Static { needs, unwrapped, .. } => (needs.as_deref().expect("needs"), *unwrapped),
        Verdict::Refused { why } => return vec![format!("! {}", why.sentence())],
    };
    let one = |need: &Need| match need.remedy() {
        Some(remedy) => vec![need.name().to_owned(), remedy],
        // Behind the store path.
        None => {
            let path = need.path().expect("a path");
            let (_, below) = path.split_once("-1.0").expect("a path of the set");
            vec![format!("{} {below}", need.name())]
        }
    };
    let wrapped = unwrapped.then(|| "+".to_owned());
    wrapped.into_iter().chain(needs.iter().flat_map(one)).collect()
}

/// Runs a stored program where its store is hidden and a distribution's data is where remedies name it. Returns whether it
/// succeeds.
fn runs_alone(program: &Path, store: &Path, environment: &[String]) -> bool {
    let alone = r#"
        for hidden in "$1" /etc /usr/share; do mount -t tmpfs none "$hidden" || exit 125; done
        mkdir -p /etc/ssl/certs /usr/share/terminfo/x /usr/share/misc
        touch /etc/ssl/certs/ca-certificates.crt /usr/share/terminfo/x/xterm /usr/share/misc/magic.mgc
        program=$2; shift 2
        exec env -i "$@" "$program""#;
    let mut unshare = Command::new("unshare");
    unshare.args(["--user", "--map-root-user", "--mount", "sh", "-c", alone, "sh"]).arg(store).arg(program);
    let ran = unshare.args(environment).output().expect("unshare");
    let code = ran.status.code();
    assert!(code.is_some_and(|code| code < 125), "{}: {ran:?}", program.display());
    code == Some(0)
}

#[test]
fn each_kind_of_need_is_reported_and_what_runs_without_the_store_is_not_called_broken() {
    let bench = Bench::new();
    let endpoint = Endpoint::new(bench.job("needs"));
    assert_eq!(bench.start(&endpoint).end(), (Some(0), String::new()));
    let Outcome::Built(manifest) = endpoint.outcome() else { panic!("built") };
    assert_eq!(manifest.programs.len(), EXPECTED.len());
    let store = Path::new(&manifest.drv_path).parent().expect("a store");
    let dir = tempfile::tempdir().expect("a directory");
    for (name, expected) in EXPECTED {
        let program = manifest.program(name).expect("a program");
        assert_eq!(shown(program), expected, "{name}");
        let Verdict::Static { needs: Some(needs), sha256, .. } = &program.verdict else { continue };
        let stored = endpoint.see(|seen| seen.objects.values().find(|bytes| Sha256::of(bytes) == *sha256).cloned());
        let file = dir.path().join(name);
        fs::write(&file, stored.expect("an upload")).expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("permissions");
        let remedies: Vec<String> = needs.iter().filter_map(Need::remedy).collect();
        assert_eq!(runs_alone(&file, store, &[]), needs.is_empty(), "{name}");
        // It is whole again with its remedies, if each need has one.
        assert_eq!(runs_alone(&file, store, &remedies), remedies.len() == needs.len(), "{name}: {remedies:?}");
    }
}
