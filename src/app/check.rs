//! What would keep the daemon from starting on this host, found by the code of the start, without changing anything.

use std::io::ErrorKind;

use super::listeners;
use crate::config::host::{self, HostError};
use crate::config::{Loaded, NodeConfig, Problem};
use crate::panel::client::HttpPanel;
use crate::runtime::docker::Address;
use crate::store::lock;

/// The problems of a valid configuration on this host. What a daemon that runs on the same state folder uses is no problem.
pub async fn check(loaded: &Loaded) -> Vec<Problem> {
    let node = &loaded.node;
    let running = lock::daemon_on(&node.directories.root);
    let mut problems: Vec<Problem> = host::check(node).into_iter().filter_map(of_host(node)).collect();
    problems.extend(listeners::check(node, running.as_ref()).await);
    if let Err(error) = Address::from_environment() {
        problems.push(Problem::new("", error.to_string()));
    }
    if let Some(Err(error)) = node.panel.as_ref().map(|panel| HttpPanel::new(panel, false)) {
        problems.push(Problem::new("remote", error.to_string()));
    }
    problems
}

/// A user without the daemon's permissions cannot know what the daemon may write.
fn of_host(node: &NodeConfig) -> impl Fn((&'static str, HostError)) -> Option<Problem> {
    let is_daemons_user = rustix::process::geteuid().is_root() || node.rootless.is_some();
    move |(key, error)| match &error {
        HostError::Directory { source, .. } if source.kind() == ErrorKind::PermissionDenied && !is_daemons_user => None,
        _ => Some(Problem::new(key, error.to_string())),
    }
}
