//! The bytes of frames, and what another implementation reads from them.

use proptest::prelude::*;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket};

use super::*;

fn text(frame: &Bytes) -> &str {
    std::str::from_utf8(&frame[2..]).unwrap()
}

/// What a client reads.
fn read(frames: &Bytes) -> Vec<String> {
    let mut client = WebSocket::from_raw_socket(io::Cursor::new(frames.to_vec()), Role::Client, None);
    std::iter::from_fn(|| match client.read() {
        Ok(Frame::Text(text)) => Some(text.to_string()),
        Ok(other) => panic!("{other:?}"),
        Err(_) => None,
    })
    .collect()
}

#[test]
fn a_message_ends_with_a_newline_and_has_arguments_only_if_there_are_any() {
    assert_eq!(text(&frame("auth success", &[])), "{\"event\":\"auth success\"}\n");
    assert_eq!(text(&frame("status", &["running"])), "{\"event\":\"status\",\"args\":[\"running\"]}\n");
    assert_eq!(text(&frame("x", &["", "b"])), "{\"event\":\"x\",\"args\":[\"\",\"b\"]}\n");
}

#[test]
fn what_a_page_could_take_for_html_is_escaped() {
    let frame = frame("console output", &["<b>&\u{2028}\"\\\u{1b}[0m ü ⚒\u{0}"]);
    let expected =
        "{\"event\":\"console output\",\"args\":[\"\\u003cb\\u003e\\u0026\\u2028\\\"\\\\\\u001b[0m ü ⚒\\u0000\"]}\n";
    assert_eq!(text(&frame), expected);
}

#[test]
fn lines_of_all_lengths_are_read_by_a_client() {
    let mut output = OutputBuilder::new("e");
    assert!(output.take().is_none());
    let lines: Vec<String> = [0, 1, 100, 125, 126, 65_000, 65_535, 70_000].map(|length| "x".repeat(length)).into();
    for (number, line) in lines.iter().enumerate() {
        output.push(line, number as u64);
    }
    let output = output.take().unwrap();
    let expected: Vec<String> =
        lines.iter().map(|line| format!("{{\"event\":\"e\",\"args\":[\"{line}\"]}}\n")).collect();
    assert_eq!(read(output.frames()), expected);
    let numbered: Vec<(u64, String)> = (0..).zip(lines).collect();
    assert_eq!(output.lines().collect::<Vec<_>>(), numbered);
}

proptest! {
    #[test]
    fn any_line_is_read_as_it_was_printed(lines in prop::collection::vec(".*", 1..20)) {
        let mut output = OutputBuilder::new("console output");
        lines.iter().for_each(|line| output.push(line, 7));
        prop_assert!(output.bytes() <= lines.iter().map(|line| line.len() * 6 + 60).sum());
        let output = output.take().unwrap();
        prop_assert_eq!(output.len(), lines.len());
        let read: Vec<serde_json::Value> = read(output.frames()).iter().map(|text| serde_json::from_str(text).unwrap()).collect();
        let expected: Vec<_> = lines.iter().map(|line| serde_json::json!({"event": "console output", "args": [line]})).collect();
        prop_assert_eq!(read, expected);
        let printed: Vec<String> = output.lines().map(|(_, line)| line).collect();
        prop_assert_eq!(printed, lines);
    }
}
