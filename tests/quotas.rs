//! Disk limits on file systems with and without project quotas. `tests/quota.sh` runs it on a kernel that has them, as root, and
//! names the folder with the mounted file systems; without it there is nothing to test.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use alula::clock::Clock;
use alula::files::account::limit_of;
use alula::files::{DiskAccount, Layout};
use alula::model::{ConditionType, Quota, Reason, Record, ServerId, Verb};
use alula::store::Blocking;
use alula::testing::fake::{FakeEngine, LocalImage, Program};
use alula::testing::{IMAGE, TestNodeBuilder, file_manifest, node_config, server_id};

/// The folder with the file systems `xfs`, `ext4` (both with project quotas) and `plain`.
const DISKS: &str = "ALULA_QUOTA_DISKS";
/// Makes this program write below this folder as fast as it can, instead of testing.
const WRITE: &str = "ALULA_QUOTA_WRITE";
/// The user of the servers.
const USER: u32 = 988;
const MIB: u64 = 1 << 20;
const LIMIT: u64 = 16 * MIB;
/// Blocks of directories and of the file system's own notes.
const SLACK: u64 = MIB;
static NEVER: AtomicBool = AtomicBool::new(false);

fn disks() -> Option<PathBuf> {
    let disks = std::env::var_os(DISKS).map(PathBuf::from);
    if disks.is_none() {
        eprintln!("no {DISKS}: nothing is tested; run tests/quota.sh");
    }
    disks
}

fn layout(disk: &Path) -> Layout {
    let mut node = node_config(disk);
    (node.owner.uid, node.owner.gid, node.quotas) = (USER, USER, true);
    Layout::new(&node)
}

/// A server with some files of its user.
fn server(layout: &Layout, number: u32) -> (ServerId, PathBuf) {
    let id = server_id(number);
    layout.prepare(id).unwrap();
    let data = layout.data(id);
    // A container mounts the directory, so that its user needs no access to the folders above.
    for folder in data.ancestors().skip(1).take(4) {
        let mode = folder.metadata().unwrap().permissions().mode();
        fs::set_permissions(folder, Permissions::from_mode(mode | 0o011)).unwrap();
    }
    for folder in ["", "world", "world/region", "world/empty"] {
        fs::create_dir_all(data.join(folder)).unwrap();
        chown(data.join(folder), Some(USER), Some(USER)).unwrap();
    }
    for (name, bytes) in [("server.jar", 3 * MIB), ("world/level.dat", 10_000), ("world/region/r.0.0.mca", 2 * MIB)] {
        fs::write(data.join(name), vec![7; bytes as usize]).unwrap();
        chown(data.join(name), Some(USER), Some(USER)).unwrap();
    }
    std::os::unix::fs::symlink("/etc/passwd", data.join("world/link")).unwrap();
    (id, data)
}

fn project(layout: &Layout, id: ServerId) -> u32 {
    match layout.quota(id) {
        Quota::Assigned { project, .. } => project,
        other => panic!("{other:?}"),
    }
}

fn allocated(path: &Path) -> u64 {
    let below = fs::read_dir(path).into_iter().flatten().flatten();
    let own = path.symlink_metadata().map_or(0, |found| found.blocks() * 512);
    own + below
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => allocated(&entry.path()),
            _ => entry.metadata().map_or(0, |found| found.blocks() * 512),
        })
        .sum::<u64>()
}

/// A program of the server's user that writes as fast as it can.
fn writer(data: &Path) -> Child {
    let program = std::env::current_exe().unwrap();
    let arguments = ["--exact", "writes_as_fast_as_it_can", "--nocapture"];
    let mut command = Command::new(program);
    command.args(arguments).env(WRITE, data).uid(USER).gid(USER).stdout(Stdio::piped());
    command.spawn().unwrap()
}

/// Not a test, but the program of the others.
#[test]
fn writes_as_fast_as_it_can() {
    let Some(data) = std::env::var_os(WRITE).map(PathBuf::from) else { return };
    let (mut failures, mut number) = (0, 0);
    let block = vec![1_u8; 256 * 1024];
    while failures < 200 {
        number += 1;
        let folder = data.join(format!("flood{}", number % 5));
        let written = fs::create_dir_all(&folder).and_then(|()| {
            let mut file = fs::File::create(folder.join(format!("{number}")))?;
            let bytes = 1 + number * 7919 % block.len();
            (0..4).try_for_each(|_| file.write_all(&block[..bytes]))
        });
        failures += u32::from(written.is_err());
    }
}

fn existing_files_and_new_ones_are_counted(disk: &Path) {
    let layout = layout(disk);
    let (id, data) = server(&layout, 1);
    assert_eq!(layout.quota(id), Quota::Unassigned);
    assert_eq!(layout.quota_usage(id), None, "the kernel counts nothing yet");
    layout.assign_quota(id, 41, Some(LIMIT), &NEVER).unwrap();
    assert_eq!(layout.quota(id), Quota::Assigned { project: 41, limit: Some(LIMIT) });
    let used = layout.quota_usage(id).unwrap();
    let on_disk = allocated(&data);
    assert!(used.abs_diff(on_disk) <= SLACK && used >= 5 * MIB, "{used} by the kernel, {on_disk} on disk");
    fs::create_dir_all(data.join("world/new/deep")).unwrap();
    fs::write(data.join("world/new/deep/file"), vec![1; MIB as usize]).unwrap();
    let more = layout.quota_usage(id).unwrap() - used;
    assert!((MIB..MIB + SLACK).contains(&more), "{more}");
    fs::remove_dir_all(data.join("world/new")).unwrap();
    // XFS gives blocks of removed files back a moment later.
    eventually("removed files no longer count", || layout.quota_usage(id).unwrap() <= used);

    layout.assign_quota(id, 41, Some(LIMIT / 2), &NEVER).unwrap();
    assert_eq!(layout.quota(id), Quota::Assigned { project: 41, limit: Some(LIMIT / 2) });
    layout.assign_quota(id, 99, None, &NEVER).unwrap();
    assert_eq!(layout.quota(id), Quota::Assigned { project: 41, limit: None }, "zero is unlimited; the project stays");
    assert!(layout.usage(id, &NEVER).unwrap().allocated <= layout.quota_usage(id).unwrap() + SLACK);
}

fn no_two_servers_have_one_project(disk: &Path) {
    let layout = layout(disk);
    let (second, _) = server(&layout, 2);
    layout.assign_quota(second, 41, Some(LIMIT), &NEVER).unwrap();
    let derived = project(&layout, second);
    assert!(derived >= 1 << 31, "{derived}: 41 is taken by the first server");
    let (third, _) = server(&layout, 3);
    layout.assign_quota(third, 0, Some(LIMIT), &NEVER).unwrap();
    assert!(![41, derived].contains(&project(&layout, third)));
    fs::write("/etc/projid", "web:42\n").unwrap();
    let (fourth, data) = server(&layout, 4);
    layout.assign_quota(fourth, 42, Some(LIMIT), &NEVER).unwrap();
    assert!(project(&layout, fourth) >= 1 << 31);
    assert_eq!(fs::read_to_string("/etc/projid").unwrap(), "web:42\n", "it is never written");
    let before = layout.quota_usage(fourth).unwrap();

    // An interrupted assignment goes on, and files of another project are put back.
    layout.distrust_quota(fourth);
    assert_eq!(layout.quota(fourth), Quota::Unassigned);
    let cancelled = AtomicBool::new(true);
    assert!(layout.assign_quota(fourth, 42, Some(LIMIT), &cancelled).is_err());
    assert_eq!(layout.quota(fourth), Quota::Unassigned);
    layout.assign_quota(fourth, 42, Some(LIMIT), &NEVER).unwrap();
    assert_eq!(layout.quota_usage(fourth).unwrap(), before);

    // The limit goes with the server, so that another one with the project is not held to it.
    let number = project(&layout, fourth);
    layout.remove_server(fourth, false).unwrap();
    assert!(!data.exists());
    layout.prepare(fourth).unwrap();
    layout.assign_quota(fourth, 42, None, &NEVER).unwrap();
    assert_eq!(layout.quota(fourth), Quota::Assigned { project: number, limit: None });
}

/// A user may give files of their own to another project, where the kernel no longer counts them for the server.
fn files_of_another_project_are_found_and_put_back(disk: &Path) {
    let layout = layout(disk);
    let (id, data) = server(&layout, 6);
    layout.assign_quota(id, 0, Some(LIMIT), &NEVER).unwrap();
    let before = layout.quota_usage(id).unwrap();
    let mut chattr = Command::new("chattr");
    let given = chattr.args(["-p", "0"]).arg(data.join("server.jar")).uid(USER).gid(USER).status();
    if !given.is_ok_and(|status| status.success()) {
        return println!("quotas: a user cannot change projects here");
    }
    let less = layout.quota_usage(id).unwrap();
    assert!(before - less >= 3 * MIB, "{before} {less}");
    assert!(layout.usage(id, &NEVER).unwrap().allocated >= less + 2 * MIB, "a visit of all files finds them");
    layout.distrust_quota(id);
    layout.assign_quota(id, 0, Some(LIMIT), &NEVER).unwrap();
    eventually("they are counted again", || layout.quota_usage(id).unwrap() == before);
    layout.remove_server(id, false).unwrap();
}

/// A user who writes through the game and through alula at the same time, against a small limit.
fn nothing_passes_the_limit(disk: &Path) {
    let layout = layout(disk);
    let (id, data) = server(&layout, 5);
    layout.assign_quota(id, 0, Some(LIMIT), &NEVER).unwrap();
    let account = DiskAccount::new(Some(LIMIT), 0);
    let meter = layout.clone();
    account.set_meter(Some(Box::new(move || meter.quota_usage(id))));
    assert!(account.used() >= 5 * MIB);
    let mut game = writer(&data);
    obey_quotas();
    let refused = flood_through(&account, &data);
    game.wait().unwrap();
    assert!(refused > 0);
    assert!(allocated(&data.join("flood1")) > 0 && data.join("upload1").exists(), "both have written");
    rustix::fs::sync();
    let on_disk = allocated(&data);
    assert!(on_disk <= LIMIT, "{on_disk} of {LIMIT} on {}", disk.display());
    assert!(on_disk > LIMIT - 2 * MIB, "{on_disk}: the room is used");
    assert!(!account.fits(2 * MIB), "{}", account.used());

    // Unlimited, and not full any more.
    layout.assign_quota(id, 0, None, &NEVER).unwrap();
    account.set_limit(limit_of(0));
    assert!(account.fits(u64::MAX));
    fs::write(data.join("more"), vec![1; 4 * MIB as usize]).unwrap();
    fs::remove_dir_all(&data).unwrap();
}

/// As the daemon's service does: on ext4 a process with this capability passes the limits of projects.
fn obey_quotas() {
    let mut sets = rustix::thread::capabilities(None).unwrap();
    sets.effective.remove(rustix::thread::CapabilitySet::SYS_RESOURCE);
    rustix::thread::set_capabilities(None, sets).unwrap();
}

/// Writes files as a way in of alula does, until the limit has refused many. Returns how many.
fn flood_through(account: &Arc<DiskAccount>, data: &Path) -> u32 {
    let (mut refused, mut number) = (0, 0);
    while refused < 200 {
        number += 1;
        let bytes = 1 + number * 104_729 % (300 * 1024);
        let Ok(charge) = account.charge(bytes as u64) else {
            refused += 1;
            continue;
        };
        match fs::write(data.join(format!("upload{number}")), vec![2; bytes]) {
            Ok(()) => charge.keep(),
            Err(error) => {
                let full = [io::ErrorKind::QuotaExceeded, io::ErrorKind::StorageFull];
                assert!(full.contains(&error.kind()), "{error}");
                refused += 1;
                let _ = fs::remove_file(data.join(format!("upload{number}")));
            }
        }
    }
    refused
}

/// Without project quotas nothing stops a game's writes, but the node notices that it writes and measures it, long before the
/// interval has passed.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_passes_its_limit_is_noticed_soon() {
    let root = match std::env::var_os(DISKS) {
        Some(disks) => tempfile::tempdir_in(Path::new(&disks).join("plain")).unwrap(),
        None => tempfile::tempdir().unwrap(),
    };
    let engine = FakeEngine::default();
    engine.add_image(IMAGE, LocalImage::default());
    engine.set_program(IMAGE, Program::idle());
    let node = TestNodeBuilder::new(node_config(root.path()), engine)
        .blocking(Blocking::Pool)
        .epoch(Clock::System.now(), tokio::time::Instant::now())
        .file_events()
        .build();
    if node.context.node.file_events.is_none() {
        return eprintln!("no events of files here: nothing is tested");
    }
    let (id, context) = (server_id(1), &node.context);
    let mut manifest = file_manifest(1);
    manifest.spec.settings.build.disk_space = 16;
    context.store.create(manifest, Record::default(), []).unwrap();
    node.start(2);
    node.accept(id, Verb::Start);
    let status = |kind| context.store.status(id).and_then(|status| Some(status.condition(kind)?.reason));
    until("it runs", || matches!(status(ConditionType::Running), Some(Reason::Running | Reason::Starting))).await;
    until("it is measured", || status(ConditionType::DiskWithinLimit) == Some(Reason::Within)).await;
    assert_eq!(status(ConditionType::DiskLimitEnforced), Some(Reason::Counted));

    let (data, ended) = (context.node.layout.data(id), Arc::new(AtomicBool::new(false)));
    let game = std::thread::spawn({
        let ended = ended.clone();
        move || floods(&data, &ended)
    });
    let begun = std::time::Instant::now();
    until("it is over its limit", || status(ConditionType::DiskWithinLimit) == Some(Reason::Exceeded)).await;
    let noticed = begun.elapsed();
    until("it is stopped", || status(ConditionType::Running) != Some(Reason::Running)).await;
    ended.store(true, Ordering::Relaxed);
    let written = game.join().unwrap();
    println!("noticed after {noticed:.1?} and {} MiB of 16", written / MIB);
    assert_eq!(status(ConditionType::Running), Some(Reason::DiskLimitExceeded));
    assert!(noticed < Duration::from_secs(15), "{noticed:?}");
}

/// Writes as a game does that has lost its mind, though no more than 256 MiB. Returns the bytes.
fn floods(data: &Path, ended: &AtomicBool) -> u64 {
    let mut written = 0;
    for number in 0.. {
        if ended.load(Ordering::Relaxed) || written >= 256 * MIB {
            break;
        }
        match fs::write(data.join(format!("dump{number}")), vec![3; MIB as usize]) {
            Ok(()) => written += MIB,
            Err(_) => break,
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    written
}

fn eventually(what: &str, holds: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(30), "not in time: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..3000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("not in time: {what}");
}

#[test]
fn project_quotas_hold() {
    let Some(disks) = disks() else { return };
    let mut tested = Vec::new();
    for name in ["xfs", "ext4"] {
        let disk = disks.join(name);
        existing_files_and_new_ones_are_counted(&disk);
        no_two_servers_have_one_project(&disk);
        files_of_another_project_are_found_and_put_back(&disk);
        nothing_passes_the_limit(&disk);
        tested.push(name);
    }
    let plain = layout(&disks.join("plain"));
    let (id, _) = server(&plain, 1);
    assert!(matches!(plain.quota(id), Quota::Unavailable(_)), "{:?}", plain.quota(id));
    assert_eq!(plain.quota_usage(id), None);
    assert!(plain.assign_quota(id, 1, Some(LIMIT), &NEVER).is_err());
    tested.push("plain");
    println!("quotas: {}", tested.join(" "));
}
