/* Stops so often that the tracer would have it on one CPU, and looks at its CPUs in every way that there is. */
#include "tracee.h"
#include <pthread.h>
#include <stdio.h>

enum { ROUNDS = 20, STOPS = 30 };

static cpu_set_t own;
static int status_fd;

/* Gets the tracer to lend. */
static void stop_often(void)
{
	for (int i = 0; i < STOPS; i++)
		must(close(must(open("/dev/null", O_RDONLY))));
}

static void same_set(pid_t tid, int line)
{
	cpu_set_t seen;
	CPU_ZERO(&seen);
	must_at(syscall(SYS_sched_getaffinity, tid, sizeof seen, &seen), line);
	if (!CPU_EQUAL(&own, &seen))
		_exit(line);
}
#define check(tid) same_set(tid, __LINE__)

/* The number of CPUs in /proc/self/status, which was opened long ago. */
static void same_status(int line)
{
	char text[8192];
	long length = must_at(pread(status_fd, text, sizeof text - 1, 0), line);
	text[length] = 0;
	char *mask = strstr(text, "Cpus_allowed:\t");
	if (!mask)
		_exit(line);
	int count = 0;
	for (mask += strlen("Cpus_allowed:\t"); *mask != '\n'; mask++)
		if (*mask != ',')
			count += __builtin_popcount(strtol((char[]){ *mask, 0 }, NULL, 16));
	if (count != CPU_COUNT(&own))
		_exit(line);
}

static void *thread(void *arg)
{
	(void)arg;
	check(0);
	stop_often();
	check(getpid());
	return NULL;
}

int main(int argc, char **argv)
{
	if (argc > 1) {
		/* The set before the exec, as a string. */
		must(sched_getaffinity(0, sizeof own, &own));
		return CPU_COUNT(&own) == atoi(argv[1]) ? 0 : __LINE__;
	}
	must(sched_getaffinity(0, sizeof own, &own));
	status_fd = must(open("/proc/self/status", O_RDONLY));
	for (int round = 0; round < ROUNDS; round++) {
		stop_often();
		check(0);
		stop_often();
		same_status(__LINE__);
		stop_often();
		pid_t child = fork();
		if (!child) {
			check(0);
			stop_often();
			check(getppid());
			_exit(0);
		}
		reap(must(child));
		stop_often();
		pthread_t other;
		must(-pthread_create(&other, NULL, thread, NULL));
		stop_often();
		check(0);
		must(-pthread_join(other, NULL));
	}
	/* A set of its own stays its own. */
	cpu_set_t all = own;
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &all))
			continue;
		CPU_ZERO(&own);
		CPU_SET(cpu, &own);
		stop_often();
		must(syscall(SYS_sched_setaffinity, 0, sizeof own, &own));
		stop_often();
		check(0);
		same_status(__LINE__);
		pid_t child = fork();
		if (!child) {
			check(0);
			_exit(0);
		}
		reap(must(child));
	}
	must(sched_setaffinity(0, sizeof all, &all));
	stop_often();
	char count[8];
	snprintf(count, sizeof count, "%d", CPU_COUNT(&all));
	execl("/proc/self/exe", argv[0], count, NULL);
	return __LINE__;
}
