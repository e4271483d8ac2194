//! Pages of blocks that the destination has in an older version.

use super::*;

const PAGE: usize = 4096;

/// Bytes that cannot be packed.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

#[derive(Debug, Clone)]
enum Change {
    Write(Index, usize, u64),
    /// Part of its length, in 64ths.
    Resize(u64),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = prop_oneof![
        8 => (any::<Index>(), 1_usize..20_000, any::<u64>()).prop_map(|(at, length, seed)| Change::Write(at, length, seed)),
        1 => (32_u64..80).prop_map(Change::Resize),
    ];
    prop::collection::vec(change, 0..12)
}

fn apply(path: &Path, changes: &[Change]) {
    let file = fs::File::options().write(true).open(path).unwrap();
    for change in changes {
        let size = file.metadata().unwrap().len();
        match change {
            Change::Write(at, length, seed) => {
                file.write_all_at(&noise(*length, *seed), at.index(size.max(1) as usize) as u64).unwrap();
            }
            Change::Resize(part) => file.set_len(size * part / 64).unwrap(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn pages_make_the_file_the_same(
        size in 1_usize..3_500_000,
        before in changes(),
        meanwhile in changes(),
    ) {
        let mut pair = Pair::new();
        let file = pair.source().join("world");
        fs::write(&file, noise(size, 7)).unwrap();
        pair.round();
        apply(&file, &before);
        pair.sent = pair.scan(&pair.source(), None);
        let wire = send_manifest(&pair.sent[..], Vec::new()).unwrap();
        let (_, answer, _) = pair.prepare(&wire).unwrap();
        // The game goes on after the comparison.
        apply(&file, &meanwhile);
        let frames = pair.frames(&answer);
        pair.store(&frames).unwrap();
        if !meanwhile.is_empty() {
            pair.round();
        }
        prop_assert_eq!(pair.round().missing, 0);
        prop_assert!(fs::read(&file).unwrap() == fs::read(pair.destination().join("world")).unwrap());
    }
}

#[test]
fn what_travels_is_pages_and_not_blocks() {
    let mut pair = Pair::new();
    let path = pair.source().join("world");
    fs::write(&path, noise(64 << 20, 3)).unwrap();
    pair.round();
    let file = fs::File::options().write(true).open(&path).unwrap();
    // One page of each block, two of them beside each other, and a block of which nothing is left.
    for block in 0..64 {
        file.write_all_at(&noise(PAGE, 100 + block), (block << 20) + (block % 200) * PAGE as u64).unwrap();
    }
    file.write_all_at(&noise(2 * PAGE, 9), (5 << 20) + 500 * 1024).unwrap();
    file.write_all_at(&noise(1 << 20, 10), 40 << 20).unwrap();
    let sent = pair.round();
    assert_eq!(sent.missing, 64 * BLOCK);
    let least = (63 + 2) * PAGE as u64 + BLOCK;
    assert!(sent.bytes >= least && sent.bytes < least * 103 / 100, "{sent:?} {least}");
    assert_eq!(pair.round().missing, 0);
    // Half of a page, and a page at the end.
    file.write_all_at(b"x", (30 << 20) + 77).unwrap();
    file.set_len((64 << 20) + 10).unwrap();
    file.write_all_at(b"end", 64 << 20).unwrap();
    let sent = pair.round();
    assert!(sent.missing == BLOCK + 10 && sent.bytes < PAGE as u64 + 300, "{sent:?}");
}

/// An interrupted transfer has zeros where nothing has arrived.
#[test]
fn blocks_that_have_not_arrived_have_no_pages() {
    let mut pair = Pair::new();
    fs::write(pair.source().join("world"), noise(4 << 20, 3)).unwrap();
    pair.sent = pair.scan(&pair.source(), None);
    let wire = send_manifest(&pair.sent[..], Vec::new()).unwrap();
    for _ in 0..2 {
        let (_, answer, _) = pair.prepare(&wire).unwrap();
        let spans = pair.spans(&answer).unwrap();
        assert_eq!(spans, [Span { path: b"world".into(), first: 0, count: 4, pages: None }]);
    }
}

/// The list of one file with ten blocks, of which the second to the fourth and the eighth are missing; then what follows it.
fn answer(rest: &[u8]) -> Vec<u8> {
    let mut missing = MissingWriter::new(Vec::new());
    missing.add(1, &[(1, 3), (7, 1)]).unwrap();
    [&missing.finish().unwrap().0, rest].concat()
}

/// Hashes of pages of these blocks.
fn hashes(entry: u64, first: u32, blocks: u32, pages: usize) -> Vec<u8> {
    [&entry.to_le_bytes()[..], &first.to_le_bytes(), &blocks.to_le_bytes(), &vec![7; pages * 8]].concat()
}

#[test]
fn hostile_pages_are_refused() {
    let mut pair = Pair::new();
    fs::write(pair.source().join("a"), noise((9 << 20) + 5000, 1)).unwrap();
    fs::write(pair.source().join("b"), noise(1 << 20, 1)).unwrap();
    pair.sent = pair.scan(&pair.source(), None);
    let (key, end) = ([5; 32], u64::MAX.to_le_bytes());
    let spans = |parts: &[&[u8]]| pair.spans(&answer(&parts.concat()));
    for (name, parts) in [
        ("a key that breaks off", vec![&key[..7]]),
        ("no end", vec![&key[..]]),
        ("a head that breaks off", vec![&key[..], &hashes(1, 1, 1, 0)[..13]]),
        ("too few", vec![&key, &hashes(1, 1, 1, 255), &end]),
        ("too many", vec![&key, &hashes(1, 1, 1, 257), &end]),
        ("none", vec![&key, &hashes(1, 1, 0, 0), &end]),
        ("before the first block", vec![&key, &hashes(1, 0, 1, 256), &end]),
        ("of a block that is there", vec![&key, &hashes(1, 3, 2, 512), &end]),
        ("behind the file", vec![&key, &hashes(1, 10, 1, 256), &end]),
        ("behind the numbers", vec![&key, &hashes(1, 1, u32::MAX, 256), &end]),
        ("of a directory", vec![&key, &hashes(0, 0, 1, 256), &end]),
        ("of another file", vec![&key, &hashes(2, 0, 1, 256), &end]),
        ("of no file", vec![&key, &hashes(99, 0, 1, 256), &end]),
        ("twice", vec![&key, &hashes(1, 1, 1, 256), &hashes(1, 1, 1, 256), &end]),
        ("in no order", vec![&key, &hashes(1, 7, 1, 256), &hashes(1, 1, 1, 256), &end]),
    ] {
        assert!(spans(&parts).is_err(), "{name}");
    }
    let counts = |parts: &[&[u8]]| {
        let spans = spans(parts).unwrap();
        spans.iter().map(|span| (span.first, span.count, span.pages.is_some())).collect::<Vec<_>>()
    };
    assert_eq!(counts(&[]), [(1, 3, false), (7, 1, false)], "a destination that has no pages");
    assert_eq!(counts(&[&key, &end]), [(1, 3, false), (7, 1, false)]);
    let some = [(1, 1, false), (2, 1, true), (3, 1, false), (7, 1, true)];
    assert_eq!(counts(&[&key, &hashes(1, 2, 1, 256), &hashes(1, 7, 1, 256), &end]), some);
}

/// A page that has the hash of another one leaves a block that differs, and the next comparison finds it with another key.
#[test]
fn a_hash_that_is_wrong_costs_a_round() {
    let mut pair = Pair::new();
    let path = pair.source().join("world");
    fs::write(&path, noise(3 << 20, 3)).unwrap();
    pair.round();
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(&noise(PAGE, 8), 1 << 20).unwrap();
    pair.sent = pair.scan(&pair.source(), None);
    let wire = send_manifest(&pair.sent[..], Vec::new()).unwrap();
    let (_, answer, _) = pair.prepare(&wire).unwrap();
    // The destination has hashes of what the source has now.
    let (_, other, _) = pair.prepare(&wire).unwrap();
    assert_ne!(answer, other, "the key is another one");
    let mut spans = pair.spans(&answer).unwrap();
    let (source, mut frames) = (pair.tree(&pair.source()), FrameWriter::new(Vec::new()).unwrap());
    let (content, pages) = (fs::read(&path).unwrap(), spans[0].pages.take().unwrap());
    let block = &content[1 << 20..2 << 20];
    assert_eq!(pages.differing(0, block).first(), Some(&(0..PAGE)));
    spans[0].pages = Some(pages.as_they_are(block));
    send_blocks(|path| source.open(path), &spans, &mut frames, &NEVER).unwrap();
    assert_eq!(pair.store(&frames.finish().unwrap()).unwrap(), 0);
    assert!(matches!(pair.complete(), Err(ReplicationError::Differs(_))));
    assert_eq!(pair.round().missing, BLOCK);
    pair.complete().unwrap();
}
