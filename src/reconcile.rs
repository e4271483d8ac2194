//! The reconciler: one server's way from its observed state to its desired state.
//!
//! `plan` is pure: manifest, requests, record, observation, policy and time go in; steps, conditions and the time of the next pass come
//! out. `observed`, `step` and `job` are the plain data that it works with. `pass` observes, plans, publishes the status and executes
//! the steps; it decides nothing. `jobs` runs what takes long in the background. `server_state` is what the daemon keeps in memory of
//! each server between passes, and `context` the services. The controller calls [`context::Context::pass`] and learns when the
//! next pass is due.

pub mod context;
pub mod disk_scans;
pub mod file_locks;
pub mod incoming;
pub mod job;
pub mod jobs;
pub mod node_conditions;
pub mod observed;
pub mod operations;
pub mod output;
pub mod pass;
pub mod plan;
pub mod receptions;
pub mod refresh;
pub mod server_state;
pub mod slots;
pub mod step;
