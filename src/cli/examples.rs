//! Servers for tests of the output.

use super::server::ServerView;
use crate::model::{
    Condition, ConditionStatus, ConditionType, Crash, Handled, InstallOutcome, InstallResult, ManagedBy, Manifest,
    Phase, PowerState, PublishedPort, Reason, Record, Request, Requester, Requests, ServerId, Status, Timestamp, Verb,
};
use crate::store::SpecProblem;

/// A text without its colours.
pub fn without_colours(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

/// The current time in the examples.
pub fn now() -> Timestamp {
    Timestamp::parse("2026-03-01T12:00:00Z").unwrap()
}

fn before(seconds: u64) -> Timestamp {
    now() - std::time::Duration::from_secs(seconds)
}

/// A running server, a failed one, a parked one, and one that no pass has observed yet.
pub fn servers() -> Vec<ServerView> {
    vec![running(), troubled(), parked(), new()]
}

fn view(uuid: &str, managed_by: ManagedBy, name: &str, image: &str) -> ServerView {
    let uuid: ServerId = uuid.parse().unwrap();
    let mut manifest = Manifest::new(uuid, managed_by);
    manifest.spec.settings.meta.name = name.into();
    manifest.spec.settings.container.image = image.into();
    let record = Record { generation: 1, ..Record::default() };
    let mut status = Status::new(uuid);
    status.observed_generation = 1;
    ServerView { uuid, manifest: Some(manifest), requests: Requests::default(), record, problem: None, status }
}

fn asked(sequence: u64, id: &str, age: u64, verb: Verb) -> Requests {
    let request = Request {
        sequence,
        id: id.into(),
        at: before(age),
        expires_at: None,
        timeout: None,
        by: Requester::Panel,
        verb,
    };
    Requests { sequence, accepted: vec![request], ..Requests::default() }
}

fn set_condition(
    server: &mut ServerView,
    kind: ConditionType,
    status: ConditionStatus,
    reason: Reason,
    message: &str,
    age: u64,
) {
    server.status.set_condition(Condition {
        condition_type: kind,
        status,
        reason,
        message: message.into(),
        last_transition_time: before(age),
        observed_generation: 1,
    });
}

fn running() -> ServerView {
    let mut server =
        view("11111111-e29b-41d4-a716-446655440000", ManagedBy::Panel, "Würfelwelt", "ghcr.io/example/java:21");
    let manifest = server.manifest.as_mut().unwrap();
    manifest.metadata.labels.insert("team".into(), "blue".into());
    let settings = &mut manifest.spec.settings;
    settings.invocation = "java -jar server.jar".into();
    settings.build.memory_limit = 2048;
    settings.build.disk_space = 10240;
    settings.allocations.default.port = 25565;
    settings.allocations.default.ip = "192.0.2.1".into();
    settings.allocations.mappings.insert("192.0.2.1".into(), vec![25565, 25566]);
    manifest.spec.process.stop.kind = "command".into();
    manifest.spec.process.stop.value = "stop".into();
    server.requests = asked(2, "request-2", 600, Verb::Start);
    server.record.generation = 3;
    server.record.created_at = Some(before(90_000 * 3));
    server.record.synced_at = Some(before(600));
    server.record.last_reported = Some(PowerState::Running);
    server.record.install.done =
        Some(result("token-1", InstallOutcome::Succeeded, Some(0), "the script ran to its end"));
    let status = &mut server.status;
    (status.observed_generation, status.phase, status.state) = (3, Phase::Online, PowerState::Running);
    status.container = Some("c0ffee".into());
    status.image = Some("ghcr.io/example/java:21".into());
    status.started_at = Some(before(570));
    status.ports = vec![PublishedPort { address: "192.0.2.1".into(), port: 25565 }];
    status.disk_bytes = 3 << 30;
    status.push_event(1, before(590), Reason::StateChanged, "offline → starting");
    status.push_event(2, before(570), Reason::StateChanged, "starting → running");
    let message = "the server is as its spec and requests say";
    set_condition(&mut server, ConditionType::Ready, ConditionStatus::True, Reason::Ready, message, 570);
    set_condition(
        &mut server,
        ConditionType::SpecAccepted,
        ConditionStatus::True,
        Reason::Accepted,
        "accepted generation 3",
        90_000,
    );
    set_condition(&mut server, ConditionType::Running, ConditionStatus::True, Reason::Running, "the server runs", 570);
    server
}

/// Changes the server's manifest so that its container is not current.
pub fn needs_restart(server: &mut ServerView) {
    let message = "the next start changes spec.settings.container.image from a to b; restart the server to apply it";
    set_condition(server, ConditionType::UpToDate, ConditionStatus::False, Reason::RestartRequired, message, 60);
}

fn result(token: &str, outcome: InstallOutcome, exit_code: Option<i64>, message: &str) -> InstallResult {
    InstallResult {
        token: token.into(),
        sequence: 1,
        outcome,
        reinstall: false,
        exit_code,
        reason: Reason::Completed,
        message: message.into(),
        at: before(7_200),
        reported: false,
    }
}

fn troubled() -> ServerView {
    let mut server =
        view("22222222-e29b-41d4-a716-446655440000", ManagedBy::File, "bad \u{1b}[2J name", "example/does-not-exist");
    let message =
        "config.yml: line 7, column 5: spec.restartAt: unknown field `restartAt`; did you mean `restartedAt`?";
    server.problem = Some(SpecProblem { reason: Reason::SpecInvalid, message: message.into() });
    let manifest = server.manifest.as_mut().unwrap();
    manifest.spec.suspended = true;
    server.requests = asked(3, "request-3", 600, Verb::Install { reinstall: false, then_start: true });
    let record = &mut server.record;
    record.generation = 2;
    record.install.done = Some(result("token-1", InstallOutcome::Failed, Some(3), "the script ended with exit code 3"));
    record.power.handled = Some(Handled {
        sequence: 2,
        id: "first".into(),
        verb: Verb::Kill,
        reason: Reason::Stopped,
        message: "the server is stopped".into(),
        at: before(30),
    });
    for (age, oom_killed, restarted, in_row) in [(300, false, true, 1), (280, true, false, 2)] {
        let (container, at, power) = ("deadbeef".into(), before(age), "first".into());
        let lines = vec!["Loading world".into(), "java.lang.OutOfMemoryError: Java heap space".into()];
        record.push_crash(Crash { container, at, exit_code: 137, oom_killed, restarted, in_row, power, lines });
    }
    server.status.phase = Phase::Failed;
    let message = "cannot pull example/does-not-exist: not found; attempt 3, tried again";
    for condition in [ConditionType::Ready, ConditionType::ImageReady] {
        set_condition(&mut server, condition, ConditionStatus::False, Reason::ImagePullBackOff, message, 45);
    }
    server
}

fn parked() -> ServerView {
    let mut server =
        view("33333333-e29b-41d4-a716-446655440000", ManagedBy::Panel, "Old one", "ghcr.io/example/java:8");
    server.record.parked = Some(before(3 * 86_400));
    server.status.phase = Phase::Offline;
    server
}

fn new() -> ServerView {
    let mut server = view("44444444-e29b-41d4-a716-446655440000", ManagedBy::File, "", "");
    server.status.observed_generation = 0;
    server
}
