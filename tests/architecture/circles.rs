//! Which files of `src/` import each other, and whether there is a way back.
//!
//! A path leads to the file that defines what it names: a `use` in a module on the way is followed. A module's own parents are
//! its scope and no import; everything else counts, what a parent takes from its children too.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::source::Source;

/// How many `use` lines a path is followed through.
const MAX_HOPS: usize = 8;

/// The files, by the paths of their modules.
pub struct Files<'a> {
    sources: BTreeMap<String, &'a Source>,
    uses: BTreeMap<String, BTreeMap<String, String>>,
}

impl<'a> Files<'a> {
    /// All but the code of tests and the crate's roots.
    pub fn of(sources: &'a [Source]) -> Self {
        let files = sources.iter().filter(|source| !source.is_test_file() && !source.module().is_empty());
        let sources: BTreeMap<_, _> = files.map(|source| (source.module().join("::"), source)).collect();
        let mut files = Self { sources, uses: BTreeMap::new() };
        for (module, source) in &files.sources {
            let uses = source.uses().into_iter().map(|(name, path)| (name, files.absolute(module, path)));
            files.uses.insert(module.clone(), uses.collect());
        }
        files
    }

    /// A path that begins with the name of a child module, from the crate's root.
    fn absolute(&self, module: &str, path: String) -> String {
        let first = path.split("::").next().unwrap_or_default();
        let child = format!("{module}::{first}");
        if self.sources.contains_key(&child) { format!("{module}::{path}") } else { path }
    }

    /// The module whose file defines what a path names.
    fn home(&self, path: &str, hops: usize) -> Option<&str> {
        let mut module: Option<(&str, &str)> = None;
        for (end, _) in path.match_indices("::").chain([(path.len(), "")]) {
            match self.sources.get_key_value(&path[..end]) {
                Some((name, _)) => module = Some((name, path[end..].trim_start_matches("::"))),
                None => break,
            }
        }
        let (module, rest) = module?;
        let (name, below) = rest.split_once("::").map_or((rest, ""), |(name, below)| (name, below));
        match self.uses[module].get(name) {
            Some(target) if hops < MAX_HOPS && target != path => {
                let target = if below.is_empty() { target.clone() } else { format!("{target}::{below}") };
                self.home(&target, hops + 1).or(Some(module))
            }
            _ => Some(module),
        }
    }

    /// What each file imports, with the line of the first import.
    fn edges(&self) -> BTreeMap<&str, BTreeMap<&str, usize>> {
        let mut edges: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
        for (module, source) in &self.sources {
            let named = source.imports().into_iter().chain(source.external_paths().into_iter().map(|mut named| {
                named.path = self.absolute(module, named.path);
                named
            }));
            for named in named.filter(|named| !named.in_test) {
                let Some(home) = self.home(&named.path, 0) else { continue };
                if home != module && !module.starts_with(&format!("{home}::")) {
                    edges.entry(module).or_default().entry(home).or_insert(named.line);
                }
            }
        }
        edges
    }

    /// The circles, each once, as the way round with its lines.
    pub fn circles(&self) -> Vec<String> {
        let edges = self.edges();
        let mut seen = BTreeSet::new();
        let mut circles = Vec::new();
        for (from, targets) in &edges {
            for to in targets.keys() {
                let Some(way) = way(&edges, to, from) else { continue };
                if seen.insert(way.iter().copied().collect::<BTreeSet<_>>()) {
                    let next = |at: usize| way[(at + 1) % way.len()];
                    let step = |at: usize| {
                        format!("{}:{} imports {}", self.sources[way[at]].path, edges[way[at]][next(at)], next(at))
                    };
                    circles.push((0..way.len()).map(step).collect::<Vec<_>>().join(", "));
                }
            }
        }
        circles
    }
}

/// The shortest way from one file to another, both included.
fn way<'e>(edges: &BTreeMap<&'e str, BTreeMap<&'e str, usize>>, from: &'e str, to: &str) -> Option<Vec<&'e str>> {
    let mut before: BTreeMap<&str, &'e str> = BTreeMap::from([(from, from)]);
    let mut next = VecDeque::from([from]);
    while let Some(at) = next.pop_front() {
        if at == to {
            let mut way = vec![at];
            while way[way.len() - 1] != from {
                way.push(before[way[way.len() - 1]]);
            }
            way.reverse();
            return Some(way);
        }
        for target in edges.get(at).into_iter().flat_map(BTreeMap::keys) {
            before.entry(target).or_insert_with(|| {
                next.push_back(target);
                at
            });
        }
    }
    None
}
