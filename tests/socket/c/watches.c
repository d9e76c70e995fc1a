/* Connects, and says what becomes of the connection until it is closed. */
#include <latchway/ipsec.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
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

static const char *name(uint32_t kind)
{
    switch (kind) {
    case IPSEC_LATCHWAY_EVENT_ESTABLISHED: return "established";
    case IPSEC_LATCHWAY_EVENT_BROKEN: return "broken";
    case IPSEC_LATCHWAY_EVENT_CLOSED: return "closed";
    case IPSEC_LATCHWAY_EVENT_REKEYED: return "rekeyed";
    default: return "another";
    }
}

int main(int count, char **arguments)
{
    struct sockaddr_in to;
    struct ipsec_latchway_event event;
    struct pollfd polled;
    int fd = socket(AF_INET, SOCK_STREAM, 0), came;

    MUST(count == 3);
    MUST(ipsec_latchway_set_timeout(20000) == 0);
    memset(&to, 0, sizeof(to));
    memset(&event, 0, sizeof(event));
    to.sin_family = AF_INET;
    to.sin_port = htons((uint16_t)atoi(arguments[2]));
    MUST(inet_pton(AF_INET, arguments[1], &to.sin_addr) == 1);
    setvbuf(stdout, NULL, _IOLBF, 0);
    MUST(connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0);
    polled.fd = ipsec_latchway_watch(&fd, 1);
    polled.events = POLLIN;
    MUST(polled.fd >= 0);
    while (event.kind != IPSEC_LATCHWAY_EVENT_CLOSED) {
        came = ipsec_latchway_next_event(polled.fd, &event, 0);
        MUST(came >= 0);
        if (came == 0)
            MUST(poll(&polled, 1, -1) == 1);
        else
            printf("%s: socket %d, state %u: %s\n", name(event.kind), (int)event.socket, event.state, event.text);
    }
    return 0;
}
