//! Invalid values: those that Wings starts with are replaced, so that a node can be taken over; others are errors.

use std::ops::RangeInclusive;

use super::Problem;

/// Collects the replaced values, for warnings, and the values that cannot be replaced.
#[derive(Debug, Default)]
pub(super) struct Lenient(pub(super) Vec<Problem>, pub(super) Vec<Problem>);

impl Lenient {
    /// Notes what is wrong with a key, and which value is used.
    pub(super) fn note(&mut self, key: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem::new(key, message));
    }

    /// A value that cannot be replaced. An invalid one is collected, and the check of other values continues.
    pub(super) fn require<T>(&mut self, value: Result<T, Problem>) -> Option<T> {
        value.map_err(|problem| self.1.push(problem)).ok()
    }

    /// An element of a list or map. An invalid one is left out.
    pub(super) fn keep<T>(&mut self, key: &str, element: Result<T, String>) -> Option<T> {
        element.map_err(|message| self.note(key, format!("{message}; it is left out"))).ok()
    }

    /// A number in a range. Above the range its maximum is used, below it `default`.
    pub(super) fn within<T: TryFrom<i64> + Default>(
        &mut self,
        key: &str,
        value: i64,
        range: RangeInclusive<i64>,
        unit: &str,
        default: i64,
    ) -> T {
        within(key, value, range.clone(), unit).unwrap_or_else(|problem| {
            let used = if value < *range.start() { default } else { *range.end() };
            self.note(problem.key, format!("{}; {used} is used", problem.message));
            // The range fits the type.
            T::try_from(used).unwrap_or_default()
        })
    }
}

/// A number in a range, as the type that the caller needs.
pub(super) fn within<T: TryFrom<i64>>(
    key: &str,
    value: i64,
    range: RangeInclusive<i64>,
    unit: &str,
) -> Result<T, Problem> {
    let in_range = range.contains(&value).then(|| T::try_from(value).ok()).flatten();
    let (min, max) = range.into_inner();
    in_range.ok_or_else(|| Problem::new(key, format!("is {value}: expected {min} to {max} {unit}")))
}
