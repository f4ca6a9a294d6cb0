/* Goes where the tracer can't follow. */
#include "tracee.h"
#include <linux/io_uring.h>

int main(void)
{
	/* A traced process can't be traced by another. */
	fails(syscall(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0), EPERM);
	fails(syscall(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0), EPERM);
	struct io_uring_params params = { 0 };
	int ring = syscall(SYS_io_uring_setup, 4, &params);
	if (ring < 0)
		must(mkdir("no_io_uring", 0700));
	return 0;
}
