//! RFC 4301, sections 3 and 4: SAs and the databases.

use super::Shown::{By, NotApplicable};
use super::{Must, NO_IKE, UNICAST, must};

pub const MUSTS: &[Must] = &[
    must(
        4301,
        "3.1",
        "Gateways protect paths between gateways, between hosts, and between a host and a gateway.",
        By(&[
            "datapath/src/tests/modes.rs: rfc_4301_4_1_every_mode_carrier_and_family_passes_unchanged",
            "tests/interop/kernel.rs: native_tunnels",
            "tests/daemon/exec.rs: a_program_behind_the_gateway_is_protected_or_dropped",
        ]),
    ),
    must(
        4301,
        "3.2",
        "ESP is supported (AH may be, and is).",
        By(&[
            "datapath/src/tests/modes.rs: every_suite_passes_in_every_mode",
            "tests/interop/kernel.rs: tunnels_over_udp",
        ]),
    ),
    must(
        4301,
        "4",
        "Protection is by SAs, each of one direction and one protocol.",
        By(&[
            "esp/src/tests/ah.rs: an_sa_of_one_protocol_does_nothing_of_the_other",
            "datapath/src/tests/modes.rs: every_suite_passes_in_every_mode",
        ]),
    ),
    must(
        4301,
        "4.1",
        "Inbound unicast traffic is mapped to its SA by SPI, here with the protocol.",
        By(&["datapath/src/sad/tests.rs: t31_spis_of_esp_and_ah_are_spaces_of_their_own"]),
    ),
    must(
        4301,
        "4.1",
        "Multicast SAs are told apart by the longest match of addresses, and an SA says which of them count.",
        NotApplicable(UNICAST),
    ),
    must(
        4301,
        "4.1",
        "Several SAs between two ends may have the same selectors, and the receiver treats their packets alike.",
        By(&[
            "datapath/src/tests.rs: r_2_a_rekey_changes_spis_and_loses_nothing",
            "tests/two_gateways/rekey.rs: r_2_t14_rekeying_in_mid_traffic_drops_nothing_and_moves_no_latch",
        ]),
    ),
    must(
        4301,
        "4.1",
        "DSCP is not checked when a packet is validated.",
        By(&[
            "datapath/src/tests/modes/authenticated.rs: t22_rfc_4302_3_3_3_what_routers_change_passes_and_nothing_else",
            "datapath/src/tests/modes.rs: t27_ecn_and_dscp_go_out_and_come_back",
        ]),
    ),
    must(
        4301,
        "4.1",
        "In transport mode the protocol's header stands before the next layer; AH covers the header before it, too.",
        By(&[
            "datapath/src/transport.rs: t21_rfc_4303_3_1_1_protection_stands_behind_what_is_read_on_the_way",
            "datapath/src/tests/modes.rs: t21_rfc_4303_3_1_1_headers_stay_where_they_belong",
            "esp/src/tests/ah.rs: every_bit_matters_but_those_that_routers_change",
        ]),
    ),
    must(
        4301,
        "4.1",
        "Gateways use tunnel mode but for traffic that ends at the SA's ends.",
        By(&[
            "datapath/src/tests/modes.rs: rfc_4301_4_1_transport_mode_is_between_its_ends_only",
            "config/src/tests/refused/shapes.rs: rfc_4301_4_1_transport_mode_is_between_its_ends_alone",
        ]),
    ),
    must(
        4301,
        "4.1",
        "Tunnel mode is supported; hosts support transport mode as well.",
        By(&[
            "datapath/src/tests/modes.rs: rfc_4301_4_1_every_mode_carrier_and_family_passes_unchanged",
            "datapath/src/tests/modes.rs: every_suite_passes_in_every_mode",
        ]),
    ),
    must(
        4301,
        "4.2",
        "No SA of ESP has neither encryption nor integrity.",
        By(&[
            "esp/src/suite/tests.rs: every_suite_has_integrity",
            "xfrm/src/tests/suites.rs: t26_what_does_not_protect_is_refused_by_name",
        ]),
    ),
    must(
        4301,
        "4.4.1",
        "There is an SPD, ordered by whoever administers it, with PROTECT, BYPASS and DISCARD.",
        By(&[
            "datapath/src/spd/tests.rs: rfc_4301_4_4_1_the_first_matching_rule_decides_and_no_match_is_discard",
            "datapath/src/tests.rs: rfc_4301_5_1_policy_decides_and_no_match_is_discard",
            "src/gateway/state/tests.rs: rfc_4301_4_4_1_rules_made_by_hand_stand_before_the_configurations_in_the_order_asked_for",
        ]),
    ),
    must(
        4301,
        "4.4.1",
        "Of several SPDs one is selected by an explicit function.",
        NotApplicable("there is one SPD"),
    ),
    must(
        4301,
        "4.4.1",
        "What no entry matches is discarded, in both directions.",
        By(&[
            "datapath/src/tests.rs: rfc_4301_5_1_policy_decides_and_no_match_is_discard",
            "datapath/src/tests.rs: rfc_4301_5_2_what_comes_in_the_clear_passes_only_where_policy_says_bypass",
            "datapath/src/spd/tests.rs: rfc_4301_4_4_1_the_first_matching_rule_decides_and_no_match_is_discard",
        ]),
    ),
    must(
        4301,
        "4.4.1",
        "There is an interface by which the SPD is managed: entries of all selectors, in a total order.",
        By(&[
            "src/gateway/state/tests.rs: rfc_4301_4_4_1_rules_made_by_hand_stand_before_the_configurations_in_the_order_asked_for",
            "keying/src/tests/policy.rs: rules_made_by_hand_come_first_and_a_reload_leaves_them",
            "config/src/tests/accepted.rs: selectors_are_lists_of_ranges",
            "src/cli/change.rs: a_rule_comes_from_flags",
        ]),
    ),
    must(
        4301,
        "4.4.1",
        "The administrator says whether applications may override policy.",
        By(&[
            "keying/src/tests/latching/errors.rs: l_34_to_l_36_l_111_to_l_114_policy_and_privilege_decide_what_may_be_asked",
        ]),
    ),
    must(
        4301,
        "4.4.1",
        "Entries derived from one ordered entry are linked together.",
        NotApplicable("the SPD stays ordered; no entry is taken apart"),
    ),
    must(
        4301,
        "4.4.1",
        "Inbound traffic of an SA is checked against the policy.",
        By(&[
            "datapath/src/tests.rs: t15_an_inner_source_that_its_sa_does_not_admit_is_a_selector_mismatch",
            "datapath/src/tests/modes/policy.rs: rfc_4301_5_2_what_arrives_protected_is_what_policy_says",
        ]),
    ),
    must(
        4301,
        "4.4.1.1",
        "Selectors: local and remote address ranges of both families.",
        By(&[
            "datapath/src/selector.rs: rfc_4301_4_4_1_1_every_member_must_match",
            "datapath/src/selector.rs: ranges_keep_to_their_family",
            "config/src/tests/accepted.rs: selectors_are_lists_of_ranges",
        ]),
    ),
    must(
        4301,
        "4.4.1.1",
        "Selectors: next layer protocol, or ANY.",
        By(&[
            "datapath/src/selector.rs: rfc_4301_4_4_1_1_every_member_must_match",
            "datapath/src/spd/tests.rs: t30_the_search_finds_what_a_look_at_each_rule_finds",
        ]),
    ),
    must(
        4301,
        "4.4.1.1",
        "Selectors: local and remote port ranges; a fragment without ports matches no others than ANY.",
        By(&[
            "datapath/src/selector.rs: rfc_4301_4_4_1_1_every_member_must_match",
            "datapath/src/selector.rs: rfc_4301_4_4_1_1_a_port_matches_only_flows_that_have_ports",
            "datapath/src/fragments/tests.rs: t20_a_later_fragment_follows_its_first_under_the_same_class_for_a_while",
        ]),
    ),
    must(
        4301,
        "4.4.1.1",
        "OPAQUE can be asked for where ports or types cannot be seen.",
        By(&[
            "datapath/src/selector.rs: rfc_4301_4_4_1_opaque_matches_what_cannot_be_seen_and_only_that",
            "datapath/src/selector.rs: rfc_4301_4_4_1_an_opaque_message_is_that_of_what_shows_no_type",
            "datapath/src/spd/tests.rs: t30_the_search_finds_what_a_look_at_each_rule_finds",
            "datapath/src/tests/modes/policy.rs: rfc_4301_7_2_later_fragments_may_come_by_an_sa_of_opaque_ports",
            "config/src/tests/accepted.rs: rfc_4301_4_4_1_opaque_is_a_word_for_what_cannot_be_seen",
            "tests/daemon/selectors.rs: rfc_4301_4_4_1_a_rule_by_hand_tells_icmp_messages_and_what_cannot_be_seen",
        ]),
    ),
    must(
        4301,
        "4.4.1.1",
        "OPAQUE can be asked for where the protocol of an IPv6 packet cannot be seen.",
        NotApplicable(
            "no such packet comes to policy: a first fragment that does not show its protocol is dropped, as RFC 7112 has it, and a later one goes by its first",
        ),
    ),
    must(
        4301,
        "4.4.1.1",
        "Selectors: ranges of ICMP type and code.",
        By(&[
            "datapath/src/selector/icmp.rs: rfc_4301_4_4_1_1_type_and_code_are_one_number",
            "datapath/src/spd/tests.rs: t30_the_search_finds_what_a_look_at_each_rule_finds",
            "config/src/tests/refused/policies.rs: rfc_4301_4_4_1_1_icmp_messages_that_cannot_be_are_refused",
        ]),
    ),
    must(
        4301,
        "4.4.1.1",
        "Selectors: types of Mobility Header messages.",
        By(&[
            "datapath/src/packet.rs: rfc_4301_4_4_1_1_messages_show_their_type_and_code",
            "datapath/src/spd/tests.rs: t30_the_search_finds_what_a_look_at_each_rule_finds",
        ]),
    ),
    must(
        4301,
        "4.4.1.1",
        "Selectors: names, for peers whose addresses are not known before.",
        By(&[
            "config/src/tests/accepted.rs: rfc_4301_4_4_3_1_peers_are_of_every_type_the_special_before_the_general",
            "keying/src/tests/propose.rs: rfc_4301_4_4_3_3_a_peer_claims_no_address_outside_its_ranges",
        ]),
    ),
    must(
        4301,
        "4.4.2",
        "An inbound SA has the selectors that it was made with, and what it carries is checked against them.",
        By(&[
            "datapath/src/tests.rs: t15_an_inner_source_that_its_sa_does_not_admit_is_a_selector_mismatch",
            "keying/src/tests/propose.rs: l_73_a_proposal_that_exceeds_its_ranges_is_narrowed_where_that_is_allowed_and_refused_where_not",
        ]),
    ),
    must(
        4301,
        "4.4.2.1",
        "An SA has: SPI, counter and overflow flag, window, keys and algorithms, lifetime, mode, DF handling, PMTU, DSCP, ends.",
        By(&[
            "config/src/tests/accepted.rs: sas_say_everything_else_themselves",
            "datapath/src/pmtu/tests.rs: rfc_4301_8_2_a_narrower_path_is_found_and_inner_senders_hear_of_it",
            "datapath/src/outer.rs: rfc_2983_dscp_is_copied_set_or_mapped",
            "datapath/src/tests/modes.rs: rfc_4301_8_1_the_outer_policy_shows",
            "datapath/src/sad/tests.rs: a_revision_keeps_numbers_window_and_use",
        ]),
    ),
    must(
        4301,
        "4.4.2.1",
        "Lifetimes by octets and by time, both at once, the first to expire counts.",
        By(&[
            "datapath/src/lifetime.rs: rfc_4301_4_4_2_1_each_hard_limit_ends_the_sa_for_good_and_not_one_packet_late",
            "datapath/src/lifetime.rs: t36_of_two_times_the_one_that_is_over_first_ends_the_sa",
            "datapath/src/tests/ends.rs: rfc_4301_4_4_2_1_after_hard_expiry_every_packet_is_dropped_by_that_name_and_told_once",
            "tests/interop/numbers.rs: hard_lifetimes_end_on_both_sides",
        ]),
    ),
    must(
        4301,
        "4.4.2.1",
        "The counters at the two ends of an SA may differ.",
        By(&["datapath/src/tests/ends.rs: rfc_4301_4_4_2_1_the_ends_of_an_sa_may_count_differently"]),
    ),
    must(
        4301,
        "4.4.3.1",
        "The PAD matches names by subtree, addresses by range, key ids exactly.",
        By(&[
            "keying/src/tests/identity.rs: rfc_4301_4_4_3_the_first_of_ten_thousand_entries_that_matches_is_found",
            "config/src/tests/accepted.rs: rfc_4301_4_4_3_1_peers_are_of_every_type_the_special_before_the_general",
            "tagging/src/pattern.rs: rfc_4301_4_4_3_1_each_type_matches_what_it_says_and_no_near_miss",
        ]),
    ),
    must(
        4301,
        "4.4.3.2",
        "The PAD can demand that the asserted identity is the certificate's (here it always does).",
        By(&[
            "keying/src/tests/identity.rs: rfc_5280_4_2_1_6_a_certificate_names_its_subject_and_what_is_beside_it",
            "keying/src/tests/identity.rs: l_29_each_method_comes_with_its_evidence_and_no_other",
        ]),
    ),
    must(
        4301,
        "4.4.3.3",
        "The PAD says which ranges of both families a peer may claim.",
        By(&[
            "keying/src/tests/propose.rs: rfc_4301_4_4_3_3_a_peer_claims_no_address_outside_its_ranges",
            "keying/src/tests/propose.rs: l_73_narrowing_keeps_to_the_family_and_drops_what_lies_wholly_outside",
        ]),
    ),
    must(
        4301,
        "4.5",
        "Manual keys are supported.",
        By(&[
            "tests/daemon/documented.rs: the_ten_lines_of_the_documentation_are_a_tunnel",
            "tests/gateway.rs: two_gateways_move_packets_on_either_tun_backend",
        ]),
    ),
    must(4301, "4.5", "Automated key management is supported.", NotApplicable(NO_IKE)),
    must(
        4301,
        "4.5.2",
        "Of one string of key material, encryption keys come first and integrity keys after them.",
        By(&[
            "esp/src/key.rs: encryption_key_salt_and_integrity_key_stand_in_this_order",
            "xfrm/src/tests/suites.rs: the_encryption_key_comes_first_and_a_short_hmac_key_is_filled_up",
        ]),
    ),
    must(
        4301,
        "4.5.3",
        "Which gateway serves which destination, and whether it may, is configured.",
        By(&[
            "config/src/tests/accepted.rs: ten_lines_are_a_tunnel",
            "config/src/tests/refused.rs: t15_overlapping_ranges_of_peers_are_refused",
            "keying/src/tests/propose.rs: rfc_4301_4_4_3_3_a_peer_claims_no_address_outside_its_ranges",
        ]),
    ),
];
