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
    let seed = failure.seed;
    shrink_by(failure, |kept| quietly(&Plan::only(seed, kept), false).err())
}

fn shrink_by(failure: Failure, play: impl Fn(BTreeSet<String>) -> Option<Failure>) -> Failure {
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
            play(kept).filter(|failed| failed.kind() == kind && failed.happened.len() < names.len())
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

/// Of many things two together break an invariant, and a third one alone another.
#[test]
fn what_a_failure_needs_is_left_of_it() {
    let fails = |happened: BTreeSet<String>| {
        let has = |name: &str| happened.contains(name);
        let message = match (has("a17") && has("3/start/1/lost"), has("c2")) {
            (true, _) => "seed 7: 1 runs at 12 o'clock: {}",
            (false, true) => "seed 7: something else",
            (false, false) => return None,
        };
        Some(Failure { seed: 7, message: message.into(), happened, story: String::new() })
    };
    let names = (0..100).map(|number| format!("a{number}")).chain(["3/start/1/lost".into(), "c2".into()]);
    let smallest = shrink_by(fails(names.collect()).unwrap(), fails);
    assert_eq!(Vec::from_iter(&smallest.happened), ["3/start/1/lost", "a17"]);
    let again = "ALULA_SIM_SEED=7 ALULA_SIM_KEEP=3/start/1/lost,a17 ";
    assert!(smallest.to_string().contains(again), "{smallest}");
}
