//! Errors of the YAML parser, translated for the person who wrote the file.

use super::YamlError;

/// Messages of the scanner about brackets that do not match.
const FLOW: [&str; 4] =
    ["did not find expected node content", "illegal placement of ':'", "a flow mapping", "a flow sequence"];
/// The longest quotation from a file in a message, in characters.
pub(super) const MAX_QUOTE: usize = 60;
/// The longest message, in characters.
pub(super) const MAX_MESSAGE: usize = 1000;

/// The first `characters` of a text.
pub(super) fn cut(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// A line and a column, counted from one.
type Position = (usize, usize);

/// The error for a text that is not YAML, from the scanner's message and position. `unclosed` is the innermost open bracket.
pub(super) fn explain(text: &str, message: &str, at: Position, unclosed: Option<(char, Position)>) -> YamlError {
    let (mut line, mut column) = at;
    if let Some(tab) = tab_in_indentation(text, line) {
        let message = format!("a tab at line {tab}: YAML is indented with spaces");
        return YamlError::at(tab, 1, message).help("replace the tab by spaces");
    }
    if let Some((bracket, (line, column))) = unclosed
        && FLOW.iter().any(|part| message.contains(part))
    {
        let closing = if bracket == '[' { ']' } else { '}' };
        let error = YamlError::at(line, column, format!("a `{bracket}` is not closed"));
        return error.help(format!("write the `{closing}` that belongs to it, or put the value in quotes"));
    }
    if message.contains("simple key expect") {
        // The scanner notices a missing colon only on a later line.
        (line, column) = last_content_line(text, line).unwrap_or(at);
    }
    let (message, help) = translate(message);
    YamlError { help: help.map(str::to_owned), ..YamlError::at(line, column, message) }
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

/// A message and a remedy for a message of the scanner.
fn translate(message: &str) -> (String, Option<&'static str>) {
    const COLON: &str = "a `:` where no key can be";
    const COLON_HELP: &str = "put a value that contains `: ` in quotes, or correct the indentation";
    const QUOTE: &str = "a quoted text that is not closed";
    const QUOTE_HELP: &str = "close the quote";
    let known: [(&str, &str, Option<&'static str>); 13] = [
        ("illegal placement of ':'", COLON, Some(COLON_HELP)),
        ("mapping values are not allowed", COLON, Some(COLON_HELP)),
        ("misplaced bracket", "a bracket that closes nothing", Some("put the value in quotes")),
        ("did not find expected node content", "expected a value here", Some("put the value in quotes")),
        ("simple key expect", "expected `key: value`, found no `:`", Some("write a `:` and a space after the key")),
        (
            "invalid indentation in quoted scalar",
            "a quoted text that is not closed, or whose next line is not indented",
            Some(QUOTE_HELP),
        ),
        ("unclosed quote", QUOTE, Some(QUOTE_HELP)),
        ("found unexpected end of stream", QUOTE, Some(QUOTE_HELP)),
        (
            "invalid trailing content",
            "text after the closing quote",
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
            "an alias (`*name`) to an anchor (`&name`) that does not exist",
            Some("put a value that begins with `*` in quotes"),
        ),
        ("recursion limit", "too many levels of nesting", None),
    ];
    if let Some((_, translation, help)) = known.iter().find(|(needle, ..)| message.contains(needle)) {
        return ((*translation).to_owned(), *help);
    }
    let help = (message.contains("unexpected character") || message.contains("cannot start any token"))
        .then_some("put the value in quotes");
    (cut(message, MAX_MESSAGE), help)
}
