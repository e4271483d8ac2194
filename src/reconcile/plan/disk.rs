//! The disk limit: what enforces it, when the files are measured, and whether they fit.
//!
//! The kernel enforces the limit where the file system has project quotas and the node uses them. Otherwise the files are measured:
//! before a start, at an interval while the server runs, and soon when that is due because of a write.

use std::time::Duration;

use super::{Planner, Progress};
use crate::model::{ConditionType, Manifest, Quota, Reason};
use crate::reconcile::job::{JobKind, Subject};
use crate::reconcile::observed::{Job, JobState};
use crate::reconcile::step::Step;

const MIB: u64 = 1024 * 1024;
/// The least time between two measurements, which are not those of a start.
const SPACING: Duration = Duration::from_secs(2);
/// Measurements of one server take no more than one part in so many of a core.
const SHARE: u32 = 50;

impl Planner<'_> {
    /// Keeps the project quota in step with the manifest, and says what enforces the limit. Returns whether the server may start:
    /// not before its files are in their project.
    pub(super) fn keep_quota(&mut self, manifest: &Manifest) -> bool {
        let wanted = manifest.spec.settings.build.disk_limit();
        let limited = wanted.is_some();
        match &self.observed.quota {
            Quota::Off => self.set_counted_condition(limited, None),
            Quota::Unavailable(why) => self.set_counted_condition(limited, Some(why)),
            Quota::Assigned { project, limit } if *limit == wanted => {
                if limited {
                    let message = format!("the file system enforces the limit: project quota {project}");
                    self.set_true(ConditionType::DiskLimitEnforced, Reason::ProjectQuota, message);
                }
            }
            // The folder of the files comes first.
            Quota::Unassigned | Quota::Assigned { .. } if self.observed.prepared => return self.assign_quota(),
            Quota::Unassigned | Quota::Assigned { .. } => {}
        }
        true
    }

    fn assign_quota(&mut self) -> bool {
        match self.job(JobKind::Quota, &Subject::DiskLimit, true) {
            // It has ended for another limit, or for files that are there no longer.
            Progress::Ready => self.step(Step::StartJob { job: JobKind::Quota, subject: Subject::DiskLimit }),
            Progress::Waiting => {}
            Progress::Failed { attempts, message, .. } => {
                let message = format!("{message}; attempt {attempts}, tried again. Until then alula counts the files");
                self.set_false(ConditionType::DiskLimitEnforced, Reason::QuotaFailed, message);
                return true;
            }
        }
        let message = "the server's files are being put under a project quota of their file system";
        self.set_false(ConditionType::DiskLimitEnforced, Reason::Assigning, message);
        false
    }

    fn set_counted_condition(&mut self, limited: bool, unavailable: Option<&str>) {
        if !limited {
            return;
        }
        let interval = self.policy.disk_check_interval.as_secs();
        let others = match (interval, self.policy.file_events) {
            (0, _) => "what the server writes is not counted, because system.disk_check_interval is 0".to_owned(),
            (_, true) => format!("what the server writes when it may reach the limit, and every {interval} s"),
            (_, false) => format!("what the server writes every {interval} s"),
        };
        let message = format!("alula counts the files: its own writes at once, {others}");
        match unavailable {
            Some(why) => {
                let message = format!("system.quotas.enabled is true, but {why}. Until then {message}");
                self.set_false(ConditionType::DiskLimitEnforced, Reason::QuotaUnavailable, message);
            }
            None if interval == 0 => self.set_false(ConditionType::DiskLimitEnforced, Reason::NotCounted, message),
            None => self.set_true(ConditionType::DiskLimitEnforced, Reason::Counted, message),
        }
    }

    /// Measures the files of a running server at the interval of the node's configuration.
    pub(super) fn watch_disk(&mut self, manifest: &Manifest) {
        let interval = self.policy.disk_check_interval;
        if self.disk_limit(manifest).is_none() || self.measures() {
            return;
        }
        match self.observed.usage {
            Some(usage) if self.instant < usage.at + interval => self.requeue_at(usage.at + interval),
            _ => self.measure(),
        }
    }

    /// Measures the files soon where that is due. However often it is, the measurements cost little.
    pub(super) fn measure_where_due(&mut self) {
        let interval = self.policy.disk_check_interval;
        if !self.observed.measurement_due || interval.is_zero() || self.measures() {
            return;
        }
        let spacing = (self.observed.measurement_took * SHARE).min(interval).max(SPACING);
        match self.observed.usage {
            Some(usage) if self.instant < usage.at + spacing => self.requeue_at(usage.at + spacing),
            _ => self.measure(),
        }
    }

    fn measure(&mut self) {
        if let Progress::Ready = self.job(JobKind::Usage, &Subject::DiskLimit, true) {
            self.step(Step::StartJob { job: JobKind::Usage, subject: Subject::DiskLimit });
        }
    }

    /// Whether the files are being measured, or are about to be.
    fn measures(&self) -> bool {
        let measuring = |job: &Job| job.kind == JobKind::Usage && job.state == JobState::Running;
        let begins = |step: &Step| matches!(step, Step::StartJob { job: JobKind::Usage, .. });
        self.observed.jobs.iter().any(measuring) || self.plan.steps.iter().any(begins)
    }

    pub(super) fn over_disk_limit(&self, manifest: &Manifest) -> bool {
        self.disk_limit(manifest).zip(self.observed.usage).is_some_and(|(limit, usage)| usage.exceeds(limit))
    }

    /// Whether a start has no room. A project that is full lets the server write nothing.
    pub(super) fn is_disk_full(&self, manifest: &Manifest) -> bool {
        let full = |limit: u64| self.observed.usage.is_some_and(|usage| usage.bytes >= limit);
        let by_quota = self.observed.quota.is_assigned() && self.disk_limit(manifest).is_some_and(full);
        by_quota || self.over_disk_limit(manifest)
    }

    /// The disk limit in bytes, where there is one that is checked.
    pub(super) fn disk_limit(&self, manifest: &Manifest) -> Option<u64> {
        let limit = manifest.spec.settings.build.disk_limit();
        limit.filter(|_| !self.policy.disk_check_interval.is_zero())
    }

    pub(super) fn set_disk_condition(&mut self, manifest: &Manifest) {
        let Some((limit, usage)) = self.disk_limit(manifest).zip(self.observed.usage) else { return };
        let mut message = format!("{} of {} MiB used", usage.bytes.div_ceil(MIB), limit / MIB);
        if usage.hidden {
            message
                .push_str("; some directories are nested too deeply to be counted, which counts as full: remove them");
        }
        if usage.exceeds(limit) {
            self.set_false(ConditionType::DiskWithinLimit, Reason::Exceeded, message);
        } else {
            self.set_true(ConditionType::DiskWithinLimit, Reason::Within, message);
        }
    }
}
