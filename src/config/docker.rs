//! Valid values of `docker:`, as the other modules use them.

use super::file::{DockerFile, NetworkFile};
use super::lenient::Lenient;

/// The default options of Wings for the drivers `local` and `json-file`. Other drivers do not know them.
const LOG_OPTIONS: [(&str, &str); 4] =
    [("max-size", "5m"), ("max-file", "1"), ("compress", "false"), ("mode", "non-blocking")];

impl DockerFile {
    /// Replaces invalid values, and adds the default options of the log's driver.
    pub(super) fn validate(&mut self, lenient: &mut Lenient) {
        let limits = &mut self.installer_limits;
        for (key, value, range, unit, default) in [
            ("docker.tmpfs_size", &mut self.tmpfs_mib, 0..=1 << 30, "MiB", 100),
            ("docker.container_pid_limit", &mut self.pids_limit, -1..=1 << 30, "processes", -1),
            ("docker.installer_limits.memory", &mut limits.memory_mib, 0..=1 << 30, "MiB", 1024),
            ("docker.installer_limits.cpu", &mut limits.cpu_percent, 0..=1 << 20, "percent of a core", 100),
        ] {
            *value = lenient.within(key, *value, range, unit, default);
        }
        let (network, default) = (&mut self.network, NetworkFile::default());
        for (key, name, default) in [
            ("docker.network.name", &mut network.name, default.name),
            ("docker.network.network_mode", &mut network.network_mode, default.network_mode),
        ] {
            if name.is_empty() {
                lenient.note(key, format!("is empty: expected the name of a Docker network; {default} is used"));
                *name = default;
            }
        }
        let log = &mut self.log_config;
        if matches!(log.driver.as_str(), "local" | "json-file") {
            for (key, value) in LOG_OPTIONS {
                log.options.entry(key.to_owned()).or_insert_with(|| value.to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_options() {
        let options = |driver: &str, typed: &[(&str, &str)]| {
            let mut file = DockerFile::default();
            file.log_config.driver = driver.into();
            file.log_config.options = typed.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
            file.validate(&mut Lenient::default());
            file.log_config.options
        };
        assert_eq!(options("local", &[])["max-size"], "5m");
        let typed = options("local", &[("max-size", "1m")]);
        assert_eq!((typed["max-size"].as_str(), typed["mode"].as_str()), ("1m", "non-blocking"));
        assert_eq!(options("journald", &[("tag", "game")]).len(), 1);
    }
}
