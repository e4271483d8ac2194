//! Transfers between nodes: alula to alula, to and from a Wings that is played from the reference, and everything that may go wrong.

#[path = "transfers/cutting.rs"]
mod cutting;
#[path = "transfers/incoming.rs"]
mod incoming;
#[path = "transfers/node.rs"]
mod node;
#[path = "transfers/outgoing.rs"]
mod outgoing;
#[path = "transfers/pairs.rs"]
mod pairs;
#[path = "transfers/rounds.rs"]
mod rounds;
#[path = "transfers/wings.rs"]
mod wings;
