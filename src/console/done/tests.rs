//! Done lines, as the conformance suite has them and beyond.

use super::*;

fn matcher(done: &[&str], strip_ansi: bool) -> DoneMatcher {
    let startup = Startup { done: done.iter().map(|text| (*text).into()).collect(), strip_ansi };
    DoneMatcher::new(ServerId::new(uuid::Uuid::nil()), &startup)
}

#[test]
fn matching_lines() {
    for (done, line) in [
        (&["ready"][..], "Server is ready"),
        (&["never seen", "is ready"], "Server is ready"),
        (&[r"regex:^Done \(\d+\.\d+s\)!"], "Done (12.5s)! For help, type help"),
        (&["regex:[Rr]eady$"], "Server is ready"),
        (&["Done (", "regex:^x"], "Done (3.1s)!"),
        (&["regex:([", "is ready"], "Server is ready"),
        (&["regex:(["], "it prints regex:([ itself"),
        (&["regex:"], "it prints regex: itself"),
        (&[")! For help, type "], "[12:00:00] Done (3.1s)! For help, type \"help\""),
        (&[""], "an empty text is in every line"),
    ] {
        assert!(matcher(done, false).matches(line), "{done:?} {line:?}");
    }
}

#[test]
fn other_lines() {
    for (done, line) in [
        (&["READY"][..], "Server is ready"),
        (&["regex:^ready"], "Server is ready"),
        (&["S.rver"], "Server is ready"),
        (&[], "Server is ready"),
        (&["regex:(["], "(["),
        (&["regex:"], "Server is ready"),
    ] {
        assert!(!matcher(done, false).matches(line), "{done:?} {line:?}");
    }
}

#[test]
fn colours_are_matched_unless_they_are_stripped() {
    let line = "\u{1b}[32mServer \u{1b}[1mis\u{1b}[0m ready";
    assert!(matcher(&["regex:^Server is ready"], true).matches(line));
    assert!(!matcher(&["regex:^Server is ready"], false).matches(line));
    assert!(!matcher(&["Server is ready"], false).matches(line));
}

#[test]
fn stripping_keeps_the_text() {
    for (line, clean) in [
        ("plain ünïcode", "plain ünïcode"),
        ("\u{1b}[38;5;196mred\u{1b}[m", "red"),
        ("\u{1b}[2K\u{1b}[1Gprompt> ", "prompt> "),
        ("\u{1b}[?25lhidden\u{1b}[?25h", "hidden"),
        ("\u{1b}]0;a title\u{7}text", "text"),
        ("\u{1b}]0;a title\u{1b}\\text", "text"),
        ("\u{1b}(Btext\u{1b}=", "text"),
        ("cut off \u{1b}[3", "cut off "),
        ("cut off \u{1b}", "cut off "),
    ] {
        assert!(matcher(&[&format!("regex:^{clean}$")], true).matches(line), "{line:?}");
    }
}

#[test]
fn expensive_expressions_are_rejected_fast() {
    let greedy = r"regex:((\w{100}){100}){100}";
    assert!(matches!(matcher(&[greedy], false).entries[..], [Entry::Text(_)]));
    let many = vec!["x"; 10_000];
    assert_eq!(matcher(&many, false).entries.len(), ENTRIES);
}
