//! What is packed and unpacked is as it was.

use std::ffi::{CString, OsStr};
use std::os::unix::fs::{FileExt, symlink};

use proptest::prelude::*;
use proptest::sample::{Index, select};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use super::*;

fn set_time(at: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, at, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

#[derive(Debug, Clone)]
enum Made {
    File(Vec<u8>),
    /// Its length, and where a little is in it.
    Sparse(u64, u64),
    Directory,
    Link(Vec<u8>),
    HardLink(Index),
}

#[derive(Debug, Clone)]
struct Entry {
    names: Vec<Vec<u8>>,
    made: Made,
    mode: u32,
    time: (i64, i64),
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_map(|byte| if byte == b'/' || byte == 0 { b'_' } else { byte });
    prop_oneof![
        6 => select(vec![&b"a"[..], b"b", b"world", b"x.log"]).prop_map(<[u8]>::to_vec),
        2 => prop::collection::vec(byte, 1..20),
        1 => (90..255_usize).prop_map(|length| vec![b'n'; length]),
        1 => select(vec![&b"-rf"[..], b"a\nb", b"a b ", b"\\", b"\xff\xfe", b"=", b"9 path=x"]).prop_map(<[u8]>::to_vec),
    ]
    .prop_filter("no name", |name| name != b"." && name != b"..")
}

fn entry() -> impl Strategy<Value = Entry> {
    let made = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..2000).prop_map(Made::File),
        1 => (0..400_000_usize, any::<u8>()).prop_map(|(length, byte)| Made::File(vec![byte; length])),
        1 => (0..400_000_u64, 0..400_000_u64).prop_map(|(length, at)| Made::Sparse(length, at)),
        3 => Just(Made::Directory),
        1 => prop_oneof![name(), (1..300_usize).prop_map(|length| vec![b'l'; length]), Just(b"/etc/passwd".to_vec())]
            .prop_map(Made::Link),
        1 => any::<Index>().prop_map(Made::HardLink),
    ];
    let mode = prop_oneof![select(vec![0o755, 0o644, 0o600]), 0..0o1000_u32];
    let time = (prop_oneof![-1000..2_000_000_000_i64, Just(0), Just(8_589_934_592)], 0..1_000_000_000_i64);
    (prop::collection::vec(name(), 1..4), made, mode, time).prop_map(|(names, made, mode, time)| Entry {
        names,
        made,
        mode,
        time,
    })
}

/// Makes what can be made.
fn make(server: &Server, entries: &[Entry]) {
    let mut files = Vec::new();
    let mut times = Vec::new();
    for Entry { names, made, mode, time } in entries {
        let at = names.iter().fold(server.path(""), |at, name| at.join(OsStr::from_bytes(name)));
        if fs::create_dir_all(at.parent().unwrap()).is_err() || fs::symlink_metadata(&at).is_ok() {
            continue;
        }
        let done = match made {
            Made::File(content) => fs::write(&at, content).map(|()| files.push(at.clone())),
            Made::Sparse(length, position) => fs::File::create(&at).and_then(|file| {
                file.set_len(*length)?;
                files.push(at.clone());
                file.write_all_at(b"data", *position)
            }),
            Made::Directory => fs::create_dir(&at),
            Made::Link(text) => symlink(OsStr::from_bytes(text), &at),
            Made::HardLink(_) if files.is_empty() => continue,
            Made::HardLink(index) => fs::hard_link(&files[index.index(files.len())], &at),
        };
        if done.is_ok() {
            if !matches!(made, Made::Link(_)) {
                fs::set_permissions(&at, fs::Permissions::from_mode(*mode)).unwrap();
            }
            times.push((at, *time));
        }
    }
    // Deep ones first, so that nothing changes them again.
    times.sort_by_key(|(at, _)| std::cmp::Reverse(at.components().count()));
    for (at, (seconds, nanoseconds)) in times {
        set_time(&at, seconds, nanoseconds);
    }
    set_time(&server.path(""), 1_234_567_890, 123_456_789);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn random_trees_are_the_same(entries in prop::collection::vec(entry(), 0..25), old in prop::collection::vec(entry(), 0..8)) {
        let (before, after) = (Server::new(None), Server::new(None));
        make(&before, &entries);
        let (archive, written) = pack(&before);
        prop_assert!(written.changes.is_empty(), "{:?}", written.changes);
        let contents = verified(&archive).unwrap();
        prop_assert_eq!(
            (written.bytes, &written.digests, written.files, written.directories, written.links, written.content),
            (contents.bytes, &contents.digests, contents.files, contents.directories, contents.links, contents.content)
        );
        let unpacked = unpack_into(&archive, &after).unwrap();
        prop_assert_eq!(
            (written.bytes, written.digests, written.files, written.directories, written.links, written.content),
            (unpacked.bytes, unpacked.digests, unpacked.files, unpacked.directories, unpacked.links, unpacked.content)
        );
        // Over another tree: what the archive has is as it was.
        let over = Server::new(None);
        make(&over, &old);
        unpack_into(&archive, &over).unwrap();
        if written.directories == 0 {
            // A root without files or directories in it has no entry.
            for server in [&after, &over] {
                set_time(&server.path(""), 1_234_567_890, 123_456_789);
            }
        }
        assert_same(&before, &after);
        let (before, over) = (snapshot(&before), snapshot(&over));
        for (name, found) in &before {
            prop_assert_eq!(&over[name].content, &found.content, "{}", name.escape_ascii());
            prop_assert_eq!((over[name].mode, over[name].modified), (found.mode, found.modified));
        }
    }
}

#[test]
fn a_tree_with_everything_is_the_same() {
    let (before, after) = (Server::new(None), Server::new(None));
    before.put("world/level.dat", "x");
    before.put("world/big", vec![7; 6 << 20]);
    before.put("zeros", vec![0; 1 << 20]);
    before.put("none", "");
    fs::create_dir_all(before.path("empty/one")).unwrap();
    fs::hard_link(before.path("world/big"), before.path("also big")).unwrap();
    symlink("../outside", before.path("world/link")).unwrap();
    symlink(OsStr::from_bytes(&[b'x'; 2000]), before.path("long link")).unwrap();
    fs::set_permissions(before.path("empty"), fs::Permissions::from_mode(0o2500)).unwrap();
    rustix::fs::mkfifoat(CWD, before.path("pipe"), rustix::fs::Mode::RWXU).unwrap();
    before.put(".alula-new-0000000000000001", "unfinished");
    std::os::unix::fs::chown(before.path("world/level.dat"), Some(3_000_000), Some(4_000_000)).unwrap();
    set_time(&before.path("world/link"), -5, 7);
    set_time(&before.path("empty/one"), 5, 7);
    set_time(&before.path("empty"), 6, 8);
    let (archive, written) = pack(&before);
    assert_eq!((written.files, written.directories, written.links, written.skipped), (4, 4, 3, 1));
    unpack_into(&archive, &after).unwrap();
    fs::remove_file(before.path("pipe")).unwrap();
    fs::remove_file(before.path(".alula-new-0000000000000001")).unwrap();
    // Which has changed the time of the root.
    let time = |server: &Server| set_time(&server.path(""), 1, 1);
    time(&before);
    time(&after);
    assert_same(&before, &after);
    let owner = fs::metadata(after.path("")).unwrap().uid();
    assert_eq!(fs::metadata(after.path("world/level.dat")).unwrap().uid(), owner);
    assert!(fs::metadata(after.path("zeros")).unwrap().blocks() < 100, "zeros are a hole");
    let mut owners = HashMap::new();
    let mut note = |item: Item| owners.extend([(item.name, item.meta.owner)]);
    list(archive.as_slice(), &Progress::new(), &mut note).unwrap();
    assert_eq!(owners[b"world/level.dat".as_slice()], Some((3_000_000, 4_000_000)));
}

#[test]
fn trees_without_files_and_without_small_files() {
    for content in [None, Some(5 << 20)] {
        let (before, after) = (Server::new(None), Server::new(None));
        fs::create_dir_all(before.path("a/b")).unwrap();
        if let Some(length) = content {
            before.put("c/big", vec![1; length]);
            before.put("d/bigger", vec![2; length + 1]);
        }
        fs::create_dir_all(before.path("z/y")).unwrap();
        let (archive, _) = pack(&before);
        unpack_into(&archive, &after).unwrap();
        assert_same(&before, &after);
        let entries = tar::Archive::new(GzDecoder::new(archive.as_slice())).entries().unwrap().count();
        assert_eq!(entries, if content.is_some() { 2 } else { 5 }, "directories are entries only without files");
    }
}

#[test]
fn an_empty_tree_has_no_entry_at_which_go_wings_would_fail() {
    let (before, after) = (Server::new(None), Server::new(None));
    let (archive, written) = pack(&before);
    assert_eq!(inflate(&archive), [0; 1024]);
    assert_eq!((written.directories, unpack_into(&archive, &after).unwrap().directories), (0, 0));
    symlink("nowhere", before.path("link")).unwrap();
    let (archive, _) = pack(&before);
    assert_eq!(tar::Archive::new(GzDecoder::new(archive.as_slice())).entries().unwrap().count(), 1);
}

#[test]
fn many_directories_are_spread_over_records() {
    let (before, after) = (Server::new(None), Server::new(None));
    for number in 0..3000 {
        let directory = format!("{number:0200}/{}", number % 7);
        fs::create_dir_all(before.path(&directory)).unwrap();
        if number % 100 == 0 {
            before.put(&format!("{directory}/file"), "x");
        }
    }
    let (archive, _) = pack(&before);
    unpack_into(&archive, &after).unwrap();
    assert_same(&before, &after);
    let tar = inflate(&archive);
    for block in tar.chunks_exact(512).filter(|block| &block[257..262] == b"ustar" && block[156] == b'x') {
        let size = tar::Header::from_byte_slice(block).entry_size().unwrap();
        assert!(size <= 520 << 10, "{size}");
    }
}

#[test]
fn ignored_files_are_not_in_it() {
    let server = Server::new(None);
    for name in ["logs/a", "logs/sub/b", "x/logs/c", "keep.txt", "drop.txt", "cache/d", "other/e"] {
        server.put(name, "x");
    }
    fs::create_dir_all(server.path("cache/empty")).unwrap();
    let names = |text: &str| {
        let ignore = IgnoreList::parse(text).unwrap();
        let (archive, _) = pack_with(&server, &ignore, &Progress::new()).unwrap();
        let mut names = Vec::new();
        list(archive.as_slice(), &Progress::new(), |item| names.push(item.shown())).unwrap();
        names.sort();
        names.join(" ")
    };
    assert_eq!(names("logs\n*.txt\ncache/"), ". other other/e x");
    assert_eq!(
        names("/logs\n*.txt\n!keep.txt\ncache/\n!cache/d"),
        ". cache/d keep.txt other other/e x x/logs x/logs/c"
    );
}

#[test]
fn single_paths_come_back() {
    let server = Server::new(None);
    server.put("a/b/file", "content");
    server.put("a/c", "other");
    fs::hard_link(server.path("a/c"), server.path("d")).unwrap();
    symlink("c", server.path("a/link")).unwrap();
    let (archive, _) = pack(&server);
    let one = |name: &str| {
        let mut content = Vec::new();
        let found = read_one(archive.as_slice(), name.as_bytes(), &mut content, &Progress::new()).unwrap();
        (found, content)
    };
    assert_eq!(one("./a/b/file"), (OneFile::Read(7), b"content".to_vec()));
    assert_eq!(one("a/link").0, OneFile::Other(ItemKind::Symlink(b"c".to_vec())));
    assert_eq!(one("d").0, OneFile::Other(ItemKind::HardLink(b"a/c".to_vec())));
    assert_eq!((one("a/b/").0, one("a/x").0), (OneFile::Other(ItemKind::Directory), OneFile::Missing));
    let after = Server::new(None);
    after.put("a/c", "present");
    let unpacked = unpack_with(&archive, &after, Some(&[path("a/b"), path("d")]), false).unwrap();
    assert_eq!((unpacked.files, unpacked.directories, unpacked.skipped), (1, 1, 1));
    assert_eq!(fs::read(after.path("a/b/file")).unwrap(), b"content");
    assert_eq!(fs::read(after.path("a/c")).unwrap(), b"present");
    assert!(!after.path("d").exists() && !after.path("a/link").is_symlink());
}

#[test]
fn what_is_in_the_way_is_replaced() {
    let server = Server::new(None);
    server.put("file", "new");
    server.put("dir/file", "new");
    symlink("target", server.path("link")).unwrap();
    server.put("first", "linked");
    fs::hard_link(server.path("first"), server.path("second")).unwrap();
    let (archive, _) = pack(&server);
    let after = Server::new(Some(1000));
    symlink("../outside/secret", after.path("file")).unwrap();
    symlink("../outside", after.path("dir")).unwrap();
    after.put("link/deep/file", "x");
    after.put("first/deep", "x");
    after.put("second", "old");
    after.put("stays", "here");
    unpack_into(&archive, &after).unwrap();
    after.assert_confined();
    fs::remove_file(after.path("stays")).unwrap();
    set_time(&server.path(""), 1, 1);
    set_time(&after.path(""), 1, 1);
    assert_same(&server, &after);
}

#[test]
fn the_disk_account_holds() {
    let server = Server::new(None);
    server.put("a", vec![1; 600_000]);
    server.put("b", vec![0; 600_000]);
    let (archive, _) = pack(&server);
    let after = Server::new(Some(1_000_000));
    assert!(matches!(unpack_into(&archive, &after), Err(ArchiveError::NoSpace)));
    assert!(after.tree.account().used() <= 1_000_000);
    let after = Server::new(Some(1_200_000));
    unpack_into(&archive, &after).unwrap();
    // Again over what is there: nothing is charged twice.
    unpack_into(&archive, &after).unwrap();
    assert_eq!(after.tree.account().used(), 1_200_000);
}

#[test]
fn the_denylist_holds_for_transfers_only() {
    let server = Server::new(None);
    server.put("secret.key", "x");
    server.put("a/b", "y");
    let (archive, _) = pack(&server);
    for (denylist, exists) in [(true, false), (false, true)] {
        let after = Server::with_denylist(None, &["*.key"]);
        let unpacked = unpack_with(&archive, &after, None, denylist).unwrap();
        assert_eq!((after.path("secret.key").exists(), unpacked.skipped), (exists, u64::from(denylist)));
        assert!(after.path("a/b").exists());
    }
}

#[test]
fn the_estimate_is_not_too_small() {
    let server = Server::new(None);
    let noise: Vec<u8> = (0..3_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    server.put("noise", &noise);
    fs::hard_link(server.path("noise"), server.path("noise 2")).unwrap();
    for number in 0..500 {
        server.put(&format!("{}/{number}", "d".repeat(200)), "x");
    }
    let estimate = estimate(&server.tree, &IgnoreList::default(), &Progress::new()).unwrap();
    let (archive, written) = pack(&server);
    assert_eq!(estimate.content, written.content);
    let tar = inflate(&archive).len() as u64;
    assert!(estimate.uncompressed + 2048 >= tar && estimate.uncompressed < tar * 2, "{estimate:?} {tar}");
    assert!(archive.len() as u64 <= estimate.max_archive());
}

#[test]
fn cancelling_ends_both_directions() {
    let server = Server::new(None);
    server.put("a", vec![1; 3 << 20]);
    let (archive, _) = pack(&server);
    let progress = Progress::new();
    progress.cancel();
    let result = pack_with(&server, &IgnoreList::default(), &progress);
    assert!(matches!(result, Err(ArchiveError::Cancelled)), "{result:?}");
    let result = verify(archive.as_slice(), BOTH, None, &progress);
    assert!(matches!(result, Err(ArchiveError::Cancelled)), "{result:?}");
    // In the middle.
    let progress = Progress::new();
    let pace = |_| progress.cancel();
    let options = WriteOptions {
        ignore: &IgnoreList::default(),
        level: 0,
        hashes: BOTH,
        spawn: None,
        pace: Some(&pace),
        progress: &progress,
    };
    assert!(matches!(write(&server.tree, Vec::new(), options), Err(ArchiveError::Cancelled)));
}

#[test]
fn the_end_is_two_blocks_and_nothing() {
    let server = Server::new(None);
    server.put("a", "x");
    let tar = inflate(&pack(&server).0);
    let content = tar.len() - 1024;
    assert!(tar[content..].iter().all(|byte| *byte == 0));
    // Before it is the block of the content.
    assert_eq!(tar[content - 512], b'x');
    let name = CString::new("a").unwrap();
    assert_eq!(&tar[content - 1024..content - 1022], name.as_bytes_with_nul());
}
