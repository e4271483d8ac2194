//! What is written can be read, and nothing that is read makes the daemon panic.

use proptest::prelude::*;

use super::client::{attributes, encode};
use super::reader::Reader;
use super::*;

fn any_attributes() -> impl Strategy<Value = Attributes> {
    let ids = any::<(u32, u32)>().prop_map(|(uid, gid)| Ids { uid, gid });
    let times = any::<(u32, u32)>().prop_map(|(accessed, modified)| Times { accessed, modified });
    let option = prop::option::of::<BoxedStrategy<u64>>;
    (option(any::<u64>().boxed()), prop::option::of(ids), any::<Option<u32>>(), prop::option::of(times))
        .prop_map(|(size, ids, mode, times)| Attributes { size, ids, mode, times })
}

fn any_handle() -> impl Strategy<Value = Option<Handle>> {
    any::<Option<u32>>().prop_map(|number| number.map(Handle))
}

fn any_flags() -> impl Strategy<Value = OpenFlags> {
    any::<[bool; 6]>().prop_map(|[read, write, append, create, truncate, exclusive]| OpenFlags {
        read,
        write,
        append,
        create,
        truncate,
        exclusive,
    })
}

/// Texts that a request consists of.
type Texts = (Vec<u8>, Vec<u8>);

/// A request made of these texts.
fn any_request() -> impl Strategy<Value = (Texts, usize, OpenFlags, Attributes, [Option<Handle>; 2], [u64; 3])> {
    (any::<Texts>(), 0_usize..27, any_flags(), any_attributes(), [any_handle(), any_handle()], any::<[u64; 3]>())
}

fn request<'a>(
    (path, other): &'a Texts,
    which: usize,
    flags: OpenFlags,
    attributes: Attributes,
    [handle, to]: [Option<Handle>; 2],
    [offset, length, to_offset]: [u64; 3],
) -> Request<'a> {
    match which {
        0 => Request::Open { path, flags, attributes },
        1 => Request::Close(handle),
        2 => Request::Read { handle, offset, length: length as u32 },
        3 => Request::Write { handle, offset, data: other },
        4 => Request::Stat { path },
        5 => Request::Lstat { path },
        6 => Request::Fstat(handle),
        7 => Request::Setstat { path, attributes },
        8 => Request::Lsetstat { path, attributes },
        9 => Request::Fsetstat { handle, attributes },
        10 => Request::Opendir { path },
        11 => Request::Readdir(handle),
        12 => Request::Remove { path },
        13 => Request::Mkdir { path, attributes },
        14 => Request::Rmdir { path },
        15 => Request::Realpath { path },
        16 => Request::Rename { from: path, to: other, replace: flags.read },
        17 => Request::Readlink { path },
        18 => Request::Symlink { target: other, path },
        19 => Request::Hardlink { from: path, to: other },
        20 => Request::Statvfs { path },
        21 => Request::Fstatvfs(handle),
        22 => Request::Fsync(handle),
        23 => Request::Limits,
        24 => Request::ExpandPath { path },
        25 => Request::CopyData { from: handle, offset, length, to, to_offset },
        _ => Request::Unknown,
    }
}

proptest! {
    #[test]
    fn a_request_is_read_as_it_was_written((texts, which, flags, attributes, handles, numbers) in any_request(), id: u32) {
        let request = request(&texts, which, flags, attributes, handles, numbers);
        let bytes = encode(id, &request);
        let Ok(Incoming::Packet(packet)) = next_packet(&bytes) else { panic!("no packet") };
        prop_assert_eq!(packet.len() + 4, bytes.len());
        let (number, read) = read_request(packet).unwrap();
        prop_assert_eq!((number, read), (id, Ok(request)));
        prop_assert_eq!(next_packet(&bytes[..bytes.len() - 1]), Ok(Incoming::Incomplete));
    }

    #[test]
    fn a_request_without_its_end_is_malformed((texts, which, flags, attributes, handles, numbers) in any_request(), cut: prop::sample::Index) {
        let bytes = encode(7, &request(&texts, which, flags, attributes, handles, numbers));
        let body = &bytes[4..];
        // Everything but what may be absent: the attributes of `mkdir`, and what follows an extension's name.
        prop_assume!(!matches!(which, 13 | 23 | 26));
        let cut = cut.index(body.len());
        match read_request(&body[..cut]) {
            Ok((id, read)) => prop_assert_eq!((id, read), (7, Err(Malformed))),
            Err(Malformed) => prop_assert!(cut < 5),
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>, kind in 0_u8..=255) {
        let _ = next_packet(&bytes);
        let _ = read_request(&bytes);
        let _ = read_init(&bytes);
        let _ = read_request(&[&[kind][..], &bytes].concat());
    }

    #[test]
    fn attributes_are_read_as_they_were_written(given in any_attributes()) {
        let bytes = attributes(&given);
        let mut reader = Reader(&bytes);
        prop_assert_eq!(Attributes::read(&mut reader), Ok(given));
        prop_assert!(reader.0.is_empty());
    }

    #[test]
    fn answers_follow_each_other_without_a_gap(length in 0_usize..5000, count in 0_usize..6000, message: String) {
        let mut replies = Replies::default();
        let data = replies.data::<()>(3, length, |to| {
            to.fill(9);
            Ok(count)
        });
        prop_assert_eq!(data, Ok(count.min(length)));
        replies.status(4, Status::Failure, &message);
        let bytes = replies.into_bytes();
        let mut rest = &bytes[..];
        if count.min(length) > 0 {
            let Ok(Incoming::Packet(packet)) = next_packet(rest) else { panic!("no packet") };
            let mut reader = Reader(packet);
            prop_assert_eq!((reader.byte(), reader.u32()), (Ok(kind::DATA), Ok(3)));
            prop_assert_eq!(reader.bytes().map(<[u8]>::len), Ok(count.min(length)));
            prop_assert!(reader.0.is_empty());
            rest = &rest[packet.len() + 4..];
        }
        let Ok(Incoming::Packet(packet)) = next_packet(rest) else { panic!("no packet") };
        let mut reader = Reader(packet);
        prop_assert_eq!((reader.byte(), reader.u32(), reader.u32()), (Ok(kind::STATUS), Ok(4), Ok(4)));
        prop_assert_eq!(reader.bytes(), Ok(message.as_bytes()));
        prop_assert_eq!(rest.len(), packet.len() + 4);
    }
}

#[test]
fn a_packet_without_content_or_without_an_end_is_refused() {
    assert_eq!(next_packet(&[]), Ok(Incoming::Incomplete));
    assert_eq!(next_packet(&[0, 0, 0]), Ok(Incoming::Incomplete));
    assert_eq!(next_packet(&[0, 0, 0, 0]), Err(Malformed));
    assert_eq!(next_packet(&[255; 4]), Err(Malformed));
    let most = u32::try_from(MAX_PACKET).unwrap();
    assert_eq!(next_packet(&most.to_be_bytes()), Ok(Incoming::Incomplete));
    assert_eq!(next_packet(&(most + 1).to_be_bytes()), Err(Malformed));
}

#[test]
fn the_version_comes_with_the_extensions() {
    let mut replies = Replies::default();
    replies.version();
    let bytes = replies.into_bytes();
    let mut reader = Reader(&bytes[4..]);
    assert_eq!((reader.byte(), reader.u32()), (Ok(kind::VERSION), Ok(3)));
    let mut names = Vec::new();
    while !reader.0.is_empty() {
        names.push(String::from_utf8(reader.bytes().unwrap().to_vec()).unwrap());
        reader.bytes().unwrap();
    }
    assert_eq!(names.len(), extension::ALL.len());
    assert!(names.contains(&"posix-rename@openssh.com".to_owned()));
}

#[test]
fn nothing_is_written_for_data_that_cannot_be_read() {
    let mut replies = Replies::default();
    replies.status(1, Status::Ok, "");
    let before = replies.len();
    assert_eq!(replies.data(2, 100, |_| Err("gone")), Err("gone"));
    assert_eq!(replies.data::<()>(2, 100, |_| Ok(0)), Ok(0));
    assert_eq!(replies.len(), before);
}
