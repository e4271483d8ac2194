//! Brackets of a text that is not YAML: which of them is not closed. Made for texts that the parser has refused, so it may
//! err where quoting is odd; it is asked only where the parser speaks of brackets.

/// Both brackets of a pair.
type Pair = (char, char);

const PAIRS: [Pair; 2] = [('[', ']'), ('{', '}')];

struct Scan {
    open: Vec<(Pair, usize, usize)>,
    /// The quote that a text began with.
    quote: Option<char>,
    /// The last character that is no blank; what follows an indicator begins a value.
    before: char,
    after_blank: bool,
}

/// The bracket that is closed by another kind, or not at all, with line and column, counted from one.
pub(super) fn unclosed(text: &str) -> Option<(Pair, usize, usize)> {
    let mut scan = Scan { open: Vec::new(), quote: None, before: '\n', after_blank: true };
    // Indentation of the line whose value is a block of text.
    let mut block: Option<usize> = None;
    for (index, line) in text.lines().enumerate() {
        let indentation = line.len() - line.trim_start().len();
        if block.is_some_and(|block| line.trim().is_empty() || indentation > block) {
            continue;
        }
        block = None;
        if scan.open.is_empty() {
            scan.before = '\n';
        }
        scan.after_blank = true;
        for (column, c) in line.chars().enumerate() {
            if scan.quote.is_none() && c == '#' && scan.after_blank {
                break;
            }
            if let Some(found) = scan.step(c, index + 1, column + 1) {
                return Some(found);
            }
        }
        let value = line.rsplit(' ').next().unwrap_or_default();
        let is_block = value.starts_with(['|', '>']) && value.len() <= 3;
        if scan.open.is_empty() && scan.quote.is_none() && is_block {
            block = Some(indentation);
        }
    }
    scan.open.pop()
}

impl Scan {
    /// Takes one character; gives the bracket that a wrong one would close.
    fn step(&mut self, c: char, line: usize, column: usize) -> Option<(Pair, usize, usize)> {
        if let Some(quote) = self.quote {
            if c == quote && self.before != '\\' {
                self.quote = None;
            }
            // An escaped backslash escapes nothing.
            self.before = if c == '\\' && self.before == '\\' { ' ' } else { c };
            return None;
        }
        let begins = matches!(self.before, '\n' | ':' | '-' | ',' | '[' | '{' | '?');
        let in_flow = !self.open.is_empty();
        match c {
            '"' | '\'' if begins => self.quote = Some(c),
            '[' | '{' if begins || in_flow => {
                self.open.extend(PAIRS.iter().filter(|pair| pair.0 == c).map(|pair| (*pair, line, column)))
            }
            ']' | '}' if in_flow => {
                let last = self.open.pop();
                if last.is_some_and(|(pair, ..)| pair.1 != c) {
                    return last;
                }
            }
            _ => {}
        }
        self.after_blank = c.is_whitespace();
        if !c.is_whitespace() {
            self.before = c;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bracket_that_is_not_closed_is_found() {
        for (text, found) in [
            ("kind: [", Some(('[', 1, 7))),
            ("a: 1\nb: [1, 2\nc: {}\n", Some(('[', 2, 4))),
            ("a: {b: [1, 2}\n", Some(('[', 1, 8))),
            ("a: [1, {b: 2}\n", Some(('[', 1, 4))),
            ("a: \"[\"\nb: '{'\nc: it's [\n# {\nd: x # [\n", None),
            ("a: \"\\\\\"\nb: {\n", Some(('{', 2, 4))),
            ("a: |\n  [ {\nb: [", Some(('[', 3, 4))),
            ("a: [b]\nc: {d: [e, 'f]']}\n", None),
        ] {
            let place = unclosed(text).map(|((opening, _), line, column)| (opening, line, column));
            assert_eq!(place, found, "{text:?}");
        }
    }
}
