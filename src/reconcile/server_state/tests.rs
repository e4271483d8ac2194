//! The rules of the state in memory that are easy to get wrong.

use super::*;
use crate::clock::Moment;
use crate::model::{ContainerState, ContainerStatus, Owner, Record, Role, Timestamp};
use crate::reconcile::job::{JobKind, Subject};
use crate::reconcile::observed::{CrashTime, Job, JobState, Lifetime};
use crate::runtime::{ContainerChange, Listed};
use crate::testing::{TestNode, server_id as id};

fn states() -> ServerStates {
    ServerStates::new(Arc::new(Jitter::seeded(1)))
}

fn container(state: ContainerState) -> ContainerStatus {
    ContainerStatus {
        id: "c1".into(),
        state,
        paused: false,
        process: None,
        started_at: None,
        finished_at: None,
        token: None,
        spec_hash: None,
        limits_hash: None,
        image: Some("game:1".into()),
        fields: None,
        ports: Vec::new(),
        stop_signal: None,
        others: Vec::new(),
        files: None,
    }
}

fn exited() -> ContainerStatus {
    container(ContainerState::Exited { code: 1, oom_killed: false })
}

fn seen(container: &str) -> Observed {
    Observed { seen_running: Some(container.into()), ..Observed::default() }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_does_not_move_the_time_of_a_crash() {
    let (states, start) = (states(), Instant::now());
    let recorded = Timestamp::from_millis(1_000_000);
    let record =
        Record { crashes: vec![Crash { at: recorded, restarted: true, ..Crash::default() }], ..Record::default() };
    let observed = |time: i64| {
        let now = Moment { time: Timestamp::from_millis(time), instant: Instant::now() };
        let seen = Observed { restart: CrashTime::of(&record, now), ..Observed::default() };
        states.observed(id(1), 0, seen).restart.unwrap()
    };
    let first = observed(1_000_000);
    assert_eq!(first, CrashTime { recorded, at: Some(start) });
    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!(observed(9_000_000), first, "set forward");
    assert_eq!(observed(5_000), first, "set back");
    states
        .crash_unrecorded(id(1), Crash { at: recorded + Duration::from_secs(5), restarted: true, ..Crash::default() });
    assert_eq!(observed(1_005_000).at, Some(start + Duration::from_secs(5)), "kept in memory");
}

#[tokio::test]
async fn a_change_during_an_inspection_is_not_lost() {
    let states = states();
    let version = states.version(id(1), Role::Server);
    states.container_changed(id(1), Role::Server);
    states.inspected(id(1), Role::Server, version, None);
    assert_eq!(states.cached(id(1), Role::Server), None, "it is inspected again");
    states.inspected(id(1), Role::Server, states.version(id(1), Role::Server), None);
    assert_eq!(states.cached(id(1), Role::Server), Some(None));
    assert!(!states.has_no_containers(id(1)), "the installer was not inspected");
    states.inspected(id(1), Role::Installer, 0, None);
    assert!(states.has_no_containers(id(1)));
}

#[tokio::test]
async fn a_created_container_is_known_without_an_inspection_unless_one_came_in_between() {
    for between in [false, true] {
        let states = states();
        states.container_changed(id(1), Role::Server);
        let version = states.version(id(1), Role::Server);
        if between {
            states.container_changed(id(1), Role::Server);
            states.inspected(id(1), Role::Server, states.version(id(1), Role::Server), None);
        }
        states.created(id(1), Role::Server, version, container(ContainerState::Created));
        let known = states.cached(id(1), Role::Server).flatten();
        assert_eq!(known.is_some(), !between, "inspected in between: {between}");
        assert_ne!(states.cached(id(1), Role::Server), Some(None));
    }
}

#[tokio::test]
async fn the_event_of_the_daemon_s_own_creation_is_no_news_unless_no_container_was_observed() {
    let states = states();
    assert!(!states.container_event(id(1), Role::Server, ContainerChange::Created));
    states.inspected(id(1), Role::Server, states.version(id(1), Role::Server), None);
    assert!(states.container_event(id(1), Role::Server, ContainerChange::Created));
    assert_eq!(states.cached(id(1), Role::Server), None);
}

#[tokio::test]
async fn a_container_that_was_seen_before_the_stream_of_events_broke_off_counts_as_unseen() {
    let states = states();
    let watch = states.watch(id(1));
    assert_eq!(states.observed(id(1), watch, seen("c1")).seen_running.as_deref(), Some("c1"));
    assert!(states.ended_unexpectedly(id(1), Role::Server, &exited()));
    states.unwatch();
    assert!(!states.ended_unexpectedly(id(1), Role::Server, &exited()));
    // An observation that began before the stream broke off has seen nothing.
    assert_eq!(states.observed(id(1), watch, seen("c1")).seen_running, None);
    assert_eq!(states.observed(id(1), states.watch(id(1)), seen("c1")).seen_running.as_deref(), Some("c1"));
}

#[tokio::test]
async fn a_container_that_was_asked_to_stop_does_not_end_unexpectedly() {
    for stop in [ServerStates::stop_server, |states: &ServerStates| states.killing(id(1), Role::Server, "c1")] {
        let states = states();
        states.starting(id(1), Role::Server, "c1");
        assert!(states.ended_unexpectedly(id(1), Role::Server, &exited()));
        stop(&states);
        assert!(!states.ended_unexpectedly(id(1), Role::Server, &exited()));
        assert!(states.stop_was_sent(id(1)));
    }
}

impl ServerStates {
    fn stop_server(&self) {
        self.stop_sent(id(1), "c1", Duration::from_secs(10), StopOutcome::Sent);
    }
}

#[tokio::test(start_paused = true)]
async fn a_kill_keeps_when_the_stop_of_the_same_container_was_sent() {
    let states = states();
    states.stop_server();
    let stop = |states: &ServerStates| states.observed(id(1), 0, Observed::default()).stop.unwrap();
    let sent = stop(&states);
    tokio::time::advance(Duration::from_secs(5)).await;
    states.killing(id(1), Role::Server, "c1");
    let killed = stop(&states);
    assert_eq!((killed.sent_at, killed.deadline), (sent.sent_at, sent.deadline));
    assert_eq!(killed.killed_at, Some(sent.sent_at + Duration::from_secs(5)));
    states.killing(id(1), Role::Server, "c2");
    assert_eq!(stop(&states).sent_at, sent.sent_at + Duration::from_secs(5), "another container");
}

#[tokio::test]
async fn a_listing_completes_what_is_unknown_and_invalidates_what_differs() {
    let listed = [Listed { server: id(1), role: Role::Server, id: "c1".into(), running: true, owner: Owner::ThisNode }];
    let known = |states: &ServerStates, found| {
        states.inspected(id(1), Role::Server, states.version(id(1), Role::Server), found);
    };
    for (cached, containers, changed, after) in [
        (None, &listed[..0], false, Some(None)),
        (None, &listed[..], true, None),
        (Some(None), &listed[..0], false, Some(None)),
        (Some(None), &listed[..], true, None),
        (Some(Some(exited())), &listed[..], true, None),
        (Some(Some(container(ContainerState::Running))), &listed[..0], true, None),
    ] {
        let states = states();
        if let Some(found) = cached.clone() {
            known(&states, found);
        }
        let before = states.begin_listing([id(1)]);
        assert!(before.knew(id(1)) && !before.knew(id(2)));
        assert_eq!(!states.listed(&before, containers).is_empty(), changed, "{cached:?} {containers:?}");
        assert_eq!(states.cached(id(1), Role::Server), after, "{cached:?} {containers:?}");
    }
    let states = states();
    known(&states, Some(container(ContainerState::Running)));
    assert!(states.listed(&states.begin_listing([id(1)]), &listed).is_empty());
    let before = states.begin_listing([id(2)]);
    states.container_changed(id(2), Role::Server);
    assert!(states.listed(&before, &[]).is_empty());
    assert_eq!(states.cached(id(2), Role::Server), None, "it changed while the containers were listed");
}

#[tokio::test]
async fn a_job_for_something_else_replaces_the_one_before() {
    let states = states();
    let jobs = |states: &ServerStates| states.observed(id(1), 0, Observed::default()).jobs;
    let subject = |token: &str| Subject::Install(token.into());
    let first = states.job_starting(id(1), JobKind::Script, &subject("one"));
    let second = states.job_starting(id(1), JobKind::Script, &subject("two"));
    states.job_finished(id(1), first, Ok(()));
    let running = Job { kind: JobKind::Script, subject: subject("two"), state: JobState::Running, attempts: 1 };
    assert_eq!(jobs(&states), [running]);
    states.job_finished(id(1), second, Err(JobError::new(retry::PANEL, "away")));
    assert!(matches!(jobs(&states)[0].state, JobState::Failed { fatal: false, .. }));
    assert_eq!(states.panel_recovered(), [id(1)]);
    assert!(matches!(jobs(&states)[0].state, JobState::Failed { retry_at, .. } if retry_at <= Instant::now()));
    assert_eq!(states.panel_recovered(), []);
    states.job_starting(id(1), JobKind::Script, &subject("two"));
    assert_eq!(jobs(&states)[0].attempts, 2);
}

#[tokio::test]
async fn a_panel_that_recovers_does_not_shorten_the_pause_that_it_asked_for() {
    let states = states();
    let pause = Duration::from_secs(100);
    let job = states.job_starting(id(1), JobKind::Report, &Subject::State);
    states.job_finished(id(1), job, Err(JobError { pause, ..JobError::new(retry::PANEL, "rate limit") }));
    assert_eq!(states.panel_recovered(), []);
    let jobs = states.observed(id(1), 0, Observed::default()).jobs;
    let JobState::Failed { retry_at, .. } = jobs[0].state else { panic!("{jobs:?}") };
    assert!(retry_at > Instant::now() + pause / 2, "{jobs:?}");
}

#[tokio::test(start_paused = true)]
async fn a_task_of_a_job_that_was_ended_is_aborted() {
    let node = TestNode::new();
    let context = &node.context;
    let states = states();
    let run = states.job_starting(id(1), JobKind::Script, &Subject::Install("one".into()));
    let task = context.tasks.spawn("job", std::future::pending());
    states.quiesce(id(1));
    states.job_started(id(1), run, task);
    while !context.tasks.running().is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn each_change_of_a_server_is_noticed_by_those_that_wait_for_it() {
    let states = states();
    let limit = Duration::from_secs(5);
    let change = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        states.converged(id(2), 7);
        states.converged(id(1), 6);
        tokio::time::sleep(Duration::from_secs(1)).await;
        states.converged(id(1), 7);
    };
    let began = tokio::time::Instant::now();
    let (converged, ()) = tokio::join!(states.wait(id(1), limit, || states.has_converged(id(1), 7)), change);
    assert!(converged);
    assert_eq!(began.elapsed(), Duration::from_secs(2));
    let remove = async { states.remove(id(1)) };
    let (converged, ()) = tokio::join!(states.wait(id(1), limit, || states.has_converged(id(1), 8)), remove);
    assert!(!converged);
    assert_eq!(began.elapsed(), Duration::from_secs(2), "nothing more can come");
}

#[tokio::test(start_paused = true)]
async fn steps_that_undo_each_other_are_slowed_down() {
    let states = states();
    let now = Instant::now();
    assert_eq!(states.not_converged(id(1)), (1, now));
    let (passes, at) = states.not_converged(id(1));
    assert!(passes == 2 && at > now);
    states.converged(id(1), 1);
    assert_eq!(states.not_converged(id(1)), (1, now));
}

#[tokio::test]
async fn what_failed_with_an_earlier_spec_is_due_at_once() {
    let states = states();
    states.spec_accepted(id(1), 1);
    let image = |reference| Subject::Start("p1".into()).image(Role::Server, reference);
    let failed = |kind, subject: &Subject| {
        let run = states.job_starting(id(1), kind, subject);
        states.job_finished(id(1), run, Err(JobError::new(retry::STEP, "no")));
    };
    failed(JobKind::Image, &image("game:1"));
    failed(JobKind::Report, &Subject::State);
    let step = Step::CreateServer { token: "p1".into() };
    assert_eq!(states.step_failed(id(1), &step, true, "memory is less than 6 MiB".into()), 1);
    states.spec_accepted(id(1), 1);
    assert!(states.held_back(id(1), &step).is_some());
    states.spec_accepted(id(1), 2);
    assert_eq!(states.held_back(id(1), &step), None);
    let left = states.observed(id(1), 0, Observed::default());
    assert_eq!(left.jobs.iter().map(|job| job.kind).collect::<Vec<_>>(), [JobKind::Report], "the panel is no spec");
    assert_eq!(states.step_failed(id(1), &step, true, "no".into()), 1, "it is counted from one");
}

#[tokio::test(start_paused = true)]
async fn a_run_is_as_old_as_it_was_seen_to_be_whatever_the_clock_says_later() {
    let states = states();
    let (start, minute) = (Timestamp::from_millis(1_000_000_000), Duration::from_secs(60));
    let moment = |time| Moment { time, instant: Instant::now() };
    let observe = |name: &str, started_at, now| {
        let status =
            ContainerStatus { id: name.into(), started_at: Some(started_at), ..container(ContainerState::Running) };
        let server_run = Lifetime::of(Some(&status), now);
        let seen = Observed { server: Some(status), server_run, ..Observed::default() };
        states.observed(id(1), 0, seen).server_run.started.unwrap()
    };
    let began = Instant::now();
    assert_eq!(observe("c1", start, moment(start + minute)), began - minute);
    tokio::time::advance(minute).await;
    for now in [start, start + minute * 600, start - minute * 600] {
        assert_eq!(observe("c1", start, moment(now)), began - minute, "{now}");
    }
    let again = start - minute * 600;
    assert_eq!(observe("c1", again, moment(again)), Instant::now(), "it was started again");
    assert_eq!(observe("c2", start, moment(again)), Instant::now(), "another one, dated in the future");
}

#[test]
fn the_manifests_of_a_transfer_stay_until_it_ends() {
    let (states, one, other) = (states(), Uuid::from_u128(1), Uuid::from_u128(2));
    let manifests = states.sent_manifests(id(1), one);
    assert!(Arc::ptr_eq(&manifests, &states.sent_manifests(id(1), one)), "another run of its job has them");
    assert!(!Arc::ptr_eq(&manifests, &states.sent_manifests(id(1), other)), "another transfer does not");
    assert_eq!(Arc::strong_count(&manifests), 1);
    let manifests = states.sent_manifests(id(1), other);
    states.drop_sent_manifests(id(1));
    assert_eq!(Arc::strong_count(&manifests), 1);
}
