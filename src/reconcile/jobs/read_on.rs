//! Where an installer's output goes on from what its log has already.
//!
//! The engine gives its log from the beginning, piece by piece; what is new comes out. As a rule the log begins as the file
//! does, and as many bytes are skipped as the file has. An engine that has rotated its log begins somewhere in the middle: then
//! the file's last bytes are looked for, at its beginning as many of them as it still has; where they are not found either, a
//! line says that something is missing.
//!
//! ```text
//! Skip ──(as many bytes as the file has)──▶ Copy
//!   │                                        ▲
//!   └──(it begins otherwise)──▶ Seek ────────┘ (the file's end is found, or will not come)
//! ```

use bytes::Bytes;

/// So many bytes of the file's output are compared.
pub(super) const COMPARED: usize = 4096;
/// Most bytes that are held back while the file's end is looked for.
const MOST_HELD: usize = 8 * 1024 * 1024;
/// Fewer bytes that are alike, before others that are not, are taken for chance.
const LEAST_ALIKE: usize = 8;
/// Stands where output was lost.
const MISSING: &[u8] = b"\n[output is missing here: the container engine has rotated its log]\n";

/// See the module.
#[derive(Debug)]
pub(super) struct ReadOn {
    place: Place,
    /// The last bytes of output in the file.
    tail: Vec<u8>,
}

#[derive(Debug)]
enum Place {
    Skip { left: u64, head: Vec<u8>, compared: usize },
    Seek { held: Vec<u8>, searched: usize },
    Copy,
}

impl ReadOn {
    /// The file has `written` bytes of output, which begin with `head` and end with `tail`.
    pub(super) fn new(written: u64, head: Vec<u8>, tail: Vec<u8>) -> Self {
        let place = match written {
            0 => Place::Copy,
            left => Place::Skip { left, head, compared: 0 },
        };
        Self { place, tail }
    }

    /// Whether output is held back that may be new.
    pub(super) fn is_seeking(&self) -> bool {
        matches!(self.place, Place::Seek { .. })
    }

    /// Takes a piece and gives what is new.
    pub(super) fn take(&mut self, piece: Bytes) -> Bytes {
        match &mut self.place {
            Place::Copy => piece,
            Place::Skip { left, head, compared } => {
                let same = piece.len().min(head.len() - *compared);
                if piece[..same] != head[*compared..*compared + same] {
                    let mut held = head[..*compared].to_vec();
                    held.extend_from_slice(&piece);
                    self.place = Place::Seek { held, searched: 0 };
                    return self.seek();
                }
                *compared += same;
                let skipped = piece.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= skipped as u64;
                if *left == 0 {
                    self.place = Place::Copy;
                }
                piece.slice(skipped..)
            }
            Place::Seek { held, .. } => {
                held.extend_from_slice(&piece);
                self.seek()
            }
        }
    }

    /// Nothing more comes for now: what is held back is new, but for what the file ends with. Where that is nothing, a line says
    /// that something is missing.
    pub(super) fn give_up(&mut self) -> Bytes {
        match std::mem::replace(&mut self.place, Place::Copy) {
            Place::Seek { mut held, .. } => match self.known(&held) {
                0 => [MISSING, &held].concat().into(),
                known => held.split_off(known).into(),
            },
            place => {
                self.place = place;
                Bytes::new()
            }
        }
    }

    /// With how many bytes that the file ends with `held` begins.
    fn known(&self, held: &[u8]) -> usize {
        let least = LEAST_ALIKE.min(held.len()).max(1);
        let most = self.tail.len().min(held.len());
        (least..=most).rev().find(|length| self.tail.ends_with(&held[..*length])).unwrap_or(0)
    }

    fn seek(&mut self) -> Bytes {
        let Place::Seek { held, searched } = &mut self.place else { return Bytes::new() };
        if let Some(at) = held[*searched..].windows(self.tail.len()).position(|window| window == self.tail) {
            let new = held.split_off(*searched + at + self.tail.len());
            self.place = Place::Copy;
            return new.into();
        }
        *searched = (held.len() + 1).saturating_sub(self.tail.len());
        if held.len() > MOST_HELD { self.give_up() } else { Bytes::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a file that has `file` gets of an engine whose log is `engine`, in pieces of every length.
    fn added(file: &str, engine: &str) -> Vec<String> {
        (1..=engine.len().max(1))
            .map(|length| {
                let ends = file.len().min(COMPARED);
                let (head, tail) = (&file.as_bytes()[..ends], &file.as_bytes()[file.len() - ends..]);
                let mut read_on = ReadOn::new(file.len() as u64, head.into(), tail.into());
                let mut added = Vec::new();
                for piece in engine.as_bytes().chunks(length) {
                    added.extend_from_slice(&read_on.take(Bytes::copy_from_slice(piece)));
                }
                added.extend_from_slice(&read_on.give_up());
                String::from_utf8(added).unwrap()
            })
            .collect()
    }

    #[test]
    fn what_the_file_has_is_left_out() {
        let missing = String::from_utf8(MISSING.into()).unwrap();
        for (file, engine, expected) in [
            ("", "one two", "one two".to_owned()),
            ("one ", "one two", "two".into()),
            ("one two", "one two", String::new()),
            ("one two", "one", String::new()),
            // Rotated: it begins somewhere in what the file has.
            ("one two ", "xx one two three", "three".into()),
            ("one two ", "two ", String::new()),
            // Rotated beyond that.
            ("one two", "four five", format!("{missing}four five")),
            ("one two", "", String::new()),
        ] {
            for added in added(file, engine) {
                assert_eq!(added, expected, "{file:?} and {engine:?}");
            }
        }
    }

    #[test]
    fn a_long_file_is_found_again_by_its_end() {
        let line = |number: u32| format!("line {number}\n");
        let file: String = (0..2000).map(line).collect();
        let engine: String = (1200..2500).map(line).collect();
        let expected: String = (2000..2500).map(line).collect();
        let ends = |bytes: &[u8]| (bytes[..COMPARED].to_vec(), bytes[bytes.len() - COMPARED..].to_vec());
        let (head, tail) = ends(file.as_bytes());
        let mut read_on = ReadOn::new(file.len() as u64, head, tail);
        let added: Vec<u8> =
            engine.as_bytes().chunks(700).flat_map(|piece| read_on.take(Bytes::copy_from_slice(piece))).collect();
        assert_eq!(String::from_utf8(added).unwrap(), expected);
        assert!(!read_on.is_seeking());

        // By as much of it as the engine still has.
        for (from, to) in [(1990, 2000), (1990, 2500)] {
            let engine: String = (from..to).map(line).collect();
            let expected: String = (2000..to).map(line).collect();
            let (head, tail) = ends(file.as_bytes());
            let mut read_on = ReadOn::new(file.len() as u64, head, tail);
            assert!(engine.as_bytes().chunks(700).all(|piece| read_on.take(Bytes::copy_from_slice(piece)).is_empty()));
            assert_eq!(read_on.give_up(), expected);
        }
    }

    #[test]
    fn what_is_held_back_has_a_limit() {
        let mut read_on = ReadOn::new(3, b"abc".into(), b"abc".into());
        assert!(read_on.take(Bytes::from(vec![b'x'; MOST_HELD])).is_empty() && read_on.is_seeking());
        assert_eq!(read_on.take(Bytes::from_static(b"yy")).len(), MISSING.len() + MOST_HELD + 2);
        assert_eq!(read_on.take(Bytes::from_static(b"zz")), "zz");
    }
}
