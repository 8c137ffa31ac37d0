//! All input can be read back, in any order of writing.

use std::collections::{BTreeMap, BTreeSet};

use binplz_catalogue::{About, Files, Lookup, Obstacle, Record, Standing, Writer, details, part};
use binplz_core::{
    id::{
        key::{Attr, Bin, System},
        target::Wanted,
    },
    nixpkgs::catalogue::Resolution,
    ports::Catalogue,
};
use proptest::prelude::*;

const NAME: &str = "[ab_][a-c0-9-]{0,4}";
const ATTR: &str = "[ab_][a-c0-9-]{0,4}(\\.[ab_][a-c0-9-]{0,4})?";

fn standing() -> impl Strategy<Value = Standing> {
    let drv = "[0-9a-d]{32}".prop_map(|hash| format!("/nix/store/{hash}-x.drv"));
    let detail = prop::option::of("[ -~]{0,20}é?");
    prop_oneof![
        prop::option::of(drv).prop_map(|drv_path| Standing::Buildable { drv_path }),
        (prop::sample::select(Obstacle::ALL.to_vec()), detail)
            .prop_map(|(why, detail)| Standing::Refused { why, detail }),
    ]
}

fn about() -> impl Strategy<Value = About> {
    (NAME, "[0-9.]{0,5}", "[ -~é\n]{0,20}", prop::collection::vec("[A-Z]{1,3}", 0..3), prop::option::of(NAME)).prop_map(
        |(pname, version, description, license, main_program)| About {
            pname,
            version,
            description,
            homepage: String::new(),
            license,
            main_program,
        },
    )
}

fn records() -> impl Strategy<Value = Vec<Record>> {
    let one = (about(), standing(), prop::option::of(standing()));
    prop::collection::btree_map(ATTR, one, 0..90).prop_map(|all| {
        let mut records = Vec::new();
        for (attr, (about, first, second)) in all {
            let attr: Attr = attr.parse().expect("an attribute");
            let record = |system, standing| Record { attr: attr.clone(), system, about: about.clone(), standing };
            records.push(record(System::X86_64Linux, first));
            records.extend(second.map(|standing| record(System::Aarch64Linux, standing)));
        }
        records
    })
}

fn rows() -> impl Strategy<Value = Vec<(String, String)>> {
    prop::collection::vec((ATTR, "[ab\\[][a-c]{0,3}"), 0..60)
}

fn write(records: &[Record], rows: &[(String, String)]) -> Files {
    let mut writer = Writer::new("0".repeat(40).parse().expect("a revision"));
    records.iter().for_each(|record| writer.evaluated(record.clone()).expect("told once"));
    for (attr, bin) in rows {
        writer.in_database(attr.parse().expect("an attribute"), bin.parse().expect("a program"));
    }
    writer.finish().expect("small")
}

proptest! {
    // Each case is a whole catalogue, of several blocks.
    #![proptest_config(ProptestConfig::with_cases(32))]
    /// A catalogue from the parts of a checkpoint has the same bytes, whatever the size of its parts.
    #[test]
    fn records_come_back_from_parts_as_they_are_written(records in records(), most in 700..5000usize) {
        let parts = part::pack("basis", &records, most);
        prop_assert!(parts.iter().all(|part| part.len() <= most));
        let read: Vec<Record> = parts.iter().flat_map(|part| part::read(part).expect("a part").1).collect();
        prop_assert_eq!(read.len(), records.len());
        prop_assert!(write(&read, &[]) == write(&records, &[]));
    }

    #[test]
    fn the_same_in_any_order_gives_the_same_bytes(
        (records, shuffled) in records().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
        (rows, mixed) in rows().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
    ) {
        prop_assert_eq!(write(&records, &rows), write(&shuffled, &mixed));
    }

    #[test]
    fn everything_that_was_told_can_be_asked_for(records in records(), rows in rows()) {
        let files = write(&records, &rows);
        let lookup = Lookup::open(files.lookup.as_slice()).expect("a catalogue");

        let attrs: BTreeSet<&Attr> = records.iter().map(|record| &record.attr).collect();
        prop_assert_eq!(lookup.attrs(), attrs.len());
        let lost = records.iter().filter(|record| matches!(&record.standing, Standing::Refused { why, .. } if why.is_loss()));
        let named: BTreeSet<(Attr, System)> = lookup.lost().map(|lost| (lost.attr, lost.system)).collect();
        prop_assert_eq!(named, lost.map(|record| (record.attr.clone(), record.system)).collect::<BTreeSet<_>>());

        for record in &records {
            let range = lookup.details(&record.attr).expect("details");
            let block = &files.details[usize::try_from(range.start)?..usize::try_from(range.end)?];
            let details = details::read(block, &record.attr)?;
            match (&details.standings[&record.system], &record.standing) {
                (Standing::Buildable { drv_path }, Standing::Buildable { drv_path: told }) => prop_assert_eq!(drv_path, told),
                (Standing::Refused { why, .. }, Standing::Refused { why: told, .. }) => prop_assert_eq!(why, told),
                (found, told) => prop_assert!(false, "{:?} is not {:?}", found, told),
            }
            prop_assert_eq!(&details.about.pname, &record.about.pname);

            // An existing package is never unknown, and its refusal is the one that was written.
            let resolution = lookup.resolve(&Wanted::Package(record.attr.clone()), record.system);
            match (&resolution, &record.standing) {
                (Resolution::Unknown { .. } | Resolution::NoSuchProgram { .. }, _) => prop_assert!(false, "{:?}", resolution),
                (Resolution::Found { attr, .. }, Standing::Refused { .. }) => prop_assert_ne!(attr, &record.attr),
                (Resolution::Refused { attr, .. }, Standing::Buildable { .. }) => prop_assert_ne!(attr, &record.attr),
                _ => {}
            }
        }

        let mut shipped: BTreeMap<&str, BTreeSet<Bin>> = BTreeMap::new();
        for (attr, bin) in rows.iter().filter(|(attr, _)| attrs.iter().any(|known| known.as_str() == attr)) {
            shipped.entry(attr).or_default().insert(bin.parse().expect("a program"));
        }
        for (attr, programs) in shipped {
            let package = lookup.package(&attr.parse().expect("an attribute")).expect("it was told");
            prop_assert_eq!(package.programs, programs.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_name_that_was_not_told_is_unknown(records in records(), name in "[d-z]{1,12}") {
        let files = write(&records, &[]);
        let lookup = Lookup::open(files.lookup).expect("a catalogue");
        let resolution = lookup.resolve(&name.parse().expect("a path"), System::X86_64Linux);
        prop_assert!(matches!(resolution, Resolution::Unknown { .. }), "{:?}", resolution);
    }
}
