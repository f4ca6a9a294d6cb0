/* Trees that are killed at every moment: while starting threads and processes, in calls, in exec, stopped. */
#include "tracee.h"
#include <pthread.h>

static char *program;

static void *work(void *unused)
{
	for (;;) {
		int fd = open("busy", O_RDWR | O_CREAT, 0600);
		write(fd, "x", 1);
		close(fd);
	}
	return unused;
}

static void *breed(void *unused)
{
	for (;;) {
		pthread_t thread;
		pid_t child = fork();
		if (child == 0) {
			execl(program, program, "leaf", NULL);
			_exit(1);
		}
		if (pthread_create(&thread, NULL, work, NULL) == 0)
			pthread_detach(thread);
		if (child > 0)
			waitpid(child, NULL, 0);
	}
	return unused;
}

int main(int argc, char **argv)
{
	program = argv[0];
	if (argc > 1 && strcmp(argv[1], "leaf") == 0)
		return 0;
	for (int round = 0; round < 60; round++) {
		pid_t child = must(fork());
		if (child == 0) {
			pthread_t thread;
			/* Group, so that its children end with it. */
			setpgid(0, 0);
			pthread_create(&thread, NULL, breed, NULL);
			breed(NULL);
		}
		setpgid(child, child);
		/* From at once to well into it. */
		struct timespec time = { 0, round * 100000L };
		nanosleep(&time, NULL);
		if (round % 3 == 2)
			kill(-child, SIGSTOP);
		must(kill(-child, SIGKILL));
		must(waitpid(child, NULL, 0));
	}
	must(open("survived", O_WRONLY | O_CREAT, 0600));
	return 0;
}
