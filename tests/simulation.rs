//! The whole controller in a simulated world: a real state folder, the in-memory runtime and panel, paused time, and a
//! seeded plan of everything that goes wrong.
//!
//! A normal run plays 2,000 seeds; `./test.sh --explore MINUTES` plays new ones. A failing seed is made smaller, then it prints
//! what is left of it and how it is played again. See `simulation/explore.rs` for the variables that choose seeds.

#[path = "simulation/acts.rs"]
mod acts;
#[path = "simulation/check.rs"]
mod check;
#[path = "simulation/crash.rs"]
mod crash;
#[path = "simulation/daemon.rs"]
mod daemon;
#[path = "simulation/directed_c.rs"]
mod directed_c;
#[path = "simulation/disk.rs"]
mod disk;
#[path = "simulation/exhaustive.rs"]
mod exhaustive;
#[path = "simulation/expected.rs"]
mod expected;
#[path = "simulation/explore.rs"]
mod explore;
#[path = "simulation/furnish.rs"]
mod furnish;
#[path = "simulation/hands.rs"]
mod hands;
#[path = "simulation/journal.rs"]
mod journal;
#[path = "support/node.rs"]
mod node;
#[path = "simulation/outages.rs"]
mod outages;
#[path = "simulation/panel.rs"]
mod panel;
#[path = "simulation/peace.rs"]
mod peace;
#[path = "simulation/plan.rs"]
mod plan;
#[path = "simulation/rest.rs"]
mod rest;
#[path = "simulation/rng.rs"]
mod rng;
#[path = "simulation/scenario.rs"]
mod scenario;
#[path = "simulation/shrink.rs"]
mod shrink;
#[path = "simulation/watchdog.rs"]
mod watchdog;

#[test]
fn seeds() {
    explore::seeds();
}

#[test]
fn a_seed_repeats_itself() {
    let first = explore::number("ALULA_SIM_FIRST").unwrap_or(5_000_000);
    let count = explore::number("ALULA_SIM_SEEDS").unwrap_or(50);
    let mut lines = 0;
    for seed in first..first + count {
        let (one, other) = (scenario::play(seed), scenario::play(seed));
        if let Some(difference) = journal::difference(&one.journal, &other.journal) {
            panic!("seed {seed} took another course the second time:\n{difference}");
        }
        assert_eq!(one.tally, other.tally, "seed {seed}");
        lines += one.journal.lines().count() as u64;
    }
    assert!(lines > 100 * count, "{lines} lines of {count} seeds: they hardly say anything");
}

#[test]
fn a_log_whose_stream_breaks_just_before_its_end() {
    directed_c::a_log_whose_stream_breaks_just_before_its_end();
}

#[test]
fn requests_to_a_server_that_is_made_again() {
    directed_c::requests_to_a_server_that_is_made_again();
}

#[test]
fn an_edit_in_the_folder_of_a_server_that_is_being_deleted() {
    directed_c::an_edit_in_the_folder_of_a_server_that_is_being_deleted();
}

#[test]
fn an_edit_after_requests_were_lost() {
    directed_c::an_edit_after_requests_were_lost();
}

#[test]
fn an_override_of_a_server_that_is_made_again() {
    directed_c::an_override_of_a_server_that_is_made_again();
}

#[test]
fn a_lost_record_of_a_server_of_a_file() {
    directed_c::a_lost_record_of_a_server_of_a_file();
}

#[test]
fn a_crash_after_each_write_and_each_call() {
    exhaustive::every_point();
}

#[test]
fn a_crash_at_each_point_while_fields_are_edited() {
    exhaustive::every_point_of_a_file();
}

#[test]
fn a_crash_after_each_pair_of_them() {
    exhaustive::every_pair();
}

#[test]
fn a_deletion_that_is_held_back_waits() {
    rest::a_deletion_that_is_held_back();
}
