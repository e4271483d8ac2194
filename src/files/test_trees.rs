//! Trees that tests make and compare, bit for bit.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rustix::fs::{AtFlags, CWD, FileType, Timespec, Timestamps, XattrFlags};

/// An entry of a tree. Directories on the way are created.
#[derive(Debug, Clone)]
pub(super) enum Node {
    File {
        bytes: Vec<u8>,
        mode: u32,
    },
    Sparse {
        length: u64,
    },
    Directory {
        mode: u32,
    },
    Link {
        text: Vec<u8>,
    },
    Fifo,
    /// Another name of the first file of the tree.
    SecondName,
}

/// Entries with their paths and times. One that cannot be made, because another one is there, is left out.
pub(super) type Nodes = Vec<(Vec<&'static [u8]>, Node, i64)>;

const NAMES: &[&[u8]] = &[b"a", b"b", b"world", b"new\nline", b"\xff\xfe", b"with space", b"-rf", b".hidden"];

pub(super) fn nodes(most: usize) -> impl Strategy<Value = Nodes> {
    let path = prop::collection::vec(prop::sample::select(NAMES), 1..4);
    let mode = prop::sample::select(vec![0o600_u32, 0o644, 0o755, 0o400, 0o2755, 0o1777]);
    let node = prop_oneof![
        4 => (prop::collection::vec(any::<u8>(), 0..40), mode.clone())
            .prop_map(|(bytes, mode)| Node::File { bytes, mode: mode & 0o777 }),
        1 => (1_u64..1 << 20).prop_map(|length| Node::Sparse { length }),
        2 => mode.prop_map(|mode| Node::Directory { mode: mode | 0o700 }),
        1 => prop::sample::select(vec![&b"a"[..], b"/etc/passwd", b"../../..", b"\xff"])
            .prop_map(|text| Node::Link { text: text.to_vec() }),
        1 => Just(Node::Fifo),
        1 => Just(Node::SecondName),
    ];
    prop::collection::vec((path, node, 0_i64..2_000_000_000), 0..most)
}

fn path_of(top: &Path, names: &[&[u8]]) -> PathBuf {
    top.join(names.iter().map(|name| OsStr::from_bytes(name)).collect::<PathBuf>())
}

/// Makes the entries below a directory, over what is there, as an unpacker does: links are replaced, and not followed.
pub(super) fn make(top: &Path, nodes: &Nodes) {
    let mut first: Option<PathBuf> = None;
    for (names, node, time) in nodes {
        let path = path_of(top, names);
        let real = (1..names.len()).all(|length| {
            let above = path_of(top, &names[..length]);
            above.symlink_metadata().map_or(true, |found| found.is_dir())
        });
        let directory = path.symlink_metadata().is_ok_and(|found| found.is_dir());
        if !real || directory && !matches!(node, Node::Directory { .. }) {
            continue;
        }
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if !directory {
            let _ = fs::remove_file(&path);
        }
        match node {
            Node::File { bytes, mode } => {
                fs::write(&path, bytes).unwrap();
                let _ = rustix::fs::setxattr(&path, "user.test", bytes, XattrFlags::empty());
                fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
                first.get_or_insert(path.clone());
            }
            Node::Sparse { length } => fs::File::create(&path).and_then(|file| file.set_len(*length)).unwrap(),
            Node::Directory { mode } => {
                if !directory {
                    fs::create_dir(&path).unwrap();
                }
                fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
            }
            Node::Link { text } => symlink(OsStr::from_bytes(text), &path).unwrap(),
            Node::Fifo => super::tests::make_fifo(&path),
            Node::SecondName => match &first {
                Some(first) if first.symlink_metadata().is_ok_and(|found| found.is_file()) => {
                    fs::hard_link(first, &path).unwrap()
                }
                _ => continue,
            },
        }
        set_time(&path, *time);
    }
    // What is made in a directory changes its time.
    for (names, node, time) in nodes.iter().rev() {
        let path = path_of(top, names);
        if matches!(node, Node::Directory { .. }) && path.symlink_metadata().is_ok_and(|found| found.is_dir()) {
            set_time(&path, *time);
        }
    }
}

pub(super) fn set_time(path: &Path, seconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: 123_456_789 };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// All of a tree but times of access and change, by paths. Files with several names name the first one.
pub(super) fn contents(top: &Path) -> BTreeMap<Vec<u8>, String> {
    let (mut found, mut seen) = (BTreeMap::new(), BTreeMap::new());
    read(top, top, &mut found, &mut seen);
    found
}

fn read(top: &Path, path: &Path, found: &mut BTreeMap<Vec<u8>, String>, seen: &mut BTreeMap<u64, PathBuf>) {
    let stat = path.symlink_metadata().unwrap();
    let below = path.strip_prefix(top).unwrap().to_owned();
    let first = seen.entry(stat.ino()).or_insert_with(|| below.clone()).clone();
    let mut value = [0; 256];
    let content = match FileType::from_raw_mode(stat.mode()) {
        FileType::RegularFile => {
            let attribute = rustix::fs::getxattr(path, "user.test", &mut value).map_or(0, |length| length);
            format!("{:?} {:?}", fs::read(path).unwrap(), &value[..attribute])
        }
        FileType::Symlink => format!("{:?}", fs::read_link(path).unwrap()),
        _ => String::new(),
    };
    let content = if content.len() > 1000 { format!("{} bytes", content.len()) } else { content };
    let owner = (stat.uid(), stat.gid());
    let text = format!("{:o} {owner:?} {}.{} {first:?} {content}", stat.mode(), stat.mtime(), stat.mtime_nsec());
    found.insert(below.into_os_string().into_vec(), text);
    if stat.is_dir() {
        let mut paths: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths.iter().for_each(|path| read(top, path, found, seen));
    }
}
