/* A child writes to what its parent opened: each has its own sum; who moved nothing is silent. */
#include "tracee.h"

int main(void)
{
	int file = must(open("file", O_WRONLY | O_CREAT, 0600));
	must(open("idle", O_RDONLY | O_CREAT, 0600));
	pid_t child = must(syscall(SYS_fork));
	if (child == 0) {
		must(write(file, "four", 4));
		return 0;
	}
	reap(child);
	must(write(file, "and seven", 9));
	return 0;
}
