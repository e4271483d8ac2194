//! What is unpacked.

use std::time::{Duration, UNIX_EPOCH};

use super::build::Item::{Directory, File, HardLink, Symlink};
use super::build::{KINDS, TIME, build, pack, tar};
use super::*;

#[test]
fn every_format_is_unpacked() {
    let content: Vec<u8> = (0..300_000u32).flat_map(|number| (number / 7).to_le_bytes()).collect();
    for kind in KINDS {
        for limit in [None, Some(10 << 20)] {
            let server = Server::new(limit);
            let items = [
                Directory("inner"),
                File("inner/run.sh", b"#!/bin/sh\n"),
                File("deep/er/file", &content),
                File("zero", b""),
                Directory("empty/folder"),
                Symlink("link", "inner/run.sh"),
                File("ü ☃.txt", b"name"),
            ];
            let done = server.unpack(&format!("a.{kind}"), build(kind, &items)).unwrap_or_else(|error| {
                panic!("{kind}: {error}");
            });
            let expected = BTreeMap::from([
                ("inner".to_owned(), Found::Directory),
                ("inner/run.sh".to_owned(), file("#!/bin/sh\n")),
                ("deep".to_owned(), Found::Directory),
                ("deep/er".to_owned(), Found::Directory),
                ("deep/er/file".to_owned(), Found::File(content.clone())),
                ("zero".to_owned(), file("")),
                ("empty".to_owned(), Found::Directory),
                ("empty/folder".to_owned(), Found::Directory),
                ("link".to_owned(), Found::Link("inner/run.sh".into())),
                ("ü ☃.txt".to_owned(), file("name")),
            ]);
            assert!(server.content() == expected, "{kind}: {:?}", server.content().keys());
            assert_eq!(done.entries, 7, "{kind}");
            assert_eq!(server.tree.account().used(), done.bytes, "{kind}");
            let script = server.path("inner/run.sh");
            assert_eq!(mode(&script), 0o750, "{kind}");
            let time = UNIX_EPOCH + Duration::from_secs(TIME);
            assert_eq!(fs::metadata(&script).unwrap().modified().unwrap(), time, "{kind}");
            assert_eq!(fs::metadata(server.path("empty/folder")).unwrap().modified().unwrap(), time, "{kind}");
            server.assert_confined();
        }
    }
}

#[test]
fn the_content_decides_and_not_the_name() {
    for kind in KINDS.iter().filter(|kind| !kind.ends_with("zz")) {
        let server = Server::new(None);
        server.unpack("really-a.zip", build(kind, &[File("x", b"content")])).unwrap();
        assert_eq!(server.content()["x"], file("content"), "{kind}");
    }
}

#[test]
fn other_files_are_no_archives() {
    for content in [&b"not an archive at all\n"[..], b"", b"PK", &[0; 2048], b"MZ"] {
        for limit in [None, Some(1 << 20)] {
            let server = Server::new(limit);
            let result = server.unpack("a.txt", content);
            assert!(matches!(result, Err(ArchiveError::UnknownFormat)), "{result:?}");
        }
    }
}

#[test]
fn an_empty_archive_has_no_entries() {
    for kind in ["tar", "zip", "tar.gz"] {
        assert_eq!(Server::new(None).unpack(&format!("a.{kind}"), build(kind, &[])).unwrap().entries, 0, "{kind}");
    }
}

#[test]
fn a_compressed_file_is_unpacked_next_to_itself() {
    for extension in ["gz", "bz2", "xz", "zst", "lz4", "sz", "zz"] {
        let server = Server::new(Some(1 << 20));
        server.put("logs/big.log", "something older and much longer than the new content");
        server.put(&format!("logs/big.log.{extension}"), pack(extension, b"just text\n"));
        server.extract(&format!("logs/big.log.{extension}"), "logs").unwrap();
        assert_eq!(server.content()["logs/big.log"], file("just text\n"), "{extension}");
    }
}

#[test]
fn several_streams_in_a_file_are_one() {
    for extension in ["gz", "bz2", "xz", "zst"] {
        let server = Server::new(None);
        let packed = [pack(extension, b"one "), pack(extension, b"two")].concat();
        server.unpack(&format!("a.{extension}"), packed).unwrap();
        assert_eq!(server.content()["a"], file("one two"), "{extension}");
    }
}

#[test]
fn hard_links_are_names_of_one_file() {
    let server = Server::new(Some(1000));
    let items = [File("a", b"content"), HardLink("b", "a"), HardLink("sub/c", "./a")];
    for _ in 0..2 {
        server.unpack("x.tar", tar(&items)).unwrap();
        let inode = |name: &str| fs::metadata(server.path(name)).unwrap().ino();
        assert!(inode("a") == inode("b") && inode("b") == inode("sub/c"));
    }
}

#[test]
fn an_archive_is_unpacked_into_the_directory_that_is_asked_for() {
    let server = Server::new(None);
    server.put("x.tar", tar(&[File("a", b"1"), HardLink("b", "a"), File("../up", b"2")]));
    server.put("work/other", "kept");
    server.extract("x.tar", "work").unwrap();
    let content = server.content();
    let names: Vec<&str> = content.keys().map(String::as_str).collect();
    assert_eq!(names, ["up", "work", "work/a", "work/b", "work/other", "x.tar"]);
}

#[test]
fn files_of_the_denylist_are_skipped() {
    for kind in KINDS {
        let server = Server::with_denylist(None, &["secret.txt", "private"]);
        server.put("secret.txt", "old");
        let items = [File("secret.txt", b"evil"), File("private/x", b"evil"), File("new.txt", b"good")];
        server.unpack(&format!("a.{kind}"), build(kind, &items)).unwrap();
        let content = server.content();
        assert_eq!(content["secret.txt"], file("old"), "{kind}");
        assert_eq!(content["new.txt"], file("good"), "{kind}");
        assert_eq!(content.len(), 2, "{kind}: {:?}", content.keys());
    }
}

#[test]
fn modes_and_times_of_directories_come_last() {
    let server = Server::new(None);
    let mut archive = tar(&[Directory("d"), File("d/f", b"x")]);
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes().copy_from_slice(&archive[..512]);
    // Without the right to enter: its owner keeps it.
    header.set_mode(0o050);
    header.set_cksum();
    archive[..512].copy_from_slice(header.as_bytes());
    server.unpack("a.tar", archive).unwrap();
    assert_eq!(mode(&server.path("d")), 0o750);
    let modified = fs::metadata(server.path("d")).unwrap().modified().unwrap();
    assert_eq!(modified, UNIX_EPOCH + Duration::from_secs(TIME));
}

#[test]
fn a_missing_archive_is_not_found() {
    let server = Server::new(None);
    let result = server.extract("nope.zip", "");
    assert!(matches!(result, Err(ArchiveError::Tree(crate::files::tree::TreeError::NotFound(_)))), "{result:?}");
}

#[test]
fn a_cancelled_run_ends_at_once() {
    for kind in KINDS {
        let server = Server::new(None);
        let name = format!("a.{kind}");
        server.put(&name, build(kind, &[File("x", b"content")]));
        let progress = Progress::new();
        progress.cancel();
        let result = extract(&server.tree, &path(&name), &path(""), &progress);
        assert!(matches!(result, Err(ArchiveError::Cancelled)), "{kind}: {result:?}");
        assert_eq!(server.content().len(), 1, "{kind}");
    }
}
