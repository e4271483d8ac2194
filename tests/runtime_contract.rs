//! The contract of `Runtime`: one suite for the runtime in memory and for Docker.
//!
//! Without an engine the Docker half fails; `ALULA_SKIP_DOCKER=1` skips it with a message. `DOCKER_HOST` names another engine than the
//! local one. `test.sh` runs the Docker half against Podman, too:
//!
//! ```sh
//! . deploy/lib.sh; with_podman cargo test --test runtime_contract in_docker
//! ```

#[path = "support/busybox.rs"]
mod busybox;
#[path = "runtime_contract/counters.rs"]
mod counters;
#[path = "runtime_contract/docker_harness.rs"]
mod docker_harness;
#[path = "runtime_contract/fake_harness.rs"]
mod fake_harness;
#[path = "runtime_contract/harness.rs"]
mod harness;
#[path = "runtime_contract/images.rs"]
mod images;
#[path = "runtime_contract/lifecycle.rs"]
mod lifecycle;
#[path = "runtime_contract/node.rs"]
mod node;
#[path = "runtime_contract/output.rs"]
mod output;

/// Makes each case a test against both runtimes.
macro_rules! contract {
    ($($module:ident: $($case:ident)+;)+) => {
        mod in_memory {
            $(mod $module {
                $(#[tokio::test(start_paused = true)]
                async fn $case() {
                    crate::fake_harness::run(async |harness| crate::$module::$case(harness).await).await;
                })+
            })+
        }

        mod in_docker {
            $(mod $module {
                $(#[tokio::test]
                async fn $case() {
                    crate::docker_harness::run(async |harness| crate::$module::$case(harness).await).await;
                })+
            })+
        }
    };
}

contract! {
    lifecycle:
        a_created_container_is_inspected
        an_ended_container_has_its_exit_status
        an_out_of_memory_kill_is_reported
        starting_a_running_container_changes_nothing
        a_frozen_container_answers_once_it_is_thawed
        an_ended_container_can_be_started_again
        signals_reach_the_process
        signalling_a_missing_container_succeeds
        a_signal_that_does_not_exist_is_rejected
        a_running_container_is_removed
        removing_a_missing_container_succeeds
        concurrent_removals_report_done_only_when_the_container_is_gone
        a_taken_name_is_rejected
        a_renamed_container_is_found_by_its_labels
        a_missing_image_is_rejected
        a_missing_mount_is_rejected
        a_bad_entrypoint_is_rejected_at_the_start
        a_taken_port_is_rejected_at_the_start
        starting_a_missing_container_fails
        limits_change_in_place;
    counters:
        the_counters_of_a_running_container_are_read
        both_sources_of_counters_agree
        changed_limits_are_read
        the_counters_of_a_container_end_with_it;
    output:
        an_attachment_has_output_and_input
        two_attachments_see_the_same
        an_attachment_leaves_an_ended_container_as_it_is
        output_ends_with_the_container
        output_ends_with_its_removal
        logs_are_read_completely_or_in_part
        logs_follow_until_the_end
        logs_of_an_ended_container_stay
        reading_from_a_missing_container_fails;
    images:
        a_local_image_is_prepared
        an_image_that_must_not_be_pulled_is_missing
        an_image_that_is_in_no_registry_is_missing
        an_invalid_reference_is_an_error_for_a_person
        a_prepared_image_is_resolved_to_its_id;
    node:
        events_name_server_and_role
        the_list_has_only_containers_of_the_node
        containers_without_our_labels_are_found_by_name
        the_containers_of_another_node_are_left_alone
        the_engine_describes_itself
        the_engine_measures_its_disk_usage
        a_network_is_created_once
        a_taken_subnet_is_replaced
        a_network_of_its_own_is_prepared_with_a_container
        the_network_of_a_server_is_removed_after_its_container
        a_missing_network_is_rejected_at_the_start;
}
