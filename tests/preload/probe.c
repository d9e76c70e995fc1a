/* What a program can try to get a socket of the Internet. Prints what came of it, a line for each attempt. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SO_COOKIE
#define SO_COOKIE 57
#endif

static void tell(const char *what, int fd)
{
    unsigned long long cookie = 0;
    socklen_t length = sizeof cookie;

    if (fd < 0) {
        printf("%s errno %d\n", what, errno);
    } else if (getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &length) != 0) {
        printf("%s no socket %d\n", what, errno);
    } else {
        printf("%s cookie %llu\n", what, cookie);
    }
    fflush(stdout);
}

static void sockets(const char *what)
{
    int families[] = { AF_INET, AF_INET6 }, kinds[] = { SOCK_STREAM, SOCK_DGRAM };
    int family, kind;

    for (family = 0; family < 2; family++) {
        for (kind = 0; kind < 2; kind++) {
            tell(what, socket(families[family], kinds[kind] | SOCK_CLOEXEC, 0));
        }
    }
}

static void *in_thread(void *what)
{
    sockets(what);
    return NULL;
}

/* Threads, children of every kind, programs started with an empty environment, copies, and calls without a C library. */
static void children(const char *self)
{
    pthread_t thread;
    int sent, pair[2];
    long raw;
    char *arguments[] = { (char *) self, "sockets", NULL }, *nothing[] = { NULL };

    pthread_create(&thread, NULL, in_thread, "thread");
    pthread_join(thread, NULL);
    if (fork() == 0) {
        sockets("fork");
        _exit(0);
    }
    wait(NULL);
    if (vfork() == 0) {
        execve(self, arguments, nothing);
        _exit(1);
    }
    wait(NULL);
#ifdef __x86_64__
    __asm__ volatile("syscall"
                     : "=a"(raw)
                     : "a"(SYS_socket), "D"(AF_INET), "S"(SOCK_STREAM), "d"(0)
                     : "rcx", "r11", "memory");
#else
    raw = syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
#endif
    tell("raw", (int) raw);
    tell("copy", dup((int) raw));
    /* One that a child makes and passes to us. */
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    if (fork() == 0) {
        char space[CMSG_SPACE(sizeof(int))] = { 0 }, octet = 0;
        struct iovec vector = { &octet, 1 };
        struct msghdr message = { .msg_iov = &vector, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space };
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);

        sent = socket(AF_INET, SOCK_DGRAM, 0);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &sent, sizeof sent);
        sendmsg(pair[1], &message, 0);
        _exit(0);
    } else {
        char space[CMSG_SPACE(sizeof(int))] = { 0 }, octet = 0;
        struct iovec vector = { &octet, 1 };
        struct msghdr message = { .msg_iov = &vector, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space };

        recvmsg(pair[0], &message, 0);
        memcpy(&sent, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof sent);
        tell("passed", sent);
        wait(NULL);
    }
}

static void refused(void)
{
    struct sockaddr_in nowhere = { .sin_family = AF_INET, .sin_port = htons(9) };
    int stream;

    tell("raw4", socket(AF_INET, SOCK_RAW, IPPROTO_UDP));
    tell("raw6", socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6));
    tell("ping", socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP));
    tell("sctp", socket(AF_INET, SOCK_STREAM, IPPROTO_SCTP));
    tell("mptcp", socket(AF_INET, SOCK_STREAM, 262));
    tell("packet", socket(AF_PACKET, SOCK_RAW, 0));
    tell("vsock", socket(AF_VSOCK, SOCK_STREAM, 0));
    tell("unix", socket(AF_UNIX, SOCK_STREAM, 0));
    tell("netlink", socket(AF_NETLINK, SOCK_RAW, 0));
    tell("io_uring", (int) syscall(425, 8, NULL));
    tell("io_uring_enter", (int) syscall(426, 0, 0, 0, 0, NULL, 0));
    tell("io_uring_register", (int) syscall(427, 0, 0, NULL, 0));
    tell("ptrace", (int) ptrace(PTRACE_ATTACH, getppid(), NULL, NULL));
    tell("pidfd_getfd", (int) syscall(438, 0, 0, 0));
    stream = socket(AF_INET, SOCK_STREAM, 0);
    inet_pton(AF_INET, "127.0.0.1", &nowhere.sin_addr);
    tell("fastopen", (int) sendto(stream, "x", 1, MSG_FASTOPEN, (struct sockaddr *) &nowhere, sizeof nowhere));
}

static void foreign(const char *which)
{
#ifdef __x86_64__
    long made = -1;

    if (strcmp(which, "i386") == 0) {
        __asm__ volatile("int $0x80" : "=a"(made) : "a"(359), "b"(AF_INET), "c"(SOCK_STREAM), "d"(0) : "memory");
    } else {
        made = syscall(0x40000000 | SYS_socket, AF_INET, SOCK_STREAM, 0);
    }
    printf("alive %ld\n", made);
#else
    (void) which;
#endif
}

/* A connection that was accepted is given another end: a socket that nobody has seen. */
static void reconnect(int port)
{
    struct sockaddr_in here = { .sin_family = AF_INET }, other = { .sin_family = AF_INET, .sin_port = htons(port) };
    struct sockaddr none = { .sa_family = AF_UNSPEC };
    socklen_t length = sizeof here;
    int listener = socket(AF_INET, SOCK_STREAM, 0), caller = socket(AF_INET, SOCK_STREAM, 0), accepted;

    inet_pton(AF_INET, "127.0.0.1", &here.sin_addr);
    inet_pton(AF_INET, "127.0.0.1", &other.sin_addr);
    bind(listener, (struct sockaddr *) &here, sizeof here);
    if (listen(listener, 1) != 0 || getsockname(listener, (struct sockaddr *) &here, &length) != 0) {
        tell("listener", -1);
        return;
    }
    tell("listener", listener);
    if (connect(caller, (struct sockaddr *) &here, sizeof here) != 0) {
        tell("caller", -1);
        return;
    }
    accepted = accept(listener, NULL, NULL);
    if (connect(accepted, &none, sizeof none) != 0 || connect(accepted, (struct sockaddr *) &other, sizeof other) != 0) {
        tell("reconnected", -1);
        return;
    }
    tell("reconnected", accepted);
}

/* Sockets of the C library's own, and copies of the flags. */
static void flags(void)
{
    int plain = socket(AF_INET, SOCK_DGRAM, 0), both = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    printf("plain %d %d\n", fcntl(plain, F_GETFD) & FD_CLOEXEC, fcntl(plain, F_GETFL) & O_NONBLOCK);
    printf("both %d %d\n", !!(fcntl(both, F_GETFD) & FD_CLOEXEC), !!(fcntl(both, F_GETFL) & O_NONBLOCK));
}

/* Asks a server for a page, and prints it. */
static int get(const char *address, int port)
{
    struct sockaddr_in there = { .sin_family = AF_INET, .sin_port = htons(port) };
    const char ask[] = "GET / HTTP/1.0\r\n\r\n";
    char page[4096];
    ssize_t length;
    int stream = socket(AF_INET, SOCK_STREAM, 0);

    inet_pton(AF_INET, address, &there.sin_addr);
    if (connect(stream, (struct sockaddr *) &there, sizeof there) != 0) {
        perror("connect");
        return 1;
    }
    if (write(stream, ask, sizeof ask - 1) < 0) {
        return 1;
    }
    while ((length = read(stream, page, sizeof page)) > 0) {
        fwrite(page, 1, length, stdout);
    }
    return 0;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    char octet;

    if (strcmp(what, "sockets") == 0) {
        sockets("socket");
    } else if (strcmp(what, "children") == 0) {
        children(argv[0]);
    } else if (strcmp(what, "refused") == 0) {
        refused();
    } else if (strcmp(what, "foreign") == 0) {
        foreign(argv[2]);
    } else if (strcmp(what, "reconnect") == 0) {
        reconnect(atoi(argv[2]));
    } else if (strcmp(what, "get") == 0) {
        return get(argv[2], atoi(argv[3]));
    } else if (strcmp(what, "flags") == 0) {
        flags();
    } else if (strcmp(what, "wait") == 0) {
        /* A socket before an octet comes, and one after it. */
        tell("before", socket(AF_INET, SOCK_STREAM, 0));
        if (read(0, &octet, 1) == 1) {
            tell("after", socket(AF_INET, SOCK_STREAM, 0));
        }
    } else if (strcmp(what, "elsewhere") == 0) {
        if (unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) {
            tell("unshare", -1);
        }
        tell("elsewhere", socket(AF_INET, SOCK_STREAM, 0));
    } else {
        return 2;
    }
    return 0;
}
