//! What holds for every scene, however odd.

use proptest::prelude::*;

use super::display::{reason, steps, text};
use super::fixture::Fixture;
use super::model::Model;
use super::tape::{Tape, fixture, manners};
use crate::model::{ConditionType, ContainerStatus, InstallOutcome, ManagedBy, Manifest, Reason, Verb};
use crate::reconcile::job::JobKind;
use crate::reconcile::plan::Plan;
use crate::reconcile::step::Step;
use crate::requests::{self, start_id};

/// Plans until a model must converge.
const MAX_ROUNDS: usize = 300;

/// What no plan may do.
fn is_harmless(fixture: &Fixture, plan: &Plan) -> Result<(), TestCaseError> {
    let doomed = requests::deletion(&fixture.requests).is_some();
    let open = fixture.asked().install();
    let suspended = fixture.manifest.as_ref().is_some_and(|manifest| manifest.spec.suspended);
    let installer_runs = fixture.observed.installer.as_ref().is_some_and(ContainerStatus::running);
    let mut ups_and_downs = 0;
    for step in &plan.steps {
        match step {
            Step::StartJob { job: JobKind::Removal, .. } | Step::Forget | Step::Quiesce => {
                prop_assert!(doomed, "data is removed unasked");
            }
            Step::StartServer { .. } => {
                ups_and_downs += 1;
                prop_assert!(open.is_none() && !installer_runs, "a start beside an installation");
                prop_assert!(!suspended && !doomed, "a start of a server that must not run");
                prop_assert!(fixture.observed.prepared, "a start without folders");
            }
            Step::Stop { container, .. } => {
                ups_and_downs += 1;
                let server = fixture.observed.server.as_ref().filter(|server| server.id == *container);
                prop_assert!(server.is_some_and(ContainerStatus::running), "a stop of what does not run");
            }
            Step::CreateServer { token } => match open {
                Some(install) => prop_assert_eq!(token, &start_id(install.id)),
                None => prop_assert!(!suspended && !doomed, "a container for a start that must not be"),
            },
            Step::CreateInstaller { token } | Step::WriteScript { token } => {
                let wanted = open.map(|install| install.id);
                prop_assert_eq!(Some(token.as_str()), wanted, "an installation that is not pending");
            }
            Step::RemoveServer { container } => {
                let runs =
                    fixture.observed.server.as_ref().is_some_and(|found| found.id == *container && found.running());
                prop_assert!(doomed || !runs, "a running server is removed");
            }
            Step::RemoveInstaller { container } => {
                let token =
                    fixture.observed.installer.as_ref().filter(|found| found.id == *container && found.running());
                let ours = token.and_then(|found| found.token.as_deref()) == open.map(|install| install.id);
                let lively = token.is_some() && open.is_some_and(|install| !install.aborted);
                prop_assert!(doomed || !(lively && ours), "an installation that is wanted is ended");
            }
            _ => {}
        }
    }
    prop_assert!(ups_and_downs <= 1, "up and down at once");
    if !doomed && (fixture.record.parked.is_some() || fixture.manifest.is_none()) {
        // Its place in the line for installations is others', not its own.
        let touched = plan.steps.iter().any(|step| !matches!(step, Step::ReleaseInstallSlot | Step::ReleaseStartSlot));
        prop_assert!(!touched, "a server without a manifest is changed");
    }
    prop_assert!(plan.steps.iter().all(|step| plan.steps.iter().filter(|other| *other == step).count() == 1));
    Ok(())
}

pub(super) fn by_panel(fixture: &Fixture) -> bool {
    let managed = |manifest: &Manifest| manifest.metadata.managed_by == ManagedBy::Panel;
    fixture.policy.panel && fixture.manifest.as_ref().is_some_and(managed)
}

/// Without a panel a failed installation holds the start back.
fn is_held_back(fixture: &Fixture) -> bool {
    let skipped = fixture.manifest.as_ref().is_some_and(|manifest| manifest.spec.settings.skip_egg_scripts);
    let done = fixture.record.install.done.as_ref();
    !by_panel(fixture) && !skipped && done.is_some_and(|done| done.outcome == InstallOutcome::Failed)
}

/// What holds when there is nothing more to do.
fn is_as_wanted(model: &Model) -> Result<(), TestCaseError> {
    let Fixture { manifest, record, observed, .. } = &model.fixture;
    if model.gone {
        let deleted = requests::deletion(&model.fixture.requests).is_some();
        prop_assert!(deleted && observed.server.is_none() && observed.installer.is_none());
        return Ok(());
    }
    prop_assert!(requests::deletion(&model.fixture.requests).is_none(), "a deletion that does not end");
    let Some(manifest) = manifest.as_ref().filter(|_| record.parked.is_none()) else { return Ok(()) };
    if model.fixture.asked().install().is_some() {
        // An image that cannot be: the panel's user learns it, and without a panel a person fixes the manifest.
        let refused = reason(&model.fixture.plan(), ConditionType::Installed) == Some(Reason::InvalidImage);
        prop_assert!(refused && !by_panel(&model.fixture), "an installation that does not end");
        prop_assert!(!observed.has_install_slot_or_waits(), "it holds up others");
        return Ok(());
    }
    prop_assert!(
        observed.installer.is_none() && !observed.has_install_slot_or_waits(),
        "a leftover of an installation"
    );
    prop_assert!(!observed.start_slot && !observed.start_queued, "a slot that holds up other starts");
    prop_assert!(!model.fixture.unrecorded && observed.prepared);
    let running = observed.server.as_ref().filter(|server| server.running());
    let open = model.fixture.asked().power();
    match (&open, running) {
        _ if manifest.spec.suspended => prop_assert!(running.is_none(), "a suspended server runs"),
        // A restart that would end in an offline server leaves it running.
        (Some(request), Some(_)) if request.verb == Verb::Restart && is_held_back(&model.fixture) => {}
        (Some(request), Some(server)) => {
            prop_assert!(request.verb.wants_up());
            let assigned = record.power.serving.as_ref().filter(|serving| serving.container == server.id);
            let serves = assigned.map(|serving| &serving.power).or(server.token.as_ref());
            prop_assert_eq!(serves, Some(&request.id), "what runs serves another request");
        }
        (Some(request), None) if request.verb.wants_up() && is_held_back(&model.fixture) => {}
        (Some(request), None) => {
            prop_assert!(false, "{:?} {} is pending, and the server is down", request.verb, request.id);
        }
        (None, _) => {}
    }
    if let Some(server) = running {
        prop_assert_eq!(observed.attached.as_ref(), Some(&server.id));
        prop_assert_eq!(
            server.limits_hash.as_ref(),
            observed.wanted.as_ref().map(|wanted| &wanted.limits_hash),
            "the boost is over"
        );
    }
    if by_panel(&model.fixture) {
        prop_assert!(record.install.done.as_ref().is_none_or(|done| done.reported), "a result that is not reported");
        let known = crate::model::PowerState::known_to_panel(observed.acknowledged, record.last_reported);
        prop_assert_eq!(known, Some(model.fixture.plan().state), "a state that is not reported");
        prop_assert!(!observed.unacknowledged, "a state that is not reported");
    }
    Ok(())
}

/// Plans and does, until there is nothing to do.
fn converge(mut model: Model) -> Result<Model, TestCaseError> {
    let mut story = String::new();
    for _ in 0..MAX_ROUNDS {
        if model.gone {
            return Ok(model);
        }
        let plan = model.fixture.plan();
        story += &format!("{:?} {}\n", steps(&plan), model.fixture.now);
        is_harmless(&model.fixture, &plan).map_err(|error| TestCaseError::fail(format!("{error}\n{story}")))?;
        if plan.steps.is_empty() {
            if !model.goes_on(&plan) {
                return is_as_wanted(&model)
                    .map(|()| model)
                    .map_err(|error| TestCaseError::fail(format!("{error}\n{story}{}", text(&plan))));
            }
        } else {
            model.carry_out(&plan);
        }
    }
    Err(TestCaseError::fail(format!("no rest after {MAX_ROUNDS} plans:\n{story}")))
}

fn tapes() -> impl Strategy<Value = Tape> {
    prop::collection::vec(any::<u8>(), 120).prop_map(Tape::new)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8 * ProptestConfig::default().cases, ..ProptestConfig::default() })]

    #[test]
    fn no_plan_does_harm(mut tape in tapes()) {
        let fixture = fixture(&mut tape);
        let plan = fixture.plan();
        is_harmless(&fixture, &plan)?;
        prop_assert_eq!(fixture.plan(), plan, "the same scene, the same plan");
    }

    #[test]
    fn every_model_converges_to_its_desired_state(mut tape in tapes()) {
        let model = Model::new(fixture(&mut tape), manners(&mut tape));
        let converged = converge(model)?;
        if !converged.gone {
            prop_assert_eq!(converged.fixture.plan().steps, vec![], "a converged model stays as it is");
        }
    }

    #[test]
    fn a_daemon_that_dies_at_any_moment_comes_to_the_same_rest(mut tape in tapes(), moments in prop::collection::vec(0usize..40, 1..4)) {
        let mut model = Model::new(fixture(&mut tape), manners(&mut tape));
        for moment in moments {
            for _ in 0..moment {
                let plan = model.fixture.plan();
                if model.gone || (plan.steps.is_empty() && !model.goes_on(&plan)) {
                    break;
                }
                // Killed between two steps, now and then.
                let done = Plan { steps: plan.steps.iter().take(1).cloned().collect(), ..plan };
                model.carry_out(&done);
            }
            model.fixture = model.fixture.daemon_restarted();
        }
        converge(model)?;
    }
}

#[test]
fn plan_of_500_converged_servers() {
    for number in 0..500 {
        let (request, container) = (format!("p{number}"), format!("c{number}"));
        let fixture = match number % 2 {
            0 => Fixture::panel_server().installed().wants_up(&request).container_running(&container, &request),
            _ => Fixture::panel_server()
                .installed()
                .wants_down(&request)
                .closed(&request, Reason::Stopped)
                .container_exited(&container, "p", 0),
        };
        let plan = fixture.plan();
        assert!(plan.steps.is_empty(), "{number}: {:?}", steps(&plan));
        assert_eq!(plan.requeue, None, "{number}: nothing happens, so nothing is done");
    }
}
