//! A failing run becomes a small one: what happens in it is left out part by part, as long as it fails in the same way.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Once;

use crate::plan::Plan;
use crate::scenario::{self, Run};

/// Plays that a shrinking takes at most.
const MOST_PLAYS: u32 = 1500;

/// A run that broke an invariant.
#[derive(Debug, Clone)]
pub struct Failure {
    pub seed: u64,
    pub message: String,
    /// What has happened in it.
    pub happened: BTreeSet<String>,
    /// What people have done, and when.
    pub story: String,
}

impl Failure {
    /// What went wrong, without the numbers of this run.
    fn kind(&self) -> String {
        let text = self.message.split_once(&format!("seed {}: ", self.seed)).map_or(&*self.message, |(_, text)| text);
        let text = text.split(['{', '[', '\n']).next().unwrap_or_default();
        text.chars().filter(|char| !char.is_ascii_digit()).take(60).collect()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, message, happened, story } = self;
        let kept = happened.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        write!(
            f,
            "seed {seed} fails, with {} of what happens in it left:\n{story}{message}\nagain: ALULA_SIM_SEED={seed} ALULA_SIM_KEEP={kept} cargo test --test simulation -- --nocapture seeds",
            happened.len()
        )
    }
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Plays a plan without a word about its panic.
pub fn quietly(plan: &Plan, loud: bool) -> Result<Run, Failure> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                usual(panic);
            }
        }));
    });
    QUIET.set(true);
    let played = scenario::try_play(plan, loud);
    QUIET.set(false);
    played
}

/// The smallest run that is found to fail as this one does.
pub fn shrink(failure: Failure) -> Failure {
    let kind = failure.kind();
    let mut smallest = failure;
    let mut plays = 0;
    let mut parts = 2;
    while plays < MOST_PLAYS {
        let names: Vec<String> = smallest.happened.iter().cloned().collect();
        let length = names.len().div_ceil(parts).max(1);
        let smaller = names.chunks(length).find_map(|left_out| {
            plays += 1;
            let kept = names.iter().filter(|name| !left_out.contains(name)).cloned().collect();
            let failed = quietly(&Plan::only(smallest.seed, kept), false).err()?;
            (failed.kind() == kind && failed.happened.len() < names.len()).then_some(failed)
        });
        match smaller {
            Some(smaller) => {
                smallest = smaller;
                parts = parts.saturating_sub(1).max(2);
            }
            None if length == 1 => break,
            None => parts = (parts * 2).min(names.len().max(2)),
        }
    }
    smallest
}
