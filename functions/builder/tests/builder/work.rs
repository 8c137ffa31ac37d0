//! A builder under its lease: it builds, stores, reports, and ends when it must.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
    thread,
};

use binplz_catalogue::Lookup;
use binplz_core::{
    build::{
        failure::Kind,
        plan::DryRun,
        protocol::{Database, Job, Nixpkgs, Outcome, Phase},
    },
    id::key::Sha256,
    objects::{
        artifact::{Refusal, Verdict},
        content::Content,
        materials::{Component, HashMode, Licence, Materials},
    },
};
use rustix::process::Signal;

use crate::support::{
    Bench, Pid,
    endpoint::{Endpoint, Mode, Seen, TOKEN},
    verdict::failure,
};

/// The builder, Nix and the build are gone.
fn all_gone(processes: &[Pid]) {
    processes.iter().for_each(|process| process.wait_gone());
}

#[test]
fn every_static_program_is_stored_as_it_is_in_the_output_and_every_other_is_named_with_its_reason() {
    let bench = Bench::new();
    let endpoint = Endpoint::new(bench.job("nested.deeper.good"));
    assert_eq!(bench.start(&endpoint).end(), (Some(0), String::new()));
    let report = endpoint.report();
    let Outcome::Built(manifest) = report.outcome else { panic!("{report:?}") };
    assert_eq!(
        (&*manifest.pname, &*manifest.version, manifest.declared.main_program.as_deref()),
        ("good", "1.0", Some("good"))
    );
    let verdicts: Vec<(&str, Result<u64, Refusal>)> = manifest
        .programs
        .iter()
        .map(|program| match &program.verdict {
            Verdict::Static { size, .. } => (program.bin.as_str(), Ok(*size)),
            Verdict::Refused { why } => (program.bin.as_str(), Err(why.clone())),
        })
        .collect();
    // Of one content, which is stored once.
    let size = endpoint.see(|seen| seen.objects["bin/better"].len() as u64);
    assert_eq!(
        verdicts,
        [
            ("better", Ok(size)),
            ("good", Ok(size)),
            ("outside", Err(Refusal::OutsideLink)),
            ("script", Err(Refusal::Script)),
            ("shared", Err(Refusal::Dynamic)),
        ]
    );
    let stored =
        endpoint.see(|seen| seen.objects.keys().filter(|name| name.starts_with("bin/")).cloned().collect::<Vec<_>>());
    assert_eq!(stored, ["bin/better"]);
    let Verdict::Static { leftovers, .. } = &manifest.programs[1].verdict else { panic!("static") };
    assert!(matches!(leftovers.as_slice(), [one] if one.ends_with("-good-1.0/share/data")), "{leftovers:?}");
    assert_eq!(report.stats.derivations, 2);
    assert_eq!(report.stats.log_segments as usize, endpoint.see(|seen| seen.segments().len()));
    assert!(endpoint.see(|seen| seen.has_whole_log()));
    let log = endpoint.see(|seen| seen.log());
    assert!(log.contains("good-1.0> made by the dependency\n"), "{log}");
    assert!(log.ends_with("binplz: built: better good; not static: outside script shared\n"), "{log}");
    assert_eq!(fs::read_dir(bench.tmp()).expect("a directory").count(), 0, "temporary files are left");
}

#[test]
fn the_plan_is_reported_before_anything_is_built_and_each_derivation_is_measured_even_if_a_later_one_fails() {
    let bench = Bench::with_own_store();
    let endpoint = bench.work(bench.job("halfway"));
    assert_eq!(failure(&endpoint).kind, Kind::BuildFailed);
    endpoint.see(|seen| {
        let run = seen.claims[0].dry_run.clone().expect("a plan");
        assert_eq!((run.build, run.fetch), (vec!["dependency-1.0".to_owned(), "halfway-1.0".to_owned()], 0));
        let names: Vec<_> = seen.measured.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["dependency-1.0"], "what has failed is not measured");
    });
    // What is there already is neither planned nor built again; a download is fetched.
    let endpoint = bench.work(bench.job("good"));
    let building = endpoint.report().stats.building.expect("it is measured");
    endpoint.see(|seen| {
        assert_eq!(seen.claims[0].dry_run.clone().expect("a plan").build, ["good-1.0"]);
        let [good] = seen.measured.as_slice() else { panic!("{:?}", seen.measured) };
        assert!(good.name == "good-1.0" && good.share <= good.milliseconds && building >= good.share, "{good:?}");
        assert!(good.milliseconds > 0);
    });
    let endpoint = bench.work(bench.job("curious"));
    endpoint.see(|seen| {
        let run = seen.claims[0].dry_run.clone().expect("a plan");
        assert_eq!((run.build, run.fetch), (vec!["curious-1.0".to_owned()], 1));
        assert!(seen.measured.iter().all(|one| one.name == "curious-1.0"), "{:?}", seen.measured);
    });
}

#[test]
fn a_plan_is_made_without_a_lease_and_builds_nothing() {
    let bench = Bench::with_own_store();
    let planned = |product: &str| {
        let mut builder = Command::new(env!("CARGO_BIN_EXE_binplz-builder"));
        let nix = bench.nix("nix-store");
        builder.envs(nix.get_envs().filter_map(|(name, value)| Some((name, value?))));
        builder.arg("plan").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut builder = builder.spawn().expect("the builder starts");
        let job = serde_json::to_vec(&bench.job(product)).expect("JSON");
        builder.stdin.take().expect("a pipe").write_all(&job).expect("it reads");
        builder.wait_with_output().expect("it ends")
    };
    for _ in 0..2 {
        let good = planned("good");
        assert!(good.status.success(), "{}", String::from_utf8_lossy(&good.stderr));
        let run: DryRun = serde_json::from_slice(&good.stdout).expect("a plan");
        assert_eq!(run.build, ["dependency-1.0", "good-1.0"]);
    }
    let throws = planned("throws");
    let told = String::from_utf8_lossy(&throws.stderr);
    assert!(!throws.status.success() && told.contains("this package is no more"), "{told}");
}

#[test]
fn a_content_that_is_stored_already_is_not_uploaded() {
    let bench = Bench::new();
    let built = |stored| {
        let endpoint = Endpoint::new(bench.job("nested.deeper.good"));
        endpoint.has_stored(stored);
        assert_eq!(bench.start(&endpoint).end(), (Some(0), String::new()));
        let Outcome::Built(manifest) = endpoint.report().outcome else { panic!("it is built") };
        let uploads = endpoint.see(|seen| seen.objects.keys().filter(|name| name.starts_with("bin/")).count());
        (manifest, uploads)
    };
    let (manifest, uploads) = built(Vec::new());
    let Verdict::Static { sha256, .. } = &manifest.programs[1].verdict else { panic!("static") };
    assert_eq!(uploads, 1);
    assert_eq!(built(vec![sha256.clone()]), (manifest.clone(), 0));
}

#[test]
fn a_builder_whose_derivation_another_build_has_realises_nothing_and_ends_well() {
    let bench = Bench::new();
    let endpoint = Endpoint::new(bench.job("gated"));
    endpoint.has_all_elsewhere();
    // The gate stays closed: a builder that realised anything would not end.
    assert_eq!(bench.start(&endpoint).end(), (Some(0), String::new()));
    endpoint.see(|seen| {
        assert!(seen.report.is_none() && seen.wrong.is_empty(), "{:?} {:?}", seen.report, seen.wrong);
        let [claim] = seen.claims.as_slice() else { panic!("{:?}", seen.claims) };
        assert!(claim.drv_path.ends_with("-gated-1.0.drv"), "{claim:?}");
    });
}

#[test]
fn the_log_and_the_progress_are_there_while_the_build_still_runs() {
    let bench = Bench::new();
    let endpoint = Endpoint::new(bench.job("gated"));
    let builder = bench.start(&endpoint);
    endpoint.wait_for_gate();
    endpoint.wait("progress", |seen| {
        seen.pulses.last().is_some_and(|progress| {
            progress.phase == Phase::Building
                && progress.step.as_deref() == Some("gated-1.0 buildPhase")
                && (progress.done, progress.expected) == (0, 1)
                && progress.log_segments as usize == seen.objects.len()
        })
    });
    endpoint.see(|seen| assert!(seen.report.is_none()));
    let early = endpoint.see(|seen| seen.objects.clone());
    bench.open_gate();
    assert_eq!(builder.end(), (Some(0), String::new()));
    assert!(matches!(endpoint.outcome(), Outcome::Built(_)));
    endpoint.see(|seen| {
        assert!(early.iter().all(|(name, bytes)| seen.objects[name] == *bytes), "a segment was changed");
        assert!(seen.log().contains("through the gate"));
        // Stored only now, at the end.
        assert!(!early.contains_key("log.gz") && seen.has_whole_log());
        assert!(seen.segments().len() > 1);
    });
}

#[test]
fn a_builder_whose_endpoint_knows_no_packed_logs_leaves_the_segments() {
    let bench = Bench::new();
    let endpoint = Endpoint::new(bench.job("good"));
    endpoint.set_mode(Mode::Old);
    let (code, said) = bench.start(&endpoint).end();
    assert_eq!(code, Some(0));
    assert_eq!(said, "binplz-builder: the log stays in its segments: uploads was refused with 400\n");
    assert!(matches!(endpoint.outcome(), Outcome::Built(_)));
    endpoint.see(|seen| assert!(seen.log().contains("binplz: built: ") && !seen.has_whole_log()));
    assert_eq!(endpoint.report().stats.log_segments as usize, endpoint.see(|seen| seen.segments().len()));
}

#[test]
fn when_the_lease_is_taken_away_nix_and_the_build_are_killed_and_nothing_more_is_said() {
    for mode in [Mode::Gone, Mode::Unknown] {
        let bench = Bench::new();
        let endpoint = Endpoint::new(bench.job("gated"));
        let builder = bench.start(&endpoint);
        endpoint.wait_for_gate();
        let processes = [builder.pid().nix(), bench.build_process()];
        assert!(processes.iter().all(|process| process.runs()));
        endpoint.set_mode(mode);
        // The next heartbeat comes by itself.
        let (code, said) = builder.end();
        assert_eq!(code, Some(3), "{said}");
        assert!(said.contains("the lease is lost: the endpoint answered a pulse with 4"), "{said}");
        all_gone(&processes);
        endpoint.see(|seen| assert!(seen.report.is_none() && seen.wrong.is_empty()));
    }
}

#[test]
fn when_the_lease_runs_out_without_an_answer_the_builder_stops_by_its_own_clock() {
    let bench = Bench::new();
    let mut job = bench.job("gated");
    job.lease_seconds = 3;
    let endpoint = Endpoint::new(job);
    let builder = bench.start(&endpoint);
    endpoint.wait_for_gate();
    let build = bench.build_process();
    endpoint.set_mode(Mode::Away);
    let (code, said) = builder.end();
    assert_eq!(code, Some(3), "{said}");
    all_gone(&[build]);
    endpoint.see(|seen| assert!(seen.report.is_none()));
}

#[test]
fn an_endpoint_that_goes_away_and_comes_back_finds_the_build_going_on() {
    for mode in [Mode::Away, Mode::Unwell] {
        let bench = Bench::new();
        let endpoint = Endpoint::new(bench.job("gated"));
        let builder = bench.start(&endpoint);
        endpoint.wait_for_gate();
        endpoint.set_mode(mode);
        bench.open_gate();
        endpoint.wait("some tries", |seen| seen.turned_away >= 4);
        endpoint.set_mode(Mode::Serves);
        assert_eq!(builder.end(), (Some(0), String::new()));
        let Outcome::Built(manifest) = endpoint.outcome() else { panic!("{:?}", endpoint.outcome()) };
        assert_eq!(manifest.programs.len(), 1);
        endpoint.see(|seen| {
            assert!(seen.objects.contains_key("bin/gated"));
            assert_eq!(seen.log().matches("through the gate").count(), 1);
            assert!(seen.log().ends_with("binplz: built: gated\n"));
        });
    }
}

#[test]
fn nix_and_the_build_die_with_a_builder_that_is_killed() {
    let bench = Bench::new();
    let endpoint = Endpoint::new(bench.job("gated"));
    let builder = bench.start(&endpoint);
    endpoint.wait_for_gate();
    let processes = [builder.pid().nix(), bench.build_process()];
    builder.signal(Signal::KILL);
    assert_eq!(builder.end().0, None);
    all_gone(&processes);
    // The next builder removes its files.
    assert_eq!(fs::read_dir(bench.tmp()).expect("a directory").count(), 1);
    let endpoint = Endpoint::new(bench.job("good"));
    assert_eq!(bench.start(&endpoint).end().0, Some(0));
    assert_eq!(fs::read_dir(bench.tmp()).expect("a directory").count(), 0);
}

#[test]
fn neither_a_build_nor_the_log_sees_the_token_even_where_a_download_asks_for_it() {
    let bench = Bench::new();
    let endpoint = Endpoint::new(bench.job("curious"));
    assert_eq!(bench.start(&endpoint).end(), (Some(0), String::new()));
    assert!(matches!(endpoint.outcome(), Outcome::Built(_)));
    endpoint.see(|seen| {
        // Both builds printed their environment.
        assert!(seen.log().contains("snooping> HOME=") && seen.log().contains("curious-1.0> HOME="), "{}", seen.log());
        assert!(!seen.log().contains(TOKEN) && !seen.log().contains("[token]"));
        let lease: Vec<_> = seen
            .log()
            .lines()
            .filter(|line| line.contains("LEASE_TOKEN=") || line.contains("LEASE_URL=http"))
            .map(str::to_owned)
            .collect();
        assert!(lease.iter().all(|line| line.ends_with("BINPLZ_LEASE_TOKEN=")), "{lease:?}");
        for (name, bytes) in &seen.objects {
            assert!(!bytes.windows(TOKEN.len()).any(|window| window == TOKEN.as_bytes()), "{name}");
        }
        assert!(seen.has_whole_log());
    });
}

#[test]
fn a_log_is_cut_at_the_limit_and_still_tells_the_outcome() {
    let bench = Bench::new();
    let mut job = bench.job("chatty");
    // Nix counts the build's own lines; the stored log contains the builder's too.
    job.limits.log_bytes = 97_000;
    let endpoint = Endpoint::new(job);
    assert_eq!(bench.start(&endpoint).end(), (Some(0), String::new()));
    assert!(matches!(endpoint.outcome(), Outcome::Built(_)), "{:?}", endpoint.outcome());
    let log = endpoint.see(|seen| seen.log());
    assert!(log.len() <= 97_000, "{}", log.len());
    assert_eq!(log.matches("the log was cut here").count(), 1);
    assert!(log.ends_with("binplz: built: chatty\n"));
}

#[test]
fn odd_values_in_a_packages_meta_do_no_harm() {
    let bench = Bench::new();
    let endpoint = Endpoint::new(bench.job("odd"));
    assert_eq!(bench.start(&endpoint).end(), (Some(0), String::new()));
    let Outcome::Built(manifest) = endpoint.outcome() else { panic!("{:?}", endpoint.outcome()) };
    assert_eq!(manifest.declared.main_program, None);
}

#[test]
fn what_a_package_declares_of_what_it_is_made_of_is_reported_and_nothing_odd_in_it_fails_a_build() {
    let bench = Bench::new();
    let materials = |attr: &str| {
        let endpoint = Endpoint::new(bench.job(attr));
        assert_eq!(bench.start(&endpoint).end(), (Some(0), String::new()));
        let report = endpoint.report();
        let Outcome::Built(manifest) = report.outcome else { panic!("{report:?}") };
        (report.materials, manifest.drv_path, endpoint.see(Seen::log))
    };
    let (found, drv, _) = materials("declares");
    let found = found.expect("materials");
    let names = |list: &[Component]| list.iter().map(|one| format!("{} {}", one.name, one.version)).collect::<Vec<_>>();
    assert_eq!(names(&found.linked), ["deeper 1.0", "library 1.0"]);
    assert_eq!(names(&found.build_time), ["tool 1.0"]);
    let (package, spdx, name) = (&found.package, Licence::Spdx("MIT".into()), |name: &str| Licence::Name(name.into()));
    assert_eq!((&package.derivation, &package.licences), (&drv, &vec![spdx, name("GPLv2+"), name("Ours")]));
    assert_eq!((package.purl.as_deref(), &found.linked[1].cpe), (Some("pkg:generic/declares@1.0"), &None));
    let [source] = package.sources.as_slice() else { panic!("{package:?}") };
    let sha256 = Sha256::of(b"int main(void) { return 0; }\n").to_string();
    assert_eq!((&*source.name, &source.hash, source.mode), ("declares.c", &sha256, HashMode::Flat));
    assert_eq!(source.urls, ["mirror://example/declares.c"]);
    assert!(found.inputs.contains(&drv) && found.inputs.iter().any(|path| path.ends_with("-declares.c.drv")));
    assert_eq!(found.builder.image, None);
    // The same again, to the byte.
    let json = |materials: &Materials| materials.to_json().expect("JSON");
    assert_eq!(materials("declares").0.as_ref().map(json), Some(json(&found)));

    let (found, _, log) = materials("spoiled");
    assert_eq!(found, None);
    assert!(log.contains("binplz: what it is made of cannot be evaluated, and is left out\n"), "{log}");
}

#[test]
fn a_package_set_that_is_a_tarball_is_fetched_and_checked_by_its_hash() {
    let bench = Bench::new();
    let tarball = bench.tarball();
    let url = format!("file://{}", tarball.display());
    let hash = bench.nar_hash();
    let wrong = "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".to_owned();
    for (nar_hash, built) in [(None, true), (Some(hash), true), (Some(wrong), false)] {
        let mut job = bench.job("nested.deeper.good");
        job.nixpkgs = Nixpkgs::Tarball { url: url.clone(), nar_hash: nar_hash.clone() };
        let endpoint = Endpoint::new(job);
        assert_eq!(bench.start(&endpoint).end(), (Some(0), String::new()));
        match endpoint.outcome() {
            Outcome::Built(_) => assert!(built, "{nar_hash:?}"),
            Outcome::Catalogued | Outcome::Waits { .. } => panic!("that was not requested"),
            // Not the package's fault, so it is not remembered.
            Outcome::Failed(failure) => {
                assert!(!built && failure.kind == Kind::BuilderError, "{nar_hash:?}: {failure:?}")
            }
        }
    }
}

#[test]
fn without_a_lease_there_is_nothing_to_do() {
    let bench = Bench::new();
    let endpoint = Endpoint::new(bench.job("good"));
    let mut builder = bench.builder(&endpoint);
    let ended = builder.env_remove("BINPLZ_LEASE_TOKEN").output().expect("the builder starts");
    assert_eq!(ended.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("BINPLZ_LEASE_TOKEN"));
    endpoint.set_mode(Mode::Gone);
    let (code, said) = bench.start(&endpoint).end();
    assert_eq!(code, Some(3), "{said}");
}

#[test]
fn a_catalogue_is_made_of_a_directory_or_a_tarball_and_stored() {
    let bench = Bench::new();
    let tarball =
        Nixpkgs::Tarball { url: format!("file://{}", bench.tarball().display()), nar_hash: Some(bench.nar_hash()) };
    for nixpkgs in [bench.job("good").nixpkgs, tarball] {
        let endpoint = Endpoint::new(Job { nixpkgs, ..bench.job("-catalogue") });
        assert_eq!(bench.start(&endpoint).end(), (Some(0), String::new()));
        assert_eq!(endpoint.outcome(), Outcome::Catalogued);
        let objects = endpoint.see(|seen| seen.objects.clone());
        let lookup = Lookup::open(objects.get("lookup").expect("a lookup file")).expect("a catalogue");
        assert_eq!(lookup.rev(), &bench.job("-catalogue").key.rev);
        let good = lookup.details(&"good".parse().expect("a name")).expect("a range");
        assert!(usize::try_from(good.end).expect("a size") <= objects.get("details").expect("details").len());
        endpoint.see(|seen| assert!(seen.log().contains("the catalogue for x86_64-linux"), "{}", seen.log()));
    }
}

/// Serves some bytes at every path of a URL.
fn serve(bytes: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/programs.sqlite", listener.local_addr().expect("an address"));
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let request = BufReader::new(stream.try_clone().expect("a socket")).lines();
            request.map_while(Result::ok).take_while(|line| !line.is_empty()).for_each(drop);
            // The builder may have enough before the end.
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", bytes.len())
                .and_then(|()| stream.write_all(&bytes));
        }
    });
    url
}

#[test]
fn a_catalogue_has_the_programs_of_a_database_that_an_operator_has_added_and_accepts_no_other_file() {
    let (bench, dir) = (Bench::new(), tempfile::tempdir().expect("a directory"));
    let file = dir.path().join("programs.sqlite");
    let rows = "CREATE TABLE Programs (name text, system text, package text); \
                INSERT INTO Programs VALUES ('extra', 'x86_64-linux', 'good'), ('good', 'x86_64-linux', 'good');";
    assert!(Command::new("sqlite3").arg(&file).arg(rows).status().expect("sqlite3").success());
    let bytes = fs::read(&file).expect("a database");
    let content = Content { sha256: Sha256::of(&bytes), size: bytes.len() as u64 };
    let endpoint = |served: Vec<u8>| {
        let programs = Some(Database { url: serve(served), content: content.clone() });
        Endpoint::new(Job { programs, ..bench.job("-catalogue") })
    };
    let whole = endpoint(bytes.clone());
    assert_eq!(bench.start(&whole).end(), (Some(0), String::new()));
    assert_eq!(whole.outcome(), Outcome::Catalogued);
    let lookup = whole.see(|seen| Lookup::open(seen.objects.get("lookup").expect("a file").clone()));
    let good = lookup.expect("a catalogue").package(&"good".parse().expect("a name")).expect("a package");
    assert_eq!(good.programs.iter().map(ToString::to_string).collect::<Vec<_>>(), ["extra", "good"]);

    let changed = bytes.iter().map(|byte| byte ^ 1).collect();
    let longer = bytes.iter().chain(b"x").copied().collect();
    for other in [changed, longer] {
        let endpoint = endpoint(other);
        assert_eq!(bench.start(&endpoint).end(), (Some(0), String::new()));
        let failure = failure(&endpoint);
        assert_eq!(failure.kind, Kind::BuilderError);
        let detail = failure.detail.expect("a reason");
        assert!(detail.contains("database of programs: it has other content"), "{detail}");
    }
}

#[test]
fn a_catalogue_that_is_told_to_end_or_takes_too_long_ends_with_all_its_processes() {
    // Some of its attributes never end.
    let hostile = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile");
    let bench = Bench::new();
    let mut job = Job { nixpkgs: Nixpkgs::Path(hostile.to_string_lossy().into_owned()), ..bench.job("-catalogue") };
    let endpoint = Endpoint::new(job.clone());
    let builder = bench.start(&endpoint);
    let evaluators = builder.pid().evaluators();
    builder.signal(Signal::TERM);
    assert_eq!(builder.end(), (Some(0), String::new()));
    assert_eq!(failure(&endpoint).kind, Kind::Interrupted);
    all_gone(&evaluators);

    job.limits.seconds = 2;
    let endpoint = Endpoint::new(job);
    assert_eq!(bench.start(&endpoint).end(), (Some(0), String::new()));
    assert_eq!(failure(&endpoint).kind, Kind::TimedOut);
}
