//! Containers of servers that nobody knows: the folder was removed by hand while the daemon was away. They are nobody's to end,
//! so a person is told, once for each.

use std::collections::BTreeSet;

use crate::model::{Role, ServerId};
use crate::reconcile::context::Context;
use crate::runtime::{Listed, container_name};

/// Those that were there at the last listing.
#[derive(Debug, Default)]
pub struct UnknownContainers(BTreeSet<(ServerId, Role, String)>);

impl UnknownContainers {
    /// Has a listing said what there is. `before` is whether a server was known before it.
    pub fn see(&mut self, context: &Context, listed: &[Listed], before: impl Fn(ServerId) -> bool) {
        if context.sync.as_ref().is_some_and(|sync| !sync.list_is_applied()) {
            // On its first day a node knows none of the servers that the panel is about to name.
            return;
        }
        let unknown = |container: &&Listed| !before(container.server) && context.store.get(container.server).is_none();
        let unknown_containers = listed.iter().filter(unknown);
        let unknown_containers =
            unknown_containers.map(|container| (container.server, container.role, container.id.clone())).collect();
        for (server, role, container) in self.replace(unknown_containers) {
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
    async fn containers_of_unknown_servers_are_unknown_containers() {
        let node = TestNode::new();
        let context = &node.context;
        context.store.create(file_manifest(1), Record::default(), []).unwrap();
        let listed = [container(1), container(2), container(3)];
        let mut unknown_containers = UnknownContainers::default();
        // The third was deleted while the engine answered.
        unknown_containers.see(context, &listed, |id| id == server_id(3));
        assert_eq!(numbers(&unknown_containers), [server_id(2)]);
        context.store.create(file_manifest(2), Record::default(), []).unwrap();
        unknown_containers.see(context, &listed[..2], |_| false);
        assert_eq!(numbers(&unknown_containers), []);
    }

    #[tokio::test(start_paused = true)]
    async fn before_the_panels_list_nobody_knows_who_is_unknown() {
        let (node, _panel) = TestNode::with_panel();
        let context = &node.context;
        let mut unknown_containers = UnknownContainers::default();
        unknown_containers.see(context, &[container(1)], |_| false);
        assert_eq!(numbers(&unknown_containers), []);
        node.sync().list_applied();
        unknown_containers.see(context, &[container(1)], |_| false);
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
