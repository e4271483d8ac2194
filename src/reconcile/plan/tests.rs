//! Tables and properties of the planner. A [`fixture::Fixture`] describes a situation; a plan is read as a few short lines.

mod crash;
mod deletion;
mod disk;
mod display;
mod fixture;
mod install;
mod model;
mod operations;
mod power;
mod properties;
mod reports;
mod staged;
mod start;
mod stop;
mod tape;
mod up_to_date;
