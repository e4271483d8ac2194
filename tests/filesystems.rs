//! Replacements and quiet sources on file systems with snapshots, reflinks and project quotas. `tests/filesystems.sh` mounts them, as
//! root, and names the folder with the mounts; without it there is nothing to test.

use std::cell::Cell;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use alula::files::Layout;
use alula::files::replacement::{Phase, Present, ReplacementError, Way};
use alula::files::tree::NewFile;
use alula::files::user_path::UserPath;
use alula::model::BackupSource;
use alula::model::{Quota, ServerId};
use alula::testing::{node_config, server_id};
use uuid::Uuid;

/// The folder with the file systems `btrfs`, `xfs`, `ext4`, and `mounted` with a mount as the directory of the first server.
const DISKS: &str = "ALULA_FILESYSTEMS";
const USER: u32 = 988;
const MIB: u64 = 1 << 20;
const LIMIT: u64 = 64 * MIB;
const TOKEN: Uuid = Uuid::from_u128(7);
static NEVER: AtomicBool = AtomicBool::new(false);

/// A kind of directory of a server's files.
struct Disk {
    name: &'static str,
    path: PathBuf,
    subvolume: bool,
    source: BackupSource,
    over: Way,
}

struct Server {
    layout: Layout,
    id: ServerId,
    data: PathBuf,
    quota: bool,
}

fn at(path: &str) -> UserPath {
    UserPath::parse(path.as_ref()).unwrap()
}

fn server(disk: &Disk, number: u32) -> Server {
    let mut node = node_config(&disk.path);
    (node.owner.uid, node.owner.gid, node.quotas) = (USER, USER, true);
    let (layout, id) = (Layout::new(&node), server_id(number));
    if disk.subvolume {
        fs::create_dir_all(layout.folder(id)).unwrap();
        let made = Command::new("btrfs").args(["-q", "subvolume", "create"]).arg(layout.data(id)).status().unwrap();
        assert!(made.success());
        chown(layout.data(id), Some(USER), Some(USER)).unwrap();
    }
    layout.prepare(id).unwrap();
    let data = layout.data(id);
    fs::create_dir_all(data.join("world/empty")).unwrap();
    fs::write(data.join("world/big"), vec![1; 24 * MIB as usize]).unwrap();
    fs::write(data.join("level.dat"), "old").unwrap();
    fs::write(data.join("kept"), "kept").unwrap();
    fs::hard_link(data.join("kept"), data.join("world/kept too")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", data.join("link")).unwrap();
    fs::set_permissions(data.join("world"), fs::Permissions::from_mode(0o2750)).unwrap();
    layout.fix_ownership(id, &NEVER).unwrap();
    let quota = layout.assign_quota(id, number.into(), Some(LIMIT), &NEVER).is_ok();
    rustix::fs::sync();
    Server { layout, id, data, quota }
}

impl Server {
    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.data.join(path)).unwrap()
    }

    /// Hidden names beside the data directory.
    fn beside(&self) -> Vec<String> {
        let entries = fs::read_dir(self.data.parent().unwrap()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with('.')).collect()
    }

    fn project(&self) -> Option<u32> {
        match self.layout.quota(self.id) {
            Quota::Assigned { project, limit } => {
                assert_eq!(limit, Some(LIMIT), "the limit is the server's, whatever the project");
                Some(project)
            }
            Quota::Unavailable(_) if !self.quota => None,
            other => panic!("{other:?}"),
        }
    }

    fn free(&self) -> u64 {
        rustix::fs::sync();
        let found = rustix::fs::statvfs(&self.data).unwrap();
        found.f_bavail * found.f_frsize
    }

    fn restore(&self, present: Present) -> Way {
        let staging = self.layout.begin_replacement(self.id, TOKEN, present, Some(LIMIT), &NEVER).unwrap();
        let way = staging.way();
        let new = NewFile { mode: 0o640, keep_mode: false, size: None };
        for (path, text) in [("level.dat", "new"), ("added/file", "added")] {
            let mut file = staging.tree().create(&at(path), new).unwrap();
            file.write_all(text.as_bytes()).unwrap();
            file.commit().unwrap();
        }
        staging.finish(&NEVER).unwrap();
        self.layout.exchange_replacement(self.id, TOKEN).unwrap();
        way
    }
}

fn sources_are_quiet(disk: &Disk, server: &Server) {
    let (layout, id) = (&server.layout, server.id);
    let (paused, free) = (Cell::new(0), server.free());
    let source = layout.quiet_source(id, || paused.set(paused.get() + 1), &NEVER).unwrap();
    assert_eq!(source.kind(), disk.source, "{}", disk.name);
    if disk.source != BackupSource::Live {
        assert_eq!(paused.get(), 1);
        assert!(free - server.free() < 4 * MIB, "blocks are shared");
        fs::write(server.data.join("level.dat"), "later").unwrap();
        let (mut file, entry) = source.tree().open(&at("level.dat")).unwrap();
        assert_eq!(std::io::read_to_string(&mut file).unwrap(), "old");
        assert_eq!(
            (entry.uid, source.tree().stat(&at("kept"), alula::files::tree::Follow::No).unwrap().links),
            (USER, 2)
        );
        fs::write(server.data.join("level.dat"), "old").unwrap();
    }
    assert_eq!(server.beside().len(), usize::from(disk.source != BackupSource::Live));
    layout.sweep_sources(id).unwrap();
    assert!(source.tree().open(&at("world/big")).is_ok(), "one in use is not swept");
    drop(source);
    assert_eq!(server.beside(), Vec::<String>::new());

    // What a killed daemon has left.
    let killed = server.data.with_file_name(format!(".{id}.source-{TOKEN}"));
    fs::create_dir(&killed).unwrap();
    if disk.subvolume {
        let snapshot = ["-q", "subvolume", "snapshot", "-r"];
        let made = Command::new("btrfs").args(snapshot).arg(&server.data).arg(killed.join("tree")).output().unwrap();
        assert!(made.status.success(), "{made:?}");
    }
    layout.sweep_sources(id).unwrap();
    assert_eq!(server.beside(), Vec::<String>::new());
}

fn files_are_replaced(disk: &Disk, server: &Server) {
    let (layout, id) = (&server.layout, server.id);
    let (before, free) = (server.project(), server.free());
    let old = [server.read("level.dat"), server.read("kept")];
    for present in [Present::Keep, Present::Discard] {
        let way = server.restore(present);
        assert_eq!(way, if present == Present::Keep { disk.over } else { Way::Exchange }, "{}", disk.name);
        assert!(free.saturating_sub(server.free()) < 8 * MIB, "nothing is copied");
        let restored = || {
            assert_eq!([server.read("level.dat"), server.read("added/file")], ["new", "added"]);
            let kept = server.data.join("world/kept too").exists();
            assert_eq!(kept, present == Present::Keep);
            if kept {
                assert_eq!(fs::metadata(server.data.join("world")).unwrap().mode() & 0o7777, 0o2750);
                assert_eq!(fs::metadata(server.data.join("world/kept too")).unwrap().nlink(), 2);
                assert_eq!(fs::metadata(server.data.join("world/big")).unwrap().len(), 24 * MIB);
            }
            for name in ["", "level.dat", "added", "added/file"] {
                assert_eq!(fs::metadata(server.data.join(name)).unwrap().uid(), USER, "{name}");
            }
            let project = server.project();
            assert_eq!(project == before, before.is_none() || way == Way::Merge, "another project with the same limit");
            counted(server);
        };
        restored();
        for _ in 0..2 {
            layout.undo_replacement(id, TOKEN).unwrap();
            assert_eq!([server.read("level.dat"), server.read("kept")], old);
            assert!(!server.data.join("added").exists());
            assert_eq!(server.project(), before);
            counted(server);
            layout.exchange_replacement(id, TOKEN).unwrap();
            restored();
        }
        assert_eq!(fs::metadata(&server.data).unwrap().ino() == 256, disk.subvolume, "it stays a subvolume");
        layout.undo_replacement(id, TOKEN).unwrap();
        layout.remove_former(id).unwrap();
        assert_eq!(server.beside(), Vec::<String>::new());
    }
}

/// The kernel counts what is in the directory, and nothing else.
fn counted(server: &Server) {
    if !server.quota {
        return;
    }
    rustix::fs::sync();
    let expected = server.layout.usage(server.id, &NEVER).unwrap().allocated;
    let begun = Instant::now();
    // XFS gives blocks of removed files back a moment later.
    while server.layout.quota_usage(server.id).unwrap().abs_diff(expected) > MIB {
        let used = server.layout.quota_usage(server.id).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(30), "{used} are counted, {expected} are there");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn staging_is_limited(server: &Server) {
    let (layout, id) = (&server.layout, server.id);
    let staging = layout.begin_replacement(id, TOKEN, Present::Discard, Some(LIMIT), &NEVER).unwrap();
    assert!(staging.tree().account().fits(60 * MIB), "beside the {} MiB of the server", 24);
    assert!(!staging.tree().account().fits(LIMIT + 1));
    let tree = server.data.with_file_name(format!(".{id}.restore/tree"));
    let written = fs::write(tree.join("big"), vec![1; 65 * MIB as usize]);
    match server.quota {
        true => {
            let error = written.unwrap_err();
            assert!(matches!(error.raw_os_error(), Some(122 | 28)), "{error}");
        }
        false => {
            written.unwrap();
            let error = staging.finish(&NEVER).unwrap_err();
            assert!(matches!(error, ReplacementError::OverLimit { .. }), "{error}");
        }
    }
    layout.sweep_replacement(id, None).unwrap();
    assert_eq!(server.beside(), Vec::<String>::new());
    assert_eq!(server.read("level.dat"), "old");
}

/// A subvolume in the server's directory, which any user can make, is not in snapshots: it is copied.
fn nested_subvolumes_are_not_lost(server: &Server) {
    let nested = server.data.join("world/nested");
    let made = Command::new("btrfs").args(["-q", "subvolume", "create"]).arg(&nested).status().unwrap();
    assert!(made.success());
    fs::write(nested.join("file"), "nested").unwrap();
    let source = server.layout.quiet_source(server.id, || (), &NEVER).unwrap();
    assert_eq!(source.kind(), BackupSource::Reflink);
    assert_eq!(source.tree().open(&at("world/nested/file")).unwrap().1.size, 6);
    drop(source);
    server.restore(Present::Keep);
    assert_eq!(server.read("world/nested/file"), "nested");
    server.layout.remove_former(server.id).unwrap();
    assert_eq!(server.beside(), Vec::<String>::new());
}

/// As the daemon's service does: on ext4 a process with this capability passes the limits of projects.
fn obey_quotas() {
    let mut sets = rustix::thread::capabilities(None).unwrap();
    sets.effective.remove(rustix::thread::CapabilitySet::SYS_RESOURCE);
    rustix::thread::set_capabilities(None, sets).unwrap();
}

#[test]
fn real_file_systems() {
    let Some(disks) = std::env::var_os(DISKS).map(PathBuf::from) else {
        return eprintln!("no {DISKS}: nothing is tested; run tests/filesystems.sh");
    };
    obey_quotas();
    let disk = |name: &'static str, subvolume, source, over| {
        let path = disks.join(name.split(' ').next().unwrap());
        Disk { name, path, subvolume, source, over }
    };
    let kinds = [
        disk("btrfs", false, BackupSource::Reflink, Way::Exchange),
        disk("btrfs subvolume", true, BackupSource::BtrfsSnapshot, Way::Exchange),
        disk("xfs", false, BackupSource::Reflink, Way::Exchange),
        disk("ext4", false, BackupSource::Live, Way::Merge),
    ];
    let mut tested = Vec::new();
    for (number, disk) in (1..).zip(&kinds) {
        let server = server(disk, number);
        sources_are_quiet(disk, &server);
        files_are_replaced(disk, &server);
        staging_is_limited(&server);
        if disk.subvolume {
            nested_subvolumes_are_not_lost(&server);
        }
        server.layout.remove_server(server.id, true).unwrap();
        assert!(!server.data.exists());
        tested.push(format!("{}{}", disk.name, if server.quota { " with quotas" } else { "" }));
        println!("filesystems: {}", tested.join(", "));
    }
    a_mount_is_refused(&disks.join("mounted"));
    println!("filesystems: all");
}

fn a_mount_is_refused(root: &Path) {
    let (layout, id) = (Layout::new(&node_config(root)), server_id(1));
    layout.prepare(id).unwrap();
    let error = layout.begin_replacement(id, TOKEN, Present::Discard, None, &NEVER).unwrap_err();
    assert!(matches!(error, ReplacementError::Mounted { .. }), "{error}");
    assert!(layout.replacement(id, TOKEN).unwrap().is_none_or(|found| found.phase == Phase::Preparing));
    assert_eq!(layout.quiet_source(id, || (), &NEVER).unwrap().kind(), BackupSource::Live);
}
