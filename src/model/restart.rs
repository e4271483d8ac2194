//! What follows when a server ends by itself: the restart policy of a manifest.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::time::Span;

/// When a server that has ended by itself is started again, in the words of Kubernetes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RestartPolicy {
    /// After every end that was not requested, also with exit code 0.
    Always,
    /// After an end with another exit code than 0, or for want of memory.
    OnFailure,
    /// Never: the server stays offline.
    Never,
}

/// The restart policy of a server, in place of the node's `crash_detection`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Restart {
    /// Which ends are followed by a start.
    pub policy: RestartPolicy,
    /// Delay of the second restart in a row, such as `10s`; each further one doubles it. The first restart has no delay.
    #[serde(default = "Restart::default_backoff")]
    pub backoff: Span,
    /// The longest delay.
    #[serde(default = "Restart::default_max_backoff")]
    pub max_backoff: Span,
    /// A server that has run this long begins again with a restart without delay.
    #[serde(default = "Restart::default_reset_after")]
    pub reset_after: Span,
}

impl Restart {
    /// What each span may be, for messages.
    pub const SPANS: &str = "1s to 24h";

    /// A policy with the delays of Kubernetes.
    pub fn new(policy: RestartPolicy) -> Self {
        Self {
            policy,
            backoff: Self::default_backoff(),
            max_backoff: Self::default_max_backoff(),
            reset_after: Self::default_reset_after(),
        }
    }

    fn default_backoff() -> Span {
        Span(Duration::from_secs(10))
    }

    fn default_max_backoff() -> Span {
        Span(Duration::from_secs(300))
    }

    /// After this time a crash begins a new series, where a manifest says nothing.
    pub fn default_reset_after() -> Span {
        Span(Duration::from_secs(600))
    }

    /// The spans with their keys, and whether each may have its value. A restart without a delay could follow a crash for ever.
    pub fn spans(&self) -> [(&'static str, Span, bool); 3] {
        let spans = [("backoff", self.backoff), ("maxBackoff", self.max_backoff), ("resetAfter", self.reset_after)];
        let limits = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);
        spans.map(|(key, span)| (key, span, limits.contains(&span.0)))
    }

    /// Whether a server is started again after it has ended by itself, with an exit code that is 0 or not.
    pub fn restarts(&self, clean: bool) -> bool {
        match self.policy {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => !clean,
            RestartPolicy::Never => false,
        }
    }

    /// The delay of the restart after a crash with this position in its series, counted from 1.
    pub fn delay(&self, crash: u32) -> Duration {
        let Some(doublings) = crash.checked_sub(2) else { return Duration::ZERO };
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        self.backoff.0.saturating_mul(factor).min(self.max_backoff.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_restart_has_no_delay_and_the_others_double_it_up_to_the_cap() {
        let restart = Restart::new(RestartPolicy::Always);
        let delays: Vec<u64> =
            [0, 1, 2, 3, 4, 5, 6, 7, 8, 33, 34, 35, u32::MAX].map(|crash| restart.delay(crash).as_secs()).into();
        assert_eq!(delays, [0, 0, 10, 20, 40, 80, 160, 300, 300, 300, 300, 300, 300]);
    }

    #[test]
    fn the_policies_are_those_of_kubernetes() {
        for (policy, after_clean_end, after_failure) in [
            (RestartPolicy::Always, true, true),
            (RestartPolicy::OnFailure, false, true),
            (RestartPolicy::Never, false, false),
        ] {
            let restart = Restart::new(policy);
            assert_eq!(
                (restart.restarts(true), restart.restarts(false)),
                (after_clean_end, after_failure),
                "{policy:?}"
            );
        }
        let restart: Restart = serde_json::from_str(r#"{"policy": "OnFailure", "backoff": "30s"}"#).unwrap();
        assert_eq!(
            restart,
            Restart { backoff: Span(Duration::from_secs(30)), ..Restart::new(RestartPolicy::OnFailure) }
        );
        assert!(serde_json::from_str::<Restart>(r#"{"policy": "onfailure"}"#).is_err());
        assert!(serde_json::from_str::<Restart>("{}").is_err(), "the policy is said");
    }

    proptest! {
        #[test]
        fn delays_never_shrink_and_never_exceed_the_cap(backoff in 1u64..86_400, cap in 1u64..86_400, crash in any::<u32>()) {
            let (backoff, max_backoff) = (Span(Duration::from_secs(backoff)), Span(Duration::from_secs(cap)));
            let restart = Restart { backoff, max_backoff, ..Restart::new(RestartPolicy::Always) };
            prop_assert!(restart.delay(crash) <= max_backoff.0);
            prop_assert!(restart.delay(crash) <= restart.delay(crash.saturating_add(1)));
        }
    }
}
