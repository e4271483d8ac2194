//! Archives that are made to harm, and damaged ones.

use proptest::prelude::*;
use proptest::sample::Index;

use super::super::super::error::Refusal;
use super::super::super::tests::build::Item::{Device, Directory, File, HardLink, Symlink};
use super::super::super::tests::build::{Item as Made, tar};
use super::super::pax;
use super::*;

fn refused(result: Result<Summary, ArchiveError>) -> (String, Refusal) {
    match result {
        Err(ArchiveError::Refused { entry, refusal }) => (entry, refusal),
        other => panic!("not refused: {other:?}"),
    }
}

/// A raw entry with records before it.
fn raw(kind: tar::EntryType, name: &str, records: &[(&str, &[u8])], content: &[u8]) -> Vec<u8> {
    let mut archive = Vec::new();
    let mut add = |kind, name: &str, content: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        header.set_cksum();
        archive.extend_from_slice(header.as_bytes());
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(512), 0);
    };
    if !records.is_empty() {
        let mut text = Vec::new();
        records.iter().for_each(|(key, value)| pax::add(&mut text, key, value));
        add(tar::EntryType::XHeader, "x", &text);
    }
    add(kind, name, content);
    archive
}

fn end(mut archive: Vec<u8>) -> Vec<u8> {
    archive.extend_from_slice(&[0; 1024]);
    deflate(&archive)
}

fn is_damaged(result: Result<Summary, ArchiveError>, why: &str) {
    assert!(matches!(&result, Err(ArchiveError::Damaged(text)) if text.contains(why)), "{why}: {result:?}");
}

#[test]
fn names_that_lead_out_are_refused() {
    for name in ["../evil", "a/../../evil", "/evil", "..", "a/..", "/", "./../x"] {
        for item in [File(name, b"x"), Directory(name), Symlink(name, "x"), HardLink(name, "ok")] {
            let server = Server::new(None);
            let result = unpack_into(&deflate(&tar(&[File("ok", b""), item])), &server);
            assert!(matches!(refused(result).1, Refusal::Outside | Refusal::Name), "{name}");
            server.assert_confined();
        }
        let record = [("path", name.as_bytes())];
        let server = Server::new(None);
        refused(unpack_into(&end(raw(tar::EntryType::Regular, "x", &record, b"")), &server));
        let directory = format!("755 1 0 0 {}:{name},", name.len());
        let record = [("ALULA.directories", directory.as_bytes())];
        refused(unpack_into(&end(raw(tar::EntryType::Regular, "x", &record, b"")), &server));
        server.assert_confined();
    }
}

#[test]
fn links_are_not_followed() {
    let outside: &[&[Made<'_>]] = &[
        &[Symlink("l", "../outside"), File("l/secret", b"evil")],
        &[Symlink("l", ".."), File("l/outside/secret", b"evil")],
        &[Symlink("l", "../outside/secret"), File("l", b"evil")],
        &[Symlink("l", "../outside"), Directory("l"), File("l/new", b"evil")],
        &[Symlink("l", "../outside"), Symlink("l/x", "y")],
        &[Symlink("d/up", ".."), Symlink("d/l", "up/../outside"), File("d/l/secret", b"evil")],
    ];
    for items in outside {
        let server = Server::new(None);
        unpack_into(&deflate(&tar(items)), &server).unwrap();
        server.assert_confined();
        assert!(!server.folder.path().join("outside/new").exists());
    }
    for target in ["../outside/secret", "/etc/passwd", "l/secret", "missing", "l", "d", ".", ""] {
        let server = Server::new(None);
        let items = [Symlink("l", "../outside"), Directory("d"), HardLink("name", target)];
        let (entry, refusal) = refused(unpack_into(&deflate(&tar(&items)), &server));
        assert_eq!((entry.as_str(), refusal), ("name", Refusal::Target), "{target}");
        server.assert_confined();
    }
}

#[test]
fn devices_are_refused_and_pipes_skipped() {
    let server = Server::new(None);
    let result = unpack_into(&deflate(&tar(&[File("before", b"1"), Device("dev/sda")])), &server);
    assert_eq!(refused(result).1, Refusal::Device);
    let archive = [raw(tar::EntryType::Fifo, "pipe", &[], b""), raw(tar::EntryType::Regular, "file", &[], b"x")];
    let unpacked = unpack_into(&end(archive.concat()), &server).unwrap();
    assert_eq!((unpacked.skipped, unpacked.files), (1, 1));
    assert!(!server.path("pipe").exists() && server.path("file").exists());
}

#[test]
fn damaged_vendor_records_are_errors() {
    for (key, value) in [
        ("ALULA.directories", &b"garbage"[..]),
        ("ALULA.directories", b"755 1 0 0 99999999999999999999:a,"),
        ("ALULA.directories", b"755 1 0 0 5:a,"),
        ("ALULA.directories", b"999 1 0 0 1:a,"),
        ("ALULA.directories", b"755 1 -1 0 1:a,"),
        ("ALULA.changed", b""),
        ("ALULA.changed", b"1;grew 9:a,"),
        ("ALULA.changed", b"x;"),
        ("size", b"-1"),
        ("size", b"99999999999999999999"),
    ] {
        let server = Server::new(None);
        let archive = end(raw(tar::EntryType::Regular, "file", &[(key, value)], b""));
        assert!(matches!(unpack_into(&archive, &server), Err(ArchiveError::Damaged(_))), "{key}");
        assert!(verified(&archive).is_err());
    }
    let server = Server::new(None);
    let later = [("ALULA.later", &b"\0\xff"[..]), ("ALULA.changed", b"1;exploded 1:a,")];
    unpack_into(&end(raw(tar::EntryType::Regular, "file", &later, b"")), &server).unwrap();
}

#[test]
fn floods_and_impossible_sizes_are_errors() {
    let server = Server::new(None);
    let flood = raw(tar::EntryType::XHeader, "x", &[], b"9 path=a\n").repeat(100);
    is_damaged(unpack_into(&end(flood), &server), "too many headers");
    let mut header = tar::Header::new_ustar();
    for (kind, size, why) in [
        (tar::EntryType::XHeader, 64 << 20, "too long"),
        (tar::EntryType::GNULongName, 1 << 40, "too long"),
        (tar::EntryType::Regular, 1 << 63, "impossible"),
        (tar::EntryType::Regular, u64::MAX, "impossible"),
    ] {
        header.set_entry_type(kind);
        header.set_path("a").unwrap();
        header.set_size(size);
        header.set_cksum();
        let archive = deflate(&[header.as_bytes().as_slice(), &[0; 1024]].concat());
        is_damaged(unpack_into(&archive, &server), why);
    }
    // A size that does not fit is found before the first byte.
    let small = Server::new(Some(1000));
    let bomb = raw(tar::EntryType::Regular, "zeros", &[], &vec![0; 50 << 20]);
    assert!(matches!(unpack_into(&end(bomb), &small), Err(ArchiveError::NoSpace)));
    assert_eq!(small.tree.account().used(), 0);
    assert!(!small.path("zeros").exists());
}

#[test]
fn every_cut_and_every_addition_is_found() {
    let server = Server::new(None);
    server.put("a", "x");
    server.put("z/zeros", vec![0; 2048]);
    let (archive, _) = pack(&server);
    for cut in 0..archive.len() {
        assert!(matches!(verified(&archive[..cut]), Err(ArchiveError::Damaged(_))), "{cut}");
    }
    for more in [&b"x"[..], b"\0", &archive, b"\x1f\x8b"] {
        let longer = [&archive, more].concat();
        assert!(matches!(verified(&longer), Err(ArchiveError::Damaged(_))), "{more:.10?}");
    }
    // Below the compression: an end that is missing, or half of one.
    let tar = inflate(&archive);
    for cut in (0..=tar.len() - 512).step_by(512) {
        is_damaged(unpack_into(&deflate(&tar[..cut]), &server), "too early");
    }
    for (more, is_whole) in [(vec![0; 9 * 1024], true), (vec![0; 7], true), (vec![0, 1], false), (tar.clone(), false)] {
        assert_eq!(verified(&deflate(&[tar.clone(), more].concat())).is_ok(), is_whole);
    }
    // In two members, as some programs write it.
    let (one, two) = tar.split_at(700);
    assert!(verified(&[deflate(one), deflate(two)].concat()).is_ok());
}

#[test]
fn a_wrong_checksum_is_found() {
    let server = Server::new(None);
    server.put("a", vec![5; 100_000]);
    let (mut archive, _) = pack(&server);
    for from_end in [8, 5, 4, 1] {
        let at = archive.len() - from_end;
        archive[at] ^= 1;
        assert!(matches!(verified(&archive), Err(ArchiveError::Damaged(_))), "{from_end}");
        assert!(matches!(unpack_into(&archive, &Server::new(None)), Err(ArchiveError::Damaged(_))));
        archive[at] ^= 1;
    }
    assert!(verified(&archive).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn damaged_archives_do_no_harm(
        damages in prop::collection::vec((any::<Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<Index>()),
        below in any::<bool>(),
    ) {
        static ARCHIVE: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| {
            let server = Server::new(None);
            server.put("dir/file", b"some text that repeats, some text\n".repeat(30));
            server.put(&"n".repeat(150), "long");
            fs::create_dir_all(server.path("empty")).unwrap();
            std::os::unix::fs::symlink("../outside", server.path("link")).unwrap();
            fs::hard_link(server.path("dir/file"), server.path("other")).unwrap();
            pack(&server).0
        });
        let mut bytes = if below { inflate(&ARCHIVE) } else { ARCHIVE.clone() };
        for (at, byte) in &damages {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if below {
            for header in bytes.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
                let sum = header.iter().map(|byte| u32::from(*byte)).sum::<u32>();
                let field: u32 = header[148..156].iter().map(|byte| u32::from(*byte)).sum();
                header[148..156].copy_from_slice(format!("{:06o}\0 ", sum - field + 256).as_bytes());
            }
            bytes = deflate(&bytes);
        }
        let server = Server::new(Some(20_000));
        server.put("dir/keep", "kept");
        let _ = unpack_into(&bytes, &server);
        server.assert_confined();
        prop_assert!(server.tree.account().used() <= 20_000);
        let _ = verified(&bytes);
    }
}
