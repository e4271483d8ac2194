//! Where a transcript ended in a log, and where the log ended in an attachment.

use super::*;

fn new_lines(anchor: &[&str], log: &[&str]) -> Vec<String> {
    let mut aligner = Aligner::new(anchor.iter().map(|line| line_hash(line.as_bytes())).collect());
    log.iter().for_each(|line| aligner.push(line.as_bytes()));
    aligner.take().into_iter().map(|line| String::from_utf8(line).unwrap()).collect()
}

#[test]
fn lines_after_the_end_of_the_transcript_are_new() {
    for (anchor, log, new) in [
        (&[][..], &["a", "b"][..], &["a", "b"][..]),
        (&["a", "b"], &["a", "b"], &[]),
        (&["a", "b"], &["a", "b", "c"], &["c"]),
        (&["b"], &["a", "b", "c", "d"], &["c", "d"]),
        // Equal lines before and after.
        (&["a", "b", "tick"], &["a", "b", "tick", "tick", "c"], &["tick", "c"]),
        (&["x", "tick", "tick"], &["x", "tick", "tick", "tick"], &["tick"]),
        (&["a", "b"], &["b", "a", "b", "x", "b", "y"], &["x", "b", "y"]),
        // The log's beginning is gone.
        (&["a", "b", "c"], &["c", "d"], &["d"]),
        (&["a", "b"], &["x", "y"], &["x", "y"]),
        // A line that the log lost.
        (&["a", "b", "c"], &["a", "c", "d"], &["d"]),
        // The same line twice: the later one counts.
        (&["a"], &["a", "b", "a", "c"], &["c"]),
    ] {
        assert_eq!(new_lines(anchor, log), new, "{anchor:?} in {log:?}");
    }
}

#[test]
fn a_long_log_is_kept_in_part() {
    let mut aligner = Aligner::new(Vec::new());
    for number in 0..100_000 {
        aligner.push(format!("line {number}").as_bytes());
        assert!(aligner.new_bytes < WAITING);
    }
    let lines = aligner.take();
    assert_eq!(lines.last().unwrap(), b"line 99999");
    assert!(lines.iter().map(Vec::len).sum::<usize>() < WAITING);
}

#[test]
fn overlaps() {
    for (before, after, common) in [
        ("", "", 0),
        ("abc", "", 0),
        ("", "abc", 0),
        ("abc", "xyz", 0),
        ("abc", "abc", 3),
        ("xxabc", "abcyy", 3),
        ("abc", "cab", 1),
        ("aabaab", "aabaabaab", 6),
        ("aabaac", "aab", 0),
        ("abcabc", "abc", 3),
        ("ababab", "babx", 3),
    ] {
        assert_eq!(overlap(before.as_bytes(), after.as_bytes()), common, "{before:?} {after:?}");
    }
}

proptest::proptest! {
    #[test]
    fn overlaps_are_the_longest(before in "[ab]{0,12}", after in "[ab]{0,12}") {
        let longest = (0..=after.len()).rev().find(|length| before.ends_with(&after[..*length])).unwrap();
        assert_eq!(overlap(before.as_bytes(), after.as_bytes()), longest);
    }

    /// However a server's output is divided between a transcript, a log and an attachment: no line is lost, and where
    /// lines differ none comes twice.
    #[test]
    fn parts_of_an_output_are_joined(lines in 1usize..60, had: u8, opened: u8, ended: u8, chunk in 1usize..40) {
        let output: Vec<String> = (0..lines).map(|number| format!("line {number}\r\n")).collect();
        let bytes = output.concat().into_bytes();
        let part = |share: u8, of: usize| usize::from(share) * of / 255;
        let had = part(had, lines);
        let ended = part(ended, bytes.len());
        let opened = part(opened, ended);

        let text = |line: &String| line_hash(line.trim_end().as_bytes());
        let anchor = output[..had].iter().rev().take(32).rev().map(text).collect();
        let mut replay = Replay::idle(anchor);
        let mut seen = Vec::new();
        bytes[..ended].chunks(chunk).for_each(|piece| replay.feed(piece, |line| seen.push(line.to_vec())));
        assert!(bytes[opened..].chunks(chunk).all(|piece| replay.hold(piece).is_none()));
        let mut rest = replay.finish().unwrap();
        let mut new = rest.new;
        rest.lines.feed(&rest.output, |line| new.push(line.to_vec()));

        // The transcript is never ahead of the log, because the daemon gets its lines from the engine.
        let complete = bytes[..ended].iter().filter(|byte| **byte == b'\n').count();
        if had <= complete {
            let wanted: Vec<Vec<u8>> = output[had..].iter().map(|line| line.trim_end().into()).collect();
            assert_eq!(new, wanted);
        }
    }
}

impl Replay {
    /// A replay without a log.
    fn idle(anchor: Vec<u64>) -> Self {
        Self {
            container: "one".into(),
            log: None,
            open: Box::new(|_| stream::empty().boxed()),
            breaks: 0,
            until: Instant::now(),
            lines: Lines::default(),
            aligner: Aligner::new(anchor),
            window: VecDeque::new(),
            held: Vec::new(),
            overtaken: false,
            read: false,
        }
    }
}

#[test]
fn a_long_output_does_not_wait() {
    let mut replay = Replay::idle(Vec::new());
    replay.feed(b"first\nhalf a li", |_| {});
    assert!(replay.hold(b"half a li").is_none());
    assert!(replay.holds());
    let rest = replay.hold(&vec![b'x'; OVERLAP]).expect("too much");
    assert_eq!(rest.new, [b"first"]);
    assert_eq!(rest.output.len(), OVERLAP);
    assert!(!replay.holds());
    let mut seen = Vec::new();
    replay.feed(b"ne\nlater\n", |line| seen.push(String::from_utf8(line.to_vec()).unwrap()));
    assert_eq!(seen, ["half a line", "later"], "it is still matched");
    assert!(replay.finish().is_none());
}

impl Replay {
    /// Replaces the container's log.
    pub(in crate::console) fn set_log(&mut self, log: BoxStream<'static, Result<Bytes, RuntimeError>>) {
        self.log = Some(log);
    }
}
