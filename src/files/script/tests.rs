use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use super::super::tests::{Outside, id, is_root, layout, make_dir};
use super::*;

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn crlf_is_replaced_in_a_script_and_nothing_else() {
    let (_folder, layout) = layout();
    let file = layout.script_folder(id()).join(NAME);
    assert!(!layout.has_script(id()));
    for (text, expected) in [
        ("", ""),
        ("#!/bin/sh\r\necho \"a\rb\"\r\n\r\nexit", "#!/bin/sh\necho \"a\rb\"\n\nexit"),
        ("a\r\r\nb\n", "a\r\nb\n"),
    ] {
        layout.write_script(id(), text).unwrap();
        assert!(layout.has_script(id()));
        assert_eq!(fs::read_to_string(&file).unwrap(), expected);
        assert_eq!(mode(&file), 0o644);
    }
    assert_eq!(fs::read_dir(layout.script_folder(id())).unwrap().count(), 1, "nothing else");
    layout.remove_script(id()).unwrap();
    layout.remove_script(id()).unwrap();
    assert!(!layout.has_script(id()) && !layout.script_folder(id()).exists());
}

#[test]
fn containers_can_read_the_script_and_other_users_of_the_host_cannot() {
    let (_folder, layout) = layout();
    layout.write_script(id(), "echo").unwrap();
    assert_eq!(mode(&layout.directories.tmp), 0o700);
    assert_eq!(mode(&layout.script_folder(id())), 0o755);
    for open in [0o755, 0o710, 0o1777] {
        let tmp = &layout.directories.tmp;
        fs::set_permissions(tmp, fs::Permissions::from_mode(open)).unwrap();
        layout.write_script(id(), "echo").unwrap();
        assert_eq!(mode(&layout.script_folder(id())), 0o700, "{open:o}");
    }
}

#[test]
fn a_running_installer_keeps_the_script_that_it_reads() {
    use std::io::Read;
    let (_folder, layout) = layout();
    layout.write_script(id(), "first").unwrap();
    let mut open = fs::File::open(layout.script_folder(id()).join(NAME)).unwrap();
    layout.write_script(id(), "second").unwrap();
    let mut text = String::new();
    open.read_to_string(&mut text).unwrap();
    assert_eq!(text, "first");
}

#[test]
fn links_and_folders_of_other_users_are_replaced() {
    let outside = Outside::new();
    let (_folder, layout) = layout();
    let folder = layout.script_folder(id());
    make_dir(&layout.directories.tmp);

    symlink(outside.path(), &folder).unwrap();
    layout.write_script(id(), "echo").unwrap();
    assert!(folder.symlink_metadata().unwrap().is_dir());

    for name in [NAME, ".install.sh.new"] {
        layout.remove_script(id()).unwrap();
        make_dir(&folder);
        symlink(outside.file(), folder.join(name)).unwrap();
        layout.write_script(id(), "echo").unwrap();
        assert!(layout.has_script(id()));

        layout.remove_script(id()).unwrap();
        make_dir(&folder.join(name).join("full"));
        assert!(!layout.has_script(id()));
        layout.write_script(id(), "echo").unwrap();
        assert!(layout.has_script(id()));
    }
    outside.assert_untouched();

    if is_root() {
        std::os::unix::fs::chown(&folder, Some(54_321), None).unwrap();
        let before = fs::metadata(&folder).unwrap().ino();
        let held = fs::File::open(&folder).unwrap();
        layout.write_script(id(), "echo").unwrap();
        let after = fs::metadata(&folder).unwrap();
        assert_eq!(after.uid(), 0);
        assert_ne!(after.ino(), before, "a new one: {held:?} belongs to another user");
    }
}
