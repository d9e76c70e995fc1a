/* Tokens of sockets, against a gateway that says what the test tells it to; the first argument is the scenario. */
#include <latchway/ipsec.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <unistd.h>

#include "check.h"

static int connected(void)
{
    struct sockaddr_in to;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    memset(&to, 0, sizeof(to));
    to.sin_family = AF_INET;
    to.sin_port = htons(9);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0);
    return fd;
}

static uint16_t number(const void *token, uint32_t attribute)
{
    uint16_t value = 0xffff;
    uint32_t length = sizeof(value);
    CHECK(ipsec_get_token_attr(token, attribute, &length, &value) == 0);
    return value;
}

static int set(const void *token, uint32_t attribute, uint16_t value)
{
    return ipsec_set_token_attr(token, attribute, sizeof(value), &value);
}

static int reads(const void *token, uint32_t attribute, const char *expected)
{
    char text[512];
    uint32_t length = sizeof(text);
    CHECK(ipsec_get_token_attr(token, attribute, &length, text) == 0);
    CHECK(length == strlen(text) + 1); /* */
    return strcmp(text, expected) == 0;
}

static ipsec_iToken_t identity(ipsec_pToken_t token, uint32_t attribute)
{
    ipsec_iToken_t got = NULL;
    uint32_t length = sizeof(got);
    CHECK(ipsec_get_token_attr(token, attribute, &length, &got) == 0 && length == sizeof(got));
    return got;
}

static uint32_t state(int fd)
{
    uint32_t what = 0;
    CHECK(ipsec_latchway_state(fd, &what) == 0);
    return what;
}

/* Q-38, C-5, Q-11 to Q-16: iToken is the remote system. */
static void peer(ipsec_iToken_t token)
{
    static const unsigned char key[] = { 0, 1, 2, 3 };
    char text[2048], binding[128];
    unsigned char octets[16];
    uint32_t length = sizeof(octets), method;
    ipsec_iToken_t again = NULL;

    CHECK(number(token, IPSEC_API_ATTR_authenticationMethod) == IPSEC_API_ATTR_authMeth_PKIX_TRUSTED);
    for (method = IPSEC_API_ATTR_authMeth_NONE; method <= IPSEC_API_ATTR_authMeth_PKIX_OFFLINE; method++) {
        CHECK(number(token, method)
              == (method == IPSEC_API_ATTR_authMeth_PKIX_TRUSTED ? IPSEC_API_ATTR_ENABLE : IPSEC_API_ATTR_DISABLE));
        FAILS(set(token, method, IPSEC_API_ATTR_ENABLE), EPERM); /* P-41 */
    }
    CHECK(reads(token, IPSEC_API_ATTR_certificateDN, "CN=b.example"));
    CHECK(reads(token, IPSEC_API_ATTR_certificateAuthorityDN, "CN=Issuer"));
    CHECK(ipsec_get_token_attr(token, IPSEC_API_ATTR_pubKeyID, &length, octets) == 0);
    CHECK(length == sizeof(key) && memcmp(octets, key, length) == 0); /* */
    length = sizeof(binding);
    CHECK(ipsec_get_token_attr(token, IPSEC_API_ATTR_channelBinding, &length, binding) == 0);
    CHECK(length == 25 + 64 + 1 && strncmp(binding, "latchway-ipsec-end-point:0a0a", 29) == 0); /* C-15 */
    CHECK(number(token, IPSEC_LATCHWAY_ATTR_identityType) == 2); /* N-14: SADB_IDENTTYPE_FQDN */

    /* P-13, C-10: as text and back; the binding is the connection's and stays behind. */
    length = 0;
    CHECK(ipsec_iToken_export(token, NULL, &length) == 0 && length > 1 && length < sizeof(text));
    length--;
    FAILS(ipsec_iToken_export(token, text, &length), ERANGE);
    CHECK(ipsec_iToken_export(token, text, &length) == 0 && length == strlen(text) + 1);
    FAILS(ipsec_iToken_export(token, text, NULL), EINVAL);
    CHECK(ipsec_iToken_import(text, &again) == 0);
    CHECK(reads(again, IPSEC_API_ATTR_certificateDN, "CN=b.example"));
    FAILS(ipsec_get_token_attr(again, IPSEC_API_ATTR_channelBinding, &length, NULL), ENODATA);
    CHECK(ipsec_free_iToken(again) == 0);
    FAILS(ipsec_iToken_import("nobody", &again), EINVAL);
    FAILS(ipsec_iToken_import("\xff", &again), EINVAL);
    FAILS(ipsec_iToken_import(NULL, &again), EINVAL);
    FAILS(ipsec_iToken_import(text, NULL), EINVAL);
}

static void latched(void)
{
    int fd = connected();
    ipsec_pToken_t token = ipsec_create_pToken(), second = ipsec_create_pToken(), copy = NULL;
    ipsec_iToken_t end;

    CHECK(state(fd) == IPSEC_LATCHWAY_LATCHED);
    CHECK(ipsec_get_socket_pToken(fd, token) == 0);
    CHECK(number(token, IPSEC_API_ATTR_privacyProtected) == IPSEC_API_ATTR_LEVEL_LOW); /* the lesser of both ways */
    CHECK(number(token, IPSEC_API_ATTR_integrityProtected) == IPSEC_API_ATTR_LEVEL_MEDIUM);
    CHECK(number(token, IPSEC_API_ATTR_compressionAvailable) == IPSEC_API_ATTR_DISABLE); /* */
    CHECK(number(token, IPSEC_API_ATTR_tunnelMode) == IPSEC_API_ATTR_ENABLE);
    CHECK(number(token, IPSEC_API_ATTR_ipoptionsProtected) == IPSEC_API_ATTR_ENABLE);
    CHECK(number(token, IPSEC_LATCHWAY_ATTR_replayChecked) == IPSEC_API_ATTR_ENABLE);
    CHECK(number(token, IPSEC_LATCHWAY_ATTR_keyBits) == 128);
    CHECK(reads(token, IPSEC_LATCHWAY_ATTR_suites, "aes-256-gcm,aes-128-gcm"));
    CHECK(reads(token, IPSEC_LATCHWAY_ATTR_latch, "latch-7"));
    CHECK(reads(token, IPSEC_API_ATTR_policyName, "rule 10")); /* */
    CHECK(reads(token, IPSEC_API_ATTR_auditString, "fqdn:b.example by certificate"));
    CHECK(reads(token, IPSEC_API_ATTR_informationString, "esp tunnel aes-128-gcm")); /* */
    FAILS(set(token, IPSEC_API_ATTR_privacyProtected, IPSEC_API_ATTR_ENABLE), EPERM); /* P-41 */

    end = identity(token, IPSEC_API_ATTR_iToken);
    peer(end);
    CHECK(ipsec_free_iToken(end) == 0);
    end = identity(token, IPSEC_API_ATTR_remote_iToken); /* Q-39, C-5: ourselves */
    CHECK(reads(end, IPSEC_API_ATTR_certificateDN, "CN=a.example"));
    FAILS(ipsec_get_token_attr(end, IPSEC_API_ATTR_channelBinding, &(uint32_t){ 0 }, NULL), ENODATA);
    CHECK(ipsec_free_iToken(end) == 0);

    /* N-16, C-18, Q-52: read again it is equal, as is a copy; a template is not. */
    CHECK(ipsec_cmp_pToken(token, second) == 1);
    CHECK(ipsec_get_socket_pToken(fd, second) == 0);
    CHECK(ipsec_cmp_pToken(token, second) == 0);
    CHECK(ipsec_dup_pToken(token, &copy) == 0 && ipsec_cmp_pToken(token, copy) == 0);
    CHECK(ipsec_free_pToken(copy) == 0);
    CHECK(ipsec_free_pToken(second) == 0);

    /* What is no socket, and what is no token. */
    FAILS(ipsec_get_socket_pToken(-1, token), EBADF);
    FAILS(ipsec_get_socket_pToken(9999, token), EBADF);
    FAILS(ipsec_get_socket_pToken(fd, NULL), EINVAL);
    FAILS(ipsec_get_socket_pToken(fd, second), EBADF);
    FAILS(ipsec_set_socket_pToken(fd, NULL), EINVAL);
    FAILS(ipsec_set_socket_pToken(fd, second), EBADF);
    FAILS(ipsec_set_socket_pToken(-1, token), EBADF);
    FAILS(ipsec_latchway_forget(-1), EBADF);
    FAILS(ipsec_latchway_state(fd, NULL), EINVAL);
    FAILS(ipsec_latchway_set_timeout(0), EINVAL);
    CHECK(ipsec_free_pToken(token) == 0);
    CHECK(close(fd) == 0);
}

static void attach(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), other = connected();
    ipsec_pToken_t token = ipsec_create_pToken(), held = ipsec_create_pToken();
    ipsec_iToken_t remote, own, eap = ipsec_create_iToken();

    CHECK(ipsec_get_socket_pToken(other, held) == 0);
    remote = identity(held, IPSEC_API_ATTR_iToken);
    own = identity(held, IPSEC_API_ATTR_remote_iToken);
    CHECK(set(token, IPSEC_API_ATTR_privacyProtected, IPSEC_API_ATTR_LEVEL_MEDIUM) == 0);
    CHECK(set(token, IPSEC_API_ATTR_integrityProtected, IPSEC_API_ATTR_LEVEL_MEDIUM) == 0);
    CHECK(set(token, IPSEC_API_ATTR_tunnelMode, IPSEC_API_ATTR_ENABLE) == 0);
    CHECK(set(token, IPSEC_API_ATTR_ipoptionsProtected, IPSEC_API_ATTR_ENABLE) == 0);
    CHECK(set(token, IPSEC_LATCHWAY_ATTR_replayChecked, IPSEC_API_ATTR_ENABLE) == 0);
    CHECK(ipsec_set_token_attr(token, IPSEC_LATCHWAY_ATTR_suites, 25, "aes-256-gcm, aes-192-gcm") == 0);
    CHECK(ipsec_set_token_attr(token, IPSEC_API_ATTR_iToken, sizeof(remote), &remote) == 0);
    CHECK(ipsec_set_token_attr(token, IPSEC_API_ATTR_remote_iToken, sizeof(own), &own) == 0);
    CHECK(ipsec_set_socket_pToken(fd, token) == 0);
    /* A token that was had from a socket demands what it says. */
    CHECK(ipsec_set_socket_pToken(fd, held) == 0);

    /* What cannot be had is refused here. */
    CHECK(set(token, IPSEC_API_ATTR_compressionAvailable, IPSEC_API_ATTR_ENABLE) == 0);
    FAILS(ipsec_set_socket_pToken(fd, token), ENOTSUP);
    CHECK(set(token, IPSEC_API_ATTR_compressionAvailable, IPSEC_API_ATTR_ANY) == 0);
    CHECK(set(eap, IPSEC_API_ATTR_authMeth_EAP, IPSEC_API_ATTR_ENABLE) == 0);
    CHECK(ipsec_set_token_attr(token, IPSEC_API_ATTR_iToken, sizeof(eap), &eap) == 0);
    FAILS(ipsec_set_socket_pToken(fd, token), ENOTSUP);

    CHECK(ipsec_latchway_forget(fd) == 0);
    CHECK(ipsec_free_iToken(remote) == 0 && ipsec_free_iToken(own) == 0 && ipsec_free_iToken(eap) == 0);
    CHECK(ipsec_free_pToken(token) == 0 && ipsec_free_pToken(held) == 0);
    CHECK(close(fd) == 0 && close(other) == 0);
}

static void clear(void)
{
    int fd = connected();
    ipsec_pToken_t token = ipsec_create_pToken();
    uint32_t length = 0;

    CHECK(state(fd) == IPSEC_LATCHWAY_CLEAR);
    CHECK(ipsec_get_socket_pToken(fd, token) == 0);
    CHECK(number(token, IPSEC_API_ATTR_privacyProtected) == IPSEC_API_ATTR_DISABLE);
    CHECK(number(token, IPSEC_API_ATTR_integrityProtected) == IPSEC_API_ATTR_DISABLE);
    FAILS(ipsec_get_token_attr(token, IPSEC_API_ATTR_iToken, &length, NULL), ENODATA);
    CHECK(ipsec_free_pToken(token) == 0 && close(fd) == 0);
}

/* It fails with that errno, and the token stays a template that says what it said. */
static void fails(int number_of, uint32_t expected)
{
    int fd = connected();
    ipsec_pToken_t token = ipsec_create_pToken();

    CHECK(set(token, IPSEC_API_ATTR_privacyProtected, IPSEC_API_ATTR_LEVEL_HIGH) == 0);
    FAILS(ipsec_get_socket_pToken(fd, token), number_of);
    CHECK(number(token, IPSEC_API_ATTR_privacyProtected) == IPSEC_API_ATTR_LEVEL_HIGH);
    if (expected != 0)
        CHECK(state(fd) == expected);
    CHECK(ipsec_free_pToken(token) == 0 && close(fd) == 0);
}

static void refused(int number_of)
{
    int fd = connected();
    ipsec_pToken_t token = ipsec_create_pToken();
    uint32_t what = 77;

    FAILS(ipsec_set_socket_pToken(fd, token), number_of);
    FAILS(ipsec_get_socket_pToken(fd, token), number_of);
    FAILS(ipsec_latchway_forget(fd), number_of);
    if (number_of != ENONET) {
        FAILS(ipsec_latchway_state(fd, &what), number_of);
        CHECK(what == 77);
    }
    CHECK(ipsec_free_pToken(token) == 0 && close(fd) == 0);
}

int main(int count, char **arguments)
{
    const char *scenario = count > 1 ? arguments[1] : "";

    if (strcmp(scenario, "latched") == 0)
        latched();
    else if (strcmp(scenario, "attach") == 0)
        attach();
    else if (strcmp(scenario, "clear") == 0)
        clear();
    else if (strcmp(scenario, "suspended") == 0)
        fails(ENETDOWN, IPSEC_LATCHWAY_SUSPENDED);
    else if (strcmp(scenario, "dropped") == 0)
        fails(EACCES, IPSEC_LATCHWAY_DROPPED);
    else if (strcmp(scenario, "unconnected") == 0)
        fails(ENOTCONN, IPSEC_LATCHWAY_UNCONNECTED);
    else if (strcmp(scenario, "absent") == 0 || strcmp(scenario, "other-namespace") == 0) {
        fails(ENONET, IPSEC_LATCHWAY_NO_GATEWAY);
        refused(ENONET);
    } else if (strcmp(scenario, "nonsense") == 0)
        fails(EPROTO, 0);
    else if (strcmp(scenario, "silent") == 0) {
        CHECK(ipsec_latchway_set_timeout(200) == 0);
        fails(ETIMEDOUT, 0);
    } else if (strcmp(scenario, "refused") == 0 && count == 3)
        refused(atoi(arguments[2]));
    else
        return 2;
    return 0;
}
