//! Pure data: what should be, what is, and what was decided. No I/O, no clock, no tokio.
//!
//! Everything here is plain values with `serde` shapes. The store reads and writes them, the planner
//! compares them, the API shows them. Field names follow Kubernetes where it has one (`metadata`,
//! `spec`, `generation`, `conditions`), Wings and its panel where they have one (`settings`,
//! `process_configuration`, the four state words).

pub mod container;
pub mod expression;
pub mod id;
pub mod image;
pub mod manifest;
pub mod reason;
pub mod record;
pub mod settings;
pub mod status;
mod text;
pub mod time;

pub use container::{ContainerFacts, ContainerState, Role};
pub use id::ServerId;
pub use manifest::{How, InstallIntent, ManagedBy, Manifest, Metadata, PowerIntent, Script, Spec, Want};
pub use reason::Reason;
pub use record::{
    Closed, Crash, Deletion, InstallOutcome, InstallRecord, InstallResult, Interrupted, PastWish, Record,
};
pub use settings::{Process, Settings};
pub use status::{Condition, ConditionKind, ConditionStatus, Event, Phase, PowerState, Status};
pub use time::Timestamp;
