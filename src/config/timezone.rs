//! The node's timezone: from the file, the environment or the host, checked against the timezone database.

use std::fs;
use std::path::Path;

use jiff::tz::{TimeZoneDatabase, TimeZoneName};

use super::{Problem, Variables};
use crate::yaml;

/// The node's timezone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timezone {
    /// Name in the timezone database, such as `America/Port-au-Prince`.
    pub name: String,
    /// What should be said about how it was found.
    pub notice: Option<String>,
}

impl Timezone {
    /// Coordinated universal time, where nothing says otherwise.
    pub fn utc() -> Self {
        Self { name: "UTC".into(), notice: None }
    }

    /// `configured` if it is not empty, else `$TZ`, else `{etc}/timezone`, else what `{etc}/localtime` points to,
    /// else UTC.
    ///
    /// # Errors
    /// The configured name is not in the database. A name that is merely found and not in the database is
    /// passed over, with a notice.
    pub fn find(configured: &str, variables: Variables<'_>, etc: &Path) -> Result<Self, Problem> {
        if !configured.trim().is_empty() {
            let name = canonical(configured).ok_or_else(|| Problem::new("system.timezone", unknown(configured)))?;
            return Ok(Self { name, notice: None });
        }
        let mut notice = None;
        for (place, found) in [
            ("the variable TZ", variables("TZ")),
            ("/etc/timezone", fs::read_to_string(etc.join("timezone")).ok()),
            ("the link /etc/localtime", localtime(&etc.join("localtime"))),
        ] {
            let Some(found) = found.filter(|text| !text.trim().is_empty()) else {
                continue;
            };
            match canonical(&found) {
                Some(name) => return Ok(Self { name, notice }),
                None => notice = Some(format!("{place} is passed over: {}", unknown(found.trim()))),
            }
        }
        Ok(Self { notice, ..Self::utc() })
    }
}

/// The database's spelling of a name, if it has it.
///
/// A path below a `zoneinfo` folder and a leading `:`, which are also ways to write `TZ`, are understood.
pub fn canonical(name: &str) -> Option<String> {
    let name = name.trim().trim_start_matches(':');
    let name = name.rsplit_once("/zoneinfo/").map_or(name, |(_, name)| name);
    // The database that is built in answers at once; the host's, which may be newer, has to be walked first.
    let zone = TimeZoneDatabase::bundled().get(name).or_else(|_| jiff::tz::db().get(name)).ok()?;
    Some(zone.iana_name()?.to_owned())
}

fn localtime(link: &Path) -> Option<String> {
    let target = fs::read_link(link).ok()?;
    // A file that is no link, or a link to elsewhere, has no name.
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
