use std::os::unix::fs::symlink;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::tests::{Outside, is_root, make_deep, make_dir, roomy_folder, while_swapping};
use super::*;

fn tree() -> (tempfile::TempDir, PathBuf) {
    tree_in(tempfile::tempdir().unwrap())
}

fn tree_in(folder: tempfile::TempDir) -> (tempfile::TempDir, PathBuf) {
    let path = folder.path().join("tree");
    make_dir(&path);
    (folder, path)
}

#[test]
fn files_directories_and_links_are_removed() {
    let outside = Outside::new();
    let (_folder, path) = tree();
    remove_tree(&path).unwrap();
    assert!(!path.exists());
    remove_tree(&path).unwrap();
    remove_tree(&path.join("below/nothing")).unwrap();
    fs::write(&path, "file").unwrap();
    remove_tree(&path.join("below-a-file")).unwrap();
    remove_tree(&path).unwrap();
    symlink(outside.path(), &path).unwrap();
    remove_tree(&path).unwrap();
    assert!(path.symlink_metadata().is_err());
    outside.assert_untouched();
    assert!(remove_tree(Path::new("/")).is_err());
    assert!(remove_tree(Path::new("..")).is_err());
}

#[test]
fn any_depth_is_removed() {
    let (folder, path) = tree_in(roomy_folder());
    make_deep(&path, 5000);
    // Names that are taken.
    make_dir(&path.join(format!("{MOVED_PREFIX}0/full")));
    fs::write(path.join(format!("{MOVED_PREFIX}1")), "").unwrap();
    remove_tree(&path).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn directories_without_permissions_are_removed() {
    let (_folder, path) = tree();
    for mode in [0o000, 0o100, 0o400, 0o500] {
        let dir = path.join(format!("{mode:o}"));
        make_dir(&dir.join("sub"));
        fs::write(dir.join("file"), "1").unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(mode)).unwrap();
    }
    remove_tree(&path).unwrap();
    assert!(!path.exists());
}

#[test]
fn swapped_links_are_not_followed() {
    let outside = Outside::new();
    for _ in 0..200 {
        let (_folder, path) = tree_in(roomy_folder());
        let (a, b) = (path.join("a"), path.join("b"));
        for name in 0..20 {
            make_dir(&a.join(format!("{name}/sub")));
        }
        symlink(outside.path(), &b).unwrap();
        while_swapping(&a, &b, || remove_tree(&path)).unwrap();
        assert!(!path.exists());
    }
    outside.assert_untouched();
}

#[test]
fn files_that_appear_during_the_removal_are_removed() {
    let (_folder, path) = tree_in(roomy_folder());
    let written = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for name in 0..2000 {
                let _ = fs::create_dir_all(path.join(format!("sub/{}", name % 7)));
                let _ = fs::write(path.join(format!("sub/{}/{name}", name % 7)), "1");
            }
            written.store(true, Ordering::Relaxed);
        });
        loop {
            let last = written.load(Ordering::Relaxed);
            remove_tree(&path).unwrap();
            if last {
                break;
            }
        }
    });
    assert!(!path.exists());
}

#[test]
fn everything_except_an_immutable_file_is_removed() {
    let (_folder, path) = tree();
    for name in 0..20 {
        make_dir(&path.join(format!("{name}/deep/er")));
    }
    let kept = path.join("7/deep/kept");
    fs::write(&kept, "1").unwrap();
    let attribute = |change: &str| Command::new("chattr").arg(change).arg(&kept).status();
    if !attribute("+i").is_ok_and(|status| status.success()) {
        eprintln!("no immutable files in this sandbox");
        return;
    }
    let result = remove_tree(&path);
    attribute("-i").unwrap();
    let text = result.unwrap_err().to_string();
    assert!(text.starts_with(&format!("cannot remove {}: ", kept.display())), "{text}");
    assert!(text.contains("lsattr"), "{text}");
    let left = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(left.collect::<Vec<_>>(), ["7"]);
    assert_eq!(fs::read_dir(path.join("7/deep")).unwrap().count(), 1);
    remove_tree(&path).unwrap();
    assert!(!path.exists());
}

/// Runs the inner test of this file in another mount namespace, with a mount in the tree.
#[test]
fn a_mount_is_neither_entered_nor_emptied() {
    let outside = Outside::new();
    let (_folder, path) = tree();
    make_dir(&path.join("before"));
    make_dir(&path.join("mounted"));
    let mut unshare = Command::new("unshare");
    unshare.args(if is_root() { ["-m"].as_slice() } else { &["-r", "-m"] });
    unshare.args([
        "sh",
        "-c",
        "mount --bind \"$0\" \"$1/mounted\" && exec \"$2\" --exact --ignored --nocapture \
                   files::remove::tests::inner_with_a_mount",
    ]);
    unshare.args([outside.path(), &path, &std::env::current_exe().unwrap()]);
    let output = unshare.env("ALULA_TEST_TREE", &path).output();
    let Some(output) = output.ok().filter(|output| {
        // 1 and 32 are those of `unshare` and `mount`, where the sandbox forbids mounts.
        !matches!(output.status.code(), Some(1 | 32))
    }) else {
        eprintln!("no mounts in this sandbox");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    outside.assert_untouched();
    assert!(!path.join("before").exists());
}

#[test]
#[ignore = "started by a_mount_is_neither_entered_nor_emptied"]
fn inner_with_a_mount() {
    let path = PathBuf::from(std::env::var_os("ALULA_TEST_TREE").unwrap());
    let precious = path.join("mounted/file");
    assert!(precious.exists());
    let mut usage = super::super::usage::Sum::default();
    super::super::scan::scan(&path, &AtomicBool::new(false), &mut usage).unwrap();
    assert_eq!(usage.bytes, 0);
    let top = fs::File::open(&path).unwrap();
    for open in [open_child, super::super::child::open_and_compare] {
        assert_eq!(open(top.as_fd(), c"mounted").unwrap_err(), Errno::XDEV);
    }
    let error = remove_tree(&path).unwrap_err();
    assert!(error.to_string().contains("unmount it"), "{error}");
    assert!(precious.exists());
}
