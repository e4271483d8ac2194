//! The whole controller over a real state folder, with the runtime and the panel in memory, paused time, and a seeded plan of
//! faults.
//!
//! A normal run plays 2,000 seeds; `./test.sh --explore MINUTES` plays new ones. A failing seed is shrunk and printed
//! with the command that repeats it. `simulation/explore.rs` lists the variables that select seeds.

#[path = "simulation/api_requests.rs"]
mod api_requests;
#[path = "simulation/backups.rs"]
mod backups;
#[path = "simulation/check.rs"]
mod check;
#[path = "simulation/convergence.rs"]
mod convergence;
#[path = "simulation/crash_loops.rs"]
mod crash_loops;
#[path = "simulation/daemon.rs"]
mod daemon;
#[path = "simulation/directed.rs"]
mod directed;
#[path = "simulation/disk.rs"]
mod disk;
#[path = "simulation/exhaustive.rs"]
mod exhaustive;
#[path = "simulation/expected.rs"]
mod expected;
#[path = "simulation/explore.rs"]
mod explore;
#[path = "simulation/faults.rs"]
mod faults;
#[path = "simulation/idle.rs"]
mod idle;
#[path = "simulation/journal.rs"]
mod journal;
#[path = "simulation/operators.rs"]
mod operators;
#[path = "simulation/outages.rs"]
mod outages;
#[path = "simulation/plan.rs"]
mod plan;
#[path = "simulation/restores.rs"]
mod restores;
#[path = "simulation/rng.rs"]
mod rng;
#[path = "simulation/scenario.rs"]
mod scenario;
#[path = "simulation/setup.rs"]
mod setup;
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
            panic!("seed {seed} had another journal the second time:\n{difference}");
        }
        assert_eq!(one.tally, other.tally, "seed {seed}");
        lines += one.journal.lines().count() as u64;
    }
    assert!(lines > 100 * count, "{lines} lines of {count} seeds: the journals are too short");
    // Their work ends at another moment each time.
    assert!(!has_blocking_threads(), "something ran on tokio's pool of blocking threads");
}

fn has_blocking_threads() -> bool {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok())
        .any(|name| name.starts_with("tokio-"))
}

#[test]
fn restarts_follow_the_policy() {
    crash_loops::restarts_follow_the_policy();
}

#[test]
fn a_server_that_waits_for_its_restart_obeys() {
    crash_loops::a_server_that_waits_obeys();
}

#[test]
fn after_a_boot_servers_start_a_few_at_a_time() {
    crash_loops::after_a_boot_servers_start_a_few_at_a_time();
}

#[test]
fn a_log_whose_stream_breaks_just_before_its_end() {
    directed::a_log_whose_stream_breaks_just_before_its_end();
}

#[test]
fn requests_to_a_server_that_is_made_again() {
    directed::requests_to_a_server_that_is_made_again();
}

#[test]
fn an_edit_in_the_folder_of_a_server_that_is_being_deleted() {
    directed::an_edit_in_the_folder_of_a_server_that_is_being_deleted();
}

#[test]
fn an_edit_after_requests_were_lost() {
    directed::an_edit_after_requests_were_lost();
}

#[test]
fn an_override_of_a_server_that_is_made_again() {
    directed::an_override_of_a_server_that_is_made_again();
}

#[test]
fn a_lost_record_of_a_server_of_a_file() {
    directed::a_lost_record_of_a_server_of_a_file();
}

#[test]
fn a_request_while_a_lost_record_cannot_be_written() {
    directed::a_request_while_a_lost_record_cannot_be_written();
}

#[test]
fn limits_of_a_server_whose_record_was_lost() {
    directed::limits_of_a_server_whose_record_was_lost();
}

#[test]
fn a_panel_that_is_away_for_a_day_gets_each_result_once() {
    restores::a_panel_that_is_away_for_a_day();
}

#[test]
fn a_backup_that_the_panel_does_not_know_leaves_nothing() {
    restores::a_backup_that_the_panel_does_not_know();
}

#[test]
fn a_crash_in_each_phase_of_a_restore() {
    restores::a_crash_in_each_phase();
}

#[test]
fn a_crash_at_each_point_of_a_restore() {
    restores::a_crash_at_each_point();
}

#[test]
fn a_record_that_is_lost_during_a_restore() {
    restores::a_record_that_is_lost();
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
    idle::a_deletion_that_is_held_back();
}
