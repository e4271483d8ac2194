//! Fingerprints of files, made of their metadata. A file whose fingerprint is unchanged need not be read again.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::model::Timestamp;

/// What the file system states about a file without reading it.
///
/// Every change of content changes at least the change time, which, unlike the modification time, no program can set. Two writes
/// within one tick of the file system's clock may have the same times: read a file that was [`recently`](Self::recently) changed
/// again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileFingerprint {
    /// Length in bytes.
    pub size: u64,
    /// Time of the last change of the content, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Time of the last change of content, name, owner or mode, in nanoseconds since 1970.
    pub ctime_ns: i64,
    /// Differs after the file is replaced.
    pub inode: u64,
}

impl FileFingerprint {
    /// The fingerprint of the file at `path`; symbolic links are followed.
    ///
    /// # Errors
    /// There is no such file ([`io::ErrorKind::NotFound`]), or the system's error.
    pub fn of(path: &Path) -> io::Result<Self> {
        Ok(Self::from(&std::fs::metadata(path)?))
    }

    /// Whether a write after `now_ns` (nanoseconds since 1970), the time at which the file was read, could have the same times.
    pub fn recently(&self, now_ns: i64) -> bool {
        now_ns.saturating_sub(self.ctime_ns) < self.tick_ns()
    }

    /// How long from now on the content counts as being written: until it has not changed for a second. `None` if it counts as complete,
    /// also if its time is in the future.
    pub fn unsettled(&self, now: Timestamp) -> Option<Duration> {
        const QUIET: i64 = 1_000;
        let age = now.as_millis().saturating_sub(self.mtime_ns.div_euclid(1_000_000));
        let left = (0..QUIET).contains(&age).then_some(QUIET - age)?;
        u64::try_from(left).ok().map(Duration::from_millis)
    }

    /// How long a later write may have the same times: twice the tick of the clock.
    fn tick_ns(&self) -> i64 {
        const KERNEL: i64 = 20_000_000;
        const SECONDS: i64 = 2_000_000_000;
        // ext3, some NFS servers and ext4 with small inodes store seconds only. If both times are full seconds by chance, the file
        // is read once more than necessary.
        let seconds = [self.mtime_ns, self.ctime_ns].iter().all(|time| time % 1_000_000_000 == 0);
        if seconds { SECONDS } else { KERNEL }
    }
}

/// Now, in nanoseconds since 1970.
pub fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

impl From<&Metadata> for FileFingerprint {
    fn from(metadata: &Metadata) -> Self {
        Self {
            size: metadata.size(),
            mtime_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            ctime_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
        }
    }
}

fn nanoseconds(seconds: i64, fraction: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(fraction)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::time::{Duration, Instant};

    use super::*;

    /// Waits for the next tick of the kernel's clock, so that a later write has another time.
    fn next_tick(path: &Path) {
        let seen = FileFingerprint::of(path).unwrap();
        let probe = path.with_extension("probe");
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            fs::write(&probe, b"").unwrap();
            if FileFingerprint::of(&probe).unwrap().ctime_ns > seen.ctime_ns {
                return;
            }
        }
        panic!("the clock does not advance");
    }

    #[test]
    fn an_untouched_file_keeps_its_fingerprint_and_a_changed_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yml");
        assert_eq!(FileFingerprint::of(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::write(&path, b"one").unwrap();
        let first = FileFingerprint::of(&path).unwrap();
        fs::read(&path).unwrap();
        assert_eq!(FileFingerprint::of(&path).unwrap(), first);

        next_tick(&path);
        fs::write(&path, b"two").unwrap();
        let second = FileFingerprint::of(&path).unwrap();
        assert_ne!(second, first);

        // `cp -p`, `touch -d` and git may restore the old size and modification time, but not the change time.
        next_tick(&path);
        fs::write(&path, b"six").unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_nanos(second.mtime_ns as u64)).unwrap();
        let third = FileFingerprint::of(&path).unwrap();
        assert_eq!((third.size, third.mtime_ns), (second.size, second.mtime_ns));
        assert_ne!(third, second);
    }

    #[test]
    fn a_replaced_file_and_the_target_of_a_link_have_other_fingerprints() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("a"), folder.path().join("b"));
        fs::write(&path, b"one").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let first = FileFingerprint::of(&link).unwrap();
        assert_eq!(first, FileFingerprint::of(&path).unwrap());
        crate::atomic::write_file(&path, b"one", 0o644).unwrap();
        assert_ne!(FileFingerprint::of(&link).unwrap().inode, first.inode);
    }

    #[test]
    fn a_new_file_is_recent_and_an_old_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, b"one").unwrap();
        let print = FileFingerprint::of(&path).unwrap();
        assert!(print.recently(print.ctime_ns));
        assert!(!print.recently(now_ns() + 2_000_000_000));
    }

    #[test]
    fn with_times_in_seconds_a_file_stays_recent_for_two() {
        const SECOND: i64 = 1_000_000_000;
        let now = 1_700_000_000 * SECOND;
        let changed = |mtime_ns, ctime_ns| FileFingerprint { size: 1, mtime_ns, ctime_ns, inode: 1 };
        let coarse = changed(now - 5 * SECOND, now);
        assert!(coarse.recently(now + SECOND + 999_999_999), "a later write in the same second has the same times");
        assert!(!coarse.recently(now + 2 * SECOND));
        for fine in [changed(now, now + 1), changed(now + 1, now)] {
            assert!(fine.recently(now + 10_000_000));
            assert!(!fine.recently(now + 30_000_000), "{fine:?}");
        }
    }

    #[test]
    fn a_file_is_settled_when_it_has_not_changed_for_a_second() {
        let changed_ns = 5_000_999_999;
        let print = FileFingerprint { size: 1, mtime_ns: changed_ns, ctime_ns: changed_ns, inode: 1 };
        for (now, left) in [(5_000, Some(1_000)), (5_250, Some(750)), (6_000, None), (100_000, None), (4_999, None)] {
            assert_eq!(print.unsettled(Timestamp::from_millis(now)), left.map(Duration::from_millis), "{now}");
        }
    }

    #[test]
    fn a_fingerprint_survives_serialization() {
        let print = FileFingerprint { size: 1, mtime_ns: -2, ctime_ns: 3, inode: u64::MAX };
        let text = serde_json::to_string(&print).unwrap();
        assert_eq!(serde_json::from_str::<FileFingerprint>(&text).unwrap(), print);
    }
}
