use std::os::unix::fs::{PermissionsExt, symlink};

use super::super::tests::{id, is_root, layout, make_dir, wings_layout};
use super::*;

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn everything_that_a_server_requires_is_created() {
    let (_folder, mut layout) = layout();
    if is_root() {
        (layout.uid, layout.gid) = (54_321, 54_322);
    }
    assert!(!layout.is_prepared(id()));
    for _ in 0..2 {
        layout.prepare(id()).unwrap();
        assert!(layout.is_prepared(id()));
        let data = layout.data(id());
        assert_eq!(data, layout.folder(id()).join("data"));
        let found = fs::metadata(&data).unwrap();
        assert_eq!((found.uid(), found.gid()), (layout.uid, layout.gid));
        assert_eq!((mode(&data), mode(&layout.logs(id()))), (0o700, 0o700));
        let machine_id = layout.machine_id(id());
        assert_eq!(fs::read_to_string(&machine_id).unwrap(), "550e8400e29b41d4a716446655440000");
        assert_eq!(mode(&machine_id), 0o644);
        assert_eq!(fs::read_dir(data.parent().unwrap()).unwrap().count(), 3, "nothing else");
    }
    let by_id = layout.directories.root.join("install").join(format!("{}.log", id()));
    assert_eq!(by_id, layout.install_log(id()), "no link to itself");
    fs::write(by_id, "log").unwrap();
    let link = layout.folder(id()).join("install.log");
    assert_eq!(fs::read_to_string(link).unwrap(), "log");
}

#[test]
fn missing_and_wrong_files_are_created_again() {
    let (_folder, layout) = wings_layout();
    layout.prepare(id()).unwrap();
    let by_id = layout.directories.root.join("install").join(format!("{}.log", id()));
    let (data, logs, machine_id) = (layout.data(id()), layout.logs(id()), layout.machine_id(id()));
    let folder = layout.folder(id());
    let links = [folder.join("data"), folder.join("install.log"), by_id];
    for path in [data, logs, machine_id.clone()].iter().chain(&links) {
        remove::remove_tree(path).unwrap();
        assert!(!layout.is_prepared(id()), "{}", path.display());
        layout.prepare(id()).unwrap();
        assert!(layout.is_prepared(id()), "{}", path.display());
    }
    for wrong in ["", "550e8400e29b41d4a716446655440000\n", &"x".repeat(100_000)] {
        fs::write(&machine_id, wrong).unwrap();
        assert!(!layout.is_prepared(id()));
        layout.prepare(id()).unwrap();
        assert!(layout.is_prepared(id()));
    }
    fs::set_permissions(&machine_id, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(!layout.is_prepared(id()), "containers could not read it");
}

#[test]
fn the_files_of_a_wings_node_are_used_in_place() {
    let (_folder, layout) = wings_layout();
    let data = layout.directories.root.join("volumes").join(id().to_string());
    make_dir(&data);
    fs::write(data.join("save"), "old").unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o750)).unwrap();
    make_dir(&layout.directories.log.join("install"));
    fs::write(layout.install_log(id()), "old log").unwrap();

    layout.prepare(id()).unwrap();
    assert_eq!(layout.data(id()), data);
    assert_eq!(mode(&data), 0o750, "as it was");
    let folder = layout.folder(id());
    assert_eq!(fs::read_to_string(folder.join("data/save")).unwrap(), "old");
    let link = fs::read_link(folder.join("data")).unwrap();
    assert_eq!(link, Path::new("../../volumes").join(id().to_string()));
    assert_eq!(fs::read_to_string(folder.join("install.log")).unwrap(), "old log");
    let by_id = layout.directories.root.join("install").join(format!("{}.log", id()));
    assert_eq!(fs::read_link(by_id).unwrap(), layout.install_log(id()));

    // The state folder may be moved as a whole.
    let moved = layout.directories.root.with_file_name("moved");
    fs::rename(&layout.directories.root, &moved).unwrap();
    let save = moved.join("servers").join(id().to_string()).join("data/save");
    assert_eq!(fs::read_to_string(save).unwrap(), "old");
}

#[test]
fn links_in_a_linked_folder_are_valid() {
    let (folder, layout) = wings_layout();
    let elsewhere = folder.path().join("elsewhere/far/away");
    make_dir(&elsewhere);
    make_dir(&layout.directories.root);
    symlink(&elsewhere, layout.directories.root.join("servers")).unwrap();
    layout.prepare(id()).unwrap();
    fs::write(layout.data(id()).join("save"), "1").unwrap();
    assert!(layout.folder(id()).join("data/save").exists());
    assert!(layout.is_prepared(id()));
}

#[test]
fn an_existing_file_is_never_replaced_by_a_link() {
    let (_folder, layout) = wings_layout();
    let folder = layout.folder(id());
    let log = folder.join("install.log");
    make_dir(&layout.data(id()));
    make_dir(&folder.join("data"));
    fs::write(folder.join("data/file"), "mine").unwrap();
    fs::write(&log, "mine").unwrap();
    layout.prepare(id()).unwrap();
    assert!(layout.is_prepared(id()));
    assert_eq!(fs::read_to_string(folder.join("data/file")).unwrap(), "mine");
    assert_eq!(fs::read_to_string(&log).unwrap(), "mine");
}

#[test]
fn a_link_to_another_path_is_replaced() {
    let (_folder, layout) = wings_layout();
    let link = layout.folder(id()).join("data");
    make_dir(&layout.folder(id()));
    symlink("/etc", &link).unwrap();
    fs::write(link.with_file_name(".data.link"), "left by a crash").unwrap();
    assert!(!layout.is_prepared(id()));
    layout.prepare(id()).unwrap();
    assert_eq!(link.canonicalize().unwrap(), layout.data(id()));
    assert!(!link.with_file_name(".data.link").exists());
}

#[test]
fn files_are_used_in_their_position_after_a_configuration_change() {
    // The files are in the state folder, and the configuration names the folder of Wings now.
    let (_folder, layout) = wings_layout();
    let here = layout.folder(id()).join("data");
    make_dir(&here);
    fs::write(here.join("save"), "1").unwrap();
    layout.prepare(id()).unwrap();
    assert_eq!(layout.data(id()), here);
    assert!(layout.is_prepared(id()) && here.join("save").exists());

    // The files are in the folder of Wings, and the configuration no longer names it.
    let (_folder, layout) = super::super::tests::layout();
    let there = layout.directories.root.join("volumes").join(id().to_string());
    make_dir(&there);
    fs::write(there.join("save"), "1").unwrap();
    layout.prepare(id()).unwrap();
    assert_eq!(layout.data(id()), there);
    assert!(layout.is_prepared(id()) && layout.folder(id()).join("data/save").exists());
    layout.remove_server(id(), false).unwrap();
    assert!(!there.exists());
}

#[test]
fn a_taken_path_is_an_error_with_a_reason() {
    let (_folder, layout) = wings_layout();
    let data = layout.data(id());
    make_dir(data.parent().unwrap());
    symlink("/nowhere/at/all", &data).unwrap();
    let error = layout.prepare(id()).unwrap_err().to_string();
    assert!(error.contains("a dangling link has its path"), "{error}");
    fs::remove_file(&data).unwrap();
    fs::write(&data, "precious").unwrap();
    let error = layout.prepare(id()).unwrap_err().to_string();
    assert!(error.contains("a file has its path"), "{error}");
    assert!(!layout.is_prepared(id()));
    assert_eq!(fs::read_to_string(&data).unwrap(), "precious");
}

#[test]
fn an_incomplete_directory_of_a_crash_is_replaced() {
    let (_folder, layout) = layout();
    let unfinished = layout.unfinished_data_path(id());
    make_dir(&unfinished);
    fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o777)).unwrap();
    layout.prepare(id()).unwrap();
    assert!(!unfinished.exists());
    assert_eq!(mode(&layout.data(id())), 0o700);
}

#[test]
fn the_folders_of_the_node_and_the_link_to_its_log_are_created() {
    for (_folder, layout) in [layout(), wings_layout()] {
        for _ in 0..2 {
            layout.prepare_node().unwrap();
            let root = &layout.directories.root;
            assert_eq!(mode(&layout.directories.log.join("install")), 0o700);
            assert!(root.join("install").is_dir());
            fs::write(layout.directories.daemon_log(), "line").unwrap();
            assert_eq!(fs::read_to_string(root.join("wings.log")).unwrap(), "line");
        }
    }
}
