//! Translation of Go's regular expressions to the syntax of the `regex` crate.
//!
//! Both belong to RE2's family. Go takes more characters literally: a brace that starts no repetition, a bracket or a doubled `&`,
//! `-` or `~` inside a class, `\<` and `\>`. It also has `\Q…\E`.

/// The same expression for the `regex` crate.
pub fn translate(expression: &str) -> String {
    let mut out = String::with_capacity(expression.len() + 8);
    let mut rest = expression;
    let mut in_class = false;
    while let Some(next) = rest.chars().next() {
        let (taken, text) = match next {
            '\\' => escape(rest),
            '{' if !in_class && !is_repetition(rest) => (1, r"\{".into()),
            '[' if !in_class => {
                in_class = true;
                class_start(rest)
            }
            '[' => match named_class(rest) {
                Some(length) => (length, rest[..length].to_owned()),
                None => (1, r"\[".into()),
            },
            ']' => {
                in_class = false;
                (1, "]".into())
            }
            '&' | '~' if in_class => (1, format!(r"\{next}")),
            '-' if in_class && rest.starts_with("--") => (2, r"-\-".into()),
            _ => (next.len_utf8(), next.to_string()),
        };
        out.push_str(&text);
        rest = &rest[taken..];
    }
    out
}

/// The start of a class; a closing bracket right after it is literal.
fn class_start(rest: &str) -> (usize, String) {
    let start = if rest.starts_with("[^") { "[^" } else { "[" };
    if rest[start.len()..].starts_with(']') {
        (start.len() + 1, format!(r"{start}\]"))
    } else {
        (start.len(), start.to_owned())
    }
}

/// An escape sequence: its length, and its translation.
fn escape(rest: &str) -> (usize, String) {
    if let Some(literal) = rest.strip_prefix(r"\Q") {
        let (literal, ending) = match literal.find(r"\E") {
            Some(end) => (&literal[..end], 2),
            None => (literal, 0),
        };
        return (2 + literal.len() + ending, regex::escape(literal));
    }
    match rest[1..].chars().next() {
        Some(literal @ ('<' | '>')) => (2, literal.to_string()),
        Some(next) => (1 + next.len_utf8(), rest[..1 + next.len_utf8()].to_owned()),
        None => (1, rest.to_owned()),
    }
}

/// Whether this brace starts `{n}`, `{n,}` or `{n,m}`.
fn is_repetition(rest: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let Some((inside, _)) = rest[1..].split_once('}') else {
        return false;
    };
    match inside.split_once(',') {
        None => digits(inside),
        Some((least, most)) => digits(least) && (most.is_empty() || digits(most)),
    }
}

/// The length of `[:name:]`.
fn named_class(rest: &str) -> Option<usize> {
    let name = rest.strip_prefix("[:")?;
    let end = name.find(":]")?;
    let named = name[..end].trim_start_matches('^').bytes().all(|byte| byte.is_ascii_lowercase());
    named.then_some(end + 4)
}

#[cfg(test)]
mod tests {
    use super::translate;
    use regex::Regex;

    #[test]
    fn characters_that_go_takes_literally_are_literal() {
        for (expression, line, matches) in [
            (r#"{"level":"info".*started"#, r#"{"level":"info","msg":"started"}"#, true),
            (r"x{,3}", "x{,3}", true),
            (r"a{2}$", "aa", true),
            (r"^a{2,}$", "a", false),
            (r"^a{2,3}$", "aaa", true),
            (r"^[[0-9:]+\] Done", "[12:00:01] Done", true),
            (r"^[[:digit:]]+$", "123", true),
            (r"^[^[:digit:]x]+$", "abc", true),
            (r"^[^[:digit:]x]+$", "ab1", false),
            (r"^[a&&b]+$", "a&b", true),
            (r"^[+--]+$", "+,-", true),
            (r"^[]a]+$", "]a", true),
            (r"^[^]a]+$", "bc", true),
            (r"^[^]a]+$", "b]", false),
            (r"^\<Server\> up", "<Server> up", true),
            (r"^\Qa.b(c\E+$", "a.b(cc", true),
            (r"\Qa.b", "axb", false),
            (r"^\[\d{2}\] é{2}", "[42] éé", true),
            (r"^Done \(\d+\.\d+s\)!", "Done (12.5s)! For help", true),
            (r"(?i)^READY$", "ready", true),
            (r"[\]\d]x", "]x", true),
        ] {
            let translated = translate(expression);
            let compiled = Regex::new(&translated).unwrap_or_else(|error| panic!("{expression}: {error}"));
            assert_eq!(compiled.is_match(line), matches, "{expression} as {translated} on {line:?}");
        }
    }

    #[test]
    fn invalid_expressions_stay_invalid() {
        for expression in ["([", "(", "a**b)", "[a", "\\", "*"] {
            assert!(Regex::new(&translate(expression)).is_err(), "{expression}");
        }
    }
}
