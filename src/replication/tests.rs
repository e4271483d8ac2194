//! Trees that are replicated in rounds, and what a hostile peer may send.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::manifest::Stamp;
use super::*;
use crate::files::DiskAccount;
use crate::files::tree::{Root, Tree};

mod pages;

/// Nothing is cancelled.
static NEVER: AtomicBool = AtomicBool::new(false);

/// A change below a directory, and its name.
type Change = (&'static str, fn(&Path));

/// Two trees, and what each side knows of its own.
struct Pair {
    folder: tempfile::TempDir,
    limit: Option<u64>,
    sent: Vec<u8>,
    has: Option<Vec<u8>>,
}

/// What a round has sent.
#[derive(Debug, PartialEq, Eq)]
struct Sent {
    missing: u64,
    bytes: u64,
}

impl Pair {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("source")).unwrap();
        fs::create_dir(folder.path().join("destination")).unwrap();
        fs::write(folder.path().join("outside"), "outside").unwrap();
        Self { folder, limit: None, sent: Vec::new(), has: None }
    }

    fn source(&self) -> PathBuf {
        self.folder.path().join("source")
    }

    fn destination(&self) -> PathBuf {
        self.folder.path().join("destination")
    }

    fn tree(&self, path: &Path) -> Tree {
        let owner = fs::metadata(path).unwrap();
        let root = Root::open(path, owner.uid(), owner.gid()).unwrap();
        let used = files_below(path);
        Tree::new(root, Arc::default(), DiskAccount::new(self.limit, used))
    }

    fn scan(&self, path: &Path, former: Option<&[u8]>) -> Vec<u8> {
        let former = former.map(ManifestReader::local);
        let settled_before = SystemTime::now() + Duration::from_secs(60);
        let options = Scan { former, settled_before, cancelled: &NEVER };
        scan(&self.tree(path), options, ManifestWriter::local(Vec::new())).unwrap().0
    }

    /// Takes a manifest as the destination does. Returns what is wanted, the answer, and the bytes of missing blocks.
    fn prepare(&mut self, wire: &[u8]) -> Result<(Vec<u8>, Vec<u8>, u64), ReplicationError> {
        let (wanted, summary) = receive_manifest(wire, Vec::new())?;
        let has = self.scan(&self.destination(), self.has.as_deref());
        let mut missing = MissingWriter::new(Vec::new());
        let tree = self.tree(&self.destination());
        let (wanted_reader, has_reader) = (ManifestReader::local(&wanted[..]), ManifestReader::local(&has[..]));
        let mut pages = PageWriter::new(Vec::new())?;
        let bytes = prepare(&tree, wanted_reader, has_reader, &mut missing, Some(&mut pages), &NEVER)?;
        self.has = Some(has);
        let answer = [missing.finish().unwrap().0, pages.finish().unwrap()].concat();
        assert!(answer.len() as u64 <= longest_answer(&summary));
        Ok((wanted, answer, bytes))
    }

    /// What of the source is missing.
    fn spans(&self, answer: &[u8]) -> Result<Vec<Span>, ReplicationError> {
        let mut manifest = ManifestReader::local(&self.sent[..]);
        let mut list = MissingReader::new(answer);
        while list.next_runs()?.is_some() {}
        let mut pages = PageReader::new(list.into_source())?;
        let (mut missing, mut number, mut spans) = (MissingReader::new(answer), 0, Vec::new());
        while let Some((entry, runs)) = missing.next_runs()? {
            let (path, size) = loop {
                let found = manifest.next_entry()?.ok_or(ReplicationError::Cancelled)?;
                number += 1;
                if number == entry + 1 {
                    let Content::File { size, .. } = found.content else { return Err(ReplicationError::Cancelled) };
                    break (found.path, size);
                }
            };
            for (mut first, mut count) in runs {
                while count > 0 {
                    let (taken, pages) = pages.take(entry, size, (first, count))?;
                    spans.push(Span { path: path.clone(), first: first.into(), count: taken.into(), pages });
                    (first, count) = (first + taken, count - taken);
                }
            }
        }
        pages.finish()?;
        Ok(spans)
    }

    /// The frames of what is missing.
    fn frames(&self, answer: &[u8]) -> Vec<u8> {
        let mut frames = FrameWriter::new(Vec::new()).unwrap();
        let source = self.tree(&self.source());
        send_blocks(|path| source.open(path), &self.spans(answer).unwrap(), &mut frames, &NEVER).unwrap();
        frames.finish().unwrap()
    }

    fn store(&self, frames: &[u8]) -> Result<u64, ReplicationError> {
        store_blocks(&self.tree(&self.destination()), &mut FrameReader::new(frames), &|_| (), &NEVER)
    }

    fn round(&mut self) -> Sent {
        self.sent = self.scan(&self.source(), (!self.sent.is_empty()).then_some(&self.sent[..]));
        let wire = send_manifest(&self.sent[..], Vec::new()).unwrap();
        let (_, missing, bytes) = self.prepare(&wire).unwrap();
        let frames = self.frames(&missing);
        assert!(self.store(&frames).unwrap() <= bytes);
        Sent { missing: bytes, bytes: frames.len() as u64 }
    }

    fn complete(&mut self) -> Result<(), ReplicationError> {
        let wanted = self.scan(&self.source(), None);
        let has = self.scan(&self.destination(), self.has.as_deref());
        let tree = self.tree(&self.destination());
        complete(&tree, ManifestReader::local(&wanted[..]), ManifestReader::local(&has[..])).map(drop)
    }

    /// Everything but the two trees is as it was.
    fn assert_confined(&self) {
        let mut names: Vec<_> =
            fs::read_dir(self.folder.path()).unwrap().map(|found| found.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["destination", "outside", "source"]);
        assert_eq!(fs::read(self.folder.path().join("outside")).unwrap(), b"outside");
    }
}

fn files_below(path: &Path) -> u64 {
    let mut sum = 0;
    for found in fs::read_dir(path).into_iter().flatten().flatten() {
        let kind = found.metadata().unwrap();
        sum += if kind.is_dir() {
            files_below(&found.path())
        } else if kind.is_file() {
            kind.len()
        } else {
            0
        };
    }
    sum
}

/// All of a tree. Files with several names name the first one.
fn contents(top: &Path) -> BTreeMap<PathBuf, String> {
    fn read(top: &Path, path: &Path, found: &mut BTreeMap<PathBuf, String>, seen: &mut BTreeMap<u64, PathBuf>) {
        let stat = path.symlink_metadata().unwrap();
        let below = path.strip_prefix(top).unwrap().to_owned();
        let first = seen.entry(stat.ino()).or_insert_with(|| below.clone()).clone();
        let content = if stat.is_file() {
            blake3::hash(&fs::read(path).unwrap()).to_string()
        } else if stat.is_symlink() {
            format!("{:?}", fs::read_link(path).unwrap())
        } else {
            String::new()
        };
        let time = (stat.mtime(), stat.mtime_nsec());
        found.insert(below, format!("{:o} {time:?} {first:?} {content}", stat.mode()));
        if stat.is_dir() {
            let mut paths: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
            paths.sort();
            paths.iter().for_each(|path| read(top, path, found, seen));
        }
    }
    let (mut found, mut seen) = (BTreeMap::new(), BTreeMap::new());
    read(top, top, &mut found, &mut seen);
    found
}

#[derive(Debug, Clone)]
enum Edit {
    Write(Vec<u8>, u32),
    /// Its length in kilobytes, and a byte that fills it.
    Large(u32, u8),
    /// A byte somewhere in it.
    Poke(Index, u8),
    Truncate(Index),
    Directory,
    Link(&'static str),
    /// Another name of the file at this path.
    HardLink(Vec<&'static str>),
    Remove,
    Rename(Vec<&'static str>),
}

fn path() -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(select(vec!["a", "a.b", "a-b", "world", "new\nline", "é", "-rf"]), 1..4)
}

fn edits() -> impl Strategy<Value = Vec<(Vec<&'static str>, Edit)>> {
    let mode = select(vec![0o600_u32, 0o644, 0o755, 0o444]);
    let edit = prop_oneof![
        4 => (prop::collection::vec(any::<u8>(), 0..60), mode).prop_map(|(bytes, mode)| Edit::Write(bytes, mode)),
        2 => (0_u32..3500, 0_u8..3).prop_map(|(kilobytes, byte)| Edit::Large(kilobytes, byte)),
        3 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Edit::Poke(at, byte)),
        1 => any::<Index>().prop_map(Edit::Truncate),
        2 => Just(Edit::Directory),
        1 => select(vec!["a", "/etc/passwd", "../../outside", "world"]).prop_map(Edit::Link),
        1 => path().prop_map(Edit::HardLink),
        2 => Just(Edit::Remove),
        1 => path().prop_map(Edit::Rename),
    ];
    prop::collection::vec((path(), edit), 0..25)
}

/// Makes changes, as far as they can be made. Links are not followed.
fn make(top: &Path, edits: &[(Vec<&str>, Edit)]) {
    for (names, edit) in edits {
        let path = top.join(names.iter().collect::<PathBuf>());
        let follows = path.ancestors().take_while(|path| *path != top).any(Path::is_symlink);
        if follows && !matches!(edit, Edit::Remove) || path.parent().unwrap().is_symlink() {
            continue;
        }
        // What is in the way stays there.
        let _ = fs::create_dir_all(path.parent().unwrap());
        let other = |names: &[&str]| top.join(names.iter().collect::<PathBuf>());
        let _ = match edit {
            Edit::Write(bytes, mode) => {
                fs::write(&path, bytes).and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(*mode)))
            }
            Edit::Large(kilobytes, byte) => fs::write(&path, vec![*byte; *kilobytes as usize * 1000]),
            Edit::Poke(at, byte) => fs::metadata(&path).and_then(|found| {
                let at = at.index(found.len().max(1) as usize) as u64;
                fs::File::options().write(true).open(&path)?.write_all_at(&[*byte], at)
            }),
            Edit::Truncate(at) => fs::metadata(&path).and_then(|found| {
                let length = at.index(found.len().max(1) as usize * 2) as u64;
                fs::File::options().write(true).open(&path)?.set_len(length)
            }),
            Edit::Directory => fs::create_dir(&path),
            Edit::Link(text) => symlink(text, &path),
            Edit::HardLink(names) if !other(names).is_symlink() => fs::hard_link(other(names), &path),
            Edit::Remove => fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path)),
            Edit::Rename(names) if !other(names).ancestors().any(Path::is_symlink) => fs::rename(other(names), &path),
            _ => Ok(()),
        };
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn rounds_lead_to_the_same_tree(rounds in prop::collection::vec(edits(), 1..4)) {
        let mut pair = Pair::new();
        for edits in &rounds {
            make(&pair.source(), edits);
            pair.round();
        }
        prop_assert_eq!(pair.round().missing, 0, "nothing has changed");
        pair.complete().unwrap();
        prop_assert_eq!(contents(&pair.destination()), contents(&pair.source()));
        pair.assert_confined();
    }

    #[test]
    fn damaged_manifests_and_frames_are_errors_or_content(
        edits in edits(),
        damages in prop::collection::vec((any::<Index>(), select(vec![0_u8, 1, 0x7f, 0xff]), any::<bool>()), 1..4),
    ) {
        let mut pair = Pair::new();
        make(&pair.source(), &edits);
        fs::write(pair.source().join("file"), "some content").unwrap();
        pair.sent = pair.scan(&pair.source(), None);
        let damage = |bytes: &mut Vec<u8>| {
            for (at, byte, cut) in &damages {
                let at = at.index(bytes.len().max(1));
                if *cut { bytes.truncate(at) } else if let Some(place) = bytes.get_mut(at) { *place = *byte }
            }
        };
        // As it is, without zstd, whose checks would find most of it.
        let (mut raw, _) = {
            let (mut from, mut to) = (ManifestReader::local(&pair.sent[..]), ManifestWriter::remote(Vec::new()));
            while let Some(entry) = from.next_entry().unwrap() {
                to.add(&entry, Stamp::default()).unwrap();
            }
            to.finish().unwrap()
        };
        let before = raw.clone();
        damage(&mut raw);
        let mut reader = ManifestReader::remote(&raw[..]);
        let read = loop {
            match reader.next_entry() {
                Ok(Some(_)) => {}
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        prop_assert!(read.is_err() || raw.starts_with(&before), "the root hash covers everything");
        let mut wire = send_manifest(&pair.sent[..], Vec::new()).unwrap();
        let (_, answer, _) = pair.prepare(&wire.clone()).unwrap();
        damage(&mut wire);
        let _ = pair.prepare(&wire);
        let mut damaged = answer.clone();
        damage(&mut damaged);
        let mut list = MissingReader::new(&damaged[..]);
        while let Ok(Some(_)) = list.next_runs() {}
        let mut frames = pair.frames(&answer);
        damage(&mut frames);
        let _ = pair.store(&frames);
        pair.assert_confined();
    }
}

#[test]
fn only_changed_blocks_travel() {
    let mut pair = Pair::new();
    let world = pair.source().join("world");
    // Every block is another one, and none can be packed.
    let content: Vec<u8> = (0..8 << 20_u32)
        .scan(1_u32, |state, _| {
            *state ^= *state << 13;
            *state ^= *state >> 17;
            *state ^= *state << 5;
            Some(*state as u8)
        })
        .collect();
    fs::write(&world, &content).unwrap();
    for number in 0..50 {
        fs::write(pair.source().join(number.to_string()), format!("file {number}")).unwrap();
    }
    let first = pair.round();
    assert!(first.bytes >= first.missing && first.bytes < first.missing * 101 / 100, "{first:?}");
    assert_eq!(pair.round(), Sent { missing: 0, bytes: 2 });
    let file = fs::File::options().write(true).open(&world).unwrap();
    file.write_all_at(&[content[5 << 20] ^ 1], 5 << 20).unwrap();
    let second = pair.round();
    assert_eq!(second.missing, BLOCK);
    assert!(second.bytes < 4096 + 200, "{second:?}");
    // What it is longer by is zeros, and stays a hole.
    file.set_len(100 << 20).unwrap();
    assert_eq!(pair.round().missing, 0);
    let stored = fs::metadata(pair.destination().join("world")).unwrap();
    assert_eq!(stored.len(), 100 << 20);
    assert!(stored.blocks() * 512 < 16 << 20);
    file.set_len((3 << 20) + 7).unwrap();
    assert_eq!(pair.round().missing, 7);
    pair.complete().unwrap();
    assert_eq!(contents(&pair.destination()), contents(&pair.source()));
}

#[test]
fn what_was_stored_before_a_break_is_not_sent_again() {
    let mut pair = Pair::new();
    for number in 0_u8..20 {
        fs::write(pair.source().join(number.to_string()), vec![number + 1; 300_000]).unwrap();
    }
    pair.sent = pair.scan(&pair.source(), None);
    let wire = send_manifest(&pair.sent[..], Vec::new()).unwrap();
    let mut before = 20 * 300_000;
    for cut in [1, 2, 3] {
        let (_, missing, bytes) = pair.prepare(&wire).unwrap();
        assert!(bytes <= before, "{bytes} {before}");
        let frames = pair.frames(&missing);
        let broken = pair.store(&frames[..frames.len() * cut / 4]).unwrap_err();
        assert!(matches!(broken, ReplicationError::Io { .. }), "{broken}");
        before = bytes - 300_000;
    }
    pair.round();
    pair.complete().unwrap();
    assert_eq!(contents(&pair.destination()), contents(&pair.source()));
}

#[test]
fn files_that_were_not_changed_are_not_read_again() {
    let mut pair = Pair::new();
    fs::write(pair.source().join("a"), "content").unwrap();
    pair.round();
    // With the stamps of another content it is believed, so it was not read.
    let mut lie = ManifestWriter::local(Vec::new());
    let mut manifest = ManifestReader::local(&pair.sent[..]);
    while let Some((mut entry, stamp)) = manifest.next_stamped().unwrap() {
        if let Content::File { blocks, .. } = &mut entry.content {
            blocks[0] = [7; 32];
        }
        lie.add(&entry, stamp).unwrap();
    }
    let lie = lie.finish().unwrap().0;
    let hash = |pair: &Pair| {
        let found = pair.scan(&pair.source(), Some(&lie));
        let mut found = ManifestReader::local(&found[..]);
        found.next_entry().unwrap();
        found.next_entry().unwrap().unwrap().content
    };
    assert_eq!(hash(&pair), Content::File { size: 7, blocks: vec![[7; 32]] });
    fs::write(pair.source().join("a"), "CONTENT").unwrap();
    assert_ne!(hash(&pair), Content::File { size: 7, blocks: vec![[7; 32]] });
}

#[test]
fn a_destination_that_has_something_else_is_found_out() {
    let change: [Change; 6] = [
        ("another content", |at| fs::write(at.join("a"), "CONTENT").unwrap()),
        ("another length", |at| fs::write(at.join("a"), "con").unwrap()),
        ("more", |at| fs::write(at.join("z"), "").unwrap()),
        ("less", |at| fs::remove_file(at.join("a")).unwrap()),
        ("another link", |at| {
            fs::remove_file(at.join("link")).unwrap();
            symlink("b", at.join("link")).unwrap();
        }),
        ("another kind", |at| {
            fs::remove_file(at.join("a")).unwrap();
            fs::create_dir(at.join("a")).unwrap();
        }),
    ];
    for (name, change) in change {
        let mut pair = Pair::new();
        fs::write(pair.source().join("a"), "content").unwrap();
        symlink("a", pair.source().join("link")).unwrap();
        pair.round();
        change(&pair.destination());
        assert!(matches!(pair.complete(), Err(ReplicationError::Differs(_))), "{name}");
    }
}

fn entry(path: &str, content: Content) -> Entry {
    Entry { path: path.into(), mode: 0o755, modified: (0, 0), content }
}

fn file(size: u64) -> Content {
    Content::File { size, blocks: vec![[1; 32]; size.div_ceil(BLOCK) as usize] }
}

fn wire(entries: &[Entry]) -> Vec<u8> {
    let mut manifest = ManifestWriter::local(Vec::new());
    entries.iter().for_each(|entry| manifest.add(entry, Stamp::default()).unwrap());
    // Not read back, as the peer would.
    let (local, summary) = manifest.finish().unwrap();
    let mut to = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    let mut rest = &local[..];
    for entry in entries {
        let mut encoded = Vec::new();
        entry.encode(&mut encoded);
        std::io::Write::write_all(&mut to, &rest[..4 + encoded.len()]).unwrap();
        rest = &rest[4 + encoded.len() + 29..];
    }
    std::io::Write::write_all(&mut to, &[&[0; 4][..], &summary.root].concat()).unwrap();
    to.finish().unwrap()
}

#[test]
fn hostile_manifests_are_refused() {
    let top = || entry("", Content::Directory);
    let directory = |path| entry(path, Content::Directory);
    let link = |text: &str| Content::HardLink(text.into());
    for (name, entries) in [
        ("empty", vec![]),
        ("without its top", vec![directory("a")]),
        ("twice", vec![top(), directory("a"), directory("a")]),
        ("in no order", vec![top(), directory("b"), directory("a")]),
        ("in no directory", vec![top(), entry("a/b", file(1))]),
        ("in a file", vec![top(), entry("a", file(1)), entry("a/b", file(1))]),
        ("in a link", vec![top(), entry("a", Content::Symlink(b"/etc".to_vec())), entry("a/b", file(1))]),
        ("outside", vec![top(), entry("../outside", file(1))]),
        ("absolute", vec![top(), entry("/etc/passwd", file(1))]),
        ("a name of a later file", vec![top(), entry("a", link("b")), entry("b", file(1))]),
        ("a name of nothing", vec![top(), entry("b", link("a"))]),
        ("a name of a directory", vec![top(), directory("a"), entry("b", link("a"))]),
        (
            "a name through a link",
            vec![top(), entry("a", Content::Symlink(b"..".to_vec())), entry("b", link("a/outside"))],
        ),
        ("over the limit", vec![top(), entry("a", file(5000)), entry("b", file(5001))]),
    ] {
        let mut pair = Pair::new();
        pair.limit = Some(10_000);
        assert!(pair.prepare(&wire(&entries)).is_err(), "{name}");
        pair.assert_confined();
    }
    let mut pair = Pair::new();
    pair.limit = Some(10_000);
    pair.prepare(&wire(&[top(), entry("a", file(5000)), entry("b", file(5000))])).unwrap();
}

#[test]
fn hostile_frames_are_refused() {
    let mut pair = Pair::new();
    fs::create_dir(pair.source().join("directory")).unwrap();
    fs::write(pair.source().join("directory/file"), "content").unwrap();
    symlink("directory", pair.source().join("link")).unwrap();
    symlink("directory/file", pair.source().join("name")).unwrap();
    symlink("../outside", pair.source().join("out")).unwrap();
    pair.round();
    let before = contents(&pair.destination());
    for (path, offset, content) in [
        ("absent", 0, &b"x"[..]),
        ("directory", 0, b"x"),
        ("link/file", 0, b"x"),
        ("name", 0, b"x"),
        ("out", 0, b"x"),
        ("../outside", 0, b"x"),
        ("/etc/passwd", 0, b"x"),
        ("", 0, b"x"),
        ("directory/file", 1, b"x"),
        ("directory/file", BLOCK, b"x"),
        ("directory/file", 4096, b"x"),
        ("directory/file", 4096, &[0; BLOCK as usize]),
        ("directory/file", u64::MAX - BLOCK + 1, b"x"),
        ("directory/file", 0, b""),
    ] {
        let mut frames = FrameWriter::new(Vec::new()).unwrap();
        frames.add(path.as_bytes(), offset, content).unwrap();
        assert!(pair.store(&frames.finish().unwrap()).is_err(), "{path:?} {offset}");
    }
    assert_eq!(contents(&pair.destination()), before);
    pair.assert_confined();
}

/// What was in the directory is not removed at the other end of the link.
#[test]
fn a_directory_becomes_a_link_to_another_one() {
    for target in ["world", "/etc/passwd", "../../outside"] {
        let mut pair = Pair::new();
        make(&pair.source(), &[(vec!["a", "a"], Edit::Write(b"one".into(), 0o600))]);
        make(&pair.source(), &[(vec!["world", "a"], Edit::Write(b"two".into(), 0o600))]);
        pair.round();
        make(&pair.source(), &[(vec!["a"], Edit::Remove), (vec!["a"], Edit::Link(target))]);
        pair.round();
        pair.complete().unwrap();
        assert_eq!(contents(&pair.destination()), contents(&pair.source()), "{target}");
        pair.assert_confined();
    }
}
