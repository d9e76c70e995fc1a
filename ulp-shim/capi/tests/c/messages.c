/* Tokens in messages, and events, against a gateway that says what the test tells it to; the first argument is the scenario. */
#include <latchway/ipsec.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

#define ROOM (IPSEC_LATCHWAY_PTOKEN_SPACE + CMSG_SPACE(sizeof(struct in_pktinfo)) + CMSG_SPACE(64))

/* A message, with room for everything. */
struct message {
    struct msghdr header;
    struct iovec piece;
    struct sockaddr_storage name;
    union {
        struct cmsghdr align;
        char octets[ROOM];
    } control;
    char data[64];
};

static struct message *ready(struct message *message, size_t room)
{
    memset(message, 0, sizeof(*message));
    message->piece.iov_base = message->data;
    message->piece.iov_len = sizeof(message->data);
    message->header.msg_iov = &message->piece;
    message->header.msg_iovlen = 1;
    message->header.msg_name = &message->name;
    message->header.msg_namelen = sizeof(message->name);
    message->header.msg_control = room > 0 ? message->control.octets : NULL;
    message->header.msg_controllen = room;
    return message;
}

static int bound(struct sockaddr_in *address, const char *to)
{
    socklen_t length = sizeof(*address);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    memset(address, 0, sizeof(*address));
    address->sin_family = AF_INET;
    CHECK(inet_pton(AF_INET, to, &address->sin_addr) == 1);
    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)address, length) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)address, &length) == 0);
    return fd;
}

/* A message to there. */
static struct message *to(struct message *message, const struct sockaddr_in *there, size_t room)
{
    ready(message, room);
    memcpy(&message->name, there, sizeof(*there));
    message->header.msg_namelen = sizeof(*there);
    message->piece.iov_len = 5;
    memcpy(message->data, "hello", 5);
    return message;
}

static ipsec_pToken_t confidential(void)
{
    uint16_t value = IPSEC_API_ATTR_LEVEL_HIGH;
    ipsec_pToken_t token = ipsec_create_pToken();

    CHECK(ipsec_set_token_attr(token, IPSEC_API_ATTR_privacyProtected, sizeof(value), &value) == 0);
    return token;
}

static int nothing_came(int fd)
{
    char octet;
    return recv(fd, &octet, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN;
}

/* The control that comes says nothing but tokens. */
static int bare(const struct message *message)
{
    return message->header.msg_controllen == 0 ||
           (message->header.msg_controllen == IPSEC_LATCHWAY_PTOKEN_SPACE &&
            CMSG_FIRSTHDR(&message->header)->cmsg_len == CMSG_LEN(16));
}

static void sending(int number_of)
{
    struct sockaddr_in there, own;
    struct message message, came;
    struct in_pktinfo place;
    struct cmsghdr *before;
    int receiver = bound(&there, "127.0.0.1"), sender = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int stream = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ipsec_pToken_t token = confidential(), empty = ipsec_create_pToken();

    /* */
    FAILS(ipsec_set_msg_pToken(NULL, token), EINVAL);
    FAILS(ipsec_set_msg_pToken(&to(&message, &there, ROOM)->header, NULL), EINVAL);
    FAILS(ipsec_set_msg_pToken(&to(&message, &there, 0)->header, token), ENOBUFS);
    FAILS(ipsec_set_msg_pToken(&to(&message, &there, IPSEC_LATCHWAY_PTOKEN_SPACE - 1)->header, token), ENOBUFS);
    FAILS(ipsec_get_msg_pToken(&to(&message, &there, ROOM)->header, empty), ENOMSG);
    FAILS(ipsec_get_msg_pToken(&to(&message, &there, ROOM)->header, NULL), EINVAL);
    FAILS(ipsec_get_msg_pToken(NULL, empty), EINVAL);

    CHECK(ipsec_set_msg_pToken(&to(&message, &there, ROOM)->header, token) == 0);
    CHECK(message.header.msg_controllen == IPSEC_LATCHWAY_PTOKEN_SPACE);
    /* What was put in is found, is a copy, and is not put in twice. */
    CHECK(ipsec_get_msg_pToken(&message.header, empty) == 0 && ipsec_cmp_pToken(empty, token) == 0);
    CHECK(ipsec_set_msg_pToken(&message.header, token) == 0);
    CHECK(message.header.msg_controllen == IPSEC_LATCHWAY_PTOKEN_SPACE);
    CHECK(ipsec_free_pToken(token) == 0);
    /* A send that is not wrapped is refused by the kernel: nothing goes out unguarded. */
    CHECK(sendmsg(sender, &message.header, 0) == -1 && errno == EINVAL);
    FAILS(ipsec_latchway_sendmsg(stream, &message.header, 0), EPROTONOSUPPORT);
    if (number_of != 0) {
        FAILS(ipsec_latchway_sendmsg(sender, &message.header, 0), number_of);
        CHECK(nothing_came(receiver));
    } else {
        CHECK(ipsec_latchway_sendmsg(sender, &message.header, 0) == 5);
        CHECK(recvmsg(receiver, &ready(&came, ROOM)->header, 0) == 5 && memcmp(came.data, "hello", 5) == 0);
        /* From an address that the message says, behind which the token stands; and without a token. */
        to(&message, &there, CMSG_SPACE(sizeof(place)));
        before = CMSG_FIRSTHDR(&message.header);
        before->cmsg_level = IPPROTO_IP;
        before->cmsg_type = IP_PKTINFO;
        before->cmsg_len = CMSG_LEN(sizeof(place));
        memset(&place, 0, sizeof(place));
        CHECK(inet_pton(AF_INET, "127.0.0.7", &place.ipi_spec_dst) == 1);
        memcpy(CMSG_DATA(before), &place, sizeof(place));
        message.header.msg_controllen = ROOM;
        CHECK(ipsec_set_msg_pToken(&message.header, empty) == 0);
        CHECK(message.header.msg_controllen == CMSG_SPACE(sizeof(place)) + IPSEC_LATCHWAY_PTOKEN_SPACE);
        CHECK(ipsec_latchway_sendmsg(sender, &message.header, 0) == 5);
        CHECK(recvmsg(receiver, &ready(&came, ROOM)->header, 0) == 5);
        memcpy(&own, &came.name, sizeof(own));
        CHECK(own.sin_addr.s_addr == place.ipi_spec_dst.s_addr);
        CHECK(ipsec_latchway_sendmsg(sender, &to(&message, &there, 0)->header, 0) == 5);
        CHECK(recvmsg(receiver, &ready(&came, ROOM)->header, 0) == 5);
        /* Connected, and nowhere to go. */
        CHECK(ipsec_set_msg_pToken(&to(&message, &there, ROOM)->header, empty) == 0);
        message.header.msg_name = NULL;
        message.header.msg_namelen = 0;
        FAILS(ipsec_latchway_sendmsg(sender, &message.header, 0), EDESTADDRREQ);
        CHECK(connect(sender, (struct sockaddr *)&there, sizeof(there)) == 0);
        CHECK(ipsec_latchway_sendmsg(sender, &message.header, 0) == 5);
        CHECK(recvmsg(receiver, &ready(&came, ROOM)->header, 0) == 5);
        memset(&came.name, 0xff, sizeof(came.name));
        came.header.msg_namelen = sizeof(came.name);
        CHECK(ipsec_set_msg_pToken((came.header.msg_controllen = ROOM, &came.header), empty) == 0);
        FAILS(ipsec_latchway_sendmsg(sender, &came.header, 0), EAFNOSUPPORT);
    }
    FAILS(ipsec_latchway_sendmsg(-1, &message.header, 0), EBADF);
    FAILS(ipsec_latchway_sendmsg(sender, NULL, 0), EINVAL);
    CHECK(ipsec_free_pToken(empty) == 0);
    CHECK(close(sender) == 0 && close(receiver) == 0 && close(stream) == 0);
}

static void *later(void *argument)
{
    struct timespec moment = {0, 100000000};
    struct message message;

    nanosleep(&moment, NULL);
    to(&message, argument, 0);
    CHECK(sendmsg(*(int *)((char *)argument + sizeof(struct sockaddr_in)), &message.header, 0) == 5);
    return NULL;
}

static void receiving(void)
{
    struct {
        struct sockaddr_in there;
        int sender;
    } from;
    struct sockaddr_in one, other;
    struct message message;
    struct timeval moment = {0, 50000};
    struct timespec settle = {0, 200000000};
    pthread_t thread;
    int receiver = bound(&from.there, "127.0.0.1"), on = 1, status;
    int first = bound(&one, "127.0.0.1"), second = bound(&other, "127.0.0.2"), ends[2];
    ipsec_pToken_t token = ipsec_create_pToken(), another = ipsec_create_pToken();
    pid_t child;

    CHECK(sendmsg(first, &to(&message, &from.there, 0)->header, 0) == 5);
    /* It may have come before times were asked for: nothing is certain of it. */
    CHECK(ipsec_latchway_recvmsg(receiver, &ready(&message, ROOM)->header, 0) == 5);
    CHECK(memcmp(message.data, "hello", 5) == 0 && memcmp(&message.name, &one, sizeof(one)) == 0);
    CHECK(message.header.msg_namelen == sizeof(one) && bare(&message));
    FAILS(ipsec_get_msg_pToken(&message.header, token), ENOMSG);
    FAILS(ipsec_latchway_recvmsg(receiver, &ready(&message, ROOM)->header, MSG_DONTWAIT), EAGAIN);
    /* The system begins to take times a moment after it was asked to. */
    nanosleep(&settle, NULL);

    /* N-17: two peers, two tokens. */
    CHECK(sendmsg(first, &to(&message, &from.there, 0)->header, 0) == 5);
    CHECK(sendmsg(second, &to(&message, &from.there, 0)->header, 0) == 5);
    CHECK(ipsec_latchway_recvmsg(receiver, &ready(&message, ROOM)->header, 0) == 5);
    CHECK(bare(&message) && !(message.header.msg_flags & MSG_CTRUNC));
    CHECK(ipsec_get_msg_pToken(&message.header, token) == 0);
    CHECK(ipsec_latchway_recvmsg(receiver, &ready(&message, ROOM)->header, 0) == 5);
    CHECK(ipsec_get_msg_pToken(&message.header, another) == 0);
    CHECK(ipsec_cmp_pToken(token, another) == 1 && ipsec_cmp_pToken(token, token) == 0);

    /* N-7: a child has none of them. */
    child = fork();
    if (child == 0) {
        FAILS(ipsec_get_msg_pToken(&message.header, another), EBADF);
        another = ipsec_create_pToken();
        FAILS(ipsec_get_msg_pToken(&message.header, another), ENOMSG);
        CHECK(ipsec_free_pToken(another) == 0);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);

    /* Too little room for a token, none at all, and a name that is cut off. */
    CHECK(sendmsg(first, &to(&message, &from.there, 0)->header, 0) == 5);
    CHECK(ipsec_latchway_recvmsg(receiver, &ready(&message, IPSEC_LATCHWAY_PTOKEN_SPACE - 1)->header, 0) == 5);
    CHECK(message.header.msg_controllen == 0 && message.header.msg_flags & MSG_CTRUNC);
    CHECK(sendmsg(first, &to(&message, &from.there, 0)->header, 0) == 5);
    ready(&message, 0)->header.msg_namelen = 4;
    CHECK(ipsec_latchway_recvmsg(receiver, &message.header, 0) == 5);
    CHECK(message.header.msg_namelen == sizeof(one) && !(message.header.msg_flags & MSG_CTRUNC));
    CHECK(memcmp(&message.name, &one, 4) == 0 && ((struct sockaddr_in *)&message.name)->sin_addr.s_addr == 0);
    CHECK(sendmsg(first, &to(&message, &from.there, 0)->header, 0) == 5);
    ready(&message, ROOM)->header.msg_name = NULL;
    message.piece.iov_len = 3;
    CHECK(ipsec_latchway_recvmsg(receiver, &message.header, 0) == 3 && message.header.msg_flags & MSG_TRUNC);
    CHECK(ipsec_get_msg_pToken(&message.header, token) == 0);

    /* What the program asks for itself it gets. */
    CHECK(setsockopt(second, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on)) == 0);
    FAILS(ipsec_latchway_recvmsg(second, &ready(&message, ROOM)->header, MSG_DONTWAIT), EAGAIN);
    CHECK(sendmsg(first, &to(&message, &other, 0)->header, 0) == 5);
    CHECK(ipsec_latchway_recvmsg(second, &ready(&message, ROOM)->header, 0) == 5);
    CHECK(CMSG_FIRSTHDR(&message.header)->cmsg_type == IP_PKTINFO);
    CHECK(ipsec_get_msg_pToken(&message.header, token) == 0);

    /* It waits for a datagram, as the socket does, and knows it for certain then. */
    from.sender = first;
    CHECK(pthread_create(&thread, NULL, later, &from) == 0);
    CHECK(ipsec_latchway_recvmsg(receiver, &ready(&message, ROOM)->header, 0) == 5);
    CHECK(ipsec_get_msg_pToken(&message.header, token) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(setsockopt(receiver, SOL_SOCKET, SO_RCVTIMEO, &moment, sizeof(moment)) == 0);
    FAILS(ipsec_latchway_recvmsg(receiver, &ready(&message, ROOM)->header, 0), EAGAIN);

    /* Looked at before: the time may be that of the look, so nothing is certain until the queue is empty. */
    CHECK(sendmsg(first, &to(&message, &from.there, 0)->header, 0) == 5);
    CHECK(ipsec_latchway_recvmsg(receiver, &ready(&message, ROOM)->header, MSG_PEEK) == 5);
    CHECK(ipsec_latchway_recvmsg(receiver, &ready(&message, ROOM)->header, 0) == 5);

    /* A token of a message that is none of ours, and messages that are none. */
    memset(CMSG_DATA(CMSG_FIRSTHDR(&to(&message, &one, ROOM)->header)), 0, 16);
    CHECK(ipsec_set_msg_pToken(&message.header, token) == 0);
    CMSG_DATA(CMSG_FIRSTHDR(&message.header))[12] ^= 0x55;
    FAILS(ipsec_get_msg_pToken(&message.header, token), ENOMSG);
    FAILS(ipsec_latchway_sendmsg(first, &message.header, 0), ENOMSG);
    FAILS(ipsec_latchway_recvmsg(receiver, NULL, 0), EINVAL);
    FAILS(ipsec_latchway_recvmsg(-1, &message.header, 0), EBADF);
    CHECK(pipe(ends) == 0);
    FAILS(ipsec_latchway_recvmsg(ends[0], &message.header, 0), ENOTSOCK);
    CHECK(close(ends[0]) == 0 && close(ends[1]) == 0);
    CHECK(ipsec_free_pToken(token) == 0 && ipsec_free_pToken(another) == 0);
    CHECK(close(receiver) == 0 && close(first) == 0 && close(second) == 0);
}

/* Nothing is known of what is not certain. */
static void uncertain(void)
{
    struct sockaddr_in there;
    struct message message;
    int receiver = bound(&there, "127.0.0.1"), sender = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct timespec settle = {0, 200000000};
    ipsec_pToken_t token = confidential(), same = confidential();

    FAILS(ipsec_latchway_recvmsg(receiver, &ready(&message, ROOM)->header, MSG_DONTWAIT), EAGAIN);
    nanosleep(&settle, NULL);
    CHECK(sendmsg(sender, &to(&message, &there, 0)->header, 0) == 5);
    CHECK(ipsec_latchway_recvmsg(receiver, &ready(&message, ROOM)->header, 0) == 5);
    FAILS(ipsec_get_msg_pToken(&message.header, token), ENOMSG);
    CHECK(ipsec_cmp_pToken(token, same) == 0);
    CHECK(ipsec_free_pToken(token) == 0 && ipsec_free_pToken(same) == 0);
    CHECK(close(receiver) == 0 && close(sender) == 0);
}

static void watching(void)
{
    struct sockaddr_in address;
    struct ipsec_latchway_event event;
    int fds[2], many[65], watch, status, k;
    struct pollfd polled;
    pid_t child;

    for (k = 0; k < 2; k++)
        fds[k] = bound(&address, "127.0.0.1");
    for (k = 0; k < 65; k++)
        many[k] = fds[0];
    FAILS(ipsec_latchway_watch(NULL, 1), EINVAL);
    FAILS(ipsec_latchway_watch(fds, 0), EINVAL);
    FAILS(ipsec_latchway_watch(many, 65), EINVAL);
    many[1] = -1;
    FAILS(ipsec_latchway_watch(many, 2), EBADF);
    FAILS(ipsec_latchway_next_event(fds[0], &event, 0), EBADF);

    watch = ipsec_latchway_watch(fds, 2);
    CHECK(watch >= 0);
    FAILS(ipsec_latchway_next_event(watch, NULL, 0), EINVAL);
    polled.fd = watch;
    polled.events = POLLIN;
    CHECK(poll(&polled, 1, 5000) == 1);
    child = fork();
    if (child == 0) {
        FAILS(ipsec_latchway_next_event(watch, &event, 0), EBADF);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);

    /* What has come is told to who waited for the descriptor and then asks no time. */
    CHECK(ipsec_latchway_next_event(watch, &event, 0) == 1);
    CHECK(event.kind == IPSEC_LATCHWAY_EVENT_ESTABLISHED && event.socket == 1 && event.time == 7);
    CHECK(event.state == IPSEC_LATCHWAY_LATCHED && event.reserved == 0);
    CHECK(strlen(event.text) == sizeof(event.text) - 1 && event.from[0] == '\0');
    CHECK(ipsec_latchway_next_event(watch, &event, 5000) == 1);
    CHECK(event.kind == IPSEC_LATCHWAY_EVENT_ADDRESS_CHANGED && event.socket == 0 && event.state == 0);
    CHECK(strcmp(event.from, "192.0.2.1:4500") == 0 && strcmp(event.to, "[2001:db8::1]:4500") == 0);
    CHECK(ipsec_latchway_next_event(watch, &event, -1) == 1);
    CHECK(event.kind == IPSEC_LATCHWAY_EVENT_LOST && event.socket == -1 && event.lost == 12);
    CHECK(ipsec_latchway_next_event(watch, &event, 10000) == 1);
    CHECK(event.kind == IPSEC_LATCHWAY_EVENT_ENDING);
    FAILS(ipsec_latchway_next_event(watch, &event, 0), ENONET);
    CHECK(close(watch) == 0);
    FAILS(ipsec_latchway_next_event(watch, &event, 0), EBADF);
    CHECK(dup2(fds[0], watch) == watch);
    FAILS(ipsec_latchway_next_event(watch, &event, 0), EBADF);
    many[1] = ipsec_latchway_watch(fds, 1);
    CHECK(many[1] >= 0);
    event.kind = 99;
    CHECK(ipsec_latchway_next_event(many[1], &event, 0) == 0 && event.kind == 99);
    CHECK(close(many[1]) == 0);
    CHECK(close(watch) == 0); /* It was ours, and still is. */
    CHECK(close(fds[0]) == 0 && close(fds[1]) == 0);
}

int main(int count, char **arguments)
{
    const char *scenario = count > 1 ? arguments[1] : "";

    if (strcmp(scenario, "sending") == 0)
        sending(0);
    else if (strcmp(scenario, "unsent") == 0 && count == 3)
        sending(atoi(arguments[2]));
    else if (strcmp(scenario, "receiving") == 0)
        receiving();
    else if (strcmp(scenario, "uncertain") == 0)
        uncertain();
    else if (strcmp(scenario, "watching") == 0)
        watching();
    else
        return 2;
    return 0;
}
