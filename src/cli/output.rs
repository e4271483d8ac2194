//! What people and tools see: data on standard output, everything else on standard error.
//!
//! Values come in, text goes out. Names and messages may come from a panel, an egg or a container, so control characters
//! never reach the terminal.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde::Serialize;
use unicode_width::UnicodeWidthStr;

use super::error::CliError;
use crate::model::Timestamp;

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
    /// For both.
    Yaml,
}

/// A colour, by what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Nothing special.
    Plain,
    /// As it should be.
    Good,
    /// Under way, or to be looked at.
    Notice,
    /// Wrong.
    Bad,
    /// Of less interest.
    Dim,
    /// A heading.
    Head,
}

/// Paints texts, or leaves them as they are.
#[derive(Debug, Clone, Copy)]
pub struct Paint(bool);

impl Paint {
    /// Colours for standard output, where it is a terminal that wants them.
    pub fn for_stdout() -> Self {
        let variable = |name| std::env::var_os(name).unwrap_or_default();
        let wanted = variable("NO_COLOR").is_empty() && variable("TERM") != "dumb";
        Self(wanted && io::stdout().is_terminal())
    }

    /// With or without colours.
    #[cfg(test)]
    pub fn fixed(on: bool) -> Self {
        Self(on)
    }

    /// The text in its colour.
    pub fn text<'a>(&self, tone: Tone, text: &'a str) -> Cow<'a, str> {
        let code = match tone {
            Tone::Plain => return Cow::Borrowed(text),
            Tone::Good => "32",
            Tone::Notice => "33",
            Tone::Bad => "31",
            Tone::Dim => "2",
            Tone::Head => "1",
        };
        if !self.0 || text.is_empty() {
            return Cow::Borrowed(text);
        }
        Cow::Owned(format!("\u{1b}[{code}m{text}\u{1b}[0m"))
    }
}

/// Standard output, in the wanted format.
#[derive(Debug, Clone, Copy)]
pub struct Printer {
    /// How to print.
    pub format: Format,
    /// Colours.
    pub paint: Paint,
    /// Columns of the terminal; none where standard output is not one.
    pub width: Option<usize>,
    /// The time that ages are counted to.
    pub now: Timestamp,
}

impl Printer {
    /// Standard output as it is.
    pub fn new(format: Format, now: Timestamp) -> Self {
        let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
        let width = size.map(|size| usize::from(size.ws_col)).filter(|width| *width > 0);
        Self { format, paint: Paint::for_stdout(), width, now }
    }

    /// Prints a value as JSON or YAML, or what `table` makes of it for people.
    ///
    /// # Errors
    /// Nobody reads any more, or the output cannot be written.
    pub fn print<T: Serialize + ?Sized>(&self, value: &T, table: impl FnOnce() -> String) -> Result<(), CliError> {
        print(&match self.format {
            Format::Table => table(),
            Format::Json => serde_json::to_string_pretty(value)? + "\n",
            Format::Yaml => crate::yaml::to_string(value)?,
        })
    }

    /// Prints one value of a stream: a line of JSON, a document of YAML, or what `table` makes of it.
    ///
    /// # Errors
    /// As [`Printer::print`].
    pub fn print_item<T: Serialize + ?Sized>(&self, value: &T, table: impl FnOnce() -> String) -> Result<(), CliError> {
        print(&self.item(value, table)?)
    }

    /// The text of one value of a stream.
    ///
    /// # Errors
    /// The value has no form in the format.
    pub fn item<T: Serialize + ?Sized>(&self, value: &T, table: impl FnOnce() -> String) -> Result<String, CliError> {
        Ok(match self.format {
            Format::Table => table(),
            Format::Json => serde_json::to_string(value)? + "\n",
            Format::Yaml => format!("---\n{}", crate::yaml::to_string(value)?),
        })
    }
}

/// Writes a text to standard output.
///
/// # Errors
/// Nobody reads any more, or the output cannot be written.
pub fn print(text: &str) -> Result<(), CliError> {
    print_bytes(text.as_bytes())
}

/// Writes bytes to standard output as they are.
///
/// # Errors
/// As [`print`].
pub fn print_bytes(bytes: &[u8]) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(CliError::output)
}

/// Tells a person something beside the data.
pub fn tell(text: &str) {
    // Whoever has closed standard error does not want to know.
    let _ = writeln!(io::stderr(), "{}", clean(text));
}

/// A text without control characters, on one line: what it says about itself is not believed by the terminal.
pub fn clean(text: &str) -> Cow<'_, str> {
    let hostile = |c: char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(hostile) {
        return Cow::Borrowed(text);
    }
    let shown = |c: char| match c {
        '\n' | '\r' | '\t' => ' ',
        c if hostile(c) => '\u{fffd}',
        c => c,
    };
    Cow::Owned(text.chars().map(shown).collect())
}

/// A cell of a table.
#[derive(Debug)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell with a colour.
    pub fn new(tone: Tone, text: impl AsRef<str>) -> Self {
        let text = clean(text.as_ref());
        Self { text: if text.is_empty() { "-".into() } else { text.into_owned() }, tone }
    }

    /// The cell without its colour if there is nothing in it.
    pub fn dim_if_empty(self) -> Self {
        if self.text == "-" { Self { tone: Tone::Dim, ..self } } else { self }
    }

    /// The cell with no more than so many columns.
    fn cut(self, width: usize) -> Self {
        if self.text.width() <= width {
            return self;
        }
        let mut text = String::new();
        for c in self.text.chars() {
            text.push(c);
            if text.width() >= width {
                text.pop();
                break;
            }
        }
        Self { text: format!("{}…", text.trim_end()), ..self }
    }

    /// A cell.
    pub fn plain(text: impl AsRef<str>) -> Self {
        Self::new(Tone::Plain, text)
    }
}

/// The least that is left of the last column, however narrow the terminal is.
const LEAST: usize = 30;

/// A table whose last column ends where the terminal does.
pub fn table_within(width: Option<usize>, paint: Paint, headings: &[&str], mut rows: Vec<Vec<Cell>>) -> String {
    if let (Some(width), Some(last)) = (width, headings.len().checked_sub(1)) {
        let widest = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.text.width());
            cells.chain([headings[column].width()]).max().unwrap_or_default()
        };
        let before: usize = (0..last).map(|column| widest(column) + 2).sum();
        let rest = width.saturating_sub(before).max(LEAST);
        for row in &mut rows {
            if let Some(cell) = row.pop() {
                row.push(cell.cut(rest));
            }
        }
    }
    table(paint, "", headings, &rows)
}

/// Columns in line, headings first. The last column may be of any width.
pub fn table(paint: Paint, indent: &str, headings: &[&str], rows: &[Vec<Cell>]) -> String {
    let mut widths: Vec<usize> = headings.iter().map(|heading| heading.width()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.text.width());
        }
    }
    let mut text = String::new();
    let mut line = |cells: &mut dyn Iterator<Item = (Tone, &str)>| {
        text.push_str(indent);
        for (column, (tone, cell)) in cells.enumerate() {
            if column > 0 {
                text.push_str("  ");
            }
            text.push_str(&paint.text(tone, cell));
            if column + 1 < widths.len() {
                text.extend(std::iter::repeat_n(' ', widths[column].saturating_sub(cell.width())));
            }
        }
        text.push('\n');
    };
    line(&mut headings.iter().map(|heading| (Tone::Head, *heading)));
    for row in rows {
        line(&mut row.iter().map(|cell| (cell.tone, cell.text.as_str())));
    }
    text
}

/// A span of time in one unit: `5s`, `3m`, `2h`, `4d`.
pub fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7_199 => format!("{}m", seconds / 60),
        7_200..=172_799 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A number of bytes in a unit that people can compare.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A line on the terminal that says how far long work is; silent where standard error is no terminal.
pub struct Progress {
    what: &'static str,
    total: usize,
    done: usize,
    begun: Instant,
    shown: bool,
}

/// Work that is over sooner shows nothing.
const PATIENCE: Duration = Duration::from_millis(400);

impl Progress {
    /// Nothing is done yet of `total`.
    pub fn new(what: &'static str, total: usize) -> Self {
        Self { what, total, done: 0, begun: Instant::now(), shown: false }
    }

    /// One more is done.
    pub fn step(&mut self) {
        self.done += 1;
        if self.begun.elapsed() < PATIENCE || !io::stderr().is_terminal() {
            return;
        }
        self.shown = true;
        // As for `tell`.
        let _ = write!(io::stderr(), "\r{} {}/{}\u{1b}[K", self.what, self.done, self.total);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\u{1b}[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_in_line_and_empty_cells_are_visible() {
        let rows = vec![
            vec![Cell::plain("a"), Cell::new(Tone::Bad, "日本"), Cell::plain("x")],
            vec![Cell::plain(""), Cell::plain("long one"), Cell::plain("")],
        ];
        let text = table(Paint::fixed(false), " ", &["ONE", "TWO", "THREE"], &rows);
        assert_eq!(text, " ONE  TWO       THREE\n a    日本      x\n -    long one  -\n");
        let painted = table(Paint::fixed(true), "", &["ONE", "TWO", "THREE"], &rows);
        assert!(painted.contains("\u{1b}[31m日本\u{1b}[0m      x"), "{painted:?}");
    }

    #[test]
    fn the_last_column_ends_with_the_terminal() {
        let shown = |width| {
            let long = "日本 ".repeat(20);
            let rows = vec![vec![Cell::plain("a"), Cell::plain(long)], vec![Cell::plain("b"), Cell::plain("short")]];
            table_within(width, Paint::fixed(false), &["ONE", "TWO"], rows)
        };
        let widths = |text: String| text.lines().map(UnicodeWidthStr::width).collect::<Vec<_>>();
        assert_eq!(widths(shown(None)), [8, 105, 10]);
        let cut = shown(Some(40));
        assert!(cut.lines().nth(1).unwrap().ends_with('…') && cut.ends_with("b    short\n"), "{cut}");
        assert!(widths(cut).into_iter().max().unwrap() <= 40);
        assert!(widths(shown(Some(5))).into_iter().max().unwrap() <= 5 + LEAST);
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(clean("plain ü 日本"), "plain ü 日本");
        let text = clean("a\u{1b}[2J\u{9b}31m\r\nb\u{202e}c");
        assert_eq!(text, "a\u{fffd}[2J\u{fffd}31m  b\u{fffd}c");
        assert!(!Cell::plain("\u{7}").text.contains('\u{7}'));
    }

    #[test]
    fn spans_and_sizes_are_short() {
        let spans = [0, 119, 120, 7_199, 7_200, 172_799, 172_800].map(|seconds| span(Duration::from_secs(seconds)));
        assert_eq!(spans, ["0s", "119s", "2m", "119m", "2h", "47h", "2d"]);
        assert_eq!(
            [0, 1023, 1024, 1 << 20, 5 << 40, u64::MAX].map(bytes)[..5],
            ["0 B", "1023 B", "1.0 KiB", "1.0 MiB", "5.0 TiB"]
        );
    }
}
