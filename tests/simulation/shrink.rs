//! Shrinks a failing run: leaves out its events part by part, as long as it fails in the same way.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Once;

use crate::plan::Plan;
use crate::scenario::{self, Run};
use crate::watchdog;

/// Maximum runs per shrinking.
const MAX_PLAYS: u32 = 1500;

/// A run that broke an invariant.
#[derive(Debug, Clone)]
pub struct Failure {
    pub seed: u64,
    pub message: String,
    /// The names of its events.
    pub happened: BTreeSet<String>,
    /// The actions of panel and operators, with their times.
    pub actions: String,
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
        let Self { seed, message, happened, actions } = self;
        let kept = happened.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        write!(
            f,
            "seed {seed} fails, with {} events left:\n{actions}{message}\nrepeat with: ALULA_SIM_SEED={seed} ALULA_SIM_KEEP={kept} cargo test --test simulation -- --nocapture seeds",
            happened.len()
        )
    }
}

thread_local! {
    /// Panics of this thread that are not printed, while it plays quietly.
    static PANICS: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Plays a plan without printing panics. A panic that the daemon caught is a failure too: a pass or a job would only be tried
/// again.
pub fn quietly(plan: &Plan) -> Result<Run, Failure> {
    let (played, panics) = with_panics(|| watchdog::watch(plan.seed(), || scenario::try_play(plan, false)));
    match (played, panics.first()) {
        (Ok(run), Some(panic)) => {
            let message = format!("seed {}: the daemon panicked: {panic}", plan.seed());
            Err(Failure { seed: plan.seed(), message, happened: plan.happened(), actions: run.actions })
        }
        // With the position of the assertion.
        (played, _) => played.map_err(|failure| match panics.last() {
            Some(panic) => Failure { message: panic.clone(), ..failure },
            None => failure,
        }),
    }
}

/// Runs `act` and returns its panics, also those that were caught. None of them is printed.
fn with_panics<T>(work: impl FnOnce() -> T) -> (T, Vec<String>) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let noted = PANICS.with_borrow_mut(|panics| panics.as_mut().map(|panics| panics.push(panic.to_string())));
            if noted.is_none() {
                usual(panic);
            }
        }));
    });
    PANICS.set(Some(Vec::new()));
    let result = work();
    (result, PANICS.take().unwrap_or_default())
}

#[test]
fn a_panic_that_was_caught_is_noticed_and_a_simulated_crash_is_none() {
    let (caught, panics) = with_panics(|| std::panic::catch_unwind(|| panic!("a bug")));
    assert!(caught.is_err() && panics.len() == 1 && panics[0].contains("a bug"), "{panics:?}");
    let (caught, panics) = with_panics(|| std::panic::catch_unwind(|| std::panic::resume_unwind(Box::new("a crash"))));
    assert!(caught.is_err() && panics.is_empty(), "{panics:?}");
}

/// The smallest run that is found to fail as this one does.
pub fn shrink(failure: Failure) -> Failure {
    let seed = failure.seed;
    shrink_by(failure, |kept| quietly(&Plan::only(seed, kept)).err())
}

fn shrink_by(failure: Failure, play: impl Fn(BTreeSet<String>) -> Option<Failure>) -> Failure {
    let kind = failure.kind();
    let mut smallest = failure;
    let mut plays = 0;
    let mut parts = 2;
    while plays < MAX_PLAYS {
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
        Some(Failure { seed: 7, message: message.into(), happened, actions: String::new() })
    };
    let names = (0..100).map(|number| format!("a{number}")).chain(["3/start/1/lost".into(), "c2".into()]);
    let smallest = shrink_by(fails(names.collect()).unwrap(), fails);
    assert_eq!(Vec::from_iter(&smallest.happened), ["3/start/1/lost", "a17"]);
    let again = "ALULA_SIM_SEED=7 ALULA_SIM_KEEP=3/start/1/lost,a17 ";
    assert!(smallest.to_string().contains(again), "{smallest}");
}
