//! Containers that are no server's of this node. The daemon leaves them alone and logs each of them once.
//!
//! Some belong to another node that shares the engine. Of the others the store does not know the server: its folder was removed by hand
//! while the daemon was not running.

use std::collections::BTreeMap;

use crate::model::{Owner, Role, ServerId};
use crate::reconcile::context::Context;
use crate::runtime::{Listed, container_name};

type Key = (ServerId, Role, String);

/// The unknown containers of the last listing.
#[derive(Debug, Default)]
pub struct UnknownContainers(BTreeMap<Key, Owner>);

impl UnknownContainers {
    /// All containers were listed; `before` is whether a server was known before that.
    pub fn update(&mut self, context: &Context, listed: &[Listed], before: impl Fn(ServerId) -> bool) {
        // A new node knows none of the servers that the panel is about to list.
        let all_known = context.sync.as_ref().is_none_or(|sync| sync.list_is_applied());
        let unknown = |container: &&Listed| match container.owner {
            Owner::Other(_) => true,
            Owner::ThisNode | Owner::Unlabelled => {
                all_known && !before(container.server) && context.store.get(container.server).is_none()
            }
        };
        let entry =
            |container: &Listed| ((container.server, container.role, container.id.clone()), container.owner.clone());
        for ((server, role, container), owner) in self.replace(listed.iter().filter(unknown).map(entry).collect()) {
            let (name, folder) = (container_name(server, role), context.store.folder(server));
            let folder = folder.display();
            match owner {
                Owner::Other(other) => {
                    tracing::info!(server.id = %server, container, "the container {name} belongs to {other} and is left alone");
                }
                Owner::ThisNode => tracing::warn!(
                    server.id = %server,
                    container,
                    "the container {name} belongs to no server of this node and is left alone: put {folder} back if the server should be \
                     kept, else remove the container (docker rm -f {name})"
                ),
                // It may be another daemon's, so removing it may not be right.
                Owner::Unlabelled => tracing::warn!(
                    server.id = %server,
                    container,
                    "the container {name} belongs to no server of this node and is left alone: put {folder} back if its server should be \
                     kept here. It does not name its node: Wings or an earlier release has created it"
                ),
            }
        }
    }

    /// Returns those that are new.
    fn replace(&mut self, unknown_containers: BTreeMap<Key, Owner>) -> Vec<(Key, Owner)> {
        let before = std::mem::replace(&mut self.0, unknown_containers);
        let new = self.0.iter().filter(|(key, _)| !before.contains_key(key));
        new.map(|(key, owner)| (key.clone(), owner.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{OtherNode, Record};
    use crate::telemetry::capture::Capture;
    use crate::testing::{TestNode, file_manifest, server_id};

    fn container(number: u32) -> Listed {
        Listed {
            server: server_id(number),
            role: Role::Server,
            id: format!("c{number}"),
            running: true,
            owner: Owner::ThisNode,
        }
    }

    fn numbers(unknown_containers: &UnknownContainers) -> Vec<ServerId> {
        unknown_containers.0.keys().map(|(server, ..)| *server).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn containers_of_servers_that_the_store_does_not_know_are_unknown() {
        let node = TestNode::new();
        let context = &node.context;
        context.store.create(file_manifest(1), Record::default(), []).unwrap();
        let listed = [container(1), container(2), container(3)];
        let mut unknown_containers = UnknownContainers::default();
        // The third was deleted while the engine answered.
        unknown_containers.update(context, &listed, |id| id == server_id(3));
        assert_eq!(numbers(&unknown_containers), [server_id(2)]);
        context.store.create(file_manifest(2), Record::default(), []).unwrap();
        unknown_containers.update(context, &listed[..2], |_| false);
        assert_eq!(numbers(&unknown_containers), []);
    }

    #[tokio::test(start_paused = true)]
    async fn no_container_is_unknown_before_the_panels_list_is_applied() {
        let (node, _panel) = TestNode::with_panel();
        let context = &node.context;
        let mut unknown_containers = UnknownContainers::default();
        unknown_containers.update(context, &[container(1)], |_| false);
        assert_eq!(numbers(&unknown_containers), []);
        node.sync().list_applied();
        unknown_containers.update(context, &[container(1)], |_| false);
        assert_eq!(numbers(&unknown_containers), [server_id(1)]);
    }

    #[test]
    fn each_is_named_once_and_again_when_it_comes_back() {
        let unknown_container = |number| ((server_id(number), Role::Server, format!("c{number}")), Owner::ThisNode);
        let mut unknown_containers = UnknownContainers::default();
        assert_eq!(unknown_containers.replace([unknown_container(1)].into()), [unknown_container(1)]);
        assert_eq!(
            unknown_containers.replace([unknown_container(1), unknown_container(2)].into()),
            [unknown_container(2)]
        );
        assert_eq!(unknown_containers.replace([unknown_container(2)].into()), []);
        assert_eq!(unknown_containers.replace([unknown_container(1)].into()), [unknown_container(1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_advice_to_remove_a_container_is_for_those_of_this_node_alone() {
        let (logs, _guard) = Capture::of_this_thread("info");
        let (node, _panel) = TestNode::with_panel();
        let context = &node.context;
        context.store.create(file_manifest(3), Record::default(), []).unwrap();
        let other = OtherNode { id: "b".into(), root: "/elsewhere".into() };
        let foreign = Listed { owner: Owner::Other(other), ..container(3) };
        let unlabelled = Listed { owner: Owner::Unlabelled, ..container(2) };
        let mut unknown_containers = UnknownContainers::default();
        unknown_containers.update(context, &[container(1), unlabelled.clone(), foreign.clone()], |_| true);
        assert_eq!(
            numbers(&unknown_containers),
            [server_id(3)],
            "also before the list, and of a server that both have"
        );
        node.sync().list_applied();
        for _ in 0..3 {
            unknown_containers.update(context, &[container(1), unlabelled.clone(), foreign.clone()], |_| false);
        }
        let lines = logs.lines();
        let about = |number: u32| -> Vec<&String> {
            lines.iter().filter(|line| line.contains(&format!("the container {} ", server_id(number)))).collect()
        };
        let [own, unlabelled, foreign] = [1, 2, 3].map(about);
        assert_eq!((own.len(), unlabelled.len(), foreign.len()), (1, 1, 1), "{lines:?}");
        assert!(own[0].contains("docker rm") && !unlabelled[0].contains("docker rm"));
        assert!(
            foreign[0].contains("another alula node (b, state folder /elsewhere)") && !foreign[0].contains("docker rm")
        );
    }
}
