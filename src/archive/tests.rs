//! Archives against a real directory: what they contain, what they must not do, and random damage.

pub(super) mod build;
mod formats;
mod hostile;
mod mutated;
mod packed;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::*;
use crate::files::Root;
use crate::files::account::DiskAccount;
use crate::files::denylist::Denylist;
use crate::files::tree::Tree;
use crate::files::user_path::UserPath;
use crate::progress::Progress;

/// A server's directory with something outside of it.
pub(super) struct Server {
    pub(super) folder: tempfile::TempDir,
    pub(super) tree: Tree,
}

impl Server {
    pub(super) fn new(limit: Option<u64>) -> Self {
        Self::with_denylist(limit, &[])
    }

    pub(super) fn with_denylist(limit: Option<u64>, denylist: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for directory in ["server", "outside"] {
            fs::create_dir(folder.path().join(directory)).unwrap();
        }
        fs::write(folder.path().join("outside/secret"), "secret").unwrap();
        let owner = fs::metadata(folder.path()).unwrap();
        let root = Root::open(&folder.path().join("server"), owner.uid(), owner.gid()).unwrap();
        let denylist = Arc::new(Denylist::new(denylist.iter().copied()));
        Self { tree: Tree::new(root, denylist, DiskAccount::new(limit, 0)), folder }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("server").join(name)
    }

    /// Puts a file there, uncharged.
    pub(super) fn put(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Unpacks an archive that is put there for it.
    fn unpack(&self, name: &str, archive: impl AsRef<[u8]>) -> Result<Extraction, ArchiveError> {
        self.put(name, archive);
        let result = self.extract(name, "");
        fs::remove_file(self.path(name)).unwrap();
        result
    }

    fn extract(&self, name: &str, into: &str) -> Result<Extraction, ArchiveError> {
        extract(&self.tree, &path(name), &path(into), &Progress::new())
    }

    fn compress(&self, names: &[&str], format: Format) -> Result<UserPath, ArchiveError> {
        let what = Compression {
            directory: UserPath::root(),
            names: names.iter().map(Into::into).collect(),
            format,
            level: 6,
        };
        let names = archive_names(OsStr::new("packed"), format, "now");
        compress(&self.tree, &what, names, None, &Progress::new())
    }

    /// What is in the directory.
    fn content(&self) -> BTreeMap<String, Found> {
        let mut found = BTreeMap::new();
        collect(&self.path(""), "", &mut found);
        found
    }

    /// Nothing outside has changed, and no unfinished file is left inside.
    pub(super) fn assert_confined(&self) {
        let mut outside = BTreeMap::new();
        collect(&self.folder.path().join("outside"), "", &mut outside);
        assert_eq!(outside, BTreeMap::from([("secret".to_owned(), file("secret"))]));
        assert_eq!(fs::read_dir(self.folder.path()).unwrap().count(), 2);
        let secret = fs::metadata(self.folder.path().join("outside/secret")).unwrap();
        assert_eq!(secret.nlink(), 1);
        let unfinished: Vec<_> = self.content().into_keys().filter(|name| name.contains(".alula-new")).collect();
        assert!(unfinished.is_empty(), "{unfinished:?}");
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Found {
    Directory,
    File(Vec<u8>),
    Link(String),
}

fn file(content: &str) -> Found {
    Found::File(content.into())
}

fn collect(directory: &Path, prefix: &str, found: &mut BTreeMap<String, Found>) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type().unwrap();
        let value = match () {
            () if kind.is_symlink() => Found::Link(fs::read_link(entry.path()).unwrap().to_string_lossy().into()),
            () if kind.is_dir() => {
                collect(&entry.path(), &format!("{name}/"), found);
                Found::Directory
            }
            () => Found::File(fs::read(entry.path()).unwrap()),
        };
        found.insert(name, value);
    }
}

fn path(name: &str) -> UserPath {
    UserPath::parse(OsStr::new(name)).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}
