//! Planning servers that are as they should be.

use std::time::Instant;

use alula::clock::Moment;
use alula::model::{
    ContainerState, ContainerStatus, InstallOutcome, InstallResult, Manifest, PowerState, Reason, Record, Request,
    Requester, Requests, ServerId, Timestamp, Verb,
};
use alula::reconcile::observed::{Observed, Policy, Usage, WantedContainer};
use alula::reconcile::plan::{Input, plan};
use serde_json::json;

use crate::REPEATS;
use crate::panel_sim::SimServer;
use crate::table::{Table, median, millis};

const SERVERS: usize = 500;

struct Server {
    manifest: Manifest,
    requests: Requests,
    record: Record,
    observed: Observed,
}

/// Plans 500 servers that run as wanted.
pub fn measure(table: &mut Table) {
    let now = Timestamp::from_millis(1_800_000_000_000);
    let servers: Vec<Server> = (0..SERVERS).map(|number| running(number, now)).collect();
    let policy = Policy { panel: true, crash_detection: true, ..policy() };
    let mut spans = Vec::new();
    for _ in 0..REPEATS * 4 {
        let begun = Instant::now();
        for server in &servers {
            let plan = plan(Input {
                manifest: Some(&server.manifest),
                problem: None,
                unrecorded: false,
                requests: &server.requests,
                record: &server.record,
                published: PowerState::Running,
                observed: &server.observed,
                policy: &policy,
                now: Moment { time: now, instant: tokio::time::Instant::now() },
            });
            assert!(plan.steps.is_empty() && plan.state == PowerState::Running, "{plan:?}");
        }
        spans.push(millis(begun.elapsed()));
    }
    let ours = median(spans);
    let what = "500 converged servers planned";
    table.row(what, format!("{ours:.2} ms"), String::new(), "20 ms".into(), ours <= 20.0);
}

fn policy() -> Policy {
    let minute = std::time::Duration::from_secs(60);
    Policy {
        panel: true,
        crash_detection: true,
        clean_exit_is_crash: true,
        crash_timeout: minute,
        install_timeout: None,
        fail_on_nonzero_exit: false,
        fix_permissions: true,
        disk_check_interval: 2 * minute,
        file_events: false,
    }
}

fn running(number: usize, now: Timestamp) -> Server {
    let id: ServerId = uuid::Uuid::from_u128(number as u128 | 4 << 76 | 8 << 60).to_string().parse().expect("an id");
    let sim = SimServer::new(&id.to_string(), "example.com/games/game:1", "example.com/installers/debian:1");
    let mut settings = sim.settings.clone();
    // What a panel says and a record does not.
    for key in ["uuid", "suspended"] {
        settings.as_object_mut().expect("an object").remove(key);
    }
    settings["build"]["threads"] = json!("");
    settings["egg"]["features"] = json!({});
    settings["allocations"]["mappings"] = json!({"0.0.0.0": [25565 + number]});
    settings["container"].as_object_mut().expect("an object").remove("requires_rebuild");
    let manifest: Manifest = serde_json::from_value(json!({
        "apiVersion": "alula/v1",
        "kind": "Server",
        "metadata": {"uuid": id, "managedBy": "panel"},
        "spec": {
            "suspended": false,
            "settings": settings,
            "process": {"startup": {"done": ["ready"]}, "stop": {"type": "command", "value": "stop"}},
        },
    }))
    .expect("a manifest");
    let container = format!("{number:064x}");
    let request = |sequence, id: &str, verb| Request {
        sequence,
        id: id.into(),
        at: now,
        expires_at: None,
        timeout: None,
        by: Requester::Panel,
        verb,
    };
    let install = request(1, "i1", Verb::Install { reinstall: false, then_start: true });
    let accepted = vec![install, request(2, "p1", Verb::Start)];
    let requests = Requests { sequence: 2, accepted, ..Requests::default() };
    let mut record = Record::default();
    record.install.done = Some(InstallResult {
        token: "i1".into(),
        sequence: 1,
        outcome: InstallOutcome::Succeeded,
        reinstall: false,
        exit_code: Some(0),
        reason: Reason::Completed,
        message: "the install script ran to its end".into(),
        at: now,
        reported: true,
    });
    record.power.started = Some(container.clone());
    record.last_reported = Some(PowerState::Running);
    let observed = Observed {
        server: Some(ContainerStatus {
            process: None,
            id: container.clone(),
            paused: false,
            state: ContainerState::Running,
            started_at: Some(now),
            finished_at: None,
            token: Some("p1".into()),
            spec_hash: Some("spec".into()),
            limits_hash: Some("limits".into()),
            image: Some("game:1".into()),
            fields: None,
            ports: Vec::new(),
            stop_signal: None,
            others: Vec::new(),
            files: None,
        }),
        wanted: Some(WantedContainer {
            spec_hash: Some("spec".into()),
            limits_hash: "limits".into(),
            ..WantedContainer::default()
        }),
        prepared: true,
        attached: Some(container.clone()),
        done_seen: Some(container.clone()),
        acknowledged: Some(PowerState::Running),
        seen_running: Some(container),
        usage: Some(Usage { bytes: 1 << 20, hidden: false, at: tokio::time::Instant::now() }),
        ..Observed::default()
    };
    Server { manifest, requests, record, observed }
}
