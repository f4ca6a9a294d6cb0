/* Has another root: alone, with a thread that shares it, and in children. */
#include "tracee.h"
#include <pthread.h>

static void *in_thread(void *unused)
{
	must(open("/by_thread", O_RDONLY | O_CREAT, 0600));
	return unused;
}

int main(void)
{
	int outside = must(open(".", O_RDONLY | O_DIRECTORY));
	/* For the right to change the root. */
	must(syscall(SYS_unshare, CLONE_NEWUSER));
	fails(syscall(SYS_chroot, "none"), ENOENT);
	must(syscall(SYS_chroot, "jail"));
	/* The working directory is outside. */
	must(open("outside", O_RDONLY | O_CREAT, 0600));
	must(open("/file", O_RDONLY | O_CREAT, 0600));
	must(syscall(SYS_chdir, "/sub"));
	must(open("../../file", O_RDONLY));
	must(open("link/../mark", O_RDONLY));
	must(mkdirat(outside, "jail/made", 0700));
	must(openat(outside, "/made", O_RDONLY));
	pthread_t thread;
	must(-pthread_create(&thread, NULL, in_thread, NULL));
	must(-pthread_join(thread, NULL));
	pid_t child = must(fork());
	if (child == 0) {
		must(unlink("/file"));
		return 0;
	}
	reap(child);
	return 0;
}
