//! Replacements that are interrupted at each of their steps.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;

use proptest::prelude::*;
use tempfile::TempDir;

use super::super::crash_point::{crash_after, without_exchange};
use super::super::test_trees::{Node, Nodes, contents, make, nodes, set_time};
use super::super::tests::{NEVER, Outside, id, layout, make_dir, roomy_folder, wings_layout};
use super::*;

const TOKEN: Uuid = Uuid::from_u128(7);

type Contents = BTreeMap<Vec<u8>, String>;

/// A server with files, and the files of a backup.
struct Case {
    _folder: TempDir,
    layout: Layout,
    present: Present,
    backup: Nodes,
    old: Contents,
}

impl Case {
    fn new(present: Present, old: &Nodes, backup: &Nodes) -> Self {
        // `tests/filesystems.sh` names one on a file system with reflinks.
        let disk = std::env::var_os("ALULA_REPLACEMENTS");
        let folder = disk.map_or_else(roomy_folder, |disk| tempfile::tempdir_in(disk).unwrap());
        let root = folder.path().canonicalize().unwrap().join("root");
        let layout = Layout::new(&crate::testing::node_config(&root));
        layout.prepare(id()).unwrap();
        let data = layout.data(id());
        make(&data, old);
        set_time(&data, 1_000_000);
        let old = contents(&data);
        Self { _folder: folder, layout, present, backup: backup.clone(), old }
    }

    fn siblings(&self) -> Siblings {
        Siblings::of(&self.layout, id())
    }

    /// The job: it begins again, or continues where the disk says it is.
    fn run(&self) -> Result<(), ReplacementError> {
        let found = self.layout.replacement(id(), TOKEN)?;
        if found.is_none_or(|found| found.phase < Phase::Ready) {
            let staging = self.layout.begin_replacement(id(), TOKEN, self.present, None, &NEVER)?;
            let tree = self.siblings().staging().join(TREE);
            make(&tree, &self.backup);
            if staging.way() == Way::Exchange {
                set_time(&tree, 2_000_000);
            }
            staging.finish(&NEVER)?;
        }
        self.layout.exchange_replacement(id(), TOKEN)
    }

    fn contents(&self) -> Contents {
        contents(&self.layout.data(id()))
    }

    fn undo(&self) -> Result<(), ReplacementError> {
        self.layout.undo_replacement(id(), TOKEN)
    }

    /// The names beside the data directory that should not be there at the end.
    fn left_over(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.siblings().parent()).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with('.')).collect()
    }
}

/// Directories without a time of their own in the archive have the one of the merge: compared without times.
fn without_times_of_directories(contents: Contents) -> Contents {
    let shown = |text: String| match text.starts_with('4') && !text.starts_with("4.") && text.len() > 5 {
        true if u32::from_str_radix(text.split(' ').next().unwrap(), 8).unwrap() & 0o170_000 == 0o040_000 => {
            let mut fields: Vec<_> = text.split(' ').collect();
            fields[3] = "";
            fields.join(" ")
        }
        _ => text,
    };
    contents.into_iter().map(|(path, text)| (path, shown(text))).collect()
}

fn some_old() -> Nodes {
    vec![
        (vec![b"server.jar"], Node::File { bytes: b"jar 1".to_vec(), mode: 0o644 }, 10),
        (vec![b"world", b"level.dat"], Node::File { bytes: b"level 1".to_vec(), mode: 0o600 }, 20),
        (vec![b"world", b"second"], Node::SecondName, 25),
        (vec![b"world", b"kept", b"file"], Node::File { bytes: b"stays".to_vec(), mode: 0o640 }, 30),
        (vec![b"link"], Node::Link { text: b"world".to_vec() }, 40),
        (vec![b"dir", b"inner"], Node::File { bytes: b"below".to_vec(), mode: 0o644 }, 50),
        (vec![b"world"], Node::Directory { mode: 0o750 }, 60),
        (vec![b"plain"], Node::File { bytes: b"x".to_vec(), mode: 0o644 }, 70),
    ]
}

fn some_backup() -> Nodes {
    vec![
        (vec![b"server.jar"], Node::File { bytes: b"jar 2".to_vec(), mode: 0o755 }, 110),
        (vec![b"world", b"level.dat"], Node::File { bytes: b"level 2".to_vec(), mode: 0o644 }, 120),
        (vec![b"world", b"region", b"r"], Node::Sparse { length: 100_000 }, 130),
        (vec![b"link", b"was", b"link"], Node::File { bytes: b"now below".to_vec(), mode: 0o644 }, 140),
        (vec![b"dir"], Node::Link { text: b"/etc".to_vec() }, 150),
        (vec![b"world"], Node::Directory { mode: 0o770 }, 160),
        (vec![b"plain", b"now"], Node::Directory { mode: 0o700 }, 170),
        (vec![b"pipe"], Node::Fifo, 180),
        (vec![b"third"], Node::SecondName, 190),
    ]
}

/// What the job makes of a case without crashes.
fn expected(present: Present, old: &Nodes, backup: &Nodes) -> Contents {
    let case = Case::new(present, old, backup);
    case.run().unwrap();
    case.contents()
}

fn interrupted_everywhere(present: Present) {
    let (old, backup) = (some_old(), some_backup());
    let new = without_times_of_directories(expected(present, &old, &backup));
    let mut crashes = 0;
    for points in 0.. {
        let case = Case::new(present, &old, &backup);
        let ended = crash_after(points, || case.run()).is_ok();
        // A directory that is missing for a moment is created by a pass that comes first.
        case.layout.prepare(id()).unwrap();
        // A second crash, while the first one is recovered from.
        let again = crash_after(points % 7, || case.layout.complete_replacement(id()));
        if again.is_err() {
            crashes += 1;
        }
        case.layout.complete_replacement(id()).unwrap();
        let ready = case.layout.replacement(id(), TOKEN).unwrap().is_some_and(|found| found.phase > Phase::Ready);
        match ready {
            true => assert_eq!(without_times_of_directories(case.contents()), new, "after {points} points"),
            false => assert_eq!(case.contents(), case.old, "after {points} points"),
        }
        case.run().unwrap();
        assert_eq!(without_times_of_directories(case.contents()), new, "after {points} points");
        case.undo().unwrap();
        assert_eq!(case.contents(), case.old, "undone after {points} points");
        case.run().unwrap();
        assert_eq!(without_times_of_directories(case.contents()), new, "again after {points} points");
        case.layout.remove_former(id()).unwrap();
        case.layout.sweep_replacement(id(), None).unwrap();
        assert_eq!(case.left_over(), Vec::<PathBuf>::new());
        if ended {
            println!("{points} points, {crashes} second crashes");
            return;
        }
    }
}

#[test]
fn an_exchange_is_interrupted_everywhere() {
    interrupted_everywhere(Present::Discard);
}

#[test]
fn an_exchange_by_two_renames_is_interrupted_everywhere() {
    without_exchange(true);
    interrupted_everywhere(Present::Discard);
    without_exchange(false);
}

#[test]
fn a_merge_is_interrupted_everywhere() {
    interrupted_everywhere(Present::Keep);
}

fn undoing_is_interrupted_everywhere(present: Present) {
    let (old, backup) = (some_old(), some_backup());
    let new = without_times_of_directories(expected(present, &old, &backup));
    for points in 0.. {
        let case = Case::new(present, &old, &backup);
        case.run().unwrap();
        let ended = crash_after(points, || case.undo()).is_ok();
        let _ = crash_after(points % 5, || case.layout.complete_replacement(id()));
        case.layout.complete_replacement(id()).unwrap();
        let phase = case.layout.replacement(id(), TOKEN).unwrap().unwrap().phase;
        match phase {
            Phase::Exchanged => assert_eq!(without_times_of_directories(case.contents()), new),
            Phase::Undone => assert_eq!(case.contents(), case.old, "after {points} points"),
            other => panic!("{other:?}"),
        }
        case.undo().unwrap();
        assert_eq!(case.contents(), case.old, "after {points} points");
        // The caller may go on in the other direction from every state.
        let _ = crash_after(points, || case.run());
        case.undo().unwrap();
        assert_eq!(case.contents(), case.old, "back after {points} points");
        case.layout.remove_former(id()).unwrap();
        case.layout.sweep_replacement(id(), None).unwrap();
        assert_eq!(case.left_over(), Vec::<PathBuf>::new());
        if ended {
            return;
        }
    }
}

#[test]
fn the_undoing_of_an_exchange_is_interrupted_everywhere() {
    undoing_is_interrupted_everywhere(Present::Discard);
    without_exchange(true);
    undoing_is_interrupted_everywhere(Present::Discard);
    without_exchange(false);
}

#[test]
fn the_undoing_of_a_merge_is_interrupted_everywhere() {
    undoing_is_interrupted_everywhere(Present::Keep);
}

#[test]
fn a_merge_that_is_interrupted_has_the_old_or_the_new_file_under_each_name() {
    let file = |name: &'static [u8], bytes: &[u8]| {
        (vec![&b"world"[..], name], Node::File { bytes: bytes.to_vec(), mode: 0o644 }, 5)
    };
    let names: [&[u8]; 3] = [b"a", b"b", b"c"];
    let (old, new) = (names.map(|name| file(name, b"old")).to_vec(), names.map(|name| file(name, b"new")).to_vec());
    let mut mixed = 0;
    for points in 0.. {
        let case = Case::new(Present::Keep, &old, &new);
        let ended = crash_after(points, || case.run()).is_ok();
        let world = case.layout.data(id()).join("world");
        let read = names.map(|name| fs::read(world.join(std::str::from_utf8(name).unwrap())).unwrap());
        assert!(read.iter().all(|bytes| bytes == b"old" || bytes == b"new"), "{read:?}");
        mixed += u32::from(read.iter().any(|bytes| *bytes != read[0]));
        if ended {
            break;
        }
    }
    assert!(mixed > 2, "{mixed}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn a_merge_is_what_unpacking_over_the_files_gives(old in nodes(20), backup in nodes(20), points in 0_u32..60) {
        let case = Case::new(Present::Keep, &old, &backup);
        let _ = crash_after(points, || case.run());
        case.run().unwrap();
        // Each staged name has what is staged; the others are as they were, unless something that is staged is above them.
        let fresh = roomy_folder();
        make(fresh.path(), &backup);
        let (now, staged) = (without_times_of_directories(case.contents()), contents(fresh.path()));
        let staged = without_times_of_directories(staged);
        let is_directory = |text: &str| text.starts_with('4');
        let first = |text: &str| text.split(' ').next().unwrap().to_owned();
        for (path, text) in &staged {
            if is_directory(text) { prop_assert_eq!(first(&now[path])[..1].to_owned(), "4"); } else { prop_assert_eq!(&now[path], text); }
        }
        for path in case.old.keys().filter(|path| !staged.contains_key(*path)) {
            let mut above = (1..path.len()).filter(|end| path[*end] == b'/').map(|end| &path[..end]);
            let covered = above.any(|above| {
                staged.get(above).is_some_and(|text| !is_directory(text))
                    || staged.contains_key(above) && !is_directory(&case.old[above])
            });
            prop_assert_eq!(now.contains_key(path), !covered);
        }
        case.undo().unwrap();
        prop_assert_eq!(case.contents(), case.old.clone());
    }
}

#[test]
fn links_in_a_staged_tree_and_in_the_files_lead_nowhere() {
    let outside = Outside::new();
    for present in [Present::Keep, Present::Discard] {
        let case = Case::new(present, &some_old(), &vec![]);
        let data = case.layout.data(id());
        symlink(outside.path(), data.join("out")).unwrap();
        let staging = case.layout.begin_replacement(id(), TOKEN, present, None, &NEVER).unwrap();
        let tree = case.siblings().staging().join(TREE);
        make_dir(&tree.join("out"));
        fs::write(tree.join("out/file"), "overwrites").unwrap();
        symlink(outside.path(), tree.join("world")).unwrap();
        symlink(outside.file(), tree.join("server.jar")).unwrap();
        staging.finish(&NEVER).unwrap();
        case.layout.exchange_replacement(id(), TOKEN).unwrap();
        assert_eq!(fs::read_to_string(data.join("out/file")).unwrap(), "overwrites");
        assert_eq!(fs::read_link(data.join("world")).unwrap(), outside.path());
        outside.assert_untouched();
        case.layout.undo_replacement(id(), TOKEN).unwrap();
        assert_eq!(fs::read_link(data.join("out")).unwrap(), outside.path());
        assert_eq!(fs::read_to_string(data.join("world/level.dat")).unwrap(), "level 1");
        case.layout.remove_server(id(), true).unwrap();
        outside.assert_untouched();
        assert_eq!(case.left_over(), Vec::<PathBuf>::new());
    }
}

#[test]
fn a_tree_over_the_limit_changes_nothing() {
    let file = |name: &'static [u8], length| (vec![name], Node::Sparse { length }, 5);
    let case = Case::new(Present::Keep, &vec![file(b"a", 600), file(b"b", 300)], &vec![]);
    let begin = |present| case.layout.begin_replacement(id(), TOKEN, present, Some(1000), &NEVER).unwrap();
    let tree = case.siblings().staging().join(TREE);
    let staging = begin(Present::Discard);
    assert!(staging.tree().account().charge(1001).is_err());
    make(&tree, &vec![file(b"a", 1001)]);
    let error = staging.finish(&NEVER).unwrap_err();
    assert!(matches!(error, ReplacementError::OverLimit { used: 1001, limit: 1000 }), "{error}");
    let error = case.layout.exchange_replacement(id(), TOKEN).unwrap_err();
    assert!(matches!(error, ReplacementError::NotReady { .. }), "{error}");

    // Over the present files: what is overwritten does not count.
    for (length, fits) in [(700, true), (701, false)] {
        let staging = begin(Present::Keep);
        make(&tree, &vec![file(b"a", length)]);
        staging.finish(&NEVER).unwrap();
        let exchanged = case.layout.exchange_replacement(id(), TOKEN);
        if fits {
            exchanged.unwrap();
            case.undo().unwrap();
        } else {
            let error = exchanged.unwrap_err();
            assert!(matches!(error, ReplacementError::OverLimit { used: 1001, limit: 1000 }), "{error}");
        }
        assert_eq!(case.contents(), case.old);
    }
    let error = case.layout.check_space_beside(id(), u64::MAX).unwrap_err();
    assert!(matches!(error, ReplacementError::NoSpace { needed: u64::MAX, free, .. } if free > 0), "{error}");
    case.layout.check_space_beside(id(), 1).unwrap();
}

#[test]
fn a_tree_is_reopened_with_its_files_and_swept_without_its_job() {
    let case = Case::new(Present::Discard, &some_old(), &some_backup());
    let staging = case.layout.begin_replacement(id(), TOKEN, Present::Discard, Some(5000), &NEVER).unwrap();
    fs::write(case.siblings().staging().join(TREE).join("half"), "12345").unwrap();
    drop(staging);
    let other = Uuid::from_u128(8);
    assert!(case.layout.reopen_replacement(id(), other).unwrap().is_none());
    case.layout.sweep_replacement(id(), Some(TOKEN)).unwrap();
    let staging = case.layout.reopen_replacement(id(), TOKEN).unwrap().unwrap();
    assert_eq!((staging.tree().account().used(), staging.tree().account().limit()), (5, Some(5000)));
    case.layout.sweep_replacement(id(), Some(other)).unwrap();
    assert!(case.layout.replacement(id(), TOKEN).unwrap().is_none());
    assert_eq!(case.left_over(), Vec::<PathBuf>::new());
    assert_eq!(case.contents(), case.old);

    // A second replacement keeps its own former files only.
    case.run().unwrap();
    let restored = case.contents();
    let staging = case.layout.begin_replacement(id(), other, Present::Discard, None, &NEVER).unwrap();
    staging.finish(&NEVER).unwrap();
    case.layout.exchange_replacement(id(), other).unwrap();
    assert_eq!(case.contents().len(), 1, "empty");
    assert_eq!(case.layout.former_files(id()).unwrap().unwrap().token, other);
    let error = case.undo().unwrap_err();
    assert!(matches!(error, ReplacementError::NoFormer { .. }), "{error}");
    case.layout.undo_replacement(id(), other).unwrap();
    assert_eq!(case.contents(), restored);
}

#[test]
fn a_server_whose_directory_is_a_link_keeps_it() {
    for (_folder, layout) in [layout(), wings_layout()] {
        let elsewhere = tempfile::tempdir().unwrap();
        let real = elsewhere.path().canonicalize().unwrap().join("files");
        make_dir(&real);
        fs::write(real.join("old"), "old").unwrap();
        let path = layout.directories.server_data(&id());
        make_dir(path.parent().unwrap());
        symlink(&real, &path).unwrap();
        layout.prepare(id()).unwrap();
        let staging = layout.begin_replacement(id(), TOKEN, Present::Discard, None, &NEVER).unwrap();
        fs::write(elsewhere.path().join(format!(".{}.restore/tree/new", id())), "new").unwrap();
        staging.finish(&NEVER).unwrap();
        layout.exchange_replacement(id(), TOKEN).unwrap();
        assert!(path.is_symlink() && path.join("new").exists() && !path.join("old").exists());
        layout.undo_replacement(id(), TOKEN).unwrap();
        assert!(path.join("old").exists());
        layout.remove_server(id(), false).unwrap();
        let left: Vec<_> = fs::read_dir(elsewhere.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["files"], "only the link of the server is removed");
    }
}
