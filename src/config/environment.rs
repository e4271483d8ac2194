//! Tokens from environment variables and from files.

use std::io::Read;

use super::{Problem, Secret};

/// Looks up an environment variable. `None` if it is unset or not UTF-8.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Looks up a variable of this process.
pub fn process_variables(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The longest token file, in bytes.
const MAX_TOKEN_FILE: u64 = 64 * 1024;

/// A key of the file with one half of the node's credentials.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TokenKey {
    /// Name in the file.
    pub key: &'static str,
    /// Variable that takes precedence over the file unless it is empty.
    pub variable: &'static str,
}

pub(crate) const TOKEN_ID: TokenKey = TokenKey { key: "token_id", variable: "WINGS_TOKEN_ID" };
pub(crate) const TOKEN: TokenKey = TokenKey { key: "token", variable: "WINGS_TOKEN" };

impl TokenKey {
    /// The token: the text of the variable or the file, with `$VAR` and `${VAR}` expanded and `file://PATH` read.
    ///
    /// An empty text gives an empty token.
    ///
    /// # Errors
    /// A text that is not empty gives an empty or invalid token.
    pub(crate) fn resolve(self, written: &Secret, variables: Variables<'_>) -> Result<Secret, Problem> {
        let from_environment = variables(self.variable).filter(|value| !value.is_empty());
        let (name, text) = match from_environment {
            Some(value) => (self.variable, value),
            None => (self.key, written.expose().to_owned()),
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

/// Replaces `$NAME` and `${NAME}`, an unset one with nothing. Any other `$` stays. Also returns the unset names.
pub(crate) fn expand(text: &str, variables: Variables<'_>) -> (String, Vec<String>) {
    let (mut out, mut unset) = (String::new(), Vec::new());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let Some((name, length)) = variable_name(after) else {
            out.push('$');
            rest = after;
            continue;
        };
        match variables(name) {
            Some(value) => out.push_str(&value),
            None => unset.push(name.to_owned()),
        }
        rest = &after[length..];
    }
    out.push_str(rest);
    (out, unset)
}

/// The name after a `$`, and its length including braces.
fn variable_name(after: &str) -> Option<(&str, usize)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let (name, length) = match after.strip_prefix('{') {
        Some(braced) => {
            let end = braced.find('}')?;
            (&braced[..end], end + 2)
        }
        None => {
            let end = after.find(|c| !is_name(c)).unwrap_or(after.len());
            (&after[..end], end)
        }
    };
    (!name.is_empty() && name.chars().all(is_name)).then_some((name, length))
}

#[cfg(test)]
mod tests;
