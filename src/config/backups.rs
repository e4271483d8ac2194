//! `system.backups` and `system.transfers` on this host.

use std::net::IpAddr;

use ipnet::IpNet;
use url::Host;

use super::file::{BackupsFile, TransfersFile};
use super::lenient::Lenient;

const MIB: u64 = 1 << 20;
/// The highest limit, in MiB per second.
const MAX_LIMIT: i64 = 1 << 20;
/// gzip's levels, by their names in the file.
const LEVELS: [(&str, u32); 3] = [("none", 0), ("best_speed", 1), ("best_compression", 9)];
/// The level in place of an invalid one.
const DEFAULT_LEVEL: (&str, u32) = LEVELS[1];

/// How backups are made and restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupsConfig {
    /// Bytes per second of the disk, for all backups together; `None` for no limit.
    pub write_limit: Option<u64>,
    /// Bytes per second of the network, for all uploads together; `None` for no limit.
    pub upload_limit: Option<u64>,
    /// gzip's level, from 0 to 9.
    pub level: u32,
    /// Backups that run at the same time; the others wait.
    pub concurrent: usize,
    /// Where a restore may download from, beyond the internet.
    pub restore_hosts: AllowedHosts,
}

impl BackupsConfig {
    pub(super) fn resolve(file: &BackupsFile, lenient: &mut Lenient) -> Self {
        let key = "system.backups.compression_level";
        let found = LEVELS.iter().find(|(name, _)| *name == file.compression_level);
        let level = found.unwrap_or_else(|| {
            let expected = LEVELS.map(|(name, _)| name).join(", ");
            let (used, value) = (DEFAULT_LEVEL.0, &file.compression_level);
            lenient.note(key, format!("is {value:?}: expected one of {expected}; {used} is used"));
            &DEFAULT_LEVEL
        });
        let key = "system.backups.concurrent_backups";
        let concurrent: u32 = lenient.within(key, file.concurrent_backups, 1..=1024, "backups", 2);
        Self {
            write_limit: limit("system.backups.write_limit", file.write_limit, lenient),
            upload_limit: limit("system.backups.upload_limit", file.upload_limit, lenient),
            level: level.1,
            concurrent: concurrent as usize,
            restore_hosts: AllowedHosts::resolve(&file.restore_host_allowlist, lenient),
        }
    }
}

/// Bytes per second of all servers that come together, and of all that leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct TransferLimits {
    pub download: Option<u64>,
    pub upload: Option<u64>,
}

impl TransferLimits {
    /// From the file's MiB per second.
    pub(super) fn resolve(file: &TransfersFile, lenient: &mut Lenient) -> Self {
        Self {
            download: limit("system.transfers.download_limit", file.download_limit, lenient),
            upload: limit("system.transfers.upload_limit", file.upload_limit, lenient),
        }
    }
}

/// The storage pool, where it is enabled and has a name that a header can have.
pub(super) fn storage_pool(file: &TransfersFile) -> Option<String> {
    let name = file.storage_pool.pool_name.trim();
    let fits = !name.is_empty() && name.chars().all(|char| char.is_ascii_graphic() || char == ' ');
    (file.storage_pool.enabled && fits).then(|| name.to_owned())
}

/// A limit in bytes per second. As in Wings, less than 1 means none.
fn limit(key: &str, value: i64, lenient: &mut Lenient) -> Option<u64> {
    let limit: u64 = lenient.within(key, value.max(0), 0..=MAX_LIMIT, "MiB per second", 0);
    (limit > 0).then_some(limit * MIB)
}

/// Hosts and networks that are no part of the internet, and are connected to all the same.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AllowedHosts {
    /// In lower case, without a dot at the end.
    names: Vec<String>,
    networks: Vec<IpNet>,
}

impl AllowedHosts {
    /// An invalid entry is left out.
    fn resolve(entries: &[String], lenient: &mut Lenient) -> Self {
        let mut allowed = Self::default();
        for entry in entries {
            let entry = entry.trim();
            let known = allowed.add(entry);
            let _ = lenient.keep("system.backups.restore_host_allowlist", known);
        }
        allowed
    }

    /// The entries of a list. An entry is a host name, an address, or a network such as `10.0.0.0/8`.
    ///
    /// # Errors
    /// The entry that is none of these.
    pub fn parse<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut allowed = Self::default();
        entries.into_iter().try_for_each(|entry| allowed.add(entry.trim()))?;
        Ok(allowed)
    }

    fn add(&mut self, entry: &str) -> Result<(), String> {
        if let Ok(network) = entry.parse::<IpNet>() {
            self.networks.push(network.trunc());
            return Ok(());
        }
        if let Ok(address) = entry.parse::<IpAddr>() {
            self.networks.push(address.to_canonical().into());
            return Ok(());
        }
        match Host::parse(entry) {
            Ok(Host::Ipv4(address)) => self.networks.push(IpAddr::V4(address).into()),
            Ok(Host::Ipv6(address)) => self.networks.push(address.to_canonical().into()),
            Ok(Host::Domain(name)) => self.names.push(canonical(&name)),
            Err(_) => {
                return Err(format!("{entry:?} is no host name, address or network such as 10.0.0.0/8"));
            }
        }
        Ok(())
    }

    /// Whether the host of this name is allowed, whatever its addresses are.
    pub fn has_name(&self, name: &str) -> bool {
        !self.names.is_empty() && self.names.contains(&canonical(name))
    }

    /// Whether this address is allowed.
    pub fn has_address(&self, address: IpAddr) -> bool {
        let canonical = address.to_canonical();
        self.networks.iter().any(|network| network.contains(&address) || network.contains(&canonical))
    }
}

fn canonical(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(file: &BackupsFile) -> (BackupsConfig, Vec<String>) {
        let mut lenient = Lenient::default();
        let resolved = BackupsConfig::resolve(file, &mut lenient);
        (resolved, lenient.0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn defaults() {
        let (resolved, notes) = resolve(&BackupsFile::default());
        let expected = BackupsConfig {
            write_limit: None,
            upload_limit: None,
            level: 1,
            concurrent: 2,
            restore_hosts: AllowedHosts::default(),
        };
        assert_eq!((resolved, notes), (expected, Vec::new()));
    }

    #[test]
    fn limits_and_levels() {
        for (value, limit) in [(-5, None), (0, None), (1, Some(MIB)), (20, Some(20 * MIB))] {
            let file = BackupsFile { write_limit: value, upload_limit: value, ..BackupsFile::default() };
            let (resolved, notes) = resolve(&file);
            assert_eq!((resolved.write_limit, resolved.upload_limit), (limit, limit), "{value}");
            assert!(notes.is_empty());
        }
        for (name, level) in [("none", 0), ("best_speed", 1), ("best_compression", 9)] {
            let file = BackupsFile { compression_level: name.into(), ..BackupsFile::default() };
            assert_eq!(resolve(&file).0.level, level);
        }
        let file = BackupsFile {
            compression_level: "best".into(),
            concurrent_backups: 0,
            write_limit: i64::MAX,
            ..BackupsFile::default()
        };
        let (resolved, notes) = resolve(&file);
        assert_eq!((resolved.level, resolved.concurrent, resolved.write_limit), (1, 2, Some(MIB << 20)));
        assert_eq!(
            notes[0],
            "system.backups.compression_level: is \"best\": expected one of none, best_speed, best_compression; \
             best_speed is used"
        );
        assert_eq!(notes.len(), 3);
    }

    #[test]
    fn entries_of_the_allowlist() {
        let entries = ["Minio.Local.", "10.1.0.0/16", "192.168.1.5", "fd00::/8", "[::1]", "::ffff:172.16.0.9"];
        let file = BackupsFile {
            restore_host_allowlist: entries.iter().chain(&["http://x", "", "a b"]).map(ToString::to_string).collect(),
            ..BackupsFile::default()
        };
        let (resolved, notes) = resolve(&file);
        let hosts = resolved.restore_hosts;
        assert_eq!(AllowedHosts::parse(entries), Ok(hosts.clone()));
        assert_eq!(notes.len(), 3);
        assert_eq!(
            notes[0],
            "system.backups.restore_host_allowlist: \"http://x\" is no host name, address or network such as \
             10.0.0.0/8; it is left out"
        );
        for (name, allowed) in [("minio.local", true), ("MINIO.LOCAL.", true), ("x.minio.local", false), ("", false)] {
            assert_eq!(hosts.has_name(name), allowed, "{name}");
        }
        for (address, allowed) in [
            ("10.1.255.1", true),
            ("10.2.0.1", false),
            ("::ffff:10.1.2.3", true),
            ("192.168.1.5", true),
            ("192.168.1.6", false),
            ("fd12::1", true),
            ("fe80::1", false),
            ("::1", true),
            ("127.0.0.1", false),
            ("172.16.0.9", true),
        ] {
            assert_eq!(hosts.has_address(address.parse().unwrap()), allowed, "{address}");
        }
    }
}
