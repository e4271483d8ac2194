//! The file systems of this host, and which of the node's directories are on them.

#![allow(missing_docs)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use procfs::process::MountInfo;
use serde::Serialize;
use tokio::sync::watch;

use crate::config::Directories;
use crate::files::mount_table;
use crate::tasks::Blocking;
use crate::wait;

/// File systems without a device below `/dev` that are on disks.
const WITHOUT_DEVICE: [&str; 2] = ["zfs", "bcachefs"];
/// File systems on a device that nothing is written to.
const READ_ONLY: [&str; 3] = ["squashfs", "iso9660", "erofs"];

/// A file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Disk {
    pub device: String,
    pub mountpoint: String,
    pub total_space: u64,
    pub used_space: u64,
    /// The node's directories on it.
    pub tags: Vec<&'static str>,
}

/// Measures the file systems. One that hangs occupies at most one thread.
#[derive(Default)]
pub(super) struct Disks {
    latest: watch::Sender<Vec<Disk>>,
    measuring: Arc<AtomicBool>,
}

/// A file system to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    device: String,
    mount_point: PathBuf,
    tags: BTreeSet<&'static str>,
}

impl Disks {
    /// The file systems now, or those of the last measurement if one does not answer in time.
    pub(super) async fn measure(&self, directories: &Directories, blocking: Blocking) -> Vec<Disk> {
        let mut latest = self.latest.subscribe();
        if !self.measuring.swap(true, Ordering::AcqRel) {
            let (sender, directories, measuring) = (self.latest.clone(), tagged(directories), self.measuring.clone());
            let measure = move || {
                let disks = measured(&directories);
                // First, so that a caller who comes in between gets this value or the next one.
                measuring.store(false, Ordering::Release);
                sender.send_replace(disks);
            };
            if let Err(error) = blocking.run_detached("disks", measure) {
                tracing::warn!(%error, "cannot measure the disks");
                self.measuring.store(false, Ordering::Release);
            }
        }
        // After the limit, the latest value counts.
        let _ = tokio::time::timeout(wait::DISKS, latest.changed()).await;
        latest.borrow().clone()
    }
}

/// The node's directories, as the panel names them.
fn tagged(directories: &Directories) -> Vec<(&'static str, PathBuf)> {
    let Directories { root, log, data, archive, backup, tmp, .. } = directories;
    let all = [("Root", root), ("Logs", log), ("Data", data.as_ref().unwrap_or(root)), ("Archive", archive)];
    let all = all.into_iter().chain([("Backup", backup), ("Temp", tmp)]);
    all.map(|(tag, path)| (tag, path.clone())).collect()
}

fn measured(directories: &[(&'static str, PathBuf)]) -> Vec<Disk> {
    // A directory that does not exist yet is where its parent is.
    let real = |path: &Path| path.ancestors().find_map(|path| path.canonicalize().ok());
    let directories: Vec<_> = directories.iter().filter_map(|(tag, path)| Some((*tag, real(path)?))).collect();
    let found = file_systems(&mount_table(Path::new("/proc")), &directories);
    found.into_iter().filter_map(Found::measure).collect()
}

/// Each file system on a disk or with one of the directories, once.
fn file_systems(mounts: &[MountInfo], directories: &[(&'static str, PathBuf)]) -> Vec<Found> {
    // The last of the longest: a later mount hides an earlier one at the same place.
    let holder = |path: &Path| {
        let above = mounts.iter().enumerate().filter(|(_, mount)| path.starts_with(&mount.mount_point));
        above.max_by_key(|(at, mount)| (mount.mount_point.components().count(), *at)).map(|(_, mount)| &mount.majmin)
    };
    let tags: Vec<_> = directories.iter().map(|(tag, path)| (*tag, holder(path))).collect();
    let mut found: Vec<(&str, Found)> = Vec::new();
    for mount in mounts {
        let tags: BTreeSet<_> = tags.iter().filter(|(_, on)| *on == Some(&mount.majmin)).map(|(tag, _)| *tag).collect();
        let source = mount.mount_source.as_deref().unwrap_or_default();
        let on_disk = source.starts_with("/dev/") || WITHOUT_DEVICE.contains(&mount.fs_type.as_str());
        let counts = on_disk && !READ_ONLY.contains(&mount.fs_type.as_str());
        if (!counts && tags.is_empty()) || found.iter().any(|(device, _)| *device == mount.majmin) {
            continue;
        }
        found.push((&mount.majmin, Found { device: source.into(), mount_point: mount.mount_point.clone(), tags }));
    }
    found.into_iter().map(|(_, found)| found).collect()
}

impl Found {
    fn measure(self) -> Option<Disk> {
        let space = rustix::fs::statvfs(&self.mount_point).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(space.f_frsize);
        Some(Disk {
            device: self.device,
            mountpoint: self.mount_point.display().to_string(),
            total_space: bytes(space.f_blocks),
            used_space: bytes(space.f_blocks.saturating_sub(space.f_bfree)),
            tags: self.tags.into_iter().collect(),
        })
        .filter(|disk| disk.total_space > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_system_is_found_once_with_its_directories() {
        let table = "\
23 1 254:0 / / rw - ext4 /dev/vda rw
24 23 0:5 / /proc rw - proc proc rw
25 23 0:6 / /dev rw - devtmpfs devtmpfs rw
26 23 7:0 / /snap/core/1 ro - squashfs /dev/loop0 ro
27 23 254:1 / /srv rw - xfs /dev/vdb rw
28 23 254:1 /sub /mnt/again rw - xfs /dev/vdb rw
29 23 0:40 / /backups rw - nfs4 nas:/export rw
30 23 0:41 / /media/other rw - nfs4 nas:/other rw
31 23 0:50 / /tank rw - zfs tank rw
32 23 0:60 / /tmp rw - tmpfs tmpfs rw
";
        let mounts: Vec<_> = table.lines().map(|line| MountInfo::from_line(line).unwrap()).collect();
        let directories =
            [("Root", "/var/lib/pelican"), ("Data", "/srv/data"), ("Backup", "/backups/a"), ("Temp", "/tmp/p")];
        let directories = directories.map(|(tag, path)| (tag, PathBuf::from(path)));
        let found = |device: &str, mount_point: &str, tags: &[&'static str]| Found {
            device: device.into(),
            mount_point: mount_point.into(),
            tags: tags.iter().copied().collect(),
        };
        let expected = [
            found("/dev/vda", "/", &["Root"]),
            found("/dev/vdb", "/srv", &["Data"]),
            found("nas:/export", "/backups", &["Backup"]),
            found("tank", "/tank", &[]),
            found("tmpfs", "/tmp", &["Temp"]),
        ];
        assert_eq!(file_systems(&mounts, &directories), expected);
        assert_eq!(file_systems(&[], &directories), []);
    }
}
