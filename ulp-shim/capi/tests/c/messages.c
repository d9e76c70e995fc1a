/* Datagrams with tokens, against a gateway that says what the test tells it to. */
#include <latchway/ipsec.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

static char octets[64];
static struct sockaddr_in from;
static union {
    struct cmsghdr align;
    char octets[IPSEC_LATCHWAY_CONTROL_SPACE];
} control;
static struct iovec piece = {octets, sizeof(octets)};

static struct sockaddr_in local(void)
{
    struct sockaddr_in address;

    memset(&address, 0, sizeof(address));
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

/* A socket whose datagrams have tokens, and where it is. */
static int tagged(struct sockaddr_in *address)
{
    struct timeval patience = {20, 0};
    socklen_t length = sizeof(*address);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    *address = local();
    CHECK(fd >= 0 && ipsec_latchway_tag_datagrams(fd) == 0);
    CHECK(bind(fd, (struct sockaddr *)address, length) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)address, &length) == 0);
    CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) == 0);
    return fd;
}

static void say(const struct sockaddr_in *to)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    CHECK(fd >= 0 && sendto(fd, "hello", 5, 0, (const struct sockaddr *)to, sizeof(*to)) == 5);
    CHECK(close(fd) == 0);
}

static struct msghdr empty(size_t room)
{
    struct msghdr message;

    memset(&message, 0, sizeof(message));
    memset(&control, 0, sizeof(control));
    message.msg_name = &from;
    message.msg_namelen = sizeof(from);
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = &control;
    message.msg_controllen = room;
    return message;
}

/* A message with a token: the system stamps datagrams a while after it is asked to. */
static struct msghdr with_token(int fd, const struct sockaddr_in *to, ipsec_pToken_t token)
{
    for (;;) {
        struct msghdr message = empty(sizeof(control));

        say(to);
        CHECK(ipsec_latchway_recvmsg(fd, &message, 0) == 5 && memcmp(octets, "hello", 5) == 0);
        CHECK(message.msg_namelen == sizeof(from) && from.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
        CHECK((message.msg_flags & MSG_CTRUNC) == 0);
        if (ipsec_get_msg_pToken(&message, token) == 0)
            return message;
        CHECK(errno == ENOMSG);
    }
}

static void certain(void)
{
    struct sockaddr_in address, other;
    ipsec_pToken_t token = ipsec_create_pToken();
    ipsec_iToken_t peer;
    uint32_t length = sizeof(peer);
    int fd = tagged(&address), plain = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), status, k, times = 0;
    struct msghdr message = with_token(fd, &address, token);
    struct cmsghdr *said;
    char text[4096];
    pid_t child;

    CHECK(ipsec_get_token_attr(token, IPSEC_API_ATTR_iToken, &length, &peer) == 0);
    length = sizeof(text);
    CHECK(ipsec_iToken_export(peer, text, &length) == 0 && strstr(text, ";id=fqdn:b.example;") != NULL);
    CHECK(ipsec_free_iToken(peer) == 0);
    /* What the system says stays there, behind the token. */
    for (said = CMSG_FIRSTHDR(&message); said != NULL; said = CMSG_NXTHDR(&message, said))
        times += said->cmsg_level == SOL_SOCKET && said->cmsg_type == SCM_TIMESTAMPNS;
    CHECK(times == 1);
    /* A message with a token is none that sendmsg() takes. */
    message.msg_name = &address;
    CHECK(sendmsg(fd, &message, 0) == -1 && errno == EINVAL);
    FAILS(ipsec_get_msg_pToken(NULL, token), EINVAL);
    FAILS(ipsec_get_msg_pToken(&message, NULL), EINVAL);
    child = fork();
    if (child == 0) {
        ipsec_pToken_t own = ipsec_create_pToken();

        FAILS(ipsec_get_msg_pToken(&message, own), ENOMSG);
        CHECK(ipsec_free_pToken(own) == 0);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);

    /* With no room there is no token, and it is said so. */
    for (k = 0; k < 2; k++) {
        message = empty(k == 0 ? 0 : CMSG_SPACE(15) - 8);
        message.msg_control = k == 0 ? NULL : &control;
        say(&address);
        CHECK(ipsec_latchway_recvmsg(fd, &message, 0) == 5 && (message.msg_flags & MSG_CTRUNC) != 0);
        FAILS(ipsec_get_msg_pToken(&message, token), ENOMSG);
    }
    /* Nor of one that is looked at, nor by a socket that was not asked. */
    message = empty(sizeof(control));
    say(&address);
    CHECK(ipsec_latchway_recvmsg(fd, &message, MSG_PEEK) == 5);
    FAILS(ipsec_get_msg_pToken(&message, token), ENOMSG);
    other = local();
    length = sizeof(other);
    CHECK(plain >= 0 && bind(plain, (struct sockaddr *)&other, length) == 0);
    CHECK(getsockname(plain, (struct sockaddr *)&other, &length) == 0);
    FAILS(ipsec_latchway_tag_datagrams(plain), EINVAL);
    say(&other);
    message = empty(sizeof(control));
    CHECK(ipsec_latchway_recvmsg(plain, &message, 0) == 5 && message.msg_controllen == 0);
    FAILS(ipsec_get_msg_pToken(&message, token), ENOMSG);
    CHECK(ipsec_free_pToken(token) == 0 && close(fd) == 0 && close(plain) == 0);
}

static void uncertain(void)
{
    struct sockaddr_in address;
    ipsec_pToken_t token = ipsec_create_pToken();
    int fd = tagged(&address), k;

    for (k = 0; k < 5; k++) {
        struct msghdr message = empty(sizeof(control));

        say(&address);
        CHECK(ipsec_latchway_recvmsg(fd, &message, 0) == 5 && message.msg_controllen > 0);
        FAILS(ipsec_get_msg_pToken(&message, token), ENOMSG);
    }
    CHECK(ipsec_free_pToken(token) == 0 && close(fd) == 0);
}

static void *ends(void *fd)
{
    (void)shutdown(*(int *)fd, SHUT_RD);
    return NULL;
}

static void waits(void)
{
    struct sockaddr_in address;
    struct timeval patience = {0, 50000};
    struct msghdr message = empty(sizeof(control));
    pthread_t thread;
    int fd = tagged(&address), tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    FAILS(ipsec_latchway_recvmsg(-1, &message, 0), EBADF);
    FAILS(ipsec_latchway_recvmsg(fd, NULL, 0), EINVAL);
    FAILS(ipsec_latchway_tag_datagrams(-1), EBADF);
    FAILS(ipsec_latchway_tag_datagrams(tcp), EPROTONOSUPPORT);
    FAILS(ipsec_latchway_recvmsg(tcp, &message, 0), ENOTCONN);
    FAILS(ipsec_latchway_recvmsg(fd, &message, MSG_DONTWAIT), EAGAIN);
    message.msg_namelen = (socklen_t)-1;
    FAILS(ipsec_latchway_recvmsg(fd, &message, 0), EINVAL);
    message.msg_namelen = sizeof(from);
    message.msg_control = NULL;
    FAILS(ipsec_latchway_recvmsg(fd, &message, 0), EINVAL);
    message.msg_control = &control;
    CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) == 0);
    FAILS(ipsec_latchway_recvmsg(fd, &message, 0), EAGAIN);
    /* The end of the socket ends the waiting, as it does that of recvmsg(). */
    patience.tv_sec = 60;
    CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) == 0);
    CHECK(pthread_create(&thread, NULL, ends, &fd) == 0);
    CHECK(ipsec_latchway_recvmsg(fd, &message, 0) == 0);
    CHECK(pthread_join(thread, NULL) == 0 && close(fd) == 0 && close(tcp) == 0);
}

int main(int count, char **arguments)
{
    const char *scenario = count > 1 ? arguments[1] : "";

    if (strcmp(scenario, "certain") == 0)
        certain();
    else if (strcmp(scenario, "uncertain") == 0)
        uncertain();
    else if (strcmp(scenario, "waits") == 0)
        waits();
    else
        return 2;
    return 0;
}
