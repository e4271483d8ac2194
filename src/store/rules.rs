//! Validation of manifests beyond their types: which values are valid together.
//!
//! The message of a mistake begins with the key. A manifest from a panel is accepted as it is, since
//! an operator of the node cannot correct it. A file that a person wrote is validated strictly.

use std::net::IpAddr;

use regex::RegexBuilder;

use super::SpecProblem;
use crate::model::image::ImageReference;
use crate::model::settings::{Allocations, Build, Settings, Stop};
use crate::model::time::Span;
use crate::model::{
    BackupHook, BackupHooks, ManagedBy, Manifest, Reason, Resources, Restart, ServerId, Spec, expression,
};
use crate::yaml;

/// Ways to stop a server.
const STOPS: [&str; 3] = ["command", "signal", "stop"];
/// Signals that stop a server; `C` is short for the second.
const SIGNALS: [&str; 5] = ["SIGTERM", "SIGINT", "SIGABRT", "SIGKILL", "C"];

/// Validates a manifest.
///
/// # Errors
/// The first thing that is wrong, with the key and what to write instead.
pub fn validate(manifest: &Manifest, folder: ServerId) -> Result<(), SpecProblem> {
    mistakes(manifest, folder).into_iter().next().map_or(Ok(()), Err)
}

/// Everything that is wrong with a manifest, each with the key and what to write instead.
pub fn mistakes(manifest: &Manifest, folder: ServerId) -> Vec<SpecProblem> {
    let (mut wrong, uuid) = (Vec::new(), manifest.metadata.uuid);
    if uuid != folder {
        wrong.push(format!(
            "metadata.uuid is {uuid}, but the folder is named {folder}; they must be the same: correct the uuid, or move the file to servers/{uuid}/config.yml"
        ));
    }
    // No panel writes them: a person has.
    check_backup(manifest.spec.backup.as_ref(), &mut wrong);
    check_restart(manifest.spec.restart.as_ref(), &mut wrong);
    check_resources(manifest.spec.resources.as_ref(), &mut wrong);
    if manifest.metadata.managed_by == ManagedBy::File {
        check_file(&manifest.spec, &mut wrong);
    }
    wrong.into_iter().map(|message| SpecProblem { reason: Reason::SpecInvalid, message }).collect()
}

fn check_file(spec: &Spec, wrong: &mut Vec<String>) {
    let installs = spec.install.as_ref().is_some_and(|install| install.version.is_some());
    if installs && spec.script.is_none() && !spec.settings.skip_egg_scripts {
        wrong.push(
            "spec.install.version is set, but there is no spec.script to run; add the script, or set spec.settings.skip_egg_scripts: true"
                .into(),
        );
    }
    check_environment(&spec.settings, wrong);
    check_mounts(&spec.settings, wrong);
    wrong.extend(check_image("spec.settings.container.image", &spec.settings.container.image).err());
    if let Some(script) = spec.script.as_ref().filter(|script| !script.is_blank()) {
        wrong.extend(check_script_image(&script.image).err());
    }
    check_allocations(&spec.settings.allocations, wrong);
    check_build(&spec.settings.build, wrong);
    wrong.extend(check_stop(&spec.process.stop).err());
    check_done(&spec.process.startup.done, wrong);
}

/// A container's variable is text, so a list or a map is a mistake.
fn check_environment(settings: &Settings, wrong: &mut Vec<String>) {
    let lists = settings.environment.iter().filter(|(_, value)| value.is_array() || value.is_object());
    wrong.extend(lists.map(|(name, value)| {
        let kind = if value.is_array() { "a list" } else { "a map" };
        format!("spec.settings.environment.{name} is {kind}, and a variable is text, a number, true, false or null; put quotes around the text")
    }));
}

fn check_mounts(settings: &Settings, wrong: &mut Vec<String>) {
    let relative = |path: &str| !path.starts_with('/');
    let mounts = settings.mounts.iter().flatten().filter(|mount| relative(&mount.source) || relative(&mount.target));
    wrong.extend(mounts.map(|mount| {
        format!("spec.settings.mounts: {} → {} is not absolute; write full paths", mount.source, mount.target)
    }));
}

fn check_image(key: &str, image: &str) -> Result<(), String> {
    // A local image is never pulled.
    let reference = image.strip_prefix('~').unwrap_or(image);
    if reference.is_empty() {
        return Err(format!("{key} is missing or empty; write the image to run, such as example/game:1"));
    }
    if reference.contains(char::is_whitespace) {
        return Err(format!("{key} is {image:?}, and an image's name must not contain spaces"));
    }
    // The engine reports a text that is not a reference.
    let path = ImageReference::parse(reference).map_or("", |reference| reference.path());
    if path.contains(char::is_uppercase) {
        let lower = image.replacen(path, &path.to_lowercase(), 1);
        return Err(format!("{key} is {image:?}, and an image's name must be lower case; write {lower}"));
    }
    Ok(())
}

/// The engine has no local images for scripts: the mark of a server's image would be a part of the name.
fn check_script_image(image: &str) -> Result<(), String> {
    let key = "spec.script.image";
    match image.strip_prefix('~') {
        Some(reference) => Err(format!(
            "{key} is {image:?}, and only spec.settings.container.image may have a ~ for a local image; write {reference:?}: with \
             `alula.pull.policy: if_not_present` in the node's configuration a local image is not pulled"
        )),
        None => check_image(key, image),
    }
}

fn check_allocations(allocations: &Allocations, wrong: &mut Vec<String>) {
    let default = &allocations.default;
    if default.ip.parse::<IpAddr>().is_err() {
        wrong.push(format!("spec.settings.allocations.default.ip is {:?}; {ADDRESS}", default.ip));
    }
    if !(0..=65535).contains(&default.port) {
        wrong.push(format!(
            "spec.settings.allocations.default.port is {}; expected 1 to 65535, or 0 for none",
            default.port
        ));
    }
    for (ip, ports) in &allocations.mappings {
        if ip.parse::<IpAddr>().is_err() {
            wrong.push(format!("spec.settings.allocations.mappings is for {ip:?}; {ADDRESS}"));
        }
        let ports = ports.iter().filter(|port| !(1..=65535).contains(*port));
        wrong.extend(
            ports.map(|port| {
                format!("spec.settings.allocations.mappings has port {port} for {ip}; expected 1 to 65535")
            }),
        );
    }
}

const ADDRESS: &str = "expected an IP address such as 0.0.0.0 or 192.0.2.1";

fn check_build(build: &Build, wrong: &mut Vec<String>) {
    for (key, value, least, meaning) in [
        ("memory_limit", build.memory_limit, 0, "MiB, or 0 for no limit"),
        ("swap", build.swap, -1, "MiB, or -1 for no limit"),
        ("cpu_limit", build.cpu_limit, 0, "percent of one core, or 0 for no limit"),
    ] {
        if value < least {
            wrong.push(format!("spec.settings.build.{key} is {value}; expected {meaning}"));
        }
    }
    if !matches!(build.io_weight, 0 | 10..=1000) {
        let weight = build.io_weight;
        wrong
            .push(format!("spec.settings.build.io_weight is {weight}; expected 10 to 1000, or 0 for the engine's own"));
    }
}

fn check_restart(restart: Option<&Restart>, wrong: &mut Vec<String>) {
    let spans = restart.into_iter().flat_map(Restart::spans).filter(|(_, _, valid)| !valid);
    wrong
        .extend(spans.map(|(key, span, _)| format!("spec.restart.{key} is {:?}; expected {}", span.0, Restart::SPANS)));
}

fn check_backup(hooks: Option<&BackupHooks>, wrong: &mut Vec<String>) {
    let Some(hooks) = hooks else { return };
    if let Some(pause) = hooks.pause.filter(|_| !hooks.has_valid_pause()) {
        wrong.push(format!("spec.backup.pause is {:?}; expected {}", pause.0, BackupHooks::PAUSES));
    }
    for (key, list) in [("before", &hooks.before), ("after", &hooks.after)] {
        if list.len() > BackupHooks::MAX {
            wrong.push(format!("spec.backup.{key} has {} commands; expected at most {}", list.len(), BackupHooks::MAX));
        }
        for (number, hook) in list.iter().enumerate() {
            let key = format!("spec.backup.{key}.{number}");
            if !hook.is_line() {
                wrong.push(format!("{key}.command is {:?}; expected one line", hook.command));
            }
            if !hook.has_valid_timeout() {
                wrong.push(format!("{key}.timeout is {:?}; expected {}", hook.timeout.0, BackupHook::TIMEOUTS));
            }
        }
    }
}

fn check_resources(resources: Option<&Resources>, wrong: &mut Vec<String>) {
    let Some(resources) = resources else { return };
    for (key, value, range, unit) in [
        ("shmSize", resources.shm_size, Resources::SHM, "MiB"),
        ("cpuStartBoost", resources.cpu_start_boost, Resources::BOOST, "percent of one core"),
    ] {
        if let Some(value) = value.filter(|value| !range.contains(value)) {
            let (least, most) = range.into_inner();
            wrong.push(format!("spec.resources.{key} is {value}; expected {least} to {most} {unit}"));
        }
    }
    let ulimits = resources.ulimits.iter().filter(|(_, ulimit)| !ulimit.is_valid());
    wrong.extend(ulimits.map(|(name, ulimit)| {
        format!(
            "spec.resources.ulimits.{} is {} and {}; expected a soft value no higher than the hard one, or -1 for no limit",
            name.as_str(),
            ulimit.soft,
            ulimit.hard
        )
    }));
}

fn check_stop(stop: &Stop) -> Result<(), String> {
    if !stop.kind.is_empty() && !STOPS.contains(&stop.kind.as_str()) {
        return Err(unknown("spec.process.stop.type", &stop.kind, &STOPS));
    }
    let signal = stop.value.to_ascii_uppercase();
    if let Some(timeout) = stop.timeout.filter(|timeout| !timeout.is_stop_timeout()) {
        return Err(format!("spec.process.stop.timeout is {:?}; expected {}", timeout.0, Span::STOP_TIMEOUTS));
    }
    // The default is SIGKILL.
    let known = signal.is_empty() || SIGNALS.contains(&signal.as_str());
    if matches!(stop.kind.as_str(), "" | "signal") && !known {
        return Err(unknown("spec.process.stop.value", &stop.value, &SIGNALS));
    }
    Ok(())
}

fn unknown(key: &str, wrong: &str, known: &[&'static str]) -> String {
    let expected = format!("{key} is {wrong:?}; expected one of {}", known.join(", "));
    match yaml::nearest(wrong, known.iter().copied()) {
        Some(nearest) => format!("{expected}; did you mean `{nearest}`?"),
        None => expected,
    }
}

fn check_done(done: &[String], wrong: &mut Vec<String>) {
    for (index, entry) in done.iter().enumerate() {
        let Some(text) = entry.strip_prefix("regex:") else { continue };
        if let Err(error) = RegexBuilder::new(&expression::translate(text)).build() {
            // The last line names the error; the lines before it show its position.
            let error = error.to_string();
            let why = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
            wrong.push(format!(
                "spec.process.startup.done[{index}] is not a regular expression: {why}; fix it, or remove `regex:` for a plain text"
            ));
        }
    }
}

#[cfg(test)]
mod tests;
