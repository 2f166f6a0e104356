//! Which test reaches which reason: each must be met by a packet somewhere.

use tidegate_dataplane::verdict::{DropReason, PassReason, RejectReason};

/// A reason, by verdict and name, and the test that reaches it, by file and function.
#[derive(Debug, Clone, Copy)]
pub struct Reached {
    /// `drop`, `reject` or `pass`.
    pub verdict: &'static str,
    /// The stable name.
    pub reason: &'static str,
    /// The test's file, below the repository's root.
    pub file: &'static str,
    /// The test.
    pub test: &'static str,
}

/// Reasons that no test reaches, with what it would take. A test that reaches one moves it to the
/// other table.
pub const NOT_REACHED: &[(&str, &str, &str)] = &[
    ("drop", "SERVICE_BACKEND_NOT_FOUND", "a set without backends, which cannot be made"),
    ("drop", "XSK_RX_RING_FULL", "a ring smaller than the fill ring, which has as many frames"),
];

const PARSE: &str = "dataplane/src/pipeline/parse.rs";
const PIPELINE: &str = "dataplane/src/pipeline/tests.rs";
const ADMISSION: &str = "dataplane/src/pipeline/tests/admission.rs";
const ANSWERS: &str = "dataplane/src/pipeline/tests/answers.rs";
const CUT: &str = "dataplane/src/pipeline/tests/cut.rs";
const FRAGMENTS: &str = "dataplane/src/pipeline/tests/fragments.rs";
const REASONS: &str = "dataplane/src/pipeline/tests/reasons.rs";
const ROWS: &str = "dataplane/src/pipeline/tests/rows.rs";
const LOSSES: &str = "tests/tests/netns_losses.rs";
const TRIALS: &str = "dataplane/tests/steering/trials.rs";

const fn drop(reason: &'static str, file: &'static str, test: &'static str) -> Reached {
    Reached { verdict: "drop", reason, file, test }
}

const fn reject(reason: &'static str, file: &'static str, test: &'static str) -> Reached {
    Reached { verdict: "reject", reason, file, test }
}

const fn pass(reason: &'static str, file: &'static str, test: &'static str) -> Reached {
    Reached { verdict: "pass", reason, file, test }
}

/// The table.
pub const REACHED: &[Reached] = &[
    drop(
        "FLOW_MAP_FULL",
        LOSSES,
        "a_new_flow_that_the_kernels_map_has_no_room_for_is_lost_by_name",
    ),
    drop("HAND_OFF_FULL", LOSSES, "what_a_worker_does_not_take_from_another_is_lost_by_name"),
    drop("XSK_RX_DROPPED", LOSSES, "what_comes_while_no_worker_reads_is_lost_by_name"),
    drop("PKT_TOO_SMALL", REASONS, "a_frame_that_ends_in_a_header_is_dropped_by_name"),
    drop("HDR_TRUNC", PARSE, "a_jumbogram_and_a_wrong_version_are_refused"),
    drop("IP_INHDR", PARSE, "a_source_route_is_refused_and_other_options_are_stepped_over"),
    drop("IPV6_BAD_EXTHDR", PARSE, "extension_headers_are_stepped_over_and_bad_ones_named"),
    drop(
        "FIRST_LOGICAL_DATAGRAM_FRAGMENT_NOT_FOUND",
        FRAGMENTS,
        "g10_what_follows_a_refused_first_is_dropped_by_name",
    ),
    drop("UDP_CSUM", PIPELINE, "ipv6_udp_without_a_checksum_is_dropped_by_name"),
    drop("TTL_EXCEEDED", ANSWERS, "answers_are_limited_together"),
    drop("INVALID_SOURCE_IP", PARSE, "martians_are_refused"),
    drop(
        "NO_LOCAL_ENDPOINTS",
        "tests/tests/netns_verdicts.rs",
        "without_endpoints_clients_are_refused_and_without_local_ones_left_alone",
    ),
    drop(
        "DENIED_BY_LB_SRC_RANGE_CHECK",
        ROWS,
        "f1_a_source_outside_the_ranges_is_dropped_in_silence",
    ),
    drop("FLOW_TABLE_FULL", PIPELINE, "a_full_table_of_established_flows_refuses_and_says_so"),
    drop(
        "EMBRYONIC_FLOWS_FULL",
        "dataplane/src/flow_table/expiry.rs",
        "handshakes_of_this_very_moment_do_not_give_way",
    ),
    drop(
        "NEW_FLOWS_LIMITED",
        ADMISSION,
        "more_new_flows_than_allowed_are_dropped_by_name_and_live_ones_go_on",
    ),
    drop("TCP_NOT_SYN", ADMISSION, "no_flow_is_picked_up_where_its_backend_is_not_certain"),
    drop(
        "FLOW_STATE_INVALID",
        PIPELINE,
        "a_packet_on_the_wrong_worker_is_handed_to_the_owner_and_only_once",
    ),
    drop("FAMILY_MISMATCH", PIPELINE, "a_front_and_a_backend_of_two_families_are_dropped_by_name"),
    drop(
        "SNAT_PORTS_EXHAUSTED",
        REASONS,
        "where_no_source_port_is_free_a_new_flow_is_dropped_by_name",
    ),
    drop("NO_SNAT_ADDRESS", PIPELINE, "a_masquerade_address_of_the_other_family_counts_as_none"),
    drop("IP_OUTNOROUTES", REASONS, "what_is_wrong_with_the_way_to_a_backend_is_told_by_name"),
    drop("NEIGH_FAILED", REASONS, "what_is_wrong_with_the_way_to_a_backend_is_told_by_name"),
    drop("PKT_TOO_BIG", CUT, "more_pieces_than_we_cut_are_dropped_by_name_and_unchanged"),
    drop(
        "FULL_RING",
        "dataplane/src/engine/tests/down.rs",
        "what_a_link_that_is_down_has_no_room_for_is_lost_by_name",
    ),
    drop(
        "NOMEM",
        "dataplane/src/pipeline/tests/syn_proxy/strays.rs",
        "where_the_answer_to_a_backend_has_no_room_its_packet_is_dropped_and_heard_next_time",
    ),
    drop("DEV_READY", REASONS, "a_reply_to_an_interface_that_is_gone_is_dropped_by_name"),
    drop("RATE_LIMITED", ANSWERS, "answers_are_limited_together"),
    drop("STALE_WORKER", TRIALS, "a_stale_workers_new_flows_pass_and_the_rest_is_dropped"),
    reject(
        "NO_ENDPOINTS",
        "tests/tests/netns_verdicts.rs",
        "without_endpoints_clients_are_refused_and_without_local_ones_left_alone",
    ),
    reject(
        "TCP_NOT_SYN",
        ADMISSION,
        "a_packet_from_the_midst_of_an_unknown_flow_is_answered_with_a_reset",
    ),
    reject(
        "SYN_COOKIE",
        "dataplane/src/pipeline/tests/syn_proxy.rs",
        "a_syn_is_answered_with_a_cookie_and_leaves_nothing_behind",
    ),
    reject(
        "TTL_EXCEEDED",
        ANSWERS,
        "a_used_up_ttl_is_answered_with_time_exceeded_in_both_directions",
    ),
    reject(
        "PKT_TOO_BIG",
        ANSWERS,
        "a_packet_larger_than_the_egress_mtu_tells_its_sender_in_both_directions",
    ),
    pass("NOT_IP", TRIALS, "near_misses_pass"),
    pass("NO_SERVICE", ROWS, "d7_a_cluster_ip_takes_no_fragment_from_outside"),
    pass("FRAGMENT", FRAGMENTS, "g10_a_datagram_for_the_kernel_returns_to_it_whole"),
    pass(
        "VLAN_TAGGED",
        "dataplane/tests/steering/trials/vlans.rs",
        "what_is_not_one_tag_before_ip_passes",
    ),
    pass("MALFORMED", TRIALS, "near_misses_pass"),
    pass("OTHERHOST", TRIALS, "frames_to_other_hosts_pass"),
    pass("DRAINING_FRONT", TRIALS, "a_draining_front_keeps_only_its_flows"),
    pass("FALLBACK", TRIALS, "a_stale_workers_new_flows_pass_and_the_rest_is_dropped"),
    pass("FRONT_GONE", PIPELINE, "packets_without_flow_or_front_go_to_the_kernel_untouched"),
    pass("TCP_NOT_SYN", PIPELINE, "a_syn_that_is_something_else_too_opens_no_flow"),
    pass(
        "LOCAL_BACKEND",
        "control/tests/compile/main.rs",
        "a_host_network_backend_leaves_the_front_to_the_kernel",
    ),
];

/// Every reason, by verdict and name, with its kind's and its next step's words.
pub fn all_reasons() -> Vec<(&'static str, &'static str, &'static str, &'static str)> {
    let drops = DropReason::ALL.iter();
    let rejects = RejectReason::ALL.iter();
    let passes = PassReason::ALL.iter();
    let drops = drops.map(|r| ("drop", r.name(), r.kind().name(), r.next_step()));
    let rejects = rejects.map(|r| ("reject", r.name(), r.kind().name(), r.next_step()));
    let passes = passes.map(|r| ("pass", r.name(), r.kind().name(), r.next_step()));
    drops.chain(rejects).chain(passes).collect()
}
