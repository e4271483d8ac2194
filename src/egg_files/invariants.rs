//! What holds for every parser, every file and every list of replacements.

use proptest::prelude::*;
use serde_json::{Value, json};
use strum::VariantArray;

use super::tests::{prepare, replacement};
use super::*;

fn parser() -> impl Strategy<Value = Parser> {
    prop::sample::select(Parser::VARIANTS)
}

/// Text that is often valid in one of the syntaxes.
fn file() -> impl Strategy<Value = Vec<u8>> {
    const PIECES: [&str; 44] = [
        "a",
        "b",
        "sec",
        "0",
        "1",
        "25565",
        "true",
        "null",
        "=",
        ":",
        " = ",
        ": ",
        ".",
        "#",
        ";",
        "!",
        " ",
        "  ",
        "\t",
        "\n",
        "\r\n",
        "\r",
        "\\",
        "\"",
        "'",
        "`",
        "{",
        "}",
        "[",
        "]",
        "[[t]]\n",
        "[sec]\n",
        ",",
        "- ",
        "<a>",
        "</a>",
        "<b x=\"1\"/>",
        "<!-- c -->",
        "&amp;",
        "<![CDATA[x]]>",
        "é",
        "\u{feff}",
        "a=1\n",
        "a: {b: [1, 2]}\n",
    ];
    const FILES: [&str; 7] = [
        "# c\na: 1 # d\nsec:\n  b: [1, {a: 2}]\n  a:\n  - b: x\n",
        "{\n  \"a\": 1,\n  \"sec\": {\"b\": [true, null]}\n}\n",
        "# c\na = 1 # d\n[sec]\nb = [1, 2] # e\n[[t]]\na = 1.5\n",
        "<?xml version=\"1.0\"?>\n<a>\n  <!-- c -->\n  <b x=\"1\">t</b>\n  <sec/>\n</a>\n",
        "; c\na = 1 ; d\n[sec]\nb=\"x\" # e\n",
        "#c\na=1\nb : 2\nsec.a 3\n",
        "{\"a\":{\"b\":\"x\"},\"sec\":[]}",
    ];
    let pieces = prop::collection::vec(prop::sample::select(&PIECES[..]), 0..24);
    prop_oneof![
        3 => pieces.prop_map(|pieces| pieces.concat().into_bytes()),
        3 => (prop::sample::select(&FILES[..]), prop::sample::select(&["", "\r\n", "\n"][..]))
            .prop_map(|(file, end)| if end == "\r\n" { file.replace('\n', end) } else { format!("{}{end}", file.trim_end()) })
            .prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..60),
    ]
}

fn key() -> impl Strategy<Value = String> {
    const STEPS: [&str; 20] = [
        "a",
        "b",
        "sec",
        "t",
        "x",
        "0",
        "1",
        "-1",
        "*",
        "#",
        "[0]",
        "a[1]",
        "#(a==1)",
        "#(a==1)#",
        "\\.",
        "é",
        "b[@x='1']",
        "[sec]",
        "a b",
        "",
    ];
    prop_oneof![
        6 => prop::collection::vec(prop::sample::select(&STEPS[..]), 1..4).prop_map(|steps| steps.join(".")),
        1 => any::<String>(),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        2 => prop::sample::select(&["", "25565", "true", "1.5", "x", " x ", "a ;b", "\"q\"", "é😀", "a\nb", "[x='y']", "007"][..])
            .prop_map(Value::from),
        2 => any::<String>().prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => any::<i32>().prop_map(Value::from),
        1 => Just(Value::Null),
    ]
}

/// Replacements whose result does not depend on what they have written: they have no conditions, no key twice, and append nothing.
fn replacements() -> impl Strategy<Value = Vec<Replacement>> {
    prop::collection::btree_map(key(), value(), 0..4)
        .prop_map(|pairs| prepare(json!(pairs.iter().map(|(key, value)| replacement(key, value)).collect::<Vec<_>>())))
}

/// Whether one replacement changes what another one has written, or appends.
fn interfere(parser: Parser, replacements: &[Replacement]) -> bool {
    let keys: Vec<_> = replacements.iter().map(|replacement| replacement.key.as_str()).collect();
    match parser {
        Parser::File => replacements.iter().any(|replacement| {
            // A line that a text has written begins with the same keys as before.
            let starts = |line: &str| keys.iter().filter(|key| line.starts_with(**key)).count();
            replacements.len() > 1 || (starts(&replacement.text) != 1 || replacement.text.contains('\r'))
        }),
        Parser::Properties => false,
        Parser::Ini => replacements.len() > 1 && keys.iter().any(|key| key.contains(['[', ']', ' '])),
        _ => replacements.len() > 1 || keys.iter().any(|key| key.contains("-1") || key.contains("#(")),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_global_rejects: u32::MAX, ..ProptestConfig::default() })]

    #[test]
    fn no_replacement_changes_nothing(parser in parser(), file in file()) {
        if let Ok(edited) = apply(parser, &file, &[]) {
            prop_assert_eq!(edited, Edited::default());
        }
    }

    #[test]
    fn a_second_application_changes_nothing(parser in parser(), file in file(), replacements in replacements()) {
        prop_assume!(!interfere(parser, &replacements));
        let Ok(first) = apply(parser, &file, &replacements) else { return Ok(()) };
        let Some(bytes) = first.bytes else { return Ok(()) };
        prop_assert_ne!(&bytes, &file);
        let second = apply(parser, &bytes, &replacements);
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        prop_assert_eq!(second.map(|second| second.bytes), Ok(None), "of {:?}", shown);
    }

    #[test]
    fn any_bytes_are_edited_or_rejected(
        parser in parser(),
        file in prop::collection::vec(any::<u8>(), 0..200),
        replacements in replacements(),
    ) {
        let _ = apply(parser, &file, &replacements);
    }
}
