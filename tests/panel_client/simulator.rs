//! The simulator itself, which the other tests rely on.

use alula::model::PowerState;
use alula::panel::{Panel, PanelError};
use serde_json::json;

use super::panel_sim::{Fault, PanelSim, Standing};
use super::{add, id, panel};

#[tokio::test]
async fn the_simulator_checks_credentials_as_the_panel_does() {
    let sim = PanelSim::start();
    let id = add(&sim, 1)[0];
    let client = reqwest::Client::new();
    let (token_id, token) = (sim.token_id(), sim.token());
    for (bearer, path, status) in [
        (String::new(), "/servers".to_owned(), 401),
        ("Bearer .".into(), "/servers".into(), 400),
        (format!("Bearer {token}"), "/servers".into(), 400),
        (format!("Bearer {token_id}.{token}.x"), "/servers".into(), 400),
        (format!("Bearer {token_id}."), "/servers".into(), 400),
        (format!("Bearer other.{token}"), "/servers".into(), 404),
        (format!("Bearer {token_id}.other"), "/servers".into(), 403),
        (format!("Bearer {token_id}.other"), format!("/servers/{id}"), 403),
        // An unknown server is 404 before the token is checked.
        (String::new(), format!("/servers/{}", self::id(9)), 404),
        (format!("Bearer {token_id}.{token}"), "/servers".into(), 200),
        (format!("Bearer {token_id}.{token}"), "/nothing".into(), 404),
    ] {
        let mut request = client.get(format!("{}/api/remote{path}", sim.url()));
        if !bearer.is_empty() {
            request = request.header("authorization", &bearer);
        }
        assert_eq!(request.send().await.unwrap().status(), status, "{path} with {bearer:?}");
    }
    assert_eq!(sim.mark(), 11, "every request is recorded");
}

#[tokio::test]
async fn the_simulator_pages_as_the_panel_does() {
    let sim = PanelSim::start();
    add(&sim, 5);
    let client = reqwest::Client::new();
    for (query, current, last, entries) in [
        ("page=0&per_page=2", 1, 3, 2),
        ("page=1&per_page=2", 1, 3, 2),
        ("page=3&per_page=2", 3, 3, 1),
        ("page=4&per_page=2", 4, 3, 0),
        ("per_page=x", 1, 1, 5),
        ("", 1, 1, 5),
    ] {
        let request = client
            .get(format!("{}/api/remote/servers?{query}", sim.url()))
            .header("authorization", format!("Bearer {}.{}", sim.token_id(), sim.token()));
        let answer: serde_json::Value = request.send().await.unwrap().json().await.unwrap();
        let meta = &answer["meta"];
        assert_eq!((meta["current_page"].clone(), meta["last_page"].clone()), (json!(current), json!(last)), "{query}");
        assert_eq!(answer["data"].as_array().unwrap().len(), entries, "{query}");
        assert_eq!(meta["from"].is_null(), entries == 0, "{query}");
    }
}

#[tokio::test]
async fn the_simulator_knows_what_a_report_does() {
    let sim = PanelSim::start();
    let ids = add(&sim, 3);
    let panel = panel(&sim);
    let standing = |number: usize| sim.with(|call_log| call_log.servers[number].standing);
    panel.report_install(ids[0], true, false).await.unwrap();
    panel.report_install(ids[1], false, false).await.unwrap();
    assert_eq!(
        (standing(0), standing(1), standing(2)),
        (Standing::Normal, Standing::InstallFailed, Standing::Installing)
    );
    panel.report_install(ids[1], false, true).await.unwrap();
    assert_eq!(standing(1), Standing::ReinstallFailed);
    panel.reset().await.unwrap();
    assert_eq!((standing(1), standing(2)), (Standing::ReinstallFailed, Standing::Normal));
    assert_eq!(sim.with(|call_log| call_log.resets), 1);
}

#[tokio::test]
async fn the_simulator_waits_for_what_happens_later() {
    let sim = PanelSim::start();
    let id = add(&sim, 1)[0];
    let panel = panel(&sim);
    let uuid = id.to_string();
    // A rejected report does not count as received.
    let _fault = sim.fault(Fault::on("install$").method("POST").status(500).times(1));
    let (report, state, request, ()) = tokio::join!(
        sim.wait_install(0, &uuid),
        sim.wait_state(0, &uuid, "running"),
        sim.wait_for(0, "POST", ".*", 3),
        async {
            panel.report_install(id, false, false).await.unwrap_err();
            panel.report_install(id, true, true).await.unwrap();
            panel.report_state(id, PowerState::Starting, PowerState::Running).await.unwrap();
        }
    );
    assert_eq!(report, json!({"successful": true, "reinstall": true}));
    assert_eq!(state.index, 2);
    assert_eq!(request.index, 2);
}

#[tokio::test]
async fn a_pause_breaks_what_is_under_way() {
    let sim = PanelSim::start();
    let id = add(&sim, 1)[0];
    let panel = panel(&sim);
    let _fault = sim.fault(Fault::on(&id.to_string()).held().times(1));
    let (outcome, ()) = tokio::join!(panel.server(id), async {
        sim.wait("the request", |call_log| (!call_log.requests.is_empty()).then_some(())).await;
        sim.pause();
    });
    assert!(matches!(outcome.unwrap_err(), PanelError::Unreachable { .. }));
    sim.resume();
    panel.server(id).await.unwrap();
}
