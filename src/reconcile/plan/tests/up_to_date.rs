//! What the next start of a running server changes.

use super::display::{seconds, table};
use super::fixture::{Fixture, at, container};
use crate::model::settings::UnenforcedLimit;
use crate::model::{ConditionStatus, ConditionType, DigestKey, Fields, Reason};
use crate::reconcile::plan::{Plan, Verdict};

fn fields(key: &str, values: &[(&str, &str)]) -> Fields {
    let key = DigestKey::new(key.into());
    let mut fields = Fields::new(&key);
    values.iter().for_each(|(path, value)| fields.add(&key, *path, value));
    fields
}

/// A server that runs with `created`, whose manifest is `wanted` now.
fn running(created: Option<Fields>, image: &str, wanted: Fields) -> Fixture {
    Fixture::panel_server().installed().container_running("c1", "p1").wants_up("p1").serving("c1", "p1").with(
        |fixture| {
            let server = fixture.observed.server.as_mut().unwrap();
            (server.fields, server.image) = (created, Some(image.into()));
            let container = fixture.observed.wanted.as_mut().unwrap();
            (container.fields, container.image, container.spec_hash) = (wanted, "game:2".into(), None);
        },
    )
}

fn verdict(plan: &Plan, kind: ConditionType) -> &Verdict {
    plan.conditions.iter().find(|verdict| verdict.kind == kind).unwrap()
}

#[test]
fn changed_fields_are_named_and_nothing_is_done() {
    let values = |image, player| fields("k", &[("container.image", image), ("environment.MAX_PLAYERS", player)]);
    let plan = running(Some(values("game:1", "5")), "game:1", values("game:2", "6")).plan();
    let condition = verdict(&plan, ConditionType::UpToDate);
    assert_eq!((condition.status, condition.reason), (ConditionStatus::False, Reason::RestartRequired));
    let message = "the next start changes spec.settings.container.image from game:1 to game:2, \
                   spec.settings.environment.MAX_PLAYERS; restart the server to apply it: \
                   `alula power restart 550e8400-e29b-41d4-a716-446655440000`";
    assert_eq!(condition.message, message);
    assert_eq!(plan.steps, []);
    assert_eq!(verdict(&plan, ConditionType::Ready).status, ConditionStatus::True, "it runs as it was started");
    let same = values("game:2", "5");
    let plan = running(Some(same.clone()), "game:2", same).plan();
    let condition = verdict(&plan, ConditionType::UpToDate);
    assert_eq!((condition.status, condition.reason), (ConditionStatus::True, Reason::Current));
}

#[test]
fn a_container_without_comparable_fields_is_compared_by_its_image() {
    let wanted = || fields("k", &[("invocation", "new")]);
    for created in [None, Some(fields("lost", &[("invocation", "old")]))] {
        let plan = running(created.clone(), "game:1", wanted()).plan();
        let message = &verdict(&plan, ConditionType::UpToDate).message;
        assert!(message.starts_with("the next start changes spec.settings.container.image from game:1 to game:2; "));
        let plan = running(created, "game:2", wanted()).plan();
        assert_eq!(verdict(&plan, ConditionType::UpToDate).reason, Reason::Current);
    }
}

#[test]
fn a_message_names_so_many_fields_and_no_more() {
    let names: Vec<String> = (0..100).map(|number| format!("environment.V{number:03}")).collect();
    let values: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
    let plan = running(Some(fields("k", &[])), "game:2", fields("k", &values)).plan();
    let message = &verdict(&plan, ConditionType::UpToDate).message;
    assert!(message.contains("V019 and 80 more; restart"), "{message}");
}

#[test]
fn a_server_that_does_not_run_is_neither() {
    for fixture in [
        Fixture::panel_server().installed(),
        Fixture::panel_server().installed().container(container("c1", Some("p1"))),
        Fixture::panel_server().installed().container_exited("c1", "p1", 0),
    ] {
        let plan = fixture.plan();
        assert!(plan.conditions.iter().all(|verdict| verdict.kind != ConditionType::UpToDate));
    }
}

/// A server whose start-up has a boost of CPU time began to run so many seconds ago.
fn boosted(seconds_ago: i64, limits: &str) -> Fixture {
    let fixture = Fixture::panel_server().installed().wants_up("p1").container_running("c1", "p1");
    fixture.with(|fixture| {
        fixture.record.power.started = None;
        fixture.observed.wanted.as_mut().unwrap().start_limits_hash = Some("boost".into());
        let server = fixture.observed.server.as_mut().unwrap();
        (server.started_at, server.limits_hash) = (Some(at(-seconds_ago)), Some(limits.into()));
    })
}

#[test]
fn a_server_has_the_limits_of_its_start_up_until_it_has_finished_or_takes_long() {
    let update: &[&str] = &["UpdateLimits c1"];
    table(&[
        ("at the start", boosted(5, "boost"), &[]),
        ("finished", boosted(5, "boost").started("c1"), update),
        ("finished, and updated", boosted(5, "limits").started("c1"), &[]),
        ("it never finishes", boosted(120, "boost"), update),
        ("the boost was added while it starts", boosted(5, "limits"), update),
    ]);
    assert_eq!(seconds(boosted(5, "boost").plan().requeue), Some(115));
}

#[test]
fn limits_that_the_host_does_not_enforce_are_named_while_the_server_runs() {
    let plan = |unenforced: &[UnenforcedLimit]| {
        running(None, "game:2", Fields::default())
            .with(|fixture| fixture.observed.wanted.as_mut().unwrap().unenforced = unenforced.to_vec())
            .plan()
    };
    let with = plan(&[UnenforcedLimit::OomKiller, UnenforcedLimit::Swap]);
    let condition = verdict(&with, ConditionType::LimitsEnforced);
    assert_eq!((condition.status, condition.reason), (ConditionStatus::False, Reason::NotSupported));
    assert!(condition.message.starts_with("this host does not enforce oom_killer: false ("), "{}", condition.message);
    assert!(condition.message.contains("), swap ("), "{}", condition.message);
    assert_eq!(verdict(&with, ConditionType::Ready).status, ConditionStatus::True, "it runs as well as it can");
    assert!(!plan(&[]).conditions.iter().any(|verdict| verdict.kind == ConditionType::LimitsEnforced));
}
