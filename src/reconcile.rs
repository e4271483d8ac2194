//! One server's way from what is to what should be: observe, plan, execute.
//!
//! `observed` is what a look at the world found, as plain data. `plan` is pure: intent, facts, observation and the time
//! go in; steps, conditions and the time of the next look come out. `step` names what can be done, `job` what can run
//! in the background. `state` is what the
//! daemon remembers of a server between passes (jobs under way, the stop that was sent), all of it expendable.
//! `pass` drives them: it is the only place that does things, and it decides nothing. `jobs` runs what takes long
//! beside the passes. The controller calls [`pass::Reconciler::pass`] and learns when to call again.

pub mod context;
pub mod job;
pub mod jobs;
pub mod observed;
pub mod pass;
pub mod plan;
pub mod server_state;
pub mod step;
