//! RFC 4303: ESP.

use super::Shown::{By, NotApplicable};
use super::{Must, UNICAST, must};

pub const MUSTS: &[Must] = &[
    must(
        4303,
        "1",
        "Integrity alone can be chosen, and confidentiality with integrity.",
        By(&[
            "esp/src/suite/tests.rs: every_suite_has_integrity",
            "datapath/src/tests/modes.rs: every_suite_passes_in_every_mode",
            "tests/interop/scapy.rs: esp_is_what_scapy_takes_it_for",
        ]),
    ),
    must(
        4303,
        "2",
        "The header before ESP says 50.",
        By(&[
            "datapath/src/tests/modes.rs: rfc_4301_5_1_2_a_native_tunnel_has_an_outer_header_of_its_own",
            "datapath/src/tests/modes/authenticated.rs: rfc_4301_4_3_a_bundle_passes_and_shows_ah_outside",
        ]),
    ),
    must(
        4303,
        "2",
        "Where versions of ESP could be mixed up, the two ends agree by signalling or configuration.",
        NotApplicable(
            "there is one version, that of RFC 4303; what it added (extended numbers, TFC padding) is configured on each SA",
        ),
    ),
    must(
        4303,
        "2.1",
        "Inbound traffic is mapped to its SA by SPI, here with the protocol.",
        By(&["datapath/src/sad/tests.rs: t31_spis_of_esp_and_ah_are_spaces_of_their_own"]),
    ),
    must(
        4303,
        "2.1",
        "Multicast SAs are told apart by the longest match of addresses.",
        NotApplicable(UNICAST),
    ),
    must(
        4303,
        "2.1",
        "SPI 0 is never sent; 1 to 255 are no SA's.",
        By(&[
            "esp/src/number.rs: spi_zero_cannot_exist_and_the_first_255_are_reserved",
            "esp/src/header.rs: spi_0_to_255_are_refused_each_with_its_reason",
            "keying/src/tests/install.rs: t31_reserved_duplicate_and_resting_spis_are_refused",
        ]),
    ),
    must(
        4303,
        "2.2",
        "The sequence number is always there and grows by one with each packet.",
        By(&[
            "esp/src/sequence.rs: the_first_number_is_one",
            "esp/src/tests/packets.rs: header_and_iv_carry_the_number",
            "tests/interop/scapy.rs: esp_is_what_scapy_takes_it_for",
        ]),
    ),
    must(
        4303,
        "2.2",
        "No number is used twice: the SA ends before the 2^32nd packet.",
        By(&[
            "esp/src/sequence.rs: no_number_beyond_the_limit",
            "esp/src/sequence.rs: exhaustion_is_told_from_numbers_that_are_not_reserved",
            "datapath/src/tests/ends.rs: rfc_4303_3_3_3_a_32_bit_sa_never_wraps",
            "tests/interop/numbers.rs: the_kernels_numbers_end",
        ]),
    ),
    must(
        4303,
        "2.2.1",
        "The use of extended numbers is agreed upon.",
        By(&[
            "config/src/tests/accepted.rs: sas_say_everything_else_themselves",
            "esp/src/tests/numbers.rs: the_width_of_numbers_is_authenticated",
        ]),
    ),
    must(
        4303,
        "2.3",
        "The next layer begins at a multiple of 4 octets over IPv4, of 8 over IPv6, from the ESP header on.",
        By(&["esp/src/suite/tests.rs: rfc_4303_2_3_what_is_protected_begins_at_a_multiple_of_8_octets"]),
    ),
    must(
        4303,
        "2.4",
        "Padding is made and taken off, 0 to 255 octets; its contents are 1, 2, 3.",
        By(&[
            "esp/src/trailer.rs: what_is_written_is_1_2_3",
            "esp/src/trailer.rs: the_longest_padding_is_read",
            "esp/src/trailer.rs: padding_other_than_1_2_3_is_refused",
            "esp/src/suite/tests.rs: payloads_of_0_to_1500_have_the_exact_wire_length",
        ]),
    ),
    must(
        4303,
        "2.6",
        "Dummy packets, next header 59, can be sent, and are discarded without an error.",
        By(&[
            "datapath/src/owned/upkeep.rs: rfc_4303_2_6_dummies_leave_at_their_rate",
            "esp/src/tests/packets.rs: a_dummy_is_told_from_a_packet_by_its_next_header_alone",
            "esp/src/trailer.rs: a_dummy_need_not_be_well_formed",
        ]),
    ),
    must(
        4303,
        "2.7",
        "TFC padding changes no length field of the packet in front of it, and is sent only where agreed upon (configured).",
        By(&[
            "datapath/src/tests/modes.rs: rfc_4303_2_7_padding_hides_lengths_and_is_taken_off",
            "esp/src/tests/packets.rs: a_payload_is_padded_to_any_length",
        ]),
    ),
    must(
        4303,
        "3.2",
        "Encryption and integrity are never both NULL.",
        By(&[
            "esp/src/suite/tests.rs: every_suite_has_integrity",
            "xfrm/src/tests/suites.rs: t26_what_does_not_protect_is_refused_by_name",
        ]),
    ),
    must(
        4303,
        "3.3.2.1",
        "What the integrity algorithm needs as padding is zero and not sent (those that there are need none, or add it themselves).",
        By(&[
            "esp/src/crypto/mac/tests.rs: cmac_vectors_of_rfc_4494",
            "esp/src/suite/tests.rs: payloads_of_0_to_1500_have_the_exact_wire_length",
            "tests/interop/scapy.rs: esp_is_what_scapy_takes_it_for",
        ]),
    ),
    must(
        4303,
        "3.3.3",
        "No packet is sent that would make the number cycle, and the attempt is auditable.",
        By(&[
            "esp/src/sequence.rs: no_number_beyond_the_limit",
            "esp/src/sequence.rs: exhaustion_is_told_from_numbers_that_are_not_reserved",
            "datapath/src/tests/ends.rs: rfc_4303_3_3_3_a_32_bit_sa_never_wraps",
            "datapath/src/audit.rs: rfc_4301_5_2_rfc_4303_3_what_the_documents_call_auditable_is",
        ]),
    ),
    must(
        4303,
        "3.3.3",
        "With manual keys the counter survives restarts.",
        By(&[
            "keying/tests/killed.rs: t12_no_number_comes_twice_over_sixty_real_kills",
            "keying/src/tests/resumption.rs: t12_static_keys_of_a_counter_mode_are_accepted_on_record_and_go_on_beyond_it",
            "tests/leaks/restart.rs: t12_no_number_returns_after_a_kill",
        ]),
    ),
    must(
        4303,
        "3.3.4",
        "Senders of packets that do not fit are told.",
        By(&[
            "datapath/src/tests/sizes.rs: t20_every_size_leaves_whole_or_in_pieces_or_its_sender_is_told",
            "tests/devices/path_mtu.rs: rfc_4301_8_2_1_tcp_finds_its_way_over_a_path_smaller_than_the_tun",
        ]),
    ),
    must(
        4303,
        "3.4.1",
        "A fragment that is offered to ESP is discarded, and that is auditable.",
        By(&[
            "datapath/src/tests/modes.rs: t20_fragments_are_neither_protected_by_transport_mode_nor_opened",
            "datapath/src/transport.rs: t20_rfc_4303_3_3_4_fragments_are_told_by_name",
            "datapath/src/audit.rs: rfc_4301_5_2_rfc_4303_3_what_the_documents_call_auditable_is",
        ]),
    ),
    must(
        4303,
        "3.4.2",
        "A packet of no SA is discarded, and that is auditable.",
        By(&[
            "datapath/src/audit.rs: rfc_4303_4_an_auditable_drop_is_recorded_with_what_the_packet_said",
            "datapath/src/tests.rs: each_hostile_datagram_is_a_drop_of_its_own_name",
        ]),
    ),
    must(
        4303,
        "3.4.3",
        "Replays can be refused, SA by SA, and only with integrity; a number is accepted once.",
        By(&[
            "esp/src/replay/tests.rs: the_window_is_the_set_of_numbers_of_a2_1",
            "esp/src/tests/numbers.rs: without_anti_replay_nothing_is_refused",
            "esp/src/suite/tests.rs: every_suite_has_integrity",
            "tests/interop/numbers.rs: replays_are_refused_on_both_sides",
        ]),
    ),
    must(
        4303,
        "3.4.3",
        "A packet whose integrity check fails is discarded and does not move the window.",
        By(&[
            "esp/src/tests/forged.rs: window_moves_only_after_icv_verifies",
            "datapath/src/tests.rs: rfc_4303_3_4_3_late_is_counted_apart_from_seen_before_and_forged",
        ]),
    ),
    must(
        4303,
        "3.4.3",
        "The window is at least 32 wide.",
        By(&[
            "esp/src/replay/tests.rs: sizes_outside_32_to_65536_are_refused",
            "esp/src/replay/tests.rs: the_window_spans_exactly_w_numbers",
        ]),
    ),
    must(
        4303,
        "3.4.4.1",
        "Integrity is verified before anything decrypted goes on; a failure is auditable.",
        By(&[
            "esp/src/tests/cbc_hmac.rs: a_changed_packet_is_refused_alike_whatever_its_padding_becomes",
            "esp/src/tests/backends.rs: a_flip_of_any_bit_is_found_and_leaves_no_plaintext",
            "datapath/src/audit.rs: rfc_4303_4_an_auditable_drop_is_recorded_with_what_the_packet_said",
        ]),
    ),
    must(
        4303,
        "3.4.4.2",
        "A packet that a combined mode refuses is discarded, and that is auditable.",
        By(&[
            "esp/src/tests/backends.rs: a_flip_of_any_bit_is_found_and_leaves_no_plaintext",
            "datapath/src/audit.rs: rfc_4303_4_an_auditable_drop_is_recorded_with_what_the_packet_said",
        ]),
    ),
    must(
        4303,
        "4",
        "Auditing is supported and can be switched.",
        By(&[
            "datapath/src/audit.rs: rfc_4303_4_an_auditable_drop_is_recorded_with_what_the_packet_said",
            "datapath/src/audit.rs: rfc_4303_4_without_an_auditor_drops_are_counted_alone",
        ]),
    ),
    must(
        4303,
        "5",
        "NULL encryption is supported.",
        By(&[
            "datapath/src/tests/modes.rs: every_suite_passes_in_every_mode",
            "tests/interop/scapy.rs: esp_is_what_scapy_takes_it_for",
        ]),
    ),
    must(
        4303,
        "5",
        "Confidentiality without integrity, where offered, can be negotiated.",
        NotApplicable("it is not offered: RFC 8221 section 4 has encryption without integrity as MUST NOT"),
    ),
    must(
        4303,
        "A2",
        "The high half of an extended number is inferred on both sides of every wrap.",
        By(&[
            "esp/src/esn.rs: every_number_within_reach_is_found",
            "esp/src/tests/numbers.rs: packets_pass_the_subspace_lines",
            "tests/two_gateways/esn.rs: t10_rfc_4303_2_2_1_the_low_half_wraps_in_mid_traffic",
            "tests/interop/numbers.rs: the_kernels_numbers_wrap",
        ]),
    ),
];
