/* A thread takes its descriptors and its directory for itself. */
#include "tracee.h"
#include <pthread.h>

static void *alone(void *unused)
{
	must(syscall(SYS_unshare, CLONE_FILES | CLONE_FS));
	must(close(3));
	must(chdir("sub"));
	must(open("in_sub", O_WRONLY | O_CREAT, 0600));
	return unused;
}

int main(void)
{
	pthread_t thread;
	must(open("file", O_WRONLY | O_CREAT, 0600));
	must(-pthread_create(&thread, NULL, alone, NULL));
	must(-pthread_join(thread, NULL));
	must(write(3, "open", 4));
	must(open("at_top", O_WRONLY | O_CREAT, 0600));
	return 0;
}
