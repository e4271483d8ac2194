//! `alula.backups`: schedules of backups.

use std::collections::BTreeSet;

use super::Problem;
use super::file::{BackupScheduleFile, KeepFile};
use super::lenient::within;
use crate::schedule::retention::Keep;
use crate::schedule::{BackupSchedule, Selector, Times};

/// The highest number of backups that a rule keeps.
const MAX_KEPT: i64 = 100_000;
/// The longest name of a schedule, in bytes.
const MAX_NAME: usize = 100;

/// The schedules of the file, in a timezone.
///
/// # Errors
/// The first one that is invalid: none is left out in silence, since nobody would miss its backups before they are needed.
pub(super) fn resolve(file: &[BackupScheduleFile], timezone: &str) -> Result<Vec<BackupSchedule>, Problem> {
    let mut names = BTreeSet::new();
    let mut schedules = Vec::new();
    for (number, entry) in file.iter().enumerate() {
        let key = |of: &str| format!("alula.backups.{number}.{of}");
        let times = Times::parse(&entry.schedule, timezone).map_err(|error| {
            let expected = "expected five fields as in a crontab, such as \"0 4 * * *\"";
            Problem::new(key("schedule"), format!("is {:?}: {error}; {expected}", entry.schedule))
        })?;
        let name = if entry.name.is_empty() { entry.schedule.clone() } else { entry.name.clone() };
        if name.len() > MAX_NAME || name.chars().any(char::is_control) {
            return Err(Problem::new(
                key("name"),
                format!("is {name:?}: expected at most {MAX_NAME} plain characters"),
            ));
        }
        if !names.insert(name.clone()) {
            let message = format!("is {name:?}, as that of an earlier entry: give each one a name of its own");
            return Err(Problem::new(key("name"), message));
        }
        let keep = keep(&entry.keep, &key("keep"))?;
        let selector = Selector { servers: entry.selector.servers.clone(), labels: entry.selector.labels.clone() };
        schedules.push(BackupSchedule { name, selector, times, keep });
    }
    Ok(schedules)
}

fn keep(file: &KeepFile, key: &str) -> Result<Keep, Problem> {
    let rule = |name: &str, value| within(&format!("{key}.{name}"), value, 0..=MAX_KEPT, "backups");
    Ok(Keep {
        last: rule("last", file.last)?,
        daily: rule("daily", file.daily)?,
        weekly: rule("weekly", file.weekly)?,
        monthly: rule("monthly", file.monthly)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str) -> Result<Vec<BackupSchedule>, String> {
        let (file, _) = crate::config::file::ConfigFile::read(text).map_err(|error| format!("{error:?}"))?;
        resolve(&file.alula.backups, "UTC").map_err(|problem| problem.to_string())
    }

    #[test]
    fn schedules_are_read() {
        let text = "alula:\n  backups:\n    - selector: {labels: {team: blue}, servers: [lobby]}\n      schedule: 0 4 * * *\n      keep: {last: 3, daily: 7, weekly: 4, monthly: 6}\n    - {name: hourly, schedule: '0 * * * *'}\n";
        let schedules = resolved(text).unwrap();
        let [nightly, hourly] = schedules.as_slice() else { panic!("{schedules:?}") };
        assert_eq!((nightly.name.as_str(), hourly.name.as_str()), ("0 4 * * *", "hourly"));
        assert_eq!(nightly.keep, Keep { last: 3, daily: 7, weekly: 4, monthly: 6 });
        assert_eq!(nightly.selector.servers, ["lobby"]);
        assert!(hourly.keep.is_everything() && hourly.selector == Selector::default());
    }

    #[test]
    fn an_invalid_schedule_is_an_error_that_names_it() {
        for (entry, named) in [
            ("{schedule: never}", "alula.backups.0.schedule"),
            ("{}", "alula.backups.0.schedule"),
            ("{schedule: '0 4 * * *', keep: {last: -1}}", "alula.backups.0.keep.last"),
            ("{schedule: '0 4 * * *'}, {schedule: '0 4 * * *'}", "alula.backups.1.name"),
            ("{schedule: '0 4 * * *', keeep: {}}", "keeep"),
        ] {
            let error = resolved(&format!("alula: {{backups: [{entry}]}}")).unwrap_err();
            assert!(error.contains(named), "{entry}: {error}");
        }
    }
}
