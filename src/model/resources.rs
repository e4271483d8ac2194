//! Resources of a server that no panel knows: shared memory, limits of its processes, CPU time during its start-up.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

/// Resources beyond `settings.build`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Resources {
    /// MiB of `/dev/shm`; the engine's default (64) if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shm_size: Option<i64>,
    /// Limits of each process in the container, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ulimits: BTreeMap<UlimitName, Ulimit>,
    /// Percent of one core until the start-up has finished, in place of a lower `build.cpu_limit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_start_boost: Option<i64>,
}

/// A limit of a process, in the words of `ulimit` and Docker. `nproc` is not among them: it counts the processes of all servers of the
/// node together, which have one user. `docker.container_pid_limit` limits each server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
#[allow(missing_docs)]
pub enum UlimitName {
    Core,
    Cpu,
    Data,
    Fsize,
    Locks,
    Memlock,
    Msgqueue,
    Nice,
    Nofile,
    Rss,
    Rtprio,
    Rttime,
    Sigpending,
    Stack,
}

/// The two values of a limit; -1 is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ulimit {
    /// What applies first; a process may raise it.
    pub soft: i64,
    /// The most that a process may set.
    pub hard: i64,
}

impl UlimitName {
    /// Its name, as engines spell it.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl Ulimit {
    /// Whether an engine accepts it.
    pub fn is_valid(self) -> bool {
        let Self { soft, hard } = self;
        soft >= -1 && hard >= -1 && (hard == -1 || (soft != -1 && soft <= hard))
    }
}

impl Resources {
    /// MiB that `/dev/shm` may have.
    pub const SHM: std::ops::RangeInclusive<i64> = 1..=1 << 20;
    /// Percent of one core that a boost may have.
    pub const BOOST: std::ops::RangeInclusive<i64> = 1..=100_000;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_soft_limit_is_no_higher_than_the_hard_one() {
        for (soft, hard, valid) in [
            (0, 0, true),
            (1024, 4096, true),
            (4096, 1024, false),
            (-1, -1, true),
            (5, -1, true),
            (-1, 5, false),
            (-2, -1, false),
            (0, -2, false),
        ] {
            assert_eq!(Ulimit { soft, hard }.is_valid(), valid, "{soft} {hard}");
        }
        assert!(
            serde_json::from_str::<UlimitName>("\"nproc\"").is_err(),
            "it would count the processes of all servers"
        );
        assert_eq!(UlimitName::Memlock.as_str(), "memlock");
    }
}
