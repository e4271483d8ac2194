use std::cell::Cell;
use std::fs;

use super::super::tests::{NEVER, id, layout};
use super::*;

#[test]
fn without_snapshots_the_live_tree_is_read_and_leftovers_are_swept() {
    let (_folder, layout) = layout();
    layout.prepare(id()).unwrap();
    fs::write(layout.data(id()).join("file"), "12345").unwrap();
    let paused = Cell::new(0);
    let source = layout.quiet_source(id(), || paused.set(paused.get() + 1), &NEVER).unwrap();
    let siblings = Siblings::of(&layout, id());
    if source.kind() == BackupSource::Live {
        assert_eq!((paused.get(), siblings.sources().len()), (0, 0));
    }
    let file = crate::files::user_path::UserPath::parse(OsStr::new("file")).unwrap();
    assert_eq!(source.tree().open(&file).unwrap().1.size, 5);

    let killed = siblings.source(Uuid::from_u128(9));
    fs::create_dir_all(killed.join("tree/half")).unwrap();
    fs::create_dir_all(siblings.source(source.token)).unwrap();
    layout.sweep_sources(id()).unwrap();
    assert_eq!(siblings.sources(), [siblings.source(source.token)], "in use");
    drop(source);
    layout.sweep_sources(id()).unwrap();
    assert!(siblings.sources().is_empty());
    assert_eq!(serde_json::to_string(&BackupSource::BtrfsSnapshot).unwrap(), "\"btrfsSnapshot\"");
}
