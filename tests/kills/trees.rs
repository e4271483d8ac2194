//! Trees of files that do not compress, and their comparison.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use sha1::{Digest, Sha1};

/// SplitMix64.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).take(count).collect()
    }
}

/// What is at each path: kind, mode, time of modification, and a hash of the content.
pub type Content = BTreeMap<PathBuf, String>;

/// Names that the daemon uses for a moment while it exchanges directories.
const MARKER: &str = ".alula-restore-";

/// The content of a tree. `None` where there is none.
pub fn content(top: &Path) -> Option<Content> {
    let mut found = Content::new();
    top.symlink_metadata().ok()?;
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(top.join(&folder)).ok()? {
            let name = entry.ok()?.file_name();
            if name.to_string_lossy().starts_with(MARKER) {
                continue;
            }
            let path = folder.join(name);
            found.insert(path.clone(), describe(&top.join(&path))?);
            if top.join(&path).symlink_metadata().ok()?.is_dir() {
                folders.push(path);
            }
        }
    }
    Some(found)
}

fn describe(path: &Path) -> Option<String> {
    let found = path.symlink_metadata().ok()?;
    let mode = found.permissions().mode() & 0o7777;
    Some(match () {
        () if found.is_dir() => format!("directory {mode:o}"),
        () if found.is_symlink() => format!("link {:?}", fs::read_link(path).ok()?),
        () => {
            let hash: String = Sha1::digest(fs::read(path).ok()?).iter().map(|byte| format!("{byte:02x}")).collect();
            format!("file {mode:o} {} {} {hash}", found.mtime(), found.len())
        }
    })
}

/// Whether a marker is left.
pub fn has_marker(top: &Path) -> bool {
    fs::read_dir(top)
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| entry.file_name().as_bytes().starts_with(MARKER.as_bytes()))
}

/// Removes everything in a directory, and fills it.
pub fn fill(top: &Path, seed: u64, files: usize, bytes: usize) {
    for entry in fs::read_dir(top).expect("a directory") {
        let path = entry.expect("an entry").path();
        match path.symlink_metadata().expect("an entry").is_dir() {
            true => fs::remove_dir_all(path).expect("a directory"),
            false => fs::remove_file(path).expect("a file"),
        }
    }
    let mut rng = Rng(seed);
    fs::create_dir_all(top.join("world/region")).expect("a directory");
    fs::create_dir_all(top.join(format!("empty-{}", seed % 7))).expect("a directory");
    symlink("world/region", top.join("regions")).expect("a link");
    for number in 0..files {
        let folder = ["", "world", "world/region"][number % 3];
        // Half of the names are in every tree.
        let name = if number % 2 == 0 { format!("f{number}") } else { format!("f{number}-{}", seed % 1000) };
        let path = top.join(folder).join(name);
        fs::write(&path, rng.bytes(bytes / files)).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(if number % 5 == 0 { 0o750 } else { 0o644 }))
            .expect("a mode");
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000 + rng.below(10_000_000));
        fs::File::options().write(true).open(&path).expect("a file").set_modified(time).expect("a time");
    }
}

/// What a restore that keeps files makes of the present ones.
pub fn merged(present: &Content, restored: &Content) -> Content {
    let mut merged = present.clone();
    merged.extend(restored.clone());
    merged
}
