/* Starts processes in every way there is. */
#include "tracee.h"
#include <linux/sched.h>

int main(void)
{
	pid_t child = must(syscall(SYS_fork));
	if (child == 0)
		return 0;
	reap(child);
	child = vfork();
	if (child == 0)
		_exit(0);
	reap(child);
	child = must(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
	if (child == 0) {
		must(open("by_clone", O_WRONLY | O_CREAT, 0600));
		return 0;
	}
	reap(child);
	/* Shares descriptors and directory with its parent, but is a process. */
	struct clone_args args = { .flags = CLONE_FILES | CLONE_FS, .exit_signal = SIGCHLD };
	child = must(syscall(SYS_clone3, &args, sizeof args));
	if (child == 0) {
		must(open("by_clone3", O_WRONLY | O_CREAT, 0600));
		must(chdir("sub"));
		return 0;
	}
	reap(child);
	must(write(3, "shared", 6));
	must(open("in_sub", O_WRONLY | O_CREAT, 0600));
	/* No exit signal, and no shared anything. */
	args.flags = 0;
	args.exit_signal = 0;
	child = must(syscall(SYS_clone3, &args, sizeof args));
	if (child == 0)
		return 0;
	reap(child);
	fails(syscall(SYS_clone3, NULL, sizeof args), EFAULT);
	return 0;
}
