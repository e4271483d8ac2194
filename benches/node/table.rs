//! Figures on their way to a person.

use std::time::Duration;

/// The table that a run prints.
#[derive(Default)]
pub struct Table {
    rows: Vec<[String; 5]>,
}

impl Table {
    /// A figure: what it is, ours, what it is held against, the target, and whether that is met.
    pub fn row(&mut self, what: &str, ours: String, against: String, target: String, met: bool) {
        eprintln!("{what}: {ours} ({against}; target {target})");
        let verdict = if met { "met" } else { "MISSED" };
        self.rows.push([what.into(), ours, against, target, verdict.into()]);
    }

    /// Prints the rows.
    pub fn print(&self) {
        let head = ["", "ours", "against", "target", ""].map(String::from);
        let rows: Vec<_> = std::iter::once(&head).chain(&self.rows).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..5).map(width).collect();
        println!();
        for row in rows {
            let cells: Vec<String> =
                row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width)).collect();
            println!("{}", cells.join("  ").trim_end());
        }
        println!("\nload average at the end: {}", load());
    }
}

/// The machine's load average.
pub fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// The value in the middle.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

/// From the least to the greatest.
pub fn spread(values: &[f64], digits: usize) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let greatest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{least:.digits$}–{greatest:.digits$}")
}

/// Milliseconds.
pub fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}
