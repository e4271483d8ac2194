//! Tables and properties of the planner. A [`scene::Scene`] says in words what is so; a plan is read as a few short lines.

mod crash;
mod deletion;
mod install;
mod power;
mod properties;
mod reports;
mod scene;
mod start;
mod stop;
mod tape;
mod words;
mod world;
