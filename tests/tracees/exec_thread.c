/* Executes from a thread that is not the leader, while others sleep, work and hold files open. */
#include "tracee.h"
#include <pthread.h>

static char *program;

static void *sleeper(void *unused)
{
	for (;;)
		pause();
	return unused;
}

static void *worker(void *unused)
{
	for (;;)
		close(open("busy", O_RDONLY));
	return unused;
}

static void *executor(void *unused)
{
	execl(program, program, "again", NULL);
	_exit(1);
	return unused;
}

int main(int argc, char **argv)
{
	pthread_t thread;
	if (argc > 1) {
		must(write(3, "still", 5));
		must(open("after", O_WRONLY | O_CREAT, 0600));
		return getpid() == gettid() ? 3 : 4;
	}
	program = argv[0];
	must(open("before", O_WRONLY | O_CREAT, 0600));
	for (int i = 0; i < 4; i++)
		must(-pthread_create(&thread, NULL, i % 2 ? sleeper : worker, NULL));
	must(-pthread_create(&thread, NULL, executor, NULL));
	sleeper(NULL);
}
