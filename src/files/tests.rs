//! Trees of a hostile user: measured, given to another owner, and removed.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, FileType, Mode, OFlags, RenameFlags};
use tempfile::TempDir;

use super::*;

pub(super) static NEVER: AtomicBool = AtomicBool::new(false);

pub(super) fn id() -> ServerId {
    "550e8400-e29b-41d4-a716-446655440000".parse().unwrap()
}

/// A folder for many small files, in memory if possible.
pub(super) fn roomy_folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// A node with everything in one folder.
pub(super) fn layout() -> (TempDir, Layout) {
    layout_in(tempfile::tempdir().unwrap())
}

fn layout_in(folder: TempDir) -> (TempDir, Layout) {
    let root = folder.path().canonicalize().unwrap().join("root");
    (folder, Layout::new(&crate::testing::node_config(&root)))
}

/// A node whose configuration names Wings' folders.
pub(super) fn wings_layout() -> (TempDir, Layout) {
    let (folder, mut layout) = layout();
    let base = folder.path().canonicalize().unwrap();
    layout.directories.data = Some(layout.directories.root.join("volumes"));
    layout.directories.log = base.join("log");
    (folder, layout)
}

pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub(super) fn make_dir(path: &Path) {
    fs::create_dir_all(path).unwrap();
}

pub(super) fn make_fifo(path: &Path) {
    rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).unwrap();
}

/// Creates nested directories, deeper than the longest path.
pub(super) fn make_deep(top: &Path, depth: usize) -> OwnedFd {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut innermost = rustix::fs::open(top, flags, Mode::empty()).unwrap();
    for _ in 0..depth {
        rustix::fs::mkdirat(&innermost, "deep", Mode::RWXU).unwrap();
        innermost = rustix::fs::openat(&innermost, "deep", flags, Mode::empty()).unwrap();
    }
    innermost
}

/// Swaps two names back and forth while `work` is done.
pub(super) fn while_swapping<T>(a: &Path, b: &Path, work: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // Fails while one of them is removed.
                let _ = rustix::fs::renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE);
            }
        });
        // The other thread ends also if the work panics.
        let result = catch_unwind(AssertUnwindSafe(work));
        done.store(true, Ordering::Relaxed);
        result.unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// A directory outside of the server with a file that must not change.
pub(super) struct Outside(TempDir);

impl Outside {
    pub(super) fn new() -> Self {
        let outside = Self(tempfile::tempdir().unwrap());
        fs::write(outside.file(), "precious").unwrap();
        outside
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn file(&self) -> PathBuf {
        self.path().join("file")
    }

    pub(super) fn assert_untouched(&self) {
        let found = fs::metadata(self.file()).unwrap();
        assert_eq!(fs::read_to_string(self.file()).unwrap(), "precious");
        assert_eq!(found.uid(), rustix::process::geteuid().as_raw());
        assert_eq!(fs::metadata(self.path()).unwrap().uid(), rustix::process::geteuid().as_raw());
    }
}

/// Creates files of every type that a user can create. Returns the bytes that count.
fn make_hostile_tree(data: &Path, outside: &Outside) -> u64 {
    make_dir(&data.join("sub/sub"));
    fs::write(data.join("plain"), "12345").unwrap();
    fs::write(data.join("sub/sub/plain"), "123").unwrap();
    fs::hard_link(data.join("plain"), data.join("sub/second-name")).unwrap();
    fs::write(data.join("line\nbreak"), "1").unwrap();
    fs::write(data.join(OsStr::from_bytes(b"not\xffutf8")), "1").unwrap();
    fs::write(data.join(OsStr::from_bytes(&[b'x'; 255])), "1").unwrap();
    File::create(data.join("sparse")).and_then(|file| file.set_len(1 << 20)).unwrap();
    symlink("/etc", data.join("etc")).unwrap();
    symlink(outside.path(), data.join("sub/outside")).unwrap();
    symlink(outside.file(), data.join("outside-file")).unwrap();
    symlink("loop-b", data.join("loop-a")).unwrap();
    symlink("loop-a", data.join("loop-b")).unwrap();
    symlink(".", data.join("self")).unwrap();
    symlink("nowhere", data.join("dangling")).unwrap();
    make_fifo(&data.join("fifo"));
    drop(UnixListener::bind(data.join("socket")).unwrap());
    let innermost = make_deep(data, 300);
    let name = OFlags::CREATE | OFlags::WRONLY;
    let file = rustix::fs::openat(&innermost, "file", name, Mode::RUSR).unwrap();
    rustix::io::write(file.as_fd(), b"1234567").unwrap();
    for mode in [0o000, 0o111, 0o444] {
        let dir = data.join(format!("closed-{mode:o}"));
        make_dir(&dir);
        fs::write(dir.join("file"), "1").unwrap();
        if is_root() {
            fs::set_permissions(dir, fs::Permissions::from_mode(mode)).unwrap();
        }
    }
    5 + 3 + 3 + (1 << 20) + 7 + 3
}

#[test]
fn a_hostile_tree_is_measured_and_removed() {
    let outside = Outside::new();
    let (_folder, layout) = layout();
    layout.prepare(id()).unwrap();
    let bytes = make_hostile_tree(&layout.data(id()), &outside);
    assert_eq!(layout.usage(id(), &NEVER).unwrap().bytes, bytes);
    layout.remove_server(id(), true).unwrap();
    assert!(!layout.data(id()).exists());
    assert_eq!(layout.usage(id(), &NEVER).unwrap().bytes, 0);
    outside.assert_untouched();
}

#[test]
fn few_and_many_files_are_synced() {
    let (_folder, layout) = layout();
    layout.flush(id()).unwrap();
    layout.prepare(id()).unwrap();
    for number in 0..100 {
        layout.flush(id()).unwrap();
        fs::write(layout.data(id()).join(format!("file {number}")), "1").unwrap();
    }
    make_fifo(&layout.data(id()).join("pipe"));
    std::os::unix::fs::symlink("/dev/zero", layout.data(id()).join("link")).unwrap();
    layout.flush(id()).unwrap();
}

#[test]
fn uncountable_files_do_not_hide_the_others() {
    let (_folder, layout) = layout();
    layout.prepare(id()).unwrap();
    let data = layout.data(id());
    fs::write(data.join("save"), "12345678").unwrap();
    make_deep(&data, crate::files::scan::MAX_DEPTH + 10);
    let error = layout.usage(id(), &NEVER).unwrap_err();
    assert_eq!((error.bytes, error.hides_something()), (8, true), "{error}");
    layout.remove_server(id(), true).unwrap();
}

#[test]
fn the_owner_of_a_hostile_tree_is_changed() {
    if !is_root() {
        eprintln!("only root may give files away");
        return;
    }
    let outside = Outside::new();
    let (_folder, mut layout) = layout();
    layout.prepare(id()).unwrap();
    let data = layout.data(id());
    make_hostile_tree(&data, &outside);
    fs::set_permissions(data.join("plain"), fs::Permissions::from_mode(0o6755)).unwrap();
    (layout.uid, layout.gid) = (54_321, 54_322);

    layout.fix_ownership(id(), &NEVER).unwrap();
    let owned = |name: &str| {
        let found = fs::symlink_metadata(data.join(name)).unwrap();
        (found.uid(), found.gid())
    };
    for name in ["", "plain", "etc", "dangling", "fifo", "socket", "sub/sub/plain", "deep/deep"] {
        assert_eq!(owned(name), (54_321, 54_322), "{name}");
    }
    let mode = fs::metadata(data.join("plain")).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o755, "root's set-user-id must not become the user's");
    outside.assert_untouched();
    assert_eq!(fs::metadata("/etc").unwrap().uid(), 0);

    let change_times = || {
        let names = ["", "plain", "etc", "sub/sub/plain", "deep/deep"];
        names
            .map(|name| fs::symlink_metadata(data.join(name)).map(|found| (found.ctime(), found.ctime_nsec())).unwrap())
    };
    let before = change_times();
    layout.fix_ownership(id(), &NEVER).unwrap();
    assert_eq!(change_times(), before, "an owner that is right is not set again");
    layout.remove_server(id(), true).unwrap();
}

#[test]
fn a_device_keeps_its_owner() {
    if !is_root() {
        eprintln!("only root makes devices");
        return;
    }
    let (_folder, mut layout) = layout();
    layout.prepare(id()).unwrap();
    let device = layout.data(id()).join("null");
    let number = rustix::fs::makedev(1, 3);
    let kind = FileType::CharacterDevice;
    if rustix::fs::mknodat(CWD, &device, kind, Mode::RUSR, number).is_err() {
        eprintln!("no devices in this sandbox");
        return;
    }
    (layout.uid, layout.gid) = (54_321, 54_321);
    layout.fix_ownership(id(), &NEVER).unwrap();
    assert_eq!(fs::metadata(layout.data(id())).unwrap().uid(), 54_321);
    assert_eq!(fs::metadata(&device).unwrap().uid(), 0);
}

#[test]
fn an_owner_that_cannot_be_changed_is_an_error_with_a_path() {
    if is_root() {
        eprintln!("root may give anything away");
        return;
    }
    let (_folder, mut layout) = layout();
    layout.prepare(id()).unwrap();
    (layout.uid, layout.gid) = (0, 0);
    let error = layout.fix_ownership(id(), &NEVER).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    assert!(error.to_string().contains(&id().to_string()), "{error}");
}

#[test]
fn a_hundred_thousand_files() {
    const FILES: u64 = 100_000;
    let (_folder, layout) = layout_in(roomy_folder());
    layout.prepare(id()).unwrap();
    let data = layout.data(id());
    for folder in 0..10 {
        make_dir(&data.join(folder.to_string()));
    }
    fs::write(data.join("0/first"), "12").unwrap();
    for number in 1..FILES {
        let path = data.join(format!("{}/{number}", number % 10));
        if number % 1000 == 0 {
            fs::hard_link(data.join("0/first"), path).unwrap();
        } else {
            File::create(path).unwrap();
        }
    }
    assert_eq!(layout.usage(id(), &NEVER).unwrap().bytes, 2);
    layout.fix_ownership(id(), &NEVER).unwrap();
    layout.remove_server(id(), false).unwrap();
    assert!(!data.exists());
}

#[test]
fn a_directory_that_is_swapped_for_a_link_is_not_followed() {
    let outside = Outside::new();
    for name in 0..200 {
        fs::write(outside.path().join(name.to_string()), "1234567890").unwrap();
    }
    let (_folder, mut layout) = layout();
    layout.prepare(id()).unwrap();
    let data = layout.data(id());
    let (a, b) = (data.join("a"), data.join("b"));
    make_dir(&a);
    fs::write(a.join("one"), "1").unwrap();
    symlink(outside.path(), &b).unwrap();
    if is_root() {
        (layout.uid, layout.gid) = (54_321, 54_321);
    }
    while_swapping(&a, &b, || {
        for _ in 0..2000 {
            // Both names may show the directory, or neither.
            let bytes = layout.usage(id(), &NEVER).unwrap().bytes;
            assert!(bytes <= 2, "{bytes} bytes: those outside were counted");
            layout.fix_ownership(id(), &NEVER).unwrap();
        }
    });
    outside.assert_untouched();
}

#[test]
fn files_that_appear_and_vanish_are_no_error() {
    let (_folder, layout) = layout_in(roomy_folder());
    layout.prepare(id()).unwrap();
    let data = layout.data(id());
    make_dir(&data.join("sub"));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for name in 0..50 {
                    make_dir(&data.join(format!("sub/{name}/sub")));
                    fs::write(data.join(format!("sub/{name}/file")), "1").unwrap();
                }
                for name in 0..50 {
                    fs::remove_dir_all(data.join(format!("sub/{name}"))).unwrap();
                }
            }
        });
        let results: Vec<_> = (0..300)
            .map(|_| {
                layout
                    .usage(id(), &NEVER)
                    .map(drop)
                    .map_err(|error| error.source)
                    .and(layout.fix_ownership(id(), &NEVER))
            })
            .collect();
        done.store(true, Ordering::Relaxed);
        results.into_iter().for_each(|result| {
            result.unwrap();
        });
    });
}

#[test]
fn a_cancelled_scan_ends() {
    let (_folder, layout) = layout();
    layout.prepare(id()).unwrap();
    let cancelled = AtomicBool::new(true);
    assert!(layout.usage(id(), &cancelled).unwrap_err().is_cancelled());
    let error = layout.fix_ownership(id(), &cancelled).unwrap_err();
    assert!(matches!(error, FilesError::Cancelled { .. }), "{error}");
}

#[test]
fn everything_of_a_server_is_removed_and_nothing_of_another() {
    for (_folder, layout) in [layout(), wings_layout()] {
        let other: ServerId = "550e8400-e29b-41d4-a716-446655440001".parse().unwrap();
        let backups = |id: ServerId| layout.directories.backup.join(id.to_string());
        for id in [id(), other] {
            layout.prepare(id).unwrap();
            layout.write_script(id, "echo").unwrap();
            fs::write(layout.data(id).join("file"), "1").unwrap();
            make_dir(layout.install_log(id).parent().unwrap());
            fs::write(layout.install_log(id), "log").unwrap();
            make_dir(&backups(id));
            fs::write(layout.folder(id).join("record.json"), "{}").unwrap();
        }
        layout.remove_server(id(), false).unwrap();
        assert!(backups(id()).exists(), "kept unless asked");
        layout.remove_server(id(), true).unwrap();
        layout.remove_server(id(), true).unwrap();
        assert!(!backups(id()).exists());
        let left: Vec<_> = fs::read_dir(layout.folder(id())).unwrap().collect();
        assert_eq!(left.len(), 1, "the record is the store's: {left:?}");
        let by_id = layout.directories.root.join("install").join(format!("{}.log", id()));
        for path in
            [layout.data(id()), layout.script_folder(id()), layout.machine_id(id()), layout.install_log(id()), by_id]
        {
            assert!(path.symlink_metadata().is_err(), "{}", path.display());
        }
        assert!(layout.is_prepared(other) && layout.has_script(other) && backups(other).exists());
        assert!(layout.data(other).join("file").exists() && layout.install_log(other).exists());
    }
}

#[test]
fn if_a_data_directory_is_a_link_only_the_link_is_removed() {
    for (_folder, layout) in [layout(), wings_layout()] {
        let outside = Outside::new();
        let path = layout.directories.server_data(&id());
        make_dir(path.parent().unwrap());
        symlink(outside.path(), &path).unwrap();
        layout.prepare(id()).unwrap();
        assert_eq!(layout.data(id()), outside.path().canonicalize().unwrap());
        assert_eq!(layout.usage(id(), &NEVER).unwrap().bytes, 8);
        layout.remove_server(id(), true).unwrap();
        assert!(path.symlink_metadata().is_err());
        outside.assert_untouched();
    }
}
