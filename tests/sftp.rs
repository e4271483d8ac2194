//! SFTP with the real daemon and the clients that people use: OpenSSH's `sftp` and `scp`, `sshfs`, `rclone`, `lftp`, and the Python
//! libraries paramiko and asyncssh.
//!
//! Without an engine these tests fail; `ALULA_SKIP_DOCKER=1` skips all of them with a message, and `ALULA_SKIP_SFTP_CLIENTS=1` those
//! that need the clients.

#[path = "sftp/access.rs"]
mod access;
#[path = "sftp/clients.rs"]
mod clients;
#[path = "support/daemon_process.rs"]
mod daemon_process;
#[path = "support/images.rs"]
mod images;
#[path = "support/panel_sim.rs"]
mod panel_sim;
#[path = "sftp/user.rs"]
mod user;

use daemon_process::{Node, NodeOptions, skipped, with_node};
use serde_json::{Value, json};
use user::User;

/// Whether to skip tests that need the clients.
fn without_clients() -> bool {
    let skipped = std::env::var("ALULA_SKIP_SFTP_CLIENTS").is_ok_and(|value| value == "1");
    if skipped {
        eprintln!("skipped: ALULA_SKIP_SFTP_CLIENTS=1, so the clients of SFTP are not tested");
    }
    skipped
}

/// Runs a test with an installed server and a user who may do everything with its files.
async fn with_user(config: Value, test: impl AsyncFnOnce(&mut Node, User)) {
    if skipped() {
        return;
    }
    let mut options = NodeOptions::new(env!("CARGO_BIN_EXE_alula"));
    options.config = config;
    with_node(options, async |node: &mut Node| {
        node.boot().await;
        let server = node.define("true");
        node.panel.edit(&server, |server| server.settings["skip_egg_scripts"] = json!(true));
        let mark = node.panel.mark();
        node.create(&server, false).await;
        node.panel.wait_install(mark, &server).await;
        node.wait_state(&server, "offline").await;
        let user = User::add(node, &server, "tester", &["*"]);
        test(node, user).await;
    })
    .await;
}
