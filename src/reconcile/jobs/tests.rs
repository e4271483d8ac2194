//! How jobs end.

use std::time::Duration;

use super::*;
use crate::reconcile::disk_scans::DiskScan;
use crate::reconcile::observed::{JobState, Observed};
use crate::runtime::{ErrorKind, RuntimeError};
use crate::testing::fake::{Call, Faults};
use crate::testing::{TestNode, server_id};

fn invalid_response() -> PanelError {
    PanelError::InvalidResponse { call: "GET /servers/x/install".into(), detail: "the answer: expected JSON".into() }
}

fn away() -> PanelError {
    PanelError::Unreachable { call: "GET /servers/x/install".into(), cause: "refused".into() }
}

/// Whether a job whose attempts fail in these ways ends with a fatal failure.
fn fails_for_good(failures: Vec<PanelError>) -> bool {
    let (node, kind) = (TestNode::new(), JobKind::Script);
    let (context, id, subject) = (&node.context, server_id(1), Subject::Install("token".into()));
    for failure in failures {
        let run = context.servers.job_starting(id, kind, &subject);
        let job = JobRun { context: context.clone(), server: id, subject: subject.clone() };
        end(&job, kind, run, Err(failure.into()));
    }
    let observed = context.servers.observed(id, 0, Observed::default());
    matches!(observed.job(kind, &subject).unwrap().state, JobState::Failed { fatal: true, .. })
}

#[tokio::test(start_paused = true)]
async fn invalid_responses_in_a_row_count_as_a_rejection() {
    assert!(!fails_for_good(vec![invalid_response(); 4]));
    assert!(fails_for_good(vec![invalid_response(); 5]));
    let mut interrupted = vec![invalid_response(); 4];
    interrupted.extend([away(), invalid_response()]);
    assert!(!fails_for_good(interrupted), "only in a row");
    assert!(!fails_for_good(vec![away(); 30]), "a panel that does not answer is asked again");
}

#[tokio::test(start_paused = true)]
async fn removals_and_counts_in_the_background_hold_up_no_start() {
    let node = TestNode::new();
    let context = &node.context;
    let mut permits = Vec::new();
    for scan in [DiskScan::Removal, DiskScan::Watch] {
        while let Some(permit) = context.disk_scans.permit(scan).now_or_never() {
            permits.push(permit);
        }
    }
    for (kind, subject, goes_on) in [
        (JobKind::Usage, Subject::Start("p1".into()), true),
        (JobKind::ConfigFiles, Subject::Start("p1".into()), true),
        (JobKind::Permissions, Subject::Start("p1".into()), true),
        (JobKind::Usage, Subject::DiskLimit, false),
        (JobKind::Removal, Subject::Deletion, false),
    ] {
        let job = JobRun { context: context.clone(), server: server_id(1), subject };
        let ended = implementation(kind).run(&job).now_or_never();
        assert_eq!(ended.is_some(), goes_on, "{kind:?} {}", job.subject);
    }
}

/// A task that was dropped may leave blocking work behind, which holds its lock until it has ended.
#[tokio::test(start_paused = true)]
async fn what_removes_files_waits_for_blocking_work_that_reads_them() {
    let node = TestNode::new();
    let context = &node.context;
    let jobs =
        [(JobKind::Removal, Subject::Deletion), (JobKind::FormerFiles, Subject::Restore(uuid::Uuid::from_u128(7)))];
    for (kind, subject) in jobs {
        let job = JobRun { context: context.clone(), server: server_id(1), subject };
        let ends = async || tokio::time::timeout(Duration::from_secs(5), implementation(kind).run(&job)).await.is_ok();
        let reading = context.operations.files().shared(server_id(1)).await;
        assert!(!ends().await, "{kind:?}");
        drop(reading);
        assert!(ends().await, "{kind:?}");
    }
}

/// An engine that fails each request for a log in this way.
struct NoLogs(ErrorKind);

#[async_trait::async_trait]
impl Faults for NoLogs {
    async fn before(&self, call: Call) -> Result<(), RuntimeError> {
        match call.name {
            "logs" => Err(RuntimeError::new(self.0, call.name, "no")),
            _ => Ok(()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_that_the_engine_does_not_keep_is_read_and_one_that_it_does_not_give_is_not() {
    for (kind, is_read) in [(ErrorKind::Unsupported, true), (ErrorKind::Failed, false)] {
        let node = TestNode::builder().engine_faults(Arc::new(NoLogs(kind))).build();
        assert_eq!(close_install_log(&node.context, server_id(1), "n1").await.is_ok(), is_read, "{kind:?}");
    }
}
