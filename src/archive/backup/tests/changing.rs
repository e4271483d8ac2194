//! Files that change while they are read.

use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// Packs while `act` is called once the archive has so many bytes.
fn pack_while(server: &Server, at: u64, act: impl Fn() + Sync) -> (Vec<u8>, Summary) {
    let (done, seen) = (AtomicBool::new(false), std::sync::atomic::AtomicU64::new(0));
    let pace = |bytes| {
        let before = seen.fetch_add(bytes, Ordering::Relaxed);
        if before >= at && !done.swap(true, Ordering::Relaxed) {
            act();
        }
    };
    let (ignore, progress) = (IgnoreList::default(), Progress::new());
    let options =
        WriteOptions { ignore: &ignore, level: 0, hashes: BOTH, spawn: None, pace: Some(&pace), progress: &progress };
    let written = write(&server.tree, Vec::new(), options).unwrap();
    assert!(done.into_inner(), "the archive was too small");
    written
}

fn named(changes: &Changes) -> Vec<(String, ChangeKind)> {
    let listed = changes.listed.iter();
    listed.map(|change| (String::from_utf8_lossy(&change.path).into_owned(), change.kind)).collect()
}

#[test]
fn each_change_is_named_and_spoils_nothing() {
    let size = 8 << 20;
    type Act = fn(&Path);
    let append: Act = |at| fs::OpenOptions::new().append(true).open(at).unwrap().write_all(b"more").unwrap();
    let shrink: Act = |at| fs::OpenOptions::new().write(true).open(at).unwrap().set_len(3 << 20).unwrap();
    let modify: Act = |at| fs::OpenOptions::new().write(true).open(at).unwrap().write_all(b"other").unwrap();
    let remove: Act = |at| fs::remove_file(at).unwrap();
    for (act, kind, length) in [
        (append, ChangeKind::Grew, size),
        (shrink, ChangeKind::Shrank, size),
        (modify, ChangeKind::Modified, size),
        (remove, ChangeKind::Vanished, size),
    ] {
        let server = Server::new(None);
        server.put("a", "before");
        server.put("d/big", vec![1; size]);
        server.put("z", "after");
        let (archive, written) = pack_while(&server, 4 << 20, || act(&server.path("d/big")));
        let mut expected = vec![("d/big".to_owned(), kind)];
        if kind == ChangeKind::Vanished {
            expected.push(("d".to_owned(), ChangeKind::Entries));
        }
        assert_eq!(named(&written.changes), expected);
        assert_eq!(verified(&archive).unwrap().changes, written.changes);
        let after = Server::new(None);
        assert_eq!(unpack_into(&archive, &after).unwrap().changes, written.changes);
        let content = fs::read(after.path("d/big")).unwrap();
        assert_eq!(content.len(), length);
        match kind {
            ChangeKind::Shrank => assert!(content[..3 << 20].iter().all(|byte| *byte == 1) && content[size - 1] == 0),
            ChangeKind::Modified => {}
            _ => assert!(content.iter().all(|byte| *byte == 1)),
        }
        assert_eq!(
            (fs::read(after.path("a")).unwrap(), fs::read(after.path("z")).unwrap()),
            (b"before".to_vec(), b"after".to_vec())
        );
    }
}

#[test]
fn names_that_vanish_before_they_are_opened_are_left_out() {
    let server = Server::new(None);
    server.put("a", "before");
    server.put("big", vec![1; 8 << 20]);
    server.put("y/z", "after");
    server.put("z", "after");
    let (archive, written) = pack_while(&server, 4 << 20, || {
        fs::remove_dir_all(server.path("y")).unwrap();
        fs::remove_file(server.path("z")).unwrap();
    });
    assert_eq!(named(&written.changes), [(".".to_owned(), ChangeKind::Entries)]);
    let after = Server::new(None);
    unpack_into(&archive, &after).unwrap();
    assert!(after.path("big").exists() && !after.path("z").exists());
}

/// Writers in some files, others at rest.
#[test]
fn untouched_files_are_the_same_and_the_others_are_named() {
    let server = Server::new(None);
    for number in 0..40 {
        server.put(&format!("rest/{number}"), vec![number as u8; 200_000]);
        server.put(&format!("busy/{number}"), vec![number as u8; 200_000]);
    }
    let before = snapshot(&server);
    let (stop, touched) = (AtomicBool::new(false), Mutex::new(std::collections::BTreeSet::new()));
    let (archive, written) = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut state = 1_u64;
            while !stop.load(Ordering::Relaxed) {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let number = state >> 33;
                let name = format!("busy/{}", number % 40);
                touched.lock().unwrap().insert(name.clone());
                let open = || fs::OpenOptions::new().write(true).create(true).truncate(false).open(server.path(&name));
                let _ = match (number >> 8) % 4 {
                    0 => open().and_then(|mut file| file.write_all(b"changed")),
                    1 => open().and_then(|file| file.set_len((number >> 12) % 400_000)),
                    2 => fs::remove_file(server.path(&name)),
                    _ => fs::write(server.path(&name), vec![9; 100_000]),
                };
            }
        });
        let packed = pack(&server);
        stop.store(true, Ordering::Relaxed);
        packed
    });
    let after = Server::new(None);
    assert_eq!(unpack_into(&archive, &after).unwrap().changes, written.changes);
    let after = snapshot(&after);
    for (name, found) in before.iter().filter(|(name, _)| name.starts_with(b"./rest")) {
        assert_eq!(&after[name], found);
    }
    let touched = touched.into_inner().unwrap();
    for (name, _) in named(&written.changes) {
        assert!(touched.contains(&name) || name == "busy", "{name}");
    }
}

/// A slow sink gives the writer time: every file that changes while it is read must be named.
#[test]
fn a_file_that_changes_while_it_is_read_is_always_named() {
    let server = Server::new(None);
    server.put("a", "small");
    server.put("log", vec![1; 4 << 20]);
    let (stop, rounds) = (AtomicBool::new(false), std::sync::atomic::AtomicU64::new(0));
    let (_, written) = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = fs::OpenOptions::new().append(true).open(server.path("log")).unwrap();
            while !stop.load(Ordering::Relaxed) {
                file.write_all(b"a line\n").unwrap();
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        });
        let pace = |_| {
            let before = rounds.load(Ordering::Relaxed);
            while rounds.load(Ordering::Relaxed) == before {
                std::thread::yield_now();
            }
        };
        let (ignore, progress) = (IgnoreList::default(), Progress::new());
        let options = WriteOptions {
            ignore: &ignore,
            level: 0,
            hashes: BOTH,
            spawn: None,
            pace: Some(&pace),
            progress: &progress,
        };
        let written = write(&server.tree, Vec::new(), options).unwrap();
        stop.store(true, Ordering::Relaxed);
        written
    });
    assert_eq!(named(&written.changes), [("log".to_owned(), ChangeKind::Grew)]);
}
