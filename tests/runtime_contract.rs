//! The contract of `Runtime`: one suite, run against the runtime in memory always, and against Docker where an
//! engine answers.
//!
//! Without an engine the Docker half fails; `ALULA_SKIP_DOCKER=1` leaves it out, and says so.

#[path = "runtime_contract/bench.rs"]
mod bench;
#[path = "runtime_contract/docker_bench.rs"]
mod docker_bench;
#[path = "runtime_contract/fake_bench.rs"]
mod fake_bench;
#[path = "runtime_contract/images.rs"]
mod images;
#[path = "runtime_contract/life.rs"]
mod life;
#[path = "runtime_contract/output.rs"]
mod output;
#[path = "runtime_contract/whole_node.rs"]
mod whole_node;

/// Makes each case a test against both runtimes.
macro_rules! contract {
    ($($module:ident: $($case:ident)+;)+) => {
        mod in_memory {
            $(mod $module {
                $(#[tokio::test(start_paused = true)]
                async fn $case() {
                    crate::fake_bench::run(async |bench| crate::$module::$case(bench).await).await;
                })+
            })+
        }

        mod in_docker {
            $(mod $module {
                $(#[tokio::test]
                async fn $case() {
                    crate::docker_bench::run(async |bench| crate::$module::$case(bench).await).await;
                })+
            })+
        }
    };
}

contract! {
    life:
        what_is_made_is_seen
        an_end_is_seen_with_its_status
        an_end_for_want_of_memory_is_seen
        starting_what_runs_changes_nothing
        what_has_ended_can_be_started_again
        signals_reach_the_process
        signalling_what_is_not_there_is_fine
        a_signal_that_does_not_exist_is_rejected
        a_running_container_is_removed
        removing_what_is_not_there_is_fine
        of_removals_at_once_one_is_done_and_others_say_no_more_than_is_so
        a_taken_name_is_rejected
        a_missing_image_is_rejected
        a_missing_mount_is_rejected
        a_bad_entrypoint_is_rejected_at_the_start
        a_taken_port_is_rejected_at_the_start
        starting_what_is_not_there_fails
        limits_change_in_place;
    output:
        an_attachment_shows_output_and_takes_input
        two_attachments_see_the_same
        output_ends_with_the_container
        output_ends_with_its_removal
        logs_are_read_whole_or_in_part
        logs_follow_until_the_end
        logs_of_an_ended_container_stay
        nothing_is_read_from_what_is_not_there;
    images:
        what_is_there_is_prepared
        an_image_that_is_not_to_be_pulled_is_missing
        an_image_that_no_registry_has_is_missing
        a_reference_that_is_none_is_for_a_person
        what_is_prepared_is_known_by_its_id;
    whole_node:
        events_name_server_and_role
        the_list_shows_ours_alone
        containers_without_our_labels_are_found_by_name
        the_engine_tells_about_itself
        a_network_is_made_once
        a_subnet_that_is_taken_gives_way
        a_network_of_its_own_is_prepared_with_a_container
        a_missing_network_is_rejected_at_the_start;
}
