/* A server for datagrams that tells each peer who it is: one socket, many peers.
 *
 *     udp_two_peers LISTEN PORT        for example: udp_two_peers 10.1.0.1 9000
 *
 * Each datagram has a token of its own. One of which nothing is certain, as the first of a flow, gets no answer: whoever wants one
 * asks again.
 */
#include <latchway/ipsec.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

static void fail(const char *doing)
{
    fprintf(stderr, "%s: %s\n", doing, ipsec_latchway_error());
    exit(1);
}

/* A socket at an address, whose datagrams have tokens. */
static int bound(const char *address, const char *port)
{
    struct sockaddr_in at;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);

    memset(&at, 0, sizeof(at));
    at.sin_family = AF_INET;
    at.sin_port = htons((uint16_t)atoi(port));
    if (fd < 0 || inet_pton(AF_INET, address, &at.sin_addr) != 1) {
        fprintf(stderr, "usage: udp_two_peers LISTEN PORT\n");
        exit(2);
    }
    if (ipsec_latchway_tag_datagrams(fd) != 0) /* Before it is bound. */
        fail("asking for tokens");
    if (bind(fd, (struct sockaddr *)&at, sizeof(at)) != 0) {
        perror("binding");
        exit(1);
    }
    return fd;
}

/* Who has sent a datagram, as latchway-itoken:1;id=NAME;...; NULL where that is not certain. */
static const char *sender(const struct msghdr *message, ipsec_pToken_t token)
{
    static char identity[16384];
    uint32_t room = sizeof(identity), size = sizeof(ipsec_iToken_t);
    ipsec_iToken_t peer = NULL;
    const char *name = NULL;

    if (ipsec_get_msg_pToken(message, token) != 0 ||
        ipsec_get_token_attr(token, IPSEC_API_ATTR_iToken, &size, &peer) != 0)
        return NULL;
    if (ipsec_iToken_export(peer, identity, &room) == 0 && (name = strstr(identity, ";id=")) != NULL) {
        name += strlen(";id=");
        identity[(name - identity) + (long)strcspn(name, ";")] = '\0';
    }
    ipsec_free_iToken(peer);
    return name;
}

static void serve(int fd, ipsec_pToken_t token)
{
    union {
        struct cmsghdr align;
        char octets[IPSEC_LATCHWAY_CONTROL_SPACE];
    } control;
    char octets[2048], answer[17000], text[INET_ADDRSTRLEN];
    struct sockaddr_in from;
    struct iovec piece = {octets, sizeof(octets)};
    struct msghdr message;
    const char *name;
    int length;

    memset(&message, 0, sizeof(message));
    message.msg_name = &from;
    message.msg_namelen = sizeof(from);
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = &control;
    message.msg_controllen = sizeof(control);
    if (ipsec_latchway_recvmsg(fd, &message, 0) < 0)
        fail("receiving");
    inet_ntop(AF_INET, &from.sin_addr, text, sizeof(text));
    name = sender(&message, token);
    if (name == NULL) {
        printf("%s may be anybody: %s\n", text, ipsec_latchway_error());
        return;
    }
    printf("%s is %s\n", text, name);
    length = snprintf(answer, sizeof(answer), "you are %s\n", name);
    if (sendto(fd, answer, (size_t)length, 0, (struct sockaddr *)&from, sizeof(from)) != length)
        perror("answering");
}

int main(int count, char **arguments)
{
    ipsec_pToken_t token = ipsec_create_pToken();
    int fd = bound(count == 3 ? arguments[1] : "", count == 3 ? arguments[2] : "");

    if (token == NULL)
        fail("making a token");
    setvbuf(stdout, NULL, _IOLBF, 0);
    puts("listening");
    for (;;)
        serve(fd, token);
}
