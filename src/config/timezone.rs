//! The node's timezone: from the file, the environment or the host, checked against the timezone database.

use std::fs;
use std::path::Path;

use jiff::tz::{TimeZoneDatabase, TimeZoneName};

use super::{Problem, Variables};
use crate::yaml;

/// The name of the node's timezone in the database, and a problem about invalid names that were replaced.
///
/// It is `configured`, else `$TZ`, else `{etc}/timezone`, else the target of `{etc}/localtime`, else UTC. Unknown names are skipped.
pub(super) fn find(configured: &str, variables: Variables<'_>, etc: &Path) -> (String, Option<Problem>) {
    let mut unknown_names = Vec::new();
    for (source, found) in [
        ("", Some(configured.to_owned())),
        ("the variable TZ", variables("TZ")),
        ("/etc/timezone", fs::read_to_string(etc.join("timezone")).ok()),
        ("the link /etc/localtime", localtime(&etc.join("localtime"))),
    ] {
        let Some(found) = found.filter(|text| !text.trim().is_empty()) else {
            continue;
        };
        match canonical(&found) {
            Some(name) => return replaced(name, unknown_names),
            None if source.is_empty() => unknown_names.push(unknown(found.trim())),
            None => unknown_names.push(format!("{source}: {}", unknown(found.trim()))),
        }
    }
    replaced("UTC".into(), unknown_names)
}

/// The name, with a problem if it replaces others.
fn replaced(name: String, unknown_names: Vec<String>) -> (String, Option<Problem>) {
    let problem = (!unknown_names.is_empty())
        .then(|| Problem::new("system.timezone", format!("{}; {name} is used", unknown_names.join("; "))));
    (name, problem)
}

/// The database's spelling of a name, or `None` for an unknown one.
///
/// Accepts a path below a `zoneinfo` folder and a leading `:`, which are valid in `TZ`.
pub(super) fn canonical(name: &str) -> Option<String> {
    let name = name.trim().trim_start_matches(':');
    let name = name.rsplit_once("/zoneinfo/").map_or(name, |(_, name)| name);
    // The bundled database is in memory; the host's, which may be newer, is read from disk.
    let zone = TimeZoneDatabase::bundled().get(name).or_else(|_| jiff::tz::db().get(name)).ok()?;
    Some(zone.iana_name()?.to_owned())
}

fn localtime(link: &Path) -> Option<String> {
    let target = fs::read_link(link).ok()?;
    let (_, name) = target.to_str()?.rsplit_once("zoneinfo/")?;
    Some(name.to_owned())
}

fn unknown(name: &str) -> String {
    let database = jiff::tz::db();
    let known: Vec<_> = database.available().collect();
    let hint = match yaml::nearest(name, known.iter().map(TimeZoneName::as_str)) {
        Some(known) => format!("; did you mean {known}?"),
        None => ": expected a name such as Europe/Berlin".into(),
    };
    format!("{name:?} is not in the timezone database{hint}")
}

#[cfg(test)]
mod tests;
