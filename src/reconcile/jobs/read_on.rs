//! Where an installer's output goes on from what its log has already.
//!
//! The engine gives its log from the beginning, piece by piece; what is new comes out. As a rule the log begins as the file
//! does, and as many bytes are skipped as the file has. An engine that has rotated its log begins somewhere in the middle: then
//! its output is held back until no more comes for a while, and what it begins with is compared with what the file ends with.
//! Where they have nothing in common, a line says that something is missing.
//!
//! ```text
//! Skip ──(as many bytes as the file has)──▶ Copy
//!   │                                        ▲
//!   └──(it begins otherwise)──▶ Hold ────────┘ (a pause, the end, or too much to hold)
//! ```

use bytes::Bytes;

/// So many bytes of the file's beginning are compared.
pub(super) const COMPARED: usize = 4096;
/// Most bytes that are held back, and of the file's end that they are compared with.
pub(super) const MAX_HELD: usize = 8 * 1024 * 1024;
/// Fewer bytes in common, before others that are not, are taken for chance.
const LEAST_COMMON: usize = 8;
/// Stands where output was lost.
const MISSING: &[u8] = b"\n[output is missing here: the container engine has rotated its log]\n";

/// See the module.
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

    /// Takes a piece and gives what is new.
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

    /// Takes what is held back, and holds nothing back from now on.
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

/// What is new of output that was held back, where the file ends with `tail`. Takes a moment for megabytes.
pub(super) fn new_in(mut held: Vec<u8>, tail: &[u8]) -> Vec<u8> {
    match common(tail, &held) {
        0 if held.is_empty() => held,
        0 => [MISSING, &held].concat(),
        common => held.split_off(common),
    }
}

/// The most bytes with which `tail` ends and `held` begins. Both come from a script, so the time is linear in their length
/// whatever they say: beginnings and ends are compared by a polynomial modulo 2^61 - 1, and the longest match byte by byte.
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

    /// What a file that has `file` gets of an engine whose log is `engine`, in pieces of this length.
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
            // Rotated: it begins somewhere in what the file has.
            (&file, &(lines(1200, 2000) + &waits + "done"), "done".into()),
            (&file, &(lines(1200, 2000) + &waits), String::new()),
            // With lines that are all alike.
            (&file, &(waits.clone() + "done"), "done".into()),
            (&file, &waits[..waits.len() / 2], String::new()),
            (&file, "end\n", String::new()),
            // Rotated beyond that; a few bytes in common are chance.
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

    /// A script chooses what it prints.
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
