/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Tokens that say who is on the other end of a socket and what protects it, and that demand who it must be and what must
 * protect it: draft-ietf-btns-c-api-04. See ipsec_create_pToken(3). Written from the library's source; do not edit.
 */


#ifndef LATCHWAY_IPSEC_H
#define LATCHWAY_IPSEC_H

#include <stdint.h>
#include <sys/types.h>
#include <sys/socket.h>

/* Room in msg_control for a token and what the system says of a datagram beside, in octets. */
#define IPSEC_LATCHWAY_CONTROL_SPACE 256

/* What the drafts spell otherwise. */
#define IPSEC_API_ATTR_authMeth_LEAPOFFAITH IPSEC_API_ATTR_authMeth_LEAPOFFFAITH
#define IPSEC_API_ATTR_authMeth_LEAFOFFAITH IPSEC_API_ATTR_authMeth_LEAPOFFFAITH
#define IPSEC_API_ATTR_privacyProtection IPSEC_API_ATTR_privacyProtected
#define IPSEC_API_ATTR_integrityProtection IPSEC_API_ATTR_integrityProtected
#define IPSEC_API_ATTR_compression IPSEC_API_ATTR_compressionAvailable


/**
 * Values of the attributes that are numbers of two octets (uint16_t).
 */
enum ipsec_attribute_value {
  /**
   * Should not be used; was not used.
   */
  IPSEC_API_ATTR_DISABLE = 0,
  /**
   * Should be used; was used.
   */
  IPSEC_API_ATTR_ENABLE = 1,
  /**
   * As the system has it.
   */
  IPSEC_API_ATTR_ANY = 2,
  /**
   * Keys of 128 bits at least; an integrity check of any length.
   */
  IPSEC_API_ATTR_LEVEL_LOW = 16,
  /**
   * Keys of 192 bits at least; an integrity check of 128 bits at least.
   */
  IPSEC_API_ATTR_LEVEL_MEDIUM = 32,
  /**
   * Keys of 256 bits; an integrity check of 192 bits at least.
   */
  IPSEC_API_ATTR_LEVEL_HIGH = 48
};

/**
 * What an identity token tells. All read-only.
 */
enum ipsec_iToken_attribute {
  /**
   * Text, in words for a log. Of pTokens as well.
   */
  IPSEC_API_ATTR_auditString = 256,
  /**
   * uint16_t: the number of the enumerator of ipsec_iToken_auth_meth.
   */
  IPSEC_API_ATTR_authenticationMethod = 257,
  /**
   * Text: who vouches for the peer.
   */
  IPSEC_API_ATTR_certificateAuthorityDN = 258,
  /**
   * Text: the subject of its certificate.
   */
  IPSEC_API_ATTR_certificateDN = 259,
  /**
   * Octets: its public key, a SubjectPublicKeyInfo in DER.
   */
  IPSEC_API_ATTR_pubKeyID = 260,
  /**
   * Text of constant length, to be compared with memcmp().
   */
  IPSEC_API_ATTR_channelBinding = 261
};

/**
 * How a peer may prove itself, and did: uint16_t, ENABLE, DISABLE or ANY.
 */
enum ipsec_iToken_auth_meth {
  /**
   * No authentication: keys placed by hand.
   */
  IPSEC_API_ATTR_authMeth_NONE = 512,
  /**
   * Any key, of an unknown peer (RFC 5386).
   */
  IPSEC_API_ATTR_authMeth_BTNS = 513,
  /**
   * A key first seen inline and kept since.
   */
  IPSEC_API_ATTR_authMeth_LEAPOFFFAITH = 514,
  /**
   * A key shared with this peer alone.
   */
  IPSEC_API_ATTR_authMeth_PRESHAREDKEY = 515,
  /**
   * A key shared with a group.
   */
  IPSEC_API_ATTR_authMeth_GROUPKEY = 516,
  /**
   * XAUTH.
   */
  IPSEC_API_ATTR_authMeth_XAUTH = 517,
  /**
   * EAP.
   */
  IPSEC_API_ATTR_authMeth_EAP = 518,
  /**
   * A certificate validated to a trust anchor.
   */
  IPSEC_API_ATTR_authMeth_PKIX_TRUSTED = 519,
  /**
   * A certificate that came inline.
   */
  IPSEC_API_ATTR_authMeth_PKIX_INLINE = 520,
  /**
   * A public key that was configured.
   */
  IPSEC_API_ATTR_authMeth_PKIX_OFFLINE = 521
};

/**
 * Attributes that the draft does not have: extensions.
 */
enum ipsec_latchway_attribute {
  /**
   * Of pTokens. Text: the names of the suites that will do, with commas between; of what is there, the inbound one and,
   * where it is another, the outbound one.
   */
  IPSEC_LATCHWAY_ATTR_suites = 16384,
  /**
   * Of pTokens. uint16_t: the least length of the key that hides, in bits.
   */
  IPSEC_LATCHWAY_ATTR_keyBits = 16385,
  /**
   * Of pTokens. uint16_t: whether replays are refused.
   */
  IPSEC_LATCHWAY_ATTR_replayChecked = 16386,
  /**
   * Of iTokens. uint16_t, read-only: SADB_IDENTTYPE_PREFIX for an address, _FQDN or _USERFQDN, as RFC 2367 has them;
   * ENODATA for identities of another kind.
   */
  IPSEC_LATCHWAY_ATTR_identityType = 16387,
  /**
   * Of pTokens. Text, read-only: the latch, as the gateway's lists name it.
   */
  IPSEC_LATCHWAY_ATTR_latch = 16388
};

/**
 * What became of a socket that is watched.
 */
enum ipsec_latchway_event_kind {
  /**
   * Its latch is in force.
   */
  IPSEC_LATCHWAY_EVENT_ESTABLISHED = 1,
  /**
   * Its latch broke: nothing passes.
   */
  IPSEC_LATCHWAY_EVENT_BROKEN = 2,
  /**
   * Its latch was closed, or it was itself.
   */
  IPSEC_LATCHWAY_EVENT_CLOSED = 3,
  /**
   * It has new keys; nothing else changed.
   */
  IPSEC_LATCHWAY_EVENT_REKEYED = 4,
  /**
   * Its peer's outer address is another; nothing else changed.
   */
  IPSEC_LATCHWAY_EVENT_ADDRESS_CHANGED = 5,
  /**
   * Some events were not told, as the program was too slow; the last state of each socket is told all the same.
   */
  IPSEC_LATCHWAY_EVENT_LOST = 6,
  /**
   * The gateway ends; nothing follows.
   */
  IPSEC_LATCHWAY_EVENT_ENDING = 7
};

/**
 * What ipsec_latchway_state() tells of a socket.
 */
enum ipsec_latchway_state {
  /**
   * It is this peer and no other, protected so and not otherwise, for as long as the connection lives.
   */
  IPSEC_LATCHWAY_LATCHED = 1,
  /**
   * It is protected by policy alone, and may be with another peer later.
   */
  IPSEC_LATCHWAY_UNLATCHED = 2,
  /**
   * Its latch is not in force: nothing passes.
   */
  IPSEC_LATCHWAY_SUSPENDED = 3,
  /**
   * Nothing protects it, and anybody may be there.
   */
  IPSEC_LATCHWAY_CLEAR = 4,
  /**
   * Nothing passes.
   */
  IPSEC_LATCHWAY_DROPPED = 5,
  /**
   * It has no other end.
   */
  IPSEC_LATCHWAY_UNCONNECTED = 6,
  /**
   * No gateway carries what it sends.
   */
  IPSEC_LATCHWAY_NO_GATEWAY = 7
};

/**
 * What a protection token demands, or tells. IPSEC_API_ATTR_auditString is of both kinds.
 */
enum ipsec_pToken_attribute {
  /**
   * uint16_t: whether others can read the data.
   */
  IPSEC_API_ATTR_privacyProtected = 768,
  /**
   * uint16_t: whether others can change the data unnoticed.
   */
  IPSEC_API_ATTR_integrityProtected = 769,
  /**
   * uint16_t: whether the data may be shorter on the wire. There is no IPComp here: it is not.
   */
  IPSEC_API_ATTR_compressionAvailable = 770,
  /**
   * Text: the policy that was used, or must be.
   */
  IPSEC_API_ATTR_policyName = 771,
  /**
   * ipsec_iToken_t: the identity of the remote system. What get gives, the caller frees; set copies.
   */
  IPSEC_API_ATTR_iToken = 772,
  /**
   * ipsec_iToken_t: our own identity, as the remote system sees it.
   */
  IPSEC_API_ATTR_remote_iToken = 773,
  /**
   * uint16_t: ENABLE for tunnel mode, DISABLE for transport mode.
   */
  IPSEC_API_ATTR_tunnelMode = 774,
  /**
   * uint16_t: whether IP options and IPv6 extension headers are protected.
   */
  IPSEC_API_ATTR_ipoptionsProtected = 775,
  /**
   * Text for a user. Read-only, and only of what is there.
   */
  IPSEC_API_ATTR_informationString = 777
};

/**
 * What an iToken handle points to: nothing that could be looked into.
 */
struct ipsec_iToken;

/**
 * What a pToken handle points to: nothing that could be looked into.
 */
struct ipsec_pToken;

/**
 * An identity token: a handle, never an address.
 */
typedef struct ipsec_iToken *ipsec_iToken_t;

/**
 * A protection token: a handle, never an address.
 */
typedef struct ipsec_pToken *ipsec_pToken_t;

/**
 * An event, as ipsec_latchway_next_event() writes it. Texts end with a NUL, and are cut where they are longer.
 */
struct ipsec_latchway_event {
  /**
   * One of ipsec_latchway_event_kind.
   */
  uint32_t kind;
  /**
   * Which socket, by its place in what ipsec_latchway_watch() was given; -1 where it is said of none of them.
   */
  int32_t socket;
  /**
   * When: milliseconds since 1970-01-01T00:00Z.
   */
  uint64_t time;
  /**
   * Of IPSEC_LATCHWAY_EVENT_LOST: how many.
   */
  uint64_t lost;
  /**
   * One of ipsec_latchway_state: what can be said of the socket from here on; 0 where nothing is said.
   */
  uint32_t state;
  /**
   * 0.
   */
  uint32_t reserved;
  /**
   * Of IPSEC_LATCHWAY_EVENT_ADDRESS_CHANGED: where the peer was.
   */
  char from[64];
  /**
   * Of the same: where it is.
   */
  char to[64];
  /**
   * One sentence for people.
   */
  char text[256];
};

/**
 * A value of two octets.
 */
typedef enum ipsec_attribute_value ipsec_attribute_value_t;

/**
 * A type of attribute, of identity tokens.
 */
typedef enum ipsec_iToken_attribute ipsec_iToken_attribute_t;

/**
 * A type of attribute, of identity tokens: a method.
 */
typedef enum ipsec_iToken_auth_meth ipsec_iToken_auth_meth_t;

/**
 * A type of attribute: an extension.
 */
typedef enum ipsec_latchway_attribute ipsec_latchway_attribute_t;

/**
 * What became of a socket that is watched.
 */
typedef enum ipsec_latchway_event_kind ipsec_latchway_event_kind_t;

/**
 * What can be said of a socket.
 */
typedef enum ipsec_latchway_state ipsec_latchway_state_t;

/**
 * A type of attribute, of protection tokens.
 */
typedef enum ipsec_pToken_attribute ipsec_pToken_attribute_t;

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Makes an identity token that names nobody: every method will do. Returns it, or NULL and errno.
 */
ipsec_iToken_t ipsec_create_iToken(void);

/**
 * Frees an identity token. Returns 0, or -1 and errno, for NULL as well.
 */
int ipsec_free_iToken(ipsec_iToken_t p);

/**
 * Reads an attribute of a token of either kind into attr_val, which has room for *attr_len octets; *attr_len becomes the
 * length of the value, NULs included. With attr_val NULL, or too little room (ERANGE), that is all that happens.
 */
int ipsec_get_token_attr(const void *token,
                         uint32_t attr_type,
                         uint32_t *attr_len,
                         void *attr_val);

/**
 * Writes an attribute of a token that was made by its constructor. attr_len is the length of the value, NULs included.
 */
int ipsec_set_token_attr(const void *token,
                         uint32_t attr_type,
                         uint32_t attr_len,
                         const void *attr_val);

/**
 * Makes a protection token that demands nothing. Returns it, or NULL and errno.
 */
ipsec_pToken_t ipsec_create_pToken(void);

/**
 * Frees a protection token. Returns 0, or -1 and errno, for NULL as well.
 */
int ipsec_free_pToken(ipsec_pToken_t p);

/**
 * Compares: 0 if both stand for identical ranges of the policy and equivalent cryptography, or demand the same; 1 if not;
 * -1 and errno if one is no token.
 */
int ipsec_cmp_pToken(ipsec_pToken_t p1,
                     ipsec_pToken_t p2);

/**
 * Copies a token, which then has to be freed, too. *p_dup is written only on success.
 */
int ipsec_dup_pToken(const ipsec_pToken_t p, ipsec_pToken_t *p_dup);

/**
 * Attaches a token to a socket: from its next packet on the socket is held to what the token demands, for as long as it
 * lives. Do so before connect() or listen(). Returns 0, or -1 and errno.
 */
int ipsec_set_socket_pToken(int fd,
                            const ipsec_pToken_t pToken);

/**
 * Fills a token, which the caller has made, with what protects a socket. Returns 0, or -1 and errno; the token is then as it
 * was.
 */
int ipsec_get_socket_pToken(int fd,
                            ipsec_pToken_t pToken);

/**
 * Writes an identity as text, which can be kept and read again: one line of ASCII. The rules of length are those of
 * ipsec_get_token_attr().
 */
int ipsec_iToken_export(const ipsec_iToken_t p,
                        char *text,
                        uint32_t *len);

/**
 * Reads an identity from text that ipsec_iToken_export() wrote. *out is written only on success, and has to be freed.
 */
int ipsec_iToken_import(const char *text,
                        ipsec_iToken_t *out);

/**
 * Tells what can be said of a socket: one of IPSEC_LATCHWAY_LATCHED to _NO_GATEWAY.
 */
int ipsec_latchway_state(int fd, uint32_t *state);

/**
 * Takes back what was attached to a socket: nothing is demanded of it any more.
 */
int ipsec_latchway_forget(int fd);

/**
 * Has every later call of the process that asks the gateway end within so many milliseconds; 2000 where none was set.
 */
int ipsec_latchway_set_timeout(uint32_t ms);

/**
 * What made this thread's last call fail, and what to do about it, in words. They stay until the next one that fails.
 */
const char *ipsec_latchway_error(void);

/**
 * Has the gateway tell what becomes of 1 to 64 sockets. Returns a descriptor, which can be waited for until it can be read
 * from and is closed as any other, or -1 and errno.
 */
int ipsec_latchway_watch(const int *fds,
                         uint32_t n);

/**
 * Writes the next event, waited for timeout_ms milliseconds, or as long as it takes if that is negative. Returns 1, 0 if none
 * came in that time, or -1 and errno; ENONET when nothing follows any more. Some may have been read from the descriptor
 * already: call this with no time until it returns 0, and wait for the descriptor then.
 */
int ipsec_latchway_next_event(int watch,
                              struct ipsec_latchway_event *event,
                              int timeout_ms);

/**
 * Has the system say of each datagram of a socket what its token is known by: when it came, where to and by which device, and
 * whether in pieces. The socket is one of UDP and not bound yet (EINVAL). Returns 0, or -1 and errno.
 */
int ipsec_latchway_tag_datagrams(int fd);

/**
 * Fills a token, which the caller has made, with what is known of a message that ipsec_latchway_recvmsg() received. Returns 0,
 * or -1 and errno: ENOMSG if nothing is certain of it. The token is then as it was.
 */
int ipsec_get_msg_pToken(const struct msghdr *msg,
                         ipsec_pToken_t pToken);

/**
 * recvmsg(), which gives tokens: where it is certain who sent a datagram, and what protected it, and there is room in
 * msg_control, ipsec_get_msg_pToken() finds it there, in front of what the system says. For sockets of
 * ipsec_latchway_tag_datagrams(); others are received from as they are.
 */
ssize_t ipsec_latchway_recvmsg(int fd,
                               struct msghdr *msg,
                               int flags);

#ifdef __cplusplus
}
#endif

#endif  /* LATCHWAY_IPSEC_H */
