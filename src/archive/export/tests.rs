use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::super::tests::Server;
use super::*;
use crate::archive::backup::{Hashes, IgnoreList};
use crate::progress::Progress;

const ID: Uuid = Uuid::from_u128(7);

type Files = Rc<RefCell<BTreeMap<Uuid, Vec<u8>>>>;

#[derive(Default)]
struct Backups(Files);

struct File(Uuid, Files);

impl Write for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1.borrow_mut().entry(self.0).or_default().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Importing for Backups {
    fn backup(&mut self, id: Uuid) -> io::Result<Box<dyn Write>> {
        Ok(Box::new(File(id, self.0.clone())))
    }
}

fn exported(server: &Server) -> Vec<u8> {
    let (ignore, progress) = (IgnoreList::default(), Progress::new());
    let mut exporter = Exporter::new(Vec::new(), b"{}", b"kind: Server\n").unwrap();
    let options = WriteOptions {
        ignore: &ignore,
        level: 0,
        hashes: Hashes::default(),
        spawn: None,
        pace: None,
        progress: &progress,
    };
    exporter.data(&server.tree, options).unwrap();
    exporter.backup(ID, 7, &b"archive and more"[..]).unwrap();
    exporter.finish().unwrap()
}

fn imported(stream: &[u8], server: &Server) -> Result<Files, ArchiveError> {
    let progress = Progress::new();
    let mut entry = |_: &crate::files::user_path::UserPath| {};
    let begin = |header: &[u8]| {
        assert_eq!(header, b"{}");
        Ok::<_, ArchiveError>((server.tree.clone(), Backups::default()))
    };
    let options = UnpackOptions {
        only: None,
        denylist: false,
        hashes: Hashes::default(),
        pace: None,
        progress: &progress,
        entry: &mut entry,
    };
    read(stream, begin, options).map(|(backups, _)| backups.0)
}

fn data(server: &Server) -> std::path::PathBuf {
    server.folder.path().join("server")
}

fn server() -> Server {
    let server = Server::new(None);
    std::fs::create_dir(data(&server).join("world")).unwrap();
    std::fs::write(data(&server).join("world/level.dat"), vec![7; 2 * PIECE + 5]).unwrap();
    std::fs::write(data(&server).join("settings"), "port=1").unwrap();
    server
}

#[test]
fn a_server_is_the_same_after_its_journey() {
    let (from, to) = (server(), Server::new(None));
    let backups = imported(&exported(&from), &to).unwrap();
    assert_eq!(std::fs::read(data(&to).join("world/level.dat")).unwrap(), vec![7; 2 * PIECE + 5]);
    assert_eq!(std::fs::read_to_string(data(&to).join("settings")).unwrap(), "port=1");
    assert_eq!(backups.borrow()[&ID], b"archive");
}

#[test]
fn a_stream_that_breaks_off_anywhere_is_an_error() {
    let from = server();
    let whole = exported(&from);
    // The end of a tar may be missing: the entry `end` counts.
    let needed = whole.len() - 1024 - 512;
    for length in [0, 1, 511, 512, 600, 2000, PIECE, 2 * PIECE, needed / 2, needed - 2048, needed - 1] {
        assert!(imported(&whole[..length], &Server::new(None)).is_err(), "{length} of {}", whole.len());
    }
    assert!(imported(b"something else", &Server::new(None)).is_err());
    assert!(imported(&[0; 4096], &Server::new(None)).is_err());
}

#[test]
fn other_archives_are_refused() {
    let mut tar = Builder::new(Vec::new());
    let mut header = Header::new_ustar();
    header.set_size(2);
    header.set_entry_type(EntryType::Regular);
    tar.append_data(&mut header, "../server.json", &b"{}"[..]).unwrap_err();
    tar.append_data(&mut header, "other", &b"{}"[..]).unwrap();
    let other = tar.into_inner().unwrap();
    assert!(imported(&other, &Server::new(None)).unwrap_err().to_string().contains("alula export"));
}
