//! Finds the new part of an installer's output.
//!
//! The engine sends its log from the beginning, in pieces. If the log begins like the file, as many bytes are skipped as the file
//! has. An engine that has rotated its log sends the rest of it. That output is held back until a pause, and its beginning is
//! compared with the end of the file. If they have nothing in common, a line says that output is missing.
//!
//! ```text
//! Skip ──(as many bytes as the file has)──▶ Copy
//!   │                                        ▲
//!   └──(another beginning)────▶ Hold ────────┘ (a pause, the end, or too much to hold)
//! ```

use bytes::Bytes;

/// How many bytes of the file's beginning are compared.
pub(super) const COMPARED: usize = 4096;
/// The most bytes that are held back, and that are compared with them at the end of the file.
pub(super) const MAX_HELD: usize = 8 * 1024 * 1024;
/// The least number of bytes in common that counts, unless all of the output is in the file.
const LEAST_COMMON: usize = 8;
/// Replaces lost output.
const MISSING: &[u8] = b"\n[output is missing here: the container engine has rotated its log]\n";

/// The position in the engine's log.
#[derive(Debug)]
pub(super) enum ReadOn {
    Skip { left: u64, head: Vec<u8>, compared: usize },
    Hold { held: Vec<u8> },
    Copy,
}

impl ReadOn {
    /// The file has `written` bytes of output, which begin with `head`.
    pub(super) fn new(written: u64, head: Vec<u8>) -> Self {
        match written {
            0 => Self::Copy,
            left => Self::Skip { left, head, compared: 0 },
        }
    }

    /// Whether output is held back that may be new.
    pub(super) fn holds(&self) -> bool {
        matches!(self, Self::Hold { .. })
    }

    /// Whether no more can be held back.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Self::Hold { held } if held.len() > MAX_HELD)
    }

    /// Takes a piece of the log, and returns the new part.
    pub(super) fn take(&mut self, piece: Bytes) -> Bytes {
        match self {
            Self::Copy => piece,
            Self::Hold { held } => {
                held.extend_from_slice(&piece);
                Bytes::new()
            }
            Self::Skip { left, head, compared } => {
                let same = piece.len().min(head.len() - *compared);
                if piece[..same] != head[*compared..*compared + same] {
                    let mut held = head[..*compared].to_vec();
                    held.extend_from_slice(&piece);
                    *self = Self::Hold { held };
                    return Bytes::new();
                }
                *compared += same;
                let skipped = piece.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= skipped as u64;
                if *left == 0 {
                    *self = Self::Copy;
                }
                piece.slice(skipped..)
            }
        }
    }

    /// Returns what is held back. Later output is not held back.
    pub(super) fn release(&mut self) -> Vec<u8> {
        match self {
            Self::Hold { held } => {
                let held = std::mem::take(held);
                *self = Self::Copy;
                held
            }
            _ => Vec::new(),
        }
    }
}

/// The new part of output that was held back; `tail` is the end of the file. Blocks for some milliseconds per megabyte.
pub(super) fn new_in(mut held: Vec<u8>, tail: &[u8]) -> Vec<u8> {
    match common(tail, &held) {
        0 if held.is_empty() => held,
        0 => [MISSING, &held].concat(),
        common => held.split_off(common),
    }
}

/// The length of the longest text with which `tail` ends and `held` begins. A script decides both, so the time is linear in their
/// length for any content: hashes modulo 2^61 - 1 are compared, and the bytes of the longest match.
fn common(tail: &[u8], held: &[u8]) -> usize {
    const MODULUS: u128 = (1 << 61) - 1;
    const BASE: u128 = 0x0123_4567_89AB_CDEF % MODULUS;
    let most = tail.len().min(held.len());
    let least = LEAST_COMMON.min(held.len());
    let (mut beginning, mut end, mut power, mut longest) = (0u128, 0u128, 1u128, 0);
    for length in 1..=most {
        beginning = (beginning * BASE + u128::from(held[length - 1])) % MODULUS;
        end = (end + power * u128::from(tail[tail.len() - length])) % MODULUS;
        power = power * BASE % MODULUS;
        if beginning == end && length >= least {
            longest = length;
        }
    }
    if tail.ends_with(&held[..longest]) { longest } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The output that a file with the content `file` gets from an engine with this log, in pieces of this length.
    fn added(file: &str, engine: &str, length: usize) -> String {
        let bytes = file.as_bytes();
        let mut read_on = ReadOn::new(bytes.len() as u64, bytes[..bytes.len().min(COMPARED)].into());
        let mut added = Vec::new();
        for piece in engine.as_bytes().chunks(length) {
            added.extend_from_slice(&read_on.take(Bytes::copy_from_slice(piece)));
        }
        added.extend(new_in(read_on.release(), bytes));
        assert!(!read_on.holds());
        String::from_utf8(added).unwrap()
    }

    fn lines(from: u32, to: u32) -> String {
        (from..to).map(|number| format!("line {number}\n")).collect()
    }

    #[test]
    fn what_the_file_has_is_left_out() {
        let missing = String::from_utf8(MISSING.into()).unwrap();
        let waits = "waiting for the download to end\n".repeat(300);
        let file = lines(0, 2000) + &waits;
        for (file, engine, expected) in [
            ("", "one two", "one two".to_owned()),
            ("one ", "one two", "two".into()),
            ("one two", "one two", String::new()),
            ("one two", "one", String::new()),
            ("one two", "", String::new()),
            // Rotated: it begins in the middle of the file.
            (&file, &(lines(1200, 2000) + &waits + "done"), "done".into()),
            (&file, &(lines(1200, 2000) + &waits), String::new()),
            // Equal lines.
            (&file, &(waits.clone() + "done"), "done".into()),
            (&file, &waits[..waits.len() / 2], String::new()),
            (&file, "end\n", String::new()),
            // Rotated further; a few bytes are equal by chance.
            ("one two", "four five", format!("{missing}four five")),
            (
                &file,
                "end\nis near, and this is the rest of it",
                format!("{missing}end\nis near, and this is the rest of it"),
            ),
        ] {
            for length in [1, 2, 3, 700, 5000] {
                assert_eq!(added(file, engine, length), expected, "{} and {engine:?}", file.len());
            }
        }
    }

    #[test]
    fn what_is_held_back_has_a_limit() {
        let mut read_on = ReadOn::new(3, b"abc".into());
        assert!(read_on.take(Bytes::from(vec![b'x'; MAX_HELD])).is_empty() && read_on.holds() && !read_on.is_full());
        assert!(read_on.take(Bytes::from_static(b"yy")).is_empty() && read_on.is_full());
        assert_eq!(read_on.release().len(), MAX_HELD + 2);
        assert_eq!(read_on.take(Bytes::from_static(b"zz")), "zz");
    }

    /// The worst case for a comparison byte by byte.
    #[test]
    fn what_repeats_itself_takes_no_longer_to_compare() {
        let (tail, mut held) = (vec![b'a'; 1 << 20], vec![b'a'; 1 << 20]);
        assert_eq!(common(&tail, &held), 1 << 20);
        held[(1 << 20) - 1] = b'b';
        assert_eq!(common(&tail, &held), (1 << 20) - 1);
        held[0] = b'b';
        assert_eq!(common(&tail, &held), 0);
    }
}
