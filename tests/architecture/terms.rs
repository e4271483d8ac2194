//! Terms that the project no longer uses, and where they are found.
//!
//! A text is read as words: an identifier is as many words as it has parts, so `wish_count` and `WishCount` are found by "wish".

use std::path::{Path, PathBuf};

/// Words and phrases that have a standard term instead.
const RETIRED: &[&str] = &[
    "anew",
    "blueprint",
    "blueprints",
    "come to rest",
    "comes to rest",
    "departed",
    "facts",
    "in force",
    "intent",
    "intents",
    "mend",
    "mended",
    "mends",
    "nobody",
    "nonsense",
    "patience",
    "put right",
    "restless",
    "sealed",
    "seat",
    "seats",
    "set aside",
    "somebody",
    "stranger",
    "strangers",
    "stray",
    "strays",
    "surroundings",
    "told",
    "underneath",
    "unsealed",
    "untold",
    "whoever",
    "wish",
    "wishes",
];

/// "facts" has this meaning only.
const RECORD: &str = "facts that cannot be observed again";

/// Texts that name retired terms, or cases of a suite of others.
const EXEMPT: [&str; 3] = ["tests/architecture.rs", "tests/architecture/terms.rs", "tests/conformance/expected.txt"];

/// The project's own texts.
const TEXTS: [&str; 10] = [
    "src",
    "tests",
    "benches",
    "docs",
    "deploy",
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "Cargo.toml",
    "deny.toml",
];

/// The retired terms in the project's texts: path, line, term.
pub fn violations(project: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for path in files(project) {
        let name = path.strip_prefix(project).unwrap().display().to_string();
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        if !EXEMPT.contains(&name.as_str()) {
            found.extend(in_text(&name, &text));
        }
        found.extend(in_text("its name", &name).into_iter().map(|found| format!("{name}: {found}")));
    }
    found
}

/// The retired terms of a text.
pub fn in_text(name: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (line, text) in text.lines().enumerate() {
        let words = format!(" {} ", words(text).join(" ")).replace(RECORD, "record");
        for term in RETIRED.iter().filter(|term| words.contains(&format!(" {term} "))) {
            found.push(format!("{name}:{}: {term:?} is retired", line + 1));
        }
    }
    found
}

/// The words of a line in lower case.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut lower = false;
    for character in line.chars() {
        if !character.is_alphanumeric() || (lower && character.is_uppercase()) {
            words.push(String::new());
        }
        if character.is_alphanumeric() {
            words.last_mut().unwrap().extend(character.to_lowercase());
        }
        lower = character.is_lowercase();
    }
    words.retain(|word| !word.is_empty());
    words
}

fn files(project: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut left: Vec<PathBuf> = TEXTS.iter().map(|text| project.join(text)).collect();
    while let Some(path) = left.pop() {
        match std::fs::read_dir(&path) {
            Ok(folder) => left.extend(folder.map(|item| item.unwrap().path())),
            Err(_) => files.push(path),
        }
    }
    files.sort();
    files
}
