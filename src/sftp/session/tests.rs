//! Sessions over real files: what clients rely on, and requests of any kind in any order.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::config::NodeConfig;
use crate::files::Root;
use crate::files::account::DiskAccount;
use crate::files::denylist::Denylist;
use crate::files::tree::Tree;
use crate::model::Record;
use crate::server_files::ServerFiles;
use crate::sessions::Sessions;
use crate::sftp::permissions::Permissions;
use crate::sftp::wire::client::{Reply, encode, init, read_replies};
use crate::sftp::wire::{Attributes, Handle, Ids, OpenFlags, Times};
use crate::testing::{TestNode, TestPanel, panel_manifest, server_id};

const OK: u32 = Status::Ok as u32;
const EOF: u32 = Status::Eof as u32;
const MISSING: u32 = Status::NoSuchFile as u32;
const DENIED: u32 = Status::PermissionDenied as u32;
const FAILURE: u32 = Status::Failure as u32;
const UNSUPPORTED: u32 = Status::Unsupported as u32;
const QUOTA: u32 = Status::QuotaExceeded as u32;

const READ: OpenFlags =
    OpenFlags { read: true, write: false, append: false, create: false, truncate: false, exclusive: false };
const WRITE: OpenFlags = OpenFlags { read: false, write: true, create: true, truncate: true, ..READ };
const NONE: Attributes = Attributes { size: None, ids: None, mode: None, times: None };

/// A client of a server with files of its own.
struct Client {
    session: Session,
    tree: Tree,
    root: PathBuf,
    next: u32,
    _folder: tempfile::TempDir,
    node: TestNode,
}

impl Client {
    fn with(permissions: &[&str], limit: Option<u64>, config: impl FnOnce(&mut NodeConfig)) -> Self {
        let node = TestNode::builder().panel(TestPanel::with_servers()).config(config).build();
        node.context.store.create(panel_manifest(1, "run"), Record::default(), []).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::write(folder.path().join("secret"), "outside").unwrap();
        let owner = &node.context.node.config.owner;
        let denylist = Arc::new(Denylist::new(["*.deny"]));
        let account = DiskAccount::new(limit, 0);
        let tree = Tree::new(Root::open(&root, owner.uid, owner.gid).unwrap(), denylist, account);
        let sessions = Sessions::default();
        let access = Access {
            server: server_id(1),
            user: Uuid::from_u128(7),
            permissions: Permissions::named(permissions.iter().copied()),
            peer: "192.0.2.1:5".parse().unwrap(),
            session: sessions.open(server_id(1), Uuid::from_u128(7), sessions.begin()).unwrap(),
        };
        let files = ServerFiles::new(node.context.clone());
        let service = Service::new(node.context.clone(), files, Arc::new(TestPanel::default()), sessions);
        let session = Session::new(service, Arc::new(access), Arc::default());
        let mut client = Self { session, tree, root, next: 0, _folder: folder, node };
        let (more, replies) = client.send(&init(3));
        assert_eq!((more, replies.is_empty()), (Ok(false), false));
        client
    }

    fn new() -> Self {
        Self::with(&["*"], None, |_| {})
    }

    fn send(&mut self, bytes: &[u8]) -> (Result<bool, Malformed>, Vec<u8>) {
        let (mut requests, mut replies) = (BytesMut::from(bytes), Replies::default());
        let more = self.session.handle_all(Ok(self.tree.clone()), &mut requests, &mut replies, usize::MAX);
        (more, replies.into_bytes())
    }

    fn ask(&mut self, request: &Request<'_>) -> Reply {
        self.next += 1;
        let (more, replies) = self.send(&encode(self.next, request));
        assert_eq!(more, Ok(false));
        let mut replies = read_replies(&replies).unwrap();
        assert_eq!(replies.len(), 1, "{request:?}");
        let (id, reply) = replies.pop().unwrap();
        assert_eq!(id, self.next);
        reply
    }

    /// The status of a request.
    fn status(&mut self, request: &Request<'_>) -> u32 {
        match self.ask(request) {
            Reply::Status(code, _) => code,
            other => panic!("{request:?}: {other:?}"),
        }
    }

    fn open(&mut self, path: &str, flags: OpenFlags) -> Result<Option<Handle>, u32> {
        match self.ask(&Request::Open { path: path.as_bytes(), flags, attributes: NONE }) {
            Reply::Handle(handle) => Ok(Some(handle)),
            Reply::Status(code, _) => Err(code),
            other => panic!("{other:?}"),
        }
    }

    fn put(&mut self, path: &str, flags: OpenFlags, offset: u64, data: &[u8]) -> u32 {
        match self.open(path, flags) {
            Ok(handle) => {
                let written = self.status(&Request::Write { handle, offset, data });
                assert_eq!(self.status(&Request::Close(handle)), OK);
                written
            }
            Err(code) => code,
        }
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.root.join(name)).unwrap()
    }
}

#[tokio::test]
async fn files_are_appended_resumed_and_created_exclusively() {
    let mut client = Client::new();
    assert_eq!(client.put("/a/b/file", WRITE, 0, b"0123456789"), OK);
    let resume = OpenFlags { truncate: false, ..WRITE };
    assert_eq!(client.put("a/b/file", resume, 8, b"XYZ"), OK);
    assert_eq!(client.read("a/b/file"), "01234567XYZ");
    assert_eq!(client.put("a/b/file", OpenFlags { append: true, ..resume }, 0, b"+"), OK);
    assert_eq!(client.read("a/b/file"), "01234567XYZ+");
    assert_eq!(client.put("a/b/file", OpenFlags { exclusive: true, ..WRITE }, 0, b"new"), FAILURE);
    assert_eq!(client.read("a/b/file"), "01234567XYZ+");
    assert_eq!(client.put("a/b/file", OpenFlags { create: false, ..WRITE }, 0, b"short"), OK);
    assert_eq!(client.read("a/b/file"), "short");
    assert_eq!(client.put("missing", OpenFlags { create: false, ..WRITE }, 0, b""), MISSING);

    let both = client.open("a/b/file", OpenFlags { read: true, ..resume }).unwrap();
    assert_eq!(client.status(&Request::Write { handle: both, offset: 1, data: b"HH" }), OK);
    assert_eq!(client.ask(&Request::Read { handle: both, offset: 0, length: 100 }), Reply::Data(b"sHHrt".to_vec()));
    assert_eq!(client.status(&Request::Read { handle: both, offset: 5, length: 100 }), EOF);
    assert_eq!(client.status(&Request::Fsync(both)), OK);
    let read = client.open("a/b/file", READ).unwrap();
    assert_eq!(client.status(&Request::Write { handle: read, offset: 0, data: b"x" }), FAILURE);
    assert_eq!(client.status(&Request::Close(read)), OK);
    assert_eq!(client.status(&Request::Close(read)), FAILURE);
    assert_eq!(client.open("a", READ), Err(FAILURE));
    assert_eq!(client.open("a/b/missing", READ), Err(MISSING));
}

#[tokio::test]
async fn only_the_attributes_that_are_given_change() {
    let mut client = Client::new();
    assert_eq!(client.put("file", WRITE, 0, b"0123456789"), OK);
    let path = client.root.join("file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let set = |attributes| Request::Setstat { path: b"file", attributes };
    let times = Some(Times { accessed: 1, modified: 2 });
    assert_eq!(client.status(&set(Attributes { times, ..NONE })), OK);
    let found = fs::metadata(&path).unwrap();
    assert_eq!((found.mode() & 0o7777, found.atime(), found.mtime(), found.len()), (0o755, 1, 2, 10));
    assert_eq!(client.status(&set(Attributes { size: Some(4), ..NONE })), OK);
    assert_eq!(client.read("file"), "0123");
    assert_eq!(client.status(&set(Attributes { mode: Some(0o104_640), ..NONE })), OK);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
    let (uid, gid) = (found.uid(), found.gid());
    assert_eq!(client.status(&set(Attributes { ids: Some(Ids { uid, gid }), ..NONE })), OK);
    assert_eq!(client.status(&set(Attributes { ids: Some(Ids { uid: uid + 1, gid }), ..NONE })), DENIED);
    assert_eq!(client.status(&Request::Setstat { path: b"no", attributes: Attributes { times, ..NONE } }), MISSING);

    let handle = client.open("file", OpenFlags { truncate: false, ..WRITE }).unwrap();
    let attributes = Attributes { mode: Some(0o600), times, size: Some(2), ids: None };
    assert_eq!(client.status(&Request::Fsetstat { handle, attributes }), OK);
    let Reply::Attributes(found) = client.ask(&Request::Fstat(handle)) else { panic!("no attributes") };
    assert_eq!((found.size, found.mode, found.times), (Some(2), Some(0o100_600), times));

    // The client's mode, without write permission for others.
    let attributes = Attributes { mode: Some(0o777), ..NONE };
    assert_eq!(client.status(&Request::Mkdir { path: b"x/y", attributes }), OK);
    assert_eq!(fs::metadata(client.root.join("x/y")).unwrap().mode() & 0o7777, 0o755);
    assert_eq!(client.status(&Request::Mkdir { path: b"x/y", attributes }), FAILURE);
    let open = Request::Open { path: b"script", flags: WRITE, attributes };
    assert!(matches!(client.ask(&open), Reply::Handle(_)));
    assert_eq!(fs::metadata(client.root.join("script")).unwrap().mode() & 0o7777, 0o755);
}

#[tokio::test]
async fn links_are_made_read_and_followed_inside_only() {
    let mut client = Client::new();
    assert_eq!(client.put("dir/file", WRITE, 0, b"inner"), OK);
    assert_eq!(client.status(&Request::Symlink { target: b"dir/file", path: b"link" }), OK);
    assert_eq!(client.status(&Request::Symlink { target: b"../secret", path: b"out" }), OK);
    assert_eq!(client.ask(&Request::Readlink { path: b"out" }), Reply::Names(vec![b"../secret".to_vec()]));
    let mode = |client: &mut Client, request: &Request<'_>| match client.ask(request) {
        Reply::Attributes(found) => found.mode.map(|mode| mode & 0o170_000),
        other => panic!("{other:?}"),
    };
    assert_eq!(mode(&mut client, &Request::Lstat { path: b"link" }), Some(0o120_000));
    assert_eq!(mode(&mut client, &Request::Stat { path: b"link" }), Some(0o100_000));
    assert_eq!(client.open("out", READ), Err(DENIED));
    assert_ne!(client.put("out", WRITE, 0, b"stolen"), OK);
    assert_eq!(fs::read_to_string(client.root.join("../secret")).unwrap(), "outside");
    assert_eq!(client.status(&Request::Hardlink { from: b"dir/file", to: b"hard" }), OK);
    assert_eq!(fs::metadata(client.root.join("hard")).unwrap().nlink(), 2);
    for (path, real) in [(&b"."[..], "/"), (b"a/../b/./c", "/b/c"), (b"../../x", "/x"), (b"", "/")] {
        let expected = Reply::Names(vec![real.as_bytes().to_vec()]);
        assert_eq!(client.ask(&Request::Realpath { path }), expected);
    }
    assert_eq!(client.ask(&Request::ExpandPath { path: b"~/x" }), Reply::Names(vec![b"/x".to_vec()]));
    let pipe = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, client.root.join("pipe"), rustix::fs::FileType::Fifo, pipe, 0).unwrap();
    assert_eq!(mode(&mut client, &Request::Stat { path: b"pipe" }), Some(0o010_000));
    assert_eq!(client.open("pipe", READ), Err(FAILURE));
}

#[tokio::test]
async fn names_are_listed_renamed_and_removed() {
    let mut client = Client::new();
    for name in ["one", "two", "dir/inner", "x.deny"] {
        let path = client.root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, name).unwrap();
    }
    let Reply::Handle(handle) = client.ask(&Request::Opendir { path: b"/" }) else { panic!("no handle") };
    let Reply::Names(mut names) = client.ask(&Request::Readdir(Some(handle))) else { panic!("no names") };
    names.sort();
    assert_eq!(names, [&b"dir"[..], b"one", b"two", b"x.deny"]);
    assert_eq!(client.status(&Request::Readdir(Some(handle))), EOF);
    assert_eq!(client.status(&Request::Rename { from: b"one", to: b"two", replace: false }), FAILURE);
    assert_eq!(client.status(&Request::Rename { from: b"one", to: b"y.deny", replace: true }), FAILURE);
    assert_eq!(client.status(&Request::Rename { from: b"one", to: b"two", replace: true }), OK);
    assert_eq!(client.read("two"), "one");
    assert_eq!(client.status(&Request::Remove { path: b"dir" }), FAILURE);
    assert_eq!(client.status(&Request::Remove { path: b"missing" }), MISSING);
    assert_eq!(client.status(&Request::Rmdir { path: b"two" }), FAILURE);
    assert_eq!(client.status(&Request::Rmdir { path: b"/" }), DENIED);
    assert_eq!(client.status(&Request::Rmdir { path: b"dir" }), OK);
    let Reply::Status(code, text) = client.ask(&Request::Remove { path: b"x.deny" }) else { panic!("no status") };
    assert_eq!((code, text.as_str()), (FAILURE, "filesystem: file access prohibited: [/x.deny] is on the denylist"));
    assert!(client.root.join("x.deny").exists() && !client.root.join("dir").exists());
}

#[tokio::test]
async fn data_is_copied_between_open_files_within_the_limit() {
    let mut client = Client::with(&["*"], Some(1000), |_| {});
    assert_eq!(client.put("from", WRITE, 0, &[7; 400]), OK);
    let from = client.open("from", READ).unwrap();
    let to = client.open("to", WRITE).unwrap();
    let copy = |offset, length| Request::CopyData { from, offset, length, to, to_offset: 0 };
    assert_eq!(client.status(&copy(100, 200)), OK);
    assert_eq!(fs::metadata(client.root.join("to")).unwrap().len(), 200);
    assert_eq!(client.status(&copy(0, 0)), OK);
    assert_eq!(fs::read(client.root.join("to")).unwrap(), [7; 400]);
    assert_eq!(client.status(&Request::Write { handle: to, offset: 400, data: &[1; 201] }), QUOTA);
    assert_eq!(client.status(&Request::Write { handle: to, offset: 400, data: &[1; 200] }), OK);
    assert_eq!(client.tree.account().used(), 1000);
    let Reply::Numbers(space) = client.ask(&Request::Statvfs { path: b"/" }) else { panic!("no numbers") };
    assert_eq!(space[4], 0, "no block is available");
    let Reply::Numbers(limits) = client.ask(&Request::Limits) else { panic!("no numbers") };
    assert_eq!(limits[1..3], [261_120, 261_120]);
}

#[tokio::test]
async fn rights_are_checked_before_anything_is_done() {
    let mut client = Client::with(&["file.read-content", "file.create"], None, |_| {});
    fs::write(client.root.join("old"), "old").unwrap();
    symlink("new", client.root.join("dangling")).unwrap();
    assert_eq!(client.put("old", WRITE, 0, b"x"), DENIED);
    assert_eq!(client.put("new", WRITE, 0, b"x"), OK);
    assert_eq!(client.put("new", WRITE, 0, b"y"), DENIED);
    assert!(client.open("old", READ).is_ok());
    for request in [
        Request::Stat { path: b"old" },
        Request::Opendir { path: b"/" },
        Request::Setstat { path: b"old", attributes: NONE },
        Request::Rename { from: b"old", to: b"x", replace: false },
        Request::Remove { path: b"old" },
        Request::Rmdir { path: b"old" },
        Request::Hardlink { from: b"old", to: b"x" },
        Request::Readlink { path: b"dangling" },
    ] {
        assert_eq!(client.status(&request), DENIED, "{request:?}");
    }
    assert_eq!(client.read("old"), "old");
}

#[tokio::test]
async fn a_node_that_accepts_no_changes_and_a_server_that_is_held_refuse() {
    let mut client = Client::with(&["*"], None, |node| node.sftp.read_only = true);
    fs::write(client.root.join("file"), "old").unwrap();
    assert_eq!(client.put("file", WRITE, 0, b"x"), UNSUPPORTED);
    assert_eq!(client.status(&Request::Remove { path: b"file" }), UNSUPPORTED);
    assert!(client.open("file", READ).is_ok());

    let mut client = Client::new();
    let handle = client.open("file", WRITE).unwrap();
    let suspend = |manifest: &mut crate::model::Manifest| manifest.spec.suspended = true;
    client.node.context.store.sync(server_id(1), None, suspend, |_| {}).unwrap();
    assert_eq!(client.status(&Request::Write { handle, offset: 0, data: b"x" }), DENIED);
    assert_eq!(client.status(&Request::Stat { path: b"/" }), DENIED);
    assert_eq!(client.read("file"), "");
}

#[tokio::test]
async fn handles_are_limited() {
    let mut client = Client::new();
    assert_eq!(client.put("file", WRITE, 0, b"x"), OK);
    let open: Vec<_> = (0..300).map_while(|_| client.open("file", READ).ok()).collect();
    assert_eq!(open.len(), crate::sftp::limits::HANDLES);
    assert_eq!(client.status(&Request::Close(open[3])), OK);
    assert!(client.open("file", READ).is_ok());
}

const NAMES: [&[u8]; 9] = [b"a", b"b", b"a/b", b"a/b/c", b"..", b"../secret", b"/", b"link", b"x.deny"];

/// A request about a few names and handles, so that requests meet.
fn any_request() -> impl Strategy<Value = Request<'static>> {
    let name = || prop::sample::select(NAMES.to_vec());
    let handle = || prop::option::of((0_u32..6).prop_map(Handle));
    let attributes = || {
        (prop::option::of(0_u64..5000), any::<Option<u32>>(), any::<Option<(u32, u32)>>()).prop_map(
            |(size, mode, times)| Attributes {
                size,
                mode,
                times: times.map(|(accessed, modified)| Times { accessed, modified }),
                ids: None,
            },
        )
    };
    let flags = any::<[bool; 6]>().prop_map(|[read, write, append, create, truncate, exclusive]| OpenFlags {
        read,
        write,
        append,
        create,
        truncate,
        exclusive,
    });
    let offset = || prop_oneof![0_u64..2000, Just(u64::MAX), Just(i64::MAX as u64)];
    prop_oneof![
        (name(), flags, attributes()).prop_map(|(path, flags, attributes)| Request::Open { path, flags, attributes }),
        handle().prop_map(Request::Close),
        (handle(), offset(), any::<u32>()).prop_map(|(handle, offset, length)| Request::Read {
            handle,
            offset,
            length
        }),
        (handle(), offset()).prop_map(|(handle, offset)| Request::Write { handle, offset, data: b"some data" }),
        name().prop_map(|path| Request::Stat { path }),
        (name(), attributes()).prop_map(|(path, attributes)| Request::Setstat { path, attributes }),
        (handle(), attributes()).prop_map(|(handle, attributes)| Request::Fsetstat { handle, attributes }),
        name().prop_map(|path| Request::Opendir { path }),
        handle().prop_map(Request::Readdir),
        handle().prop_map(Request::Fstat),
        name().prop_map(|path| Request::Remove { path }),
        name().prop_map(|path| Request::Rmdir { path }),
        (name(), attributes()).prop_map(|(path, attributes)| Request::Mkdir { path, attributes }),
        (name(), name(), any::<bool>()).prop_map(|(from, to, replace)| Request::Rename { from, to, replace }),
        (name(), name()).prop_map(|(target, path)| Request::Symlink { target, path }),
        (name(), name()).prop_map(|(from, to)| Request::Hardlink { from, to }),
        (handle(), offset(), 0_u64..3000, handle(), 0_u64..3000).prop_map(|(from, offset, length, to, to_offset)| {
            Request::CopyData { from, offset, length, to, to_offset }
        }),
        name().prop_map(|path| Request::Readlink { path }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Each request has one answer, nothing outside changes, and the account agrees with the disk.
    #[test]
    fn requests_of_any_kind_in_any_order_are_answered(requests in prop::collection::vec(any_request(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let mut client = Client::with(&["*"], Some(20_000), |_| {});
        let bytes: Vec<u8> = requests.iter().zip(0..).flat_map(|(request, id)| encode(id, request)).collect();
        let (more, replies) = client.send(&bytes);
        prop_assert_eq!(more, Ok(false));
        let ids: Vec<u32> = read_replies(&replies).unwrap().into_iter().map(|(id, _)| id).collect();
        prop_assert_eq!(ids, (0..requests.len() as u32).collect::<Vec<_>>());
        prop_assert_eq!(fs::read_to_string(client.root.join("../secret")).unwrap(), "outside");
        prop_assert_eq!(fs::read_dir(client.root.join("..")).unwrap().count(), 2);
        prop_assert!(client.tree.account().used() <= 20_000);
    }

    #[test]
    fn bytes_that_are_no_requests_end_the_channel_or_are_refused(bytes: Vec<u8>, prefix in 0_u32..300) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let mut client = Client::new();
        let framed = [&prefix.to_be_bytes()[..], &bytes].concat();
        let _ = client.send(&framed);
        let _ = client.send(&bytes);
    }
}
