//! Memory that a container gets beyond the server's limit, so that a JVM that fills its heap is not killed.

use std::collections::BTreeMap;

use super::file::OverheadFile;
use super::lenient::Lenient;

const MIB: f64 = 1024.0 * 1024.0;

/// By how much a server's memory limit is multiplied.
#[derive(Debug, Clone, PartialEq)]
pub struct Overhead {
    /// Multiplier by the largest limit, MiB, for which it is used.
    steps: BTreeMap<i64, f64>,
    /// Multiplier above all steps.
    beyond: f64,
}

impl Default for Overhead {
    /// The built-in steps: 15 % up to 2 GiB, 10 % up to 4 GiB, 5 % above.
    fn default() -> Self {
        Self { steps: BTreeMap::from([(2048, 1.15), (4096, 1.10)]), beyond: 1.05 }
    }
}

impl Overhead {
    pub(super) fn resolve(file: &OverheadFile, lenient: &mut Lenient) -> Self {
        if !file.enabled {
            return Self::default();
        }
        let mut check = |key: String, multiplier: f64| match multiplier.is_finite() && multiplier >= 1.0 {
            true => multiplier,
            // Docker refuses a limit below the reservation, which is the server's own limit.
            false => {
                lenient.note(key, format!("is {multiplier}: expected a number of at least 1.0; 1.0 is used"));
                1.0
            }
        };
        let beyond = check("docker.overhead.default_multiplier".into(), file.default_multiplier);
        let steps = file.multipliers.iter();
        let steps = steps.map(|(limit, step)| (*limit, check(format!("docker.overhead.multipliers.{limit}"), *step)));
        Self { steps: steps.collect(), beyond }
    }

    /// The multiplier for a limit in MiB: that of the smallest step that is not below it.
    pub fn multiplier(&self, memory_mib: i64) -> f64 {
        self.steps.range(memory_mib..).next().map_or(self.beyond, |(_, multiplier)| *multiplier)
    }

    /// The hard memory limit in bytes of a server with this limit in MiB. 0, without limit, stays 0.
    pub fn memory_limit_bytes(&self, memory_mib: i64) -> i64 {
        (memory_mib as f64 * self.multiplier(memory_mib) * MIB).round() as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MI: i64 = 1024 * 1024;

    #[test]
    fn built_in_steps() {
        let overhead = Overhead::resolve(&OverheadFile::default(), &mut Lenient::default());
        for (limit, multiplier) in
            [(0, 1.15), (128, 1.15), (2048, 1.15), (2049, 1.10), (4096, 1.10), (4097, 1.05), (8192, 1.05)]
        {
            assert_eq!(overhead.multiplier(limit), multiplier, "{limit}");
            assert_eq!(overhead.memory_limit_bytes(limit), (limit as f64 * multiplier * MIB).round() as i64);
        }
        assert_eq!(overhead.memory_limit_bytes(128), 154_350_387);
        assert_eq!(overhead.memory_limit_bytes(0), 0);
    }

    #[test]
    fn configured_steps() {
        let mut file = OverheadFile {
            enabled: true,
            default_multiplier: 1.5,
            multipliers: BTreeMap::from([(512, 1.3), (256, 1.25)]),
        };
        let overhead = Overhead::resolve(&file, &mut Lenient::default());
        for (limit, multiplier) in [(1, 1.25), (200, 1.25), (256, 1.25), (257, 1.3), (300, 1.3), (512, 1.3), (600, 1.5)]
        {
            assert_eq!(overhead.multiplier(limit), multiplier, "{limit}");
        }
        assert_eq!(overhead.memory_limit_bytes(256), 320 * MI);
        // Without `override` the other keys mean nothing.
        file.enabled = false;
        assert_eq!(Overhead::resolve(&file, &mut Lenient::default()), Overhead::default());
    }

    #[test]
    fn multipliers_that_docker_would_reject() {
        let resolve = |default_multiplier, step| {
            let (mut lenient, multipliers) = (Lenient::default(), BTreeMap::from([(64, step)]));
            let file = OverheadFile { enabled: true, default_multiplier, multipliers };
            let overhead = Overhead::resolve(&file, &mut lenient);
            let keys: Vec<String> = lenient.said().into_iter().map(|problem| problem.key).collect();
            ((overhead.multiplier(64), overhead.multiplier(65)), keys)
        };
        for wrong in [0.9, 0.0, -1.0, f64::NAN, f64::INFINITY] {
            let said = vec!["docker.overhead.multipliers.64".to_owned()];
            assert_eq!(resolve(1.2, wrong), ((1.0, 1.2), said), "{wrong}");
            let said = vec!["docker.overhead.default_multiplier".to_owned()];
            assert_eq!(resolve(wrong, 1.2), ((1.2, 1.0), said), "{wrong}");
        }
    }
}
