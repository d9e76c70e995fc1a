/* One token and eight threads, and what is left of tokens after fork() (N-7, N-8). */
#include <latchway/ipsec.h>

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

enum { THREADS = 8, TURNS = 500 };

static ipsec_pToken_t shared;
static volatile int forking = 1;

/* Whoever reads sees what somebody wrote, whole. */
static void *turns(void *unused)
{
    int i;

    (void)unused;
    for (i = 0; i < TURNS; i++) {
        uint16_t level = i % 2 ? IPSEC_API_ATTR_LEVEL_LOW : IPSEC_API_ATTR_LEVEL_HIGH, read = 0;
        uint32_t length = sizeof(read);
        ipsec_pToken_t own = NULL;

        CHECK(ipsec_set_token_attr(shared, IPSEC_API_ATTR_privacyProtected, sizeof(level), &level) == 0);
        CHECK(ipsec_get_token_attr(shared, IPSEC_API_ATTR_privacyProtected, &length, &read) == 0);
        CHECK(read == IPSEC_API_ATTR_LEVEL_LOW || read == IPSEC_API_ATTR_LEVEL_HIGH);
        CHECK(ipsec_dup_pToken(shared, &own) == 0);
        CHECK(ipsec_cmp_pToken(shared, own) >= 0);
        CHECK(ipsec_free_pToken(own) == 0);
        FAILS(ipsec_free_pToken(own), EBADF);
    }
    return NULL;
}

static void *makes_and_frees(void *unused)
{
    (void)unused;
    while (forking)
        CHECK(ipsec_free_iToken(ipsec_create_iToken()) == 0);
    return NULL;
}

/* N-7: the parent's pTokens are nothing in the child; N-8: iTokens stay. While another thread is in the library. */
static void forks(void)
{
    ipsec_pToken_t protection = ipsec_create_pToken();
    ipsec_iToken_t identity = ipsec_create_iToken();
    pthread_t busy;
    int i, status;

    CHECK(pthread_create(&busy, NULL, makes_and_frees, NULL) == 0);
    for (i = 0; i < 32; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            uint32_t length = 0;
            FAILS(ipsec_get_token_attr(protection, IPSEC_API_ATTR_auditString, &length, NULL), EBADF);
            FAILS(ipsec_free_pToken(protection), EBADF);
            CHECK(ipsec_get_token_attr(identity, IPSEC_API_ATTR_auditString, &length, NULL) == 0);
            CHECK(ipsec_free_pToken(ipsec_create_pToken()) == 0);
            _exit(0);
        }
        CHECK(waitpid(child, &status, 0) == child);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    forking = 0;
    CHECK(pthread_join(busy, NULL) == 0);
    CHECK(ipsec_free_pToken(protection) == 0);
    CHECK(ipsec_free_iToken(identity) == 0);
}

int main(void)
{
    pthread_t threads[THREADS];
    int i;

    shared = ipsec_create_pToken();
    for (i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, turns, NULL) == 0);
    for (i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(ipsec_free_pToken(shared) == 0);
    forks();
    return 0;
}
