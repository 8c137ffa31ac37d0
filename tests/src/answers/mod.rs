//! What the outside sees (the contract's sections 1, 2, 4 and 5), as one suite for every way to run binplz: on one machine, and deployed.
//!
//! Each promise is a function over a [`Start`], named after what it promises. [`answer_promises!`](crate::answer_promises) names them
//! all, so that a new one reaches every way to run it. A promise starts a service of its own, whose builders really build.

#[expect(missing_docs, reason = "their names say what they promise")]
pub mod derivations;
#[expect(missing_docs, reason = "their names say what they promise")]
pub mod failing;
#[expect(missing_docs, reason = "their names say what they promise")]
pub mod granting;
#[expect(missing_docs, reason = "their names say what they promise")]
pub mod limits;
#[expect(missing_docs, reason = "their names say what they promise")]
pub mod logs;
#[expect(missing_docs, reason = "their names say what they promise")]
pub mod names;
#[expect(missing_docs, reason = "their names say what they promise")]
pub mod needs;
#[expect(missing_docs, reason = "their names say what they promise")]
pub mod operating;
#[expect(missing_docs, reason = "their names say what they promise")]
pub mod outputs;
#[expect(missing_docs, reason = "their names say what they promise")]
pub mod pages;
#[expect(missing_docs, reason = "their names say what they promise")]
pub mod refusing;
#[expect(missing_docs, reason = "their names say what they promise")]
pub mod saving;
#[expect(missing_docs, reason = "their names say what they promise")]
pub mod serving;
#[expect(missing_docs, reason = "their names say what they promise")]
pub mod storing;
#[expect(missing_docs, reason = "their names say what they promise")]
pub mod waiting;

use std::{ops::Deref, path::Path, process::Command, time::Duration};

use binplz_core::build::policy::{Names, Policy};

use crate::site::Site;

/// A way to run binplz.
pub trait Start {
    /// A service that runs, and ends when it is dropped.
    type Running: Running;

    /// A service whose only nixpkgs is `set`.
    fn start(&self, set: &Path, policy: &Policy) -> Self::Running;
}

/// A service that runs: what its clients see, what its operator does, and two things that neither sees.
pub trait Running: Deref<Target = Site> {
    /// `binplz` with these arguments, for its operator.
    fn operator(&self, arguments: &[&str]) -> Command;

    /// Whether its operator pays for builds.
    const PAID: bool;

    /// The lease's URL of every builder that was ever started.
    fn builders(&self) -> Vec<String>;

    /// The paths of all objects that builds have left, each with a URL that reads it.
    fn objects(&self) -> Vec<(String, String)>;
}

/// What the suite's services allow, unless a promise says otherwise: quick to try again, and without a catalogue, so that what is
/// promised of builds does not depend on when that is made. A lease outlives every pause that a loaded machine makes: a
/// builder that dies is the subject of other tests.
pub fn quick() -> Policy {
    Policy {
        names: Names::Attributes,
        lease: Duration::from_secs(600),
        first_delay: Duration::from_secs(1),
        slots: 4,
        ..Policy::default()
    }
}

/// Names every promise to `$each`, by the row of the contract that it keeps.
#[macro_export]
macro_rules! answer_promises {
    ($each:ident) => {
        // The binary is there: 302. HEAD; ranges; conditional requests. Many programs: 300.
        $each! { serving:
            a_hit_is_a_redirect_that_says_what_it_leads_to,
            a_hit_is_told_in_json_and_as_a_page_too,
            head_answers_like_get_and_starts_nothing,
            a_browser_that_looks_starts_nothing_and_its_button_does,
            no_request_that_another_sites_page_makes_starts_a_build,
            a_binary_can_be_asked_for_in_part_and_only_if_it_is_new,
            a_package_of_many_programs_without_a_main_one_answers_300_with_those_that_can_be_served;
        }
        // Each content is stored once.
        $each! { storing:
            three_hundred_names_of_a_program_are_one_object_and_each_name_works,
            a_download_is_saved_under_its_programs_name;
        }
        // Queued or building: 202. ?retry: 503. Section 3: ?wait.
        $each! { waiting:
            who_asks_while_it_builds_is_told_when_to_come_back,
            many_who_ask_at_once_get_one_build,
            one_command_waits_from_hop_to_hop_and_brings_the_binary,
            a_build_that_outlives_the_chain_ends_in_a_202_and_its_stub,
            where_nobody_may_wait_the_answer_is_a_202_at_once;
        }
        // Bad name, bad parameter, unserved commit: 400. No page: 404. No method: 405. Every answer has a request's id.
        $each! { refusing:
            what_is_no_request_is_told_which_part_of_it_and_why,
            hostile_targets_are_refused_and_no_builder_is_started_for_any_of_them;
        }
        // No package, no program: 404. No build here, not static, failed: 422. A failure that passes: 503.
        $each! { failing:
            a_permanent_failure_is_told_with_its_reason_and_never_tried_again,
            a_build_that_would_never_end_is_ended_and_told_with_its_reason,
            a_package_whose_main_program_is_missing_names_those_it_has,
            a_program_beside_a_script_is_served_and_the_script_is_not,
            a_passing_failure_is_tried_again_by_itself_then_cools_down,
            what_fails_twice_for_the_network_and_then_passes_takes_three_attempts_and_nobody,
            a_source_that_comes_back_turns_the_failure_into_a_hit;
        }
        // This client asked for too many: 429.
        $each! { limits:
            whatever_a_client_writes_into_its_headers_its_allowance_is_that_of_its_address;
        }
        // Section 6: an unchanged derivation costs no realisation.
        $each! { derivations:
            two_attributes_of_one_derivation_are_one_realisation_however_late_the_second_is_asked_for,
            each_attribute_of_a_derivation_has_its_own_main_program,
            a_failure_of_one_derivation_is_found_once_and_told_of_each_attribute_with_its_log,
            a_dependency_that_fails_is_built_twice_however_many_need_it;
        }
        // Section 1: a package is what Nix would install.
        $each! { outputs:
            an_attribute_is_served_from_the_outputs_that_nix_installs_and_by_name_from_all_others;
        }
        // Section 5: requirements.
        $each! { needs:
            a_need_is_said_in_the_header_the_status_the_pages_the_stub_the_installer_and_to_the_operator,
            a_wrapper_that_only_sets_variables_gives_way_to_its_program_and_any_other_is_refused,
            a_file_with_several_names_says_that_its_name_matters_unless_it_has_it;
        }
        // Section 1: what names mean.
        $each! { names:
            names_mean_what_the_contracts_order_says_and_nothing_is_built_to_find_out,
            a_program_is_served_by_its_own_name_and_says_of_which_package_it_is,
            until_there_is_a_catalogue_names_are_attributes_and_every_answer_says_so,
            an_open_service_tries_what_its_catalogue_does_not_know;
        }
        // Section 5: the log.
        $each! { logs:
            a_log_reads_on_when_it_is_over_and_is_one_gzip_file_then;
        }
        // Section 5, and the face of every answer for a browser and for a program.
        $each! { pages:
            every_page_is_also_json_and_text_and_lets_no_foreign_script_in,
            search_finds_packages_by_their_names_their_programs_and_their_descriptions,
            a_packages_page_has_all_there_is_to_say_on_it,
            builds_are_listed_by_how_they_stand,
            the_button_is_pressed_on_our_own_pages_only,
            what_pages_load_is_kept_for_ever_and_is_ours;
        }
        // Section 4: what was saved is never garbage.
        $each! { saving:
            what_was_saved_without_dash_l_before_the_build_waits_becomes_the_program_and_runs_it,
            piped_into_sh_it_saves_beside_us_and_overwrites_nothing,
            a_stub_of_a_failing_build_tells_the_reason_and_the_log_and_stays;
        }
    };
}

/// The same for what an operator does, and sees at once: lists, which may be late where reads are.
#[macro_export]
macro_rules! operator_promises {
    ($each:ident) => {
        // Section 5: the CLI. Taken down: 451.
        $each! { operating:
            every_verb_does_what_its_help_says,
            a_package_that_is_taken_down_is_told_so_to_everybody,
            what_the_month_has_cost_is_the_sum_of_what_its_builds_have_cost_and_what_was_served,
            in_a_terminal_an_operator_finds_why_builds_failed_has_them_all_tried_again_and_watches;
        }
        // An API key in place of an address: 429, 401. The budget is spent: 503.
        $each! { granting:
            a_key_is_told_once_has_its_own_allowance_and_counts_until_it_is_removed,
            when_the_budget_is_spent_hits_are_served_and_misses_told_the_date_until_it_is_raised;
        }
    };
}
