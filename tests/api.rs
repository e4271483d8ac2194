//! The API behind its guard, over a node in memory: headers, errors in the protocol's format, and the effects of requests.

#[path = "api/archives.rs"]
mod archives;
#[path = "api/backups.rs"]
mod backups;
#[path = "api/boot.rs"]
mod boot;
#[path = "api/console.rs"]
mod console;
#[path = "api/console_replay.rs"]
mod console_replay;
#[path = "api/crash.rs"]
mod crash;
#[path = "api/errors.rs"]
mod errors;
#[path = "api/files.rs"]
mod files;
#[path = "api/guard.rs"]
mod guard;
#[path = "api/install.rs"]
mod install;
#[path = "api/local_backups.rs"]
mod local_backups;
#[path = "api/node.rs"]
mod node;
#[path = "api/power.rs"]
mod power;
#[path = "api/remove.rs"]
mod remove;
#[path = "api/replay.rs"]
mod replay;
#[path = "api/signed.rs"]
mod signed;
#[path = "api/streams.rs"]
mod streams;
#[path = "api/system.rs"]
mod system;
