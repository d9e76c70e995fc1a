/* A server that answers with what it is told, to those on its list and to nobody else.
 *
 *     echo LISTEN PORT IDENTITY...     for example: echo 10.1.0.1 7 fqdn:b.example fqdn:c.example
 *
 * Who is on the list the program decides by the identity that the peer has proven, and never by its address. Only a connection
 * that is latched is served: it stays with this peer as long as it lives.
 */
#include <latchway/ipsec.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void fail(const char *doing)
{
    fprintf(stderr, "%s: %s\n", doing, ipsec_latchway_error());
    exit(1);
}

/* Whether an exported identity, latchway-itoken:1;id=NAME;..., names one of these. */
static int is_on_list(const char *identity, char **list, int length)
{
    const char *name = strstr(identity, ";id=");
    int k;

    if (name == NULL)
        return 0;
    name += strlen(";id=");
    for (k = 0; k < length; k++) {
        if (strncmp(name, list[k], strlen(list[k])) == 0 && strchr(";", name[strlen(list[k])]) != NULL)
            return 1;
    }
    return 0;
}

/* Whether the peer of a connection may be served; says who it is. */
static int may_be_served(int fd, char **list, int length)
{
    static char identity[16384], audit[8192];
    uint32_t room = sizeof(identity), state = 0, size = sizeof(ipsec_iToken_t);
    ipsec_pToken_t protection = ipsec_create_pToken();
    ipsec_iToken_t peer = NULL;
    int may = 0;

    if (protection == NULL)
        fail("making a token");
    if (ipsec_latchway_state(fd, &state) == 0 && state == IPSEC_LATCHWAY_LATCHED &&
        ipsec_get_socket_pToken(fd, protection) == 0 &&
        ipsec_get_token_attr(protection, IPSEC_API_ATTR_iToken, &size, &peer) == 0) {
        may = ipsec_iToken_export(peer, identity, &room) == 0 && is_on_list(identity, list, length);
        size = sizeof(audit);
        if (ipsec_get_token_attr(protection, IPSEC_API_ATTR_auditString, &size, audit) == 0)
            printf("%s: %s\n", may ? "accepted" : "refused", audit);
        ipsec_free_iToken(peer);
    } else {
        printf("refused: %s\n", ipsec_latchway_error());
    }
    ipsec_free_pToken(protection);
    return may;
}

static void echo(int fd)
{
    char octets[4096];
    ssize_t said, done, written;

    while ((said = read(fd, octets, sizeof(octets))) > 0) {
        for (done = 0; done < said; done += written) {
            written = write(fd, octets + done, (size_t)(said - done));
            if (written <= 0)
                return;
        }
    }
}

int main(int count, char **arguments)
{
    struct sockaddr_in address;
    int listener, fd, on = 1;

    if (count < 3) {
        fprintf(stderr, "usage: echo LISTEN PORT IDENTITY...\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    memset(&address, 0, sizeof(address));
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t)atoi(arguments[2]));
    listener = socket(AF_INET, SOCK_STREAM, 0);
    if (inet_pton(AF_INET, arguments[1], &address.sin_addr) != 1 || listener < 0 ||
        setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        bind(listener, (struct sockaddr *)&address, sizeof(address)) != 0) {
        perror("binding");
        return 1;
    }
    if (listen(listener, 128) != 0) {
        perror("listening");
        return 1;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("listening\n");
    /* One peer after the other. */
    while ((fd = accept(listener, NULL, NULL)) >= 0) {
        if (may_be_served(fd, arguments + 3, count - 3))
            echo(fd);
        close(fd);
    }
    perror("accepting");
    return 1;
}
