//! Every byte is charged once, and released once.

use super::*;

/// The account is what a measurement would find.
fn assert_exact(files: &Files) {
    assert_eq!(files.tree.account().used(), files.measured());
}

const WRITE: OpenFlags =
    OpenFlags { create: true, exclusive: false, truncate: false, append: false, read: true, mode: 0o644 };

#[test]
fn operations_keep_the_account_exact() {
    let files = Files::with(&[], Some(1000));
    files.write("a", &"x".repeat(400)).unwrap();
    assert_exact(&files);
    files.write("a", &"y".repeat(100)).unwrap();
    assert_exact(&files);
    files.write("a", &"z".repeat(900)).unwrap();
    assert_exact(&files);
    assert!(matches!(files.write("b", &"x".repeat(101)), Err(TreeError::NoSpace(_))));
    assert!(matches!(files.tree.copy(&at("a"), "", &NEVER), Err(TreeError::NoSpace(_))));
    assert_eq!(files.get("a").len(), 900);
    assert_exact(&files);
    files.write("a", "small").unwrap();
    files.tree.copy(&at("a"), "", &NEVER).unwrap();
    files.tree.hard_link(&at("a"), &at("name")).unwrap();
    files.tree.rename(&at("a copy"), &at("folder/b"), Replace::Refuse).unwrap();
    files.write("c", "replaced").unwrap();
    files.tree.rename(&at("folder/b"), &at("c"), Replace::Allow).unwrap();
    assert_eq!(files.tree.account().used(), 10);
    files.tree.remove(&at("name"), Recursive::No, &NEVER).unwrap();
    assert_exact(&files);
    files.tree.remove(&at("a"), Recursive::No, &NEVER).unwrap();
    files.write("folder/x/y", "12").unwrap();
    files.tree.remove(&at("folder"), Recursive::Yes, &NEVER).unwrap();
    files.tree.remove(&at("c"), Recursive::No, &NEVER).unwrap();
    assert_eq!(files.tree.account().used(), 0);
}

#[test]
fn writes_in_place_are_charged_by_growth() {
    let files = Files::with(&[], Some(1000));
    let file = files.tree.open_for_writing(&at("new/file"), WRITE).unwrap();
    let other = files.tree.open_for_writing(&at("new/file"), WRITE).unwrap();
    file.write_at(&[1; 100], 0).unwrap();
    other.write_at(&[2; 100], 50).unwrap();
    assert_exact(&files);
    file.write_at(&[3; 10], 500).unwrap();
    assert_eq!(files.tree.account().used(), 510);
    assert_eq!(file.write_at(&[0; 10], 995).unwrap_err().kind(), std::io::ErrorKind::QuotaExceeded);
    assert!(file.write_at(&[0; 10], u64::MAX).is_err());
    assert!(file.set_len(1001).is_err());
    file.set_len(1000).unwrap();
    file.set_len(20).unwrap();
    assert_exact(&files);
    let append = files.tree.open_for_writing(&at("new/file"), OpenFlags { append: true, ..WRITE }).unwrap();
    append.write_at(b"end", 0).unwrap();
    let mut buffer = [0; 3];
    assert_eq!((file.read_at(&mut buffer, 20).unwrap(), &buffer), (3, b"end"));
    assert_exact(&files);
    drop(files.tree.open_for_writing(&at("new/file"), OpenFlags { truncate: true, ..WRITE }).unwrap());
    assert_eq!(files.tree.account().used(), 0);
    let exclusive = OpenFlags { exclusive: true, ..WRITE };
    assert!(matches!(files.tree.open_for_writing(&at("new/file"), exclusive), Err(TreeError::Exists(_))));
    symlink("nowhere", files.path("link")).unwrap();
    assert!(matches!(files.tree.open_for_writing(&at("link"), exclusive), Err(TreeError::Exists(_))));
    let missing = OpenFlags { create: false, ..WRITE };
    assert!(matches!(files.tree.open_for_writing(&at("missing"), missing), Err(TreeError::NotFound(_))));
}

#[test]
fn a_removed_file_is_released_when_it_is_closed() {
    let files = Files::with(&[], Some(1000));
    let file = files.tree.open_for_writing(&at("file"), WRITE).unwrap();
    file.write_at(&[0; 600], 0).unwrap();
    files.tree.remove(&at("file"), Recursive::No, &NEVER).unwrap();
    assert_eq!(files.tree.account().used(), 600, "its bytes are still on the disk");
    assert!(matches!(files.write("other", &"x".repeat(600)), Err(TreeError::NoSpace(_))));
    file.write_at(&[0; 100], 600).unwrap();
    drop(file);
    assert_eq!(files.tree.account().used(), 0);
}

#[test]
fn a_replaced_file_that_is_open_is_released_once() {
    let files = Files::with(&[], Some(1000));
    let file = files.tree.open_for_writing(&at("file"), WRITE).unwrap();
    file.write_at(&[0; 700], 0).unwrap();
    assert!(matches!(files.write("file", &"x".repeat(301)), Err(TreeError::NoSpace(_))), "both are on the disk");
    files.write("file", &"x".repeat(250)).unwrap();
    assert_eq!(files.tree.account().used(), 950);
    file.set_len(100).unwrap();
    assert_eq!(files.tree.account().used(), 350);
    drop(file);
    assert_eq!(files.tree.account().used(), 250);
    assert_exact(&files);
}

#[test]
fn the_bytes_of_a_file_count_for_one_replacement_at_a_time() {
    let files = Files::with(&[], Some(1000));
    files.write("file", &"x".repeat(1000)).unwrap();
    let new = NewFile { mode: 0o644, keep_mode: true, size: None };
    let mut first = files.tree.create(&at("file"), new).unwrap();
    let mut second = files.tree.create(&at("file"), new).unwrap();
    first.write_all(&[0; 1000]).unwrap();
    assert_eq!(second.write_all(&[0; 1]).unwrap_err().kind(), std::io::ErrorKind::QuotaExceeded);
    assert!(first.write_all(&[0; 1]).is_err());
    drop(second);
    first.commit().unwrap();
    assert_exact(&files);
}

#[test]
fn an_unfinished_file_that_its_user_removes_is_released_once() {
    let files = Files::with(&[], Some(1000));
    files.write("other", &"x".repeat(500)).unwrap();
    let mut new = files.tree.create(&at("file"), NewFile { mode: 0o644, keep_mode: true, size: None }).unwrap();
    new.write_all(&[0; 300]).unwrap();
    let name = files.paths().into_iter().find(|path| path.contains(TEMPORARY_PREFIX)).unwrap();
    files.tree.remove(&at(&name), Recursive::No, &NEVER).unwrap();
    assert!(new.commit().is_err());
    assert_exact(&files);
}

#[test]
fn many_writers_stay_within_the_limit() {
    let files = Files::with(&[], Some(10_000));
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let files = &files;
            scope.spawn(move || {
                for round in 0..300 {
                    let path = format!("{}/{}", round % 3, (writer + round) % 5);
                    let size = (round * 7919 + writer * 131) % 4000;
                    match round % 4 {
                        0 => drop(files.write(&path, &"x".repeat(size))),
                        1 => {
                            if let Ok(file) = files.tree.open_for_writing(&at(&path), WRITE) {
                                let _ = file.write_at(&vec![0; size], 100);
                                let _ = file.set_len(size as u64 / 2);
                            }
                        }
                        2 => drop(files.tree.copy(&at(&path), "", &NEVER)),
                        _ => drop(files.tree.remove(&at(&path), Recursive::Yes, &NEVER)),
                    }
                    assert!(files.tree.account().used() <= 10_000);
                }
            });
        }
    });
    assert_exact(&files);
}
