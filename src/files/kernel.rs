//! System calls without a safe wrapper: project ids of files, the quotas of projects, events of file systems, what of a file is in
//! memory, and subvolumes of btrfs. The only module with unsafe code.
//!
//! All of them work on descriptors. Quotas are asked by the descriptor of any file of their file system (`quotactl_fd`, since Linux
//! 5.14), and by the block device on older kernels.

#![expect(unsafe_code, reason = "system calls without a safe wrapper")]

use std::ffi::{CStr, CString};
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use rustix::fs::{major, minor};

use super::mount_table::mount_table;

/// `PRJQUOTA` of `linux/quota.h`.
const PROJECT: libc::c_int = 2;
/// `Q_XGETQSTAT` of `linux/dqblk_xfs.h`, which the kernel answers for every file system with quotas.
const Q_XGETQSTAT: libc::c_int = (b'X' as libc::c_int) << 8 | 5;
/// `FS_QUOTA_PDQ_ENFD`: limits of projects are enforced.
const PROJECTS_ENFORCED: u16 = 1 << 5;
/// `FS_QUOTA_PDQ_ACCT`: the blocks of projects are counted.
const PROJECTS_COUNTED: u16 = 1 << 4;
/// `FS_XFLAG_PROJINHERIT`: what is made in the directory is of its project.
const INHERIT: u32 = 0x200;
/// `FAN_REPORT_DIR_FID` of `linux/fanotify.h`, since Linux 5.9.
const FAN_REPORT_DIR_FID: libc::c_uint = 0x400;
/// Blocks of limits.
const BLOCK: u64 = 1024;

/// `struct fsxattr` of `linux/fs.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct FsXattr {
    xflags: u32,
    extsize: u32,
    nextents: u32,
    projid: u32,
    cowextsize: u32,
    pad: [u8; 8],
}

/// `_IOR('X', 31, struct fsxattr)`. The request's type differs between the C libraries.
const FS_IOC_FSGETXATTR: u32 = 2 << 30 | (size_of::<FsXattr>() as u32) << 16 | (b'X' as u32) << 8 | 31;
/// `_IOW('X', 32, struct fsxattr)`.
const FS_IOC_FSSETXATTR: u32 = 1 << 30 | (size_of::<FsXattr>() as u32) << 16 | (b'X' as u32) << 8 | 32;

/// The project of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Project {
    pub id: u32,
    /// Whether files that are made in the directory get it.
    pub inherited: bool,
}

/// What the kernel knows of a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct ProjectUsage {
    /// Allocated bytes, with those that are reserved.
    pub bytes: u64,
    /// The hard limit in bytes.
    pub limit: Option<u64>,
}

/// What the file system does about projects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProjectQuotas {
    Enforced,
    /// Their blocks are counted, and limits are not enforced.
    Counted,
    Off,
}

/// The project of an open file or directory.
pub(super) fn project(file: BorrowedFd<'_>) -> io::Result<Project> {
    let found = attributes(file)?;
    Ok(Project { id: found.projid, inherited: found.xflags & INHERIT != 0 })
}

/// Puts an open file or directory into a project. Writes nothing if it is there.
pub(super) fn set_project(file: BorrowedFd<'_>, project: Project) -> io::Result<()> {
    let found = attributes(file)?;
    let xflags = if project.inherited { found.xflags | INHERIT } else { found.xflags & !INHERIT };
    if (found.projid, found.xflags) == (project.id, xflags) {
        return Ok(());
    }
    let wanted = FsXattr { projid: project.id, xflags, ..found };
    // SAFETY: the kernel reads one `FsXattr` from the pointer, which is valid for the call.
    check(unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FSSETXATTR as _, &raw const wanted) }.into())
}

fn attributes(file: BorrowedFd<'_>) -> io::Result<FsXattr> {
    let mut found = FsXattr::default();
    // SAFETY: the kernel writes one `FsXattr` to the pointer, which is valid for the call.
    check(unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FSGETXATTR as _, &raw mut found) }.into())?;
    Ok(found)
}

/// Whether the file system of this file has quotas of projects.
pub(super) fn project_quotas(file: BorrowedFd<'_>) -> io::Result<ProjectQuotas> {
    /// Larger than `struct fs_quota_stat`, which begins with a version of one byte and 16 bits of flags.
    #[repr(C, align(8))]
    struct State {
        version: i8,
        flags: u16,
        rest: [u8; 252],
    }
    let mut state = State { version: 0, flags: 0, rest: [0; 252] };
    match quotactl(file, Q_XGETQSTAT, 0, (&raw mut state).cast()) {
        Ok(()) if state.flags & PROJECTS_ENFORCED != 0 => Ok(ProjectQuotas::Enforced),
        Ok(()) if state.flags & PROJECTS_COUNTED != 0 => Ok(ProjectQuotas::Counted),
        Ok(()) => Ok(ProjectQuotas::Off),
        // No quotas at all, of a file system without them or of a kernel without them.
        Err(error)
            if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL | libc::EOPNOTSUPP | libc::ENODEV)) =>
        {
            Ok(ProjectQuotas::Off)
        }
        Err(error) => Err(error),
    }
}

/// What a project uses on the file system of this file, and its limit.
pub(super) fn project_usage(file: BorrowedFd<'_>, id: u32) -> io::Result<ProjectUsage> {
    let mut block = MaybeUninit::<libc::dqblk>::zeroed();
    match quotactl(file, libc::Q_GETQUOTA, id, block.as_mut_ptr().cast()) {
        Ok(()) => {}
        // XFS has no entry for a project without files and limits.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(ProjectUsage::default()),
        Err(error) => return Err(error),
    }
    // SAFETY: a plain structure of integers, for which zeros are valid, and which the kernel has filled.
    let block = unsafe { block.assume_init() };
    let limit = Some(block.dqb_bhardlimit.saturating_mul(BLOCK)).filter(|limit| *limit > 0);
    Ok(ProjectUsage { bytes: block.dqb_curspace, limit })
}

/// Sets the hard limit of a project in bytes; `None` is none.
pub(super) fn set_project_limit(file: BorrowedFd<'_>, id: u32, limit: Option<u64>) -> io::Result<()> {
    // SAFETY: a plain structure of integers, for which zeros are valid.
    let mut block: libc::dqblk = unsafe { MaybeUninit::zeroed().assume_init() };
    block.dqb_bhardlimit = limit.map_or(0, |bytes| bytes.div_ceil(BLOCK).max(1));
    block.dqb_valid = libc::QIF_BLIMITS;
    quotactl(file, libc::Q_SETQUOTA, id, (&raw mut block).cast())
}

/// `data` is what the command reads or writes.
fn quotactl(file: BorrowedFd<'_>, command: libc::c_int, id: u32, data: *mut libc::c_char) -> io::Result<()> {
    let command = command << 8 | PROJECT;
    // SAFETY: the callers pass a structure of the command's type, or a larger one, that is valid for the call.
    let called = unsafe { libc::syscall(libc::SYS_quotactl_fd, file.as_raw_fd(), command, id, data) };
    let missing = match check(called) {
        // The call, or quotas.
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => error,
        other => return other,
    };
    let Ok(device) = device(file) else { return Err(missing) };
    // SAFETY: as above, and the path ends with a NUL.
    check(unsafe { libc::quotactl(command, device.as_ptr(), id as libc::c_int, data) }.into())
}

/// A queue of events, without any. Each names the directory of a file by its handle.
pub(super) fn event_queue() -> io::Result<OwnedFd> {
    let flags = libc::FAN_CLASS_NOTIF | libc::FAN_CLOEXEC | libc::FAN_NONBLOCK | FAN_REPORT_DIR_FID;
    // SAFETY: the call has no pointers.
    let queue = unsafe { libc::fanotify_init(flags, 0) };
    check(queue.into())?;
    // SAFETY: the kernel has returned a new descriptor, which belongs to the caller.
    Ok(unsafe { OwnedFd::from_raw_fd(queue) })
}

/// Events of files that are written, anywhere on the file system of this file, come into the queue from now on.
pub(super) fn watch_writes(queue: BorrowedFd<'_>, file: BorrowedFd<'_>) -> io::Result<()> {
    let flags = libc::FAN_MARK_ADD | libc::FAN_MARK_FILESYSTEM;
    // SAFETY: without a path, the file of the descriptor is meant.
    let marked =
        unsafe { libc::fanotify_mark(queue.as_raw_fd(), flags, libc::FAN_MODIFY, file.as_raw_fd(), std::ptr::null()) };
    check(marked.into())
}

/// Opens the directory of a handle, as events have it, on the file system of `file`. Nothing can be read from it.
pub(super) fn open_handle(file: BorrowedFd<'_>, handle: &[u8]) -> io::Result<OwnedFd> {
    // `struct file_handle`: its length, its type and bytes, aligned as its integers.
    let mut aligned = vec![0_u32; handle.len().div_ceil(4)];
    let length = handle.first_chunk().map_or(0, |length| u32::from_ne_bytes(*length) as usize);
    if handle.len() < 8 || length > handle.len() - 8 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    for (word, bytes) in aligned.iter_mut().zip(handle.chunks(4)) {
        let mut padded = [0; 4];
        padded[..bytes.len()].copy_from_slice(bytes);
        *word = u32::from_ne_bytes(padded);
    }
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    // SAFETY: the kernel reads the header and the length that was checked above.
    let opened = unsafe { libc::syscall(libc::SYS_open_by_handle_at, file.as_raw_fd(), aligned.as_mut_ptr(), flags) };
    check(opened)?;
    // SAFETY: the kernel has returned a new descriptor, which belongs to the caller.
    Ok(unsafe { OwnedFd::from_raw_fd(opened as libc::c_int) })
}

/// Sets how disks serve this thread, compared with others.
pub(super) fn set_io_priority(priority: IoPriority) -> io::Result<()> {
    /// `IOPRIO_WHO_PROCESS`; with 0 as the process it is this thread.
    const PROCESS: libc::c_int = 1;
    // SAFETY: the call takes integers only.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, PROCESS, 0, priority as libc::c_int) })
}

/// A class of `linux/ioprio.h`, shifted to its bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IoPriority {
    /// What follows from the thread's niceness.
    Default = 0,
    /// Served when nothing else waits.
    Idle = 3 << 13,
}

/// The pages of a part of a file that are in memory. Since Linux 6.5.
pub(super) fn cached_pages(file: BorrowedFd<'_>, offset: u64, length: u64) -> io::Result<u64> {
    /// `cachestat`, which has this number on every architecture.
    const CACHESTAT: libc::c_long = 451;
    let range = [offset, length];
    // Pages that are cached, dirty, being written, evicted, evicted recently.
    let mut found = [0_u64; 5];
    // SAFETY: the kernel reads two and writes five integers of 64 bits, and both arrays are valid for the call.
    check(unsafe { libc::syscall(CACHESTAT, file.as_raw_fd(), range.as_ptr(), found.as_mut_ptr(), 0) })?;
    Ok(found[0])
}

/// `BTRFS_SUPER_MAGIC` of `linux/magic.h`.
const BTRFS: u32 = 0x9123_683E;
/// `BTRFS_FIRST_FREE_OBJECTID`: the inode of the top directory of each subvolume.
const SUBVOLUME_INODE: u64 = 256;
/// `BTRFS_SUBVOL_RDONLY`.
const READ_ONLY: u64 = 1 << 1;

/// `struct btrfs_ioctl_vol_args` of `linux/btrfs.h`.
#[repr(C)]
struct VolumeName {
    fd: i64,
    name: [u8; 4088],
}

/// `struct btrfs_ioctl_vol_args_v2`, with its unions as the members that are used here.
#[repr(C)]
struct SnapshotOf {
    fd: i64,
    transid: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; 4040],
}

/// `_IOW(BTRFS_IOCTL_MAGIC, number, T)`.
const fn btrfs_request<T>(number: u32) -> u32 {
    1 << 30 | (size_of::<T>() as u32) << 16 | 0x94 << 8 | number
}

const BTRFS_IOC_SUBVOL_CREATE: u32 = btrfs_request::<VolumeName>(14);
const BTRFS_IOC_SNAP_DESTROY: u32 = btrfs_request::<VolumeName>(15);
const BTRFS_IOC_SNAP_CREATE_V2: u32 = btrfs_request::<SnapshotOf>(23);

/// Whether an open directory is the top of a btrfs subvolume.
pub(super) fn is_subvolume(directory: BorrowedFd<'_>) -> bool {
    let btrfs = rustix::fs::fstatfs(directory).is_ok_and(|found| found.f_type as u32 == BTRFS);
    btrfs && rustix::fs::fstat(directory).is_ok_and(|found| found.st_ino == SUBVOLUME_INODE)
}

/// Creates a btrfs subvolume in an open directory.
pub(super) fn create_subvolume(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    on_volume(parent, BTRFS_IOC_SUBVOL_CREATE, &VolumeName { fd: 0, name: padded(name)? })
}

/// Creates a read-only snapshot of a btrfs subvolume in an open directory, as it is at one moment.
pub(super) fn snapshot_subvolume(subvolume: BorrowedFd<'_>, parent: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    let fd = subvolume.as_raw_fd().into();
    let arguments = SnapshotOf { fd, transid: 0, flags: READ_ONLY, unused: [0; 4], name: padded(name)? };
    on_volume(parent, BTRFS_IOC_SNAP_CREATE_V2, &arguments)
}

/// Removes a btrfs subvolume in an open directory, with all files in it.
pub(super) fn destroy_subvolume(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    on_volume(parent, BTRFS_IOC_SNAP_DESTROY, &VolumeName { fd: 0, name: padded(name)? })
}

/// `request` is one of those above, and `T` its structure.
fn on_volume<T>(parent: BorrowedFd<'_>, request: u32, arguments: &T) -> io::Result<()> {
    // SAFETY: the kernel reads one `T` from the pointer, which is valid for the call.
    check(unsafe { libc::ioctl(parent.as_raw_fd(), request as _, &raw const *arguments) }.into())
}

/// A name that ends with a NUL, as the kernel reads it.
fn padded<const N: usize>(name: &CStr) -> io::Result<[u8; N]> {
    let (mut field, bytes) = ([0; N], name.to_bytes_with_nul());
    field.get_mut(..bytes.len()).ok_or(rustix::io::Errno::NAMETOOLONG)?.copy_from_slice(bytes);
    Ok(field)
}

/// The path of the block device of a file's file system.
fn device(file: BorrowedFd<'_>) -> io::Result<CString> {
    let device = rustix::fs::fstat(file.as_fd())?.st_dev;
    let number = format!("{}:{}", major(device), minor(device));
    let mounts = mount_table(Path::new("/proc"));
    let source = mounts.into_iter().find(|mount| mount.majmin == number).and_then(|mount| mount.mount_source);
    let source = source.ok_or_else(|| io::Error::other("its block device is not in the mount table"))?;
    CString::new(std::ffi::OsString::from(source).into_vec()).map_err(io::Error::other)
}

fn check(returned: libc::c_long) -> io::Result<()> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
