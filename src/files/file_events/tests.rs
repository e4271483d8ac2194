use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::testing::{TestNode, server_id};

#[test]
fn a_write_names_the_server_and_nothing_else_does() {
    let node = TestNode::new();
    let (layout, accounts) = (&node.context.node.layout, DiskAccounts::new(Arc::new(|_| {})));
    let events = match FileEvents::begin(layout) {
        Ok(events) => events,
        Err(error) => return eprintln!("skipped, no file events here: {error}"),
    };
    for number in 1..=3 {
        layout.prepare(server_id(number)).unwrap();
        accounts.set_limit(server_id(number), i64::from(number != 3), || 0);
    }
    let servers = layout.limited(&accounts);
    assert_eq!(servers.len(), 2, "the third one has no limit");
    let data = layout.data(server_id(1));
    fs::create_dir_all(data.join("a/b")).unwrap();
    let write = |path: &Path| File::create(path).and_then(|mut file| file.write_all(b"x")).unwrap();
    write(&data.join("before"));
    events.read(&servers);
    for path in ["file", "a/file", "a/b/file"] {
        write(&data.join(path));
        write(&layout.data(server_id(3)).join("file"));
        let written = events.read(&servers);
        assert!(
            matches!(&written, Written::These(ids) if ids.contains(&server_id(1)) && ids.len() == 1),
            "{written:?}"
        );
    }
    // Files that stay open are noticed, too.
    let mut log = File::create(data.join("a/log")).unwrap();
    for _ in 0..3 {
        events.read(&servers);
        log.write_all(b"line\n").unwrap();
        assert_eq!(events.read(&servers), Written::These([server_id(1)].into()));
    }
}

#[test]
fn an_overflow_is_an_event_of_any_server() {
    let mut event = vec![0; METADATA];
    event[..4].copy_from_slice(&(METADATA as u32).to_ne_bytes());
    event[8..16].copy_from_slice(&OVERFLOW.to_ne_bytes());
    assert!(matches!(events(&event)[..], [Event::Overflow]));
}

proptest! {
    #[test]
    fn whatever_the_kernel_writes_is_read(bytes in prop::collection::vec(any::<u8>(), 0..200), length in 0..64_u8) {
        let mut buffer = bytes;
        if let Some(first) = buffer.first_chunk_mut() {
            *first = u32::from(length).to_ne_bytes();
        }
        events(&buffer);
    }
}
