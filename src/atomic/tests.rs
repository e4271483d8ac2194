use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Command;

use tempfile::TempDir;

use super::*;

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A small file system that is mounted for one test.
struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// `None`, with the reason printed, where mounting is not allowed.
    fn mount() -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let disk = Self { folder };
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k,nr_inodes=64", "alula-test"])
            .arg(disk.path())
            .output();
        match output {
            Ok(output) if output.status.success() => Some(disk),
            Ok(output) => {
                let why = String::from_utf8_lossy(&output.stderr);
                eprintln!("skipped: cannot mount a tmpfs: {why}");
                None
            }
            Err(e) => {
                eprintln!("skipped: cannot run `mount`: {e}");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn make_read_only(&self) {
        let status = Command::new("mount").args(["-o", "remount,ro"]).arg(self.path()).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).output();
    }
}

#[test]
fn a_file_is_made_and_replaced_with_its_exact_mode() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("record.json");
    write_file(&path, b"one", 0o666).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o666);
    let before = fs::metadata(&path).unwrap().ino();

    write_file(&path, b"two", 0o600).unwrap();
    let after = fs::metadata(&path).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"two");
    assert_eq!(after.permissions().mode() & 0o7777, 0o600);
    assert_ne!(after.ino(), before, "replaced, not written in place");
    assert_eq!(names(folder.path()), ["record.json"]);
}

#[test]
fn a_reader_sees_the_old_or_the_new_file_and_nothing_else() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("f");
    let (old, new) = (vec![b'a'; 100_000], vec![b'b'; 50_000]);
    write_file(&path, &old, 0o600).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..100 {
                write_file(&path, if round % 2 == 0 { &new } else { &old }, 0o600).unwrap();
            }
        });
        while !writer.is_finished() {
            let seen = fs::read(&path).unwrap();
            assert!(seen == old || seen == new, "{} bytes", seen.len());
        }
    });
}

#[test]
fn many_writers_of_one_file_leave_one_of_their_versions() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("f");
    std::thread::scope(|scope| {
        for writer in 0..8_u8 {
            let path = &path;
            scope.spawn(move || {
                for _ in 0..20 {
                    write_file(path, &[writer; 5000], 0o600).unwrap();
                }
            });
        }
    });
    let seen = fs::read(&path).unwrap();
    assert_eq!(seen, vec![seen[0]; 5000]);
    assert_eq!(names(folder.path()), ["f"]);
}

#[test]
fn a_failed_replacement_leaves_no_trace() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("taken");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("inside"), b"").unwrap();
    let error = write_file(&path, b"x", 0o600).unwrap_err();
    assert_eq!(error.path, path);
    assert!(error.to_string().starts_with(&format!("cannot write {}: ", path.display())), "{error}");
    assert_eq!(names(folder.path()), ["taken"]);
}

#[test]
fn a_missing_folder_is_not_found() {
    let folder = TempDir::new().unwrap();
    let error = write_file(&folder.path().join("no/f"), b"x", 0o600).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    assert_eq!(io::Error::from(error).kind(), io::ErrorKind::NotFound);
}

#[test]
fn an_error_of_a_full_disk_names_the_remedy_and_keeps_the_old_file() {
    let Some(disk) = SmallDisk::mount() else { return };
    let path = disk.path().join("config.yml");
    write_file(&path, b"old", 0o600).unwrap();

    let error = write_file(&path, &[b'x'; 1 << 20], 0o600).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
    assert!(error.to_string().contains("free space"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(names(disk.path()), ["config.yml"]);

    // A process that another test has just forked may hold the temporary file open until it calls exec. Its space is free
    // only then.
    let timeout = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while let Err(error) = write_file(&path, &[b'y'; 20_000], 0o600) {
        assert!(std::time::Instant::now() < timeout, "{error}");
        std::thread::yield_now();
    }
    assert_eq!(fs::read(&path).unwrap().len(), 20_000);
}

#[test]
fn a_disk_without_inodes_keeps_the_old_file() {
    let Some(disk) = SmallDisk::mount() else { return };
    let path = disk.path().join("config.yml");
    write_file(&path, b"old", 0o600).unwrap();
    let filled = (0..1000).find(|i| fs::write(disk.path().join(format!("fill{i}")), b"").is_err());
    assert!(filled.is_some());

    assert_eq!(write_file(&path, b"new", 0o600).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(create_dir(&disk.path().join("d"), 0o700).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(fs::read(&path).unwrap(), b"old");
}

#[test]
fn a_read_only_disk_has_its_own_kind_of_error() {
    let Some(disk) = SmallDisk::mount() else { return };
    let path = disk.path().join("config.yml");
    write_file(&path, b"old", 0o600).unwrap();
    disk.make_read_only();

    let kind = io::ErrorKind::ReadOnlyFilesystem;
    assert_eq!(write_file(&path, b"new", 0o600).unwrap_err().kind(), kind);
    assert_eq!(remove_file(&path).unwrap_err().kind(), kind);
    assert_eq!(create_dir(&disk.path().join("d"), 0o700).unwrap_err().kind(), kind);
    assert_eq!(fs::read(&path).unwrap(), b"old");
}

#[test]
fn removing_and_making_report_what_is_there() {
    let folder = TempDir::new().unwrap();
    let (file, inner) = (folder.path().join("f"), folder.path().join("d"));
    assert_eq!(remove_file(&file).unwrap_err().kind(), io::ErrorKind::NotFound);
    write_file(&file, b"", 0o600).unwrap();
    remove_file(&file).unwrap();
    assert!(!file.exists());

    create_dir(&inner, 0o777).unwrap();
    assert_eq!(fs::metadata(&inner).unwrap().permissions().mode() & 0o7777, 0o777);
    assert_eq!(create_dir(&inner, 0o700).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(create_dir(&folder.path().join("a/b"), 0o700).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn leftovers_of_a_crash_go_and_nothing_else_does() {
    let folder = TempDir::new().unwrap();
    let keep = [".config.yml.swp", ".tmp", ".a.tmp", ".a.0123.tmp", "b.01234567.tmp", ".hidden", "config.yml"];
    for name in keep.iter().chain(&[".config.yml.0a1b2c3d.tmp", ".x.y.ffffffff.tmp"]) {
        fs::write(folder.path().join(name), b"half").unwrap();
    }
    fs::create_dir(folder.path().join(".d.01234567.tmp")).unwrap();
    symlink("config.yml", folder.path().join(".l.01234567.tmp")).unwrap();

    clean_leftovers(folder.path(), |_| true).unwrap();
    let mut expected: Vec<_> = keep.iter().chain(&[".d.01234567.tmp", ".l.01234567.tmp"]).collect();
    expected.sort();
    assert_eq!(names(folder.path()).iter().collect::<Vec<_>>(), expected);
}

#[test]
fn a_symbolic_link_is_replaced_and_its_target_kept() {
    let folder = TempDir::new().unwrap();
    let (target, link) = (folder.path().join("target"), folder.path().join("link"));
    fs::write(&target, b"target").unwrap();
    symlink(&target, &link).unwrap();
    write_file(&link, b"new", 0o600).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_file());
    assert_eq!(fs::read(&target).unwrap(), b"target");
}

#[test]
fn writing_through_replaces_what_links_lead_to() {
    let folder = TempDir::new().unwrap();
    let (there, here) = (folder.path().join("there"), folder.path().join("here"));
    fs::create_dir(&there).unwrap();
    fs::create_dir(&here).unwrap();
    let (target, link) = (there.join("config.yml"), here.join("config.yml"));
    fs::write(&target, b"old").unwrap();
    fs::set_permissions(&target, fs::Permissions::from_mode(0o664)).unwrap();
    // Only root can give files away.
    let given = std::os::unix::fs::chown(&target, Some(4711), Some(4712)).is_ok();
    symlink("../there/config.yml", here.join("second")).unwrap();
    symlink("second", &link).unwrap();
    let old = fs::metadata(&target).unwrap();
    write_through(&link, b"new", 0o600, || Ok(())).unwrap();
    assert!(link.is_symlink() && here.join("second").is_symlink());
    let new = fs::metadata(&target).unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"new");
    assert_ne!(new.ino(), old.ino(), "replaced, not written in place");
    assert_eq!(new.mode(), old.mode());
    assert_eq!((new.uid(), new.gid()), (old.uid(), old.gid()), "given away: {given}");
    assert_eq!(names(&there), ["config.yml"]);

    fs::remove_file(&target).unwrap();
    write_through(&link, b"first", 0o640, || Ok(())).unwrap();
    assert_eq!(fs::metadata(&target).unwrap().mode() & 0o7777, 0o640, "the link had no target");
    fs::remove_dir_all(&there).unwrap();
    assert_eq!(write_through(&link, b"new", 0o600, || Ok(())).unwrap_err().kind(), io::ErrorKind::NotFound);
    assert!(link.is_symlink());
    fs::remove_file(&link).unwrap();
    symlink("config.yml", &link).unwrap();
    write_through(&link, b"new", 0o600, || Ok(())).unwrap_err();
    assert!(link.is_symlink(), "a circle");
}

#[test]
fn a_file_that_is_saved_while_another_is_being_written_stays() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("config.yml");
    fs::write(&path, b"old").unwrap();
    let check = || {
        let temporary =
            names(folder.path()).into_iter().find(|name| temporary_of(name).is_some()).expect("all is ready");
        assert_eq!(fs::read(folder.path().join(temporary)).unwrap(), b"new");
        fs::write(&path, b"by hand").unwrap();
        Err(io::Error::other("it was saved"))
    };
    write_through(&path, b"new", 0o600, check).unwrap_err();
    assert_eq!(fs::read(&path).unwrap(), b"by hand");
    assert_eq!(names(folder.path()), ["config.yml"]);
}

#[test]
fn a_kept_file_is_put_back_as_it_was_or_leaves_nothing() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("config.yml");
    assert_eq!(Kept::keep(&path).err().unwrap().kind(), io::ErrorKind::NotFound);
    fs::write(&path, "old").unwrap();
    let inode = fs::metadata(&path).unwrap().ino();
    for (replaced, back, expected) in
        [(false, false, "old"), (false, true, "old"), (true, true, "old"), (true, false, "new")]
    {
        let kept = Kept::keep(&path).unwrap();
        if replaced {
            write_file(&path, b"new", 0o644).unwrap();
        }
        if back {
            kept.put_back().unwrap();
        }
        drop(kept);
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), names(folder.path()).len()), (expected, 1));
        assert_eq!(fs::metadata(&path).unwrap().ino() == inode, expected == "old");
    }

    // What a crash leaves is removed at the next boot, and the file stays. The file is a new one that was never locked: a process
    // that another test forks at this moment holds the locks of the files above until it executes its program.
    fs::remove_file(&path).unwrap();
    fs::write(&path, "new").unwrap();
    std::mem::forget(Kept::keep(&path).unwrap());
    clean_leftovers(folder.path(), |file| file == "config.yml").unwrap();
    assert_eq!((fs::read_to_string(&path).unwrap().as_str(), names(folder.path()).len()), ("new", 1));
}

#[test]
fn parallel_work_has_its_results_in_order() {
    for count in [0, 1, 2, 15, 16, 17, 100] {
        let items: Vec<usize> = (0..count).collect();
        let fails = |item: &usize| if item % 7 == 3 { Err(io::Error::other(item.to_string())) } else { Ok(()) };
        let results = in_parallel(&items, fails);
        assert_eq!(results.len(), count);
        for (item, result) in results.into_iter().enumerate() {
            assert_eq!(result.err().map(|error| error.to_string()), (item % 7 == 3).then(|| item.to_string()));
        }
    }
}

#[test]
fn a_pending_file_has_its_name_only_once_it_is_placed() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("f");
    let pending = PendingFile::write(&path, b"new", 0o640).unwrap();
    assert!(!path.exists());
    assert!(names(folder.path()).iter().all(|name| temporary_of(name) == Some("f")));
    pending.sync().unwrap();
    let placed = pending.place().unwrap();
    let found = fs::metadata(&path).unwrap();
    assert_eq!((found.permissions().mode() & 0o7777, found.ino()), (0o640, placed.ino()));
    assert_eq!(names(folder.path()), ["f"]);

    drop(PendingFile::write(&path, b"newer", 0o640).unwrap());
    assert_eq!((fs::read(&path).unwrap(), names(folder.path())), (b"new".to_vec(), vec!["f".to_owned()]));
}
