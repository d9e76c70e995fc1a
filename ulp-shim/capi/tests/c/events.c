/* Events, against a gateway that says what the test tells it to; the first argument is the scenario. */
#include <latchway/ipsec.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

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

    if (strcmp(scenario, "watching") == 0)
        watching();
    else
        return 2;
    return 0;
}
