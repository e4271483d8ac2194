use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;

use super::super::remove::remove_tree;
use super::super::tests::{NEVER, Outside, make_deep, make_dir, roomy_folder};
use super::*;

/// Counts what it visits, and fails at one name.
#[derive(Default)]
struct Seen {
    directories: usize,
    entries: BTreeSet<String>,
    fail_at: Option<&'static CStr>,
}

impl Visitor for Seen {
    const ACTION: &'static str = "visit";

    fn directory(&mut self, _: BorrowedFd<'_>, _: &Stat) -> rustix::io::Result<()> {
        self.directories += 1;
        Ok(())
    }

    fn entry(&mut self, _: BorrowedFd<'_>, name: &CStr, kind: FileType) -> rustix::io::Result<()> {
        if Some(name) == self.fail_at {
            return Err(Errno::IO);
        }
        self.entries.insert(format!("{} {kind:?}", name.to_string_lossy()));
        Ok(())
    }
}

fn seen_at(path: &Path, mut seen: Seen) -> (Seen, Result<(), FilesError>) {
    let result = scan(path, &NEVER, &mut seen);
    (seen, result)
}

#[test]
fn everything_is_visited_once() {
    let outside = Outside::new();
    let folder = tempfile::tempdir().unwrap();
    make_dir(&folder.path().join("a/b"));
    fs::write(folder.path().join("a/b/one"), "").unwrap();
    fs::write(folder.path().join("two"), "").unwrap();
    symlink(outside.path(), folder.path().join("link")).unwrap();
    let (seen, result) = seen_at(folder.path(), Seen::default());
    result.unwrap();
    assert_eq!(seen.directories, 3);
    let expected = ["link Symlink", "one RegularFile", "two RegularFile"];
    assert_eq!(seen.entries, expected.map(String::from).into());
}

#[test]
fn an_error_does_not_end_the_scan() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a", "b", "bad", "c"] {
        make_dir(&folder.path().join(name));
        fs::write(folder.path().join(name).join(name), "").unwrap();
    }
    let failing = Seen { fail_at: Some(c"bad"), ..Seen::default() };
    let (seen, result) = seen_at(folder.path(), failing);
    assert_eq!((seen.directories, seen.entries.len()), (5, 3));
    let text = result.unwrap_err().to_string();
    let path = folder.path().join("bad/bad");
    assert!(text.starts_with(&format!("cannot visit {}: ", path.display())), "{text}");
}

/// A chain of directories, each with entries on both sides of the next.
fn chain(top: &Path, depth: usize) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut innermost = rustix::fs::open(top, flags, Mode::empty()).unwrap();
    for level in 0..depth {
        for name in [format!("before-{level}"), "deep".into(), format!("later-{level}")] {
            rustix::fs::mkdirat(&innermost, name, Mode::RWXU).unwrap();
        }
        innermost = rustix::fs::openat(&innermost, "deep", flags, Mode::empty()).unwrap();
    }
}

#[test]
fn listings_continue_after_deep_directories() {
    let folder = roomy_folder();
    let depth = HELD_OPEN * 10;
    chain(folder.path(), depth);
    let (seen, result) = seen_at(folder.path(), Seen::default());
    result.unwrap();
    assert_eq!(seen.directories, depth * 3 + 1);
    remove_tree(folder.path()).unwrap();
}

#[test]
fn the_number_of_open_directories_is_limited() {
    let folder = roomy_folder();
    make_deep(folder.path(), HELD_OPEN * 4);
    let mut seen = Seen::default();
    let mut scan = DiskScan::open(folder.path(), &mut seen).unwrap();
    let mut most = 0;
    while !scan.frames.is_empty() {
        scan.step();
        let open = scan.frames.iter().filter(|frame| frame.entries.is_some());
        most = most.max(open.count());
    }
    assert_eq!(most, HELD_OPEN + 1, "and the top");
    assert_eq!(seen.directories, HELD_OPEN * 4 + 1);
}

#[test]
fn a_directory_beyond_the_depth_limit_is_an_error_and_the_rest_is_visited() {
    let folder = roomy_folder();
    make_deep(folder.path(), MAX_DEPTH + 10);
    make_dir(&folder.path().join("other"));
    let (seen, result) = seen_at(folder.path(), Seen::default());
    assert_eq!(seen.directories, MAX_DEPTH + 1);
    let text = result.unwrap_err().to_string();
    assert!(text.contains("nested too deeply") && text.len() < 1000, "{text}");
    remove_tree(folder.path()).unwrap();
}

#[test]
fn directories_that_move_during_the_scan_are_an_error() {
    let folder = roomy_folder();
    let path = folder.path();
    make_deep(path, HELD_OPEN * 2);
    make_dir(&path.join("elsewhere"));
    fs::write(path.join("elsewhere/file"), "").unwrap();
    let mut seen = Seen::default();
    let mut scan = DiskScan::open(path, &mut seen).unwrap();
    while scan.frames.len() <= HELD_OPEN * 2 {
        scan.step();
    }
    // A directory that is opened again through `..` is moved below another one.
    let half = HELD_OPEN + 1;
    let to = path.join("elsewhere/moved");
    let from = path.join(["deep"].repeat(half).join("/"));
    fs::rename(from, to).unwrap();
    while !scan.frames.is_empty() {
        scan.step();
    }
    let text = scan.first_error.unwrap().to_string();
    assert!(text.contains("moved during the scan"), "{text}");
    assert!(seen.entries.contains("file RegularFile"), "the rest is visited");
}
