/* What every tracee needs: raw system calls, and an end with the line number where one did something else. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <utime.h>

static inline long must_at(long result, int line)
{
	if (result < 0)
		_exit(line);
	return result;
}

static inline void fails_at(long result, int error, int line)
{
	if (result >= 0 || errno != error)
		_exit(line);
}

/* The call succeeds. */
#define must(call) must_at((long)(call), __LINE__)
/* The call fails with this error. */
#define fails(call, error) fails_at((long)(call), error, __LINE__)

/* An argument of 64 bits: 32-bit programs hand it over in two. */
#ifdef __i386__
#define LONG(value) (value), 0
#else
#define LONG(value) (value)
#endif

/* Waits for a child, which must have ended with code 0. */
static inline void reap_at(pid_t child, int line)
{
	int status;
	if (waitpid(child, &status, __WALL) != child || status != 0)
		_exit(line);
}
#define reap(child) reap_at(child, __LINE__)
