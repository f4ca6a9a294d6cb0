/* What every program needs: it says what it finds, line by line, and ends with the line number where it can't go on. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static inline long must_at(long result, int line)
{
	if (result < 0) {
		fprintf(stderr, "line %d: %s\n", line, strerror(errno));
		_exit(line % 256 ? line % 256 : 1);
	}
	return result;
}
/* The call succeeds. */
#define must(call) must_at((long)(call), __LINE__)

/* Says something; unbuffered, so that children and handlers keep the order. */
#define say(...) dprintf(1, __VA_ARGS__)

/* What the call returned, and its error by name. */
static inline void tell(const char *what, long result)
{
	if (result < 0)
		say("%s: %s\n", what, strerrorname_np(errno));
	else
		say("%s: %ld\n", what, result);
}
