//! The architecture inside core, read from its sources: which module uses which, and which ports a function's flows need.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use syn::{
    Attribute, File, GenericParam, Item, ItemFn, ItemMod, ItemUse, Signature, TypeParamBound, UseTree,
    punctuated::Punctuated, visit::Visit,
};

/// A module's path below the crate, such as `["flow", "request"]`.
type Module = Vec<String>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The sources of a crate: each file's module and its syntax.
fn sources(krate: &str) -> BTreeMap<Module, File> {
    let src = root().join("functions").join(krate).join("src");
    let mut files = BTreeMap::new();
    let mut dirs = vec![src.clone()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
                let below = path.strip_prefix(&src).expect("below src").with_extension("");
                let mut module: Module = below.iter().map(|part| part.to_string_lossy().into_owned()).collect();
                module.retain(|part| part != "mod" && part != "lib");
                files.insert(module, syn::parse_file(&read(&path)).expect("Rust"));
            }
        }
    }
    files
}

/// Collects the paths of a module that begin in its crate, without those of its tests.
struct Uses<'a> {
    module: &'a Module,
    paths: BTreeSet<Module>,
}

impl Uses<'_> {
    fn add(&mut self, path: Vec<String>) {
        let up = path.iter().take_while(|part| *part == "super").count();
        let base = match path.first().map(String::as_str) {
            Some("crate") => &[][..],
            Some("super") => &self.module[..self.module.len().saturating_sub(up)],
            _ => return,
        };
        self.paths.insert(base.iter().cloned().chain(path.into_iter().skip(up.max(1))).collect());
    }

    fn add_tree(&mut self, tree: &UseTree, before: &[String]) {
        let with = |name: &syn::Ident| before.iter().cloned().chain([name.to_string()]).collect::<Vec<_>>();
        match tree {
            UseTree::Path(path) => self.add_tree(&path.tree, &with(&path.ident)),
            UseTree::Name(name) => self.add(with(&name.ident)),
            UseTree::Rename(name) => self.add(with(&name.ident)),
            UseTree::Glob(_) => self.add(before.to_vec()),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.add_tree(tree, before)),
        }
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg") && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

impl<'ast> Visit<'ast> for Uses<'_> {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if !is_for_tests(&item.attrs) {
            syn::visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if !is_for_tests(&item.attrs) {
            self.add_tree(&item.tree, &[]);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.add(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        syn::visit::visit_path(self, path);
    }
}

/// Which modules of a crate each of its modules uses. A module and those that it lies in do not count.
fn uses(files: &BTreeMap<Module, File>) -> BTreeMap<Module, BTreeSet<Module>> {
    let edges = |(module, file): (&Module, &File)| {
        let mut uses = Uses { module, paths: BTreeSet::new() };
        uses.visit_file(file);
        let module_of = |path: Module| {
            (0..=path.len()).rev().map(|end| path[..end].to_vec()).find(|module| files.contains_key(module))
        };
        let used = uses.paths.into_iter().filter_map(module_of);
        let apart = used.filter(|used| !module.starts_with(used) && !used.starts_with(module)).collect();
        (module.clone(), apart)
    };
    files.iter().map(edges).collect()
}

/// A way from a module back to itself, if there is one.
fn cycle(graph: &BTreeMap<Module, BTreeSet<Module>>) -> Option<Vec<Module>> {
    graph.keys().find_map(|start| {
        let mut ways: Vec<Vec<Module>> = vec![vec![start.clone()]];
        let mut seen = BTreeSet::new();
        while let Some(way) = ways.pop() {
            for next in &graph[way.last().expect("a module")] {
                let longer: Vec<Module> = way.iter().cloned().chain([next.clone()]).collect();
                if next == start {
                    return Some(longer);
                }
                if seen.insert(next.clone()) {
                    ways.push(longer);
                }
            }
        }
        None
    })
}

fn names(modules: &[Module]) -> Vec<String> {
    modules.iter().map(|module| module.join("::")).collect()
}

#[test]
fn no_module_of_core_uses_itself_by_way_of_others() {
    let found = cycle(&uses(&sources("core")));
    assert!(found.is_none(), "a cycle: {}", names(&found.unwrap_or_default()).join(" → "));
}

#[test]
fn flows_and_telemetry_return_outcomes_and_import_no_presentation() {
    for (module, used) in uses(&sources("core")) {
        let above = used.into_iter().find(|used| used[0] == "answer");
        assert!(module.first().is_some_and(|first| first == "answer") || above.is_none(), "{module:?} uses {above:?}");
    }
}

#[test]
fn a_cycle_is_found_whatever_its_form() {
    let files = |texts: [(&str, &str); 3]| {
        let parse = |(path, text): (&str, &str)| {
            (path.split("::").map(str::to_owned).collect::<Module>(), syn::parse_file(text).expect("Rust"))
        };
        texts.map(parse).into_iter().collect::<BTreeMap<_, _>>()
    };
    for (a, b, c, cyclic) in [
        ("use crate::b::X;", "use crate::{c, c::Y as Z};", "fn f() { crate::a::g() }", true),
        ("use super::b;", "use crate::c::*;", "use super::a::{self, T};", true),
        ("use crate::b::X;", "use crate::c::Y;", "#[cfg(test)]\nmod tests { use crate::a::T; }", false),
        ("use crate::b::X;", "use crate::c::Y;", "fn f(a: u8) { std::a::b(a) }", false),
    ] {
        let found = cycle(&uses(&files([("a", a), ("b", b), ("c", c)])));
        assert_eq!(found.is_some(), cyclic, "{a} {b} {c}: {found:?}");
    }
    let family = files([("a", "use crate::a::b::X;"), ("a::b", "use super::Y; use crate::c;"), ("c", "")]);
    assert_eq!(cycle(&uses(&family)), None, "a module and its own child");
}

/// The actions by which a port is used on AWS. A role has the port if it allows one of each group.
const PORTS: [(&str, &[&[&str]]); 10] = [
    ("HasLedger", &[&["dynamodb:GetItem"]]),
    ("HasBell", &[&["sqs:SendMessage"]]),
    ("HasLauncher", &[&["ecs:RunTask", "ecs:StopTask"]]),
    ("HasStore", &[&["s3:GetObject", "s3:ListBucket"]]),
    ("Inspect", &[&["s3:GetObject"]]),
    ("Intake", &[&["s3:PutObject"]]),
    ("Collect", &[&["s3:DeleteObject"], &["s3:ListBucket"]]),
    ("HasCatalogues", &[&["s3:GetObject"]]),
    ("HasWaitLimiter", &[&["dynamodb:UpdateItem"]]),
    ("Signer", &[&["kms:Sign"], &["s3:PutObject"]]),
];
/// Ports that a role needs nothing for beyond its other actions, or only where the operator has set a limit.
const FREE: [&str; 3] = ["Deployment", "HasDownloadStats", "BinaryCache"];

/// The traits in the bounds of a function's type parameters, those of associated types included.
fn bounds(signature: &Signature) -> BTreeSet<String> {
    fn of(bounds: &Punctuated<TypeParamBound, syn::Token![+]>, found: &mut BTreeSet<String>) {
        for bound in bounds {
            let TypeParamBound::Trait(bound) = bound else { continue };
            let last = bound.path.segments.last().expect("a trait");
            found.insert(last.ident.to_string());
            if let syn::PathArguments::AngleBracketed(arguments) = &last.arguments {
                for argument in &arguments.args {
                    if let syn::GenericArgument::Constraint(constraint) = argument {
                        of(&constraint.bounds, found);
                    }
                }
            }
        }
    }
    let mut found = BTreeSet::new();
    for parameter in &signature.generics.params {
        if let GenericParam::Type(parameter) = parameter {
            of(&parameter.bounds, &mut found);
        }
    }
    found
}

/// The ports that a Lambda function's flows need: the bounds of the functions of core and web that its source names.
fn needed(bin: &File, library: &BTreeMap<String, ItemFn>) -> BTreeSet<String> {
    struct Names(BTreeSet<String>);
    impl<'ast> Visit<'ast> for Names {
        fn visit_path(&mut self, path: &'ast syn::Path) {
            self.0.insert(path.segments.last().expect("a name").ident.to_string());
            syn::visit::visit_path(self, path);
        }
    }
    let mut names = Names(BTreeSet::new());
    names.visit_file(bin);
    names.0.iter().filter_map(|name| library.get(name)).flat_map(|flow| bounds(&flow.sig)).collect()
}

/// The text of a resource of the template, with what its aliases (`*name`) stand for.
fn resource(template: &str, name: &str) -> String {
    let start = template.find(&format!("\n  {name}:\n")).unwrap_or_else(|| panic!("no resource {name}")) + 1;
    let text = &template[start..];
    let next = text.match_indices("\n  ").find(|(at, _)| text.as_bytes()[at + 3].is_ascii_alphabetic());
    let text = next.map_or(text, |(at, _)| &text[..at]);
    let aliases = text.lines().filter_map(|line| line.trim().trim_end_matches(',').strip_prefix('*'));
    // An anchored statement ends before the next one.
    let anchored = aliases.map(|alias| {
        let (_, rest) =
            template.split_once(&format!("\n        &{alias} ")).unwrap_or_else(|| panic!("no anchor {alias}"));
        let next = ["\n        {", "\n        &", "\n        *", "\n        #"];
        &rest[..next.iter().filter_map(|start| rest.find(start)).min().unwrap_or(rest.len())]
    });
    std::iter::once(text).chain(anchored).collect()
}

#[test]
fn no_functions_flow_requires_a_port_that_its_role_lacks() {
    let is_public = |function: &ItemFn| matches!(function.vis, syn::Visibility::Public(_));
    let functions = |krate: &str, part: fn(&Module) -> bool| {
        let files = sources(krate).into_iter().filter(move |(module, _)| part(module)).collect::<Vec<_>>();
        files.into_iter().flat_map(|(_, file)| file.items).filter_map(|item| match item {
            Item::Fn(function) => Some(function),
            _ => None,
        })
    };
    let flows = functions("core", |module| module.first().is_some_and(|first| first == "flow"));
    let routers = functions("web", Vec::is_empty);
    let library: BTreeMap<String, ItemFn> =
        flows.chain(routers).filter(is_public).map(|function| (function.sig.ident.to_string(), function)).collect();
    let template = read(&root().join("template.yaml"));
    let bins = root().join("functions/lambda/src/bin");
    let mut checked = BTreeSet::new();
    for entry in fs::read_dir(bins).expect("the functions") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let (first, rest) = name.split_at(1);
        let role = resource(&template, &format!("{}{rest}Role", first.to_uppercase()));
        let ports = needed(&syn::parse_file(&read(&path)).expect("Rust"), &library);
        assert!(!ports.is_empty(), "{name} runs no flow");
        for port in ports.iter().filter(|port| !FREE.contains(&port.as_str())) {
            let (_, actions) = PORTS.iter().find(|(known, _)| known == port).unwrap_or_else(|| panic!("{port}?"));
            for some in *actions {
                let allowed = some.iter().any(|action| role.contains(action));
                assert!(allowed, "{name} runs a flow that requires {port}; its role allows none of {some:?}");
            }
        }
        checked.insert(name);
    }
    assert_eq!(
        checked.iter().map(String::as_str).collect::<Vec<_>>(),
        ["api", "collector", "dispatcher", "lease", "promoter", "reaper", "signer", "wait"]
    );
}
