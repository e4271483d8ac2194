//! Tables and properties of the planner. A [`fixture::Fixture`] says in words what is so; a plan is read as a few short lines.

mod crash;
mod deletion;
mod fixture;
mod install;
mod model;
mod power;
mod properties;
mod reports;
mod start;
mod stop;
mod tape;
mod words;
