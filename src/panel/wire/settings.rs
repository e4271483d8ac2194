//! Reads `settings`: image, command, environment, limits, allocations.

use std::collections::BTreeMap;

use serde_json::Value;

use super::WireError;
use super::read::{Fields, Read, Scalar, Trail};
use crate::model::ServerId;
use crate::model::image::trimmed;
use crate::model::settings::{Allocation, Allocations, Build, Container, Egg, Meta, Mount, Settings};

/// The content of `settings`.
pub(super) struct WireSettings {
    /// The server's id, which the panel may leave out.
    pub(super) uuid: Option<ServerId>,
    /// `suspended`, which is not part of the model's settings.
    pub(super) suspended: bool,
    pub(super) settings: Settings,
}

impl Read for WireSettings {
    fn read(value: &Value, at: &Trail<'_>) -> Result<Self, WireError> {
        let fields = Fields::of(value, at)?;
        let labels: BTreeMap<String, Scalar> = fields.value("labels")?;
        let mounts: Vec<Mount> = fields.value("mounts")?;
        let settings = Settings {
            id: fields.value("id")?,
            meta: fields.value("meta")?,
            invocation: fields.value("invocation")?,
            skip_egg_scripts: fields.value("skip_egg_scripts")?,
            environment: fields.value("environment")?,
            // The panel leaves out empty objects and lists, and so does the model.
            labels: (!labels.is_empty()).then(|| labels.into_iter().map(|(name, text)| (name, text.0)).collect()),
            allocations: fields.value("allocations")?,
            build: fields.value("build")?,
            crash_detection_enabled: fields.optional("crash_detection_enabled")?,
            mounts: (!mounts.is_empty()).then_some(mounts),
            egg: fields.value("egg")?,
            container: fields.value("container")?,
        };
        Ok(Self { uuid: fields.optional("uuid")?, suspended: fields.value("suspended")?, settings })
    }
}

impl Read for Meta {
    fn read(value: &Value, at: &Trail<'_>) -> Result<Self, WireError> {
        let fields = Fields::of(value, at)?;
        Ok(Self { name: fields.value("name")?, description: fields.value("description")? })
    }
}

impl Read for Container {
    fn read(value: &Value, at: &Trail<'_>) -> Result<Self, WireError> {
        Ok(Self { image: trimmed(&Fields::of(value, at)?.value::<String>("image")?) })
    }
}

impl Read for Allocations {
    fn read(value: &Value, at: &Trail<'_>) -> Result<Self, WireError> {
        let fields = Fields::of(value, at)?;
        let mut mappings: BTreeMap<String, Vec<i64>> = fields.value("mappings")?;
        // A server without an allocation has `{"": []}`.
        mappings.remove("");
        Ok(Self { force_outgoing_ip: fields.value("force_outgoing_ip")?, default: fields.value("default")?, mappings })
    }
}

impl Read for Allocation {
    fn read(value: &Value, at: &Trail<'_>) -> Result<Self, WireError> {
        let (fields, none) = (Fields::of(value, at)?, Self::default());
        Ok(Self { ip: fields.optional("ip")?.unwrap_or(none.ip), port: fields.optional("port")?.unwrap_or(none.port) })
    }
}

impl Read for Build {
    fn read(value: &Value, at: &Trail<'_>) -> Result<Self, WireError> {
        let (fields, default) = (Fields::of(value, at)?, Self::default());
        let weight = fields.number("io_weight", 0..=i64::from(u16::MAX))?;
        // Pterodactyl has `oom_disabled` instead, with the opposite meaning.
        let oom_killer =
            fields.optional("oom_killer")?.or(fields.optional("oom_disabled")?.map(|disabled: bool| !disabled));
        Ok(Self {
            memory_limit: fields.value("memory_limit")?,
            swap: fields.value("swap")?,
            io_weight: weight.and_then(|weight| weight.try_into().ok()).unwrap_or(default.io_weight),
            cpu_limit: fields.value("cpu_limit")?,
            disk_space: fields.value("disk_space")?,
            threads: fields.value::<Scalar>("threads")?.0,
            oom_killer: oom_killer.unwrap_or(default.oom_killer),
        })
    }
}

impl Read for Mount {
    fn read(value: &Value, at: &Trail<'_>) -> Result<Self, WireError> {
        let fields = Fields::of(value, at)?;
        Ok(Self {
            source: fields.value("source")?,
            target: fields.value("target")?,
            read_only: fields.value("read_only")?,
        })
    }
}

impl Read for Egg {
    fn read(value: &Value, at: &Trail<'_>) -> Result<Self, WireError> {
        let fields = Fields::of(value, at)?;
        Ok(Self {
            id: fields.value::<Scalar>("id")?.0,
            file_denylist: fields.value("file_denylist")?,
            features: fields.value("features")?,
        })
    }
}
