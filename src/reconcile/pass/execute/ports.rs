//! Which server holds a port that another one needs.

use std::net::IpAddr;

use super::Context;
use crate::model::{ContainerStatus, PublishedPort, Role, ServerId};
use crate::reconcile::pass::observe::built;

/// The running server that holds a port which this one needs, and what to do, as the end of a message. `None` where no server of this
/// node is known to hold one: the engine's text names what it knows then.
pub(super) fn holder(context: &Context, id: ServerId) -> Option<String> {
    let snapshot = context.store.get(id)?;
    let wanted = built(context.runtime.as_ref(), &context.node.config, &snapshot)?.spec.ports;
    context.store.list().into_iter().filter(|other| other.id != id).find_map(|other| {
        let server = context.servers.cached(other.id, Role::Server).flatten().filter(ContainerStatus::running)?;
        let port = server.ports.iter().find(|port| wanted.iter().any(|wanted| conflict(wanted, port)))?;
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

/// Whether the host can have only one of the two.
fn conflict(one: &PublishedPort, other: &PublishedPort) -> bool {
    let every = |port: &PublishedPort| port.address.parse::<IpAddr>().ok().filter(IpAddr::is_unspecified);
    let covers = |all: &PublishedPort, one: &PublishedPort| {
        every(all).is_some_and(|all| one.address.parse::<IpAddr>().is_ok_and(|one| one.is_ipv4() == all.is_ipv4()))
    };
    one.port == other.port && (one.address == other.address || covers(one, other) || covers(other, one))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_of_a_family_conflicts_with_each_of_it() {
        let port = |address: &str, port| PublishedPort { address: address.into(), port };
        for (one, other, expected) in [
            (port("10.0.0.1", 1), port("10.0.0.1", 1), true),
            (port("10.0.0.1", 1), port("10.0.0.1", 2), false),
            (port("10.0.0.1", 1), port("10.0.0.2", 1), false),
            (port("0.0.0.0", 1), port("10.0.0.2", 1), true),
            (port("0.0.0.0", 1), port("fd00::1", 1), false),
            (port("::", 1), port("fd00::1", 1), true),
            (port("::", 1), port("0.0.0.0", 1), false),
        ] {
            assert_eq!(
                (super::conflict(&one, &other), super::conflict(&other, &one)),
                (expected, expected),
                "{one} {other}"
            );
        }
    }
}
