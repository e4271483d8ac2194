use super::super::tests::{id, roomy_folder};
use super::*;
use crate::model::ManagedBy;

struct Case {
    _folder: tempfile::TempDir,
    layout: Layout,
}

impl Case {
    fn new() -> Self {
        let folder = roomy_folder();
        let root = folder.path().canonicalize().unwrap().join("root");
        let layout = Layout::new(&crate::testing::node_config(&root));
        layout.prepare(id()).unwrap();
        fs::write(layout.data(id()).join("level.dat"), "level").unwrap();
        fs::create_dir_all(layout.backups(id())).unwrap();
        fs::write(layout.backups(id()).join("x.tar.gz"), "archive").unwrap();
        Self { _folder: folder, layout }
    }

    fn deleted() -> DeletedServer {
        DeletedServer {
            server: id(),
            at: Timestamp::from_millis(1_767_225_600_000),
            manifest: Some(Manifest::new(id(), ManagedBy::File)),
            r#override: Some("spec: {}\n".into()),
            record: Record::default(),
            declared: Declared::default(),
            data: None,
            backups: None,
        }
    }

    /// What the removal does, and what follows.
    fn delete(&self) {
        self.layout.move_to_trash(Self::deleted(), true).unwrap();
        self.layout.remove_server(id(), true).unwrap();
        fs::remove_dir_all(self.layout.folder(id())).unwrap();
    }

    fn has_files(&self) -> bool {
        let level = fs::read(self.layout.data(id()).join("level.dat")).is_ok_and(|text| text == b"level");
        level && self.layout.backups(id()).join("x.tar.gz").exists()
    }
}

#[test]
fn a_deleted_server_comes_back_with_its_files_and_backups() {
    let case = Case::new();
    case.delete();
    assert!(!case.has_files());
    let deleted = case.layout.deleted_servers().unwrap().remove(0);
    assert_eq!((deleted.server, deleted.kept_until()), (id(), Case::deleted().at + KEPT));
    case.layout.bring_back(&deleted).unwrap();
    case.layout.bring_back(&deleted).unwrap();
    assert!(case.has_files());
    assert!(case.layout.folder(id()).join("override.yml").exists());
    assert_eq!(case.layout.deleted_servers().unwrap().len(), 1, "it is found again after a crash");
    case.layout.forget_deleted(&deleted).unwrap();
    assert!(case.layout.deleted_servers().unwrap().is_empty() && case.has_files());
}

#[test]
fn a_removal_that_runs_again_continues() {
    let case = Case::new();
    case.layout.move_to_trash(Case::deleted(), true).unwrap();
    // A later run finds neither files nor backups, and another record.
    let again = DeletedServer { manifest: None, ..Case::deleted() };
    case.layout.move_to_trash(again, true).unwrap();
    let deleted = case.layout.deleted_servers().unwrap().remove(0);
    assert!(deleted.manifest.is_some() && deleted.data.is_some() && deleted.backups.is_some());
}

/// At each step of a return, and of the deletion before it.
#[test]
fn a_return_that_was_interrupted_is_ended() {
    const WRITTEN: [&str; 2] = ["config.yml", "override.yml"];
    let case = Case::new();
    case.delete();
    let deleted = case.layout.deleted_servers().unwrap().remove(0);
    let (data, backups) = (deleted.data.clone().unwrap(), deleted.backups.clone().unwrap());
    let in_trash = |case: &Case| {
        assert!(data.to.join("level.dat").exists() && backups.to.join("x.tar.gz").exists());
        assert_eq!(case.layout.deleted_servers().unwrap(), std::slice::from_ref(&deleted));
    };
    case.layout.end_return(&deleted, false, &WRITTEN).unwrap();
    in_trash(&case);
    // One of the two renames, then both, then with files in the folder.
    fs::create_dir(case.layout.folder(id())).unwrap();
    fs::rename(&data.to, &data.from).unwrap();
    case.layout.end_return(&deleted, false, &WRITTEN).unwrap();
    in_trash(&case);
    for _ in 0..2 {
        case.layout.bring_back(&deleted).unwrap();
        fs::write(case.layout.folder(id()).join("config.yml"), "text").unwrap();
        case.layout.end_return(&deleted, false, &WRITTEN).unwrap();
        in_trash(&case);
        assert!(!case.layout.folder(id()).exists());
    }
    // A deletion of a server that is there goes on.
    fs::create_dir(case.layout.folder(id())).unwrap();
    fs::rename(&data.to, &data.from).unwrap();
    case.layout.end_return(&deleted, true, &WRITTEN).unwrap();
    assert_eq!(case.layout.deleted_servers().unwrap().len(), 1);
    // Everything was done but the last step.
    case.layout.bring_back(&deleted).unwrap();
    case.layout.end_return(&deleted, true, &WRITTEN).unwrap();
    assert!(case.layout.deleted_servers().unwrap().is_empty() && case.has_files());
    assert!(case.layout.folder(id()).join("override.yml").exists());
}

#[test]
fn files_in_the_way_are_not_replaced() {
    let case = Case::new();
    case.delete();
    let deleted = case.layout.deleted_servers().unwrap().remove(0);
    case.layout.prepare(id()).unwrap();
    fs::write(case.layout.data(id()).join("other.dat"), "other").unwrap();
    assert!(case.layout.bring_back(&deleted).unwrap_err().to_string().contains("in the way"));
    assert!(case.layout.data(id()).join("other.dat").exists());
    assert_eq!(case.layout.deleted_servers().unwrap(), [deleted]);
}

#[test]
fn what_was_kept_is_removed_for_good() {
    let case = Case::new();
    case.delete();
    let deleted = case.layout.deleted_servers().unwrap().remove(0);
    case.layout.remove_deleted(&deleted).unwrap();
    assert!(case.layout.deleted_servers().unwrap().is_empty());
    let kept = [&deleted.data, &deleted.backups].into_iter().flatten().any(|moved| moved.to.exists());
    assert!(!kept && !case.has_files());
}
