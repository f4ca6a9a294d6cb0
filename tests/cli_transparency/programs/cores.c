/* Dies of a signal with a core, in a thread that is not the leader; the parent says what it saw. */
#include "program.h"

static void *dies(void *unused)
{
	abort();
	return NULL;
}

int main(int argc, char **argv)
{
	static char planted[] = "planted in memory";
	struct rlimit core;
	must(getrlimit(RLIMIT_CORE, &core));
	core.rlim_cur = argc > 1 ? 0 : core.rlim_max;
	must(setrlimit(RLIMIT_CORE, &core));
	int status;
	pid_t child = must(fork());
	if (child == 0) {
		pthread_t thread;
		planted[0] = 'P';
		__asm__ volatile("" ::"r"(planted) : "memory");
		must(-pthread_create(&thread, NULL, dies, NULL));
		pause();
	}
	must(waitpid(child, &status, 0));
	say("signal %d, core %d, limit %s\n", WTERMSIG(status), WCOREDUMP(status) != 0, core.rlim_cur ? "yes" : "0");
	return 0;
}
