//! Takes terminal control sequences out of a line.

use std::borrow::Cow;

/// The line without control sequences: `ESC [` … with its parameters and final letter (also as the one character
/// U+009B), `ESC ]` … to its end (BEL or `ESC \`), and `ESC` with whatever single character follows.
pub fn strip(line: &str) -> Cow<'_, str> {
    if !line.contains(['\u{1b}', '\u{9b}']) {
        return Cow::Borrowed(line);
    }
    let mut clean = String::with_capacity(line.len());
    let mut rest = line.chars();
    while let Some(next) = rest.next() {
        match next {
            '\u{9b}' => skip_parameters(&mut rest),
            '\u{1b}' => match rest.next() {
                Some('[') => skip_parameters(&mut rest),
                Some(']') => skip_title(&mut rest),
                // A character set is named by one more character.
                Some('(' | ')' | '#' | '%') => {
                    rest.next();
                }
                _ => {}
            },
            _ => clean.push(next),
        }
    }
    Cow::Owned(clean)
}

fn skip_parameters(rest: &mut std::str::Chars<'_>) {
    // Parameters and intermediates, then the final character. Anything else was no sequence after all, and stays.
    let mut ahead = rest.clone();
    while let Some(next) = ahead.next() {
        match next {
            ' '..='?' => {}
            '@'..='~' => {
                *rest = ahead;
                return;
            }
            _ => return,
        }
    }
    *rest = ahead;
}

fn skip_title(rest: &mut std::str::Chars<'_>) {
    while let Some(next) = rest.next() {
        if next == '\u{7}' {
            return;
        }
        if next == '\u{1b}' {
            rest.next();
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::strip;

    #[test]
    fn sequences_go_and_text_stays() {
        for (line, clean) in [
            ("plain ünïcode", "plain ünïcode"),
            ("\u{1b}[32mServer \u{1b}[1mis\u{1b}[0m ready", "Server is ready"),
            ("\u{1b}[38;5;196mred\u{1b}[m", "red"),
            ("\u{9b}1;31mred\u{9b}0m", "red"),
            ("\u{1b}[2K\u{1b}[1Gprompt> ", "prompt> "),
            ("\u{1b}[?25lhidden\u{1b}[?25h", "hidden"),
            ("\u{1b}]0;a title\u{7}text", "text"),
            ("\u{1b}]0;a title\u{1b}\\text", "text"),
            ("\u{1b}(Btext\u{1b}=", "text"),
            ("cut off \u{1b}[3", "cut off "),
            ("cut off \u{1b}", "cut off "),
            ("\u{1b}]never ends", ""),
            ("\u{1b}[3é", "3é"),
        ] {
            assert_eq!(strip(line), clean, "{line:?}");
        }
    }
}
