/* Requires a peer, kept as text, of a socket that is not connected yet, connects it, and says what came of that. */
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

int main(int count, char **arguments)
{
    struct sockaddr_in to;
    char audit[4096];
    uint32_t length = sizeof(audit);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ipsec_pToken_t token = ipsec_create_pToken();
    ipsec_iToken_t peer;

    MUST(count == 4 && token != NULL);
    MUST(ipsec_latchway_set_timeout(20000) == 0);
    memset(&to, 0, sizeof(to));
    to.sin_family = AF_INET;
    to.sin_port = htons((uint16_t)atoi(arguments[2]));
    MUST(inet_pton(AF_INET, arguments[1], &to.sin_addr) == 1);
    MUST(ipsec_iToken_import(arguments[3], &peer) == 0);
    MUST(ipsec_set_token_attr(token, IPSEC_API_ATTR_iToken, sizeof(peer), &peer) == 0);
    MUST(ipsec_free_iToken(peer) == 0);
    MUST(ipsec_set_socket_pToken(fd, token) == 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0) {
        printf("refused: errno %d\n", errno);
        return 0;
    }
    MUST(ipsec_free_pToken(token) == 0);
    token = ipsec_create_pToken();
    MUST(token != NULL && ipsec_get_socket_pToken(fd, token) == 0);
    MUST(ipsec_get_token_attr(token, IPSEC_API_ATTR_auditString, &length, audit) == 0);
    printf("connected: %s\n", audit);
    return 0;
}
