/* Connects a PF_SHIM socket to who is required, and says what becomes of it until its latch is closed; to who is not there, it
 * does not connect. */
#include <latchway/shim.h>

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A gateway on a busy machine may take longer than the two seconds that a call waits; here it is asked until it has answered. */
static int patient_socket(int family, int type, int protocol)
{
    int fd;

    do
        fd = socket(family, type, protocol);
    while (fd == -1 && errno == ETIMEDOUT);
    return fd;
}

static int patient_getsockopt(int fd, int level, int option, void *value, socklen_t *length)
{
    socklen_t room = length == NULL ? 0 : *length;
    int result;

    do {
        if (length != NULL)
            *length = room;
        result = getsockopt(fd, level, option, value, length);
    } while (result == -1 && errno == ETIMEDOUT);
    return result;
}

static int patient_setsockopt(int fd, int level, int option, const void *value, socklen_t length)
{
    int result;

    do
        result = setsockopt(fd, level, option, value, length);
    while (result == -1 && errno == ETIMEDOUT);
    return result;
}

#define socket(family, type, protocol) patient_socket(family, type, protocol)
#define getsockopt(fd, level, option, value, length) patient_getsockopt(fd, level, option, value, length)
#define setsockopt(fd, level, option, value, length) patient_setsockopt(fd, level, option, value, length)

#define MUST(condition)                                                                               \
    do {                                                                                              \
        if (!(condition)) {                                                                           \
            printf("%s:%d: %s (errno %d: %s)\n", __FILE__, __LINE__, #condition, errno, words());     \
            exit(1);                                                                                  \
        }                                                                                             \
    } while (0)

static const char *words(void)
{
    static char text[1024];
    socklen_t length = sizeof(text);

    return getsockopt(-1, SOL_SHIM, SHIM_ERROR, text, &length) == 0 ? text : "";
}

static void say(int fd, const char *what, int option)
{
    char text[8193];
    socklen_t length = sizeof(text);

    MUST(getsockopt(fd, SOL_SHIM, option, text, &length) == 0);
    printf("%s: %s\n", what, text);
}

/* A socket that goes to this peer and to no other. */
static int required(const char *peer)
{
    struct shim_requirement wanted;
    int fd = socket(PF_SHIM, SOCK_STREAM | SOCK_CLOEXEC, 0);

    MUST(fd >= 0);
    memset(&wanted, 0, sizeof(wanted));
    wanted.sr_protection = SHIM_CONFIDENTIAL;
    wanted.sr_peer = peer;
    if (setsockopt(fd, SOL_SHIM, SHIM_REQUIRE, &wanted, sizeof(wanted)) == 0)
        return fd;
    printf("%s: errno %d\n", peer, errno);
    close(fd);
    return -1;
}

static void events(int fd)
{
    struct shim_notification came;
    struct msghdr message;
    struct iovec place;
    struct pollfd polled;
    uint32_t wanted = SHIM_EVENT_ALL;
    socklen_t length = sizeof(polled.fd);

    MUST(setsockopt(fd, SOL_SHIM, SHIM_EVENTS, &wanted, sizeof(wanted)) == 0);
    MUST(getsockopt(fd, SOL_SHIM, SHIM_EVENTS_DESCRIPTOR, &polled.fd, &length) == 0);
    polled.events = POLLIN;
    came.sn_type = 0;
    do {
        memset(&message, 0, sizeof(message));
        place.iov_base = &came;
        place.iov_len = sizeof(came);
        message.msg_iov = &place;
        message.msg_iovlen = 1;
        if (recvmsg(fd, &message, MSG_DONTWAIT) != sizeof(came)) {
            /* Nothing now; or the connection has ended, of which its event is still to come. */
            MUST(poll(&polled, 1, -1) == 1);
            continue;
        }
        MUST(message.msg_flags == (MSG_SHIM_NOTIFICATION | MSG_EOR));
        printf("event: %u %s\n", came.sn_type, came.sn_text);
        fflush(stdout);
    } while (came.sn_type != SHIM_EVENT_CLOSED);
}

int main(int count, char **arguments)
{
    struct addrinfo hints, *found;
    struct shim_protection held;
    socklen_t length = sizeof(held);
    char echo[8];
    int fd;

    MUST(count == 3);
    memset(&hints, 0, sizeof(hints));
    hints.ai_flags = AI_SHIM | AI_NUMERICHOST;
    hints.ai_socktype = SOCK_STREAM;
    MUST(getaddrinfo(arguments[1], arguments[2], &hints, &found) == 0 && found->ai_family == PF_SHIM);

    MUST(required("nobody.example") < 0);
    fd = required("3.example");
    MUST(fd >= 0 && connect(fd, found->ai_addr, found->ai_addrlen) == -1 && errno == ECONNREFUSED);
    MUST(close(fd) == 0);

    fd = required("2.example");
    MUST(fd >= 0 && connect(fd, found->ai_addr, found->ai_addrlen) == 0);
    freeaddrinfo(found);
    MUST(send(fd, "latchway", 8, MSG_NOSIGNAL) == 8 && recv(fd, echo, 8, MSG_WAITALL) == 8);
    say(fd, "peer", SHIM_PEER_IDENTITY);
    say(fd, "own", SHIM_LOCAL_IDENTITY);
    say(fd, "kept", SHIM_PEER_EXPORT);
    say(fd, "audit", SHIM_AUDIT);
    MUST(getsockopt(fd, SOL_SHIM, SHIM_PROTECTION, &held, &length) == 0);
    printf("held: %u %u %u %u %u\n", held.sp_state, held.sp_privacy, held.sp_integrity, held.sp_mode, held.sp_flags);
    fflush(stdout);
    events(fd);
    return close(fd);
}
