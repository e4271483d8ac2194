use proptest::prelude::*;

use super::*;

fn links(count: usize, query: &str) -> UploadLinks {
    let parts = (1..=count).map(|part| format!("https://s3.example/b?partNumber={part}{query}")).collect();
    UploadLinks { parts, part_size: 100, max_concurrent: Some(4) }
}

fn time(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_790_000_000_000 + seconds * 1000)
}

fn part(part_number: u32) -> Part {
    Part { etag: format!("\"{part_number}\""), part_number }
}

#[test]
fn links_expire_when_the_first_of_them_does() {
    for (query, seconds) in [
        ("&X-Amz-Date=20200101T000000Z&X-Amz-Expires=600", 600),
        ("&x-amz-expires=1", 1),
        ("&X-Amz-Expires=0", 3600),
        ("&X-Amz-Expires=-5", 3600),
        ("&X-Amz-Expires=99999999999", 3600),
        ("&Expires=600", 3600),
        ("", 3600),
    ] {
        assert_eq!(Begun::new(5, 1, time(0), links(2, query)).expires, time(seconds), "{query}");
    }
    let mut both = links(1, "&X-Amz-Expires=600");
    both.parts.extend(links(1, "&X-Amz-Expires=60").parts);
    assert_eq!(Begun::new(5, 1, time(0), both).expires, time(60));
}

#[test]
fn parts_cover_the_archive() {
    for (size, lengths) in [(1, &[1][..]), (99, &[99]), (100, &[100]), (101, &[100, 1]), (250, &[100, 100, 50])] {
        let begun = Begun::new(size, 1, time(0), links(9, ""));
        assert_eq!(begun.count() as usize, lengths.len());
        let mut offset = 0;
        for (number, length) in (1..).zip(lengths) {
            assert_eq!(begun.range(number), (offset, *length), "{size} {number}");
            offset += length;
        }
        assert_eq!(offset, size);
    }
}

#[test]
fn a_journal_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = path_for(&folder.path().join("37cf6260.tar.gz"));
    assert_eq!(path, folder.path().join("37cf6260.upload"));
    assert!(Journal::open(&path, 250).unwrap().is_none());
    let begun = Begun::new(250, 2, time(5), links(5, "&X-Amz-Signature=secret"));
    assert!(!format!("{begun:?}").contains("secret"));
    let mut journal = Journal::begin(&path, begun.clone()).unwrap();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions()) & 0o777,
        0o600
    );
    journal.add(part(3)).unwrap();
    journal.add(part(1)).unwrap();
    assert_eq!((journal.missing(), journal.complete()), (vec![2], None));

    // Whatever a crash leaves of the next line, it is sent again.
    let whole = std::fs::read(&path).unwrap();
    let line = line(&part(2)).unwrap();
    for torn in 0..line.len() {
        std::fs::write(&path, [&whole[..], &line[..torn]].concat()).unwrap();
        let mut journal = Journal::open(&path, 250).unwrap().unwrap();
        assert_eq!((&journal.begun, journal.missing()), (&begun, vec![2]), "{torn}");
        journal.add(part(2)).unwrap();
        let journal = Journal::open(&path, 250).unwrap().unwrap();
        assert_eq!(journal.complete(), Some(vec![part(1), part(2), part(3)]), "{torn}");
    }
    assert!(Journal::open(&path, 251).unwrap().is_none(), "another archive");
    remove(&path).unwrap();
    remove(&path).unwrap();
    assert!(Journal::open(&path, 250).unwrap().is_none());
}

#[test]
fn damaged_journals_lose_parts_and_invent_none() {
    let first = line(&Begun::new(250, 1, time(0), links(3, ""))).unwrap();
    let with = |rest: &str| parse(&[&first[..], rest.as_bytes()].concat()).unwrap();
    assert_eq!(with("").etags.len(), 0);
    for damaged in [
        "{\"etag\":\"\\\"1\\\"\",\"part_number\":0}\n",
        "{\"etag\":\"\\\"1\\\"\",\"part_number\":4}\n",
        "{\"etag\":\"\",\"part_number\":1}\n",
        "{\"etag\":5,\"part_number\":1}\n",
        "\n",
        "\0\0\0\0\n",
    ] {
        let content = with(&format!(
            "{}{damaged}{}",
            "{\"etag\":\"x\",\"part_number\":2}\n", "{\"etag\":\"y\",\"part_number\":1}\n"
        ));
        assert_eq!(content.etags, BTreeMap::from([(2, "x".to_owned())]), "{damaged:?}");
    }
    // Without a valid first line nothing is known.
    let text = String::from_utf8(first.clone()).unwrap();
    for invalid in [
        String::new(),
        text.trim_end().to_owned(),
        text.replace("\"version\":1", "\"version\":2"),
        text.replace("\"part_size\":100", "\"part_size\":0"),
        text.replace("\"part_size\":100", "\"part_size\":1"),
        format!("\n{text}"),
    ] {
        assert_eq!(parse(invalid.as_bytes()), None, "{invalid}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        parse(&bytes);
        let first = line(&Begun::new(250, 1, time(0), links(3, ""))).unwrap();
        let content = parse(&[&first[..], &bytes].concat()).unwrap();
        prop_assert!(content.length <= (first.len() + bytes.len()) as u64);
        prop_assert!(content.etags.keys().all(|number| (1..=3).contains(number)));
    }

    /// Any beginning of a journal is a journal with the parts whose lines are complete.
    #[test]
    fn any_crash_leaves_the_acknowledged_parts(order in Just((1..=20u32).collect::<Vec<_>>()).prop_shuffle(), cut in any::<prop::sample::Index>()) {
        let mut bytes = line(&Begun::new(2000, 1, time(0), links(20, ""))).unwrap();
        let header = bytes.len();
        let mut ends = Vec::new();
        for number in &order {
            bytes.extend(line(&part(*number)).unwrap());
            ends.push(bytes.len());
        }
        let cut = cut.index(bytes.len() + 1);
        let content = parse(&bytes[..cut]);
        prop_assert_eq!(content.is_some(), cut >= header);
        if let Some(content) = content {
            let durable = ends.iter().filter(|end| **end <= cut).count();
            let expected: BTreeMap<u32, String> = order[..durable].iter().map(|number| (*number, part(*number).etag)).collect();
            prop_assert_eq!(content.etags, expected);
        }
    }
}
