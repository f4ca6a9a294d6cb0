/* Makes 32-bit system calls where the kernel has them. */
#include "tracee.h"

int main(void)
{
#ifdef __x86_64__
	long pid, before = getpid();
	/* getpid, by its 32-bit number. */
	__asm__ volatile("int $0x80" : "=a"(pid) : "a"(20) : "memory");
	if (pid != before)
		must(mkdir("no_32_bit", 0700));
	/* x32, which most kernels lack. */
	syscall(0x40000000 | SYS_getpid);
#endif
	must(open("after", O_WRONLY | O_CREAT, 0600));
	return 0;
}
