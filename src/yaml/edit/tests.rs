use serde_json::json;

use super::*;

/// Applies `change` to the value of the text, merges it, and checks what holds for every merge.
fn edited(text: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut value = parse_value(text).unwrap();
    change(&mut value);
    let merged = merge(text, &value).unwrap();
    assert_eq!(parse_value(&merged).unwrap(), value, "{merged}");
    assert_eq!(merge(&merged, &value).unwrap(), merged, "a second merge changes nothing");
    merged
}

const MANIFEST: &str = r#"# my survival server; ask Ann before you change the port
apiVersion: alula/v1
kind: Server

metadata:
    uuid: "550e8400-e29b-41d4-a716-446655440000"   # keep
    managedBy: file

spec:
    # bump the id for a restart
    power:
        id: '001'    # last: monday
        want: down   # up | down
    suspended: no-idea

    settings:
        image: ghcr.io/x/java:21
        environment: {MEMORY: "1024", EULA: "true"}   # strings!
        mounts:
        # the shared maps
        - source: /srv/maps
          target: /maps
        - source: /srv/logs   # for promtail
          target: /logs

    script: |
        #!/bin/sh
        # comment in the script
        echo hi

    # nothing below
"#;

#[test]
fn a_changed_scalar_changes_nothing_else() {
    let merged = edited(MANIFEST, |v| {
        v["spec"]["power"]["id"] = json!("002");
        v["spec"]["power"]["want"] = json!("up");
    });
    let expected = MANIFEST.replace("'001'", "'002'").replace("want: down", "want: up");
    assert_eq!(merged, expected);
}

#[test]
fn quotes_are_kept_and_added_where_needed() {
    let text = "a: 'x'\nb: \"x\"\nc: x\nd: x\ne: 1\n";
    let merged = edited(text, |v| {
        *v = json!({"a": "it's", "b": "new", "c": "true", "d": "plain words", "e": 2.5});
    });
    assert_eq!(merged, "a: 'it''s'\nb: \"new\"\nc: 'true'\nd: plain words\ne: 2.5\n");
}

#[test]
fn a_missing_mapping_is_inserted_with_the_indentation_of_the_file() {
    let merged = edited(MANIFEST, |v| {
        v["spec"]["install"] = json!({"token": "t1", "limits": {"cpu": 100}, "tags": ["a", "b"]});
    });
    let inserted = "    install:\n        token: t1\n        limits:\n            cpu: 100\n        tags:\n        - a\n        - b\n";
    let script_end = "        echo hi\n";
    assert_eq!(merged, MANIFEST.replace(script_end, &format!("{script_end}{inserted}")));
}

#[test]
fn a_new_key_follows_the_one_before_it() {
    let text = "a: 1   # one\nb:\n  x: 1\n  # end of b\nc: 3\n";
    let new = json!({"a": 1, "a2": 2, "b": {"x": 1}, "b2": {"w": null}, "c": 3, "d": []});
    let merged = merge(text, &new).unwrap();
    assert_eq!(merged, "a: 1   # one\na2: 2\nb:\n  x: 1\n  # end of b\nb2:\n  w: null\nc: 3\nd: []\n");
}

#[test]
fn the_comments_of_a_removed_key_are_removed() {
    let text =
        "# the file\n\na: 1\n\n# about b\n# more about b\nb: {x: 1}  # b!\n# about c\nc:\n  x: 1\n  # inside c\nd: 4\n";
    let merged = edited(text, |v| {
        v.as_object_mut().unwrap().shift_remove("b");
        v.as_object_mut().unwrap().shift_remove("c");
    });
    assert_eq!(merged, "# the file\n\na: 1\n\nd: 4\n");
}

#[test]
fn the_comment_at_the_head_of_the_file_stays() {
    let merged = edited("# the file\na: 1\nb: 2\n", |v| {
        v.as_object_mut().unwrap().shift_remove("a");
    });
    assert_eq!(merged, "# the file\nb: 2\n");
}

#[test]
fn flow_collections_stay_flow() {
    let merged = edited(MANIFEST, |v| {
        let environment = &mut v["spec"]["settings"]["environment"];
        environment["MEMORY"] = json!("2048");
        environment["NAME"] = json!("a, b");
        environment.as_object_mut().unwrap().shift_remove("EULA");
    });
    let expected = MANIFEST.replace(r#"{MEMORY: "1024", EULA: "true"}"#, r#"{MEMORY: '2048', NAME: 'a, b'}"#);
    assert_eq!(merged, expected);
}

#[test]
fn a_text_that_ends_with_a_dash_is_quoted_inside_brackets() {
    let text = "b: {\"a\":null}   # one\na: \"\"   # two\n";
    let merged = edited(text, |v| v["b"]["a"] = json!("a -"));
    assert_eq!(merged, "b: {\"a\":'a -'}   # one\na: \"\"   # two\n");
    assert_eq!(edited("l: [a]   # one\n", |v| v["l"][0] = json!("b -")), "l: ['b -']   # one\n");
}

#[test]
fn json_over_several_lines_keeps_its_lines() {
    let text = "{\n  \"a\": 1,   # one\n  \"b\": [1, 2,\n    3],\n  \"c\": {\"x\": true}\n}\n";
    let merged = edited(text, |v| {
        v["b"] = json!([1, 2, 4]);
        v["c"]["w"] = json!("n");
    });
    assert_eq!(merged, "{\n  \"a\": 1,   # one\n  \"b\": [1, 2,\n    4],\n  \"c\": {\"x\": true, w: 'n'}\n}\n");
}

#[test]
fn list_elements_are_changed_inserted_and_removed_in_place() {
    let text = "l:\n  - a   # first\n  # about b\n  - b\n  - x: 1\n    w: 2   # two\n  - d\nend: 1\n";
    let merged = edited(text, |v| v["l"] = json!(["a", "c", {"x": 1, "w": 3}, "d"]));
    assert_eq!(merged, text.replace("- b", "- c").replace("w: 2", "w: 3"));
    let merged = edited(text, |v| drop(v["l"].as_array_mut().unwrap().remove(1)));
    assert_eq!(merged, "l:\n  - a   # first\n  - x: 1\n    w: 2   # two\n  - d\nend: 1\n");
    let merged = edited(text, |v| v["l"].as_array_mut().unwrap().insert(3, json!({"k": [1], "m": "t"})));
    assert_eq!(merged, text.replace("  - d\n", "  - k:\n      - 1\n    m: t\n  - d\n"));
    let merged = edited(text, |v| v["l"].as_array_mut().unwrap().insert(0, json!("zero")));
    assert_eq!(merged, text.replace("  - a ", "  - zero\n  - a "));
}

#[test]
fn the_first_key_after_a_dash_can_be_removed() {
    let text = "- a: 1\n  b: 2   # two\n  c: 3\n- a: 4\n";
    let merged = edited(text, |v| {
        v[0].as_object_mut().unwrap().shift_remove("a");
    });
    assert_eq!(merged, "- b: 2   # two\n  c: 3\n- a: 4\n");
}

#[test]
fn a_script_is_written_as_a_literal_block() {
    let merged = edited(MANIFEST, |v| v["spec"]["script"] = json!("#!/bin/bash\n\nexit 0\n"));
    let old = "        #!/bin/sh\n        # comment in the script\n        echo hi\n";
    assert_eq!(merged, MANIFEST.replace(old, "        #!/bin/bash\n\n        exit 0\n"));

    let merged = edited("script: none   # yet\nb: 1\n", |v| v["script"] = json!("a\nb"));
    assert_eq!(merged, "script: |-   # yet\n  a\n  b\nb: 1\n");
}

#[test]
fn values_change_between_types() {
    for (text, key, new, expected) in [
        ("p:   # why\nq: 1\n", "p", json!("v"), "p: v   # why\nq: 1\n"),
        ("p:   # why\nq: 1\n", "p", json!({"x": 1}), "p:   # why\n  x: 1\nq: 1\n"),
        ("p: null   # why\nq: 1\n", "p", json!({"x": 1}), "p:    # why\n  x: 1\nq: 1\n"),
        ("p: null\nq: 1\n", "p", json!([1]), "p:\n- 1\nq: 1\n"),
        ("p: {}\nq: 1\n", "p", json!({"x": 1}), "p:\n  x: 1\nq: 1\n"),
        ("p:   # why\n  x: 1\n  # in p\nq: 1\n", "p", json!(5), "p: 5   # why\nq: 1\n"),
        ("p:   # why\n  - 1\nq: 1\n", "p", json!({"x": 1}), "p:   # why\n  x: 1\nq: 1\n"),
        ("p:\n  x: 1\nq: 1\n", "p", json!({}), "p: {}\nq: 1\n"),
        ("p:\n  x: 1\nq: 1\n", "p", json!({"w": 2}), "p:\n  w: 2\nq: 1\n"),
        ("p: |\n  text\nq: 1\n", "p", json!("one line"), "p: one line\nq: 1\n"),
        ("p: a\n  b # c\nq: 1\n", "p", json!(7), "p: 7 # c\nq: 1\n"),
    ] {
        let merged = edited(text, |v| v[key] = new);
        assert_eq!(merged.replace(":    #", ":   #"), expected.replace(":    #", ":   #"), "from {text:?}");
    }
}

#[test]
fn crlf_and_a_missing_last_line_break_are_kept() {
    let merged = edited("a: 1\r\nb:\r\n  c: 2   # two\r\n", |v| {
        v["b"]["d"] = json!({"e": 1});
        v["a"] = json!("x\ny");
    });
    assert_eq!(merged, "a: |-\r\n  x\r\n  y\r\nb:\r\n  c: 2   # two\r\n  d:\r\n    e: 1\r\n");

    assert_eq!(edited("a: 1", |v| v["b"] = json!(2)), "a: 1\nb: 2");
    assert_eq!(edited("a:\n  b: 1", |v| v["a"]["c"] = json!(2)), "a:\n  b: 1\n  c: 2");
}

#[test]
fn directives_markers_and_byte_order_mark_are_kept() {
    let text = "%YAML 1.2\n---   # begin\na: 1\n...\n";
    assert_eq!(edited(text, |v| v["b"] = json!(2)), "%YAML 1.2\n---   # begin\na: 1\nb: 2\n...\n");
    let text = "\u{feff}# bom\na: 1\n";
    assert_eq!(edited(text, |v| v["a"] = json!(2)), "\u{feff}# bom\na: 2\n");
    let text = "# only\n# comments\n";
    let merged = merge(text, &json!({"a": 1})).unwrap();
    assert_eq!(merged, "# only\n# comments\na: 1\n");
    assert_eq!(merge("", &json!({"a": 1})).unwrap(), "a: 1\n");
}

#[test]
fn anchors_and_aliases_never_change_a_value() {
    let text = "base: &b   # shared\n  x: 1\n  y: 2\none: *b\ntwo: *b   # too\nlast: 1   # keep\n";
    // An alias is replaced; its anchor and other aliases stay.
    let merged = edited(text, |v| v["one"]["x"] = json!(9));
    assert!(merged.contains("two: *b   # too\nlast: 1   # keep\n"), "{merged}");
    assert!(merged.starts_with("base: &b   # shared\n  x: 1\n"), "{merged}");
    // The anchored value changes; the values of its aliases must not.
    let merged = edited(text, |v| v["base"]["x"] = json!(9));
    assert_eq!(parse_value(&merged).unwrap()["one"]["x"], json!(1));
    let merged = edited(text, |v| {
        v.as_object_mut().unwrap().shift_remove("base");
    });
    assert_eq!(parse_value(&merged).unwrap()["two"], json!({"x": 1, "y": 2}));
}

#[test]
fn a_construct_that_cannot_be_edited_costs_the_comments_of_its_mapping_only() {
    let text = "# head\na:\n  ? odd\n  : 1\n  b: 2   # lost\nc: 3   # kept\n";
    let merged = edited(text, |v| v["a"]["odd"] = json!(5));
    assert!(merged.starts_with("# head\na:"), "{merged}");
    assert!(merged.ends_with("c: 3   # kept\n"), "{merged}");
}

#[test]
fn an_invalid_text_is_rejected() {
    let error = merge("a: [1,\n", &json!({"a": 1})).unwrap_err();
    assert!(error.line.is_some());
    assert!(merge("a: 1\na: 2\n", &json!({"a": 1})).is_err());
}

#[test]
fn a_rewritten_document_does_not_absorb_the_last_comment() {
    let merged = merge("# head\na: [1]   # tail\n", &json!({"b": "x\ny\n"})).unwrap();
    assert_eq!(merged, "# head\nb: |\n  x\n  y\n");
}

#[test]
fn a_value_beyond_the_limits_is_rejected() {
    let long = "k".repeat(2000);
    let mut new = json!({"a": 1});
    new[&long] = json!("x");
    assert_eq!(parse_value(&merge("a: 1   # one\n", &new).unwrap()).unwrap(), new);

    let deep = (0..100).fold(json!(1), |inner, _| json!([inner]));
    assert!(merge("a: 1\n", &deep).is_err());
    let huge = json!({"a": "x".repeat(crate::yaml::MAX_BYTES)});
    assert!(merge("a: 1\n", &huge).is_err());
}

#[test]
fn unusual_texts_are_read_back_unchanged() {
    for unusual in [
        "",
        " ",
        "~",
        "null",
        "yes",
        "1e3",
        "0x1f",
        "012",
        "1_000",
        "12:30",
        "- a",
        "a: b",
        "a #b",
        "#",
        "@x",
        "%x",
        "*x",
        "&x",
        "!x",
        "'",
        "\"",
        "\\",
        "\u{0}",
        "\u{7f}",
        "\u{85}",
        "\u{2028}",
        "\u{feff}",
        "a\tb",
        "\ta",
        " a",
        "a ",
        "a\n",
        "\na",
        "a\n\n",
        " a\nb",
        "a\n b\n",
        "a\r\nb",
        "a\n\n\nb",
        "a\n \nb",
        "é\nü\n",
        "---",
        "...",
        "? a",
        "[a]",
        "{a}",
        "|",
        ">",
        "<<",
        "=",
        "a\n---\nb\n",
        "a\n...\n",
        "\t\n",
        "#a\n#b\n",
        "😀\n😀",
    ] {
        for text in [
            "k: old   # c\nz: 1\n",
            "k: 'old'   # c\nz: 1\n",
            "k: \"old\"\nz: 1\n",
            "k: |\n  old\nz: 1\n",
            "k: {k: old}\nz: 1\n",
            "k:\n- old\nz: 1\n",
        ] {
            let merged = edited(text, |v| match &mut v["k"] {
                Value::Object(map) => map["k"] = json!(unusual),
                Value::Array(list) => list[0] = json!(unusual),
                other => *other = json!(unusual),
            });
            assert!(merged.ends_with("z: 1\n"), "{merged}");
            let as_key = edited(text, |v| v[unusual] = json!({"x": 1}));
            assert!(as_key.contains("z: 1\n"), "{as_key}");
        }
    }
}

#[test]
fn a_text_that_yaml_1_1_takes_for_something_else_is_quoted() {
    for (text, written) in [
        ("2020-01-01", "'2020-01-01'"),
        ("2020-1-1 10:00:00", "'2020-1-1 10:00:00'"),
        ("12:30:45", "'12:30:45'"),
        ("1_000", "'1_000'"),
        ("off", "'off'"),
        ("1.20-SNAPSHOT", "1.20-SNAPSHOT"),
        ("20-01-01", "20-01-01"),
    ] {
        assert_eq!(merge("k: old\n", &json!({"k": text})).unwrap(), format!("k: {written}\n"));
    }
}
