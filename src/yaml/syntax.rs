//! What the parser complains about, as a place and in words for the person who wrote the file.

use super::YamlError;

mod brackets;

/// What the scanner says where brackets do not match.
const FLOW: [&str; 4] =
    ["did not find expected node content", "illegal placement of ':'", "a flow mapping", "a flow sequence"];
/// The longest piece of a file that a message repeats, in characters.
pub(super) const MAX_QUOTE: usize = 60;
/// The longest message, in characters.
pub(super) const MAX_MESSAGE: usize = 1000;

/// `text` as far as a message repeats it.
pub(super) fn short(text: &str) -> String {
    cut(text, MAX_QUOTE)
}

/// The first `characters` of a text.
pub(super) fn cut(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// A text that is not YAML. `line` and `column` count from one.
pub(super) fn complaint(text: &str, message: &str, line: usize, column: usize) -> YamlError {
    if let Some(tab) = tab_in_indentation(text, line) {
        let message = format!("a tab at line {tab}: YAML is indented with spaces");
        return YamlError::at(tab, 1, message).help("replace the tab by spaces");
    }
    if FLOW.iter().any(|words| message.contains(words))
        && let Some((bracket, line, column)) = brackets::unclosed(text)
    {
        let (opening, closing) = bracket;
        let error = YamlError::at(line, column, format!("a `{opening}` is not closed"));
        return error.help(format!("write the `{closing}` that belongs to it, or put the value in quotes"));
    }
    let (says, help) = in_words(message);
    let (line, column) = if message.contains("simple key expect") {
        // The scanner notices only on a later line that the colon never came.
        last_content_line(text, line).unwrap_or((line, column))
    } else {
        (line, column)
    };
    let error = YamlError::at(line, column, says);
    match help {
        Some(help) => error.help(help),
        None => error,
    }
}

/// The first of the lines around `line` that is indented with a tab.
fn tab_in_indentation(text: &str, line: usize) -> Option<usize> {
    let first = line.saturating_sub(1).max(1);
    text.lines().enumerate().skip(first - 1).take(3).find_map(|(index, content)| {
        let indentation = content.len() - content.trim_start_matches([' ', '\t']).len();
        content[..indentation].contains('\t').then_some(index + 1)
    })
}

/// The last line before `line` that is not blank, and the column of its first character.
fn last_content_line(text: &str, line: usize) -> Option<(usize, usize)> {
    let before = text.lines().enumerate().take(line.saturating_sub(1));
    let (index, content) = before.filter(|(_, l)| !l.trim().is_empty()).last()?;
    Some((index + 1, content.len() - content.trim_start().len() + 1))
}

/// The scanner's words in those of people who write files.
fn in_words(message: &str) -> (String, Option<&'static str>) {
    let known: [(&str, &str, Option<&'static str>); 13] = [
        (
            "illegal placement of ':'",
            "a `:` where no key can be",
            Some("put a value that contains `: ` in quotes, or correct the indentation"),
        ),
        ("misplaced bracket", "a bracket that closes nothing", Some("put the value in quotes")),
        ("did not find expected node content", "expected a value here", Some("put the value in quotes")),
        (
            "mapping values are not allowed",
            "a `:` where no key can be",
            Some("put a value that contains `: ` in quotes, or correct the indentation"),
        ),
        ("simple key expect", "expected `key: value`, found no `:`", Some("write a `:` and a space after the key")),
        (
            "invalid indentation in quoted scalar",
            "a quoted text that is not closed, or whose next line is not indented",
            Some("close the quote"),
        ),
        ("unclosed quote", "a quoted text that is not closed", Some("close the quote")),
        ("found unexpected end of stream", "a quoted text that is not closed", Some("close the quote")),
        (
            "invalid trailing content",
            "text behind the closing quote",
            Some("in single quotes, write a quote as two: `''`"),
        ),
        (
            "while parsing a block mapping, did not find expected key",
            "expected a key here",
            Some("indent all keys of one mapping alike"),
        ),
        (
            "did not find expected '-' indicator",
            "expected another `- ` of the list here",
            Some("indent all elements of one list alike"),
        ),
        (
            "unknown anchor",
            "an alias (`*name`) to an anchor (`&name`) that is not there",
            Some("put a value that begins with `*` in quotes"),
        ),
        ("recursion limit", "too deep a nesting", None),
    ];
    if let Some((_, says, help)) = known.iter().find(|(needle, ..)| message.contains(needle)) {
        return ((*says).to_owned(), *help);
    }
    let help = (message.contains("unexpected character") || message.contains("cannot start any token"))
        .then_some("put the value in quotes");
    (cut(message, MAX_MESSAGE), help)
}
