/*
 * Clocks that step when a test says so, for the program that this is preloaded into (ld.so(8)) and for nothing that it
 * starts. Files in the directory $CLOCK_STEPS say what has happened:
 *
 *	back	the wall clock was set back by an hour
 *	forward	the wall clock was set forward by a day
 *	slept	the machine was asleep for an hour: CLOCK_BOOTTIME counts that, CLOCK_MONOTONIC does not
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { HOUR = 3600, DAY = 24 * HOUR };

static char steps[4096];

__attribute__((constructor)) static void begin(void)
{
	const char *dir = getenv("CLOCK_STEPS");

	snprintf(steps, sizeof(steps), "%s", dir ? dir : "");
	unsetenv("CLOCK_STEPS");
	unsetenv("LD_PRELOAD");
}

static int has(const char *step)
{
	char path[4200];
	int saved = errno;
	int found;

	if (!*steps)
		return 0;
	snprintf(path, sizeof(path), "%s/%s", steps, step);
	found = access(path, F_OK) == 0;
	errno = saved;
	return found;
}

/* By how many seconds a clock is not what the kernel says. */
static time_t ahead(clockid_t clock)
{
	switch (clock) {
	case CLOCK_REALTIME:
	case CLOCK_REALTIME_COARSE:
		return (has("forward") ? DAY : 0) - (has("back") ? HOUR : 0);
	case CLOCK_BOOTTIME:
		return has("slept") ? HOUR : 0;
	default:
		return 0;
	}
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
	if (syscall(SYS_clock_gettime, clock, now))
		return -1;
	now->tv_sec += ahead(clock);
	return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
	(void)zone;
	struct timespec time;

	if (clock_gettime(CLOCK_REALTIME, &time))
		return -1;
	now->tv_sec = time.tv_sec;
	now->tv_usec = time.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *seconds)
{
	struct timespec now = { 0 };

	clock_gettime(CLOCK_REALTIME, &now);
	if (seconds)
		*seconds = now.tv_sec;
	return now.tv_sec;
}
