/* Every standard of C and C++ compiles the header; the sizes and places are those that the library writes. */
#include <latchway/shim.h>

#include <stddef.h>

#define IS(name, condition) typedef char name[(condition) ? 1 : -1]

IS(an_address, sizeof(struct sockaddr_shim) == 16 && offsetof(struct sockaddr_shim, ss_port) == 2);
IS(a_handle, offsetof(struct sockaddr_shim, ss_handle) == 8 && sizeof(struct sockaddr_in) == 16);
IS(a_protection, sizeof(struct shim_protection) == 24);
IS(a_protection_of, offsetof(struct shim_protection, sp_flags) == 16);
IS(a_requirement, sizeof(struct shim_requirement) == 16 + 2 * sizeof(char *));
IS(a_notification, sizeof(struct shim_notification) == 416);
IS(a_time, offsetof(struct shim_notification, sn_time) == 8);
IS(a_state, offsetof(struct shim_notification, sn_state) == 24);
IS(a_place, offsetof(struct shim_notification, sn_from) == 32);
IS(a_text, offsetof(struct shim_notification, sn_text) == 160);
IS(a_flag, (AI_SHIM & (AI_PASSIVE | AI_CANONNAME | AI_NUMERICHOST | AI_NUMERICSERV | AI_ADDRCONFIG)) == 0);

extern int used(const an_address *a, const a_handle *b, const a_protection *c, const a_protection_of *d,
                const a_requirement *e, const a_notification *f, const a_time *g, const a_state *h,
                const a_place *i, const a_text *j, const a_flag *k);
