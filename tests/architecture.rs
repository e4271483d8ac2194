//! Module ranks, purity, and the files that may name a crate.
//!
//! The sources are read as text without comments and literals. Code of tests (`tests.rs`, `tests/`, `mod tests`) may import any
//! module; the rules about crates hold for it too.

#[path = "architecture/circles.rs"]
mod circles;
#[path = "architecture/source.rs"]
mod source;
#[path = "architecture/terms.rs"]
mod terms;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::LazyLock;

use alula::reconcile::step::StepKind;
use circles::Files;
use source::Source;
use strum::VariantArray;

/// A module imports only modules of lower ranks, and itself.
const RANKS: &[(u32, &[&str])] = &[
    (0, &["model"]),
    (
        1,
        &[
            "atomic",
            "clock",
            "http_client",
            "ids",
            "pressure",
            "progress",
            "rate",
            "requests",
            "retry",
            "schedule",
            "sessions",
            "tasks",
            "wait",
            "yaml",
        ],
    ),
    (2, &["config", "events"]),
    (3, &["files", "telemetry"]),
    (4, &["archive", "egg_files", "panel", "remote_download", "replication", "runtime", "store"]),
    (5, &["activity", "console", "stats", "sync", "transfer", "upload"]),
    (6, &["diagnostics", "reconcile"]),
    (7, &["server_files"]),
    (8, &["api", "cli", "controller", "sftp"]),
    (9, &["app", "testing"]),
];

/// Crates that only these files may name.
const CRATES: &[(&str, &[&str])] = &[
    ("serde_yaml", &["src/yaml.rs", "src/yaml/"]),
    ("saphyr_parser", &["src/yaml.rs", "src/yaml/"]),
    ("backoff", &["src/retry.rs"]),
    ("croner", &["src/schedule.rs"]),
    ("bollard", &["src/runtime/docker.rs", "src/runtime/docker/"]),
    ("russh", &["src/sftp/"]),
    (
        "reqwest",
        &[
            "src/http_client.rs",
            "src/panel/client.rs",
            "src/panel/client/",
            "src/cli/client.rs",
            "src/remote_download.rs",
            "src/remote_download/",
            "src/upload/",
            "src/transfer/",
        ],
    ),
    ("tar", &["src/archive/"]),
    ("rawzip", &["src/archive/"]),
    ("sevenz_rust2", &["src/archive/"]),
    ("rars", &["src/archive/"]),
    ("flate2", &["src/archive/"]),
    ("liblzma", &["src/archive/"]),
    ("zstd", &["src/archive/", "src/replication/"]),
    ("blake3", &["src/replication/"]),
    ("sha1", &["src/archive/backup/digest.rs", "src/transfer/receive.rs"]),
    ("quick_xml", &["src/egg_files/xml.rs", "src/egg_files/xml/"]),
    ("toml_edit", &["src/egg_files/toml.rs"]),
    ("similar", &["src/egg_files/diff.rs"]),
    ("notify", &["src/store/watch.rs", "src/store/watch/"]),
    ("axum", &["src/api.rs", "src/api/", "src/app/listeners.rs", "src/app/listeners/", "src/testing/node.rs"]),
    (
        "tokio_rustls",
        &[
            "src/app/listeners/acme.rs",
            "src/app/listeners/acme/",
            "src/app/listeners/certificates.rs",
            "src/app/listeners/certificates/",
        ],
    ),
    ("instant_acme", &["src/app/listeners/acme.rs", "src/app/listeners/acme/"]),
    ("rcgen", &["src/app/listeners/certificates.rs", "src/app/listeners/certificates/", "src/app/listeners/acme/"]),
    ("x509_parser", &["src/app/listeners/acme.rs", "src/app/listeners/acme/"]),
    ("clap", &["src/cli.rs", "src/cli/"]),
    ("tracing_subscriber", &["src/telemetry.rs", "src/telemetry/"]),
    ("libc", &["src/files/kernel.rs"]),
    ("nix", &["src/config/host/user.rs", "src/api/system/addresses.rs"]),
    (
        "procfs",
        &[
            "src/files/mount_table.rs",
            "src/runtime/cgroup.rs",
            "src/runtime/cgroup/",
            "src/stats/node.rs",
            "src/stats/node/",
        ],
    ),
];

/// Decisions: no I/O, no clock, no tasks, and of the crate nothing but plain data.
const PURE: &[(&str, &[&str])] = &[
    ("src/model", &["model"]),
    ("src/requests", &["model", "requests"]),
    ("src/schedule", &["model", "schedule"]),
    (
        "src/reconcile/plan",
        &[
            "clock::Moment",
            "model",
            "reconcile::job",
            "reconcile::observed",
            "reconcile::plan",
            "reconcile::step",
            "requests",
        ],
    ),
    ("src/reconcile/job", &["model"]),
    ("src/reconcile/observed", &["clock::Moment", "model", "reconcile::job", "reconcile::step"]),
    ("src/reconcile/step", &["model", "reconcile::job"]),
];

/// Wraps system calls, and is the only file with unsafe code.
const SYSTEM_CALLS: &str = "src/files/kernel.rs";

/// Plain values, which pure code may name. It gets an instant, and must not ask for the current one.
const VALUES: &[&str] = &["std::net::IpAddr", "tokio::time::Instant"];

/// Crates and modules that pure code must not name.
const IMPURE: &[&str] = &[
    "tokio",
    "tracing",
    "futures_util",
    "rustix",
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::os",
    "std::process",
    "std::sync",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
];

fn rank(module: &str) -> Option<u32> {
    RANKS.iter().find(|(_, modules)| modules.contains(&module)).map(|(rank, _)| *rank)
}

/// Whether `path` is `of` or lies below it.
fn is_below(path: &str, of: &str) -> bool {
    path.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn sources() -> &'static [Source] {
    static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(|| Source::read_all(Path::new(env!("CARGO_MANIFEST_DIR"))));
    assert!(SOURCES.len() > 100, "only {} sources were found", SOURCES.len());
    &SOURCES
}

fn import_violations(source: &Source) -> Vec<String> {
    let Some(from) = source.module().first().cloned() else { return Vec::new() };
    let Some(own) = rank(&from) else { return vec![format!("{}: `{from}` is not in the table of ranks", source.path)] };
    let mut violations = Vec::new();
    for import in source.imports() {
        let to = import.path.split("::").next().unwrap_or_default().to_owned();
        match rank(&to) {
            _ if to == from || import.in_test => {}
            Some(rank) if rank < own => {}
            Some(_) => violations.push(format!(
                "{}:{}: `{from}` must not import `{to}` (crate::{})",
                source.path, import.line, import.path
            )),
            None => violations
                .push(format!("{}:{}: `crate::{}` is of no known module", source.path, import.line, import.path)),
        }
    }
    violations
}

fn crate_violations(source: &Source) -> Vec<String> {
    let mut violations = Vec::new();
    for (krate, files) in CRATES {
        let allowed = files.iter().any(|endpoint| {
            if endpoint.ends_with('/') { source.path.starts_with(endpoint) } else { source.path == *endpoint }
        });
        if allowed {
            continue;
        }
        for named in source.external_paths().iter().filter(|named| is_below(&named.path, krate)) {
            violations
                .push(format!("{}:{}: the crate `{krate}` may be named only in {files:?}", source.path, named.line));
        }
    }
    violations
}

fn purity_violations(source: &Source) -> Vec<String> {
    let Some((_, allowed)) = PURE
        .iter()
        .find(|(part, _)| source.path.strip_prefix(part).is_some_and(|rest| rest.starts_with('/') || rest == ".rs"))
    else {
        return Vec::new();
    };
    let mut violations = Vec::new();
    for import in source.imports().iter().filter(|import| !import.in_test) {
        if !allowed.iter().any(|allowed| is_below(&import.path, allowed)) {
            violations
                .push(format!("{}:{}: pure code must not import crate::{}", source.path, import.line, import.path));
        }
    }
    for named in source.external_paths().iter().filter(|named| !named.in_test) {
        if !VALUES.contains(&named.path.as_str()) && IMPURE.iter().any(|impure| is_below(&named.path, impure)) {
            violations.push(format!("{}:{}: pure code must not use {}", source.path, named.line, named.path));
        }
    }
    violations
}

fn assert_none(violations: Vec<String>) {
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

#[test]
fn imports_follow_the_ranks() {
    assert_none(sources().iter().flat_map(import_violations).collect());
}

#[test]
fn no_files_import_each_other_in_a_cycle() {
    assert_none(Files::of(sources()).circles());
}

#[test]
fn crates_are_named_only_where_allowed() {
    assert_none(sources().iter().flat_map(crate_violations).collect());
}

#[test]
fn decisions_are_pure() {
    assert_none(sources().iter().flat_map(purity_violations).collect());
}

#[test]
fn nothing_is_unsafe() {
    let safe = sources().iter().filter(|source| source.path != SYSTEM_CALLS);
    let unsafe_lines = safe.flat_map(|source| {
        source.lines_of("unsafe").into_iter().map(move |line| format!("{}:{line}: `unsafe`", source.path))
    });
    assert_none(unsafe_lines.collect());
}

#[test]
fn retired_terms_stay_out() {
    assert_none(terms::violations(Path::new(env!("CARGO_MANIFEST_DIR"))));
}

#[test]
fn every_module_has_a_doc_comment() {
    let undocumented = sources().iter().filter(|source| !source.is_test_file() && !source.opens_with_a_doc());
    assert_none(undocumented.map(|source| format!("{}: does not open with `//!`", source.path)).collect());
}

/// The product has no test doubles: the module is behind a feature that no build of the product enables, and the ranks keep
/// every other module from importing it outside of tests.
#[test]
fn test_doubles_are_behind_a_feature() {
    let read = |file: &str| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    assert!(read("src/lib.rs").contains("#[cfg(feature = \"testing\")]\npub mod testing;"));
    let manifest = read("Cargo.toml");
    let features = manifest.split("[features]\n").nth(1).and_then(|rest| rest.split("\n[").next()).unwrap();
    assert!(!features.contains("default"), "{features}");
}

fn architecture() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md")).unwrap()
}

#[test]
fn the_map_has_every_module() {
    let map = architecture();
    let modules: BTreeSet<String> = sources().iter().filter_map(|source| source.module().first().cloned()).collect();
    let ranked: BTreeSet<String> =
        RANKS.iter().flat_map(|(_, modules)| modules.iter().map(ToString::to_string)).collect();
    assert_eq!(modules, ranked, "the table of ranks and src/ differ");
    let missing = modules.iter().filter(|module| !map.contains(&format!("`{module}`")));
    assert_none(missing.map(|module| format!("ARCHITECTURE.md does not list `{module}`")).collect());
}

/// The names in the first column of the table of steps.
fn documented_steps(text: &str) -> Vec<&str> {
    let (_, table) = text.split_once("\n| step |").expect("a table of steps");
    let rows = table.lines().skip(2).map_while(|line| line.strip_prefix("| "));
    rows.filter_map(|row| row.split(" | ").next()).flat_map(|names| names.split('`').skip(1).step_by(2)).collect()
}

#[test]
fn the_table_of_steps_has_each_of_them_once() {
    let text = architecture();
    let mut documented = documented_steps(&text);
    documented.sort_unstable();
    let mut steps: Vec<&str> = StepKind::VARIANTS.iter().map(|kind| kind.as_str()).collect();
    steps.sort_unstable();
    assert_eq!(documented, steps, "the table of steps in ARCHITECTURE.md and `Step` differ");
}

/// Each rule finds its violations.
mod rules {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source::new(path.into(), text)
    }

    #[test]
    fn an_import_of_the_same_or_a_higher_rank_is_found() {
        for text in [
            "use crate::store::Store;",
            "use crate::{model::Record, store::Store};",
            "fn f() { crate::controller::go() }",
            "use super::store::Store;",
            "mod inner { use super::super::store::Store; }",
        ] {
            assert_eq!(import_violations(&source("src/panel.rs", text)).len(), 1, "{text}");
        }
        assert_eq!(import_violations(&source("src/panel/client.rs", "use super::super::store::Store;")).len(), 1);
        assert_eq!(import_violations(&source("src/novel.rs", "")).len(), 1, "a module without a rank");
    }

    #[test]
    fn allowed_imports_are_accepted() {
        for text in [
            "use crate::{atomic, model::{Record, ServerId}};\nuse super::panel::wire;",
            "// use crate::store::Store;\n/* crate::store */ const TEXT: &str = \"crate::store\";",
            "const RAW: &str = r#\"a \" crate::store\"#; const QUOTE: char = '\"'; use crate::model::X;",
            "#[cfg(test)]\nmod tests { use crate::store::Store; use super::*; }",
            "fn f<'a>(a: &'a str) -> char { 'a' }",
        ] {
            assert_none(import_violations(&source("src/panel.rs", text)));
        }
        assert_none(import_violations(&source("src/panel/client/tests.rs", "use crate::store::Store;")));
        assert_none(import_violations(&source("src/panel/client.rs", "use super::wire; use super::super::model::X;")));
        assert_none(import_violations(&source("src/main.rs", "fn main() { alula::cli::main() }")));
    }

    #[test]
    fn a_circle_of_files_is_found() {
        let circles = |files: &[(&str, &str)]| {
            let sources: Vec<Source> =
                files.iter().map(|(name, text)| source(&format!("src/{name}.rs"), text)).collect();
            Files::of(&sources).circles()
        };
        let one = circles(&[("a", "mod b; mod c;"), ("a/b", "use super::c::C;"), ("a/c", "fn f() { super::b::B }")]);
        assert_eq!(one, ["src/a/c.rs:1 imports a::b, src/a/b.rs:1 imports a::c"]);
        let through_a_parent = [
            ("a", "mod b;\nmod c;\npub use b::B;\nuse c::C;"),
            ("a/b", "use super::{C, D};"),
            ("a/c", "use crate::a::B;"),
        ];
        assert_eq!(circles(&through_a_parent).len(), 1);
        let three = [("a", "use crate::b::X;"), ("b", "use super::c::Y;"), ("c", "fn f() -> crate::a::Z {}")];
        assert_eq!(circles(&three).len(), 1);
        let through_a_child = [("a", "mod c; use c::C;"), ("a/c", "use crate::b::X;"), ("b", "use crate::a::Z;")];
        assert_eq!(circles(&through_a_child).len(), 1);

        assert_none(circles(&[
            ("a", "mod b;\nmod c;\npub use b::B;\nstruct A;"),
            ("a/b", "use super::A;\nuse super::c::C;\n#[cfg(test)]\nmod tests { use crate::d::D; }"),
            ("a/c", "use super::A;\nuse std::b::B;"),
            ("a/tests", "use super::b::B;"),
            ("d", "use crate::a::B;"),
        ]));
    }

    #[test]
    fn a_crate_outside_its_files_is_found() {
        let text = "fn f() { serde_yaml::to_string(&1) }";
        assert_eq!(crate_violations(&source("src/store.rs", text)).len(), 1);
        assert_eq!(crate_violations(&source("src/yamlish.rs", text)).len(), 1);
        assert_eq!(crate_violations(&source("src/store/tests.rs", "use backoff::{Error, retry};")).len(), 2);
        assert_none(crate_violations(&source("src/yaml/edit.rs", text)));
        assert_none(crate_violations(&source(
            "src/store.rs",
            "use crate::retry::backoff; let notify = 1; notify.x();",
        )));
    }

    #[test]
    fn an_impure_decision_is_found() {
        for text in [
            "use std::fs;",
            "fn f() { tokio::time::Instant::now(); }",
            "use tokio::time::sleep;",
            "use crate::store::Store;",
            "use std::time::{Duration, Instant};",
        ] {
            assert_eq!(purity_violations(&source("src/reconcile/plan/start.rs", text)).len(), 1, "{text}");
        }
        assert_eq!(purity_violations(&source("src/requests/admission.rs", "use crate::clock::Clock;")).len(), 1);
        assert_none(purity_violations(&source(
            "src/reconcile/plan.rs",
            "use crate::model::Record; use std::time::Duration; use tokio::time::Instant;",
        )));
        assert_none(purity_violations(&source("src/reconcile/planner.rs", "use std::fs;")));
    }

    #[test]
    fn the_table_of_steps_is_read() {
        let text =
            "| other |\n|---|\n| `No` |\n\n| step | found |\n|---|---|\n| `A`, `B` | `c` |\n| `D` | |\n\n| `E` | |";
        assert_eq!(documented_steps(text), ["A", "B", "D"]);
    }

    #[test]
    fn a_retired_term_is_found_in_names_and_in_prose() {
        for text in ["let wish_count = 1;", "struct OpenWish;", "/// A wish.", "is it in force?", "const IN_FORCE: u8"]
        {
            assert_eq!(terms::in_text("a", text).len(), 1, "{text}");
        }
        assert_none(terms::in_text("a", "a wishlist is reinforced, and seated in forces"));
    }

    #[test]
    fn unsafe_is_found_where_it_is_code() {
        assert_eq!(source("src/a.rs", "// unsafe\nfn f() { unsafe { g() } }").lines_of("unsafe"), [2]);
        assert!(source("src/a.rs", "#![deny(unsafe_code)] const A: &str = \"unsafe\";").lines_of("unsafe").is_empty());
    }
}
