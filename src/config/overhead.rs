//! Memory of a container beyond the server's limit, so that a JVM that fills its heap is not killed.

use std::collections::BTreeMap;

use super::Problem;
use super::file::OverheadFile;
use super::lenient::Lenient;
use super::setting::whole_number;

const MIB: f64 = 1024.0 * 1024.0;

/// The factors of servers' memory limits.
#[derive(Debug, Clone, PartialEq)]
pub struct Overhead {
    /// Multiplier by the largest limit, in MiB, to which it applies.
    steps: BTreeMap<i64, f64>,
    /// Multiplier above all steps.
    default: f64,
}

impl Default for Overhead {
    /// The built-in steps: 15 % up to 2 GiB, 10 % up to 4 GiB, 5 % above.
    fn default() -> Self {
        Self { steps: BTreeMap::from([(2048, 1.15), (4096, 1.10)]), default: 1.05 }
    }
}

impl Overhead {
    /// # Errors
    /// A key of `multipliers` is not a number.
    pub(super) fn resolve(file: &OverheadFile, lenient: &mut Lenient) -> Result<Self, Problem> {
        let mut limits = Vec::new();
        for (text, multiplier) in &file.multipliers {
            let key = format!("docker.overhead.multipliers.{text}");
            let limit = whole_number(text);
            let limit = limit.ok_or_else(|| Problem::new(&key, "expected a memory limit in MiB as the key"))?;
            limits.push((key, limit, *multiplier));
        }
        if !file.enabled {
            return Ok(Self::default());
        }
        let mut check = |key: String, multiplier: f64| match multiplier.is_finite() && multiplier >= 1.0 {
            true => multiplier,
            // Docker rejects a limit below the reservation, which is the server's own limit.
            false => {
                lenient.note(key, format!("is {multiplier}: expected a number of at least 1.0; 1.0 is used"));
                1.0
            }
        };
        let default = check("docker.overhead.default_multiplier".into(), file.default_multiplier);
        let steps = limits.into_iter().map(|(key, limit, multiplier)| (limit, check(key, multiplier)));
        Ok(Self { steps: steps.collect(), default })
    }

    /// The multiplier of the smallest step that is not below the limit.
    pub fn multiplier(&self, memory_mib: i64) -> f64 {
        self.steps.range(memory_mib..).next().map_or(self.default, |(_, multiplier)| *multiplier)
    }

    /// The hard memory limit in bytes of a server with this limit in MiB. 0 is unlimited and stays 0.
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
        let overhead = Overhead::resolve(&OverheadFile::default(), &mut Lenient::default()).unwrap();
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
            multipliers: BTreeMap::from([("512".into(), 1.3), ("256".into(), 1.25)]),
        };
        let overhead = Overhead::resolve(&file, &mut Lenient::default()).unwrap();
        for (limit, multiplier) in [(1, 1.25), (200, 1.25), (256, 1.25), (257, 1.3), (300, 1.3), (512, 1.3), (600, 1.5)]
        {
            assert_eq!(overhead.multiplier(limit), multiplier, "{limit}");
        }
        assert_eq!(overhead.memory_limit_bytes(256), 320 * MI);
        // Without `override` the other keys have no effect.
        file.enabled = false;
        assert_eq!(Overhead::resolve(&file, &mut Lenient::default()), Ok(Overhead::default()));
        file.multipliers.insert("big".into(), 1.5);
        let problem = Overhead::resolve(&file, &mut Lenient::default()).unwrap_err();
        assert_eq!(problem.key, "docker.overhead.multipliers.big");
    }

    #[test]
    fn multipliers_that_docker_would_reject() {
        let resolve = |default_multiplier, step| {
            let (mut lenient, multipliers) = (Lenient::default(), BTreeMap::from([("64".to_owned(), step)]));
            let file = OverheadFile { enabled: true, default_multiplier, multipliers };
            let overhead = Overhead::resolve(&file, &mut lenient).unwrap();
            let keys: Vec<String> = lenient.0.into_iter().map(|problem| problem.key).collect();
            ((overhead.multiplier(64), overhead.multiplier(65)), keys)
        };
        for wrong in [0.9, 0.0, -1.0, f64::NAN, f64::INFINITY] {
            let expected = vec!["docker.overhead.multipliers.64".to_owned()];
            assert_eq!(resolve(1.2, wrong), ((1.0, 1.2), expected), "{wrong}");
            let expected = vec!["docker.overhead.default_multiplier".to_owned()];
            assert_eq!(resolve(wrong, 1.2), ((1.2, 1.0), expected), "{wrong}");
        }
    }
}
