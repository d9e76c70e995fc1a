/* Requires integrity of a socket, connects it, and says what a channel can be bound to: twice the same, as memcmp() has it. */
#include <latchway/ipsec.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define MUST(condition)                                                                               \
    do {                                                                                              \
        if (!(condition)) {                                                                           \
            printf("%s:%d: %s (errno %d: %s)\n", __FILE__, __LINE__, #condition, errno,               \
                   ipsec_latchway_error());                                                           \
            exit(1);                                                                                  \
        }                                                                                             \
    } while (0)

/* The binding of a socket's connection, and how long it is. */
static uint32_t bound(int fd, char *text, uint32_t room)
{
    ipsec_pToken_t token = ipsec_create_pToken();
    ipsec_iToken_t peer;
    uint32_t length = sizeof(peer);

    MUST(token != NULL && ipsec_get_socket_pToken(fd, token) == 0);
    MUST(ipsec_get_token_attr(token, IPSEC_API_ATTR_iToken, &length, &peer) == 0);
    MUST(ipsec_get_token_attr(peer, IPSEC_API_ATTR_channelBinding, &room, text) == 0);
    MUST(ipsec_free_iToken(peer) == 0 && ipsec_free_pToken(token) == 0);
    return room;
}

int main(int count, char **arguments)
{
    struct sockaddr_in to;
    char first[256], second[256];
    const uint16_t enabled = IPSEC_API_ATTR_ENABLE;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    uint32_t length;
    ipsec_pToken_t required = ipsec_create_pToken();

    MUST(count == 3 && required != NULL);
    MUST(ipsec_latchway_set_timeout(20000) == 0);
    memset(&to, 0, sizeof(to));
    to.sin_family = AF_INET;
    to.sin_port = htons((uint16_t)atoi(arguments[2]));
    MUST(inet_pton(AF_INET, arguments[1], &to.sin_addr) == 1);
    MUST(ipsec_set_token_attr(required, IPSEC_API_ATTR_integrityProtected, sizeof(enabled), &enabled) == 0);
    MUST(ipsec_set_socket_pToken(fd, required) == 0 && ipsec_free_pToken(required) == 0);
    MUST(connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0);
    length = bound(fd, first, sizeof(first));
    MUST(length == bound(fd, second, sizeof(second)) && memcmp(first, second, length) == 0);
    MUST(length == strlen(first) + 1);
    printf("binding: %s\n", first);
    return 0;
}
