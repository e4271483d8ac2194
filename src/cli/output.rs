//! Output of commands: data on standard output, messages on standard error.
//!
//! Names and messages may come from a panel, an egg or a container: control characters in them never reach the terminal.

use std::borrow::Cow;
use std::io::{self, Write};
use std::time::Duration;

use anstyle::Style;
use clap::ValueEnum;
use serde::Serialize;
use unicode_width::UnicodeWidthStr;

use super::error::CliError;
use crate::model::Timestamp;

pub use crate::progress::size as bytes;

/// The format of data on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// Text for people
    #[default]
    Table,
    /// JSON for programs
    Json,
    /// YAML for both
    Yaml,
}

/// The colours of texts, by their meaning. [`print`] removes them where standard output takes none.
pub mod tone {
    use anstyle::{AnsiColor, Style};

    /// No colour.
    pub const PLAIN: Style = Style::new();
    /// The desired state.
    pub const GOOD: Style = AnsiColor::Green.on_default();
    /// In progress, or worth a check.
    pub const NOTICE: Style = AnsiColor::Yellow.on_default();
    /// Wrong.
    pub const BAD: Style = AnsiColor::Red.on_default();
    /// Of less interest.
    pub const DIM: Style = Style::new().dimmed();
    /// A heading.
    pub const HEAD: Style = Style::new().bold();
}

/// The text in its colour.
pub fn paint(tone: Style, text: &str) -> String {
    format!("{tone}{text}{tone:#}")
}

/// Prints values in one format.
#[derive(Debug, Clone, Copy)]
pub struct Printer {
    /// The format.
    pub format: Format,
    /// Columns of the terminal; `None` if standard output is not a terminal.
    pub width: Option<usize>,
    /// The time from which ages are counted.
    pub now: Timestamp,
}

impl Printer {
    /// A printer for standard output.
    pub fn new(format: Format, now: Timestamp) -> Self {
        let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
        Self { format, width: size.map(|size| usize::from(size.ws_col)).filter(|width| *width > 0), now }
    }

    /// Prints a value as JSON or YAML, or as the text that `table` makes for people.
    ///
    /// # Errors
    /// Standard output is closed or cannot be written.
    pub fn print<T: Serialize + ?Sized>(&self, value: &T, table: impl FnOnce() -> String) -> Result<(), CliError> {
        print(&match self.format {
            Format::Table => table(),
            Format::Json => serde_json::to_string_pretty(value)? + "\n",
            Format::Yaml => crate::yaml::to_string(value)?,
        })
    }

    /// One value of a stream: a line of JSON, a document of YAML, or the text that `table` makes for people.
    ///
    /// # Errors
    /// The format cannot express the value.
    pub fn item<T: Serialize + ?Sized>(&self, value: &T, table: impl FnOnce() -> String) -> Result<String, CliError> {
        Ok(match self.format {
            Format::Table => table(),
            Format::Json => serde_json::to_string(value)? + "\n",
            Format::Yaml => format!("---\n{}", crate::yaml::to_string(value)?),
        })
    }
}

/// Writes a text to standard output, with its colours if that is a terminal that shows them.
///
/// # Errors
/// Standard output is closed or cannot be written.
pub fn print(text: &str) -> Result<(), CliError> {
    write_all(anstream::stdout().lock(), text.as_bytes())
}

/// Writes bytes to standard output as they are.
///
/// # Errors
/// Standard output is closed or cannot be written.
pub fn print_bytes(bytes: &[u8]) -> Result<(), CliError> {
    write_all(io::stdout().lock(), bytes)
}

fn write_all(mut out: impl Write, bytes: &[u8]) -> Result<(), CliError> {
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => CliError::Closed,
        _ => CliError::Failed(format!("cannot write the output: {error}")),
    })
}

/// Writes a message to standard error.
pub fn notify(text: &str) {
    // There is no other place for the message if standard error is closed.
    let _ = writeln!(io::stderr(), "{}", clean(text));
}

/// The text on one line and without characters that control a terminal.
pub fn clean(text: &str) -> Cow<'_, str> {
    let controls = |c: char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(controls) {
        return Cow::Borrowed(text);
    }
    let replaced = |c: char| match c {
        '\n' | '\r' | '\t' => ' ',
        c if controls(c) => '\u{fffd}',
        c => c,
    };
    Cow::Owned(text.chars().map(replaced).collect())
}

/// A cell of a table.
#[derive(Debug)]
pub struct Cell {
    text: String,
    tone: Style,
}

impl Cell {
    /// A cell with a colour. An empty text becomes a dash.
    pub fn new(tone: Style, text: impl AsRef<str>) -> Self {
        match clean(text.as_ref()) {
            text if text.is_empty() => Self { text: "-".into(), tone: tone::DIM },
            text => Self { text: text.into_owned(), tone },
        }
    }

    /// A cell without a colour.
    pub fn plain(text: impl AsRef<str>) -> Self {
        Self::new(tone::PLAIN, text)
    }

    /// Shortens the text to so many columns.
    fn cut(&mut self, width: usize) {
        if self.text.width() <= width {
            return;
        }
        while self.text.width() >= width && self.text.pop().is_some() {}
        self.text.truncate(self.text.trim_end().len());
        self.text.push('…');
    }
}

/// Minimum width of the last column, however narrow the terminal is.
const MIN_LAST_COLUMN: usize = 30;

/// A table with aligned columns. The last column is cut at `width`, if given. No rows make an empty text.
pub fn table(indent: &str, width: Option<usize>, headings: &[&str], mut rows: Vec<Vec<Cell>>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    rows.insert(0, headings.iter().map(|heading| Cell::new(tone::HEAD, heading)).collect());
    let last = headings.len() - 1;
    let widest = |column: usize| rows.iter().map(|row| row[column].text.width()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..last).map(widest).collect();
    let before: usize = widths.iter().map(|width| width + 2).sum();
    let mut text = String::new();
    for mut row in rows {
        if let Some(width) = width {
            row[last].cut(width.saturating_sub(before).max(MIN_LAST_COLUMN));
        }
        text.push_str(indent);
        for (cell, width) in row.iter().zip(&widths) {
            let padding = width - cell.text.width() + 2;
            text.push_str(&format!("{}{:padding$}", paint(cell.tone, &cell.text), ""));
        }
        text.push_str(&paint(row[last].tone, &row[last].text));
        text.push('\n');
    }
    text
}

/// A duration in one unit: `5s`, `3m`, `2h`, `4d`.
pub fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7_199 => format!("{}m", seconds / 60),
        7_200..=172_799 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::examples::without_colours;

    #[test]
    fn columns_are_aligned_and_empty_cells_are_visible() {
        let rows = || {
            vec![
                vec![Cell::plain("a"), Cell::new(tone::BAD, "日本"), Cell::plain("x")],
                vec![Cell::plain(""), Cell::plain("long one"), Cell::plain("")],
            ]
        };
        let text = table(" ", None, &["ONE", "TWO", "THREE"], rows());
        assert!(text.contains("\u{1b}[31m日本\u{1b}[0m      x"), "{text:?}");
        assert_eq!(without_colours(&text), " ONE  TWO       THREE\n a    日本      x\n -    long one  -\n");
    }

    #[test]
    fn the_last_column_ends_with_the_terminal() {
        let printed = |width| {
            let long = "日本 ".repeat(20);
            let rows = vec![vec![Cell::plain("a"), Cell::plain(long)], vec![Cell::plain("b"), Cell::plain("short")]];
            without_colours(&table("", width, &["ONE", "TWO"], rows))
        };
        let widths = |text: String| text.lines().map(UnicodeWidthStr::width).collect::<Vec<_>>();
        assert_eq!(widths(printed(None)), [8, 105, 10]);
        let cut = printed(Some(40));
        assert!(cut.lines().nth(1).unwrap().ends_with('…') && cut.ends_with("b    short\n"), "{cut}");
        assert!(widths(cut).into_iter().max().unwrap() <= 40);
        assert!(widths(printed(Some(5))).into_iter().max().unwrap() <= 5 + MIN_LAST_COLUMN);
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(clean("plain ü 日本"), "plain ü 日本");
        let text = clean("a\u{1b}[2J\u{9b}31m\r\nb\u{202e}c");
        assert_eq!(text, "a\u{fffd}[2J\u{fffd}31m  b\u{fffd}c");
        assert!(!Cell::plain("\u{7}").text.contains('\u{7}'));
    }

    #[test]
    fn durations_and_sizes_are_short() {
        let spans = [0, 119, 120, 7_199, 7_200, 172_799, 172_800].map(|seconds| span(Duration::from_secs(seconds)));
        assert_eq!(spans, ["0s", "119s", "2m", "119m", "2h", "47h", "2d"]);
        assert_eq!(
            [0, 1023, 1024, 1 << 20, 5 << 40, u64::MAX].map(bytes)[..5],
            ["0 B", "1023 B", "1.0 KiB", "1.0 MiB", "5.0 TiB"]
        );
    }
}
