//! The activity log is sent to the panel, and a condition of the node says how that goes.

use std::sync::Arc;

use crate::activity::Delivery;
use crate::model::NodeConditionType;
use crate::reconcile::context::Context;

/// Sends the activity log until the task is dropped.
pub async fn send(context: Arc<Context>) {
    let conditions = context.node.conditions.clone();
    let note = move |delivery| match delivery {
        Delivery::Sent => conditions.met(NodeConditionType::ActivitySent),
        Delivery::Failed(error) => {
            let message = format!("{error}; entries are kept on disk and sent again");
            conditions.unmet(NodeConditionType::ActivitySent, message);
        }
    };
    context.activity.clone().send(note).await;
}
