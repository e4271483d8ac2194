//! store

pub mod fingerprint;
pub mod watch;
