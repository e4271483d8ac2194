//! A second thread changes the directories and links of every path while each operation runs: nothing outside is reached.

use super::super::super::tests::{Outside, while_swapping};
use super::*;

/// Runs an operation many times while `folder` is a directory or a link to a directory of the host, by turns.
fn raced(rules: &[&str], operation: impl Fn(&Files)) {
    let (files, outside) = (Files::with(rules, None), Outside::new());
    files.put("folder/file", "own");
    files.put("folder/sub/x", "own");
    files.put("folder/kept", "own");
    let before = fs::metadata(outside.path()).unwrap();
    symlink(outside.path(), files.path("evil")).unwrap();
    while_swapping(&files.path("folder"), &files.path("evil"), || {
        for _ in 0..400 {
            operation(&files);
        }
    });
    outside.assert_untouched();
    let after = fs::metadata(outside.path()).unwrap();
    assert_eq!((before.mode(), before.mtime_nsec()), (after.mode(), after.mtime_nsec()));
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}

/// The length of the host's file.
const PRECIOUS: u64 = 8;

#[test]
fn reads_stay_inside() {
    raced(&[], |files| {
        if let Ok((mut file, _)) = files.tree.open(&at("folder/file")) {
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(text, "own");
        }
        if let Ok(listing) = files.tree.list(&at("folder")) {
            for entry in listing.flatten() {
                assert_ne!(entry.size, PRECIOUS);
            }
        }
        let _ = files.tree.walk(&UserPath::root(), &NEVER, &mut |entry| {
            assert_ne!(entry.entry.size, PRECIOUS);
            Visit::Enter
        });
    });
}

#[test]
fn writes_stay_inside() {
    raced(&[], |files| drop(files.write("folder/file", "own")));
    raced(&[], |files| drop(files.write("folder/new/deep/file", "own")));
    raced(&[], |files| {
        let flags = OpenFlags { create: true, truncate: true, mode: 0o666, ..OpenFlags::default() };
        if let Ok(file) = files.tree.open_for_writing(&at("folder/file"), flags) {
            let _ = file.write_at(b"own", 0);
        }
    });
    raced(&[], |files| drop(files.tree.copy(&at("folder/file"), "now", &NEVER)));
    raced(&[], |files| drop(files.tree.create_directory(&at("folder/made/deep"), true, 0o777)));
}

#[test]
fn changes_of_names_stay_inside() {
    raced(&[], |files| {
        let _ = files.tree.rename(&at("folder/file"), &at("taken"), Replace::Allow);
        let _ = files.tree.rename(&at("taken"), &at("folder/file"), Replace::Allow);
    });
    raced(&[], |files| {
        let _ = files.tree.symlink(OsStr::new("x"), &at("folder/link"));
        let _ = files.tree.hard_link(&at("folder/file"), &at("folder/name"));
        let _ = files.tree.remove(&at("folder/link"), Recursive::No, &NEVER);
        let _ = files.tree.remove(&at("folder/name"), Recursive::No, &NEVER);
    });
    raced(&[], |files| {
        let mode = Attributes { mode: Some(0o777), modified: Some(SystemTime::UNIX_EPOCH), ..Attributes::default() };
        let _ = files.tree.set_attributes(&at("folder/file"), Follow::Yes, mode);
        let _ = files.tree.set_attributes(&at("folder"), Follow::Yes, mode);
    });
}

#[test]
fn removals_stay_inside() {
    for rules in [&[][..], &["kept"][..]] {
        raced(rules, |files| {
            let _ = files.write("folder/sub/x", "own");
            let _ = files.tree.remove(&at("folder"), Recursive::Yes, &NEVER);
            let _ = files.tree.create_directory(&at("folder"), false, 0o755);
        });
    }
}

#[test]
fn a_name_that_becomes_a_pipe_or_a_link_blocks_nothing() {
    let (files, outside) = (Files::new(), Outside::new());
    files.put("file", "own");
    make_fifo(&files.path("pipe"));
    symlink(outside.file(), files.path("link")).unwrap();
    for other in ["pipe", "link"] {
        while_swapping(&files.path("file"), &files.path(other), || {
            for _ in 0..1000 {
                if let Ok((mut file, _)) = files.tree.open(&at("file")) {
                    let mut text = String::new();
                    file.read_to_string(&mut text).unwrap();
                    assert_eq!(text, "own");
                }
                let listing = files.tree.list_sorted(&UserPath::root()).unwrap();
                let entries: Vec<Entry> = files.tree.list(&UserPath::root()).unwrap().flatten().collect();
                for entry in &entries {
                    let mut head = [0; 3];
                    assert!(listing.head(entry, &mut head).is_none() || &head == b"own");
                }
                let _ = files.tree.open_for_writing(&at("file"), OpenFlags::default());
                let _ = files.tree.set_attributes(
                    &at("file"),
                    Follow::Yes,
                    Attributes { mode: Some(0o777), ..Attributes::default() },
                );
            }
        });
        outside.assert_untouched();
    }
}
