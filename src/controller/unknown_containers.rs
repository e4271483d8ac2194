//! Containers of servers that the store does not know: their folder was removed by hand while the daemon was not running. The daemon
//! leaves them alone and logs each of them once.

use std::collections::BTreeSet;

use crate::model::{Role, ServerId};
use crate::reconcile::context::Context;
use crate::runtime::{Listed, container_name};

/// The unknown containers of the last listing.
#[derive(Debug, Default)]
pub struct UnknownContainers(BTreeSet<(ServerId, Role, String)>);

impl UnknownContainers {
    /// All containers were listed; `before` is whether a server was known before that.
    pub fn update(&mut self, context: &Context, listed: &[Listed], before: impl Fn(ServerId) -> bool) {
        if context.sync.as_ref().is_some_and(|sync| !sync.list_is_applied()) {
            // A new node knows none of the servers that the panel is about to list.
            return;
        }
        let unknown = |container: &&Listed| !before(container.server) && context.store.get(container.server).is_none();
        let key = |container: &Listed| (container.server, container.role, container.id.clone());
        for (server, role, container) in self.replace(listed.iter().filter(unknown).map(key).collect()) {
            let (name, folder) = (container_name(server, role), context.store.folder(server));
            tracing::warn!(
                server.id = %server,
                container,
                "the container {name} belongs to no server of this node and is left alone: put {} back if the server should be kept, \
                 else remove the container (docker rm -f {name})",
                folder.display()
            );
        }
    }

    /// Returns those that are new.
    fn replace(&mut self, unknown_containers: BTreeSet<(ServerId, Role, String)>) -> Vec<(ServerId, Role, String)> {
        let before = std::mem::replace(&mut self.0, unknown_containers);
        self.0.difference(&before).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Record;
    use crate::testing::{TestNode, file_manifest, server_id};

    fn container(number: u32) -> Listed {
        Listed { server: server_id(number), role: Role::Server, id: format!("c{number}"), running: true }
    }

    fn numbers(unknown_containers: &UnknownContainers) -> Vec<ServerId> {
        unknown_containers.0.iter().map(|(server, ..)| *server).collect()
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
        let unknown_container = |number| (server_id(number), Role::Server, format!("c{number}"));
        let mut unknown_containers = UnknownContainers::default();
        assert_eq!(unknown_containers.replace([unknown_container(1)].into()), [unknown_container(1)]);
        assert_eq!(
            unknown_containers.replace([unknown_container(1), unknown_container(2)].into()),
            [unknown_container(2)]
        );
        assert_eq!(unknown_containers.replace([unknown_container(2)].into()), []);
        assert_eq!(unknown_containers.replace([unknown_container(1)].into()), [unknown_container(1)]);
    }
}
