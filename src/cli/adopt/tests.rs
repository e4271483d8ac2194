use std::collections::BTreeMap;
use std::fs;

use tempfile::TempDir;

use super::*;
use crate::cli::examples::without_colours;
use crate::model::OtherNode;
use crate::model::Owner;
use crate::runtime::{EngineInfo, Listed};
use crate::store::states::FoundStates;
use crate::store::wings::WingsProcess;
use crate::testing::server_id;
use survey::{FoundContainer, OnPanel};

/// A node as Wings leaves it, with this in its `system` section.
fn loaded(root: &TempDir, system: &str) -> Loaded {
    let path = root.path().join("config.yml");
    let state = root.path().join("state");
    fs::create_dir_all(&state).unwrap();
    let text = format!(
        "token_id: a\ntoken: b\nremote: http://127.0.0.1:1\nsystem: {{root_directory: {}, {system}}}\n",
        state.display()
    );
    fs::write(&path, text).unwrap();
    config::load(&path, HostEnvironment { variables: &|_| None, etc: root.path() }).unwrap()
}

fn nothing() -> Survey {
    Survey {
        states: FoundStates::default(),
        volumes: Default::default(),
        engine: Ok(EngineInfo { version: "20.10.24".into(), ..EngineInfo::default() }),
        containers: Vec::new(),
        panel: Some(Ok(BTreeMap::new())),
        wings: None,
        daemon: None,
        context: None,
        problems: Vec::new(),
    }
}

fn container(number: u32, role: Role, running: bool, owner: Owner) -> FoundContainer {
    let listed = Listed { server: server_id(number), role, id: format!("{number:064}"), running, owner };
    FoundContainer { listed, image: Some("ghcr.io/example/java:21".into()) }
}

fn on_panel(name: &str) -> OnPanel {
    OnPanel { name: name.into(), suspended: false }
}

fn full() -> Survey {
    use PowerState::{Offline, Running, Stopping};
    let states = [(1, Running), (2, Running), (3, Offline), (4, Stopping), (6, Running)];
    let names = [(1, "survival"), (2, "rebooted"), (3, "down"), (4, "stopping"), (5, "new")];
    Survey {
        states: FoundStates {
            states: states.map(|(number, state)| (server_id(number), state)).into(),
            ..FoundStates::default()
        },
        containers: vec![
            container(1, Role::Server, true, Owner::Unlabelled),
            container(2, Role::Server, false, Owner::Unlabelled),
            container(4, Role::Server, true, Owner::Unlabelled),
            container(5, Role::Installer, true, Owner::Unlabelled),
            container(6, Role::Server, true, Owner::Unlabelled),
            container(7, Role::Server, true, Owner::Other(OtherNode { id: "b".into(), root: "/elsewhere".into() })),
        ],
        panel: Some(Ok(names.map(|(number, name)| (server_id(number), on_panel(name))).into())),
        ..nothing()
    }
}

#[test]
fn every_server_of_which_something_was_found_is_shown_with_what_becomes_of_it() {
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("volumes");
    fs::create_dir_all(data.join(server_id(1).to_string())).unwrap();
    let loaded = loaded(&root, &format!("data: {}", data.display()));
    let report = report(&loaded, full());
    let wanted: Vec<_> = report.servers.iter().map(|server| server.wanted.as_str()).collect();
    assert_eq!(wanted, ["running", "running", "offline", "running", "offline", "running", "running"]);
    let text = without_colours(&text(&report, None)).replace(&root.path().display().to_string(), "/node");
    // The columns are as wide as the path of the temporary folder makes them.
    let text: Vec<String> = text
        .lines()
        .map(|line| {
            line.split("  ").filter(|cell| !cell.trim().is_empty()).map(str::trim).collect::<Vec<_>>().join("  ")
        })
        .collect();
    let text = text.join("\n");
    insta::assert_snapshot!(text);
    assert!(report.problems.is_empty());
}

#[test]
fn a_server_that_the_panel_has_suspended_is_stopped_or_stays_so() {
    let root = tempfile::tempdir().unwrap();
    let mut survey = full();
    if let Some(Ok(panel)) = &mut survey.panel {
        panel.values_mut().for_each(|server| server.suspended = true);
    }
    let report = report(&loaded(&root, ""), survey);
    let wanted: Vec<_> = report.servers.iter().filter(|server| server.listed == Some(true)).collect();
    assert!(!wanted.is_empty() && wanted.iter().all(|server| server.wanted == PowerState::Offline), "{wanted:?}");
    let stopped = wanted.iter().find(|server| server.state == Some(PowerState::Running)).unwrap();
    assert!(stopped.attention.iter().any(|line| line.contains("suspended")), "{stopped:?}");
}

#[test]
fn what_prevents_the_takeover_is_a_problem_and_the_rest_needs_attention() {
    let root = tempfile::tempdir().unwrap();
    let attention = |system: &str, survey: Survey| {
        let report = report(&loaded(&root, system), survey);
        (report.attention.join("\n"), report.problems.join("\n"))
    };
    let data = format!("data: {}", root.path().join("data").display());
    assert_eq!(attention(&data, nothing()), (String::new(), String::new()));
    let (text, problems) = attention(
        &format!("{data}, quotas: {{enabled: true}}, typo: 1"),
        Survey {
            engine: Err("cannot reach the engine".into()),
            panel: Some(Err("the panel does not answer".into())),
            wings: Some(WingsProcess { pid: 7, command: "wings".into() }),
            context: Some("rootless".into()),
            problems: vec![Problem::new("api.port", "it is in use")],
            ..nothing()
        },
    );
    for part in ["cannot reach the engine", "the panel does not answer", "Wings (pid 7", "rootless", "quotas", "typo"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(problems, "", "the port is the one of Wings");
    let survey = Survey { problems: vec![Problem::new("api.port", "it is in use")], ..nothing() };
    assert!(attention(&data, survey).1.contains("it is in use"));
    fs::create_dir_all(root.path().join("state/volumes")).unwrap();
    assert!(attention("", nothing()).1.starts_with("system.data: is not named"), "files would be looked for elsewhere");
}
