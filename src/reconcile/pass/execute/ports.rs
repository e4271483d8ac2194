//! Which server holds a port that another one needs.

use super::Context;
use crate::model::{ContainerStatus, Role, ServerId};
use crate::reconcile::pass::observe::built;

/// The running server that holds a port which this one needs, and what to do, as the end of a message. `None` where no server of this
/// node is known to hold one: the engine's text names what it knows then.
pub(super) fn holder(context: &Context, id: ServerId) -> Option<String> {
    let snapshot = context.store.get(id)?;
    let wanted = built(context.runtime.as_ref(), &context.node.config, &snapshot)?.spec.ports;
    context.store.list().into_iter().filter(|other| other.id != id).find_map(|other| {
        let server = context.servers.cached(other.id, Role::Server).flatten().filter(ContainerStatus::running)?;
        let port = server.ports.iter().find(|port| wanted.iter().any(|wanted| wanted.conflicts_with(port)))?;
        let name = other.manifest.as_ref().map_or("", |manifest| manifest.spec.settings.meta.name.as_str());
        let (name, holder) = (if name.is_empty() { String::new() } else { format!("{name:?} ") }, other.id);
        Some(match other.record.parked {
            Some(since) => format!(
                "the port {port} is held by the running server {name}({holder}), which the panel has not listed since {since}: list it in \
                 the panel again and stop it, or remove it for good: `alula delete {holder}`"
            ),
            None => format!(
                "the port {port} is held by the running server {name}({holder}): stop it (`alula power stop {holder}`), or give one of the \
                 two another port"
            ),
        })
    })
}
