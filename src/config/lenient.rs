//! Values with which Wings starts and that make no sense: what counts instead, so that a node that is taken over starts too,
//! and what is said about it. [`within`] is for keys that Wings does not have: there such a value is refused.

use std::ops::RangeInclusive;

use super::Problem;

/// What was found on the way, for warnings.
#[derive(Debug, Default)]
pub(super) struct Lenient {
    said: Vec<Problem>,
}

impl Lenient {
    /// Notes what is wrong with a key, and what is done about it.
    pub(super) fn note(&mut self, key: impl Into<String>, message: impl Into<String>) {
        self.said.push(Problem::new(key, message));
    }

    /// Notes a problem whose value is left out.
    pub(super) fn skip(&mut self, problem: Problem) {
        self.note(problem.key, format!("{}; it is left out", problem.message));
    }

    /// A number that should lie in a range. Above it the greatest counts, below it `otherwise`.
    pub(super) fn within<T: TryFrom<i64> + Default>(
        &mut self,
        key: &str,
        value: i64,
        range: RangeInclusive<i64>,
        unit: &str,
        otherwise: i64,
    ) -> T {
        let (least, most) = (*range.start(), *range.end());
        let used = match value {
            _ if value < least => otherwise,
            _ => value.min(most),
        };
        if used != value {
            self.note(key, format!("is {value}: expected {least} to {most} {unit}; {used} is used"));
        }
        // The range fits the type.
        T::try_from(used).unwrap_or_default()
    }

    /// Everything that was noted.
    pub(super) fn said(self) -> Vec<Problem> {
        self.said
    }
}

/// A number that lies in a range, in the type that its user wants.
pub(super) fn within<T: TryFrom<i64>>(
    key: &str,
    value: i64,
    range: RangeInclusive<i64>,
    unit: &str,
) -> Result<T, Problem> {
    let (least, most) = (range.start(), range.end());
    let problem = || Problem::new(key, format!("is {value}: expected {least} to {most} {unit}"));
    if !range.contains(&value) {
        return Err(problem());
    }
    T::try_from(value).map_err(|_| problem())
}
