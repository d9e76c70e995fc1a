/* What the C tests check with: a check that fails says where and ends the program. */
#ifndef CHECK_H
#define CHECK_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                              \
    do {                                                                                              \
        if (!(condition)) {                                                                           \
            fprintf(stderr, "%s:%d: %s (errno %d: %s)\n", __FILE__, __LINE__, #condition, errno,      \
                    ipsec_latchway_error());                                                          \
            exit(1);                                                                                  \
        }                                                                                             \
    } while (0)

/* The call fails as the draft has it, -1 and this errno, and there is a sentence about it. */
#define FAILS(call, number)                                                                           \
    do {                                                                                              \
        errno = 0;                                                                                    \
        CHECK((call) == -1);                                                                          \
        CHECK(errno == (number));                                                                     \
        CHECK(ipsec_latchway_error()[0] != '\0');                                                     \
    } while (0)

#endif
