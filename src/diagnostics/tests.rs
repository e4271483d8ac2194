use std::path::Path;

use super::*;
use crate::config::{PanelConfig, Secret};
use crate::model::{Condition, NodeConditionType, Phase, Reason};
use crate::testing::{node_config, server_id};

fn known(node: Result<&NodeConfig, String>) -> Known<'_> {
    let now = Timestamp::from_millis(1_800_000_000_000);
    let info = EngineInfo { version: "27.3.1".into(), cgroup_version: "2".into(), ..EngineInfo::default() };
    let mut broken = Status::new(server_id(1));
    broken.phase = Phase::Failed;
    broken.set_condition(Condition {
        condition_type: ConditionType::Ready,
        status: ConditionStatus::False,
        reason: Reason::StepFailed,
        message: "the image is missing".into(),
        last_transition_time: now,
        observed_generation: 1,
    });
    Known {
        now,
        node,
        engine: EngineAnswers { info: Ok(info), containers: Err("it has not answered".into()) },
        not_applied: Some(NotApplied { at: now, reasons: vec!["debug: is a text: expected true or false".into()] }),
        conditions: Some(vec![NodeCondition {
            r#type: NodeConditionType::ConfigurationApplied,
            status: ConditionStatus::False,
            message: "panel.example is new: restart the daemon".into(),
            last_transition_time: now,
        }]),
        servers: vec![Arc::new(broken), Arc::new(Status::new(server_id(2)))],
        log: Ok(vec!["asked panel.example at https://panel.example/api".into(), "token s3cret-token".into()]),
    }
}

fn node() -> NodeConfig {
    let mut node = node_config(Path::new("/node"));
    node.live.update(|live| live.token = Secret::new("s3cret-token"));
    node.panel = Some(PanelConfig {
        remote: "https://panel.example".into(),
        url: "https://panel.example".into(),
        token_id: "id".into(),
        token: Secret::new("s3cret-token"),
        timeout: std::time::Duration::from_secs(30),
        servers_per_page: 50,
        custom_headers: Vec::new(),
    });
    node
}

#[test]
fn a_report_has_what_is_known_and_hides_what_is_secret() {
    let node = node();
    let text = |endpoints, log_lines| Report::new(&known(Ok(&node)), Contents { endpoints, log_lines }).text();
    let hidden = text(false, Some(200));
    for part in [
        "| Versions\n| ----",
        "27.3.1",
        "Panel Location: {redacted}\n",
        "Internal Webserver: {redacted}\n",
        "Root Directory: /node\n",
        "ConfigurationApplied=False: {redacted} is new: restart the daemon\n",
        "debug: is a text: expected true or false\n",
        "Failed: 1\n",
        "Created: 1\n",
        "StepFailed\n",
        "it has not answered\n",
        "asked {redacted} at https://{redacted}/api\n",
    ] {
        assert!(hidden.contains(part), "{part:?} is missing:\n{hidden}");
    }
    let shown = text(true, Some(200));
    let addresses =
        shown.contains("Panel Location: https://panel.example\n") && shown.contains("asked panel.example at");
    assert!(addresses, "{shown}");
    let without_log = text(true, None);
    assert!(without_log.ends_with("Logs redacted.\n"), "{without_log}");
    for text in [hidden, shown, without_log] {
        assert!(!text.contains("s3cret"), "{text}");
    }
}

#[test]
fn a_report_without_a_configuration_and_without_an_engine_has_the_reasons() {
    let known = Known {
        engine: EngineAnswers::none("there is no engine"),
        conditions: None,
        not_applied: None,
        servers: Vec::new(),
        log: Err("no log".into()),
        ..known(Err("config.yml has 1 invalid values".into()))
    };
    let text = Report::new(&known, Contents { endpoints: false, log_lines: Some(5) }).text();
    assert!(!text.contains("Not Applied"), "{text}");
    for part in ["has 1 invalid values\n", "there is no engine\n", "No daemon runs.\n", "no log\n"] {
        assert!(text.contains(part), "{part:?} is missing:\n{text}");
    }
}

#[test]
fn the_end_of_the_log_is_read() {
    let root = tempfile::tempdir().unwrap();
    let node = node_config(root.path());
    assert_eq!(log_tail(&node, 2), Ok(Vec::new()), "there is no log yet");
    std::fs::write(root.path().join("wings.log"), "one\ntwo\nthree\n").unwrap();
    assert_eq!(log_tail(&node, 2), Ok(vec!["two".to_owned(), "three".into()]));
}
