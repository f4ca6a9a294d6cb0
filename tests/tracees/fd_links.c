/* Names that lead to descriptors by links of the kernel's own. */
#include "tracee.h"

int main(void)
{
	must(mkdir("dir", 0700));
	must(open("dir", O_RDONLY | O_DIRECTORY));
	must(open("/proc/self/fd/3/file", O_RDWR | O_CREAT, 0600));
	/* As C libraries do where there is no fchmodat2(2). */
	must(chmod("/proc/self/fd/4", 0640));
	int again = must(open("/dev/fd/4", O_WRONLY));
	must(write(again, "abc", 3));
	must(truncate("/proc/thread-self/fd/4", 2));
	must(unlink("/proc/self/fd/3//file"));
	fails(open("/proc/self/fd/99", O_RDONLY), ENOENT);
	int out = must(open("/dev/stdout", O_WRONLY));
	must(write(out, "again\n", 6));
	return 0;
}
