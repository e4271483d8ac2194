use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use super::super::account::DiskAccount;
use super::super::denylist::Denylist;
use super::super::tree::Root;
use super::super::tree::Tree;
use super::super::user_path::UserPath;
use super::*;

static NEVER: AtomicBool = AtomicBool::new(false);

fn tree(folder: &Path, account: &Arc<DiskAccount>) -> Tree {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Tree::new(Root::open(folder, uid, gid).unwrap(), Arc::new(Denylist::default()), account.clone())
}

fn path(text: &str) -> UserPath {
    UserPath::parse(OsStr::new(text)).unwrap()
}

/// A folder with files of all kinds.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("world/region")).unwrap();
    fs::create_dir_all(at("world/empty")).unwrap();
    fs::write(at("world/region/r.mca"), vec![5; 3 * MAX_BLOCK + 7]).unwrap();
    fs::write(at("world/level.dat"), "x").unwrap();
    fs::write(at("world/none"), "").unwrap();
    fs::write(folder.path().join("world").join(OsStr::from_bytes(b"\xff\xfe")), "y").unwrap();
    fs::set_permissions(at("world/level.dat"), fs::Permissions::from_mode(0o750)).unwrap();
    let file = fs::File::open(at("world/level.dat")).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123)).unwrap();
    symlink("level.dat", at("world/link")).unwrap();
    symlink("/etc/passwd", at("world/out")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, at("world/pipe"), rustix::fs::Mode::RWXU).unwrap();
    folder
}

fn stream(tree: &Tree, from: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = send(tree, &path(from), &NEVER, &mut bytes);
    bytes
}

#[test]
fn a_directory_arrives_as_it_was_sent() {
    let (from, to) = (folder(), tempfile::tempdir().unwrap());
    let account = DiskAccount::new(None, 0);
    let source = tree(from.path(), &account);
    let mut bytes = Vec::new();
    let sent = send(&source, &path("world"), &NEVER, &mut bytes).unwrap();
    let length = 3 * MAX_BLOCK as u64 + 9;
    assert_eq!(sent, Copied { files: 4, directories: 3, links: 2, bytes: length, skipped: 1 });
    let target = DiskAccount::new(Some(length), 0);
    let mut last = Copied::default();
    // Twice: files are replaced, and directories and links kept.
    for round in 0..2 {
        let received =
            receive(&tree(to.path(), &target), &path("new/copy"), &bytes[..], |copied| last = *copied).unwrap();
        assert_eq!(Copied { directories: 3 - 3 * round, ..sent }, received);
        assert_eq!((last.bytes, target.used()), (length, length));
    }
    let at = |name: &str| to.path().join("new/copy").join(name);
    assert_eq!(fs::read(at("region/r.mca")).unwrap(), vec![5; 3 * MAX_BLOCK + 7]);
    assert_eq!(fs::read(to.path().join("new/copy").join(OsStr::from_bytes(b"\xff\xfe"))).unwrap(), b"y");
    assert_eq!(fs::read_link(at("out")).unwrap(), Path::new("/etc/passwd"));
    let found = fs::metadata(at("level.dat")).unwrap();
    assert_eq!((found.mode() & 0o777, found.mtime(), found.mtime_nsec()), (0o750, 1_000_000_000, 123));
    assert!(at("empty").is_dir() && !at("pipe").exists());
}

#[test]
fn single_files_and_whole_trees_are_copied_to_this_host() {
    let (from, to) = (folder(), tempfile::tempdir().unwrap());
    let source = tree(from.path(), &DiskAccount::unlimited());
    receive_locally(&to.path().join("file"), &stream(&source, "world/level.dat")[..], |_| {}).unwrap();
    assert_eq!(fs::read(to.path().join("file")).unwrap(), b"x");
    for name in ["all", "all"] {
        receive_locally(&to.path().join(name), &stream(&source, "")[..], |_| {}).unwrap();
    }
    assert!(to.path().join("all/world/region/r.mca").exists());
    let missing = receive_locally(&to.path().join("no/folder/file"), &stream(&source, "world/level.dat")[..], |_| {});
    assert!(missing.unwrap_err().to_string().contains("no/folder"));
}

#[test]
fn what_does_not_fit_or_is_not_there_is_an_error_of_both_sides() {
    let (from, to) = (folder(), tempfile::tempdir().unwrap());
    let source = tree(from.path(), &DiskAccount::unlimited());
    let small = DiskAccount::new(Some(100), 0);
    let error = receive(&tree(to.path(), &small), &path("copy"), &stream(&source, "world")[..], |_| {}).unwrap_err();
    assert!(error.to_string().contains("not enough disk space"), "{error}");
    assert!(small.used() <= 100);
    let missing = stream(&source, "missing");
    let error = receive(&tree(to.path(), &small), &path("copy"), &missing[..], |_| {}).unwrap_err();
    assert!(matches!(&error, StreamError::Remote(message) if message.contains("missing")), "{error}");
}

#[test]
fn a_stream_that_was_made_to_escape_does_not() {
    let outside = tempfile::tempdir().unwrap();
    let inside = outside.path().join("inside");
    fs::create_dir(&inside).unwrap();
    let made = |heads: &[Head]| {
        let mut bytes = Vec::new();
        for head in heads {
            write_block(&mut bytes, &serde_json::to_vec(head).unwrap()).unwrap();
            if matches!(head, Head::File { .. }) {
                write_block(&mut bytes, b"evil").unwrap();
                write_block(&mut bytes, b"").unwrap();
            }
        }
        bytes
    };
    let file =
        |path: &str| Head::File { path: Text::new(OsStr::new(path)), mode: 0o644, size: 4, seconds: 0, nanoseconds: 0 };
    let link = |path: &str, target: &str| Head::Link {
        path: Text::new(OsStr::new(path)),
        target: Text::new(OsStr::new(target)),
    };
    let top = Head::Directory { path: Text::new(OsStr::new("")), mode: 0o755 };
    for heads in [
        vec![top.clone(), file("../evil")],
        vec![top.clone(), file("a/../../evil")],
        vec![top.clone(), link("up", ".."), file("up/evil")],
        vec![top.clone(), link("up", outside.path().to_str().unwrap()), file("up/evil")],
    ] {
        let bytes = made(&heads);
        let tree = tree(&inside, &DiskAccount::unlimited());
        assert!(receive(&tree, &path(""), &bytes[..], |_| {}).is_err(), "{heads:?}");
        assert!(receive_locally(&inside, &bytes[..], |_| {}).is_err(), "{heads:?}");
        assert!(!outside.path().join("evil").exists(), "{heads:?}");
        let _ = fs::remove_file(inside.join("up"));
    }
}

#[test]
fn nothing_that_is_cut_or_damaged_is_taken_for_whole() {
    let from = folder();
    let bytes = stream(&tree(from.path(), &DiskAccount::unlimited()), "world");
    for cut in (0..600).chain((600..bytes.len()).step_by(9973)) {
        let to = tempfile::tempdir().unwrap();
        let tree = tree(to.path(), &DiskAccount::unlimited());
        assert!(receive(&tree, &path("copy"), &bytes[..cut], |_| {}).is_err(), "{cut}");
    }
    for at in 0..400 {
        let (mut damaged, to) = (bytes.clone(), tempfile::tempdir().unwrap());
        damaged[at] ^= 0x20;
        let _ = receive(&tree(to.path(), &DiskAccount::unlimited()), &path("copy"), &damaged[..], |_| {});
    }
}
