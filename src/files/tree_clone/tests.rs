use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;

use super::super::test_trees::{Node, contents, make, nodes, set_time};
use super::super::tests::{NEVER, Outside, make_deep, roomy_folder};
use super::*;

fn copied(from: &Path, folder: &Path) -> Result<PathBuf, FilesError> {
    let to = folder.join("copy");
    fs::create_dir(&to).unwrap();
    clone_tree(from, &to, &NEVER)?;
    Ok(to)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn a_copy_is_the_same_tree(nodes in nodes(30)) {
        let folder = roomy_folder();
        let from = folder.path().join("from");
        fs::create_dir(&from).unwrap();
        make(&from, &nodes);
        set_time(&from, 77);
        let to = copied(&from, folder.path()).unwrap();
        prop_assert_eq!(contents(&to), contents(&from));
    }
}

#[test]
fn holes_stay_holes() {
    use std::os::unix::fs::{FileExt, MetadataExt};
    let folder = tempfile::tempdir().unwrap();
    let from = folder.path().join("from");
    fs::create_dir(&from).unwrap();
    let file = File::create(from.join("region")).unwrap();
    file.set_len(64 << 20).unwrap();
    for at in [0, 5 << 20, (64 << 20) - 10] {
        file.write_all_at(b"0123456789", at).unwrap();
    }
    drop(file);
    let to = copied(&from, folder.path()).unwrap();
    assert!(fs::read(from.join("region")).unwrap() == fs::read(to.join("region")).unwrap());
    assert!(fs::metadata(to.join("region")).unwrap().blocks() * 512 < 1 << 20);
}

#[test]
fn a_deep_tree_is_copied_and_links_are_not_followed() {
    let (outside, folder) = (Outside::new(), roomy_folder());
    let from = folder.path().join("from");
    fs::create_dir(&from).unwrap();
    std::os::unix::fs::symlink(outside.path(), from.join("out")).unwrap();
    let innermost = make_deep(&from, 1500);
    let flags = OFlags::CREATE | OFlags::WRONLY;
    rustix::io::write(rustix::fs::openat(&innermost, "file", flags, Mode::RUSR).unwrap(), b"deep").unwrap();
    make(&from, &vec![(vec![b"b"], Node::Fifo, 5)]);
    let to = copied(&from, folder.path()).unwrap();
    let mut at = rustix::fs::open(&to, FLAGS, Mode::empty()).unwrap();
    for _ in 0..1500 {
        at = rustix::fs::openat(&at, "deep", FLAGS, Mode::empty()).unwrap();
    }
    assert_eq!(rustix::fs::statat(&at, "file", AtFlags::empty()).unwrap().st_size, 4);
    assert_eq!(fs::read_link(to.join("out")).unwrap(), outside.path());
    outside.assert_untouched();
    remove_tree(folder.path()).unwrap();
}

#[test]
fn a_copy_that_is_cancelled_or_fails_is_an_error() {
    let folder = roomy_folder();
    let from = folder.path().join("from");
    fs::create_dir(&from).unwrap();
    make(&from, &vec![(vec![b"b"], Node::Fifo, 5)]);
    let to = folder.path().join("to");
    fs::create_dir(&to).unwrap();
    let cancelled = clone_tree(&from, &to, &AtomicBool::new(true)).unwrap_err();
    assert!(matches!(cancelled, FilesError::Cancelled { .. }), "{cancelled}");
    make(&to, &vec![(vec![b"b"], Node::Fifo, 5)]);
    clone_tree(&from, &to, &NEVER).unwrap_err();
}
