//! RFC 4301, sections 5 to 10: what becomes of packets.

use super::Shown::{By, NotApplicable};
use super::{Must, NO_IKE, must};

pub const MUSTS: &[Must] = &[
    must(
        4301,
        "5",
        "All traffic that crosses the boundary is looked up in the SPD or what is cached of it.",
        By(&[
            "datapath/src/tests.rs: rfc_4301_5_1_policy_decides_and_no_match_is_discard",
            "datapath/src/tests.rs: rfc_4301_5_2_what_comes_in_the_clear_passes_only_where_policy_says_bypass",
            "tests/devices/bypass.rs: rfc_4301_5_2_the_bypass_port_admits_only_what_policy_lets_by",
        ]),
    ),
    must(
        4301,
        "5.1",
        "Outbound: select the SPD entry, protect, bypass or discard; ask for an SA where there is none.",
        By(&[
            "datapath/src/tests.rs: rfc_4301_5_1_policy_decides_and_no_match_is_discard",
            "datapath/src/tests.rs: without_an_sa_one_acquire_is_sent_and_every_packet_is_counted",
            "datapath/src/tests/modes/policy.rs: rfc_4301_5_1_a_template_chooses_the_sa",
            "tests/devices/bypass.rs: rfc_4301_5_1_bypass_traffic_leaves_and_enters_by_the_bypass_port",
        ]),
    ),
    must(
        4301,
        "5.1",
        "What goes round for a second protection is let in again by an entry that bypasses.",
        NotApplicable("nothing goes round: SAs around others are applied in one pass, as a bundle"),
    ),
    must(
        4301,
        "5.1",
        "The PMTU of an SA is determined and enforced as section 8.2 says.",
        By(&[
            "datapath/src/pmtu/tests.rs: rfc_4301_8_2_a_narrower_path_is_found_and_inner_senders_hear_of_it",
            "datapath/src/tests/sizes.rs: t20_every_size_leaves_whole_or_in_pieces_or_its_sender_is_told",
        ]),
    ),
    must(
        4301,
        "5.1.2",
        "Tunnel headers are made of the inner ones as the table says, over all mixes of families.",
        By(&[
            "datapath/src/tests/modes.rs: rfc_4301_5_1_2_a_native_tunnel_has_an_outer_header_of_its_own",
            "datapath/src/tests/modes.rs: rfc_4301_4_1_every_mode_carrier_and_family_passes_unchanged",
            "datapath/src/outer.rs: t27_rfc_6040_4_1_the_whole_table_of_encapsulation",
            "datapath/src/native.rs: rfc_6438_labels_are_zero_the_inner_one_or_the_flows",
        ]),
    ),
    must(
        4301,
        "5.1.2.1",
        "A DSCP that does not fit the outer domain is mapped.",
        By(&["datapath/src/outer.rs: rfc_2983_dscp_is_copied_set_or_mapped"]),
    ),
    must(
        4301,
        "5.2",
        "Inbound: map to the SA, verify, decapsulate, check selectors, hand on.",
        By(&[
            "datapath/src/tests.rs: each_hostile_datagram_is_a_drop_of_its_own_name",
            "datapath/src/tests/modes.rs: rfc_4301_4_1_every_mode_carrier_and_family_passes_unchanged",
            "datapath/src/tests.rs: t15_an_inner_source_that_its_sa_does_not_admit_is_a_selector_mismatch",
            "tests/interop/numbers.rs: replays_are_refused_on_both_sides",
        ]),
    ),
    must(
        4301,
        "5.2",
        "Protected traffic that is for somebody else is no business of the SAD's; policy decides about it.",
        By(&["datapath/src/tests.rs: rfc_4301_5_2_protected_traffic_of_others_is_judged_by_policy"]),
    ),
    must(
        4301,
        "5.2",
        "What comes in the clear passes only where policy bypasses.",
        By(&[
            "datapath/src/tests.rs: rfc_4301_5_2_what_comes_in_the_clear_passes_only_where_policy_says_bypass",
            "tests/devices/bypass.rs: rfc_4301_5_2_the_bypass_port_admits_only_what_policy_lets_by",
        ]),
    ),
    must(
        4301,
        "5.2",
        "What does not fit the selectors of its SA is discarded, and that is auditable.",
        By(&[
            "datapath/src/tests.rs: t15_an_inner_source_that_its_sa_does_not_admit_is_a_selector_mismatch",
            "datapath/src/audit.rs: rfc_4301_5_2_rfc_4303_3_what_the_documents_call_auditable_is",
        ]),
    ),
    must(
        4301,
        "6",
        "ICMP messages that are no errors are accounted for by the SPD.",
        By(&[
            "datapath/src/packet.rs: rfc_4301_4_4_1_1_messages_show_their_type_and_code",
            "datapath/src/spd/tests.rs: t30_the_search_finds_what_a_look_at_each_rule_finds",
            "config/src/tests/refused/policies.rs: rfc_4301_4_4_1_1_icmp_messages_that_cannot_be_are_refused",
        ]),
    ),
    must(
        4301,
        "6.1.1",
        "The administrator says whether unauthenticated ICMP errors are heeded, by type (one type ever is: that which tells of a size).",
        By(&[
            "datapath/src/pmtu/tests.rs: rfc_8899_4_3_a_black_hole_is_found_only_where_time_is_reason_to_ask",
            "datapath/src/pmtu/tests.rs: rfc_4301_8_2_a_narrower_path_is_found_and_inner_senders_hear_of_it",
            "datapath/src/low/wire/report.rs: t18_errors_about_our_packets_are_hints",
        ]),
    ),
    must(
        4301,
        "6.1.2",
        "The administrator says which ICMP errors from the protected side the gateway itself heeds.",
        NotApplicable(
            "the gateway has no address on the protected side; what is told to a host there is in transit, and judged as that",
        ),
    ),
    must(
        4301,
        "6.2",
        "An inbound ICMP error that its SA does not admit passes only if the packet in it, reversed, is one of that SA's.",
        By(&[
            "datapath/src/quoted/tests.rs: t19_rfc_4301_6_2_a_peer_cannot_speak_of_connections_that_are_not_its_own",
            "datapath/src/quoted/tests.rs: t19_rfc_4301_6_2_errors_from_a_router_or_gateway_come_through_the_tunnel",
        ]),
    ),
    must(
        4301,
        "6.2",
        "An outbound ICMP error that no SA admits goes by the SA of the packet in it, reversed.",
        By(&[
            "datapath/src/quoted/tests.rs: t19_rfc_4301_6_2_errors_from_a_router_or_gateway_come_through_the_tunnel",
            "datapath/src/quoted/tests.rs: t19_rfc_4301_6_2_an_error_about_another_flow_is_not_sent",
        ]),
    ),
    must(
        4301,
        "7.1",
        "A tunnel SA without ports carries all fragments between its ranges.",
        By(&["datapath/src/fragments/tests.rs: t20_rfc_4301_7_fragments_in_any_order_pass_both_streets"]),
    ),
    must(
        4301,
        "7.2",
        "Later fragments of IPv4 with too small an offset are not passed.",
        By(&[
            "datapath/src/fragments/tests.rs: t20_rfc_5722_4_fragments_that_overlap_end_their_datagram",
            "datapath/src/fragments/pieces.rs: t20_rfc_5722_4_no_octet_passes_twice_and_a_contradiction_ends_the_datagram",
        ]),
    ),
    must(
        4301,
        "7.3",
        "On an SA with ports, later fragments pass only as part of a datagram whose first fragment the SA admits.",
        By(&[
            "datapath/src/fragments/tests.rs: t20_a_later_fragment_follows_its_first_under_the_same_class_for_a_while",
            "datapath/src/fragments/tests.rs: t20_a_first_fragment_that_is_not_admitted_takes_no_place",
            "datapath/src/fragments/tests.rs: t20_what_comes_before_its_first_waits_for_it",
        ]),
    ),
    must(
        4301,
        "7.2",
        "SAs for specific ports or types are for a specific protocol.",
        By(&[
            "config/src/tests/refused/sas.rs: rfc_4301_7_2_an_sa_for_certain_ports_is_for_a_protocol",
            "src/gateway/selectors.rs: rfc_4301_7_2_an_sa_for_certain_ports_is_for_a_protocol",
            "src/gateway/xfrm/rules.rs: rfc_4301_7_2_a_state_for_certain_ports_is_for_a_protocol",
        ]),
    ),
    must(
        4301,
        "7.3",
        "Later fragments that an SA with ports may not carry are discarded, and that is auditable.",
        By(&[
            "datapath/src/fragments/tests.rs: t20_what_waits_in_vain_is_a_drop",
            "datapath/src/audit.rs: rfc_4301_5_2_rfc_4303_3_what_the_documents_call_auditable_is",
        ]),
    ),
    must(4301, "7.3", "The peer is told by IKE that such fragments are sent.", NotApplicable(NO_IKE)),
    must(
        4301,
        "7.4",
        "Fragments can be discarded by policy (as part of the datagram that they are of), and those that bypass are checked with their state.",
        By(&[
            "datapath/src/fragments/tests.rs: rfc_4301_7_4_rules_about_ports_bypass_and_discard_fragments_as_their_datagram",
        ]),
    ),
    must(
        4301,
        "8.1",
        "DF of the outer header is set, cleared or copied, as each SA says.",
        By(&[
            "datapath/src/outer.rs: rfc_4301_8_1_df_is_copied_set_or_cleared",
            "datapath/src/tests/modes.rs: rfc_4301_8_1_the_outer_policy_shows",
        ]),
    ),
    must(
        4301,
        "8.2.1",
        "What exceeds the PMTU of its SA is answered, fragmented or dropped, as DF and family want it.",
        By(&[
            "datapath/src/tests/sizes.rs: t20_every_size_leaves_whole_or_in_pieces_or_its_sender_is_told",
            "datapath/src/tests.rs: rfc_4301_8_2_1_an_ipv4_packet_that_may_be_fragmented_is_and_each_fragment_is_sealed",
            "tests/devices/path_mtu.rs: rfc_4301_8_2_1_tcp_finds_its_way_over_a_path_smaller_than_the_tun",
        ]),
    ),
    must(
        4301,
        "8.2.2",
        "The PMTU of an SA ages.",
        By(&[
            "datapath/src/pmtu/tests.rs: rfc_8899_5_1_1_a_path_that_widens_is_used_again",
            "datapath/src/pmtu/search.rs: rfc_8899_5_1_1_a_path_that_widens_is_used_ten_minutes_later",
        ]),
    ),
    must(
        4301,
        "10",
        "Both families comply.",
        By(&[
            "datapath/src/tests/modes.rs: rfc_4301_4_1_every_mode_carrier_and_family_passes_unchanged",
            "datapath/src/tests.rs: rfc_4303_3_1_2_both_families_pass_the_tunnel_unchanged_and_unreadable",
            "tests/interop/kernel.rs: tunnels_over_udp",
        ]),
    ),
    must(
        4301,
        "D.4",
        "Fragments that bypass or are discarded by ports are judged as their datagram is.",
        By(&[
            "datapath/src/fragments/tests.rs: rfc_4301_7_4_rules_about_ports_bypass_and_discard_fragments_as_their_datagram",
        ]),
    ),
];
