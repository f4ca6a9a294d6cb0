/* Children that ask not to be traced are, and find their arguments as they left them. */
#include "tracee.h"
#include <linux/sched.h>

/* The flags of clone(2), from the register that held them, after the call: in the parent and in the child. */
static long clone_keeps(unsigned long flags, unsigned long *after)
{
#ifdef __x86_64__
	long result;
	register long r10 __asm__("r10") = 0;
	register long r8 __asm__("r8") = 0;
	*after = flags;
	__asm__ volatile("syscall"
			 : "=a"(result), "+D"(*after)
			 : "a"(SYS_clone), "S"(0), "d"(0), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	return result;
#elif defined(__i386__)
	long result;
	*after = flags;
	__asm__ volatile("int $0x80"
			 : "=a"(result), "+b"(*after)
			 : "a"(SYS_clone), "c"(0), "d"(0), "S"(0), "D"(0)
			 : "memory");
	return result;
#else
	*after = flags;
	return syscall(SYS_clone, flags, 0, 0, 0, 0);
#endif
}

int main(void)
{
	unsigned long flags = CLONE_UNTRACED | SIGCHLD, after;
	long child = clone_keeps(flags, &after);
	if (after != flags)
		_exit(101);
	if (child == 0) {
		must(open("by_clone", O_WRONLY | O_CREAT, 0600));
		return 0;
	}
	reap(child);
	struct clone_args args = { .flags = CLONE_UNTRACED, .exit_signal = SIGCHLD };
	child = must(syscall(SYS_clone3, &args, sizeof args));
	if (args.flags != CLONE_UNTRACED)
		_exit(102);
	if (child == 0) {
		must(open("by_clone3", O_WRONLY | O_CREAT, 0600));
		return 0;
	}
	reap(child);
	return 0;
}
