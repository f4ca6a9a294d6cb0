/* Always sees its own set of processors, however busy the recorder is with it. Arguments: how many rounds. */
#include "program.h"

static cpu_set_t own;

static void check(const char *where)
{
	cpu_set_t now;
	char line[256], listed[256] = "";
	must(sched_getaffinity(0, sizeof now, &now));
	if (!CPU_EQUAL(&now, &own)) {
		say("%s: another mask\n", where);
		exit(1);
	}
	FILE *status = fopen("/proc/thread-self/status", "r");
	while (fgets(line, sizeof line, status))
		if (sscanf(line, "Cpus_allowed: %255s", listed) == 1)
			break;
	fclose(status);
	unsigned long mask = strtoul(listed, NULL, 16);
	for (int cpu = 0; cpu < 64 && cpu < CPU_SETSIZE; cpu++)
		if (!!CPU_ISSET(cpu, &own) != (mask >> cpu & 1)) {
			say("%s: another mask in /proc: %s\n", where, listed);
			exit(1);
		}
}

static void busy(int rounds)
{
	for (int i = 0; i < rounds; i++) {
		/* Long enough for a recorder to take to the same processor. */
		for (int j = 0; j < 25; j++)
			must(close(must(open("/dev/null", O_RDONLY))));
		check("busy");
	}
}

static void *thread(void *rounds)
{
	busy(*(int *)rounds);
	return NULL;
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 100, status;
	must(sched_getaffinity(0, sizeof own, &own));
	say("%d processors, %ld online\n", CPU_COUNT(&own), sysconf(_SC_NPROCESSORS_ONLN));
	busy(rounds);
	/* Children and threads inherit it, and find it right after their start. */
	for (int i = 0; i < 20; i++) {
		for (int j = 0; j < 25; j++)
			must(close(must(open("/dev/null", O_RDONLY))));
		pid_t child = must(fork());
		if (child == 0) {
			check("child");
			_exit(0);
		}
		must(waitpid(child, &status, 0));
		if (status != 0)
			return 2;
	}
	pthread_t threads[4];
	for (int i = 0; i < 4; i++)
		must(-pthread_create(&threads[i], NULL, thread, &rounds));
	for (int i = 0; i < 4; i++)
		must(-pthread_join(threads[i], NULL));
	/* What it sets itself stays. */
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		cpu_set_t one;
		if (!CPU_ISSET(cpu, &own))
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		must(sched_setaffinity(0, sizeof one, &one));
		own = one;
		busy(rounds / 4);
		must(sched_getcpu() == cpu ? 0 : -1);
		break;
	}
	say("done\n");
	return 0;
}
