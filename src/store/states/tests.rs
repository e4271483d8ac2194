use std::fs;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::clock::Clock;
use crate::model::Record;
use crate::store::Blocking;
use crate::testing::{file_manifest, server_id};

fn of(entries: &[(u32, PowerState)]) -> States {
    entries.iter().map(|(number, state)| (server_id(*number), *state)).collect()
}

fn store(root: &TempDir) -> Store {
    Store::open(root.path(), Blocking::Inline, Clock::System, None).unwrap()
}

fn leave(root: &TempDir, states: &States) {
    fs::write(root.path().join(STATES_FILE), serde_json::to_vec(states).unwrap()).unwrap();
}

fn start(store: &Store, number: u32) {
    let new =
        NewRequest { id: format!("s{number}"), by: Requester::Panel, ..start_of_wings(Timestamp::from_millis(1)) };
    store.request(server_id(number), None, [new]).unwrap();
}

/// Whether the server is asked to run; `None` where nothing is asked.
fn wants_up(store: &Store, number: u32) -> Option<bool> {
    let snapshot = store.get(server_id(number)).unwrap();
    snapshot.asked(Timestamp::from_millis(i64::MAX / 2)).power().map(|request| request.verb.wants_up())
}

#[test]
fn the_file_of_wings_is_read_as_far_as_it_is_complete() {
    let (one, two) = (server_id(1), server_id(2));
    let running = of(&[(1, PowerState::Running)]);
    for (text, states, is_damaged) in [
        (String::new(), States::new(), false),
        ("\n".into(), States::new(), false),
        ("{}".into(), States::new(), false),
        (format!("{{\"{one}\":\"running\"}}\n"), running.clone(), false),
        (
            format!("{{\"{one}\":\"running\",\"{two}\":\"starting\"}}"),
            of(&[(1, PowerState::Running), (2, PowerState::Starting)]),
            false,
        ),
        // Unknown keys and values, also of other types.
        (
            format!("{{\"x\":\"running\",\"{one}\":\"running\",\"{two}\":\"flying\",\"y\":[{{}}]}}"),
            running.clone(),
            false,
        ),
        (format!("{{\"{one}\":\"running\",\"{two}\":{{\"a\":[1]}}}}"), running.clone(), false),
        (
            format!("{{\"{}\":\"running\"}}", one.to_string().to_uppercase()),
            States::new(),
            one.to_string() != one.to_string().to_lowercase(),
        ),
        // Cut off by a power failure.
        (format!("{{\"{one}\":\"running\",\"{two}\":\"runn"), running.clone(), true),
        (format!("{{\"{one}\":\"running\",\"{two}"), running.clone(), true),
        (format!("{{\"{one}\":\"running\""), running.clone(), true),
        (format!("{{\"{one}\":\"running\"}}\0\0\0"), running.clone(), true),
        ("\0\0\0".into(), States::new(), true),
        ("[]".into(), States::new(), true),
        ("null".into(), States::new(), true),
        (format!("{}1", "[".repeat(5000)), States::new(), true),
        (format!("{{\"{one}\":\"running\",\"x\":{}", "[".repeat(5000)), running, true),
    ] {
        let (found, problem) = parse(text.as_bytes());
        assert_eq!((found, problem.is_some()), (states, is_damaged), "{text:.80}");
    }
}

#[test]
fn a_missing_file_has_no_states_and_a_folder_in_its_place_is_a_problem() {
    let root = tempfile::tempdir().unwrap();
    assert_eq!(read_states(root.path()), FoundStates::default());
    fs::create_dir(root.path().join(STATES_FILE)).unwrap();
    assert!(read_states(root.path()).problem.unwrap().contains("is not a file"));
}

#[test]
fn a_file_that_this_daemon_wrote_is_told_from_one_of_wings() {
    let root = tempfile::tempdir().unwrap();
    let states = of(&[(1, PowerState::Running)]);
    leave(&root, &states);
    assert!(!read_states(root.path()).wings_ran, "this daemon has not run yet, so nothing of it can be outdated");
    store(&root).write_states(&states).unwrap();
    let found = read_states(root.path());
    assert_eq!((found.states, found.wings_ran, found.problem), (states.clone(), false, None));
    // Wings has written the same, with its own layout.
    fs::write(root.path().join(STATES_FILE), serde_json::to_string_pretty(&states).unwrap()).unwrap();
    assert!(!read_states(root.path()).wings_ran);
    leave(&root, &of(&[(1, PowerState::Offline)]));
    assert!(read_states(root.path()).wings_ran);
}

#[test]
fn a_server_that_is_new_here_starts_if_wings_ran_it() {
    let root = tempfile::tempdir().unwrap();
    use PowerState::{Offline, Running, Starting, Stopping};
    leave(&root, &of(&[(1, Running), (2, Starting), (3, Stopping), (4, Offline)]));
    let store = store(&root);
    store.take_over_states();
    let starts = |number| store.start_left_by_wings(server_id(number)).map(|new| new.verb);
    assert_eq!([1, 2, 3, 4, 5].map(starts), [Some(Verb::Start), Some(Verb::Start), None, None, None]);
    assert_eq!(
        store.states(),
        of(&[(1, Running), (2, Starting), (3, Stopping), (4, Offline)]),
        "kept for the way back"
    );
    store.forget_left_states();
    assert_eq!((starts(1), store.states()), (None, States::new()));
}

#[test]
fn servers_that_are_known_here_follow_what_wings_did_since() {
    let root = tempfile::tempdir().unwrap();
    let before = store(&root);
    for number in 1..=5 {
        before.create(file_manifest(number), Record::default(), []).unwrap();
    }
    [1, 2, 5].into_iter().for_each(|number| start(&before, number));
    let states = before.states();
    assert_eq!(states[&server_id(1)], PowerState::Starting);
    before.write_states(&states).unwrap();
    // The same daemon again: nothing changes.
    let again = store(&root);
    again.take_over_states();
    assert_eq!([1, 2, 3].map(|number| wants_up(&again, number)), [Some(true), Some(true), None]);
    // Wings has stopped the first, started the third, and does not know the fifth.
    leave(
        &root,
        &of(&[
            (1, PowerState::Offline),
            (2, PowerState::Running),
            (3, PowerState::Starting),
            (4, PowerState::Stopping),
        ]),
    );
    let after = store(&root);
    for _ in 0..2 {
        after.take_over_states();
        let wanted = [1, 2, 3, 4, 5].map(|number| wants_up(&after, number));
        assert_eq!(wanted, [None, Some(true), Some(true), None, Some(true)]);
    }
    let handled = after.get(server_id(1)).unwrap().record.power.handled.clone().unwrap();
    assert_eq!((handled.id.as_str(), handled.reason), ("s1", Reason::TakenOver));
}

#[test]
fn what_wings_left_of_a_server_that_was_removed_does_not_start_a_later_one() {
    let root = tempfile::tempdir().unwrap();
    leave(&root, &of(&[(1, PowerState::Running)]));
    let store = store(&root);
    store.take_over_states();
    store.create(file_manifest(1), Record::default(), []).unwrap();
    assert!(store.remove(server_id(1), |_| true).unwrap());
    assert_eq!((store.start_left_by_wings(server_id(1)), store.states()), (None, States::new()));
}

#[test]
fn the_file_says_where_the_requests_lead() {
    let root = tempfile::tempdir().unwrap();
    let store = store(&root);
    let id = server_id(1);
    store.create(file_manifest(1), Record::default(), []).unwrap();
    let state = |published, verbs: &[Verb]| {
        let snapshot = store.get(id).unwrap();
        let mut requests = crate::model::Requests::default();
        for verb in verbs {
            let new = NewRequest { verb: *verb, ..start_of_wings(Timestamp::from_millis(1)) };
            crate::requests::accept(&mut requests, &snapshot.record, new);
        }
        let snapshot = Snapshot { requests: requests.into(), ..Snapshot::clone(&snapshot) };
        state_of(&snapshot, published, Timestamp::from_millis(2))
    };
    use PowerState::{Offline, Running, Starting, Stopping};
    let install = Verb::Install { reinstall: true, then_start: true };
    for (published, verbs, expected) in [
        (Offline, [].as_slice(), Offline),
        (Running, &[], Running),
        (Offline, &[Verb::Start], Starting),
        (Starting, &[Verb::Start], Starting),
        (Running, &[Verb::Start], Running),
        (Running, &[Verb::Stop], Stopping),
        (Offline, &[Verb::Stop], Offline),
        // A restart that a reboot interrupts ends with a server that runs.
        (Stopping, &[Verb::Restart], Starting),
        (Offline, &[install], Offline),
        (Running, &[Verb::Start, install], Offline),
    ] {
        assert_eq!(state(published, verbs), expected, "{published:?} {verbs:?}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_without_a_panic(text in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&text);
    }

    #[test]
    fn what_is_written_is_read_back_and_each_beginning_of_it_as_far_as_it_goes(
        states in proptest::collection::btree_map(0..30_u32, 0..4_usize, 0..8),
        cut in 0..400_usize,
    ) {
        use PowerState::{Offline, Running, Starting, Stopping};
        let states: States =
            states.into_iter().map(|(number, state)| (server_id(number), [Offline, Starting, Running, Stopping][state])).collect();
        let text = serde_json::to_vec(&states).unwrap();
        prop_assert_eq!(parse(&text), (states.clone(), None));
        let (some, problem) = parse(&text[..cut.min(text.len())]);
        prop_assert!(some.iter().all(|(id, state)| states[id] == *state));
        prop_assert_eq!(problem.is_some(), 0 < cut && cut < text.len());
    }
}
