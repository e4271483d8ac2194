//! The parser `file`: a line that begins with a key is replaced as a whole.
//!
//! If several keys match, their texts follow each other on one line, as with Wings. Conditions have no effect.

use super::lines::{Line, line_end, lines};
use super::{ParseError, Replacement};

pub(super) fn edit(text: &[u8], replacements: &[Replacement]) -> Result<Vec<u8>, ParseError> {
    let line_end = line_end(text);
    let mut out = Vec::with_capacity(text.len() + 256);
    let mut rest = lines(text);
    while let Some(line) = rest.next() {
        ParseError::check_length(out.len())?;
        let hits = replacements.iter().filter(|replacement| line.content.starts_with(replacement.key.as_bytes()));
        let mut hits = hits.map(|hit| hit.text.as_str()).peekable();
        if hits.peek().is_none() {
            out.extend_from_slice(line.content);
            out.extend_from_slice(line.end);
            continue;
        }
        let new = hits.collect::<String>().replace("\r\n", "\n");
        // A text of several lines must not be repeated at each start.
        if let Some(count) = lines_in_place(line, rest.clone(), &new) {
            let last = count.checked_sub(1).and_then(|skipped| rest.nth(skipped)).unwrap_or(line);
            out.extend_from_slice(new.replace('\n', line_end).as_bytes());
            out.extend_from_slice(last.end);
            continue;
        }
        out.extend_from_slice(new.replace('\n', line_end).as_bytes());
        out.extend_from_slice(line.end);
    }
    Ok(out)
}

/// How many lines after `first` belong to `new`, if the text contains it here already.
fn lines_in_place<'t>(first: Line<'t>, mut rest: impl Iterator<Item = Line<'t>>, new: &str) -> Option<usize> {
    let mut count = 0;
    for (index, wanted) in new.split('\n').enumerate() {
        let line = if index == 0 { first } else { rest.next()? };
        if line.content != wanted.as_bytes() {
            return None;
        }
        count = index;
    }
    Some(count)
}
