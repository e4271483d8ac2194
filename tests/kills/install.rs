//! SIGKILL at every moment of an installation: it completes once, is reported, and the server starts.

use alula::model::{ConditionType, Reason};
use serde_json::json;

use crate::daemon_process::{Node, TIMEOUT, until};
use crate::docker_proxy::Side;
use crate::panel_sim::Fault;
use crate::{behind_a_proxy, on_a_node};

/// Appends a line to a file each time it runs.
const SCRIPT: &str = "#!/bin/sh\r\necho first line\r\necho run >> /mnt/server/runs.txt\r\necho last line\r\n";

/// The same, and waits in the middle and shortly before its end.
pub const GATED: &str = "echo first line
echo run >> /mnt/server/runs.txt
touch /mnt/server/early
while [ ! -e /mnt/server/go ]; do sleep 0.05; done
echo last line
touch /mnt/server/late
while [ ! -e /mnt/server/end ]; do sleep 0.05; done
";

/// The installation was completed and reported once, and the server was started once.
async fn installed_once(node: &Node, id: &str) {
    node.wait_state(id, "running").await;
    let report = node.panel.wait_install(0, id).await;
    assert_eq!(report["successful"], true, "{report}");
    node.panel.wait_state(0, id, "running").await;
    let reports = node.panel.matching(0, "POST", &format!("/servers/{id}/install"));
    assert!(reports.iter().all(|report| report.json()["successful"] == true), "{reports:?}");
    assert_eq!(node.read(id, "runs.txt"), "run\n", "the script ran once");
    assert_eq!(node.read(id, "starts.txt"), "start\n", "the server was started once");
    let log = node.install_log(id);
    for line in ["first line", "last line"] {
        assert_eq!(log.matches(line).count(), 1, "{line:?} is in the log once:\n{log}");
    }
    let installer = format!("{id}_installer");
    until("the installer's removal", async || node.container(&installer).await.is_none().then_some(())).await;
}

/// Kills the daemon at a call to the engine, starts it again and checks the result. `{id}` in the pattern of calls
/// stands for the server.
async fn killed_at(side: Side, calls: &str, skip: u32) {
    behind_a_proxy(async |node, proxy| {
        let id = node.define(SCRIPT);
        let hold = proxy.hold(side, &calls.replace("{id}", &id), skip);
        node.boot().await;
        node.create(&id, true).await;
        hold.reached(TIMEOUT).await;
        node.kill();
        drop(hold);
        node.boot().await;
        installed_once(node, &id).await;
    })
    .await;
}

macro_rules! killed_at {
    ($($name:ident: $side:ident, $calls:expr, $skip:expr;)+) => {
        $(#[tokio::test]
        async fn $name() {
            killed_at(Side::$side, $calls, $skip).await;
        })+
    };
}

const PULL: &str = "^POST /images/create";
const CREATE_SERVER: &str = "^POST /containers/create\\?.*name={id}(&|$)";
const CREATE_INSTALLER: &str = "^POST /containers/create\\?.*name={id}_installer(&|$)";
const START: &str = "^POST /containers/[^/]+/start";
const LOGS: &str = "^GET /containers/[^/]+/logs";
const REMOVE: &str = "^DELETE /containers/";
const ATTACH: &str = "^POST /containers/[^/]+/attach";

killed_at! {
    during_the_pull: Before, PULL, 0;
    before_the_server_container_exists: Before, CREATE_SERVER, 0;
    when_the_server_container_exists: After, CREATE_SERVER, 0;
    before_the_installer_exists: Before, CREATE_INSTALLER, 0;
    when_the_installer_exists: After, CREATE_INSTALLER, 0;
    before_the_installer_starts: Before, START, 0;
    when_the_installer_has_started: After, START, 0;
    before_the_log_is_read: Before, LOGS, 0;
    before_the_installer_is_removed: Before, REMOVE, 0;
    when_the_installer_is_removed: After, REMOVE, 0;
    before_the_server_is_attached: Before, ATTACH, 0;
    before_the_server_starts: Before, START, 1;
    when_the_server_has_started: After, START, 1;
}

/// Kills before and after every call of one installation that changes the engine's state.
#[tokio::test]
async fn at_every_change_in_a_row() {
    behind_a_proxy(async |node, proxy| {
        let id = node.define(SCRIPT);
        let changes = "^POST /containers/create|^POST /containers/[^/]+/start|^DELETE /containers";
        let mut hold = proxy.hold(Side::Before, changes, 0);
        node.boot().await;
        node.create(&id, true).await;
        // Two containers created, two started, one removed.
        for change in 0..5 {
            hold.reached(TIMEOUT).await;
            node.kill();
            drop(hold);
            hold = proxy.hold(Side::After, changes, 0);
            node.boot().await;
            hold.reached(TIMEOUT).await;
            node.kill();
            drop(hold);
            let last = change == 4;
            hold = proxy.hold(Side::Before, if last { "^nothing" } else { changes }, 0);
            node.boot().await;
        }
        installed_once(node, &id).await;
        assert_eq!(hold.held(), 0);
    })
    .await;
}

#[tokio::test]
async fn early_and_late_in_the_script() {
    on_a_node(async |node| {
        let id = node.define(GATED);
        node.boot().await;
        node.create(&id, true).await;
        node.wait_file(&id, "early").await;
        node.kill_and_boot().await;
        node.touch(&id, "go");
        node.wait_file(&id, "late").await;
        node.kill_and_boot().await;
        node.touch(&id, "end");
        installed_once(node, &id).await;
    })
    .await;
}

/// The script ends while no daemon runs: the next one finds its result.
#[tokio::test]
async fn before_the_harvest() {
    on_a_node(async |node| {
        let id = node.define(GATED);
        node.boot().await;
        node.create(&id, true).await;
        node.wait_file(&id, "early").await;
        node.kill();
        node.touch(&id, "go");
        node.touch(&id, "end");
        let installer = format!("{id}_installer");
        until("the script's end", async || (!node.container(&installer).await?.1).then_some(())).await;
        node.boot().await;
        installed_once(node, &id).await;
    })
    .await;
}

/// As above, with a panel that is unreachable from before the script's end until after the start.
#[tokio::test]
async fn while_the_panel_is_away() {
    on_a_node(async |node| {
        let id = node.define(GATED);
        node.boot().await;
        node.create(&id, true).await;
        node.wait_file(&id, "early").await;
        node.panel.pause();
        node.kill_and_boot().await;
        node.touch(&id, "go");
        node.touch(&id, "end");
        // The start does not wait for the panel, and its condition says that the panel did not answer.
        node.wait_state(&id, "running").await;
        node.wait_condition(&id, ConditionType::PanelNotified, Reason::PanelAway).await;
        assert!(node.panel.matching(0, "POST", &format!("/servers/{id}/install")).is_empty());
        node.kill_and_boot().await;
        node.panel.resume();
        installed_once(node, &id).await;
    })
    .await;
}

#[tokio::test]
async fn while_the_panel_is_slow_to_answer_the_report() {
    on_a_node(async |node| {
        let id = node.define(SCRIPT);
        let slow = node.panel.fault(Fault::on(&format!("^/servers/{id}/install$")).method("POST").held());
        node.boot().await;
        node.create(&id, true).await;
        let what = "the report";
        node.panel.wait(what, |_| (slow.hits() > 0).then_some(())).await;
        node.kill();
        drop(slow);
        node.boot().await;
        installed_once(node, &id).await;
    })
    .await;
}

#[tokio::test]
async fn while_the_panel_rejects_to_take_the_report() {
    on_a_node(async |node| {
        let id = node.define(SCRIPT);
        let fault = || Fault::on(&format!("^/servers/{id}/install$")).method("POST").status(500);
        let ill = node.panel.fault(fault());
        node.boot().await;
        node.create(&id, true).await;
        node.panel.wait("a report", |_| (ill.hits() > 0).then_some(())).await;
        node.kill();
        let before = ill.hits();
        node.boot().await;
        node.panel.wait("another report", |_| (ill.hits() > before).then_some(())).await;
        // An unreachable panel does not prevent the start.
        node.wait_state(&id, "running").await;
        drop(ill);
        installed_once(node, &id).await;
    })
    .await;
}

#[tokio::test]
async fn between_report_and_start() {
    on_a_node(async |node| {
        let id = node.define(SCRIPT);
        let report = node.panel.fault(Fault::on(&format!("^/servers/{id}/install$")).method("POST").held());
        node.boot().await;
        node.create(&id, true).await;
        node.panel.wait("the report", |_| (report.hits() > 0).then_some(())).await;
        // The configuration is fetched again before the start.
        let slow = node.panel.fault(Fault::on(&format!("^/servers/{id}$")).method("GET").held());
        drop(report);
        node.panel.wait("the question before the start", |_| (slow.hits() > 0).then_some(())).await;
        assert_eq!(node.panel.wait_install(0, &id).await["successful"], true);
        assert_eq!(node.read(&id, "starts.txt"), "");
        node.kill();
        drop(slow);
        node.boot().await;
        installed_once(node, &id).await;
        let reports = node.panel.matching(0, "POST", &format!("/servers/{id}/install"));
        assert_eq!(reports.len(), 1, "the panel had it already");
    })
    .await;
}

/// Many installations at once, and a daemon that is killed repeatedly at arbitrary moments.
#[tokio::test]
async fn several_at_once_and_again_and_again() {
    on_a_node(async |node| {
        let ids: Vec<String> = (0..5).map(|_| node.define(SCRIPT)).collect();
        node.boot().await;
        for id in &ids {
            node.create(id, true).await;
        }
        for round in 0..6 {
            // Each process runs longer: it is killed after a growing number of starts, or at a listing.
            for _ in 0..round * 4 {
                assert_eq!(node.get("/api/servers").await.map(|list| list.as_array().map_or(0, Vec::len)), Some(5));
            }
            node.kill_and_boot().await;
        }
        for id in &ids {
            installed_once(node, id).await;
        }
    })
    .await;
}

/// The panel's list at boot may contain a server before the create request for it arrives, or arrive after that.
#[tokio::test]
async fn a_server_that_is_listed_is_still_to_be_installed() {
    on_a_node(async |node| {
        let listed = node.define(SCRIPT);
        node.boot().await;
        until("the list", async || node.state(&listed).await).await;
        node.create(&listed, true).await;
        installed_once(node, &listed).await;

        node.kill();
        let slow = node.panel.fault(Fault::on("^/servers$").method("GET").held());
        let created = node.define(SCRIPT);
        node.boot().await;
        node.create(&created, true).await;
        node.panel.wait("the question for the list", |_| (slow.hits() > 0).then_some(())).await;
        drop(slow);
        installed_once(node, &created).await;
    })
    .await;
}

/// A server whose configuration could not be fetched is not created.
#[tokio::test]
async fn nothing_is_left_of_a_creation_without_a_panel() {
    on_a_node(async |node| {
        node.boot().await;
        node.panel.pause();
        // Not earlier: at boot the daemon creates every server of the panel's list.
        let id = node.define(SCRIPT);
        let status = node.post("/api/servers", json!({"uuid": id, "start_on_completion": true})).await;
        assert!(status >= 500, "{status}");
        node.kill();
        node.panel.resume();
        assert!(!node.data(&id).exists());
    })
    .await;
}
