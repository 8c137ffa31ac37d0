//! Small sets, made by hand.

use binplz_catalogue::{About, Files, Lookup, Obstacle, Record, Standing, Writer};
use binplz_core::{
    id::key::System,
    objects::artifact::{Declared, Manifest, Program, Refusal, Verdict},
};

pub(crate) const X86: System = System::X86_64Linux;
pub(crate) const ARM: System = System::Aarch64Linux;

/// A catalogue under construction, in few words.
pub(crate) struct Set(Writer);

impl Set {
    pub(crate) fn new() -> Set {
        Set(Writer::new("ab".repeat(20).parse().expect("a revision")))
    }

    /// Adds a package that is buildable on x86_64, with its declared main program.
    pub(crate) fn package(self, attr: &str, main: Option<&str>) -> Set {
        self.record(X86, attr, main, Standing::Buildable { drv_path: None })
    }

    /// The same, with a description.
    pub(crate) fn described(mut self, attr: &str, description: &str) -> Set {
        let about = About { description: description.to_owned(), ..About::default() };
        let (attr, standing) = (attr.parse().expect("an attribute"), Standing::Buildable { drv_path: None });
        self.0.evaluated(Record { attr, system: X86, about, standing }).expect("told once");
        self
    }

    /// The same, with its derivation.
    pub(crate) fn derivation(self, attr: &str, drv: char) -> Set {
        let drv_path = format!("/nix/store/{}-{attr}.drv", drv.to_string().repeat(32));
        self.record(X86, attr, None, Standing::Buildable { drv_path: Some(drv_path) })
    }

    /// Adds an attribute that cannot be built.
    pub(crate) fn refused(self, attr: &str, main: Option<&str>, why: Obstacle, detail: Option<&str>) -> Set {
        self.record(X86, attr, main, Standing::Refused { why, detail: detail.map(str::to_owned) })
    }

    pub(crate) fn record(mut self, system: System, attr: &str, main: Option<&str>, standing: Standing) -> Set {
        let pname = attr.rsplit('.').next().unwrap_or_default().to_owned();
        let about = About { pname, main_program: main.map(str::to_owned), ..About::default() };
        let attr = attr.parse().expect("an attribute");
        self.0.evaluated(Record { attr, system, about, standing }).expect("told once");
        self
    }

    /// Rows of the channel's database.
    pub(crate) fn database(mut self, attr: &str, programs: &[&str]) -> Set {
        for bin in programs {
            self.0.in_database(attr.parse().expect("an attribute"), bin.parse().expect("a program"));
        }
        self
    }

    /// A build's manifest: static programs, and scripts.
    pub(crate) fn built(self, attr: &str, programs: &[&str], scripts: &[&str]) -> Set {
        let programs: Vec<_> = programs.iter().map(|bin| (*bin, None)).collect();
        self.built_with_outputs(attr, &programs, scripts, &[])
    }

    /// The same, of a package with several outputs: each program with its output, and the outputs that Nix installs.
    pub(crate) fn built_with_outputs(
        mut self,
        attr: &str,
        programs: &[(&str, Option<&str>)],
        scripts: &[&str],
        installed: &[&str],
    ) -> Set {
        let output = |name: &str| name.parse().expect("an output");
        let verdict = || Verdict::Static {
            sha256: "0".repeat(64).parse().expect("hex"),
            size: 1,
            leftovers: Vec::new(),
            needs: None,
            unwrapped: false,
        };
        let program = |bin: &str, of: Option<&str>, verdict| {
            let bin = bin.parse().expect("a program");
            Program { bin, output: of.map(output), verdict }
        };
        let programs = programs.iter().map(|(bin, of)| program(bin, *of, verdict()));
        let scripts = scripts.iter().map(|bin| program(bin, None, Verdict::Refused { why: Refusal::Script }));
        let manifest = Manifest {
            pname: attr.to_owned(),
            version: "1".to_owned(),
            declared: Declared::default(),
            drv_path: String::new(),
            outputs: Vec::new(),
            installed: installed.iter().map(|name| output(name)).collect(),
            archive: None,
            bundle: None,
            programs: programs.chain(scripts).collect(),
        };
        self.0.built(attr.parse().expect("an attribute"), &manifest);
        self
    }

    pub(crate) fn files(self) -> Files {
        self.0.finish().expect("small")
    }

    pub(crate) fn lookup(self) -> Lookup<Vec<u8>> {
        Lookup::open(self.files().lookup).expect("a catalogue")
    }
}
