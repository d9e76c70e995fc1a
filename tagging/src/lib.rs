//! What a packet remembers: ids, congruence classes, inbound and outbound tags.
