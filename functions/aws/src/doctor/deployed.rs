//! A deployed stack: images, the nixpkgs of its pins, and what its builds wait for.

use aws_types::SdkConfig;
use binplz_core::{
    build::{policy::Names, size::Size},
    flow::operator::{
        findings::{Finding, State},
        orders::{Operator, Order},
        pins,
    },
    id::key::{PinName, System},
    nixpkgs::pins::{NO_PROGRAMS, PROGRAMS_MISSING, Pin, Programs, Source},
    quota::limits::Why,
};

use super::{BUILDS, unknown};
use crate::{Operating, images::Images, stack::Stack};

/// Makes all checks of a stack.
pub(super) async fn examine(stack: &Stack, sdk: &SdkConfig) -> Vec<Finding> {
    let mut findings = stack.images(sdk).await;
    let operating = match stack.operating(sdk).await {
        Ok(operating) => operating,
        Err(fault) => {
            findings.push(unknown("pins", &fault));
            return findings;
        }
    };
    findings.extend(stack.nixpkgs(&operating).await);
    findings.extend(stack.waits(&operating).await);
    findings
}

impl Stack {
    /// The number of parallel builds.
    pub(super) fn builds(&self) -> u32 {
        self.parameters.get("MaxBuilds").and_then(|builds| builds.parse().ok()).unwrap_or(BUILDS)
    }

    /// Whether catalogues are built.
    pub(super) fn has_catalogues(&self) -> bool {
        self.outputs.get("Names").is_none_or(|names| *names != Names::Attributes.to_string())
    }

    /// The size of a builder's task.
    pub(super) fn size(&self) -> Size {
        self.outputs.get("BuilderMachine").and_then(|size| size.parse().ok()).unwrap_or_default()
    }

    async fn images(&self, sdk: &SdkConfig) -> Vec<Finding> {
        // ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME
        let repository = self.outputs.get("BuilderRepository").and_then(|uri| Some(uri.split_once('/')?.1));
        let tags = self.parameters.get("ImageTags").map(|tags| tags.split(',').map(str::to_owned).collect());
        let (Some(repository), Some(tags)) = (repository, tags) else { return Vec::new() };
        let images = match Images::of(sdk, repository, tags) {
            Ok(images) => images,
            Err(fault) => return vec![unknown("image", &fault)],
        };
        let needed = self.outputs.get("System").and_then(|system| system.parse().ok()).unwrap_or(System::X86_64Linux);
        let mut findings = Vec::new();
        for system in System::ALL {
            let check = format!("image {system}");
            findings.push(match images.has(system).await {
                Ok(true) => Finding::ok(&check, "the builder's image exists"),
                Ok(false) => Finding {
                    state: if system == needed { State::Missing } else { State::Optional },
                    ..Finding::missing(
                        &check,
                        format!("no builder image, so nothing is built for {system}"),
                        format!("scripts/image push --stack {}   # on a machine of that architecture", self.name),
                    )
                },
                Err(error) => unknown(&check, &error),
            });
        }
        findings
    }

    /// The tarballs of the pins that are served, and their databases of programs.
    async fn nixpkgs(&self, operating: &Operating) -> Vec<Finding> {
        let pins = match pins::load(operating).await {
            Ok(pins) => pins,
            Err(error) => return vec![unknown("pins", &error)],
        };
        let mut findings = Vec::new();
        for (name, Pin { rev, nixpkgs, programs, .. }) in pins.all() {
            findings.push(self.programs(operating, name, programs.as_ref()).await);
            // Builders download other sources themselves.
            let Source::Stored { .. } = nixpkgs else { continue };
            let check = format!("nixpkgs {name}");
            findings.push(match operating.store.has_nixpkgs(rev).await {
                Ok(true) => Finding::ok(&check, format!("its tarball is stored ({rev})")),
                Ok(false) => {
                    let mend = format!("binplz pin move {name} {rev} --stack {}", self.name);
                    Finding::missing(
                        &check,
                        format!("the tarball of {rev} is missing, so nothing is built from it"),
                        mend,
                    )
                }
                Err(error) => unknown(&check, &error),
            });
        }
        findings
    }

    async fn programs(&self, operating: &Operating, name: &PinName, programs: Option<&Programs>) -> Finding {
        let check = format!("programs {name}");
        let mend = format!("binplz pin programs {name} programs.sqlite --stack {}", self.name);
        let stored = match programs {
            Some(Programs::Included) => return Finding::ok(&check, "its nixpkgs has a database of programs"),
            Some(Programs::Stored(content)) => operating.store.has_programs(&content.sha256).await,
            None => {
                return Finding { state: State::Optional, ..Finding::missing(&check, NO_PROGRAMS, mend) };
            }
        };
        match stored {
            Ok(true) => Finding::ok(&check, "its database of programs is stored"),
            Ok(false) => Finding::missing(&check, PROGRAMS_MISSING, mend),
            Err(error) => unknown(&check, &error),
        }
    }

    /// What keeps builds from starting.
    async fn waits(&self, operating: &Operating) -> Vec<Finding> {
        const CHECK: &str = "builds";
        let overview = match operating.carry_out(Order::Overview).await.and_then(|outcome| outcome.overview()) {
            Ok(overview) => overview,
            Err(error) => return vec![unknown(CHECK, &error)],
        };
        let found = overview.paused.iter().map(|(system, paused)| {
            let mend = match paused.why {
                Why::Operator | Why::Unpulled | Why::Sandbox | Why::Signature => "resume",
                _ => "status",
            };
            Finding::missing(
                CHECK,
                format!("{system}: {}", paused.sentence()),
                format!("binplz {mend} --stack {}", self.name),
            )
        });
        let found: Vec<_> = found.collect();
        if found.is_empty() { vec![Finding::ok(CHECK, "new builds start")] } else { found }
    }
}
