//! What a package is made of: what its evaluation declares, what the derivations' files show, and what builds it.

use std::{collections::HashSet, ffi::OsStr, path::PathBuf, time::Duration};

use binplz_core::{
    VERSION,
    id::key::Sha256,
    objects::materials::{Builder, Component, Materials},
};

use crate::{context::BuildContext, drv, evaluate::Package};

/// How long the answer on this task's image may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// The materials of a package; `None` if it declares none. Nothing in them fails a build. `bundled`: the store paths in its
/// bundle.
pub(crate) fn of(context: &BuildContext, package: &Package, bundled: &[PathBuf]) -> Option<Materials> {
    let declared = package.materials.clone()?;
    let with_sources = |one: Component| Component { sources: drv::sources(&one.derivation), ..one };
    let declares: HashSet<String> = std::iter::once(&package.drv)
        .chain(declared.linked.iter().map(|one| &one.derivation))
        .filter_map(|derivation| drv::outputs(derivation))
        .flatten()
        .map(|output| output.path)
        .collect();
    let bundled = bundled.iter().map(|path| path.display().to_string());
    let inputs = context.nix.ask("nix-store", &[OsStr::new("-qR"), OsStr::new(&package.drv)]);
    let inputs = inputs.ok().and_then(Result::ok).unwrap_or_default();
    let materials = Materials {
        builder: Builder { version: VERSION.to_owned(), nix: package.nix.clone(), image: image() },
        package: with_sources(Component { derivation: package.drv.clone(), ..declared.package }),
        linked: declared.linked.into_iter().map(with_sources).collect(),
        contained: bundled.filter(|path| !declares.contains(path)).collect(),
        build_time: declared.build_time,
        inputs: inputs.lines().map(str::to_owned).collect(),
    };
    Some(materials.cleaned())
}

/// The digest of the image that this task runs in, by ECS' metadata; `None` elsewhere.
fn image() -> Option<Sha256> {
    #[expect(clippy::disallowed_methods, reason = "what ECS tells a task")]
    let url = std::env::var("ECS_CONTAINER_METADATA_URI_V4").ok()?;
    let config = ureq::config::Config::builder().timeout_global(Some(PATIENCE)).proxy(None).build();
    let text = ureq::Agent::new_with_config(config).get(&url).call().ok()?.body_mut().read_to_string().ok()?;
    let container: serde_json::Value = serde_json::from_str(&text).ok()?;
    container["ImageID"].as_str()?.strip_prefix("sha256:")?.parse().ok()
}
