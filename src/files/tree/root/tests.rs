use std::fs;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::super::super::tests::{Outside, make_fifo, while_swapping};
use super::*;

fn open(path: &Path) -> Root {
    let found = fs::metadata(path).unwrap();
    Root::open(path, found.uid(), found.gid()).unwrap()
}

fn read(root: &Root, path: &str) -> io::Result<String> {
    let mut text = String::new();
    root.open_file(Path::new(path))?.0.read_to_string(&mut text)?;
    Ok(text)
}

fn tree(outside: &Outside) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::create_dir_all(path.join("dir/sub")).unwrap();
    fs::write(path.join("file"), "top").unwrap();
    fs::write(path.join("dir/file"), "in dir").unwrap();
    symlink("dir", path.join("to-dir")).unwrap();
    symlink("file", path.join("to-file")).unwrap();
    symlink(outside.path(), path.join("out")).unwrap();
    symlink("../../../../../../../../etc", path.join("up")).unwrap();
    symlink("/proc/self/root", path.join("magic")).unwrap();
    make_fifo(&path.join("fifo"));
    folder
}

#[test]
fn paths_stay_below_the_root() {
    let outside = Outside::new();
    let folder = tree(&outside);
    let root = open(folder.path());
    for (path, text) in [
        ("file", "top"),
        ("/file", "top"),
        ("./dir//./file", "in dir"),
        ("dir/sub/../../file", "top"),
        ("to-dir/file", "in dir"),
    ] {
        assert_eq!(read(&root, path).unwrap(), text, "{path:?}");
    }
    for (path, kind) in [
        ("nothing", ErrorKind::NotFound),
        ("file/below", ErrorKind::NotADirectory),
        ("", ErrorKind::InvalidInput),
        ("dir", ErrorKind::InvalidInput),
        ("../x", ErrorKind::InvalidInput),
        ("/../../etc/passwd", ErrorKind::InvalidInput),
        ("fi\0le", ErrorKind::InvalidInput),
        ("to-file", ErrorKind::InvalidInput),
        ("fifo", ErrorKind::InvalidInput),
        ("out/file", ErrorKind::CrossesDevices),
        ("up/passwd", ErrorKind::CrossesDevices),
        ("magic/etc/passwd", ErrorKind::CrossesDevices),
    ] {
        assert_eq!(read(&root, path).unwrap_err().kind(), kind, "{path:?}");
    }
    outside.assert_untouched();
}

#[test]
fn files_are_replaced_below_the_root() {
    let outside = Outside::new();
    let folder = tree(&outside);
    let (root, top) = (open(folder.path()), folder.path());
    root.replace_file(Path::new("file"), b"new", 0o600).unwrap();
    root.replace_file(Path::new("/new/deep/file"), b"made", 0o644).unwrap();
    root.replace_file(Path::new("to-dir/made"), b"by link", 0o644).unwrap();
    assert_eq!(fs::read(top.join("file")).unwrap(), b"new");
    assert_eq!(fs::metadata(top.join("file")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read(top.join("new/deep/file")).unwrap(), b"made");
    assert_eq!(fs::metadata(top.join("new/deep")).unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(fs::read(top.join("dir/made")).unwrap(), b"by link");
    for path in ["out/x", "out/deep/x", "up/x", "magic/tmp/x", "../x", "", "file/x", "dir"] {
        assert!(root.replace_file(Path::new(path), b"x", 0o644).is_err(), "{path:?}");
    }
    // Nothing temporary stays.
    let names: Vec<_> = fs::read_dir(top).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().starts_with(".alula")), "{names:?}");
    outside.assert_untouched();
}

#[test]
fn swapped_links_do_not_lead_outside() {
    let outside = Outside::new();
    let folder = tree(&outside);
    let (directory, link) = (folder.path().join("dir"), folder.path().join("out"));
    let root = open(folder.path());
    while_swapping(&directory, &link, || {
        for round in 0..500 {
            if let Ok(text) = read(&root, "dir/file") {
                assert_eq!(text, "in dir");
            }
            let _ = root.replace_file(Path::new("dir/written"), b"x", 0o644);
            let _ = root.replace_file(Path::new(&format!("dir/{}/new", round % 7)), b"x", 0o644);
        }
    });
    outside.assert_untouched();
}
