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
pub mod request;
pub mod settings;
pub mod status;
mod text;
pub mod time;

pub use container::{ContainerState, ContainerStatus, Role};
pub use id::ServerId;
pub use manifest::{Install, ManagedBy, Manifest, Metadata, Power, Script, Spec};
pub use reason::Reason;
pub use record::{Crash, Handled, InstallOutcome, InstallRecord, InstallResult, Interrupted, Record};
pub use request::{Declared, Request, Requester, Requests, Verb};
pub use settings::{Process, Settings};
pub use status::{Condition, ConditionStatus, ConditionType, Event, Phase, PowerState, Status};
pub use time::Timestamp;
