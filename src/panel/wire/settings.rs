//! `settings`: image, command, environment, limits, allocations.

use serde_json::Value;

use super::WireError;
use super::read::{Fields, Trail, list, scalar_text, text, whole};
use crate::model::ServerId;
use crate::model::settings::{Allocation, Allocations, Build, Container, Egg, Meta, Mount, Settings};

/// Every whole number is fine; limits of meaning are the plan's affair.
const ANY: std::ops::RangeInclusive<i64> = i64::MIN..=i64::MAX;

/// What `settings` says.
pub(super) struct Read {
    /// The server that it speaks of, where it says so.
    pub(super) uuid: Option<ServerId>,
    /// `suspended`, which is not part of the model's settings.
    pub(super) suspended: bool,
    /// The rest.
    pub(super) settings: Settings,
}

pub(super) fn read(fields: Fields<'_>) -> Result<Read, WireError> {
    let settings = Settings {
        id: fields.whole("id", ANY)?.unwrap_or(0),
        meta: fields.nested("meta", meta)?,
        invocation: fields.text("invocation")?,
        skip_egg_scripts: fields.flag("skip_egg_scripts")?.unwrap_or(false),
        environment: fields.map("environment", variable)?.into_iter().collect(),
        labels: some(fields.map("labels", scalar_text)?).map(|labels| labels.into_iter().collect()),
        allocations: fields.nested("allocations", allocations)?,
        build: fields.nested("build", build)?,
        crash_detection_enabled: fields.flag("crash_detection_enabled")?,
        mounts: some(fields.list("mounts", mount)?),
        egg: fields.nested("egg", egg)?,
        container: fields.nested("container", |fields| Ok(Container { image: fields.text("image")? }))?,
    };
    let suspended = fields.flag("suspended")?.unwrap_or(false);
    Ok(Read { uuid: fields.server_id("uuid")?, suspended, settings })
}

/// Nothing, rather than something empty: the panel leaves out what is empty, and so does the model.
fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn meta(fields: Fields<'_>) -> Result<Meta, WireError> {
    Ok(Meta { name: fields.text("name")?, description: fields.text("description")? })
}

/// A variable's value: a scalar. What is none cannot be one in a container either, and counts as empty.
fn variable(value: &Value, trail: &Trail<'_>) -> Result<Value, WireError> {
    match value {
        Value::String(_) => text(value, trail).map(Value::String),
        Value::Array(_) | Value::Object(_) => Ok(Value::String(String::new())),
        scalar => Ok(scalar.clone()),
    }
}

fn allocations(fields: Fields<'_>) -> Result<Allocations, WireError> {
    let ports = |value: &Value, trail: &Trail<'_>| list(value, trail, |port, trail| whole(port, trail, ANY));
    // A server without an allocation has `{"": []}`.
    let mappings = fields.map("mappings", ports)?.into_iter().filter(|(ip, _)| !ip.is_empty());
    Ok(Allocations {
        force_outgoing_ip: fields.flag("force_outgoing_ip")?.unwrap_or(false),
        default: fields.nested("default", allocation)?,
        mappings: mappings.collect(),
    })
}

fn allocation(fields: Fields<'_>) -> Result<Allocation, WireError> {
    let none = Allocation::default();
    Ok(Allocation {
        ip: fields.optional_text("ip")?.unwrap_or(none.ip),
        port: fields.whole("port", ANY)?.unwrap_or(none.port),
    })
}

fn build(fields: Fields<'_>) -> Result<Build, WireError> {
    let default = Build::default();
    let weight = fields.whole("io_weight", 0..=i64::from(u16::MAX))?;
    // Pterodactyl has the opposite word.
    let oom_killer = fields.flag("oom_killer")?.or(fields.flag("oom_disabled")?.map(|disabled| !disabled));
    Ok(Build {
        memory_limit: fields.whole("memory_limit", ANY)?.unwrap_or(default.memory_limit),
        swap: fields.whole("swap", ANY)?.unwrap_or(default.swap),
        io_weight: weight.and_then(|weight| weight.try_into().ok()).unwrap_or(default.io_weight),
        cpu_limit: fields.whole("cpu_limit", ANY)?.unwrap_or(default.cpu_limit),
        disk_space: fields.whole("disk_space", ANY)?.unwrap_or(default.disk_space),
        threads: fields.scalar_text("threads")?,
        oom_killer: oom_killer.unwrap_or(default.oom_killer),
    })
}

fn mount(value: &Value, trail: &Trail<'_>) -> Result<Mount, WireError> {
    let fields = Fields::of(value, trail)?;
    Ok(Mount {
        source: fields.text("source")?,
        target: fields.text("target")?,
        read_only: fields.flag("read_only")?.unwrap_or(false),
    })
}

fn egg(fields: Fields<'_>) -> Result<Egg, WireError> {
    let features = fields.map("features", |value, trail| list(value, trail, text))?;
    Ok(Egg {
        id: fields.scalar_text("id")?,
        file_denylist: fields.list("file_denylist", text)?,
        features: features.into_iter().collect(),
    })
}
