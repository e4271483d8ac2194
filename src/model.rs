//! Plain data with `serde`: manifests, requests, records, status. No I/O, no clock, no tokio.
//!
//! The store reads and writes these types, the planner compares them, and the API returns them. Field names are those of Kubernetes
//! (`metadata`, `spec`, `generation`, `conditions`) or of Wings and its panel (`settings`, `process_configuration`, the four states).

pub mod backup;
pub mod backup_hooks;
pub mod container;
pub mod expression;
pub mod fields;
pub mod id;
pub mod identity;
pub mod image;
pub mod manifest;
pub mod node;
pub mod quota;
pub mod reason;
pub mod record;
pub mod request;
pub mod resources;
pub mod restart;
pub mod settings;
pub mod status;
mod text;
pub mod time;
pub mod transfer;
pub mod utilization;
pub mod value;

pub use backup::{
    Backup, BackupArchive, BackupResult, BackupSource, BackupStorage, BackupVerification, Restore, RestoreFrom,
    RestoreResult, UploadedPart,
};
pub use backup_hooks::{BackupHook, BackupHooks};
pub use container::{ContainerState, ContainerStatus, DirectoryId, PublishedPort, Role};
pub use fields::Fields;
pub use id::ServerId;
pub use identity::{DigestKey, LABEL_NODE, LABEL_ROOT, NodeIdentity, OtherNode, Owner};
pub use manifest::{Install, ManagedBy, Manifest, Metadata, Power, Script, Spec};
pub use node::{NodeCondition, NodeConditionType};
pub use quota::Quota;
pub use reason::Reason;
pub use record::{Crash, FormerFiles, Handled, InstallOutcome, InstallRecord, InstallResult, Interrupted, Record};
pub use request::{Declared, Request, Requester, Requests, Verb};
pub use resources::{Resources, Ulimit, UlimitName};
pub use restart::{Restart, RestartPolicy};
pub use settings::{Process, Settings};
pub use status::{Condition, ConditionStatus, ConditionType, Event, Phase, PowerState, Status};
pub use time::Timestamp;
pub use transfer::{
    Authorization, Incoming, IncomingSession, Outgoing, RoundPhase, Rounds, Transfer, TransferDirection, TransferResult,
};
pub use utilization::{DiskIo, NetworkTraffic, Utilization};
pub use value::PlainValue;
