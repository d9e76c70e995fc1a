//! RFC 4302: AH.

use super::Shown::{By, NotApplicable};
use super::{Must, UNICAST, must};

pub const MUSTS: &[Must] = &[
    must(
        4302,
        "2",
        "The header before AH says 51.",
        By(&["datapath/src/tests/modes/authenticated.rs: rfc_4301_4_3_a_bundle_passes_and_shows_ah_outside"]),
    ),
    must(
        4302,
        "2",
        "Where versions of AH could be mixed up, the two ends agree by signalling or configuration.",
        NotApplicable(
            "there is one version, that of RFC 4302; what differs in the field, the alignment of the ICV over IPv4, is configured on each SA",
        ),
    ),
    must(
        4302,
        "2.2",
        "The length field counts 32-bit words less two.",
        By(&[
            "esp/src/ah/tests.rs: every_length_field_is_read_or_refused",
            "esp/src/ah/tests.rs: fields_are_read_and_written_alike",
        ]),
    ),
    must(
        4302,
        "2.3",
        "The reserved field is sent as zero, and covered by the ICV as it came.",
        By(&[
            "esp/src/tests/ah.rs: what_one_end_authenticates_the_other_verifies",
            "esp/src/tests/ah.rs: every_bit_matters_but_those_that_routers_change",
        ]),
    ),
    must(
        4302,
        "2.4",
        "Inbound traffic is mapped to its SA by SPI, here with the protocol.",
        By(&["datapath/src/sad/tests.rs: t31_spis_of_esp_and_ah_are_spaces_of_their_own"]),
    ),
    must(
        4302,
        "2.4",
        "SPI 0 is never sent.",
        By(&[
            "esp/src/number.rs: spi_zero_cannot_exist_and_the_first_255_are_reserved",
            "esp/src/ah/tests.rs: spi_0_to_255_are_refused_each_with_its_reason",
        ]),
    ),
    must(
        4302,
        "2.4",
        "Multicast SAs are told apart by the longest match of addresses.",
        NotApplicable(UNICAST),
    ),
    must(
        4302,
        "2.5",
        "The sequence number is always there and grows by one with each packet.",
        By(&[
            "esp/src/tests/ah.rs: what_one_end_authenticates_the_other_verifies",
            "esp/src/sequence.rs: the_first_number_is_one",
            "datapath/src/tests/modes/authenticated.rs: rfc_4302_3_4_what_ah_refuses_has_its_name_and_is_auditable",
        ]),
    ),
    must(
        4302,
        "2.5",
        "No number is used twice: the SA ends before the 2^32nd packet.",
        By(&[
            "esp/src/sequence.rs: no_number_beyond_the_limit",
            "esp/src/sequence.rs: exhaustion_is_told_from_numbers_that_are_not_reserved",
            "datapath/src/tests/ends.rs: rfc_4303_3_3_3_a_32_bit_sa_never_wraps",
        ]),
    ),
    must(
        4302,
        "2.5.1",
        "The use of extended numbers is agreed upon.",
        By(&[
            "config/src/tests/accepted.rs: sas_say_everything_else_themselves",
            "esp/src/tests/numbers.rs: the_width_of_numbers_is_authenticated",
        ]),
    ),
    must(
        4302,
        "2.6",
        "The ICV is padded to 32 bits over IPv4 and 64 bits over IPv6, and no further.",
        By(&["esp/src/suite/tests.rs: authentication_headers_have_the_exact_length"]),
    ),
    must(
        4302,
        "3.3.2",
        "No packet is sent that would make the number cycle, and the attempt is auditable.",
        By(&[
            "esp/src/sequence.rs: no_number_beyond_the_limit",
            "esp/src/sequence.rs: exhaustion_is_told_from_numbers_that_are_not_reserved",
            "datapath/src/tests/ends.rs: rfc_4303_3_3_3_a_32_bit_sa_never_wraps",
            "datapath/src/audit.rs: rfc_4301_5_2_rfc_4303_3_what_the_documents_call_auditable_is",
        ]),
    ),
    must(
        4302,
        "3.3.3.1",
        "Mutable fields are zero for the ICV, predictable ones as they will be, others as they are: IPv4 with options.",
        By(&[
            "esp/src/tests/ah.rs: the_icv_is_over_a_copy_with_mutable_fields_zeroed",
            "esp/src/tests/ah.rs: ipv4_options_are_covered_by_their_class",
            "esp/src/tests/ah.rs: a_source_route_is_authenticated_for_its_final_destination",
        ]),
    ),
    must(
        4302,
        "3.3.3.1",
        "The same for IPv6 with extension headers.",
        By(&[
            "esp/src/tests/ah.rs: ipv6_options_are_covered_by_their_mutable_bit",
            "esp/src/tests/ah.rs: a_routing_header_is_authenticated_in_its_final_arrangement",
        ]),
    ),
    must(
        4302,
        "3.3.3.2",
        "What the integrity algorithm needs as padding is zero and not sent (those that there are need none, or add it themselves).",
        By(&[
            "esp/src/tests/ah.rs: the_icv_is_over_a_copy_with_mutable_fields_zeroed",
            "esp/src/crypto/mac/tests.rs: cmac_vectors_of_rfc_4494",
            "esp/src/suite/tests.rs: authentication_headers_have_the_exact_length",
        ]),
    ),
    must(
        4302,
        "3.3.4",
        "Senders of packets that do not fit are told.",
        By(&["datapath/src/tests/sizes.rs: t20_every_size_leaves_whole_or_in_pieces_or_its_sender_is_told"]),
    ),
    must(
        4302,
        "3.4.1",
        "A fragment that is offered to AH is discarded, and that is auditable.",
        By(&[
            "datapath/src/tests/modes/authenticated.rs: rfc_4302_3_4_what_ah_refuses_has_its_name_and_is_auditable",
        ]),
    ),
    must(
        4302,
        "3.4.2",
        "A packet of no SA is discarded, and that is auditable.",
        By(&[
            "datapath/src/tests/modes/authenticated.rs: rfc_4302_3_4_what_ah_refuses_has_its_name_and_is_auditable",
        ]),
    ),
    must(
        4302,
        "3.4.3",
        "Replays can be refused, SA by SA; a number is accepted once.",
        By(&[
            "esp/src/replay/tests.rs: the_window_is_the_set_of_numbers_of_a2_1",
            "esp/src/tests/numbers.rs: without_anti_replay_nothing_is_refused",
            "datapath/src/tests/modes/authenticated.rs: rfc_4302_3_4_what_ah_refuses_has_its_name_and_is_auditable",
        ]),
    ),
    must(
        4302,
        "3.4.3",
        "The window is at least 32 wide, and moves only after the ICV verified.",
        By(&[
            "esp/src/replay/tests.rs: sizes_outside_32_to_65536_are_refused",
            "esp/src/tests/ah.rs: the_window_moves_only_after_the_icv_verifies",
        ]),
    ),
    must(
        4302,
        "3.4.4",
        "A packet whose ICV does not match is discarded, and that is auditable.",
        By(&[
            "datapath/src/tests/modes/authenticated.rs: rfc_4302_3_4_what_ah_refuses_has_its_name_and_is_auditable",
            "esp/src/tests/ah.rs: every_bit_matters_but_those_that_routers_change",
        ]),
    ),
    must(
        4302,
        "4",
        "Auditing is supported and can be switched.",
        By(&[
            "datapath/src/audit.rs: rfc_4303_4_an_auditable_drop_is_recorded_with_what_the_packet_said",
            "datapath/src/audit.rs: rfc_4303_4_without_an_auditor_drops_are_counted_alone",
            "datapath/src/tests/modes/authenticated.rs: rfc_4302_3_4_what_ah_refuses_has_its_name_and_is_auditable",
        ]),
    ),
    must(
        4302,
        "5",
        "Unicast AH is whole, and the architecture's demands are met.",
        By(&["datapath/src/tests/modes.rs: every_suite_passes_in_every_mode"]),
    ),
    must(
        4302,
        "A2",
        "A fragment header that reassembly left behind, or the sender's IP put there, is skipped.",
        By(&["esp/src/tests/ah.rs: a_whole_packets_fragment_header_is_passed_over"]),
    ),
];
