//! Tokens from environment variables and from files.

use std::io::Read;
use std::path::PathBuf;
use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::{Problem, Secret};

/// Looks up an environment variable. `None` if it is unset or not UTF-8.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Looks up a variable of this process.
pub fn process_variables(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The longest token file, in bytes.
const MAX_TOKEN_FILE: u64 = 64 * 1024;

/// One half of the node's credentials: the text of the variable, unless it is empty, or that of the key, with `$VAR` and `${VAR}`
/// expanded and `file://PATH` read.
///
/// An empty text gives an empty token.
///
/// # Errors
/// A text that is not empty gives an empty or invalid token.
pub(super) fn token(key: &str, variable: &str, written: &Secret, variables: Variables<'_>) -> Result<Secret, Problem> {
    let from_environment = variables(variable).filter(|value| !value.is_empty());
    let (name, text) = match from_environment {
        Some(value) => (variable, value),
        None => (key, written.expose().to_owned()),
    };
    if text.trim().is_empty() {
        return Ok(Secret::default());
    }
    let (expanded, unset) = expand(&text, variables);
    let token = match expanded.strip_prefix("file://") {
        Some(path) => read_token(name, path)?,
        None => expanded,
    };
    let token = token.trim();
    if token.is_empty() {
        let message = match unset.as_slice() {
            [] => "is empty".to_owned(),
            unset => format!("is empty: the environment does not have {}", unset.join(", ")),
        };
        return Err(Problem::new(name, message));
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Problem::new(name, "holds spaces, line breaks or characters that a token cannot have"));
    }
    Ok(Secret::new(token))
}

/// Where a token is read from.
pub(super) enum Place {
    /// The key itself.
    Written,
    /// A file.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
}

/// Where the token of a key is read from, see [`token`].
pub(super) fn place(variable: &str, written: &Secret, variables: Variables<'_>) -> Place {
    if variables(variable).is_some_and(|value| !value.is_empty()) {
        return Place::Variable(variable.to_owned());
    }
    if let Some(file) = token_file(written, variables) {
        return Place::File(file);
    }
    match REFERENCE.captures(written.expose()) {
        Some(found) => Place::Variable(name(&found).to_owned()),
        None => Place::Written,
    }
}

/// The file that holds a token, if the text of its key names one.
pub(super) fn token_file(written: &Secret, variables: Variables<'_>) -> Option<PathBuf> {
    let (expanded, _) = expand(written.expose(), variables);
    expanded.strip_prefix("file://").and_then(|path| std::path::absolute(path).ok())
}

fn read_token(name: &str, path: &str) -> Result<String, Problem> {
    let problem = |why: String| {
        let help = "write the token there, or correct the path";
        Problem::new(name, format!("cannot read the token from the file {path}: {why}; {help}"))
    };
    let file = std::fs::File::open(path).map_err(|error| problem(error.to_string()))?;
    let mut text = String::new();
    let read = file.take(MAX_TOKEN_FILE + 1).read_to_string(&mut text).map_err(|error| problem(error.to_string()))?;
    if read as u64 > MAX_TOKEN_FILE {
        return Err(problem(format!("it is longer than {MAX_TOKEN_FILE} bytes")));
    }
    if text.trim().is_empty() {
        return Err(problem("it is empty".into()));
    }
    Ok(text)
}

/// `$NAME` or `${NAME}`.
static REFERENCE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\$(?:([0-9A-Za-z_]+)|\{([0-9A-Za-z_]+)\})").expect("a valid pattern"));

/// The name in a reference.
fn name<'a>(found: &Captures<'a>) -> &'a str {
    found.get(1).or_else(|| found.get(2)).map_or("", |name| name.as_str())
}

/// Replaces `$NAME` and `${NAME}`, an unset one with nothing. Any other `$` stays. Also returns the unset names.
fn expand(text: &str, variables: Variables<'_>) -> (String, Vec<String>) {
    let mut unset = Vec::new();
    let expanded = REFERENCE.replace_all(text, |found: &Captures<'_>| {
        let name = name(found);
        variables(name).unwrap_or_else(|| {
            unset.push(name.to_owned());
            String::new()
        })
    });
    (expanded.into_owned(), unset)
}

#[cfg(test)]
mod tests;
