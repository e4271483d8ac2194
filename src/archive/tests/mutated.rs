//! Archives with random damage: an error or content, never a panic, and nothing outside.

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::build::Item::{Directory, File, Symlink};
use super::build::{KINDS, build};
use super::*;

#[derive(Debug, Clone)]
enum Damage {
    Byte(Index, u8),
    Cut(Index),
    Repeat(Index, Index),
    Number(Index, u32),
}

fn damage() -> impl Strategy<Value = Damage> {
    let number = select(vec![0, 1, 0x7f, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0x8000_0000, u32::MAX]);
    prop_oneof![
        8 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        4 => (any::<Index>(), number).prop_map(|(at, number)| Damage::Number(at, number)),
        1 => any::<Index>().prop_map(Damage::Cut),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Damage::Repeat(from, to)),
    ]
}

fn apply(archive: &mut Vec<u8>, damage: &Damage) {
    if archive.is_empty() {
        return;
    }
    let length = archive.len();
    match damage {
        Damage::Byte(at, byte) => archive[at.index(length)] = *byte,
        Damage::Cut(at) => archive.truncate(at.index(length)),
        Damage::Repeat(from, to) => {
            let (from, to) = (from.index(length), to.index(length));
            let part = archive[from..length.min(from + 64)].to_vec();
            archive.splice(to..to, part);
        }
        Damage::Number(at, number) => {
            let at = at.index(length);
            let bytes = number.to_le_bytes();
            let end = length.min(at + bytes.len());
            archive[at..end].copy_from_slice(&bytes[..end - at]);
        }
    }
}

/// Damages the archive and unpacks what is left.
fn check(kind: &str, mut archive: Vec<u8>, damages: &[Damage], limit: Option<u64>) {
    damages.iter().for_each(|damage| apply(&mut archive, damage));
    let server = Server::new(limit);
    server.put("sub/keep", "kept");
    if let Err(ArchiveError::Damaged(why)) = server.unpack(&format!("a.{kind}"), archive) {
        assert!(!why.contains("unexpectedly"), "{kind}: the reader panicked");
    }
    server.assert_confined();
    if let Some(limit) = limit {
        assert!(server.tree.account().used() <= limit);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn damaged_archives_do_no_harm(
        kind in select(KINDS.to_vec()),
        damages in prop::collection::vec(damage(), 1..6),
        limit in select(vec![None, Some(20_000)]),
    ) {
        let text = b"some text that repeats, some text that repeats, some text\n".repeat(20);
        let items = [
            Directory("dir"),
            File("dir/file", &text),
            Symlink("link", "../outside"),
            File("other", b"x"),
            Symlink("dir/up", ".."),
        ];
        check(kind, build(kind, &items), &damages, limit);
    }

    #[test]
    fn damaged_headers_of_a_tar_do_no_harm(
        damages in prop::collection::vec(damage(), 1..6),
        kind in select(vec!["tar.gz", "tar.zst"]),
    ) {
        // Damaged below the compression, whose checksums would find it.
        let mut inner = super::build::tar(&[Directory("dir"), File("dir/file", b"text"), Symlink("link", "../outside")]);
        damages.iter().for_each(|damage| apply(&mut inner, damage));
        for header in inner.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
            let sum = header.iter().map(|byte| u32::from(*byte)).sum::<u32>();
            let field: u32 = header[148..156].iter().map(|byte| u32::from(*byte)).sum();
            header[148..156].copy_from_slice(format!("{:06o}\0 ", sum - field + 256).as_bytes());
        }
        let packed = super::build::pack(kind.rsplit('.').next().unwrap(), &inner);
        check(kind, packed, &[], Some(20_000));
    }
}
