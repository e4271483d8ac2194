use super::*;

fn none(_: &str) -> Option<String> {
    None
}

fn some(name: &str) -> Option<String> {
    let value = match name {
        "WHO" => "wings",
        "EMPTY" => "",
        "_x1" => "under",
        _ => return None,
    };
    Some(value.to_owned())
}

fn token_id(written: &Secret, variables: Variables<'_>) -> Result<Secret, Problem> {
    token("token_id", "WINGS_TOKEN_ID", written, variables)
}

fn secret(written: &Secret, variables: Variables<'_>) -> Result<Secret, Problem> {
    token("token", "WINGS_TOKEN", written, variables)
}

#[test]
fn variables_are_expanded() {
    for (text, expected) in [
        ("", ""),
        ("plain", "plain"),
        ("$WHO", "wings"),
        ("${WHO}", "wings"),
        ("a${WHO}b$WHO.c", "awingsbwings.c"),
        ("$_x1-$EMPTY-", "under--"),
        ("$", "$"),
        ("a$ b", "a$ b"),
        ("$$WHO", "$wings"),
        ("${WHO", "${WHO"),
        ("${}", "${}"),
        ("${W H}", "${W H}"),
        ("€$WHO€", "€wings€"),
        ("$NOT_SET", ""),
    ] {
        assert_eq!(expand(text, &some).0, expected, "{text}");
    }
    assert_eq!(expand("$A${B}$WHO", &some).1, ["A", "B"]);
}

#[test]
fn tokens_are_read_from_text_variables_and_files() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let good = file("good", b"s3cret\r\n\n");
    let blank = file("blank", b"\n");
    let long = file("long", &[b'x'; 70_000]);
    let binary = file("binary", &[0xff, 0xfe]);
    let two = file("two", b"one two\n");
    let missing = dir.path().join("missing").display().to_string();
    let folder = dir.path().display().to_string();

    let variables = move |name: &str| match name {
        "TOKEN_FILE" => Some(good.clone()),
        "FOLDER" => Some(folder.clone()),
        "SECRET" => Some("from-variable".to_owned()),
        _ => None,
    };
    for (written, expected) in [
        ("", Ok("")),
        ("  ", Ok("")),
        ("abc", Ok("abc")),
        ("${SECRET}", Ok("from-variable")),
        ("pre-$SECRET", Ok("pre-from-variable")),
        ("file://${TOKEN_FILE}", Ok("s3cret")),
        ("file://${FOLDER}/good", Ok("s3cret")),
        ("${NOT_SET}", Err("NOT_SET")),
        (&format!("file://{missing}"), Err("No such file")),
        (&format!("file://{blank}"), Err("it is empty")),
        (&format!("file://{long}"), Err("longer than")),
        (&format!("file://{binary}"), Err("UTF-8")),
        (&format!("file://{two}"), Err("spaces")),
        ("a b", Err("spaces")),
    ] {
        let got = secret(&Secret::new(written), &variables);
        match (got, expected) {
            (Ok(token), Ok(text)) => assert_eq!(token.expose(), text, "{written}"),
            (Err(problem), Err(part)) => {
                assert_eq!(problem.key, "token");
                assert!(problem.message.contains(part), "{written}: {problem}");
            }
            (got, expected) => panic!("{written}: {got:?}, expected {expected:?}"),
        }
    }
}

#[test]
fn the_environment_takes_precedence_over_the_file() {
    let variables = |name: &str| match name {
        "WINGS_TOKEN" => Some("${OTHER}".to_owned()),
        "OTHER" => Some("deep".to_owned()),
        "WINGS_TOKEN_ID" => Some(String::new()),
        _ => None,
    };
    assert_eq!(secret(&Secret::new("file://nowhere"), &variables).unwrap().expose(), "deep");
    // An empty variable is ignored.
    assert_eq!(token_id(&Secret::new("mine"), &variables).unwrap().expose(), "mine");
    assert_eq!(token_id(&Secret::new("mine"), &none).unwrap().expose(), "mine");
}

#[test]
fn errors_name_the_variable_and_not_the_token() {
    let variables = |name: &str| (name == "WINGS_TOKEN").then(|| "hush hush".to_owned());
    let problem = secret(&Secret::default(), &variables).unwrap_err();
    assert_eq!(problem.key, "WINGS_TOKEN");
    assert!(!problem.to_string().contains("hush"));
}

proptest::proptest! {
    #[test]
    fn expansion_without_variables_adds_nothing(text in "[$ {}A-Z_é]{0,40}") {
        let (expanded, unset) = expand(&text, &none);
        proptest::prop_assert!(expanded.len() <= text.len());
        proptest::prop_assert_eq!(text.contains('$') || expanded == text, true);
        proptest::prop_assert!(unset.len() <= text.matches('$').count());
    }
}
