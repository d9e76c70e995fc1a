/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Sockets of family PF_SHIM, which say who is on their other end and what protects them, and which can demand it:
 * draft-komu-btns-api-00. They are there where liblatchway-shim.so.0 is in LD_PRELOAD. See latchway_shim(7).
 */
#ifndef LATCHWAY_SHIM_H
#define LATCHWAY_SHIM_H

#include <stdint.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <netdb.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The family of socket(), and of addresses that are handles. Without the library, or a gateway: EAFNOSUPPORT. */
#define PF_SHIM 0x53
#define AF_SHIM PF_SHIM

/* The level of getsockopt() and setsockopt(). */
#define SOL_SHIM 0x5348

/* In ai_flags of getaddrinfo(): addresses become handles. */
#define AI_SHIM 0x00800000

/* In msg_flags after recvmsg(): what came is a struct shim_notification. SCTP has the same bit. */
#define MSG_SHIM_NOTIFICATION 0x8000

/* Options. Texts end with a NUL, which the length has in it. */
#define SHIM_PEER_IDENTITY 1
#define SHIM_LOCAL_IDENTITY 2
#define SHIM_PEER_EXPORT 3
#define SHIM_AUDIT 4
#define SHIM_PROTECTION 5
#define SHIM_REQUIRE 6
#define SHIM_REQUIRED 7
#define SHIM_EVENTS 8
#define SHIM_EVENTS_DESCRIPTOR 9
#define SHIM_ERROR 10

/* sp_state, sn_state. */
#define SHIM_LATCHED 1
#define SHIM_UNLATCHED 2
#define SHIM_SUSPENDED 3
#define SHIM_CLEAR 4
#define SHIM_DROPPED 5
#define SHIM_UNCONNECTED 6
#define SHIM_NO_GATEWAY 7

/* sp_mode, sr_mode. */
#define SHIM_TUNNEL 1
#define SHIM_TRANSPORT 2

/* sr_protection. */
#define SHIM_AUTHENTICATED 1
#define SHIM_CONFIDENTIAL 2

/* sp_flags, sr_flags. */
#define SHIM_REPLAY_CHECKED 1
#define SHIM_OPTIONS_PROTECTED 2

/* Of SHIM_EVENTS; sn_type is one of them. The last two are always told. */
#define SHIM_EVENT_ESTABLISHED 0x01
#define SHIM_EVENT_BROKEN 0x02
#define SHIM_EVENT_CLOSED 0x04
#define SHIM_EVENT_REKEYED 0x08
#define SHIM_EVENT_ADDRESS_CHANGED 0x10
#define SHIM_EVENT_LOST 0x20
#define SHIM_EVENT_ENDING 0x40
#define SHIM_EVENT_ALL 0x7f

/* An endpoint, of which the address is not told: a handle of this process. 0 is any address, to bind to. */
struct sockaddr_shim {
    sa_family_t ss_family; /* AF_SHIM */
    in_port_t ss_port;     /* in the order of the network */
    uint32_t ss_reserved;  /* 0 */
    uint64_t ss_handle;
};

/* What protects a socket. But for sp_state, 0 is none, or not known. */
struct shim_protection {
    uint32_t sp_state;
    uint32_t sp_privacy;   /* keys are so many bits long, or longer: 0, 128, 192, 256 */
    uint32_t sp_integrity; /* the check value is: 0, 64, 128, 192 */
    uint32_t sp_mode;
    uint32_t sp_flags;
    uint32_t sp_reserved;
};

/* What must protect a socket. What is 0 or NULL, policy decides; all of it: nothing is required any more. */
struct shim_requirement {
    uint32_t sr_protection;
    uint32_t sr_key_bits;
    uint32_t sr_mode;
    uint32_t sr_flags;
    const char *sr_peer;  /* an identity, or what SHIM_PEER_EXPORT gave */
    const char *sr_local; /* the same of ourselves */
};

/* What became of a socket. */
struct shim_notification {
    uint32_t sn_type;
    uint32_t sn_length;   /* of all of this */
    uint64_t sn_time;     /* milliseconds since 1970-01-01T00:00Z */
    uint64_t sn_lost;     /* of SHIM_EVENT_LOST: how many */
    uint32_t sn_state;    /* what can be said of the socket from here on; 0 where nothing is said */
    uint32_t sn_reserved; /* 0 */
    char sn_from[64];     /* of SHIM_EVENT_ADDRESS_CHANGED: where the peer was, as address:port */
    char sn_to[64];       /* and where it is */
    char sn_text[256];    /* one sentence for people */
};

#ifdef __cplusplus
}
#endif

#endif
