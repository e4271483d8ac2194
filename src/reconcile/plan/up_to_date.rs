//! Whether a running server has the values of its manifest, or gets them at its next start, and whether its limits are enforced.

use super::Planner;
use crate::model::fields::RESOURCES;
use crate::model::{ConditionType, ContainerStatus, Manifest, Reason, image};
use crate::reconcile::observed::WantedContainer;

/// Maximum number of fields that a message names.
const MAX_FIELDS: usize = 20;

impl Planner<'_> {
    /// Compares the container that runs with the one that the next start creates. Limits are changed in place, see
    /// [`Planner::plan_limits`].
    pub(super) fn compare_fields(&mut self, manifest: &Manifest) {
        let Some(server) = self.observed.server.as_ref().filter(|server| server.running()) else { return };
        let Some(wanted) = &self.observed.wanted else { return };
        let changes = changes(server, wanted);
        if changes.is_empty() {
            self.set_true(
                ConditionType::UpToDate,
                Reason::Current,
                "the running server has the values of its manifest",
            );
            return;
        }
        let more = changes.len().saturating_sub(MAX_FIELDS);
        let mut list = changes[..changes.len() - more].join(", ");
        if more > 0 {
            list.push_str(&format!(" and {more} more"));
        }
        let restart = format!("`alula power restart {}`", manifest.metadata.uuid);
        let message = format!("the next start changes {list}; restart the server to apply it: {restart}");
        self.set_false(ConditionType::UpToDate, Reason::RestartRequired, message);
    }

    /// Names the limits of a running server that the kernel of its host does not enforce.
    pub(super) fn compare_limits(&mut self) {
        let unenforced = self.observed.wanted.as_ref().map(|wanted| wanted.unenforced.as_slice()).unwrap_or_default();
        let running = self.observed.server.as_ref().is_some_and(ContainerStatus::running);
        if !running || unenforced.is_empty() {
            return;
        }
        let list: Vec<String> = unenforced.iter().map(ToString::to_string).collect();
        let message = format!("this host does not enforce {}", list.join(", "));
        self.set_false(ConditionType::LimitsEnforced, Reason::NotSupported, message);
    }
}

/// What differs, by the path in the manifest. A container of another daemon or of an earlier release is compared by its image.
fn changes(server: &ContainerStatus, wanted: &WantedContainer) -> Vec<String> {
    let path = |field: &str| match field.starts_with(RESOURCES) {
        true => format!("spec.{field}"),
        false => format!("spec.settings.{field}"),
    };
    let changed_image = || match &server.image {
        Some(found) if !image::is_same(found, &wanted.image) => {
            Some(format!("{} from {found} to {}", path("container.image"), wanted.image))
        }
        _ => None,
    };
    match server.fields.as_ref().and_then(|fields| fields.changes_to(&wanted.fields)) {
        None => changed_image().into_iter().collect(),
        Some(fields) => {
            let text = |field: &str| match field {
                "container.image" => changed_image().unwrap_or_else(|| path(field)),
                field => path(field),
            };
            fields.into_iter().map(text).collect()
        }
    }
}
