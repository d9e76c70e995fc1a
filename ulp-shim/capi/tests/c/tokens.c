/* Tokens and their attributes: every function on every kind of token, good and bad (rows ). */
#include <latchway/ipsec.h>

#include "check.h"

static uint16_t number(const void *token, uint32_t attribute)
{
    uint16_t value = 0xffff;
    uint32_t length = sizeof(value);
    CHECK(ipsec_get_token_attr(token, attribute, &length, &value) == 0);
    CHECK(length == sizeof(value));
    return value;
}

static int set(const void *token, uint32_t attribute, uint16_t value)
{
    return ipsec_set_token_attr(token, attribute, sizeof(value), &value);
}

/* Every function, with a token that is none: NULL, freed, made up, a real address. */
static void refused_everywhere(void *bad, int number)
{
    ipsec_pToken_t good = ipsec_create_pToken();
    ipsec_pToken_t copy = good;
    uint16_t value = 1;
    uint32_t length = sizeof(value);

    CHECK(good != NULL);
    FAILS(ipsec_free_iToken((ipsec_iToken_t)bad), number);
    FAILS(ipsec_free_pToken((ipsec_pToken_t)bad), number);
    FAILS(ipsec_get_token_attr(bad, IPSEC_API_ATTR_auditString, &length, &value), number);
    CHECK(length == sizeof(value) && value == 1);
    FAILS(ipsec_set_token_attr(bad, IPSEC_API_ATTR_privacyProtected, length, &value), number);
    FAILS(ipsec_set_token_attr(good, IPSEC_API_ATTR_iToken, sizeof(bad), &bad), number);
    FAILS(ipsec_cmp_pToken((ipsec_pToken_t)bad, good), number);
    FAILS(ipsec_cmp_pToken(good, (ipsec_pToken_t)bad), number);
    FAILS(ipsec_dup_pToken((ipsec_pToken_t)bad, &copy), number);
    CHECK(copy == good);
    CHECK(ipsec_free_pToken(good) == 0);
}

/* C-2, Q-26: what is no token. */
static void bad_tokens(void)
{
    static long somewhere;
    ipsec_pToken_t freed = ipsec_create_pToken();
    ipsec_iToken_t identity = ipsec_create_iToken();
    ipsec_pToken_t protection = ipsec_create_pToken();
    ipsec_pToken_t copy;
    unsigned seed = 1;
    int i;

    CHECK(ipsec_free_pToken(freed) == 0);
    FAILS(ipsec_free_pToken(freed), EBADF);
    FAILS(ipsec_free_iToken((ipsec_iToken_t)freed), EINVAL);
    FAILS(ipsec_cmp_pToken(freed, protection), EBADF);
    FAILS(ipsec_get_token_attr(freed, IPSEC_API_ATTR_auditString, NULL, NULL), EINVAL);
    refused_everywhere(NULL, EINVAL);
    refused_everywhere(&somewhere, EBADF);
    refused_everywhere((void *)(uintptr_t)0x1000, EBADF);
    for (i = 0; i < 1000; i++) {
        uintptr_t made_up = ((uintptr_t)rand_r(&seed) << 40) ^ ((uintptr_t)rand_r(&seed) << 20) ^ (uintptr_t)rand_r(&seed);
        uint32_t length = 0;
        if (made_up != 0)
            FAILS(ipsec_get_token_attr((void *)made_up, IPSEC_API_ATTR_auditString, &length, NULL), EBADF);
    }
    /* The other kind. */
    FAILS(ipsec_free_pToken((ipsec_pToken_t)(void *)identity), EINVAL);
    FAILS(ipsec_free_iToken((ipsec_iToken_t)(void *)protection), EINVAL);
    FAILS(ipsec_cmp_pToken((ipsec_pToken_t)(void *)identity, protection), EINVAL);
    FAILS(ipsec_dup_pToken((ipsec_pToken_t)(void *)identity, &copy), EINVAL);
    FAILS(ipsec_set_token_attr(protection, IPSEC_API_ATTR_iToken, sizeof(protection), &protection), EINVAL);
    CHECK(ipsec_free_iToken(identity) == 0);
    CHECK(ipsec_free_pToken(protection) == 0);
}

/* P-31 to P-43, Q-17: methods. */
static void methods(void)
{
    ipsec_iToken_t token = ipsec_create_iToken();
    uint32_t method;

    CHECK(token != NULL);
    for (method = IPSEC_API_ATTR_authMeth_NONE; method <= IPSEC_API_ATTR_authMeth_PKIX_OFFLINE; method++) {
        CHECK(number(token, method) == IPSEC_API_ATTR_ANY);
        CHECK(set(token, method, IPSEC_API_ATTR_ENABLE) == 0);
        CHECK(number(token, method) == IPSEC_API_ATTR_ENABLE);
        CHECK(set(token, method, IPSEC_API_ATTR_DISABLE) == 0);
        FAILS(set(token, method, IPSEC_API_ATTR_LEVEL_HIGH), EINVAL);
        FAILS(set(token, method, 3), EINVAL);
        CHECK(number(token, method) == IPSEC_API_ATTR_DISABLE);
    }
    FAILS(set(token, 0x20a, IPSEC_API_ATTR_ENABLE), ENOENT);
    CHECK(ipsec_free_iToken(token) == 0);
}

/* P-25, Q-11: the first group is read-only, and of a token that names nobody there is nothing to read. */
static void first_group(void)
{
    ipsec_iToken_t token = ipsec_create_iToken();
    char text[256];
    uint32_t length, attribute;

    for (attribute = IPSEC_API_ATTR_auditString; attribute <= IPSEC_API_ATTR_channelBinding; attribute++) {
        FAILS(ipsec_set_token_attr(token, attribute, 2, "x"), EROFS);
        length = sizeof(text);
        if (attribute != IPSEC_API_ATTR_auditString)
            FAILS(ipsec_get_token_attr(token, attribute, &length, text), ENODATA);
    }
    length = sizeof(text);
    CHECK(ipsec_get_token_attr(token, IPSEC_API_ATTR_auditString, &length, text) == 0);
    CHECK(length == strlen(text) + 1);
    CHECK(ipsec_free_iToken(token) == 0);
}

/* C-1, P-8, P-9, Q-22, Q-26: sizes. */
static void sizes(void)
{
    ipsec_pToken_t token = ipsec_create_pToken();
    unsigned char room[4] = { 0xaa, 0xaa, 0xaa, 0xaa };
    char name[32];
    uint32_t length = 77;

    CHECK(ipsec_get_token_attr(token, IPSEC_API_ATTR_privacyProtected, &length, NULL) == 0);
    CHECK(length == 2);
    length = 1;
    FAILS(ipsec_get_token_attr(token, IPSEC_API_ATTR_privacyProtected, &length, room), ERANGE);
    CHECK(length == 2 && room[0] == 0xaa);
    length = 4;
    /* Aligned like nothing. */
    CHECK(ipsec_get_token_attr(token, IPSEC_API_ATTR_privacyProtected, &length, room + 1) == 0);
    CHECK(length == 2 && room[0] == 0xaa && room[3] == 0xaa);
    FAILS(ipsec_get_token_attr(token, IPSEC_API_ATTR_privacyProtected, NULL, room), EINVAL);

    FAILS(ipsec_set_token_attr(token, IPSEC_API_ATTR_privacyProtected, 2, NULL), EINVAL);
    FAILS(ipsec_set_token_attr(token, IPSEC_API_ATTR_privacyProtected, 4, room), EINVAL);
    FAILS(ipsec_set_token_attr(token, IPSEC_API_ATTR_privacyProtected, 0, room), EINVAL);
    FAILS(ipsec_set_token_attr(token, IPSEC_API_ATTR_policyName, 0xffffffff, room), EINVAL);
    FAILS(ipsec_set_token_attr(token, IPSEC_API_ATTR_policyName, 3, "abc"), EINVAL);
    CHECK(ipsec_set_token_attr(token, IPSEC_API_ATTR_policyName, 7, "rule 1") == 0);
    length = sizeof(name);
    CHECK(ipsec_get_token_attr(token, IPSEC_API_ATTR_policyName, &length, name) == 0);
    CHECK(length == 7 && strcmp(name, "rule 1") == 0);
    CHECK(ipsec_free_pToken(token) == 0);
}

/* P-48 to P-55, Q-31 to Q-43: what a template demands. */
static void templates(void)
{
    static const uint16_t levels[] = { IPSEC_API_ATTR_DISABLE, IPSEC_API_ATTR_ENABLE, IPSEC_API_ATTR_ANY,
                                       IPSEC_API_ATTR_LEVEL_LOW, IPSEC_API_ATTR_LEVEL_MEDIUM, IPSEC_API_ATTR_LEVEL_HIGH };
    ipsec_pToken_t token = ipsec_create_pToken();
    ipsec_iToken_t peer = ipsec_create_iToken(), got = NULL;
    uint32_t length = sizeof(got), attribute;
    size_t i;

    for (attribute = IPSEC_API_ATTR_privacyProtected; attribute <= IPSEC_API_ATTR_compressionAvailable; attribute++) {
        CHECK(number(token, attribute) == IPSEC_API_ATTR_ANY);
        for (i = 0; i < sizeof(levels) / sizeof(*levels); i++) {
            CHECK(set(token, attribute, levels[i]) == 0);
            CHECK(number(token, attribute) == levels[i]);
        }
        FAILS(set(token, attribute, 0x40), EINVAL);
    }
    CHECK(set(token, IPSEC_API_ATTR_tunnelMode, IPSEC_API_ATTR_ENABLE) == 0);
    FAILS(set(token, IPSEC_API_ATTR_tunnelMode, IPSEC_API_ATTR_LEVEL_LOW), EINVAL);
    FAILS(set(token, IPSEC_API_ATTR_authMeth_BTNS, IPSEC_API_ATTR_ENABLE), ENOENT);
    FAILS(ipsec_set_token_attr(token, IPSEC_API_ATTR_informationString, 1, ""), EROFS);
    FAILS(ipsec_get_token_attr(token, IPSEC_API_ATTR_informationString, &length, NULL), ENODATA);

    /* a token within a token is copied, in and out. */
    FAILS(ipsec_get_token_attr(token, IPSEC_API_ATTR_iToken, &length, &got), ENODATA);
    CHECK(set(peer, IPSEC_API_ATTR_authMeth_BTNS, IPSEC_API_ATTR_ENABLE) == 0);
    CHECK(ipsec_set_token_attr(token, IPSEC_API_ATTR_iToken, sizeof(peer), &peer) == 0);
    CHECK(set(peer, IPSEC_API_ATTR_authMeth_BTNS, IPSEC_API_ATTR_DISABLE) == 0);
    CHECK(ipsec_free_iToken(peer) == 0);
    length = 0;
    CHECK(ipsec_get_token_attr(token, IPSEC_API_ATTR_iToken, &length, NULL) == 0 && length == sizeof(got));
    CHECK(ipsec_get_token_attr(token, IPSEC_API_ATTR_iToken, &length, &got) == 0);
    CHECK(number(got, IPSEC_API_ATTR_authMeth_BTNS) == IPSEC_API_ATTR_ENABLE);
    CHECK(ipsec_free_iToken(got) == 0);
    CHECK(ipsec_free_pToken(token) == 0);
}

/* C-9: comparing and copying. */
static void copies(void)
{
    ipsec_pToken_t token = ipsec_create_pToken(), copy = NULL;

    CHECK(set(token, IPSEC_API_ATTR_privacyProtected, IPSEC_API_ATTR_LEVEL_HIGH) == 0);
    CHECK(ipsec_dup_pToken(token, &copy) == 0);
    CHECK(copy != token);
    CHECK(ipsec_cmp_pToken(token, copy) == 0);
    CHECK(set(copy, IPSEC_API_ATTR_privacyProtected, IPSEC_API_ATTR_LEVEL_LOW) == 0);
    CHECK(ipsec_cmp_pToken(token, copy) == 1);
    CHECK(number(token, IPSEC_API_ATTR_privacyProtected) == IPSEC_API_ATTR_LEVEL_HIGH);
    FAILS(ipsec_dup_pToken(token, NULL), EINVAL);
    CHECK(ipsec_free_pToken(token) == 0);
    CHECK(number(copy, IPSEC_API_ATTR_privacyProtected) == IPSEC_API_ATTR_LEVEL_LOW);
    CHECK(ipsec_free_pToken(copy) == 0);
}

int main(void)
{
    bad_tokens();
    methods();
    first_group();
    sizes();
    templates();
    copies();
    return 0;
}
