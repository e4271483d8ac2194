//! Archives of whole trees against real directories.

mod changing;
mod faithful;
mod foreign;
mod hostile;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use flate2::read::GzDecoder;

use super::super::error::ArchiveError;
use super::super::tests::Server;
use super::*;
use crate::files::user_path::UserPath;
use crate::progress::Progress;

const BOTH: Hashes = Hashes { sha1: true, sha256: true };

fn threads(work: Box<dyn FnOnce() + Send>) {
    drop(std::thread::Builder::new().spawn(work).unwrap());
}

fn pack_with(server: &Server, ignore: &IgnoreList, progress: &Progress) -> Result<(Vec<u8>, Summary), ArchiveError> {
    let options = WriteOptions { ignore, level: 1, hashes: BOTH, spawn: Some(&threads), pace: None, progress };
    write(&server.tree, Vec::new(), options)
}

fn pack(server: &Server) -> (Vec<u8>, Summary) {
    pack_with(server, &IgnoreList::default(), &Progress::new()).unwrap()
}

fn unpack_with(
    archive: &[u8],
    server: &Server,
    only: Option<&[UserPath]>,
    denylist: bool,
) -> Result<Summary, ArchiveError> {
    let progress = Progress::new();
    let mut names = Vec::new();
    let mut entry = |path: &UserPath| names.push(path.clone());
    let options = UnpackOptions { only, denylist, hashes: BOTH, pace: None, progress: &progress, entry: &mut entry };
    let result = unpack(archive, &server.tree, options);
    assert!(progress.done() <= archive.len() as u64);
    result
}

fn unpack_into(archive: &[u8], server: &Server) -> Result<Summary, ArchiveError> {
    unpack_with(archive, server, None, false)
}

fn verified(archive: &[u8]) -> Result<Summary, ArchiveError> {
    verify(archive, BOTH, None, &Progress::new())
}

fn path(name: &str) -> UserPath {
    UserPath::parse(std::ffi::OsStr::new(name)).unwrap()
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    mode: u32,
    modified: (i64, i64),
    /// The text of a link, the content of a file.
    content: Vec<u8>,
    /// The first path of the same file, if it has several.
    same_as: Option<Vec<u8>>,
}

/// Everything in a directory and the directory itself, by path.
fn snapshot(server: &Server) -> BTreeMap<Vec<u8>, Found> {
    let (mut found, mut first) = (BTreeMap::new(), HashMap::new());
    visit(&server.path(""), b".", &mut found, &mut first);
    found
}

fn visit(at: &Path, name: &[u8], found: &mut BTreeMap<Vec<u8>, Found>, first: &mut HashMap<u64, Vec<u8>>) {
    let meta = fs::symlink_metadata(at).unwrap();
    let content = match () {
        () if meta.is_symlink() => fs::read_link(at).unwrap().into_os_string().into_vec(),
        () if meta.is_file() => fs::read(at).unwrap(),
        () => Vec::new(),
    };
    let same_as =
        (meta.is_file() && meta.nlink() > 1).then(|| first.entry(meta.ino()).or_insert(name.to_vec()).clone());
    let modified = (meta.mtime(), meta.mtime_nsec());
    found.insert(name.to_vec(), Found { mode: meta.mode(), modified, content, same_as });
    if meta.is_dir() {
        let mut names: Vec<_> = fs::read_dir(at).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        for child in names {
            visit(&at.join(&child), &[name, b"/", child.as_bytes()].concat(), found, first);
        }
    }
}

fn assert_same(before: &Server, after: &Server) {
    let (before, after) = (snapshot(before), snapshot(after));
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    for (name, found) in &before {
        assert!(after[name] == *found, "{}: {found:.200?} became {:.200?}", name.escape_ascii(), after[name]);
    }
}

fn inflate(archive: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    std::io::Read::read_to_end(&mut GzDecoder::new(archive), &mut tar).unwrap();
    tar
}

fn deflate(tar: &[u8]) -> Vec<u8> {
    super::super::tests::build::pack("gz", tar)
}
