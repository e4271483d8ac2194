//! Container states, and panels that have no route for them.

use alula::model::PowerState;
use alula::panel::client::HttpPanel;
use alula::panel::{Panel, PanelError};

use super::panel_sim::{Fault, PanelSim};
use super::{add, id, options, panel};

#[tokio::test]
async fn states_arrive() {
    let sim = PanelSim::start();
    let id = add(&sim, 1)[0];
    let panel = panel(&sim);
    panel.report_state(id, PowerState::Offline, PowerState::Starting).await.unwrap();
    panel.report_state(id, PowerState::Starting, PowerState::Running).await.unwrap();
    assert_eq!(sim.with(|call_log| call_log.servers[0].state.clone()), Some("running".into()));
    let states = sim.states(0, &id.to_string());
    assert_eq!(states, [("offline", "starting"), ("starting", "running")].map(|(a, b)| (a.into(), b.into())));
}

#[tokio::test]
async fn a_panel_without_a_route_for_states_is_left_alone() {
    let sim = PanelSim::start();
    let ids = add(&sim, 2);
    sim.with(|call_log| call_log.without_state_route = true);
    let panel = panel(&sim);
    for id in ids {
        panel.report_state(id, PowerState::Offline, PowerState::Starting).await.unwrap();
        panel.report_state(id, PowerState::Starting, PowerState::Running).await.unwrap();
    }
    assert_eq!(sim.matching(0, "POST", ".*").len(), 1, "asked once, then no more");
}

#[tokio::test]
async fn one_rejection_does_not_disable_a_route_that_was_used() {
    let sim = PanelSim::start();
    let ids = add(&sim, 2);
    let panel = panel(&sim);
    panel.report_state(ids[0], PowerState::Offline, PowerState::Starting).await.unwrap();
    let fault = sim.fault(Fault::on(&format!("{}/container", ids[1])).status(404));
    let error = panel.report_state(ids[1], PowerState::Offline, PowerState::Starting).await.unwrap_err();
    assert!(error.is_unknown(), "{error}");
    drop(fault);
    panel.report_state(ids[0], PowerState::Starting, PowerState::Running).await.unwrap();
    panel.report_state(ids[1], PowerState::Offline, PowerState::Starting).await.unwrap();
    assert_eq!(sim.states(0, &ids[0].to_string()).len(), 2, "the other servers' states still arrive");
    assert_eq!(sim.states(0, &ids[1].to_string()).len(), 1);
}

#[tokio::test]
async fn an_unknown_server_does_not_disable_the_route() {
    let sim = PanelSim::start();
    let known = add(&sim, 1)[0];
    let panel = panel(&sim);
    let error = panel.report_state(id(9), PowerState::Offline, PowerState::Starting).await.unwrap_err();
    assert!(error.is_unknown(), "{error}");
    panel.report_state(known, PowerState::Offline, PowerState::Starting).await.unwrap();
    assert_eq!(sim.states(0, &known.to_string()).len(), 1);

    // While both causes are possible, the report is tried again.
    let panel = HttpPanel::new(&options(&sim), false).unwrap();
    sim.with(|call_log| call_log.without_state_route = true);
    let _fault = sim.fault(Fault::on(&format!("{known}$")).status(500));
    let error = panel.report_state(known, PowerState::Starting, PowerState::Running).await.unwrap_err();
    assert!(matches!(error, PanelError::Failed { .. }), "{error}");
}
