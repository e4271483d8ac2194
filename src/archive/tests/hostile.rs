//! Archives that are made to harm.

use super::build::Item::{Device, File, HardLink, Symlink};
use super::build::{KINDS, build, pack, tar};
use super::*;
use crate::files::tree::TreeError;

/// The refusal and the entry that the message names.
fn refused(result: Result<Extraction, ArchiveError>) -> (String, Refusal) {
    match result {
        Err(ArchiveError::Refused { entry, refusal }) => (entry, refusal),
        other => panic!("not refused: {other:?}"),
    }
}

/// The formats that can be made with any name.
fn any_names() -> impl Iterator<Item = &'static &'static str> {
    KINDS.iter().filter(|kind| !matches!(**kind, "rar4" | "rar5"))
}

#[test]
fn names_that_lead_out_stay_at_the_root() {
    for kind in any_names() {
        let server = Server::new(None);
        let items = [
            File("../../evil", b"1"),
            File("/abs", b"2"),
            File("a/../../../b", b"3"),
            File("./././c", b"4"),
            File("//d//e", b"5"),
        ];
        server.unpack(&format!("x.{kind}"), build(kind, &items)).unwrap_or_else(|error| panic!("{kind}: {error}"));
        let content = server.content();
        let names: Vec<&str> = content.keys().map(String::as_str).collect();
        assert_eq!(names, ["abs", "b", "c", "d", "d/e", "evil"], "{kind}");
        server.assert_confined();
    }
}

#[test]
fn a_file_that_is_the_root_is_refused() {
    for kind in any_names() {
        for name in ["..", ".", "/", "a/.."] {
            let server = Server::new(None);
            let result = server.unpack(&format!("x.{kind}"), build(kind, &[File(name, b"x")]));
            // In zip and tar, a name with a slash at its end is a directory.
            if result.is_err() {
                assert_eq!(refused(result), (name.to_owned(), Refusal::Name), "{kind}");
            }
            assert!(server.content().is_empty(), "{kind} {name}");
            server.assert_confined();
        }
    }
}

#[test]
fn nothing_is_written_through_a_link_that_leads_out() {
    for kind in KINDS {
        for target in ["../outside", "/tmp", "..", "a/../../outside"] {
            let server = Server::new(None);
            let items =
                [File("a/x", b"1"), Symlink("link", target), File("link/evil", b"2"), File("link/secret", b"3")];
            let result = server.unpack(&format!("x.{kind}"), build(kind, &items));
            assert_eq!(refused(result), ("link/evil".to_owned(), Refusal::Outside), "{kind} {target}");
            server.assert_confined();
            assert!(!Path::new("/tmp/evil").exists());
        }
    }
}

#[test]
fn no_file_outside_is_replaced_through_a_link() {
    for kind in KINDS {
        for target in ["../outside/secret", "../outside/new"] {
            let server = Server::new(None);
            let items = [Symlink("link", target), File("link", b"evil")];
            let result = server.unpack(&format!("x.{kind}"), build(kind, &items));
            assert_eq!(refused(result).0, "link", "{kind} {target}");
            server.assert_confined();
        }
    }
}

#[test]
fn a_chain_of_links_does_not_lead_out() {
    for kind in KINDS {
        let server = Server::new(None);
        let items = [Symlink("d/up", ".."), Symlink("d/further", "up/.."), File("d/further/outside/secret", b"evil")];
        let result = server.unpack(&format!("x.{kind}"), build(kind, &items));
        assert_eq!(refused(result).0, "d/further/outside/secret", "{kind}");
        server.assert_confined();
    }
}

#[test]
fn hard_links_to_other_places_are_not_made() {
    let server = Server::new(None);
    let outside = server.folder.path().join("outside/secret");
    for target in ["../outside/secret", "../../outside/secret", outside.to_str().unwrap()] {
        let result = server.unpack("x.tar", tar(&[HardLink("name", target)]));
        let found = matches!(
            &result,
            Err(ArchiveError::Entry { entry, source: TreeError::NotFound(_) }) if entry == "name"
        );
        assert!(found, "{result:?}");
    }
    let result = server.unpack("x.tar", tar(&[Symlink("link", "../outside"), HardLink("name", "link/secret")]));
    assert_eq!(refused(result), ("name".into(), Refusal::Outside));
    let result = server.unpack("x.tar", tar(&[Symlink("l", "../outside/secret"), HardLink("name", "l")]));
    assert_eq!(refused(result), ("name".into(), Refusal::Target));
    server.assert_confined();
}

#[test]
fn a_hard_link_shows_nothing_of_the_denylist() {
    let server = Server::with_denylist(None, &["secret.txt"]);
    server.put("secret.txt", "hidden");
    server.unpack("x.tar", tar(&[HardLink("name", "secret.txt"), File("other", b"x")])).unwrap();
    assert!(!server.path("name").exists());
    let result = server.unpack("x.tar", tar(&[Symlink("here", "."), HardLink("name", "here/secret.txt")]));
    assert!(!server.path("name").exists(), "{result:?}");
}

#[test]
fn devices_are_refused() {
    for kind in KINDS {
        let server = Server::new(None);
        let items = [File("before", b"1"), Device("dev/sda"), File("after", b"2")];
        let result = server.unpack(&format!("x.{kind}"), build(kind, &items));
        assert_eq!(refused(result), ("dev/sda".into(), Refusal::Device), "{kind}");
        server.assert_confined();
    }
}

#[test]
fn the_last_of_several_entries_with_a_name_stays() {
    for kind in KINDS {
        let server = Server::new(Some(1000));
        let items = [File("x", b"first one"), File("./x", b"second"), Symlink("x2", "a"), Symlink("x2", "b")];
        server.unpack(&format!("a.{kind}"), build(kind, &items)).unwrap();
        let content = server.content();
        assert_eq!(content["x"], file("second"), "{kind}");
        assert_eq!(content["x2"], Found::Link("b".into()), "{kind}");
        assert_eq!(server.tree.account().used(), 6, "{kind}");
    }
}

#[test]
fn a_directory_is_not_replaced_by_a_file() {
    for kind in KINDS {
        let server = Server::new(None);
        let result = server.unpack(&format!("a.{kind}"), build(kind, &[File("d/x", b"1"), File("d", b"2")]));
        let named =
            matches!(&result, Err(ArchiveError::Entry { entry, source: TreeError::IsDirectory(_) }) if entry == "d");
        assert!(named, "{kind}: {result:?}");
        assert_eq!(server.content()["d/x"], file("1"));
    }
}

#[test]
fn truncated_archives_are_damaged() {
    let noise: Vec<u8> = (0..100_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for kind in KINDS {
        let whole = build(kind, &[File("inner/file", &noise), File("other", &noise)]);
        for cut in [whole.len() / 10, whole.len() / 2, whole.len() * 9 / 10] {
            for limit in [None, Some(10 << 20)] {
                let server = Server::new(limit);
                let result = server.unpack(&format!("a.{kind}"), &whole[..cut]);
                assert!(matches!(result, Err(ArchiveError::Damaged(_))), "{kind} cut at {cut}: {result:?}");
                server.assert_confined();
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_found_before_anything_is_written() {
    let big = vec![0; 700_000];
    let names = ["f1", "f2", "f3", "f4", "f5"];
    let items: Vec<_> = names.iter().map(|name| File(name, &big)).collect();
    for kind in KINDS {
        let server = Server::new(Some(3 << 20));
        let result = server.unpack(&format!("a.{kind}"), build(kind, &items));
        assert!(matches!(result, Err(ArchiveError::NoSpace)), "{kind}: {result:?}");
        assert!(server.content().is_empty(), "{kind}");
        assert_eq!(server.tree.account().used(), 0, "{kind}");
    }
}

#[test]
fn a_bomb_stays_within_the_limit() {
    let zeros = vec![0; 20 << 20];
    for extension in ["gz", "bz2", "xz", "zst", "lz4"] {
        let server = Server::new(Some(1 << 20));
        let result = server.unpack(&format!("zeros.{extension}"), pack(extension, &zeros));
        assert!(matches!(result, Err(ArchiveError::NoSpace)), "{extension}: {result:?}");
        assert!(server.content().is_empty(), "{extension}");
        assert_eq!(server.tree.account().used(), 0);
    }
}

#[test]
fn a_declared_size_out_of_proportion_is_refused() {
    let server = Server::new(None);
    let mut archive = tar(&[File("big", b"")]);
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes().copy_from_slice(&archive[..512]);
    header.set_size(5 << 40);
    header.set_cksum();
    archive[..512].copy_from_slice(header.as_bytes());
    for extension in ["tar", "gz"] {
        let (entry, refusal) = refused(server.unpack("a", pack(extension, &archive)));
        assert_eq!(entry, "big");
        assert!(matches!(refusal, Refusal::Ratio | Refusal::TooLarge), "{refusal:?}");
    }
    assert!(server.content().is_empty());
}

#[test]
fn a_size_that_overflows_is_an_error() {
    for size in [u64::MAX, u64::MAX - 511, 1 << 63] {
        for limit in [None, Some(1 << 20)] {
            let server = Server::new(limit);
            let mut archive = tar(&[File("big", b""), File("other", b"x")]);
            let mut header = tar::Header::new_gnu();
            header.as_mut_bytes().copy_from_slice(&archive[..512]);
            header.set_size(size);
            header.set_cksum();
            archive[..512].copy_from_slice(header.as_bytes());
            assert!(server.unpack("a.tar", archive).is_err());
            server.assert_confined();
        }
    }
}

#[test]
fn a_long_header_is_not_held_in_memory() {
    let server = Server::new(None);
    let mut header = tar::Header::new_gnu();
    header.set_path("././@LongLink").unwrap();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_size(64 << 20);
    header.set_cksum();
    let mut archive = header.as_bytes().to_vec();
    archive.resize(archive.len() + (64 << 20), b'a');
    let result = server.unpack("a.tar.gz", pack("gz", &archive));
    assert!(matches!(&result, Err(ArchiveError::Damaged(why)) if why.contains("too long")), "{result:?}");
}

#[test]
fn entries_of_a_zip_do_not_share_their_content() {
    let archive = build("zip", &[File("a", &[0; 10_000])]);
    // The directory entry again, with another name.
    let end = archive.len() - 22;
    let start = u32::from_le_bytes(archive[end + 16..end + 20].try_into().unwrap()) as usize;
    let mut copy = archive[start..end].to_vec();
    copy[46] = b'b';
    let mut doubled = [&archive[..end], &copy, &archive[end..]].concat();
    let end = doubled.len() - 22;
    doubled[end + 8..end + 12].copy_from_slice(&[2, 0, 2, 0]);
    let length = ((end - start) as u32).to_le_bytes();
    doubled[end + 12..end + 16].copy_from_slice(&length);
    let server = Server::new(None);
    assert_eq!(refused(server.unpack("a.zip", doubled)), ("b".into(), Refusal::Overlap));
}

#[test]
fn archives_in_archives_are_files() {
    for kind in KINDS {
        let inner = build("zip", &[File("x", &vec![0; 1 << 20])]);
        let server = Server::new(Some(100_000));
        server.unpack(&format!("a.{kind}"), build(kind, &[File("inner.zip", &inner)])).unwrap();
        assert_eq!(server.content()["inner.zip"], Found::File(inner), "{kind}");
    }
}

#[test]
fn names_that_are_no_paths_are_refused() {
    let long = "d/".repeat(2100) + "x";
    for (kind, name) in [("7z", long.as_str()), ("zip", long.as_str()), ("zip", "a\0b")] {
        let server = Server::new(None);
        let (_, refusal) = refused(server.unpack(&format!("a.{kind}"), build(kind, &[File(name, b"x")])));
        assert_eq!(refusal, Refusal::Name, "{kind}");
    }
}
