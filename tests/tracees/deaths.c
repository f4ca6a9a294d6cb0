/* Every way to end. */
#include "tracee.h"
#include <pthread.h>
#include <sys/resource.h>

static void *leave(void *how)
{
	if (how)
		_exit(44);
	/* Kernels differ in whose code counts: the leader's or the last one's. */
	syscall(SYS_exit, 45);
	return NULL;
}

static void die(int how)
{
	pthread_t thread;
	switch (how) {
	case 0:
		_exit(0);
	case 1:
		_exit(255);
	case 2:
		kill(getpid(), SIGTERM);
		break;
	case 3:
		kill(getpid(), SIGKILL);
		break;
	case 4:
		*(volatile int *)1 = 1;
		break;
	case 5:
		abort();
	case 6:
		kill(getpid(), SIGRTMIN + 3);
		break;
	case 7:
		/* Ended by a thread that is not the leader. */
		must(-pthread_create(&thread, NULL, leave, (void *)1));
		pause();
		break;
	case 8:
		/* The leader ends first. */
		must(-pthread_create(&thread, NULL, leave, NULL));
		syscall(SYS_exit, 45);
	}
	_exit(99);
}

int main(void)
{
	struct rlimit none = { 0, 0 };
	must(setrlimit(RLIMIT_CORE, &none));
	for (int how = 0; how < 9; how++) {
		pid_t child = must(fork());
		if (child == 0)
			die(how);
		must(waitpid(child, NULL, 0));
	}
	kill(getpid(), SIGUSR1);
	return 99;
}
