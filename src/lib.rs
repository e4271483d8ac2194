//! alula: the node daemon of a game-server host, as a reconciliation controller.

pub mod api;
pub mod app;
pub mod atomic;
pub mod cli;
pub mod clock;
pub mod config;
pub mod console;
pub mod controller;
pub mod files;
pub mod model;
pub mod panel;
pub mod reconcile;
pub mod retry;
pub mod runtime;
pub mod store;
pub mod tasks;
pub mod telemetry;
pub mod yaml;
