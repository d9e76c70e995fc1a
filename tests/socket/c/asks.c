/* Connects, exchanges something, and says all that is known of the connection, of this process's and of its child's. */
#include <latchway/ipsec.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define MUST(condition)                                                                               \
    do {                                                                                              \
        if (!(condition)) {                                                                           \
            printf("%s:%d: %s (errno %d: %s)\n", __FILE__, __LINE__, #condition, errno,               \
                   ipsec_latchway_error());                                                           \
            exit(1);                                                                                  \
        }                                                                                             \
    } while (0)

static ipsec_pToken_t asked(int fd)
{
    ipsec_pToken_t token = ipsec_create_pToken();
    MUST(token != NULL && ipsec_get_socket_pToken(fd, token) == 0);
    return token;
}

static void say(const char *what, const void *token, uint32_t attribute)
{
    char text[8192];
    uint32_t length = sizeof(text);
    if (ipsec_get_token_attr(token, attribute, &length, text) == 0)
        printf("%s: %s\n", what, text);
    else
        printf("%s: errno %d\n", what, errno);
}

static void say_number(const char *what, const void *token, uint32_t attribute)
{
    uint16_t number;
    uint32_t length = sizeof(number);
    MUST(ipsec_get_token_attr(token, attribute, &length, &number) == 0);
    printf("%s: %u\n", what, number);
}

static void say_binding(ipsec_pToken_t token)
{
    ipsec_iToken_t identity;
    uint32_t length = sizeof(identity);
    MUST(ipsec_get_token_attr(token, IPSEC_API_ATTR_iToken, &length, &identity) == 0);
    say("binding", identity, IPSEC_API_ATTR_channelBinding);
    MUST(ipsec_free_iToken(identity) == 0);
}

static void say_identity(const char *what, ipsec_pToken_t token, uint32_t attribute)
{
    char text[16384];
    ipsec_iToken_t identity;
    uint32_t length = sizeof(identity);
    MUST(ipsec_get_token_attr(token, attribute, &length, &identity) == 0);
    length = sizeof(text);
    MUST(ipsec_iToken_export(identity, text, &length) == 0);
    printf("%s: %s\n", what, text);
    MUST(ipsec_free_iToken(identity) == 0);
}

/* Passes a socket to a process that has nothing else of ours, which asks about it. */
static void pass(int fd)
{
    int ends[2], status;
    char octet = 0;
    union {
        struct cmsghdr align;
        char octets[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec piece;
    struct msghdr message;
    pid_t child;

    memset(&message, 0, sizeof(message));
    memset(&control, 0, sizeof(control));
    piece.iov_base = &octet;
    piece.iov_len = 1;
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control.octets;
    message.msg_controllen = sizeof(control.octets);
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    child = fork();
    MUST(child >= 0);
    if (child == 0) {
        close(fd);
        MUST(recvmsg(ends[1], &message, 0) == 1);
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
        say("passed on", asked(fd), IPSEC_API_ATTR_auditString);
        exit(0);
    }
    CMSG_FIRSTHDR(&message)->cmsg_level = SOL_SOCKET;
    CMSG_FIRSTHDR(&message)->cmsg_type = SCM_RIGHTS;
    CMSG_FIRSTHDR(&message)->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(CMSG_FIRSTHDR(&message)), &fd, sizeof(fd));
    MUST(sendmsg(ends[0], &message, 0) == 1);
    MUST(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(int count, char **arguments)
{
    struct sockaddr_in to;
    char octets[8];
    int fd = socket(AF_INET, SOCK_STREAM, 0), copy, status;
    uint32_t state;
    ipsec_pToken_t token, second;
    pid_t child;

    MUST(count == 3);
    memset(&to, 0, sizeof(to));
    to.sin_family = AF_INET;
    to.sin_port = htons((uint16_t)atoi(arguments[2]));
    MUST(inet_pton(AF_INET, arguments[1], &to.sin_addr) == 1);
    setvbuf(stdout, NULL, _IOLBF, 0);
    MUST(ipsec_latchway_state(fd, &state) == 0 && state == IPSEC_LATCHWAY_UNCONNECTED);
    token = ipsec_create_pToken();
    MUST(ipsec_get_socket_pToken(fd, token) == -1 && errno == ENOTCONN);
    MUST(ipsec_free_pToken(token) == 0);
    MUST(connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0);
    MUST(write(fd, "latchway", 8) == 8 && read(fd, octets, 8) == 8);

    MUST(ipsec_latchway_state(fd, &state) == 0);
    printf("state: %u\n", state);
    token = asked(fd);
    say("audit", token, IPSEC_API_ATTR_auditString);
    say("policy", token, IPSEC_API_ATTR_policyName);
    say("information", token, IPSEC_API_ATTR_informationString);
    say("suites", token, IPSEC_LATCHWAY_ATTR_suites);
    say_number("privacy", token, IPSEC_API_ATTR_privacyProtected);
    say_number("integrity", token, IPSEC_API_ATTR_integrityProtected);
    say_number("compression", token, IPSEC_API_ATTR_compressionAvailable);
    say_number("tunnel", token, IPSEC_API_ATTR_tunnelMode);
    say_number("options", token, IPSEC_API_ATTR_ipoptionsProtected);
    say_number("replay", token, IPSEC_LATCHWAY_ATTR_replayChecked);
    say_identity("peer", token, IPSEC_API_ATTR_iToken);
    say_identity("own", token, IPSEC_API_ATTR_remote_iToken);
    say_binding(token);

    /* N-16: the same again, and of a copy of the descriptor. */
    copy = dup(fd);
    second = asked(copy);
    MUST(ipsec_cmp_pToken(token, second) == 0);
    MUST(close(copy) == 0);
    /* N-7: a child has the socket, and not the token. */
    child = fork();
    MUST(child >= 0);
    if (child == 0) {
        MUST(ipsec_get_socket_pToken(fd, second) == -1 && errno == EBADF);
        say("child", asked(fd), IPSEC_API_ATTR_auditString);
        exit(0);
    }
    MUST(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    pass(fd);
    MUST(ipsec_free_pToken(token) == 0 && ipsec_free_pToken(second) == 0);
    printf("done\n");
    return 0;
}
