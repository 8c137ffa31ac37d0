//! The details of a package. Reads only.

use futures_util::future::try_join_all;
use serde::Serialize;

use crate::{
    build::{Build, Made, State, policy::Names, protocol::Nixpkgs},
    flow::{
        load_build, manifest_of,
        operator::pins,
        request::{
            catalogue::{self, Scope},
            denial::Denial,
            search, status,
        },
    },
    id::{
        key::{Attr, Bin, BuildKey, OutputName, PinName, Product, Rev, Sha256, System},
        shell::{self, word},
        target::{PinRef, Target, Wanted},
        text::bytes,
    },
    nixpkgs::{
        catalogue::{About, Resolution},
        pins::{Pins, ResolvedPin, Source},
        served::Notes,
    },
    objects::{
        artifact::{self, Main, Verdict},
        needs,
    },
    ports::{Catalogue, HasCatalogues, HasLedger, HasStore, Unavailable},
};

/// A package's page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Package {
    /// Its attribute.
    pub package: Attr,
    /// What to ask for.
    pub target: String,
    /// The same for its bundle.
    pub bundle: String,
    /// For which system.
    pub system: System,
    /// Under which pin.
    pub pin: PinName,
    /// From which nixpkgs.
    pub nixpkgs: Rev,
    /// The commit's catalogue does not have it and is not complete, so it is unknown whether the package exists.
    pub by_attribute: bool,
    /// What it says of itself.
    #[serde(flatten)]
    pub about: About,
    /// Its programs; empty if they are unknown.
    pub programs: Vec<Program>,
    /// Why it can not be had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Its build.
    pub build: status::Status,
    /// How it stands elsewhere: every pin and every system.
    pub states: Vec<Place>,
    /// What brings its main program; `None`: it has several programs, and none is that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fetch: Option<String>,
    /// What builds the same output of the same derivation on any machine with Nix.
    pub nix_build: String,
}

impl Package {
    /// How it stands, in a word or two.
    pub fn state(&self) -> &'static str {
        if self.is_refused() { "not available" } else { self.build.state }
    }

    /// What a link to its build says; `None`: there will be no build.
    pub fn link(&self) -> Option<&'static str> {
        let link = match self.build.state {
            "ready" if self.fetch.is_none() => "Choose a program",
            "ready" => "Download",
            "queued" | "building" => "Watch the build",
            "unasked" => "Build it",
            _ => "Why it failed",
        };
        (!self.is_refused()).then_some(link)
    }

    /// The outputs that [`Package::nix_build`] does not build and that have programs, each once, with their commands.
    pub fn other_outputs(&self) -> Vec<(&OutputName, &str)> {
        let programs = self.programs.iter();
        let commands = programs.filter_map(|program| Some((program.output.as_ref()?, program.nix_build.as_deref()?)));
        let mut others: Vec<_> = commands.collect();
        others.sort();
        others.dedup();
        others
    }

    fn is_refused(&self) -> bool {
        self.refused.is_some() && self.build.state == "unasked"
    }

    /// Whether its home page is one that a link may lead to.
    pub fn has_link(&self) -> bool {
        self.about.homepage.starts_with("https://") || self.about.homepage.starts_with("http://")
    }
}

/// A program of a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Program {
    /// Its name.
    pub program: Bin,
    /// What to ask for.
    pub target: String,
    /// Whether it is what the package's own path serves.
    pub main: bool,
    /// The output that contains it, once it is built.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<OutputName>,
    /// The command that builds this output, if it is another than that of [`Package::nix_build`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nix_build: Option<String>,
    /// In bytes, once it is built.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
    /// Why it is not served, once it is built; reads on after its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// What it needs beyond its file, once it is built ([`needs::json`]).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub needs: Option<serde_json::Value>,
    /// The same, and whether its name matters, for people.
    #[serde(skip)]
    pub note: String,
}

impl Program {
    /// How large it is, for people.
    pub fn size_told(&self) -> String {
        self.size.map(bytes).unwrap_or_default()
    }
}

/// A package in one nixpkgs on one system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Under which pin.
    pub pin: PinName,
    /// Which nixpkgs that is.
    pub nixpkgs: Rev,
    /// For which system.
    pub system: System,
    /// What to ask for.
    pub target: String,
    /// As in the status document.
    pub state: &'static str,
}

/// All there is to say on what a target means. A program's name leads to its package.
///
/// # Errors
/// [`Denial`]: there is no such package, or a backend does not answer.
pub async fn package<D: HasLedger + HasStore + HasCatalogues>(d: &D, asked: &Target) -> Result<Package, Denial> {
    let pins = pins::load(d).await?;
    let found = pins.resolve(asked, d.system()).map_err(Denial::Unserved)?;
    let known = known(d, &found, &asked.wanted).await?;
    if let Some(withheld) = pins.withheld().get(&known.attr) {
        return Err(Denial::Withheld(known.attr, withheld.clone()));
    }
    let of = |wanted| Target { wanted, ..asked.clone() };
    let target = of(Wanted::Package(known.attr.clone()));
    let (build, _) = load_build(d, &found.build(Product::Package(known.attr.clone()))).await?;
    let nix_build = |output: Option<&OutputName>| nix_build(&pins, &found, &known.attr, output);
    let (programs, about, nix_build) = match &build.state {
        State::Ready(made) => built(d, &build, made, &target, known.about, nix_build).await?,
        _ => (expected(&target, known.main.as_ref(), &known.programs), known.about, nix_build(None)),
    };
    let main = programs.iter().find(|program| program.main).map(|program| program.program.as_str());
    let name = main.unwrap_or(known.attr.leaf());
    let wait = !matches!(build.state, State::Ready { .. });
    Ok(Package {
        target: target.to_string(),
        bundle: of(Wanted::Bundle { attr: known.attr.clone(), bin: None, full: false }).to_string(),
        fetch: (main.is_some() || programs.is_empty()).then(|| shell::fetch_as(d.origin(), &target, wait, name)),
        system: found.system,
        by_attribute: known.by_attribute,
        about,
        programs,
        refused: known.refused,
        nix_build,
        states: places(d, &pins, &target, &known.attr).await?,
        build: status::view(d, build, known.by_attribute).await?,
        package: known.attr,
        pin: found.pin,
        nixpkgs: found.rev,
    })
}

/// What is known of a package before it is built.
struct PackageFacts {
    attr: Attr,
    by_attribute: bool,
    about: About,
    main: Option<Bin>,
    programs: Vec<Bin>,
    refused: Option<String>,
}

async fn known<D: HasLedger + HasStore + HasCatalogues>(
    d: &D,
    found: &ResolvedPin,
    wanted: &Wanted,
) -> Result<PackageFacts, Denial> {
    let names = d.policy().names;
    let nothing = |by_attribute| PackageFacts {
        attr: wanted.attr().clone(),
        by_attribute,
        about: About::default(),
        main: None,
        programs: Vec::new(),
        refused: None,
    };
    for opened in catalogue::open(d, found).await? {
        let resolution = opened.catalogue.resolve(wanted, found.system);
        let named = |attr: &Attr| opened.catalogue.entry(attr, found.system);
        let entry = named(wanted.attr()).or_else(|| match &resolution {
            Resolution::Found { attr, .. } | Resolution::Refused { attr, .. } => named(attr),
            _ => None,
        });
        match (entry.map(|entry| opened.told(entry)), resolution) {
            (Some(entry), _) => {
                let about = search::abouts(d, &opened, std::slice::from_ref(&entry)).await.pop();
                return Ok(PackageFacts {
                    by_attribute: opened.scope == Scope::Former,
                    about: about.unwrap_or_default(),
                    main: entry.main,
                    programs: entry.programs,
                    refused: entry.refused.map(|failure| failure.sentence()),
                    attr: entry.attr,
                });
            }
            (None, _) if opened.scope != Scope::Whole => {}
            (None, _) if names == Names::Open => return Ok(nothing(false)),
            (None, Resolution::Unknown { near }) => return Err(Denial::Unknown { wanted: wanted.clone(), near }),
            (None, _) => return Err(Denial::Unknown { wanted: wanted.clone(), near: Vec::new() }),
        }
    }
    Ok(nothing(names != Names::Attributes))
}

/// The programs that a package should have, before anybody has looked.
fn expected(target: &Target, main: Option<&Bin>, programs: &[Bin]) -> Vec<Program> {
    let unlisted = main.filter(|main| !programs.contains(main));
    let program = |bin: &Bin| Program {
        program: bin.clone(),
        target: of(target, bin),
        main: main == Some(bin),
        output: None,
        nix_build: None,
        size: None,
        sha256: None,
        refused: None,
        needs: None,
        note: String::new(),
    };
    unlisted.into_iter().chain(programs).map(program).collect()
}

/// The programs that it has, and the command that builds the main one, else the first.
async fn built<D: HasStore>(
    d: &D,
    build: &Build,
    made: &Made,
    target: &Target,
    about: About,
    nix_build: impl Fn(Option<&OutputName>) -> String,
) -> Result<(Vec<Program>, About, String), Unavailable> {
    let manifest = manifest_of(d, &build.key, made).await?;
    let (manifest, _) =
        manifest.map_err(|flaw| Unavailable::new("store", format!("the manifest of {} {flaw}", build.key)))?;
    let manifest = manifest.cleaned();
    let all = manifest.by_name();
    let main = match manifest.main(target.wanted.attr().leaf()) {
        Main::Program(program) => Some(program),
        Main::Many | Main::Missing(_) | Main::None => None,
    };
    let first = main.or_else(|| all.iter().copied().find(|program| manifest.installs(program)));
    let usual = first.and_then(|program| manifest.selector(program));
    let program = |program: &&artifact::Program| {
        let (size, sha256, refused) = match &program.verdict {
            Verdict::Static { sha256, size, .. } => (Some(*size), Some(sha256.clone()), None),
            Verdict::Refused { why } => (None, None, Some(why.sentence().into_owned())),
        };
        let notes = Notes::of(&manifest, program);
        let output = manifest.selector(program);
        Program {
            target: of(target, &program.bin),
            program: program.bin.clone(),
            main: main == Some(program),
            output: program.output.clone(),
            nix_build: (output != usual).then(|| nix_build(output)),
            size,
            sha256,
            refused,
            note: notes.sentence(&program.bin),
            needs: notes.needs.as_deref().map(needs::json),
        }
    };
    let (programs, nix_build) = (all.iter().map(program).collect(), nix_build(usual));
    // What was built says which version it is, also where there is no catalogue.
    Ok((programs, About { pname: manifest.pname.clone(), version: manifest.version.clone(), ..about }, nix_build))
}

/// What asks for a program of a package.
fn of(package: &Target, bin: &Bin) -> String {
    let wanted = Wanted::Program(package.wanted.attr().clone(), bin.clone());
    Target { wanted, ..package.clone() }.to_string()
}

/// How the package stands under every pin, for every system.
async fn places<D: HasLedger>(d: &D, pins: &Pins, target: &Target, attr: &Attr) -> Result<Vec<Place>, Unavailable> {
    let everywhere = pins.all().iter().flat_map(|(name, pin)| System::ALL.map(|system| (name, pin, system)));
    let place = |(name, pin, system): (&PinName, &crate::nixpkgs::pins::Pin, System)| {
        let key = BuildKey { rev: pin.rev.clone(), system, product: Product::Package(attr.clone()) };
        let target = Target {
            wanted: target.wanted.clone(),
            system: (system != d.system()).then_some(system),
            pin: (name != pins.default_name()).then(|| PinRef::Name(name.clone())),
        };
        let (pin, nixpkgs) = (name.clone(), pin.rev.clone());
        async move {
            let (build, _) = load_build(d, &key).await?;
            let state = status::name(&build.state);
            Ok(Place { pin, nixpkgs, system, target: target.to_string(), state })
        }
    };
    try_join_all(everywhere.map(place)).await
}

/// The command that builds the same derivation as a builder does: from the same nixpkgs, for the same system, with no configuration
/// of its user's. `output` is the one to build, if the attribute alone does not name it.
fn nix_build(pins: &Pins, found: &ResolvedPin, attr: &Attr, output: Option<&OutputName>) -> String {
    let file = match pins.nixpkgs(&found.rev) {
        Some(Source::Elsewhere(Nixpkgs::Path(path))) => path.clone(),
        Some(Source::Elsewhere(Nixpkgs::Tarball { url, .. })) => url.clone(),
        // A commit whose tarball an operator has uploaded is a commit of nixpkgs, which is public.
        Some(Source::Stored { .. }) | None => format!("https://github.com/NixOS/nixpkgs/archive/{}.tar.gz", found.rev),
    };
    let output = output.map_or(String::new(), |output| format!(".{output}"));
    let attr = word(&format!("pkgsStatic.{attr}{output}"));
    format!(
        "nix build --file {} --argstr system {} --arg config '{{}}' --arg overlays '[]' {attr}",
        word(&file),
        found.system
    )
}
