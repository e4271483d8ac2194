//! Changes of other programs to a server's container and directory: the daemon repairs or reports them, and no other server is
//! affected.

use std::fs::File;
use std::path::Path;

use alula::model::{ConditionType, Reason};
use bollard::query_parameters::{KillContainerOptions, RemoveContainerOptionsBuilder};
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

use crate::daemon_process::{Node, until};
use crate::on_a_node;

/// The other server still runs in the same container, which was started once.
async fn untouched(node: &Node, id: &str, container: &str) {
    assert_eq!(node.container(id).await, Some((container.to_owned(), true)));
    assert_eq!(node.state(id).await.as_deref(), Some("running"));
    assert_eq!(node.read(id, "starts.txt"), "start\n");
}

async fn started_again(node: &Node, id: &str) {
    until("another start", async || (node.read(id, "starts.txt") == "start\nstart\n").then_some(())).await;
    node.wait_state(id, "running").await;
}

async fn remove(node: &Node, id: &str) {
    let force = RemoveContainerOptionsBuilder::new().force(true).build();
    node.docker.remove_container(id, Some(force)).await.expect("a container");
}

#[tokio::test]
async fn containers_that_are_killed_or_removed() {
    on_a_node(async |node| {
        node.boot().await;
        let ids = [node.running_server().await, node.running_server().await, node.running_server().await];
        let [killed, removed, neighbour] = &ids;
        let (container, _) = node.container(neighbour).await.expect("a container");

        let sigkill = KillContainerOptions { signal: "SIGKILL".into() };
        node.docker.kill_container(killed, Some(sigkill)).await.expect("a container");
        remove(node, removed).await;
        started_again(node, killed).await;
        started_again(node, removed).await;
        untouched(node, neighbour, &container).await;
    })
    .await;
}

#[tokio::test]
async fn containers_that_vanish_while_the_daemon_is_away() {
    on_a_node(async |node| {
        node.boot().await;
        let ids = [node.running_server().await, node.running_server().await, node.running_server().await];
        let [killed, removed, neighbour] = &ids;
        let (container, _) = node.container(neighbour).await.expect("a container");

        node.kill();
        let sigkill = KillContainerOptions { signal: "SIGKILL".into() };
        node.docker.kill_container(killed, Some(sigkill)).await.expect("a container");
        remove(node, removed).await;
        node.boot().await;
        started_again(node, killed).await;
        started_again(node, removed).await;
        untouched(node, neighbour, &container).await;
    })
    .await;
}

/// Makes a directory and its files immutable, also for root, until this is dropped.
struct Immutable(File);

impl Immutable {
    fn new(path: &Path) -> Self {
        let file = File::open(path).expect("a directory");
        let flags = ioctl_getflags(&file).expect("a file system with flags");
        ioctl_setflags(&file, flags | IFlags::IMMUTABLE).expect("root, on a file system with flags");
        Self(file)
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        if let Ok(flags) = ioctl_getflags(&self.0) {
            let _ = ioctl_setflags(&self.0, flags - IFlags::IMMUTABLE);
        }
    }
}

#[tokio::test]
async fn directories_with_wrong_permissions() {
    on_a_node(async |node| {
        node.boot().await;
        let (bad, neighbour) = (node.running_server().await, node.running_server().await);
        let (container, _) = node.container(&neighbour).await.expect("a container");
        node.power(&bad, "stop").await;
        node.wait_state(&bad, "offline").await;

        std::os::unix::fs::chown(node.data(&bad), Some(0), Some(0)).expect("a directory");
        let immutable = Immutable::new(&node.data(&bad));
        node.power(&bad, "start").await;
        let message = node.wait_condition(&bad, ConditionType::Running, Reason::PermissionsFailed).await;
        assert!(message.contains("data") || message.contains(&bad), "it names the place: {message}");
        assert_eq!(node.state(&bad).await.as_deref(), Some("offline"));
        untouched(node, &neighbour, &container).await;

        drop(immutable);
        started_again(node, &bad).await;
        untouched(node, &neighbour, &container).await;
    })
    .await;
}

#[tokio::test]
async fn a_file_in_the_place_of_a_directory() {
    on_a_node(async |node| {
        node.boot().await;
        let (bad, neighbour) = (node.running_server().await, node.running_server().await);
        let (container, _) = node.container(&neighbour).await.expect("a container");
        node.power(&bad, "stop").await;
        node.wait_state(&bad, "offline").await;

        let (data, moved) = (node.data(&bad), node.folder.path().join("moved"));
        std::fs::rename(&data, &moved).expect("a directory");
        std::fs::write(&data, "not a directory").expect("a file");
        node.power(&bad, "start").await;
        let message = until("a condition that names the place", async || {
            let status = node.status(&bad)?;
            let running = status.condition(ConditionType::Running)?;
            running.message.contains(&*data.to_string_lossy()).then(|| running.message.clone())
        })
        .await;
        assert!(message.contains("irectory"), "it says what is wrong: {message}");
        untouched(node, &neighbour, &container).await;

        // A daemon that has just started does the same.
        node.kill_and_boot().await;
        node.wait_state(&neighbour, "running").await;
        std::fs::remove_file(&data).expect("a file");
        std::fs::rename(&moved, &data).expect("a directory");
        started_again(node, &bad).await;
        untouched(node, &neighbour, &container).await;
    })
    .await;
}
