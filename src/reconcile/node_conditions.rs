//! The conditions of the node: set by the services that notice them, and shown by the local API. No decision reads them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::Clock;
use crate::model::{ConditionStatus, NodeCondition, NodeConditionType};

/// The conditions by type; clones share them.
#[derive(Clone)]
pub struct NodeConditions {
    clock: Clock,
    conditions: Arc<Mutex<BTreeMap<NodeConditionType, NodeCondition>>>,
}

impl NodeConditions {
    /// No conditions yet.
    pub fn new(clock: Clock) -> Self {
        Self { clock, conditions: Arc::default() }
    }

    /// Notes that the condition holds.
    pub fn met(&self, condition: NodeConditionType) {
        self.set(condition, ConditionStatus::True, String::new());
    }

    /// Notes that the condition does not hold; the message says why and what to do.
    pub fn unmet(&self, condition: NodeConditionType, message: impl Into<String>) {
        self.set(condition, ConditionStatus::False, message.into());
    }

    /// All of them, ordered by type.
    pub fn list(&self) -> Vec<NodeCondition> {
        self.conditions.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn set(&self, r#type: NodeConditionType, status: ConditionStatus, message: String) {
        let now = self.clock.now();
        let mut conditions = self.conditions.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || NodeCondition { r#type, status, message: String::new(), last_transition_time: now };
        let condition = conditions.entry(r#type).or_insert_with(new);
        if condition.status != status {
            condition.last_transition_time = now;
        }
        (condition.status, condition.message) = (status, message);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::Timestamp;

    #[tokio::test(start_paused = true)]
    async fn the_time_of_a_condition_is_that_of_its_last_change() {
        let clock = Clock::Simulated { base: Timestamp::from_millis(0), start: tokio::time::Instant::now() };
        let conditions = NodeConditions::new(clock);
        let mut seen = Vec::new();
        for message in ["gone", "still gone", "", "", "gone again"] {
            match message {
                "" => conditions.met(NodeConditionType::EngineReachable),
                message => conditions.unmet(NodeConditionType::EngineReachable, message),
            }
            let listed = conditions.list();
            assert_eq!(listed.len(), 1);
            assert_eq!(listed[0].message, message);
            seen.push(listed[0].last_transition_time.as_millis() / 1000);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(seen, [0, 0, 2, 2, 4]);
    }
}
