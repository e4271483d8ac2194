use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;

use super::tree::{MAX_ALIASES, MAX_DEPTH, MAX_NODES};
use super::*;

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Manifest {
    kind: String,
    spec: Spec,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Spec {
    power: Option<Power>,
    #[serde(default)]
    mounts: Vec<Power>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    script: Option<Script>,
    api_token: Option<u32>,
    suspended: Option<bool>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Power {
    id: u32,
    want: Want,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
enum Want {
    Up,
    Down,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(tag = "from", deny_unknown_fields, rename_all = "camelCase")]
enum Script {
    Inline { text: String },
}

fn rejection(text: &str) -> YamlError {
    parse::<Manifest>(text).expect_err("must be rejected")
}

fn manifest(spec: &str) -> String {
    format!("kind: Server\nspec:\n{spec}")
}

#[test]
fn a_valid_text_is_read() {
    let text = manifest("  power: {id: 7, want: down}  # by hand\n  labels: {a: b}\n");
    let read: Manifest = parse(&text).unwrap();
    assert_eq!(read.spec.power, Some(Power { id: 7, want: Want::Down }));
    assert_eq!(parse_value(&text).unwrap()["spec"]["labels"], json!({"a": "b"}));
}

#[test]
fn an_unknown_key_is_reported_with_the_nearest_known_one() {
    let error = rejection(&manifest("  power:\n    id: 1\n    wnat: up\n"));
    assert_eq!(
        error.to_string(),
        "line 5, column 5: spec.power.wnat: unknown field `wnat`, expected `id` or `want`; did you mean `want`?"
    );
    assert_eq!(error.path.as_deref(), Some("spec.power.wnat"));
}

#[test]
fn a_name_is_near_if_most_of_it_is_right_or_it_is_a_prefix() {
    let near = |wrong, known: &[&'static str]| nearest(wrong, known.iter().copied());
    assert_eq!(near("TIMEOUT", &["time", "timeout_seconds"]), Some("timeout_seconds"));
    assert_eq!(near("Europe/Brelin", &["Europe/Bern", "Europe/Berlin"]), Some("Europe/Berlin"));
    assert_eq!(near("tim", &["timeout_seconds"]), None);
    assert_eq!(near("on", &["up", "down"]), None);
}

#[test]
fn an_unknown_key_without_a_near_one_gets_no_suggestion() {
    let error = rejection(&manifest("  zzzzzz: 1\n"));
    assert_eq!(error.path.as_deref(), Some("spec.zzzzzz"));
    assert_eq!(error.help, None);
}

#[test]
fn an_unknown_key_in_a_list_element_is_found() {
    let error = rejection(&manifest("  mounts:\n  - id: 1\n    want: up\n  - id: 2\n    Want: up\n"));
    assert_eq!((error.line, error.column), (Some(7), Some(5)));
    assert_eq!(error.path.as_deref(), Some("spec.mounts[1].Want"));
    assert_eq!(error.help.as_deref(), Some("did you mean `want`?"));
}

#[test]
fn an_unknown_key_below_a_buffered_type_is_found() {
    let error = rejection(&manifest("  script:\n    from: inline\n    txet: hello\n"));
    assert_eq!((error.line, error.column), (Some(5), Some(5)));
    assert_eq!(error.path.as_deref(), Some("spec.script.txet"));
    assert_eq!(error.help.as_deref(), Some("did you mean `text`?"));
}

#[test]
fn a_wrong_type_names_the_expected_one() {
    for (spec, message) in [
        (
            "  power: {id: one, want: up}\n",
            "line 3, column 15: spec.power.id: expected a whole number, zero or more, found the text \"one\"",
        ),
        ("  power: 5\n", "line 3, column 10: spec.power: expected a mapping of keys to values, found integer `5`"),
        ("  mounts: {a: 1}\n", "line 3, column 11: spec.mounts: expected a list, found a mapping"),
        ("  suspended: yes\n", "line 3, column 14: spec.suspended: expected true or false, found the text \"yes\""),
        (
            "  power: {id: -1, want: up}\n",
            "line 3, column 15: spec.power.id: expected a whole number, zero or more, found integer `-1`",
        ),
        (
            "  power: {id: 1, want: upp}\n",
            "line 3, column 24: spec.power.want: unknown variant `upp`, expected `up` or `down`; did you mean `up`?",
        ),
        ("  power:\n    id: 1\n", "line 4, column 5: spec.power: missing field `want`"),
    ] {
        assert_eq!(rejection(&manifest(spec)).to_string(), message);
    }
}

#[test]
fn a_wrong_value_that_may_be_a_secret_is_not_repeated() {
    let error = rejection(&manifest("  apiToken: hunter2\n"));
    assert!(error.message.contains("expected a whole number"), "{error}");
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

#[test]
fn a_tab_in_the_indentation_is_reported() {
    for (text, line) in
        [("kind: x\nspec:\n\tpower: 1\n", 3), ("kind: x\n\tspec: 1\n", 2), ("kind: x\nspec:\n  power:\n  \tid: 1\n", 4)]
    {
        let error = rejection(text);
        assert_eq!(error.line, Some(line), "{error}");
        assert!(error.message.contains(&format!("a tab at line {line}: YAML is indented with spaces")), "{error}");
    }
}

#[test]
fn a_key_that_is_there_twice_is_an_error() {
    let error = rejection(&manifest("  labels:\n    a: 1\n    b: 2\n    \"a\": 3\n"));
    assert_eq!((error.line, error.column), (Some(6), Some(5)));
    assert!(error.message.contains("the key `a` is there twice, first on line 4"), "{error}");
    // The deserializer by itself accepts the text and takes the last one.
    assert!(serde_yaml::from_str::<serde_json::Value>("a: 1\na: 2\n").is_ok());
    assert!(parse_value("a: 1\na: 2\n").is_err());
}

#[test]
fn only_near_variants_are_suggested() {
    for variant in ["on", "off", "no", "yes", "x", "true"] {
        let error = rejection(&manifest(&format!("  power: {{id: 1, want: {variant}}}\n")));
        assert!(error.help.is_none() && error.message.ends_with("expected `up` or `down`"), "{error}");
    }
    for (variant, near) in [("dwon", "down"), ("Up", "up"), ("don", "down")] {
        let error = rejection(&manifest(&format!("  power: {{id: 1, want: {variant}}}\n")));
        assert_eq!(error.help, Some(format!("did you mean `{near}`?")), "{variant}");
    }
}

#[test]
fn a_second_document_is_an_error() {
    let error = parse_value("a: 1\n---\nb: 2\n").unwrap_err();
    assert_eq!(error.line, Some(2));
    assert!(error.message.contains("second document"), "{error}");
    assert_eq!(parse_value("---\na: 1\n...\n").unwrap(), json!({"a": 1}));
}

#[test]
fn syntax_errors_have_a_position_and_a_remedy() {
    for (text, line, message) in [
        ("kind: x\nspec\n", 2, "found no `:`"),
        ("kind: a: b\n", 1, "a `:` where no key can be"),
        ("kind: @x\n", 1, "in quotes"),
        ("kind: 'it's'\n", 1, "after the closing quote"),
        ("kind: \"x\nspec: 1\n", 1, "not closed"),
        ("kind: *x\n", 1, "anchor"),
        ("kind: x\nspec:\n    a: 1\n  b: 2\n", 4, "expected a key here"),
        ("kind: [1, 2\n", 1, "a `[` is not closed"),
        ("kind: [", 1, "a `[` is not closed"),
        ("kind: x\nspec: {a: 1\nb: 2\n", 2, "a `{` is not closed; write the `}`"),
        ("kind: [a}\n", 1, "a `[` is not closed"),
        ("kind: ]\n", 1, "a bracket that closes nothing"),
        ("kind: \u{1}\n", 1, ""),
    ] {
        let error = rejection(text);
        assert!(error.to_string().contains(message), "{text:?}: {error}");
        assert_eq!(error.line, Some(line), "{text:?}: {error}");
    }
}

#[test]
fn an_empty_text_is_null_or_an_error_about_missing_content() {
    for text in ["", "\n\n", "# only a comment\n", "---\n"] {
        assert_eq!(parse_value(text).unwrap(), json!(null));
        let error = rejection(text);
        assert!(error.message.contains("nothing in it"), "{error}");
    }
}

#[test]
fn a_null_is_neither_a_text_nor_a_word() {
    #[derive(Debug, Deserialize, serde::Serialize)]
    struct Strict {
        text: String,
        word: Option<StrictWord>,
        optional: Option<String>,
        #[serde(default)]
        list: Vec<String>,
    }
    #[derive(Debug, Deserialize, serde::Serialize)]
    enum StrictWord {
        Up,
    }
    for (text, path) in [
        ("text: null\n", "text"),
        ("text: ~\n", "text"),
        ("{text: a, list: [b, NULL]}", "list[1]"),
        ("{text: a, word: {Up: null}}", "word"),
        ("{text: a, word: {id: null}}", "word"),
    ] {
        let error = parse_strict::<Strict>(text).unwrap_err();
        assert_eq!((error.line, error.path.as_deref()), (Some(1), Some(path)), "{text}: {error}");
    }
    for text in ["text: 'null'\n", "{text: '~', optional: null, word: ~}", "{text: '', word: Up, list: [a]}"] {
        assert!(parse_strict::<Strict>(text).is_ok(), "{text}");
    }
}

#[test]
fn a_number_that_is_too_large_is_named() {
    for text in ["a: 99999999999999999999\n", "a: -99999999999999999999\n"] {
        let error = parse_value(text).unwrap_err().to_string();
        assert!(error.contains("too large") && !error.contains("JSON"), "{error}");
    }
    let error = rejection(&manifest("  power: {id: 99999999999999999999, want: up}\n")).to_string();
    assert!(!error.contains("128"), "{error}");
}

#[test]
fn a_byte_order_mark_and_crlf_are_accepted() {
    let text = "\u{feff}kind: Server\r\nspec:\r\n  suspended: true\r\n";
    assert_eq!(parse_value(text).unwrap(), json!({"kind": "Server", "spec": {"suspended": true}}));
}

#[test]
fn a_text_of_ten_mebibytes_is_rejected() {
    let text = format!("a: {}", "x".repeat(10 * 1024 * 1024));
    let error = parse_value(&text).unwrap_err();
    assert!(error.message.contains("10485763 bytes are too many: the limit is 1048576 bytes (1 MiB)"), "{error}");
    assert!(parse_value(&"#".repeat(MAX_BYTES)).is_ok());
    assert!(parse_value(&"#".repeat(MAX_BYTES + 1)).is_err());
}

/// Nine levels of ten: a billion values in a few hundred bytes.
fn billion_laughs() -> String {
    let mut text = String::from("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for level in 1..9 {
        let below = format!("*a{}", level - 1);
        text += &format!("a{level}: &a{level} [{}]\n", [below.as_str(); 9].join(", "));
    }
    text
}

#[test]
fn an_alias_bomb_is_rejected_before_it_expands() {
    let error = parse_value(&billion_laughs()).unwrap_err();
    assert!(error.message.contains("aliases"), "{error}");

    // 40 aliases of a list of 10,000 values are a bomb too.
    let list = "x, ".repeat(10_000);
    let text = format!("a: &a [{list}]\nb: [{}]\n", "*a, ".repeat(40));
    let error = parse_value(&text).unwrap_err();
    assert!(error.message.contains(&MAX_NODES.to_string()), "{error}");
}

/// The deserializer limits the aliases that it follows, 100 per event of the document, and not the values that they stand
/// for. It stops the classic bomb late and accepts a flat one, so `tree` has limits of its own.
#[test]
fn the_deserializer_limits_aliases_and_not_values() {
    let error = serde_yaml::from_str::<serde_json::Value>(&billion_laughs()).unwrap_err();
    assert!(error.to_string().contains("repetition limit exceeded"), "{error}");

    let flat = format!("a: &a [{}]\nb: [{}]\n", "x, ".repeat(500), "*a, ".repeat(500));
    let expanded: serde_json::Value = serde_yaml::from_str(&flat).unwrap();
    let lists = expanded["b"].as_array().unwrap();
    assert_eq!(lists.iter().map(|l| l.as_array().unwrap().len()).sum::<usize>(), 250_000);
    assert!(parse_value(&flat).is_err());
}

#[test]
fn a_few_aliases_are_accepted() {
    let text = format!("a: &a {{x: 1}}\nb: [{}]\n", "*a, ".repeat(MAX_ALIASES));
    let value = parse_value(&text).unwrap();
    assert_eq!(value["b"].as_array().unwrap().len(), MAX_ALIASES);
    assert_eq!(value["b"][3], json!({"x": 1}));
}

#[test]
fn an_alias_of_itself_is_rejected() {
    let error = parse_value("a: &a\n  b: *a\n").unwrap_err();
    assert_eq!(error.line, Some(2));
    assert!(error.message.contains("inside the value it stands for"), "{error}");
}

#[test]
fn nesting_is_limited() {
    let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    assert!(parse_value(&nested(MAX_DEPTH)).is_ok());
    for text in [nested(MAX_DEPTH + 1), "- ".repeat(200_000), "[".repeat(MAX_BYTES), "{a: ".repeat(MAX_BYTES / 4)] {
        let error = parse_value(&text).unwrap_err();
        assert!(error.message.contains("nesting"), "{error}");
    }
}

/// The longest accepted texts, in the shapes that take most time.
#[test]
fn parsing_time_is_bounded() {
    let fill = |piece: &str| piece.repeat(MAX_BYTES / piece.len());
    let texts = [
        fill("a, "),
        fill("? "),
        fill("# x\n"),
        format!("a: |\n{}", fill("  x\n").split_at(MAX_BYTES - 8).0),
        format!("a: \"{}", fill("\\\"").split_at(MAX_BYTES - 8).0),
        fill("---\n"),
        fill("&a "),
        fill("!"),
        fill("'"),
        fill("a: 1\n"),
    ];
    for text in texts {
        let started = Instant::now();
        let _ = parse_value(&text);
        let elapsed = started.elapsed();
        assert!(elapsed < Duration::from_secs(5), "{:?}: {elapsed:?}", &text[..10]);
    }
}

#[test]
fn messages_stay_short() {
    let long = "x".repeat(100_000);
    for text in [
        manifest(&format!("  power: {long}\n")),
        manifest(&format!("  {long}: 1\n")),
        format!("{long}: 1\n{long}: 2\n"),
        manifest(&format!("  power: {{id: 1, want: {long}}}\n")),
    ] {
        let error = rejection(&text);
        assert!(error.to_string().chars().count() < 4000, "{}", error.to_string().len());
    }
}

#[test]
fn positions_are_found_by_path() {
    let text = "a:\n  b: [x, {c: 1}]\n";
    assert_eq!(locate(text, &["a", "b"]), Some((2, 3)));
    assert_eq!(locate(text, &["a", "b", "1", "c"]), Some((2, 11)));
    assert_eq!(locate(text, &["a", "nope"]), None);
    assert_eq!(locate("a: [", &["a"]), None);
}
