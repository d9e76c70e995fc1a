/* PF_SHIM sockets, against a gateway that says what the test tells it to; the first argument is the scenario. */
#include <latchway/shim.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
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

static const char *words(void)
{
    static char text[1024];
    socklen_t length = sizeof(text);

    if (getsockopt(-1, SOL_SHIM, SHIM_ERROR, text, &length) != 0)
        return "";
    return text;
}

#define CHECK(condition)                                                                              \
    do {                                                                                              \
        if (!(condition)) {                                                                           \
            int number = errno;                                                                       \
            fprintf(stderr, "%s:%d: %s (errno %d: %s)\n", __FILE__, __LINE__, #condition, number,     \
                    words());                                                                         \
            exit(1);                                                                                  \
        }                                                                                             \
    } while (0)

/* The call fails with this errno. */
#define FAILS(call, number)                                                                           \
    do {                                                                                              \
        errno = 0;                                                                                    \
        CHECK((call) == -1);                                                                          \
        CHECK(errno == (number));                                                                     \
    } while (0)

/* And the library says what to do about it. */
#define REFUSES(call, number)                                                                         \
    do {                                                                                              \
        FAILS(call, number);                                                                          \
        CHECK(words()[0] != '\0');                                                                    \
    } while (0)

/* Something to connect to, of the ordinary kind. */
static int listening(int family, struct sockaddr_storage *address, socklen_t *length)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    memset(address, 0, sizeof(*address));
    address->ss_family = (sa_family_t)family;
    if (family == AF_INET) {
        *length = sizeof(struct sockaddr_in);
        CHECK(inet_pton(family, "127.0.0.1", &((struct sockaddr_in *)address)->sin_addr) == 1);
    } else {
        *length = sizeof(struct sockaddr_in6);
        CHECK(inet_pton(family, "::1", &((struct sockaddr_in6 *)address)->sin6_addr) == 1);
    }
    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)address, *length) == 0 && listen(fd, 8) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)address, length) == 0);
    return fd;
}

/* A PF_SHIM socket that is connected, and its other end. */
static int connected(int *other)
{
    struct sockaddr_storage address;
    socklen_t length;
    int server = listening(AF_INET, &address, &length), fd = socket(PF_SHIM, SOCK_STREAM | SOCK_CLOEXEC, 0);

    CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&address, length) == 0);
    *other = accept(server, NULL, NULL);
    CHECK(*other >= 0 && close(server) == 0);
    return fd;
}

static int reads(int fd, int option, const char *expected)
{
    char text[512];
    socklen_t length = sizeof(text);

    CHECK(getsockopt(fd, SOL_SHIM, option, text, &length) == 0);
    if (strcmp(text, expected) != 0 || length != strlen(expected) + 1)
        fprintf(stderr, "%d: %s\n", option, text);
    return strcmp(text, expected) == 0 && length == strlen(expected) + 1;
}

static uint32_t state(int fd)
{
    struct shim_protection held;
    socklen_t length = sizeof(held);

    CHECK(getsockopt(fd, SOL_SHIM, SHIM_PROTECTION, &held, &length) == 0 && length == sizeof(held));
    return held.sp_state;
}

/* K-3: what there is not is an unknown family. */
static void absent(const char *number)
{
    int fd;

    if (atoi(number) == ETIMEDOUT)
        FAILS((socket)(PF_SHIM, SOCK_STREAM, 0), ETIMEDOUT);
    else
        FAILS(socket(PF_SHIM, SOCK_STREAM, 0), atoi(number));
    CHECK(words()[0] != '\0');
    fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(fd >= 0 && close(fd) == 0);
}

/* K-3: without the library it is none, either. */
static void alone(void)
{
    struct addrinfo hints, *found;
    int on = 1;
    socklen_t length = sizeof(on);
    int fd = socket(AF_INET6, SOCK_STREAM, 0);

    FAILS(socket(PF_SHIM, SOCK_STREAM, 0), EAFNOSUPPORT);
    memset(&hints, 0, sizeof(hints));
    hints.ai_flags = AI_SHIM;
    CHECK(getaddrinfo("::1", NULL, &hints, &found) == EAI_BADFLAGS);
    FAILS(getsockopt(fd, SOL_SHIM, SHIM_REQUIRED, &on, &length), ENOPROTOOPT);
    CHECK(close(fd) == 0);
}

/* K-1, K-2, K-4, K-5. */
static void latched(void)
{
    struct sockaddr_storage address;
    struct shim_protection held;
    socklen_t length;
    char small[4];
    int families[2] = { AF_INET, AF_INET6 }, fds[2], servers[2], k, required = 7, plain;

    for (k = 0; k < 2; k++) {
        servers[k] = listening(families[k], &address, &length);
        fds[k] = socket(PF_SHIM, SOCK_STREAM | SOCK_CLOEXEC, 0);
        CHECK(fds[k] >= 0 && (fcntl(fds[k], F_GETFD) & FD_CLOEXEC) != 0);
        CHECK(connect(fds[k], (struct sockaddr *)&address, length) == 0);
        CHECK(reads(fds[k], SHIM_PEER_IDENTITY, "fqdn:b.example"));
        CHECK(reads(fds[k], SHIM_LOCAL_IDENTITY, "fqdn:a.example"));
        CHECK(reads(fds[k], SHIM_AUDIT, "fqdn:b.example by certificate"));
    }
    length = sizeof(held);
    memset(&held, 0xff, sizeof(held));
    CHECK(getsockopt(fds[0], SOL_SHIM, SHIM_PROTECTION, &held, &length) == 0 && length == sizeof(held));
    CHECK(held.sp_state == SHIM_LATCHED && held.sp_privacy == 128 && held.sp_integrity == 128);
    CHECK(held.sp_mode == SHIM_TUNNEL && held.sp_flags == (SHIM_REPLAY_CHECKED | SHIM_OPTIONS_PROTECTED));
    CHECK(held.sp_reserved == 0);
    length = sizeof(required);
    CHECK(getsockopt(fds[0], SOL_SHIM, SHIM_REQUIRED, &required, &length) == 0 && required == 1);

    /* Lengths, and what is no option. */
    length = sizeof(small);
    REFUSES(getsockopt(fds[0], SOL_SHIM, SHIM_PEER_IDENTITY, small, &length), ERANGE);
    CHECK(length == strlen("fqdn:b.example") + 1);
    length = 0;
    REFUSES(getsockopt(fds[0], SOL_SHIM, SHIM_PROTECTION, NULL, &length), ERANGE);
    CHECK(length == sizeof(held));
    REFUSES(getsockopt(fds[0], SOL_SHIM, SHIM_PROTECTION, &held, NULL), EFAULT);
    REFUSES(getsockopt(fds[0], SOL_SHIM, SHIM_REQUIRE, &held, &length), ENOPROTOOPT);
    REFUSES(setsockopt(fds[0], SOL_SHIM, SHIM_PROTECTION, &held, sizeof(held)), ENOPROTOOPT);

    /* Other levels are the kernel's; other sockets as well. */
    length = sizeof(required);
    CHECK(getsockopt(fds[0], SOL_SOCKET, SO_DOMAIN, &required, &length) == 0 && required == AF_INET6);
    plain = socket(AF_INET6, SOCK_STREAM, 0);
    FAILS(getsockopt(plain, SOL_SHIM, SHIM_REQUIRED, &required, &length), ENOPROTOOPT);
    FAILS(setsockopt(plain, SOL_SHIM, SHIM_EVENTS, &required, sizeof(required)), ENOPROTOOPT);
    FAILS(getsockopt(-1, SOL_SHIM, SHIM_REQUIRED, &required, &length), EBADF);

    /* A number that is another socket's by now is that socket's. */
    CHECK(dup2(plain, fds[0]) == fds[0]);
    FAILS(getsockopt(fds[0], SOL_SHIM, SHIM_REQUIRED, &required, &length), ENOPROTOOPT);
    for (k = 0; k < 2; k++)
        CHECK(close(fds[k]) == 0 && close(servers[k]) == 0);
    FAILS(getsockopt(fds[1], SOL_SHIM, SHIM_REQUIRED, &required, &length), EBADF);
    CHECK(close(plain) == 0);
    FAILS(close(plain), EBADF);
}

/* K-5: nobody is named who is not known to be there. */
static void unknown(uint32_t expected, int number)
{
    char text[512];
    socklen_t length = sizeof(text);
    int other, fd = connected(&other);

    CHECK(state(fd) == expected);
    REFUSES(getsockopt(fd, SOL_SHIM, SHIM_PEER_IDENTITY, text, &length), number);
    REFUSES(getsockopt(fd, SOL_SHIM, SHIM_PEER_EXPORT, text, &length), number);
    CHECK(close(fd) == 0 && close(other) == 0);
}

/* K-6. */
static void require(void)
{
    struct shim_requirement wanted;
    char kept[8193];
    socklen_t length = sizeof(kept);
    int fd = socket(PF_SHIM, SOCK_STREAM | SOCK_CLOEXEC, 0);

    CHECK(fd >= 0);
    memset(&wanted, 0, sizeof(wanted));
    wanted.sr_protection = SHIM_CONFIDENTIAL;
    wanted.sr_key_bits = 192;
    wanted.sr_mode = SHIM_TUNNEL;
    wanted.sr_flags = SHIM_REPLAY_CHECKED | SHIM_OPTIONS_PROTECTED;
    wanted.sr_peer = "b.example";
    wanted.sr_local = "fqdn:a.example";
    CHECK(setsockopt(fd, SOL_SHIM, SHIM_REQUIRE, &wanted, sizeof(wanted)) == 0);

    /* The peer of an earlier connection, proven the same way. */
    CHECK(getsockopt(fd, SOL_SHIM, SHIM_PEER_EXPORT, kept, &length) == 0);
    memset(&wanted, 0, sizeof(wanted));
    wanted.sr_peer = kept;
    CHECK(setsockopt(fd, SOL_SHIM, SHIM_REQUIRE, &wanted, sizeof(wanted)) == 0);

    /* What is not understood requires nothing else. */
    wanted.sr_peer = "no identity";
    REFUSES(setsockopt(fd, SOL_SHIM, SHIM_REQUIRE, &wanted, sizeof(wanted)), EINVAL);
    wanted.sr_peer = "\xff";
    REFUSES(setsockopt(fd, SOL_SHIM, SHIM_REQUIRE, &wanted, sizeof(wanted)), EINVAL);
    wanted.sr_peer = NULL;
    wanted.sr_flags = 4;
    REFUSES(setsockopt(fd, SOL_SHIM, SHIM_REQUIRE, &wanted, sizeof(wanted)), EINVAL);
    REFUSES(setsockopt(fd, SOL_SHIM, SHIM_REQUIRE, &wanted, sizeof(wanted) - 1), EINVAL);
    REFUSES(setsockopt(fd, SOL_SHIM, SHIM_REQUIRE, NULL, sizeof(wanted)), EFAULT);

    memset(&wanted, 0, sizeof(wanted));
    CHECK(setsockopt(fd, SOL_SHIM, SHIM_REQUIRE, &wanted, sizeof(wanted)) == 0);
    CHECK(close(fd) == 0);
}

static void refused(int number)
{
    struct shim_requirement wanted;
    int fd = socket(PF_SHIM, SOCK_STREAM | SOCK_CLOEXEC, 0);

    CHECK(fd >= 0);
    memset(&wanted, 0, sizeof(wanted));
    wanted.sr_peer = "b.example";
    REFUSES(setsockopt(fd, SOL_SHIM, SHIM_REQUIRE, &wanted, sizeof(wanted)), number);
    CHECK(close(fd) == 0);
}

static struct addrinfo *resolved(const char *node, const char *service, int kind, int flags)
{
    struct addrinfo hints, *found = NULL;

    memset(&hints, 0, sizeof(hints));
    hints.ai_flags = AI_SHIM | AI_NUMERICHOST | AI_NUMERICSERV | flags;
    hints.ai_family = PF_SHIM;
    hints.ai_socktype = kind;
    CHECK(getaddrinfo(node, service, &hints, &found) == 0);
    CHECK(found != NULL && found->ai_family == PF_SHIM && found->ai_addrlen == sizeof(struct sockaddr_shim));
    return found;
}

/* K-7, K-8: the loop that every program has. */
static void handles(void)
{
    struct sockaddr_storage address;
    struct sockaddr_shim there, copied;
    struct addrinfo *found, *again, hints;
    socklen_t length;
    char port[8];
    int server = listening(AF_INET, &address, &length), fd, other;

    snprintf(port, sizeof(port), "%u", ntohs(((struct sockaddr_in *)&address)->sin_port));
    found = resolved("127.0.0.1", port, SOCK_STREAM, 0);
    again = resolved("127.0.0.1", port, SOCK_STREAM, 0);
    memcpy(&there, found->ai_addr, sizeof(there));
    CHECK(there.ss_family == AF_SHIM && there.ss_port == ((struct sockaddr_in *)&address)->sin_port);
    CHECK(there.ss_handle != 0 && there.ss_reserved == 0);
    CHECK(memcmp(again->ai_addr, &there, sizeof(there)) == 0);
    fd = socket(found->ai_family, found->ai_socktype, found->ai_protocol);
    freeaddrinfo(again);
    freeaddrinfo(found);

    /* One that was made up, one that is cut, and one for a socket that knows of none. */
    copied = there;
    copied.ss_handle ^= 1;
    REFUSES(connect(fd, (struct sockaddr *)&copied, sizeof(copied)), EADDRNOTAVAIL);
    copied.ss_handle = 0;
    REFUSES(connect(fd, (struct sockaddr *)&copied, sizeof(copied)), EADDRNOTAVAIL);
    REFUSES(connect(fd, (struct sockaddr *)&there, sizeof(there) - 1), EINVAL);
    other = socket(AF_INET, SOCK_STREAM, 0);
    FAILS(connect(other, (struct sockaddr *)&there, sizeof(there)), EAFNOSUPPORT);
    CHECK(close(other) == 0);
    CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&there, sizeof(there)) == 0);
    other = accept(server, NULL, NULL);
    CHECK(other >= 0 && send(fd, "x", 1, MSG_NOSIGNAL) == 1 && read(other, port, 1) == 1);
    CHECK(close(fd) == 0 && close(other) == 0 && close(server) == 0);

    /* What the resolver says of anything else is as ever. */
    memset(&hints, 0, sizeof(hints));
    hints.ai_flags = AI_SHIM | AI_NUMERICHOST;
    CHECK(getaddrinfo("no address", NULL, &hints, &found) == EAI_NONAME);
    hints.ai_flags = AI_NUMERICHOST;
    CHECK(getaddrinfo("127.0.0.1", NULL, &hints, &found) == 0 && found->ai_family == AF_INET);
    freeaddrinfo(found);
    CHECK(getaddrinfo("127.0.0.1", NULL, NULL, &found) == 0 && found->ai_family == AF_INET);
    freeaddrinfo(found);
}

/* K-2, K-7: one that listens is there for both, and datagrams go to handles. */
static void serving(void)
{
    struct addrinfo *any = resolved(NULL, "0", SOCK_STREAM, AI_PASSIVE), *found;
    struct sockaddr_in6 bound;
    struct sockaddr_in client;
    struct msghdr message;
    struct iovec place;
    socklen_t length = sizeof(bound);
    char port[8], octet = 0;
    int server = socket(any->ai_family, any->ai_socktype, any->ai_protocol), fd, other;

    CHECK(any->ai_next == NULL && ((struct sockaddr_shim *)any->ai_addr)->ss_handle == 0);
    CHECK(server >= 0 && bind(server, any->ai_addr, any->ai_addrlen) == 0 && listen(server, 8) == 0);
    freeaddrinfo(any);
    CHECK(getsockname(server, (struct sockaddr *)&bound, &length) == 0 && bound.sin6_family == AF_INET6);
    memset(&client, 0, sizeof(client));
    client.sin_family = AF_INET;
    client.sin_port = bound.sin6_port;
    CHECK(inet_pton(AF_INET, "127.0.0.1", &client.sin_addr) == 1);
    fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(connect(fd, (struct sockaddr *)&client, sizeof(client)) == 0);
    other = accept4(server, NULL, NULL, SOCK_CLOEXEC);
    CHECK(other >= 0 && reads(other, SHIM_PEER_IDENTITY, "fqdn:b.example"));
    CHECK(close(fd) == 0 && close(other) == 0);
    fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(connect(fd, (struct sockaddr *)&client, sizeof(client)) == 0);
    other = accept(server, NULL, NULL);
    CHECK(other >= 0 && reads(other, SHIM_PEER_IDENTITY, "fqdn:b.example"));
    CHECK(close(fd) == 0 && close(other) == 0 && close(server) == 0);

    fd = socket(AF_INET, SOCK_DGRAM, 0);
    client.sin_port = 0;
    length = sizeof(client);
    CHECK(bind(fd, (struct sockaddr *)&client, length) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)&client, &length) == 0);
    snprintf(port, sizeof(port), "%u", ntohs(client.sin_port));
    found = resolved("127.0.0.1", port, SOCK_DGRAM, 0);
    other = socket(PF_SHIM, SOCK_DGRAM, 0);
    CHECK(other >= 0 && sendto(other, "a", 1, 0, found->ai_addr, found->ai_addrlen) == 1);
    CHECK(recv(fd, &octet, 1, 0) == 1 && octet == 'a');
    memset(&message, 0, sizeof(message));
    message.msg_name = found->ai_addr;
    message.msg_namelen = found->ai_addrlen;
    message.msg_iov = &place;
    message.msg_iovlen = 1;
    place.iov_base = "b";
    place.iov_len = 1;
    CHECK(sendmsg(other, &message, 0) == 1 && message.msg_name == found->ai_addr);
    CHECK(recv(fd, &octet, 1, 0) == 1 && octet == 'b');
    message.msg_name = &client;
    message.msg_namelen = sizeof(client);
    place.iov_base = "c";
    CHECK(sendmsg(other, &message, 0) == 1);
    CHECK(recv(fd, &octet, 1, 0) == 1 && octet == 'c');
    ((struct sockaddr_shim *)found->ai_addr)->ss_handle ^= 1;
    REFUSES(sendto(other, "a", 1, 0, found->ai_addr, found->ai_addrlen), EADDRNOTAVAIL);
    message.msg_name = found->ai_addr;
    message.msg_namelen = found->ai_addrlen;
    REFUSES(sendmsg(other, &message, 0), EADDRNOTAVAIL);
    FAILS(sendto(other, "a", 1, 0, NULL, 0), EDESTADDRREQ);
    freeaddrinfo(found);
    CHECK(close(fd) == 0 && close(other) == 0);
}

/* One recvmsg() into two places, so that a notification is spread over both. */
static ssize_t received(int fd, struct shim_notification *came, int flags, int *said)
{
    struct msghdr message;
    struct iovec places[2];
    ssize_t count;

    memset(&message, 0, sizeof(message));
    memset(came, 0, sizeof(*came));
    places[0].iov_base = came;
    places[0].iov_len = 1;
    places[1].iov_base = (char *)came + 1;
    places[1].iov_len = sizeof(*came) - 1;
    message.msg_iov = places;
    message.msg_iovlen = 2;
    count = recvmsg(fd, &message, flags);
    *said = message.msg_flags;
    return count;
}

#define TOLD(flags, type)                                                                             \
    do {                                                                                              \
        CHECK(received(fd, &came, flags, &said) == sizeof(came));                                     \
        CHECK(said == (MSG_SHIM_NOTIFICATION | MSG_EOR));                                             \
        CHECK(came.sn_type == (type) && came.sn_length == sizeof(came) && came.sn_reserved == 0);     \
    } while (0)

/* K-9 to K-12. */
static void events(void)
{
    struct shim_notification came;
    struct shim_requirement nothing;
    struct msghdr message;
    struct iovec place;
    struct pollfd polled;
    struct timeval soon = { 0, 50000 };
    uint32_t wanted = SHIM_EVENT_ALL & ~(uint32_t)SHIM_EVENT_REKEYED, is;
    socklen_t length = sizeof(is);
    char few[8];
    int other, said, status, fd = socket(PF_SHIM, SOCK_STREAM, 0), descriptor;
    pid_t child;

    REFUSES(setsockopt(fd, SOL_SHIM, SHIM_EVENTS, &wanted, sizeof(wanted)), ENOTCONN);
    CHECK(close(fd) == 0);
    fd = connected(&other);
    CHECK(getsockopt(fd, SOL_SHIM, SHIM_EVENTS, &is, &length) == 0 && is == 0);
    REFUSES(getsockopt(fd, SOL_SHIM, SHIM_EVENTS_DESCRIPTOR, &descriptor, &length), ENODATA);
    CHECK(setsockopt(fd, SOL_SHIM, SHIM_EVENTS, &wanted, sizeof(wanted)) == 0);
    CHECK(getsockopt(fd, SOL_SHIM, SHIM_EVENTS, &is, &length) == 0 && is == wanted);
    CHECK(getsockopt(fd, SOL_SHIM, SHIM_EVENTS_DESCRIPTOR, &descriptor, &length) == 0);

    /* A child has the socket, and hears nothing. */
    child = fork();
    if (child == 0) {
        CHECK(getsockopt(fd, SOL_SHIM, SHIM_EVENTS, &is, &length) == 0 && is == 0);
        CHECK(reads(fd, SHIM_PEER_IDENTITY, "fqdn:b.example"));
        FAILS(received(fd, &came, MSG_DONTWAIT, &said), EAGAIN);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);

    /* The first is waited for, and looked at before it is taken. */
    TOLD(MSG_PEEK, SHIM_EVENT_ESTABLISHED);
    TOLD(0, SHIM_EVENT_ESTABLISHED);
    CHECK(came.sn_state == SHIM_LATCHED && came.sn_time == 7 && strcmp(came.sn_text, "it is so") == 0);
    CHECK(came.sn_from[0] == '\0' && came.sn_lost == 0);

    /* That it has new keys was not asked for. K-9: the peer has moved, and the socket is the same. */
    TOLD(0, SHIM_EVENT_ADDRESS_CHANGED);
    CHECK(strcmp(came.sn_from, "192.0.2.1:4500") == 0 && strcmp(came.sn_to, "[2001:db8::1]:4500") == 0);
    CHECK(reads(fd, SHIM_PEER_IDENTITY, "fqdn:b.example"));

    /* Without room it is cut, and is no data all the same. */
    memset(&message, 0, sizeof(message));
    place.iov_base = few;
    place.iov_len = sizeof(few);
    message.msg_iov = &place;
    message.msg_iovlen = 1;
    CHECK(recvmsg(fd, &message, 0) == sizeof(few));
    CHECK(message.msg_flags == (MSG_SHIM_NOTIFICATION | MSG_TRUNC) && *(uint32_t *)(void *)few == SHIM_EVENT_LOST);

    /* Data is data; and what does not come in time has not come. */
    CHECK(write(other, "data", 4) == 4);
    CHECK(received(fd, &came, 0, &said) == 4 && said == 0 && memcmp(&came, "data", 4) == 0);
    FAILS(received(fd, &came, MSG_DONTWAIT, &said), EAGAIN);
    CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof(soon)) == 0);
    FAILS(received(fd, &came, 0, &said), EAGAIN);
    soon.tv_usec = 0;
    CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof(soon)) == 0);

    /* The word to go on: the gateway then ends, while this waits. That is always told, and nothing after it. */
    wanted = SHIM_EVENT_BROKEN;
    CHECK(setsockopt(fd, SOL_SHIM, SHIM_EVENTS, &wanted, sizeof(wanted)) == 0);
    memset(&nothing, 0, sizeof(nothing));
    CHECK(setsockopt(fd, SOL_SHIM, SHIM_REQUIRE, &nothing, sizeof(nothing)) == 0);
    polled.fd = descriptor;
    polled.events = POLLIN;
    CHECK(poll(&polled, 1, 30000) == 1);
    TOLD(0, SHIM_EVENT_ENDING);
    CHECK(getsockopt(fd, SOL_SHIM, SHIM_EVENTS, &is, &length) == 0 && is == 0);
    CHECK(shutdown(other, SHUT_WR) == 0 && received(fd, &came, 0, &said) == 0 && said == 0);

    /* Taken back, and closed. */
    CHECK(setsockopt(fd, SOL_SHIM, SHIM_EVENTS, &wanted, sizeof(wanted)) == 0);
    wanted = 0;
    CHECK(setsockopt(fd, SOL_SHIM, SHIM_EVENTS, &wanted, sizeof(wanted)) == 0);
    wanted = SHIM_EVENT_ALL;
    CHECK(setsockopt(fd, SOL_SHIM, SHIM_EVENTS, &wanted, sizeof(wanted)) == 0);
    CHECK(getsockopt(fd, SOL_SHIM, SHIM_EVENTS_DESCRIPTOR, &descriptor, &length) == 0);
    CHECK(close(fd) == 0 && close(other) == 0);
    FAILS(fcntl(descriptor, F_GETFD), EBADF);
    wanted = 0x80;
    fd = connected(&other);
    REFUSES(setsockopt(fd, SOL_SHIM, SHIM_EVENTS, &wanted, sizeof(wanted)), EINVAL);
    REFUSES(setsockopt(fd, SOL_SHIM, SHIM_EVENTS, &wanted, 2), EINVAL);
    CHECK(close(fd) == 0 && close(other) == 0);
}

static void *receives(void *fd)
{
    struct shim_notification came;
    int said;

    received(*(int *)fd, &came, 0, &said);
    return NULL;
}

static void cancelled(int fd)
{
    pthread_t thread;
    void *came = NULL;

    CHECK(pthread_create(&thread, NULL, receives, &fd) == 0);
    CHECK(pthread_cancel(thread) == 0 && pthread_join(thread, &came) == 0);
    CHECK(came == PTHREAD_CANCELED);
}

static volatile sig_atomic_t rang;

static void rings(int number)
{
    int before = errno, ends[2];

    (void)number;
    CHECK(pipe(ends) == 0 && close(ends[0]) == 0 && close(ends[1]) == 0);
    FAILS(connect(-1, NULL, 0), EBADF);
    errno = before;
    rang = 1;
}

/* What is none of ours passes as it would without the library; and threads that wait can be cancelled. */
static void untouched(void)
{
    struct sigaction action;
    struct itimerval often = { { 0, 20000 }, { 0, 20000 } }, never = { { 0, 0 }, { 0, 0 } };
    struct shim_notification came;
    uint32_t wanted = SHIM_EVENT_BROKEN, is = 0;
    socklen_t length = sizeof(is);
    int ends[2], other, said, status, fd = connected(&other);
    pid_t child;

    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    cancelled(ends[0]);
    cancelled(fd);
    CHECK(setsockopt(fd, SOL_SHIM, SHIM_EVENTS, &wanted, sizeof(wanted)) == 0);
    cancelled(fd);

    memset(&action, 0, sizeof(action));
    action.sa_handler = rings;
    CHECK(sigaction(SIGALRM, &action, NULL) == 0 && setitimer(ITIMER_REAL, &often, NULL) == 0);
    FAILS(received(ends[0], &came, 0, &said), EINTR);
    CHECK(rang == 1);
    FAILS(received(fd, &came, 0, &said), EINTR);
    CHECK(setitimer(ITIMER_REAL, &never, NULL) == 0);

    /* A child that has our memory closes its own descriptors. */
    child = vfork();
    if (child == 0) {
        close(fd);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
    CHECK(getsockopt(fd, SOL_SHIM, SHIM_EVENTS, &is, &length) == 0 && is == wanted);

    /* Success leaves errno alone. */
    errno = 77;
    CHECK(close(ends[0]) == 0 && close(ends[1]) == 0 && errno == 77);
    CHECK(write(other, "x", 1) == 1 && received(fd, &came, 0, &said) == 1);
    CHECK(close(fd) == 0 && close(other) == 0);
}

int main(int count, char **arguments)
{
    const char *scenario = count > 1 ? arguments[1] : "";

    if (strcmp(scenario, "absent") == 0 && count == 3)
        absent(arguments[2]);
    else if (strcmp(scenario, "alone") == 0)
        alone();
    else if (strcmp(scenario, "latched") == 0)
        latched();
    else if (strcmp(scenario, "unknown") == 0 && count == 4)
        unknown((uint32_t)atoi(arguments[2]), atoi(arguments[3]));
    else if (strcmp(scenario, "require") == 0)
        require();
    else if (strcmp(scenario, "refused") == 0 && count == 3)
        refused(atoi(arguments[2]));
    else if (strcmp(scenario, "handles") == 0)
        handles();
    else if (strcmp(scenario, "serving") == 0)
        serving();
    else if (strcmp(scenario, "events") == 0)
        events();
    else if (strcmp(scenario, "untouched") == 0)
        untouched();
    else
        return 2;
    return 0;
}
