//! alula: the node daemon of a game-server host, as a reconciliation controller. The architecture:
//!
#![doc = include_str!("../ARCHITECTURE.md")]
#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

pub mod activity;
pub mod api;
pub mod app;
pub mod archive;
pub mod atomic;
pub mod cli;
pub mod clock;
pub mod config;
pub mod console;
pub mod controller;
pub mod diagnostics;
pub mod egg_files;
pub mod events;
pub mod files;
pub mod http_client;
pub mod ids;
pub mod model;
pub mod panel;
pub mod pressure;
pub mod progress;
pub mod rate;
pub mod reconcile;
pub mod remote_download;
pub mod replication;
pub mod requests;
pub mod retry;
pub mod runtime;
pub mod schedule;
pub mod server_files;
pub mod sessions;
pub mod sftp;
pub mod stats;
pub mod store;
pub mod sync;
pub mod tasks;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
pub mod transfer;
pub mod upload;
pub mod wait;
pub mod yaml;
