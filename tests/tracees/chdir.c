/* Changes its directory, also through a link; a thread that shares it and a child that doesn't. */
#include "tracee.h"
#include <pthread.h>

static void *in_thread(void *unused)
{
	must(syscall(SYS_chdir, "sub"));
	return unused;
}

int main(void)
{
	must(syscall(SYS_chdir, "link"));
	must(open("in_target", O_RDONLY | O_CREAT, 0600));
	int parent = must(open("..", O_RDONLY | O_DIRECTORY));
	must(syscall(SYS_fchdir, parent));
	fails(syscall(SYS_chdir, "none"), ENOENT);
	pthread_t thread;
	must(-pthread_create(&thread, NULL, in_thread, NULL));
	must(-pthread_join(thread, NULL));
	must(open("in_sub", O_RDONLY | O_CREAT, 0600));
	pid_t child = must(fork());
	if (child == 0) {
		must(chdir(".."));
		return 0;
	}
	reap(child);
	must(open("still_in_sub", O_RDONLY | O_CREAT, 0600));
	return 0;
}
