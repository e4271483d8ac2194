//! Writes an egg's values into a server's configuration files before a start.
//!
//! [`apply`] is pure: it takes the bytes of a file and returns the changed ones. One module for each [`Parser`] edits the text in
//! place, so comments, order and layout of what is not replaced stay. [`EggFiles`] reads and writes the file.
//!
//! `json`, `yaml` and `toml` share the paths of the module `path`: these change a JSON value, and the parser writes the differences between
//! the two values into the text.
//!
//! Source of parsers, keys and values: "Egg config-file parser".

mod diff;
mod ini;
mod json;
mod lines;
mod path;
mod placeholders;
mod plain;
mod properties;
mod replacement;
mod toml;
mod update;
mod xml;
mod yaml;

#[cfg(test)]
mod invariants;
#[cfg(test)]
mod tests;

use std::fmt;

pub use placeholders::{Placeholders, file_path};
pub use replacement::Replacement;
pub use update::{EggFiles, FileChange, FileWarning};

/// The longest file that is read or written, in bytes.
pub const MAX_BYTES: usize = 64 << 20;
/// The longest indentation or separator that is taken over from a file: each new value repeats it.
const MAX_LAYOUT: usize = 256;
/// The longest text of a library about a mistake, in characters. It may quote the file.
const MAX_MESSAGE: usize = 300;

/// The syntax of a configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(strum::VariantArray))]
#[allow(missing_docs)]
pub enum Parser {
    /// Lines, replaced by their beginning.
    File,
    Properties,
    Ini,
    Json,
    Yaml,
    Xml,
    Toml,
}

impl Parser {
    /// The parser that an egg names.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "file" => Self::File,
            "properties" => Self::Properties,
            "ini" => Self::Ini,
            "json" => Self::Json,
            "yaml" | "yml" => Self::Yaml,
            "xml" => Self::Xml,
            "toml" => Self::Toml,
            _ => return None,
        })
    }
}

/// Why a file cannot be edited. It stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum ParseError {
    #[error("the file has {0} bytes or would get them; the limit is {MAX_BYTES} (64 MiB)")]
    TooLong(usize),
    #[error("the file is not UTF-8; save it in that encoding")]
    NotUtf8,
    #[error("the file is not text: it contains NUL bytes; save it as UTF-8")]
    Binary,
    #[error("the file is not valid {syntax}: {message}")]
    Syntax { syntax: &'static str, message: String },
}

impl ParseError {
    /// An error if so many bytes are too many. One key may be replaced at a million places of a hostile file.
    fn check_length(bytes: usize) -> Result<(), Self> {
        if bytes > MAX_BYTES { Err(Self::TooLong(bytes)) } else { Ok(()) }
    }

    fn syntax(syntax: &'static str, message: impl fmt::Display) -> Self {
        let message = message.to_string();
        let end = message.char_indices().nth(MAX_MESSAGE).map_or(message.len(), |(end, _)| end);
        Self::Syntax { syntax, message: message[..end].to_owned() }
    }
}

/// A replacement that was left out, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Omission {
    /// The replacement's key.
    pub key: String,
    /// Why, for people.
    pub why: &'static str,
}

/// What replacements make of a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Edited {
    /// The new bytes; `None` if they equal the old ones.
    pub bytes: Option<Vec<u8>>,
    /// Replacements that cannot be applied to any file, or not to this one.
    pub omitted: Vec<Omission>,
}

/// Applies replacements, in their order, to the bytes of a file.
///
/// # Errors
/// The file is too long, or no text of this syntax.
pub fn apply(parser: Parser, bytes: &[u8], replacements: &[Replacement]) -> Result<Edited, ParseError> {
    ParseError::check_length(bytes.len())?;
    if bytes.contains(&0) {
        return Err(ParseError::Binary);
    }
    if replacements.is_empty() {
        return Ok(Edited::default());
    }
    let body = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    let mut omitted = Vec::new();
    let edited = match parser {
        Parser::File => plain::edit(body, replacements)?,
        Parser::Properties => properties::edit(body, replacements)?,
        Parser::Ini => ini::edit(body, replacements, &mut omitted)?,
        Parser::Json => json::edit(text(body)?, replacements, &mut omitted)?.into_bytes(),
        Parser::Yaml => yaml::edit(text(body)?, replacements, &mut omitted)?.into_bytes(),
        Parser::Xml => xml::edit(text(body)?, replacements, &mut omitted)?.into_bytes(),
        Parser::Toml => toml::edit(text(body)?, replacements, &mut omitted)?.into_bytes(),
    };
    let mark = &bytes[..bytes.len() - body.len()];
    ParseError::check_length(mark.len() + edited.len())?;
    let bytes = (edited != body).then(|| [mark, &edited].concat());
    Ok(Edited { bytes, omitted })
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

fn text(bytes: &[u8]) -> Result<&str, ParseError> {
    std::str::from_utf8(bytes).map_err(|_| ParseError::NotUtf8)
}
