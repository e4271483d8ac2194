//! Keys of the file that have no effect: unknown ones, which are mostly slips, and those that this version ignores.

use serde_json::Value;

use super::Problem;
use super::file::ConfigFile;
use super::setting::{Report, Unknown};
use crate::yaml;

/// The most unknown keys in a report.
const MAX: usize = 30;

/// Keys of Wings that are accepted without effect in this version.
const UNSUPPORTED: &[&str] = &["system.openat_mode", "docker.use_performant_inspect", "docker.system_ips"];

/// The unsupported keys whose value is not the default.
pub(super) fn unsupported_keys(file: &ConfigFile) -> Vec<&'static str> {
    let (set, default) = (as_json(file), as_json(&ConfigFile::default()));
    UNSUPPORTED.iter().copied().filter(|key| at(&set, key) != at(&default, key)).collect()
}

/// Keys that decide where data lies. A node that ignored one would start on other folders.
const OF_DATA: &[&str] = &[
    "system.root_directory",
    "system.data",
    "system.log_directory",
    "system.archive_directory",
    "system.backup_directory",
    "system.tmp_directory",
    "system.user.passwd.directory",
    "system.machine_id.directory",
];

/// Why the text is not a node's file, or does not say where the node's data lies.
pub(super) fn misplaced(text: &str, report: &Report) -> Vec<Problem> {
    let top = |key: &str| report.unknown.iter().any(|unknown| unknown.path == key);
    if top("apiVersion") || top("kind") {
        let message = "this is a manifest of a server and not a node's file: apply it with `alula apply -f`, and name the \
                       node's file with --config";
        return vec![Problem::new(if top("kind") { "kind" } else { "apiVersion" }, message)];
    }
    if report.known == 0 {
        let what = if text.trim().is_empty() { "the file is empty" } else { "no key of a node's file is in it" };
        let message =
            format!("{what}: expected `system`, `docker`, `api`, `remote` or another one; is this the right file?");
        return vec![Problem::new("", message)];
    }
    report.unknown.iter().filter_map(decides_on_data).collect()
}

/// An unknown key that was meant as one of [`OF_DATA`], or as a section of one.
fn decides_on_data(unknown: &Unknown) -> Option<Problem> {
    let depth = unknown.path.matches('.').count();
    let is_meant = |known: &str| {
        let beginning: Vec<&str> = known.split('.').take(depth + 1).collect();
        strsim::damerau_levenshtein(&beginning.join(".").to_lowercase(), &unknown.path.to_lowercase()) <= 1
    };
    let outside = OF_DATA.iter().find(|known| known.strip_prefix("system.") == Some(&unknown.path));
    let meant = OF_DATA.iter().find(|known| is_meant(known)).or(outside)?;
    let known: Vec<&str> = meant.split('.').take(if outside.is_some() { usize::MAX } else { depth + 1 }).collect();
    let message = format!("unknown key, and the folders of the node depend on it: did you mean `{}`?", known.join("."));
    Some(Problem::new(&unknown.path, message))
}

/// The parts of the text that have no effect: unknown keys, earlier values of a key, further documents.
pub(super) fn unread(report: &Report) -> Vec<Problem> {
    let unknown = report.unknown.iter().map(|Unknown { path, known }| {
        let nearest = yaml::nearest(path.rsplit('.').next().unwrap_or_default(), known.iter().copied());
        let help = nearest.map_or(String::new(), |nearest| format!("; did you mean `{nearest}`?"));
        Problem::new(path, format!("unknown key, ignored{help}"))
    });
    let more =
        report.more_documents.then(|| Problem::new("", "only the first document is read; what follows is ignored"));
    unknown.chain(report.twice.iter().cloned()).take(MAX).chain(more).collect()
}

/// Keys whose values apply while the daemon runs.
const LIVE: &[&str] = &["token_id", "token", "docker.log_config", "alula.backups"];

/// The keys whose values differ between two files, except those that apply while the daemon runs, or have no effect.
pub fn changed_keys(before: &ConfigFile, after: &ConfigFile) -> Vec<String> {
    let mut changed = Vec::new();
    differences(&as_json(before), &as_json(after), String::new(), &mut changed);
    changed.retain(|key| !LIVE.iter().any(|live| key.starts_with(live)) && !UNSUPPORTED.contains(&key.as_str()));
    changed
}

/// Names of the values that differ; of maps with other keys the name of the map.
fn differences(before: &Value, after: &Value, path: String, changed: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(old), Value::Object(new)) if old.keys().eq(new.keys()) => {
            for ((key, old), new) in old.iter().zip(new.values()) {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                differences(old, new, path, changed);
            }
        }
        (old, new) if old != new => changed.push(path),
        _ => {}
    }
}

pub(super) fn as_json(file: &ConfigFile) -> Value {
    serde_json::to_value(file).unwrap_or_default()
}

pub(super) fn at<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    key.split('.').try_fold(value, |value, part| value.get(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(text: &str) -> Vec<String> {
        let read = ConfigFile::read(text).map(|(_, report)| unread(&report)).unwrap_or_default();
        read.iter().map(Problem::to_string).collect()
    }

    #[test]
    fn unknown_keys_are_named_with_the_nearest_known_one() {
        let text =
            "remot: https://panel.example.com\nsystem:\n  sftp: {bind_prot: 1}\n  xyzzy: {a: 1}\nsearch: {}\n5: x\n";
        assert_eq!(
            messages(text),
            [
                "remot: unknown key, ignored; did you mean `remote`?",
                "system.sftp.bind_prot: unknown key, ignored; did you mean `bind_port`?",
                "system.xyzzy: unknown key, ignored",
                "search: unknown key, ignored; did you mean `Search`?",
                "5: unknown key, ignored",
            ]
        );
    }

    #[test]
    fn known_keys_and_keys_of_maps_are_not_unknown() {
        let default = yaml::to_string(&ConfigFile::default()).unwrap();
        let maps = "docker:\n  registries: {ghcr.io: {username: a, password: b}}\n  log_config: {config: {tag: x}}\n  \
                    overhead: {multipliers: {512: 1.3}}\nremote_query: {custom_headers: {X-A: b}}\n";
        for text in [&default, maps, "", "5", "a: [", "system: 5"] {
            assert_eq!(messages(text), [""; 0], "{text:?}");
        }
    }

    #[test]
    fn every_unsupported_key_exists() {
        let default = as_json(&ConfigFile::default());
        for key in UNSUPPORTED {
            assert!(at(&default, key).is_some_and(|value| !value.is_object()), "{key}");
        }
    }

    #[test]
    fn changed_keys_are_named_without_those_that_apply_at_once() {
        let read = |text: &str| ConfigFile::parse(std::path::Path::new("c"), text).unwrap();
        for (text, keys) in [
            ("token: x\ntoken_id: y\ndocker: {log_config: {type: journald, config: {tag: x}}}", &[][..]),
            ("api: {port: 1}\ndebug: true", &["debug", "api.port"]),
            (
                "docker: {registries: {ghcr.io: {username: me}}}\nallowed_mounts: [/a]",
                &["docker.registries", "allowed_mounts"],
            ),
        ] {
            assert_eq!(changed_keys(&ConfigFile::default(), &read(text)), keys, "{text}");
        }
    }

    #[test]
    fn unsupported_keys_with_the_default_are_not_named() {
        assert!(unsupported_keys(&ConfigFile::default()).is_empty());
        let mut file = ConfigFile::default();
        file.system.openat_mode = "openat".into();
        file.search.blacklisted_dirs.clear();
        file.api.port = 1;
        assert_eq!(unsupported_keys(&file), ["system.openat_mode"]);
    }
}
