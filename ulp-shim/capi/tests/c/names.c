/* The header alone, under every standard (C-11, C-12, C-13); the spellings of the drafts are equal (C-3, C-4). */
#include <latchway/ipsec.h>

typedef char c_3_spellings_are_equal[IPSEC_API_ATTR_authMeth_LEAPOFFFAITH == IPSEC_API_ATTR_authMeth_LEAPOFFAITH
                                     && IPSEC_API_ATTR_authMeth_LEAPOFFFAITH == IPSEC_API_ATTR_authMeth_LEAFOFFAITH
                                     ? 1 : -1];
typedef char c_4_spellings_are_equal[IPSEC_API_ATTR_privacyProtection == IPSEC_API_ATTR_privacyProtected
                                     && IPSEC_API_ATTR_integrityProtection == IPSEC_API_ATTR_integrityProtected
                                     && IPSEC_API_ATTR_compression == IPSEC_API_ATTR_compressionAvailable
                                     ? 1 : -1];

/* tokens are no bigger than a pointer, and of two types that do not mix. */
typedef char n_2_tokens_are_small[sizeof(ipsec_pToken_t) == sizeof(void *) ? 1 : -1];

/* The prototypes are those of the figures: a pointer of the figure's type takes each. */
typedef ipsec_iToken_t (*create_iToken)(void);
typedef int (*free_iToken)(ipsec_iToken_t);
typedef int (*get_token_attr)(const void *, uint32_t, uint32_t *, void *);
typedef int (*set_token_attr)(const void *, uint32_t, uint32_t, const void *);
typedef ipsec_pToken_t (*create_pToken)(void);
typedef int (*free_pToken)(ipsec_pToken_t);
typedef int (*set_socket_pToken)(int, const ipsec_pToken_t);
typedef int (*get_socket_pToken)(int, ipsec_pToken_t);
typedef int (*cmp_pToken)(ipsec_pToken_t, ipsec_pToken_t);
typedef int (*dup_pToken)(const ipsec_pToken_t, ipsec_pToken_t *);

struct figures {
    create_iToken figure_3_create;
    free_iToken figure_3_free;
    get_token_attr figure_5_get;
    set_token_attr figure_5_set;
    create_pToken figure_7_create;
    free_pToken figure_7_free;
    set_socket_pToken figure_9_set;
    get_socket_pToken figure_9_get;
    cmp_pToken figure_11;
    dup_pToken figure_12;
};

extern const struct figures figures;
const struct figures figures = {
    ipsec_create_iToken, ipsec_free_iToken, ipsec_get_token_attr, ipsec_set_token_attr,
    ipsec_create_pToken, ipsec_free_pToken, ipsec_set_socket_pToken, ipsec_get_socket_pToken,
    ipsec_cmp_pToken, ipsec_dup_pToken
};

/* C-12: the types have names. */
extern ipsec_iToken_attribute_t one;
extern ipsec_iToken_auth_meth_t two;
extern ipsec_pToken_attribute_t three;
extern ipsec_attribute_value_t four;
ipsec_iToken_attribute_t one = IPSEC_API_ATTR_auditString;
ipsec_iToken_auth_meth_t two = IPSEC_API_ATTR_authMeth_EAP;
ipsec_pToken_attribute_t three = IPSEC_API_ATTR_privacyProtected;
ipsec_attribute_value_t four = IPSEC_API_ATTR_ANY;
