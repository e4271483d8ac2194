//! The queue after crashes, on a full disk, and beyond its limit.

use std::os::unix::fs::symlink;

use proptest::prelude::*;

use super::*;

fn rows(numbers: impl IntoIterator<Item = u64>) -> Vec<String> {
    numbers.into_iter().map(|number| format!("{{\"n\":{number}}}\n")).collect()
}

fn numbers(stored: &[Stored]) -> Vec<u64> {
    stored
        .iter()
        .map(|row| serde_json::from_str::<serde_json::Value>(row.json.get()).unwrap()["n"].as_u64().unwrap())
        .collect()
}

fn all(queue: &mut Queue) -> Vec<u64> {
    numbers(&queue.peek(usize::MAX).unwrap())
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("activity");
    (root, folder)
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn rows_are_kept_until_they_are_acknowledged() {
    let (_root, folder) = folder();
    let mut queue = Queue::open(folder.clone());
    assert!(queue.is_empty());
    queue.append(&rows(0..5)).unwrap();
    let batch = queue.peek(3).unwrap();
    assert_eq!(numbers(&batch), [0, 1, 2]);
    assert_eq!(numbers(&queue.peek(3).unwrap()), [0, 1, 2], "nothing was acknowledged");
    queue.acknowledge(batch[1].end);
    queue.append(&rows(5..6)).unwrap();
    assert_eq!(all(&mut queue), [2, 3, 4, 5]);

    let mut queue = Queue::open(folder.clone());
    assert_eq!(all(&mut queue), [2, 3, 4, 5], "another process goes on where this one ended");
    queue.append(&rows(6..8)).unwrap();
    let batch = queue.peek(usize::MAX).unwrap();
    assert_eq!(numbers(&batch), [2, 3, 4, 5, 6, 7], "over both files");
    queue.acknowledge(batch[5].end);
    assert!(queue.is_empty() && all(&mut queue).is_empty());
    assert_eq!(files(&folder), [SENT], "what was sent is removed");
    let mut queue = Queue::open(folder);
    queue.append(&rows(8..9)).unwrap();
    assert_eq!(all(&mut queue), [8]);
}

#[test]
fn a_row_that_a_crash_tore_is_left_out_and_no_other_one() {
    let (_root, folder) = folder();
    let mut queue = Queue::open(folder.clone());
    queue.append(&rows(0..3)).unwrap();
    let path = queue.path(0);
    let whole = std::fs::read(&path).unwrap();
    for cut in 0..whole.len() {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let mut queue = Queue::open(folder.clone());
        let expected: Vec<u64> = (0..whole[..cut].iter().filter(|byte| **byte == b'\n').count() as u64).collect();
        assert_eq!(all(&mut queue), expected, "{cut}");
        queue.append(&rows([9])).unwrap();
        assert_eq!(all(&mut queue), [expected.clone(), vec![9]].concat(), "{cut}");
        let mut queue = Queue::open(folder.clone());
        assert_eq!(all(&mut queue), [expected, vec![9]].concat(), "{cut}, after a restart");
        let end = queue.peek(usize::MAX).unwrap().pop().unwrap().end;
        queue.acknowledge(end);
        std::fs::remove_file(folder.join(SENT)).unwrap();
    }
}

#[test]
fn damaged_rows_and_foreign_files_do_not_hold_back_the_others() {
    let (_root, folder) = folder();
    let mut queue = Queue::open(folder.clone());
    queue.append(&rows(0..3)).unwrap();
    std::fs::write(queue.path(0), "{\"n\":0}\n\0\0\0\n{\"n\":2}\n").unwrap();
    std::fs::write(folder.join("notes.txt"), "mine").unwrap();
    std::fs::write(folder.join("1.jsonl"), "mine").unwrap();
    let mut queue = Queue::open(folder.clone());
    assert_eq!(all(&mut queue), [0, 2]);
    // Nothing but damaged rows.
    std::fs::write(queue.path(0), "\0\n\0\n\0\n").unwrap();
    let mut queue = Queue::open(folder.clone());
    assert!(all(&mut queue).is_empty() && queue.is_empty());
    queue.append(&rows([7])).unwrap();
    assert_eq!(all(&mut queue), [7]);
    assert!(folder.join("notes.txt").exists() && folder.join("1.jsonl").exists());
}

#[test]
fn a_damaged_number_of_sent_rows_stops_nothing() {
    let (_root, folder) = folder();
    let mut queue = Queue::open(folder.clone());
    queue.append(&rows(0..3)).unwrap();
    std::fs::write(folder.join(SENT), b"\xff").unwrap();
    let mut queue = Queue::open(folder.clone());
    queue.append(&rows([3])).unwrap();
    assert_eq!(all(&mut queue), [0, 1, 2, 3]);
    // A file of rows that cannot be read keeps its name.
    std::fs::create_dir(queue.path(40)).unwrap();
    let mut queue = Queue::open(folder.clone());
    queue.append(&rows([7])).unwrap();
    assert_eq!(all(&mut queue), [0, 1, 2, 3, 7]);
}

#[test]
fn files_that_a_person_removes_are_passed_over() {
    let (_root, folder) = folder();
    Queue::open(folder.clone()).append(&rows(0..2)).unwrap();
    Queue::open(folder.clone()).append(&rows(2..4)).unwrap();
    let mut queue = Queue::open(folder.clone());
    std::fs::remove_file(queue.path(0)).unwrap();
    assert_eq!(all(&mut queue), [2, 3]);
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(all(&mut queue).is_empty() && queue.is_empty());
    queue.append(&rows([9])).unwrap();
    assert_eq!(all(&mut queue), [9]);
}

#[test]
fn a_disk_that_fails_takes_nothing_and_the_rows_before_stay() {
    let (_root, folder) = folder();
    let mut queue = Queue::open(folder.clone());
    queue.append(&rows(0..2)).unwrap();
    // Every write to this device fails as on a full disk.
    queue.open = Some(OpenOptions::new().append(true).open("/dev/full").unwrap());
    let error = queue.append(&rows(2..4)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(all(&mut queue), [0, 1]);
    queue.append(&rows(2..4)).unwrap();
    assert_eq!(all(&mut queue), [0, 1, 2, 3]);
    assert_eq!(all(&mut Queue::open(folder)), [0, 1, 2, 3]);
}

#[test]
fn a_new_file_that_takes_nothing_is_removed() {
    let (_root, folder) = folder();
    let mut queue = Queue::open(folder.clone());
    queue.begin_file().unwrap();
    queue.open = Some(OpenOptions::new().append(true).open("/dev/full").unwrap());
    queue.append(&rows(0..1)).unwrap_err();
    assert!(queue.is_empty() && files(&folder).is_empty());
    queue.append(&rows(0..1)).unwrap();
    assert_eq!(all(&mut queue), [0]);
}

#[test]
fn a_folder_that_cannot_be_used_is_an_error_of_each_write() {
    let (root, folder) = folder();
    symlink(root.path().join("nowhere/at/all"), &folder).unwrap();
    let mut queue = Queue::open(folder);
    assert!(queue.append(&rows(0..1)).is_err() && queue.is_empty());
    assert!(queue.peek(1).unwrap().is_empty());
}

#[test]
fn beyond_the_limit_the_oldest_rows_are_displaced() {
    let (_root, folder) = folder();
    let mut queue = Queue::open(folder.clone());
    queue.max_bytes = 3 * FILE_BYTES;
    let row = format!("{{\"n\":0,\"text\":\"{}\"}}\n", "x".repeat(FILE_BYTES as usize / 10));
    let group = vec![row; 10];
    let displaced: Vec<u64> = (0..5).map(|_| queue.append(&group).unwrap()).collect();
    assert_eq!(displaced, [0, 0, 10, 10, 10], "some bytes more than the limit");
    // A part of the oldest file was sent.
    let end = queue.peek(4).unwrap()[3].end;
    queue.acknowledge(end);
    assert_eq!(queue.append(&group).unwrap(), 6);
    // The acknowledgement of a batch that was displaced meanwhile changes nothing.
    let before = queue.sent;
    queue.acknowledge(end);
    assert_eq!(queue.sent, before);
    assert_eq!(files(&folder).len(), 3);
    let mut reopened = Queue::open(folder);
    assert_eq!(reopened.sent, before);
    assert_eq!(reopened.peek(2).unwrap().len(), 2);
}

#[test]
fn a_batch_has_a_limited_size() {
    let (_root, folder) = folder();
    let mut queue = Queue::open(folder);
    let row = format!("{{\"n\":0,\"text\":\"{}\"}}\n", "x".repeat(16 << 10));
    queue.append(&vec![row; 100]).unwrap();
    assert_eq!(queue.peek(100).unwrap().len(), 32);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Rows, acknowledgements and crashes in any order: rows come in order, and each one until it is acknowledged.
    #[test]
    fn no_row_is_lost_or_comes_again(steps in proptest::collection::vec((0u8..4, 1usize..8), 1..40)) {
        let (_root, folder) = folder();
        let mut queue = Queue::open(folder.clone());
        let (mut added, mut sent) = (0, 0);
        for (step, amount) in steps {
            match step {
                0 | 1 => {
                    queue.append(&rows(added..added + amount as u64)).unwrap();
                    added += amount as u64;
                }
                2 => {
                    let batch = queue.peek(amount).unwrap();
                    let expected: Vec<u64> = (sent..added).take(amount).collect();
                    prop_assert_eq!(numbers(&batch), expected);
                    if let Some(last) = batch.last() {
                        queue.acknowledge(last.end);
                        sent += batch.len() as u64;
                    }
                }
                _ => queue = Queue::open(folder.clone()),
            }
            prop_assert_eq!(queue.is_empty(), sent == added);
        }
        prop_assert_eq!(all(&mut queue), (sent..added).collect::<Vec<_>>());
    }

    /// Any bytes in the folder are read without a panic, and new rows are kept.
    #[test]
    fn damaged_files_never_stop_the_queue(bytes in proptest::collection::vec(any::<u8>(), 0..200), sent in ".{0,12}") {
        let (_root, folder) = folder();
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("00000000000000000000.jsonl"), bytes).unwrap();
        std::fs::write(folder.join(SENT), sent).unwrap();
        let mut queue = Queue::open(folder);
        queue.append(&rows([u64::MAX])).unwrap();
        prop_assert!(queue.peek(usize::MAX).unwrap().last().is_some_and(|row| row.json.get().contains("18446744073709551615")));
    }
}
