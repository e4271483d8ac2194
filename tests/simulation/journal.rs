//! The events of a run, one line each with its virtual time. Two runs of a seed have the same journal, byte for byte.

use std::fmt::Display;
use std::fmt::Write;
use std::sync::{Arc, Mutex};

use tokio::time::Instant;

/// Begins the lines of actions.
const ACTION: &str = "- ";

/// A handle on the journal of a run; clones write into the same one.
#[derive(Clone)]
pub struct Journal {
    began: Instant,
    text: Arc<Mutex<String>>,
}

impl Journal {
    pub fn new() -> Self {
        Self { began: Instant::now(), text: Arc::default() }
    }

    pub fn note(&self, what: impl Display) {
        let at = self.began.elapsed().as_secs_f64();
        // A string takes everything.
        let _ = writeln!(self.text.lock().unwrap(), "{at:.3} {what}");
    }

    /// Records an action of a panel or an operator, and its result.
    pub fn action(&self, what: &str) {
        self.note(format_args!("{ACTION}{what}"));
    }

    /// The actions alone.
    pub fn actions(&self) -> String {
        let text = self.text();
        let lines = text.lines().filter_map(|line| line.split_once(&format!(" {ACTION}")));
        lines.map(|(at, what)| format!("{at:>10} {what}\n")).collect()
    }

    pub fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }
}

/// The first line in which two journals differ, with those around it.
pub fn difference(one: &str, other: &str) -> Option<String> {
    const AROUND: usize = 10;
    if one == other {
        return None;
    }
    let same = one.lines().zip(other.lines()).take_while(|(this, that)| this == that).count();
    let part =
        |text: &str, from: usize, count: usize| text.lines().skip(from).take(count).collect::<Vec<_>>().join("\n");
    let from = same.saturating_sub(AROUND);
    let (before, one, other) = (part(one, from, same - from), part(one, same, AROUND), part(other, same, AROUND));
    Some(format!("{before}\none:\n{one}\nother:\n{other}"))
}
