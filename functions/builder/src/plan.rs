//! The derivations that Nix would build for a package, so that the endpoint can report known failures among them, and
//! knows which may be offered to other builds; and the order in which they can be built.

use std::{
    collections::{BTreeSet, HashMap},
    ffi::OsString,
};

use binplz_core::{
    build::{
        plan::DryRun,
        protocol::TO_BUILD_MAX,
        waiting::{PLAN_MAX, Planned},
    },
    id::key::DrvHash,
};

use crate::{
    caches,
    context::{BuildContext, Ending, finished},
    drv,
    evaluate::Package,
    evidence::name_of,
    internal_json::{self, Event},
};

/// What Nix would do for a package.
#[derive(Debug, Default)]
pub(crate) struct Foreseen {
    /// The paths of the derivations that it would build, dependencies first.
    pub(crate) to_build: Vec<String>,
    /// Store paths that it would fetch.
    paths: u32,
    /// Their bytes.
    bytes: u64,
    /// Their hashes.
    hashes: Vec<String>,
}

impl Foreseen {
    /// The same for the service: names, and sources among what is fetched.
    pub(crate) fn dry_run(&self) -> DryRun {
        let (sources, builds): (Vec<&String>, Vec<&String>) =
            self.to_build.iter().partition(|drv| drv::is_download(drv) == Some(true));
        DryRun {
            build: builds.into_iter().map(|drv| name_of(drv).to_owned()).take(TO_BUILD_MAX).collect(),
            fetch: self.paths.saturating_add(sources.len() as u32),
            bytes: self.bytes,
        }
    }

    fn hear(&mut self, text: &str) {
        self.to_build.extend(derivations(text));
        self.hashes.extend(caches::fetched(text));
        for (paths, bytes) in text.lines().filter_map(fetched) {
            self.paths = self.paths.saturating_add(paths);
            self.bytes = self.bytes.saturating_add(bytes);
        }
    }
}

/// What Nix would do for a package: the first plan, without the caches whose paths it would not take.
///
/// # Errors
/// [`Ending`].
pub(crate) fn first(context: &BuildContext, package: &Package) -> Result<Foreseen, Ending> {
    let planned = foresee(context, package, &[])?;
    match context.caches.without_untrusted(&planned.hashes, &context.log) {
        Some(options) => foresee(context, package, &options),
        None => Ok(planned),
    }
}

/// What Nix would do for a package, by a dry run with these options. Empty if the dry run fails: realising then finds the
/// reason.
pub(crate) fn foresee(context: &BuildContext, package: &Package, options: &[OsString]) -> Result<Foreseen, Ending> {
    let mut arguments: Vec<OsString> = ["--realise", "--dry-run", &package.installable()].map(Into::into).into();
    arguments.extend_from_slice(options);
    let mut planned = Foreseen::default();
    let ran = context.nix.run("nix-store", &arguments, context.lease.deadline(), |line| {
        if let Event::Message { text, .. } | Event::Text(text) = internal_json::parse(line) {
            planned.hear(&text);
        }
    })?;
    finished(ran.end)?;
    Ok(planned)
}

/// Parses "these 12 paths will be fetched (80.12 MiB download, 300.00 MiB unpacked):".
fn fetched(line: &str) -> Option<(u32, u64)> {
    let (count, rest) = line.trim().split_once(" will be fetched (")?;
    let count = match count {
        "this path" => 1,
        several => several.strip_prefix("these ")?.strip_suffix(" paths")?.parse().ok()?,
    };
    let mebibytes: f64 = rest.split_once(" MiB download")?.0.parse().ok()?;
    Some((count, (mebibytes * f64::from(1 << 20)) as u64))
}

/// What is left to build of a plan, without downloads: these need no claim, and Nix makes them with what needs them.
pub(crate) struct Graph {
    /// Dependencies first, and the package last.
    nodes: Vec<Node>,
}

struct Node {
    hash: DrvHash,
    path: String,
    /// The nodes that it needs, by their numbers.
    needs: BTreeSet<usize>,
    /// The most builds, one after another, from this one to the package's.
    height: usize,
    made: bool,
}

/// A derivation of the plan, as its file describes it.
struct Input {
    download: bool,
    inputs: Vec<String>,
}

impl Graph {
    /// The graph of a plan.
    pub(crate) fn new(to_build: &[String], package: &str) -> Graph {
        let read = |path: &String| {
            let download = path != package && drv::is_download(path).unwrap_or(false);
            (path.clone(), Input { download, inputs: drv::inputs(path) })
        };
        Graph::of(to_build, &to_build.iter().map(read).collect())
    }

    fn of(to_build: &[String], inputs: &HashMap<String, Input>) -> Graph {
        let mut graph = Graph { nodes: Vec::new() };
        let mut known = HashMap::new();
        to_build.iter().for_each(|path| drop(graph.add(path, inputs, &mut known)));
        for number in (0..graph.nodes.len()).rev() {
            let height = graph.nodes[number].height + 1;
            for need in graph.nodes[number].needs.clone() {
                graph.nodes[need].height = graph.nodes[need].height.max(height);
            }
        }
        graph
    }

    /// The nodes that a derivation stands for: itself, or those that a download needs.
    fn add(
        &mut self,
        path: &str,
        inputs: &HashMap<String, Input>,
        known: &mut HashMap<String, BTreeSet<usize>>,
    ) -> BTreeSet<usize> {
        if let Some(nodes) = known.get(path) {
            return nodes.clone();
        }
        let (Some(input), Ok(hash)) = (inputs.get(path), DrvHash::of_path(path)) else { return BTreeSet::new() };
        let needs: BTreeSet<usize> = input.inputs.iter().flat_map(|path| self.add(path, inputs, known)).collect();
        let nodes = if input.download {
            needs
        } else {
            self.nodes.push(Node { hash, path: path.to_owned(), needs, height: 0, made: false });
            BTreeSet::from([self.nodes.len() - 1])
        };
        known.insert(path.to_owned(), nodes.clone());
        nodes
    }

    fn left(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| !node.made)
    }

    /// Whether something is left to build beside the package.
    pub(crate) fn has_dependencies(&self) -> bool {
        self.left().count() > 1
    }

    /// Whether a derivation is left to build.
    pub(crate) fn has(&self, hash: &DrvHash) -> bool {
        self.left().any(|node| node.hash == *hash)
    }

    /// The derivations that can be built now, with their names: those first that the longest chain of builds needs.
    pub(crate) fn ready(&self) -> impl Iterator<Item = (&DrvHash, &str)> {
        let ready = |node: &&Node| node.needs.iter().all(|need| self.nodes[*need].made);
        let mut ready: Vec<&Node> = self.left().filter(ready).collect();
        ready.sort_by_key(|node| std::cmp::Reverse(node.height));
        ready.into_iter().map(|node| (&node.hash, name_of(&node.path)))
    }

    /// The paths of derivations.
    pub(crate) fn paths(&self, hashes: &[DrvHash]) -> Vec<String> {
        let of = |hash: &DrvHash| self.nodes.iter().find(|node| node.hash == *hash).map(|node| node.path.clone());
        hashes.iter().filter_map(of).collect()
    }

    /// The name of the first of these derivations.
    pub(crate) fn name(&self, hashes: &[DrvHash]) -> Option<String> {
        self.paths(hashes.get(..1)?).first().map(|path| name_of(path).to_owned())
    }

    /// These are built.
    pub(crate) fn made(&mut self, hashes: &[DrvHash]) {
        self.nodes.iter_mut().filter(|node| hashes.contains(&node.hash)).for_each(|node| node.made = true);
    }

    /// What is left to build, and the number of `first` in it. Of a plan that is too long, only what others build now.
    pub(crate) fn plan(&self, first: &DrvHash, held: &[DrvHash]) -> (Vec<Planned>, usize) {
        let whole = self.left().count() <= PLAN_MAX;
        let taken = |node: &&Node| whole || held.contains(&node.hash);
        let left: Vec<&Node> = self.left().filter(taken).take(PLAN_MAX).collect();
        let number = |need: &usize| left.iter().position(|node| node.hash == self.nodes[*need].hash);
        let planned = |node: &&Node| Planned {
            drv: node.hash.clone(),
            name: name_of(&node.path).to_owned(),
            needs: node.needs.iter().filter_map(number).collect(),
        };
        let plan: Vec<Planned> = left.iter().map(planned).collect();
        let first = plan.iter().position(|planned| planned.drv == *first).unwrap_or(0);
        (plan, first)
    }
}

/// Parses "these 2 derivations will be built:", followed by one indented path a line. Paths to fetch are listed
/// likewise, and are not derivations.
fn derivations(text: &str) -> impl Iterator<Item = String> {
    let paths = text.lines().map(str::trim).filter(|line| line.starts_with('/') && line.ends_with(".drv"));
    paths.filter(|path| DrvHash::of_path(path).is_ok()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_would_be_built_is_in_the_plan() {
        let one = "0c8avx37rwvyk1s2x2v7x2hqkxbs3qd4";
        let text = format!(
            "these 2 derivations will be built:\n  /nix/store/{one}-dep-1.0.drv\n  /nix/store/short.drv\n\
             this path will be fetched (0.01 MiB download, 0.02 MiB unpacked):\n  /nix/store/{one}-glibc-2.40\n"
        );
        assert_eq!(derivations(&text).collect::<Vec<_>>(), [format!("/nix/store/{one}-dep-1.0.drv")]);
        let mut planned = Foreseen::default();
        planned.hear(&text);
        planned.hear("these 12 paths will be fetched (80.12 MiB download, 300.00 MiB unpacked):");
        assert_eq!((planned.paths, planned.bytes, planned.to_build.len()), (13, 84_022_394, 1));
        for line in ["these paths will be fetched (1 MiB", "x will be fetched (0.00 MiB download", ""] {
            assert_eq!(fetched(line), None, "{line}");
        }
    }
    fn path(letter: char) -> String {
        format!("/nix/store/{}-{letter}-1.0.drv", String::from_iter([letter; 32]))
    }

    /// A plan in which each derivation needs others; those in upper case are downloads.
    fn graph(derivations: &[(&str, &str)]) -> Graph {
        let lower = |name: &str| path(name.to_lowercase().chars().next().expect("a letter"));
        let of = |(name, needs): &(&str, &str)| {
            let inputs = needs.split(' ').filter(|need| !need.is_empty()).map(lower).collect();
            (lower(name), Input { download: name.chars().all(char::is_uppercase), inputs })
        };
        let to_build: Vec<String> = derivations.iter().map(|(name, _)| lower(name)).collect();
        Graph::of(&to_build, &derivations.iter().map(of).collect())
    }

    fn ready(graph: &Graph) -> String {
        graph.ready().map(|(_, name)| &name[..1]).collect()
    }

    fn made(graph: &mut Graph, letters: &str) {
        let hashes: Vec<DrvHash> = letters.chars().map(|c| DrvHash::of_path(&path(c)).expect("a path")).collect();
        graph.made(&hashes);
    }

    #[test]
    fn what_can_be_built_is_what_has_all_that_it_needs_and_the_longest_chain_comes_first() {
        // z is the package; D is a download that needs a; x is built already.
        let mut graph = graph(&[("b", ""), ("a", "x"), ("D", "a"), ("c", "a D"), ("f", "c b"), ("z", "f")]);
        assert_eq!(ready(&graph), "ab");
        made(&mut graph, "a");
        assert_eq!(ready(&graph), "bc");
        made(&mut graph, "bc");
        assert!(ready(&graph) == "f" && graph.has_dependencies());
        made(&mut graph, "f");
        assert!(ready(&graph) == "z" && !graph.has_dependencies());
    }

    #[test]
    fn downloads_alone_are_no_dependencies_and_what_they_need_is() {
        assert!(!graph(&[("A", ""), ("B", "A"), ("z", "A B")]).has_dependencies());
        let graph = graph(&[("b", ""), ("A", "b"), ("z", "A")]);
        assert!(graph.has_dependencies() && ready(&graph) == "b");
    }

    #[test]
    fn a_plan_lists_what_is_left_with_what_it_needs_before_it() {
        // Nix's order is not relied on.
        let mut graph = graph(&[("z", "c b"), ("c", "a"), ("b", "a"), ("a", "")]);
        let a = DrvHash::of_path(&path('a')).expect("a path");
        let text = |(plan, first): (Vec<Planned>, usize)| {
            let one = |planned: &Planned| format!("{}{:?}", &planned.name[..1], planned.needs);
            format!("{} {first}", plan.iter().map(one).collect::<String>())
        };
        assert_eq!(text(graph.plan(&a, &[])), "a[]c[0]b[0]z[1, 2] 0");
        made(&mut graph, "a");
        let b = DrvHash::of_path(&path('b')).expect("a path");
        assert_eq!(text(graph.plan(&b, &[])), "c[]b[]z[0, 1] 1");
    }
}
