use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;

use rustix::fs::AtFlags;

use super::super::super::tests::{Outside, make_dir, while_swapping};
use super::*;

struct Folder {
    folder: tempfile::TempDir,
    root: Arc<OwnedFd>,
}

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = rustix::fs::open(folder.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        make_dir(&folder.path().join("real/sub"));
        fs::write(folder.path().join("real/sub/file"), "text").unwrap();
        Self { folder, root: Arc::new(root) }
    }

    fn link(&self, text: &str, at: &str) {
        symlink(text, self.path(at)).unwrap();
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn resolve(&self, path: &str, follow: Follow, method: Method) -> Result<Location, TreeError> {
        resolve(&self.root, &UserPath::parse(OsStr::new(path)).unwrap(), follow, method)
    }

    /// The resolved path, the same with both methods; or the error.
    fn leads_to(&self, path: &str, follow: Follow) -> String {
        let resolve = |method| match self.resolve(path, follow, method) {
            Ok(location) => {
                if let Ok(stat) = rustix::fs::statat(location.parent(), location.name(), AtFlags::SYMLINK_NOFOLLOW) {
                    let at_path = fs::symlink_metadata(self.folder.path().join(location.path().as_path())).unwrap();
                    assert_eq!(stat.st_ino, at_path.ino(), "{path}: the descriptor and the path differ");
                }
                location.path().to_string()
            }
            Err(error) => error.to_string(),
        };
        let (kernel, names) = (resolve(Method::Kernel), resolve(Method::Names));
        assert_eq!(kernel, names, "{path}");
        kernel
    }
}

#[test]
fn paths_with_and_without_links() {
    let folder = Folder::new();
    folder.link("real", "alias");
    folder.link("sub/file", "real/to-file");
    folder.link("../real/./sub/../sub", "real/around");
    folder.link("alias/sub", "twice");
    folder.link("..", "real/up");
    folder.link("real/sub/missing", "to-missing");
    for (path, expected) in [
        ("", "/"),
        ("real/sub/file", "/real/sub/file"),
        ("alias", "/real"),
        ("alias/sub/file", "/real/sub/file"),
        ("alias/to-file", "/real/sub/file"),
        ("real/around/file", "/real/sub/file"),
        ("twice/file", "/real/sub/file"),
        ("real/up", "/"),
        ("real/up/real/up/alias/sub", "/real/sub"),
        ("to-missing", "/real/sub/missing"),
        ("real/new", "/real/new"),
    ] {
        assert_eq!(folder.leads_to(path, Follow::Yes), expected, "{path}");
    }
    assert_eq!(folder.leads_to("alias", Follow::No), "/alias");
    assert_eq!(folder.leads_to("alias/to-file", Follow::No), "/real/to-file");
}

#[test]
fn nothing_leads_outside() {
    let (folder, outside) = (Folder::new(), Outside::new());
    folder.link("..", "up");
    folder.link("../..", "real/up-twice");
    folder.link(outside.path().to_str().unwrap(), "absolute");
    folder.link("/real", "absolute-inside");
    folder.link("real/../../x", "around");
    folder.link("loop", "loop");
    folder.link("/proc/self/root", "magic");
    for path in ["up", "up/x", "real/up-twice", "absolute", "absolute/file", "absolute-inside", "around", "magic/etc"] {
        assert!(folder.leads_to(path, Follow::Yes).contains("leads out"), "{path}");
    }
    assert!(folder.leads_to("loop", Follow::Yes).contains("too many links"));
    assert!(folder.leads_to("loop/x", Follow::No).contains("too many links"));
    assert_eq!(folder.leads_to("up", Follow::No), "/up");
    assert!(folder.leads_to("real/sub/file/x", Follow::No).contains("not a directory"));
    assert!(folder.leads_to("missing/x", Follow::No).contains("no such file"));
}

#[test]
fn links_that_appear_meanwhile_lead_nowhere() {
    for method in [Method::Kernel, Method::Names] {
        let (folder, outside) = (Folder::new(), Outside::new());
        symlink(outside.path(), folder.path("evil")).unwrap();
        let host = fs::metadata(outside.path()).unwrap().ino();
        while_swapping(&folder.path("evil"), &folder.path("real"), || {
            for _ in 0..3000 {
                if let Ok(location) = folder.resolve("real/sub", Follow::Yes, method) {
                    let parent = rustix::fs::fstat(location.parent()).unwrap();
                    assert_ne!(parent.st_ino, host);
                }
            }
        });
    }
}
