//! Operations on a server's files: what they change, what they charge, and what they refuse.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::super::tests::{NEVER, make_deep, make_dir, make_fifo, roomy_folder};
use super::*;

mod accounting;
mod races;

struct Files {
    folder: TempDir,
    tree: Tree,
}

impl Files {
    fn new() -> Self {
        Self::with(&[], None)
    }

    fn with(rules: &[&str], limit: Option<u64>) -> Self {
        let folder = roomy_folder();
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let root = Root::open(folder.path(), uid, gid).unwrap();
        Self { folder, tree: Tree::new(root, Arc::new(Denylist::new(rules)), DiskAccount::new(limit, 0)) }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn put(&self, path: &str, text: &str) {
        make_dir(self.path(path).parent().unwrap());
        fs::write(self.path(path), text).unwrap();
    }

    fn get(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    /// The sum that a measurement finds.
    fn measured(&self) -> u64 {
        let mut sum = 0;
        self.tree
            .walk(&UserPath::root(), &NEVER, &mut |entry| {
                sum += if entry.entry.is_file() { entry.entry.size } else { 0 };
                Visit::Enter
            })
            .unwrap();
        sum
    }

    fn write(&self, path: &str, text: &str) -> Result<Created, TreeError> {
        let new = NewFile { mode: 0o644, keep_mode: true, size: Some(text.len() as u64) };
        self.tree.write(&at(path), new, text.as_bytes())
    }

    fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.tree
            .walk(&UserPath::root(), &NEVER, &mut |entry| {
                paths.push(entry.path.to_string());
                Visit::Enter
            })
            .unwrap();
        paths
    }
}

fn at(path: &str) -> UserPath {
    UserPath::parse(OsStr::new(path)).unwrap()
}

fn text<T>(result: Result<T, TreeError>) -> String {
    result.err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn a_file_appears_when_it_is_whole() {
    let files = Files::new();
    files.put("a/run.sh", "old");
    fs::set_permissions(files.path("a/run.sh"), fs::Permissions::from_mode(0o750)).unwrap();
    let mut new = files.tree.create(&at("a/run.sh"), NewFile { mode: 0o644, keep_mode: true, size: None }).unwrap();
    new.write_all(b"new").unwrap();
    assert_eq!(files.get("a/run.sh"), "old");
    new.set_mtime(SystemTime::UNIX_EPOCH + Duration::from_millis(1500));
    assert_eq!(new.commit().unwrap(), Created { replaced: true });
    let found = fs::metadata(files.path("a/run.sh")).unwrap();
    assert_eq!((files.get("a/run.sh").as_str(), found.mode() & 0o777), ("new", 0o750));
    assert_eq!((found.mtime(), found.mtime_nsec()), (1, 500_000_000));

    assert_eq!(files.write("b/c/d.txt", "text").unwrap(), Created { replaced: false });
    assert_eq!(fs::metadata(files.path("b/c")).unwrap().mode() & 0o777, 0o755);
    assert_eq!(fs::metadata(files.path("b/c/d.txt")).unwrap().mode() & 0o777, 0o644);
    drop(files.tree.create(&at("b/unfinished"), NewFile { mode: 0o644, keep_mode: true, size: Some(9) }).unwrap());
    assert_eq!(files.paths(), ["/a", "/a/run.sh", "/b", "/b/c", "/b/c/d.txt"]);
}

#[test]
fn writes_follow_links_that_stay_inside() {
    let files = Files::new();
    files.put("real/file", "old");
    symlink("real/file", files.path("link")).unwrap();
    symlink("/etc/passwd", files.path("out")).unwrap();
    files.write("link", "new").unwrap();
    assert_eq!(files.get("real/file"), "new");
    assert!(files.path("link").is_symlink());
    assert!(text(files.write("out", "x")).contains("leads out"));
    assert!(text(files.tree.open(&at("out"))).contains("leads out"));
    assert!(text(files.tree.stat(&at("out"), Follow::Yes)).contains("leads out"));
    assert_eq!(files.tree.stat(&at("out"), Follow::No).unwrap().kind, EntryKind::Symlink);
    assert_eq!(files.tree.read_link(&at("out")).unwrap(), "/etc/passwd");
    let mut content = String::new();
    files.tree.open(&at("link")).unwrap().0.read_to_string(&mut content).unwrap();
    assert_eq!(content, "new");
}

#[test]
fn only_regular_files_are_opened() {
    let files = Files::new();
    make_dir(&files.path("folder"));
    make_fifo(&files.path("pipe"));
    std::os::unix::net::UnixListener::bind(files.path("socket")).unwrap();
    for path in ["pipe", "socket"] {
        assert!(text(files.tree.open(&at(path))).contains("not a regular file"), "{path}");
        assert!(text(files.write(path, "x")).contains("not a regular file"), "{path}");
        let flags = OpenFlags { create: true, truncate: true, ..OpenFlags::default() };
        assert!(text(files.tree.open_for_writing(&at(path), flags)).contains("not a regular file"), "{path}");
        assert!(text(files.tree.copy(&at(path), "", &NEVER)).contains("not a regular file"), "{path}");
    }
    assert!(text(files.tree.open(&at("folder"))).contains("is a directory"));
    assert!(text(files.write("folder", "x")).contains("is a directory"));
    assert!(text(files.write("", "x")).contains("is a directory"));
    let entries: Vec<Entry> = files.tree.list(&UserPath::root()).unwrap().map(Result::unwrap).collect();
    assert_eq!(entries.len(), 3);
    let listing = files.tree.list_sorted(&UserPath::root()).unwrap();
    assert!(entries.iter().all(|entry| listing.head(entry, &mut [0; 16]).is_none()));
    assert!(text(files.tree.list(&at("pipe"))).contains("not a directory"));
}

#[test]
fn names_of_any_bytes() {
    let files = Files::new();
    let odd = [&b"a\nb"[..], b"\xff\xfe", "ä🦀".as_bytes(), b" ", b"-rf", b"%2e%2e", b"\\..\\x", &[b'n'; 255]];
    for name in odd {
        let path = UserPath::parse(OsStr::from_bytes(name)).unwrap();
        let mut file = files.tree.create(&path, NewFile { mode: 0o600, keep_mode: false, size: None }).unwrap();
        file.write_all(name).unwrap();
        file.commit().unwrap();
        let moved = path.parent().unwrap().child(OsStr::new("dir")).child(OsStr::from_bytes(name));
        files.tree.rename(&path, &moved, Replace::Refuse).unwrap();
        files.tree.copy(&moved, "now", &NEVER).unwrap();
        assert_eq!(files.tree.stat(&moved, Follow::No).unwrap().size, name.len() as u64);
    }
    assert_eq!(files.tree.list(&at("dir")).unwrap().count(), 2 * odd.len());
    let long = UserPath::root().child(OsStr::from_bytes(&[b'n'; 256]));
    assert!(text(files.tree.stat(&long, Follow::No)).contains("too long"));
    files.tree.remove(&at("dir"), Recursive::Yes, &NEVER).unwrap();
    assert!(files.paths().is_empty());
}

#[test]
fn directories_are_created_once() {
    let files = Files::new();
    files.put("file", "");
    symlink("real", files.path("link")).unwrap();
    make_dir(&files.path("real"));
    assert!(files.tree.create_directory(&at("a/b/c"), true, 0o755).unwrap());
    assert!(!files.tree.create_directory(&at("a/b/c"), true, 0o700).unwrap());
    assert!(files.tree.create_directory(&at("link/x"), false, 0o700).unwrap());
    assert_eq!(fs::metadata(files.path("real/x")).unwrap().mode() & 0o777, 0o700);
    assert!(text(files.tree.create_directory(&at("missing/x"), false, 0o755)).contains("no such file"));
    for path in ["file", "file/x", "file/x/y"] {
        assert!(text(files.tree.create_directory(&at(path), true, 0o755)).contains("not a directory"), "{path}");
    }
    assert!(!files.tree.create_directory(&UserPath::root(), true, 0o755).unwrap());
}

#[test]
fn renames_refuse_and_replace() {
    let files = Files::new();
    files.put("a", "a");
    files.put("b", "b");
    files.put("folder/x", "x");
    let rename = |from, to, replace| files.tree.rename(&at(from), &at(to), replace);
    assert!(text(rename("a", "b", Replace::Refuse)).contains("already exists"));
    assert!(text(rename("a", "folder", Replace::Allow)).contains("already exists"));
    assert!(text(rename("missing", "b", Replace::Refuse)).contains("no such file"));
    assert!(text(rename("folder", "folder/in/itself", Replace::Refuse)).contains("into itself"));
    assert!(matches!(rename("", "x", Replace::Refuse), Err(TreeError::IsRoot)));
    assert!(matches!(rename("a", "", Replace::Allow), Err(TreeError::IsRoot)));
    rename("a", "a", Replace::Refuse).unwrap();
    rename("a", "b", Replace::Allow).unwrap();
    rename("folder", "new/deep/folder", Replace::Refuse).unwrap();
    files.tree.hard_link(&at("b"), &at("c")).unwrap();
    rename("b", "c", Replace::Allow).unwrap();
    assert_eq!(files.get("c"), "a");
    assert!(!files.path("b").exists());
    symlink("nowhere", files.path("link")).unwrap();
    rename("link", "new/link", Replace::Refuse).unwrap();
    assert_eq!(fs::read_link(files.path("new/link")).unwrap(), PathBuf::from("nowhere"));
}

#[test]
fn the_denylist_holds_in_every_operation() {
    let files = Files::with(&["secret.txt", "/config/anchored", "*.key", "!public.key"], None);
    files.put("secret.txt", "s");
    files.put("config/anchored", "s");
    files.put("plain", "p");
    files.put("deep/secret.txt", "s");
    files.put("deep/other", "o");
    symlink("secret.txt", files.path("alias")).unwrap();
    symlink("config", files.path("conf")).unwrap();
    let tree = &files.tree;
    let denied = |result: Result<(), TreeError>| matches!(result, Err(TreeError::Denied(_)));
    for path in ["secret.txt", "alias", "conf/anchored", "config/anchored", "missing/secret.txt", "plain/secret.txt"] {
        let path = at(path);
        assert!(denied(tree.open(&path).map(drop)), "open {path}");
        assert!(denied(files.write(&path.to_string(), "x").map(drop)), "write {path}");
        let flags = OpenFlags { create: true, ..OpenFlags::default() };
        assert!(denied(tree.open_for_writing(&path, flags).map(drop)), "write in place {path}");
        assert!(denied(tree.copy(&path, "", &NEVER).map(drop)), "copy {path}");
        let mode = Attributes { mode: Some(0o777), ..Attributes::default() };
        assert!(denied(tree.set_attributes(&path, Follow::Yes, mode)), "mode of {path}");
    }
    for path in ["secret.txt", "conf/anchored"] {
        let path = at(path);
        assert!(denied(tree.rename(&path, &at("x"), Replace::Refuse)), "{path}");
        assert!(denied(tree.rename(&at("plain"), &path, Replace::Allow)), "{path}");
        assert!(denied(tree.remove(&path, Recursive::Yes, &NEVER).map(drop)), "{path}");
        assert!(denied(tree.hard_link(&path, &at("x"))), "{path}");
        assert!(denied(tree.hard_link(&at("plain"), &path)), "{path}");
        assert!(denied(tree.symlink(OsStr::new("plain"), &path)), "{path}");
    }
    // What is in a directory moves with it.
    assert!(denied(tree.rename(&at("config"), &at("c2"), Replace::Refuse)));
    files.put("c3/anchored", "evil");
    assert!(denied(tree.rename(&at("deep"), &at("d2"), Replace::Refuse)));
    fs::remove_dir_all(files.path("config")).unwrap();
    assert!(denied(tree.rename(&at("c3"), &at("config"), Replace::Refuse)), "a denied path cannot be made by a move");
    files.write("public.key", "p").unwrap();
    // Removed around it.
    files.put("deep/more/x", "x");
    let removed = tree.remove(&at("deep"), Recursive::Yes, &NEVER).unwrap();
    assert_eq!(removed, Removed { files: 2, bytes: 2, kept: true });
    assert_eq!(files.get("deep/secret.txt"), "s");
    assert!(!files.path("deep/more").exists());
}

#[test]
fn attributes_are_changed_one_by_one() {
    let files = Files::new();
    files.put("file", "12345");
    symlink("file", files.path("link")).unwrap();
    make_dir(&files.path("folder"));
    let set = |path: &str, follow, attributes| files.tree.set_attributes(&at(path), follow, attributes);
    let modified = SystemTime::UNIX_EPOCH - Duration::from_millis(1500);
    set("link", Follow::Yes, Attributes { modified: Some(modified), ..Attributes::default() }).unwrap();
    assert_eq!(files.tree.stat(&at("file"), Follow::No).unwrap().modified, modified);
    let before = fs::metadata(files.path("file")).unwrap();
    set("file", Follow::Yes, Attributes { mode: Some(0o4755), ..Attributes::default() }).unwrap();
    let found = fs::metadata(files.path("file")).unwrap();
    assert_eq!((found.mode() & 0o7777, found.mtime()), (0o755, before.mtime()));
    set("folder", Follow::Yes, Attributes { mode: Some(0o2775), ..Attributes::default() }).unwrap();
    assert_eq!(fs::metadata(files.path("folder")).unwrap().mode() & 0o7777, 0o2775);
    set("file", Follow::Yes, Attributes { size: Some(2), ..Attributes::default() }).unwrap();
    assert_eq!(files.get("file"), "12");
    assert!(set("link", Follow::No, Attributes { mode: Some(0o777), ..Attributes::default() }).is_err());
    assert!(set("folder", Follow::Yes, Attributes { size: Some(2), ..Attributes::default() }).is_err());
    set("link", Follow::No, Attributes { modified: Some(modified), ..Attributes::default() }).unwrap();
    assert_eq!(files.tree.stat(&at("link"), Follow::No).unwrap().modified, modified);
    assert!(files.tree.space().unwrap().available > 0);
}

#[test]
fn deep_trees_are_visited_and_removed() {
    let files = Files::new();
    make_deep(files.folder.path(), 3000);
    files.put("zz", "last");
    let (mut deepest, mut count) = (0, 0);
    files
        .tree
        .walk(&UserPath::root(), &NEVER, &mut |entry| {
            deepest = deepest.max(entry.path.depth());
            count += 1;
            Visit::Enter
        })
        .unwrap();
    assert_eq!((deepest, count), (3000, 3001));
    files.tree.rename(&at("deep"), &at("moved"), Replace::Refuse).unwrap();
    let denied = files.tree.with_denylist(Arc::new(Denylist::new(["nothing"])));
    denied.remove(&at("moved"), Recursive::Yes, &NEVER).unwrap();
    assert_eq!(files.paths(), ["/zz"]);
}

#[test]
fn long_work_is_cancelled() {
    let (files, cancelled) = (Files::new(), AtomicBool::new(true));
    files.put("folder/file", "text");
    let is_cancelled = |result: Result<(), TreeError>| matches!(result, Err(TreeError::Cancelled(_)));
    assert!(is_cancelled(files.tree.remove(&at("folder"), Recursive::Yes, &cancelled).map(drop)));
    assert!(is_cancelled(files.tree.copy(&at("folder/file"), "", &cancelled).map(drop)));
    assert!(is_cancelled(files.tree.walk(&UserPath::root(), &cancelled, &mut |_| Visit::Enter)));
    assert_eq!(files.paths(), ["/folder", "/folder/file"]);
}

#[test]
fn walks_are_ordered_and_pruned() {
    let files = Files::new();
    for path in ["b/x/1", "b/y", "a", "c/z"] {
        files.put(path, path);
    }
    symlink("b", files.path("link")).unwrap();
    assert_eq!(files.paths(), ["/a", "/b", "/b/x", "/b/x/1", "/b/y", "/c", "/c/z", "/link"]);
    let mut seen = Vec::new();
    let mut visit = |entry: WalkEntry<'_>| {
        seen.push(entry.path.to_string());
        if entry.entry.is_file() {
            assert_eq!(entry.open().unwrap().1.size, entry.entry.size);
        }
        if entry.path == at("b/x") { Visit::Skip } else { Visit::Enter }
    };
    files.tree.walk(&at("b"), &NEVER, &mut visit).unwrap();
    files.tree.walk(&at("a"), &NEVER, &mut visit).unwrap();
    assert_eq!(seen, ["/b", "/b/x", "/b/y", "/a"]);
    let mut seen = 0;
    files
        .tree
        .walk(&at("link"), &NEVER, &mut |entry| {
            assert_eq!(entry.read_link().unwrap(), "b");
            seen += 1;
            Visit::Enter
        })
        .unwrap();
    assert_eq!(seen, 1);
    assert_eq!(files.tree.real_path(&at("link/x")).unwrap(), at("b/x"));
}
